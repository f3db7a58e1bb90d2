//! What a text is, before anything is decided about it: facts for the policy, made without a model.
//!
//! [`Detectors::find`] says which language a text is in, how it feels, and where it threatens, insults,
//! asks for a person, or tries to give the machinery orders. It never says what follows from that: a
//! score is evidence, and the policy has the thresholds. [`Trend`] watches the feeling over a
//! conversation.
//!
//! Rules are tables of phrases (`detectors/*.rs`), matched over a folded form of the text
//!, so that look-alike letters, invisible characters, digits for letters and
//! encodings do not hide them. All of it takes time linear in the text.

mod heard;
mod injection;
mod language;
mod marks;
mod person;
mod phrases;
mod profanity;
mod risk;
mod views;

use std::{fmt, ops::Range, sync::LazyLock};

use switchboard_text::Span;
use vader_parity::SentimentIntensityAnalyzer;

pub use self::heard::{Heard, Reading};
pub(crate) use self::injection::INJECTION;
use self::{
    language::Languages,
    marks::Marks,
    phrases::{Phrases, Rule},
};

/// Something found in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Where it stands, in the text as written.
    pub span: Span,
    /// What it is; from a fixed set, fit for a label.
    pub kind: &'static str,
    /// How sure the detector is, in [0, 1].
    pub score: f32,
    /// Which rule found it, or which model, as `model:NAME`; from a fixed set, fit for a label.
    pub detector: &'static str,
}

/// Who wrote a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The customer: may feel, threaten and ask for a person.
    Customer,
    /// A document: a text about something, from which no order is taken.
    Document,
    /// What a tool gave back: data, from which no order is taken.
    Tool,
}

/// The language of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Language {
    /// ISO 639-1, such as `de`; ISO 639-3 where that has no code.
    pub code: &'static str,
    /// In [0, 1]; low for a few words.
    pub confidence: f32,
}

/// What was found in a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The language; `None` where there are too few letters to tell.
    pub language: Option<Language>,
    /// How the text feels, from -1 to 1; 0 where nothing tells.
    pub sentiment: f32,
    /// In the order of their places in the text.
    pub findings: Vec<Finding>,
}

/// The detectors. Making them reads their tables, which takes some milliseconds: make them once.
pub struct Detectors {
    phrases: Phrases,
    rules: Vec<Rule>,
    marks: Marks,
    feeling: SentimentIntensityAnalyzer,
}

impl fmt::Debug for Detectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detectors").field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}

impl Default for Detectors {
    fn default() -> Self {
        Self::new()
    }
}

impl Detectors {
    /// Reads the tables.
    #[must_use]
    pub fn new() -> Self {
        let mut rules: Vec<Rule> = injection::RULES.to_vec();
        rules.extend(person::RULES);
        rules.extend(risk::RULES);
        rules.extend(profanity::RULES);
        let sets: Vec<(&str, &str)> = [&injection::SETS[..], &person::SETS[..], &risk::SETS[..]].concat();
        Self {
            phrases: Phrases::new(&rules, &sets),
            rules,
            marks: Marks::new(),
            feeling: SentimentIntensityAnalyzer::new(),
        }
    }

    /// Looks at a text. Takes time linear in it.
    ///
    /// A customer's text is looked at for everything, a document's and a tool's for language and orders
    /// alone: a report about fraud threatens nobody. Of each kind at most [`MOST_OF_A_KIND`] are given, the
    /// surest.
    #[must_use]
    pub fn find(&self, text: &str, source: Source) -> Facts {
        self.find_beside(text, source, &[])
    }

    /// The same, with what models found in the text: of findings of a kind that overlap the surest stands.
    #[must_use]
    pub fn find_beside(&self, text: &str, source: Source, heard: &[Finding]) -> Facts {
        let language = language_of(text);
        let sentiment = if source == Source::Customer { self.sentiment(text, language) } else { 0.0 };
        let mut raw = views::look(self, text, source);
        raw.extend(views::together(&raw));
        raw.extend(heard.iter().map(Raw::of));
        raw.retain(|found| found.kind != injection::INJECTION || found.score >= injection::ENOUGH);
        Facts { language, sentiment, findings: findings(text, raw) }
    }

    /// How a text feels, as VADER has it. VADER reads English: in German "die" would be a death and "Gift"
    /// a present, so a text that is surely in another language feels nothing.
    fn sentiment(&self, text: &str, language: Option<Language>) -> f32 {
        /// Languages that are told this surely are believed.
        const SURE: f32 = 0.6;
        /// No message is longer; what follows would not change the feeling.
        const LONGEST: usize = 32 << 10;
        if language.is_some_and(|language| language.code != "en" && language.confidence >= SURE) {
            return 0.0;
        }
        let mut end = text.len().min(LONGEST);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.feeling.polarity_scores(&text[..end]).compound as f32
    }
}

/// The language of a text, without looking for anything else.
#[must_use]
pub fn language_of(text: &str) -> Option<Language> {
    static LANGUAGES: LazyLock<Languages> = LazyLock::new(Languages::new);
    LANGUAGES.of(text)
}

/// How many findings of a kind a text can have; one that has more is not better known by them. Each kind
/// has its own, so that none is crowded out by another.
pub const MOST_OF_A_KIND: usize = 16;

/// What a rule found, before its place is counted in characters.
#[derive(Clone, Debug)]
struct Raw {
    bytes: Range<usize>,
    kind: &'static str,
    score: f32,
    detector: &'static str,
}

impl Raw {
    fn of(finding: &Finding) -> Self {
        let Finding { span, kind, score, detector } = finding;
        Self { bytes: span.bytes.clone(), kind, score: *score, detector }
    }
}

/// The surest of what was found, in the order of places. Of findings of a kind that overlap one stands, the
/// surest, then the longest.
fn findings(text: &str, mut raw: Vec<Raw>) -> Vec<Finding> {
    raw.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then(b.bytes.len().cmp(&a.bytes.len()))
            .then(a.bytes.start.cmp(&b.bytes.start))
    });
    let mut kept: Vec<Raw> = Vec::new();
    for found in raw {
        if kept.iter().filter(|other| other.kind == found.kind).count() >= MOST_OF_A_KIND {
            continue;
        }
        let apart = |other: &Raw| {
            other.kind != found.kind
                || other.bytes.end <= found.bytes.start
                || found.bytes.end <= other.bytes.start
        };
        if kept.iter().all(apart) {
            kept.push(found);
        }
    }
    kept.sort_by_key(|found| (found.bytes.start, found.bytes.end));
    let places: Vec<Range<usize>> = kept.iter().map(|found| found.bytes.clone()).collect();
    let spans = Span::of_bytes(text, &places);
    let finding = |(found, span): (Raw, Span)| Finding {
        span,
        kind: found.kind,
        score: found.score,
        detector: found.detector,
    };
    kept.into_iter().zip(spans).map(finding).collect()
}

/// How the feeling changes over a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trend {
    turns: u32,
    recent: f32,
    usual: f32,
}

/// How much of the recent and of the usual feeling the latest turn makes.
const RECENT: f32 = 0.5;
const USUAL: f32 = 0.16;

impl Trend {
    /// Takes in the feeling of the latest turn, from -1 to 1; what is not a number changes nothing.
    pub fn push(&mut self, compound: f32) {
        if compound.is_nan() {
            return;
        }
        let compound = compound.clamp(-1.0, 1.0);
        if self.turns == 0 {
            (self.recent, self.usual) = (compound, compound);
        } else {
            self.recent += RECENT * (compound - self.recent);
            self.usual += USUAL * (compound - self.usual);
        }
        self.turns = self.turns.saturating_add(1);
    }

    /// How far the recent feeling lies under the usual one, in [0, 1]; 0 when it does not, and before
    /// the second turn.
    #[must_use]
    pub fn falling(&self) -> f32 {
        ((self.usual - self.recent) / 2.0).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests;
