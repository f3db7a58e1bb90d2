//! The stage `rerank`: whether there is anything to ask, the question to it, and the order from its
//! answer.
//!
//! A turn should not pay for a service that has nothing to offer. So that it had nothing, or was not
//! there, is remembered for a while, and turns in that time do not ask.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use switchboard_proto::{
    knowledge::v1::Hit,
    reranking::v1::{Candidate, RankedCandidate, RerankRequest},
};
use tokio::time::Instant;

use crate::config::Rerank;

/// How long it is remembered that there was nothing to ask.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Bounds of the contract, in characters and in headings.
const MOST_QUERY: usize = 8_000;
const MOST_TEXT: usize = 32_000;
const MOST_NAME: usize = 1_000;
const MOST_HEADINGS: usize = 32;

/// What is known of the reranking service.
pub(crate) struct Offer {
    setting: Rerank,
    nothing: Mutex<Option<(Instant, &'static str)>>,
}

/// What a turn should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Ask the service.
    Ask,
    /// Leave the order, for the reason given.
    Skip(&'static str),
    /// Leave the order; the stage is switched off.
    Off,
}

impl Offer {
    pub(crate) fn new(setting: Rerank) -> Self {
        Self { setting, nothing: Mutex::default() }
    }

    pub(crate) fn advice(&self) -> Advice {
        if self.setting == Rerank::Off {
            return Advice::Off;
        }
        match *self.nothing.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((since, why)) if since.elapsed() < REMEMBERED => Advice::Skip(why),
            _ => Advice::Ask,
        }
    }

    /// Notes that the service had nothing to offer, and why.
    pub(crate) fn nothing(&self, why: &'static str) {
        *self.nothing.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), why));
    }
}

/// The request that has `hits` ranked by how well they answer `query`.
#[must_use]
pub fn request(query: &str, locale: &str, hits: &[Hit]) -> RerankRequest {
    RerankRequest {
        query: cut(query, MOST_QUERY),
        candidates: hits.iter().map(candidate).collect(),
        locale: locale.to_owned(),
        ..RerankRequest::default()
    }
}

fn candidate(hit: &Hit) -> Candidate {
    let passage = hit.passage.clone().unwrap_or_default();
    let sentences = hit.sentences.iter().map(|sentence| sentence.similarity);
    Candidate {
        text: cut(&passage.text, MOST_TEXT),
        title: cut(&passage.title, MOST_NAME),
        heading_path: passage.heading_path.iter().take(MOST_HEADINGS).map(|h| cut(h, MOST_NAME)).collect(),
        lexical_rank: hit.lexical_rank,
        dense_rank: hit.dense_rank,
        similarity: hit.similarity,
        sentence_similarity: sentences.reduce(f32::max).unwrap_or_default(),
        coverage: hit.coverage,
    }
}

/// The hits in the order of a ranking. What it leaves out keeps its order behind the rest; what it
/// names twice, or what there is not, counts for nothing. What no longer holds may fall but does not
/// rise past what does: a ranking tells what is about the question, not what is true.
#[must_use]
pub fn ordered(hits: Vec<Hit>, ranking: &[RankedCandidate]) -> Vec<Hit> {
    let mut hits: Vec<Option<Hit>> = hits.into_iter().map(Some).collect();
    let named = ranking.iter().map(|place| place.index as usize);
    let mut ordered = Vec::with_capacity(hits.len());
    let mut outdated = Vec::new();
    for before in named.chain(0..hits.len()) {
        match hits.get_mut(before).and_then(Option::take) {
            Some(hit) if hit.outdated => outdated.push((before.max(ordered.len() + outdated.len()), hit)),
            Some(hit) => ordered.push(hit),
            None => {}
        }
    }
    outdated.sort_by_key(|(place, _)| *place);
    for (place, hit) in outdated {
        ordered.insert(place.min(ordered.len()), hit);
    }
    ordered
}

/// The beginning of a text, of at most `most` characters.
fn cut(text: &str, most: usize) -> String {
    text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end]).to_owned()
}

#[cfg(test)]
mod tests {
    use switchboard_proto::knowledge::v1::{Passage, Sentence};

    use super::*;

    fn hit(id: &str) -> Hit {
        Hit { passage: Some(Passage { passage_id: id.into(), ..Passage::default() }), ..Hit::default() }
    }

    fn ids(hits: &[Hit]) -> String {
        hits.iter().map(|hit| hit.passage.as_ref().unwrap().passage_id.as_str()).collect()
    }

    #[test]
    fn no_ranking_loses_or_doubles_a_hit() {
        let place = |index| RankedCandidate { index, ..RankedCandidate::default() };
        let hits = || vec![hit("a"), hit("b"), hit("c")];
        assert_eq!(ids(&ordered(hits(), &[place(2), place(0), place(1)])), "cab");
        assert_eq!(ids(&ordered(hits(), &[place(1), place(1), place(9)])), "bac");
        assert_eq!(ids(&ordered(hits(), &[])), "abc");
    }

    #[test]
    fn what_no_longer_holds_falls_but_does_not_rise() {
        let place = |index| RankedCandidate { index, ..RankedCandidate::default() };
        let hits = || vec![hit("a"), hit("b"), Hit { outdated: true, ..hit("o") }, hit("c")];
        assert_eq!(ids(&ordered(hits(), &[2, 3, 0, 1].map(place))), "caob");
        assert_eq!(ids(&ordered(hits(), &[3, 0, 1, 2].map(place))), "cabo");
        let all = vec![Hit { outdated: true, ..hit("o") }, Hit { outdated: true, ..hit("p") }];
        assert_eq!(ids(&ordered(all, &[1, 0].map(place))), "po", "among themselves the ranking decides");
    }

    #[tokio::test(start_paused = true)]
    async fn that_there_is_nothing_is_forgotten_after_a_while() {
        let offer = Offer::new(Rerank::Auto);
        assert_eq!(offer.advice(), Advice::Ask);
        offer.nothing("no model");
        assert_eq!(offer.advice(), Advice::Skip("no model"));
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(offer.advice(), Advice::Ask);
        assert_eq!(Offer::new(Rerank::Off).advice(), Advice::Off);
    }

    #[test]
    fn candidates_stay_within_the_contract() {
        let mut long = hit("a");
        let passage = long.passage.as_mut().unwrap();
        passage.title = "ü".repeat(2_000);
        passage.heading_path = vec!["x".into(); 40];
        long.sentences = [0.25, 0.75].map(|similarity| Sentence { similarity, ..Sentence::default() }).into();
        let request = request(&"é".repeat(9_000), "de", &[long]);
        assert_eq!(request.query.chars().count(), MOST_QUERY);
        let candidate = &request.candidates[0];
        assert_eq!(
            (candidate.title.chars().count(), candidate.heading_path.len()),
            (MOST_NAME, MOST_HEADINGS)
        );
        assert!((candidate.sentence_similarity - 0.75).abs() < 1e-6);
    }
}
