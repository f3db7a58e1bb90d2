//! What sentences of a reply rest on.
//!
//! [`Sources`] reads the passages of a prompt once; [`Sources::cite`] finds the sentence of a passage that
//! carries a claim best, by its words ([`grounding`](switchboard_text::grounding)), and
//! [`Sources::find`] looks for one in all of them where a claim cites nothing.

use switchboard_proto::{
    generation::v1::Citation,
    knowledge::v1::{Hit, Passage, Sentence},
};
use switchboard_text::{
    grounding::{Evidence, Support},
    sentences,
    words::Language,
};

/// Share of a claim's words that a sentence must have to be cited for it unasked: more than the half below
/// which more is made up than taken, since the model itself did not say where the claim is from.
const CARRIES: f32 = 0.6;

/// Passages, read for citing.
#[derive(Default)]
pub(crate) struct Sources(Vec<Source>);

struct Source {
    /// Of the whole passage.
    citation: Citation,
    whole: Evidence,
    sentences: Vec<(Sentence, Evidence)>,
}

impl Sources {
    /// Reads passages, in the language of the claims to come. Takes time linear in them.
    pub(crate) fn read(hits: Vec<Hit>, language: Language) -> Self {
        Self(hits.into_iter().map(|hit| Source::read(hit, language)).collect())
    }

    /// The citation of passage `number`, counted from 1, for a claim: of the sentence that carries it best,
    /// or of the whole passage where none carries any of it. None where there is no such passage.
    pub(crate) fn cite(&self, claim: &str, number: u32) -> Option<Citation> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        Some(self.0.get(at)?.cite(claim))
    }

    /// The citation of the passage that carries a claim best, if one carries it: with most of its words in
    /// one sentence, and no number, name or denial that the passage lacks.
    pub(crate) fn find(&self, claim: &str) -> Option<Citation> {
        let supports = self.0.iter().map(|source| (source.whole.support(claim), source));
        let agree = supports.filter(|(support, _)| support.words > 0 && support.disagreements.is_empty());
        let (_, source) = agree.max_by(|(a, _), (b, _)| a.score.total_cmp(&b.score))?;
        Some(source.cite(claim)).filter(|citation| citation.support >= CARRIES)
    }
}

impl Source {
    fn read(hit: Hit, language: Language) -> Self {
        let passage = hit.passage.unwrap_or_default();
        let sentences =
            if hit.sentences.is_empty() { cut(&passage.text, passage.start) } else { hit.sentences };
        let whole = Evidence::new(&[&text_of(&passage.text, &sentences)], language);
        let sentences = sentences
            .into_iter()
            .map(|sentence| {
                let evidence = Evidence::new(&[&sentence.text], language);
                (sentence, evidence)
            })
            .collect();
        let citing = citing(&passage);
        let citation = Citation { start: passage.start, end: passage.end, quote: passage.text, ..citing };
        Self { citation, whole, sentences }
    }

    fn cite(&self, claim: &str) -> Citation {
        let supports = self.sentences.iter().map(|(sentence, evidence)| (evidence.support(claim), sentence));
        // Words do not tell two amounts apart, but what disagrees does.
        let rank = |support: &Support| (support.score, std::cmp::Reverse(support.disagreements.len()));
        let best = supports.filter(|(support, _)| support.words > 0 && support.score > 0.0).reduce(|a, b| {
            let ((score, agrees), (other, also)) = (rank(&a.0), rank(&b.0));
            if other.total_cmp(&score).then(also.cmp(&agrees)).is_gt() { b } else { a }
        });
        match best {
            Some((support, sentence)) => Citation {
                start: sentence.start,
                end: sentence.end,
                quote: sentence.text.clone(),
                support: support.score,
                ..self.citation.clone()
            },
            None => self.citation.clone(),
        }
    }
}

/// What every citation of a passage has, whatever it quotes.
pub(crate) fn citing(passage: &Passage) -> Citation {
    Citation {
        passage_id: passage.passage_id.clone(),
        document_id: passage.document_id.clone(),
        title: passage.title.clone(),
        heading_path: passage.heading_path.clone(),
        version: passage.version.clone(),
        uri: passage.uri.clone(),
        ..Citation::default()
    }
}

/// A passage's text, which those who send sentences may leave out.
pub(crate) fn text_of(text: &str, sentences: &[Sentence]) -> String {
    if text.is_empty() {
        sentences.iter().map(|sentence| sentence.text.as_str()).collect::<Vec<_>>().join(" ")
    } else {
        text.to_owned()
    }
}

fn cut(text: &str, start: u32) -> Vec<Sentence> {
    let place = |at: usize| start.saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
    let sentence = |span: switchboard_text::Span| Sentence {
        start: place(span.chars.start),
        end: place(span.chars.end),
        text: span.of(text).to_owned(),
        similarity: 0.0,
    };
    sentences::split(text).into_iter().map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(start: u32, text: &str) -> Hit {
        let end = start + text.chars().count() as u32;
        Hit {
            passage: Some(Passage { start, end, text: text.into(), ..Passage::default() }),
            ..Hit::default()
        }
    }

    fn sources() -> Sources {
        let shipping = "Standard delivery costs €4.95. Express delivery costs €9.95.";
        let returns = "Größe egal. Shoes that were worn outside cannot be returned.";
        Sources::read(vec![hit(0, shipping), hit(100, returns)], Language::English)
    }

    #[test]
    fn the_sentence_that_carries_the_claim_is_quoted() {
        let citation = sources().cite("Worn shoes cannot be returned.", 2).unwrap();
        assert_eq!(citation.quote, "Shoes that were worn outside cannot be returned.");
        assert_eq!((citation.start, citation.end), (112, 160));
        assert!(citation.support > 0.9, "{}", citation.support);
    }

    #[test]
    fn amounts_tell_sentences_of_the_same_words_apart() {
        let quote = |claim| sources().cite(claim, 1).unwrap().quote;
        assert_eq!(quote("Delivery costs €9.95."), "Express delivery costs €9.95.");
        assert_eq!(quote("Delivery costs €4.95."), "Standard delivery costs €4.95.");
    }

    #[test]
    fn a_passage_without_the_claim_is_cited_whole_and_one_that_is_not_there_not_at_all() {
        let citation = sources().cite("Yes.", 2).unwrap();
        assert_eq!((citation.start, citation.end, citation.support), (100, 160, 0.0));
        for number in [0, 3, u32::MAX] {
            assert_eq!(sources().cite("Shoes", number), None);
        }
    }

    #[test]
    fn a_claim_without_a_mark_needs_a_sentence_that_carries_it() {
        let found = sources().find("Shoes that were worn outside cannot be returned.").unwrap();
        assert_eq!((found.start, found.support), (112, 1.0));
        for claim in ["Express delivery costs €19.95.", "We bake pizza in stone ovens.", "Yes.", "It is so."]
        {
            assert_eq!(sources().find(claim), None, "{claim}");
        }
    }

    #[test]
    fn sentences_that_come_with_the_passage_are_used() {
        let sentence =
            |start, text: &str| Sentence { start, end: start + 9, text: text.into(), similarity: 0.0 };
        let hit =
            Hit { sentences: vec![sentence(40, "Open late"), sentence(50, "Shut soon")], ..Hit::default() };
        let sources = Sources::read(vec![hit], Language::English);
        assert_eq!(sources.cite("Shut soon.", 1).map(|c| (c.start, c.quote)), Some((50, "Shut soon".into())));
    }
}
