//! Checks of what is about to be said, a sentence at a time.
//!
//! [`check`] asks of a sentence whether the passages carry it, whether it is in the customer's language,
//! and whether it speaks as the company wants. Personal data is the redaction's to find.
//!
//! A sentence that was cut out of a passage is carried by construction. Any other one is compared with the
//! passages by its words ([`switchboard_text::grounding`]): a number, a name or a denial that does not
//! agree is told where it stands; too few words in common are told for the whole sentence. A courtesy
//! claims nothing and needs no passage; a bare yes or no claims what was asked, and does.

mod courtesy;
mod grade;
mod voice;
mod wording;

use std::ops::Range;

use switchboard_text::{
    Span,
    grounding::{Disagreement, Evidence},
    redaction,
    words::Language,
};

pub(crate) use self::voice::verdict;
pub use self::voice::{FORM, Voice, Wording};
use self::wording::Said;
use crate::detectors::{self, Finding};

/// Too few of a sentence's words are in the passages.
pub const UNGROUNDED: &str = "ungrounded";
/// A number that no passage has.
pub const NUMBER: &str = "number-disagrees";
/// A denial that the passages do not make, or one of theirs left out.
pub const NEGATION: &str = "negation-disagrees";
/// A name, code, address or quotation that no passage has.
pub const ENTITY: &str = "entity-disagrees";
/// Wording that is never used.
pub const BANNED: &str = "banned-wording";
/// Wording that is written otherwise than it has to be.
pub const SPELLING: &str = "required-spelling";
/// A sentence above the highest grade.
pub const GRADE: &str = "reading-level";
/// A sentence in another language than the customer's.
pub const LANGUAGE: &str = "language";

/// Share of a sentence's content words that passages must have: below half, more is made up than taken.
const CARRIED: f32 = 0.5;
/// How sure a sentence must be in another language to be told so.
const SURE: f32 = 0.8;
/// How sure a disagreement is: numbers are compared by value, names by spelling, denials by the words
/// around them, which is the least certain.
const DISAGREEING: [(Disagreement, &str, f32); 3] = [
    (Disagreement::Number, NUMBER, 0.9),
    (Disagreement::Entity, ENTITY, 0.8),
    (Disagreement::Negation, NEGATION, 0.7),
];

/// A sentence that is about to be said.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// The sentence.
    pub sentence: &'a str,
    /// What it may be based on.
    pub passages: &'a [&'a str],
    /// Whether it was cut out of a passage as it stands, which grounds it by construction.
    pub verbatim: bool,
    /// The language that it should be in, as a BCP 47 tag; `None` where any will do.
    pub language: Option<&'a str>,
}

/// Checks a sentence; what is wrong with it, in the order of places. Takes time linear in sentence,
/// passages and voices, all of which hold.
#[must_use]
pub fn check<'v>(draft: &Draft<'_>, voices: impl Iterator<Item = &'v Voice> + Clone) -> Vec<Finding> {
    let text = draft.sentence;
    let mut found: Vec<Found> = Vec::new();
    let spoken = detectors::language_of(text);
    let wanted = draft.language.and_then(primary);
    if let (Some(spoken), Some(wanted)) = (spoken, &wanted)
        && spoken.confidence >= SURE
        && spoken.code != wanted
    {
        found.push((whole(text), LANGUAGE, spoken.confidence, "trigrams"));
    }
    if !draft.verbatim {
        // What the sentence surely is in, else what it should be in.
        let sure = spoken.filter(|spoken| spoken.confidence >= SURE).map(|spoken| spoken.code);
        let language = sure.or(draft.language).or(spoken.map(|spoken| spoken.code)).unwrap_or_default();
        grounding(draft, Language::of_tag(language), &mut found);
    }
    let said = Said::new(text);
    for phrase in voices.clone().flat_map(|voice| &voice.banned) {
        found.extend(said.places(phrase).into_iter().map(|place| (place, BANNED, 1.0, "wording")));
    }
    let otherwise = spelt_otherwise(&said, text, voices.clone());
    found.extend(otherwise.into_iter().map(|(place, _)| (place, SPELLING, 1.0, "wording")));
    let english =
        spoken.is_none_or(|spoken| spoken.code == "en") && wanted.as_deref().is_none_or(|code| code == "en");
    let most = voices.filter_map(|voice| voice.max_grade).reduce(f32::min);
    if let (Some(most), true) = (most, english)
        && grade::flesch_kincaid(text).is_some_and(|grade| grade > most)
    {
        found.push((whole(text), GRADE, 1.0, "flesch-kincaid"));
    }
    found.sort_by_key(|(place, ..)| (place.start, place.end));
    let places: Vec<Range<usize>> = found.iter().map(|(place, ..)| place.clone()).collect();
    let spans = Span::of_bytes(text, &places);
    let finding = |((_, kind, score, detector), span)| Finding { span, kind, score, detector };
    found.into_iter().zip(spans).map(finding).collect()
}

/// A sentence with its wording spelt as it has to be.
pub(crate) fn spelt<'v>(sentence: &str, voices: impl Iterator<Item = &'v Voice>) -> String {
    let mut otherwise = spelt_otherwise(&Said::new(sentence), sentence, voices);
    otherwise.sort_by_key(|(place, _)| place.start);
    let (mut text, mut from) = (String::with_capacity(sentence.len()), 0);
    for (place, phrase) in otherwise {
        // Of two that overlap the first one stands.
        if place.start >= from {
            text.push_str(&sentence[from..place.start]);
            text.push_str(phrase);
            from = place.end;
        }
    }
    text + &sentence[from..]
}

/// Where wording is written otherwise than it has to be, and how that is.
fn spelt_otherwise<'v>(
    said: &Said<'_>,
    text: &str,
    voices: impl Iterator<Item = &'v Voice>,
) -> Vec<(Range<usize>, &'v str)> {
    let required = voices.flat_map(|voice| &voice.required);
    let places = required
        .flat_map(|phrase| said.places(phrase).into_iter().map(move |place| (place, phrase.as_str())));
    places.filter(|(place, phrase)| text[place.clone()] != **phrase).collect()
}

type Found = (Range<usize>, &'static str, f32, &'static str);

fn grounding(draft: &Draft<'_>, language: Language, found: &mut Vec<Found>) {
    // What stands for a customer's value is nothing that a passage could have.
    let sentence = without_placeholders(draft.sentence);
    let answers = courtesy::answers(&sentence);
    if !answers && courtesy::is_courtesy(&sentence) {
        return;
    }
    let support = Evidence::new(draft.passages, language).support(&sentence);
    for (span, kind) in &support.disagreements {
        let told = DISAGREEING.iter().find(|(disagreement, ..)| disagreement == kind);
        found.extend(told.map(|&(_, kind, score)| (span.bytes.clone(), kind, score, "grounding")));
    }
    // A bare answer claims what was asked, and has no words to compare.
    let score = if support.words > 0 { support.score } else { f32::from(u8::from(!answers)) };
    if score < CARRIED {
        found.push((whole(draft.sentence), UNGROUNDED, 1.0 - score, "grounding"));
    }
}

/// A text with spaces where its placeholders are: each byte keeps its place.
fn without_placeholders(text: &str) -> String {
    let mut blank = text.to_owned();
    for (place, _) in redaction::placeholders(text) {
        blank.replace_range(place.clone(), &" ".repeat(place.len()));
    }
    blank
}

/// The language of a BCP 47 tag.
fn primary(tag: &str) -> Option<String> {
    let primary = tag.split(['-', '_']).next()?.to_ascii_lowercase();
    (!primary.is_empty() && primary != "und").then_some(primary)
}

fn whole(text: &str) -> Range<usize> {
    let start = text.len() - text.trim_start().len();
    start..start + text.trim().len()
}

#[cfg(test)]
mod tests;
