//! What may bear on the question: found, put in order, and looked through for what tries to give orders.

use futures::future::join_all;
use switchboard_mesh::{Call, call::hedged};
use switchboard_proto::{
    conversation::v1::StageStatus,
    embeddings::v1::EmbedRequest,
    knowledge::v1::{Correction, Filter, Hit, QueryForm, SearchRequest, SearchResponse},
    policy::v1::{Direction, InspectRequest, InspectResponse, Source, Verdict},
    reranking::v1::Method,
};
use switchboard_text::context;
use tonic::Code;

use super::{Notes, Turn};
use crate::{
    clock::{Clock, Lost},
    rerank::{self, Advice},
};

impl Turn {
    /// Looks for what bears on a question; gives the question as it was then understood, too.
    pub(super) async fn search(
        &self,
        clock: &mut Clock,
        call: &Call,
        question: String,
        history: &[context::Turn],
        notes: &mut Notes,
    ) -> Result<(String, SearchResponse), Lost> {
        let found = self.look(clock, call, &question, history, notes).await?;
        if found.corrections.is_empty() {
            return Ok((question, found));
        }
        // The words found their way past the typos; the vector did not, so it is made again.
        let meant = correct(&question, &found.corrections);
        match self.look(clock, call, &meant, history, notes).await {
            // A word that the documents lack need not be a typo: what was meant fits better.
            Ok(again) if nearest(&again) > nearest(&found) + NEARER => Ok((meant, again)),
            _ => Ok((question, found)),
        }
    }

    /// Sets aside the passages that try to give orders, or stand beside ones that do: documents may be
    /// written by anybody, and what follows "from now on" is as little to be believed. A passage that could
    /// not be looked at is set aside as well.
    ///
    /// # Errors
    /// When none could be looked at.
    pub(super) async fn sift(
        &self,
        clock: &mut Clock,
        call: &Call,
        hits: &mut Vec<Hit>,
        notes: &mut Notes,
    ) -> Result<(), Lost> {
        let timing = clock.begin("inspect_evidence");
        let looks = hits.iter().map(|hit| {
            let mut policy = self.peers.policy.clone();
            let request = InspectRequest {
                text: all_of(hit),
                direction: Direction::Input.into(),
                source: Source::Document.into(),
                ..InspectRequest::default()
            };
            timing.limit(call, async move |call: Call| {
                Ok(policy.inspect(call.request_to_any(request)).await?.into_inner())
            })
        });
        let looked: Vec<Result<InspectResponse, Lost>> = join_all(looks).await;
        let took = timing.began.elapsed();
        if let Some(lost) = looked.iter().find_map(|found| found.as_ref().err())
            && looked.iter().all(Result::is_err)
        {
            let lost = lost.clone();
            clock.close(&timing, &Err::<(), _>(lost.clone()), took, |()| String::new());
            return Err(lost);
        }
        for (hit, found) in hits.iter().zip(&looked) {
            let (Some(passage), Ok(found)) = (&hit.passage, found) else { continue };
            if !may_be_used(found) {
                let of =
                    format!("{}@{}:{}-{}", passage.document_id, passage.version, passage.start, passage.end);
                notes.decided("inspect_evidence", found, vec![("passage", of)]);
            }
        }
        for found in looked.iter().flatten() {
            notes.checked_without("inspect_evidence", &found.degraded);
        }
        for hit in hits.iter_mut() {
            // Nobody else needs it.
            hit.surroundings = String::new();
        }
        let failed = looked.iter().filter(|found| found.is_err()).count();
        let before = hits.len();
        let mut looked = looked.into_iter();
        hits.retain(|_| looked.next().is_some_and(|found| found.is_ok_and(|found| may_be_used(&found))));
        let aside = before - hits.len();
        if failed > 0 {
            notes.degraded.push(format!("inspect_evidence: {failed} not looked at"));
        }
        let detail = if aside == 0 { String::new() } else { format!("{aside} of {before} set aside") };
        clock.enter(&timing, StageStatus::Ok, took, detail);
        Ok(())
    }

    /// Looks for what bears on one wording of a question.
    async fn look(
        &self,
        clock: &mut Clock,
        call: &Call,
        question: &str,
        history: &[context::Turn],
        notes: &mut Notes,
    ) -> Result<SearchResponse, Lost> {
        let forms = self.embed(clock, call, question, history, notes).await;
        self.retrieve(clock, call, forms).await
    }

    async fn embed(
        &self,
        clock: &mut Clock,
        call: &Call,
        question: &str,
        history: &[context::Turn],
        notes: &mut Notes,
    ) -> Vec<QueryForm> {
        let wordings = context::forms(question, history);
        let (with_meaning, texts): (Vec<usize>, Vec<String>) = wordings
            .iter()
            .enumerate()
            .filter(|(_, form)| !form.meaning.is_empty())
            .map(|(position, form)| (position, form.meaning.clone()))
            .unzip();
        let mut forms: Vec<QueryForm> = wordings
            .into_iter()
            .map(|form| QueryForm { text: form.words, vector: Vec::new(), weight: form.weight })
            .collect();
        let mut embeddings = self.peers.embeddings.clone();
        let embedded = clock
            .run(
                "embed_query",
                call,
                async |call: Call| {
                    let request = EmbedRequest { texts, ..EmbedRequest::default() };
                    Ok(embeddings.embed(hedged(call.request_to_any(request))).await?.into_inner())
                },
                |found| format!("{} wordings", found.embeddings.len()),
            )
            .await;
        match embedded {
            Ok(found) => {
                for (position, embedding) in with_meaning.into_iter().zip(found.embeddings) {
                    forms[position].vector = embedding.values;
                }
            }
            Err(lost) => notes.degraded.push(format!("embed_query: {}", lost.word())),
        }
        // A form that was to bring its meaning alone brings nothing without it.
        forms.retain(|form| !form.text.is_empty() || !form.vector.is_empty());
        forms
    }

    async fn retrieve(
        &self,
        clock: &mut Clock,
        call: &Call,
        forms: Vec<QueryForm>,
    ) -> Result<SearchResponse, Lost> {
        let request = SearchRequest {
            forms,
            limit: match self.reranking.advice() {
                Advice::Ask => self.passages.max(self.candidates),
                Advice::Skip(_) | Advice::Off => self.passages,
            },
            filter: Some(Filter {
                locale: self.input.locale.clone(),
                audiences: self.input.audiences.clone(),
                all_audiences: false,
            }),
            mode: 0,
            surroundings: true,
        };
        // Not hedged: documents are where they were stored, and another node does not have them.
        let mut knowledge = self.peers.knowledge.clone();
        clock
            .run(
                "retrieve",
                call,
                async |call: Call| Ok(knowledge.search(call.request_to_any(request)).await?.into_inner()),
                |found| format!("{} passages", found.hits.len()),
            )
            .await
    }

    /// Puts the passages into a better order, if there is anything to order them by.
    pub(super) async fn rerank(
        &self,
        clock: &mut Clock,
        call: &Call,
        found: &mut SearchResponse,
        notes: &mut Notes,
    ) {
        match self.reranking.advice() {
            Advice::Ask if found.hits.len() > 1 => {}
            Advice::Ask => return clock.skip("rerank", "there is nothing to order"),
            Advice::Skip(why) => return clock.skip("rerank", why),
            Advice::Off => return,
        }
        let request = rerank::request(&notes.understood, &self.input.locale, &found.hits);
        let timing = clock.begin("rerank");
        let mut reranking = self.peers.reranking.clone();
        let ranked = timing
            .limit(call, async |call: Call| {
                Ok(reranking.rerank(hedged(call.request_to_any(request))).await?.into_inner())
            })
            .await;
        let took = timing.began.elapsed();
        let ranked = match ranked {
            Ok(ranked) => ranked,
            Err(lost) => {
                if lost == Lost::Failed(Code::Unavailable) {
                    self.reranking.nothing("the service was not there a moment ago");
                }
                notes.degraded.push(format!("rerank: {}", lost.word()));
                return clock.close(&timing, &Err::<(), _>(lost), took, |()| String::new());
            }
        };
        let scored = ranked.ranking.iter().filter(|place| place.scored).count();
        let by = match ranked.method() {
            Method::Model if scored == 0 => {
                notes.degraded.push(format!("rerank: {}", Lost::TimedOut.word()));
                return clock.close(&timing, &Err::<(), _>(Lost::TimedOut), took, |()| String::new());
            }
            Method::Model => &ranked.model,
            Method::Features => "what is known of them",
            Method::None | Method::Unspecified => {
                const WHY: &str = "no node has a model for it";
                self.reranking.nothing(WHY);
                return clock.enter(&timing, StageStatus::Skipped, took, WHY.into());
            }
        };
        let detail = format!("{scored} of {} passages by {by}", found.hits.len());
        found.hits = rerank::ordered(std::mem::take(&mut found.hits), &ranked.ranking);
        clock.enter(&timing, StageStatus::Ok, took, detail);
    }
}

/// All that a hit brings into a reply: its title, its headings, its text and what stands around it.
fn all_of(hit: &Hit) -> String {
    let Some(passage) = &hit.passage else { return String::new() };
    let mut parts = vec![passage.title.as_str()];
    parts.extend(passage.heading_path.iter().map(String::as_str));
    // What stands around has the passage in it.
    parts.push(if hit.surroundings.is_empty() { &passage.text } else { &hit.surroundings });
    parts.join("\n")
}

/// Whether policy lets a passage through. What it replaces in one is of no matter: drafts are inspected.
fn may_be_used(found: &InspectResponse) -> bool {
    matches!(found.verdict(), Verdict::Allow | Verdict::Rewrite | Verdict::Disclose)
}

/// By how much the best passage must come nearer, as a cosine, for a correction to be believed.
const NEARER: f32 = 0.03;

/// The cosine of the best passage.
fn nearest(found: &SearchResponse) -> f32 {
    found.hits.iter().map(|hit| hit.similarity).fold(0.0, f32::max)
}

/// A question with its misspelt words replaced. Corrections are in lower case, as search reads them.
fn correct(question: &str, corrections: &[Correction]) -> String {
    let mut corrected = String::with_capacity(question.len());
    let mut rest = question;
    while let Some(start) = rest.find(char::is_alphanumeric) {
        let length = rest[start..].find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len() - start);
        let word = &rest[start..start + length];
        let lower = word.to_lowercase();
        let meant = corrections.iter().find(|correction| correction.written == lower);
        corrected.push_str(&rest[..start]);
        corrected.push_str(meant.map_or(word, |correction| &correction.corrected));
        rest = &rest[start + length..];
    }
    corrected + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_replaced_where_they_stand() {
        let correction = |written: &str, corrected: &str| Correction {
            written: written.into(),
            corrected: corrected.into(),
        };
        let corrections = [correction("pasword", "password"), correction("a", "b")];
        assert_eq!(correct("My Pasword, pasword2?", &corrections), "My password, pasword2?");
        assert_eq!(correct("Größe? …", &corrections), "Größe? …");
    }
}
