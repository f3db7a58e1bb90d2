//! How the company wants to speak, as bundles say it.

use switchboard_text::words;

use super::{GRADE, LANGUAGE, SPELLING};
use crate::bundles::Verdict;

/// What is told of a draft's form, and what a bundle can want to become of it.
pub const FORM: [&str; 3] = [LANGUAGE, GRADE, SPELLING];

/// How the company wants to speak.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Voice {
    /// Wording that is never used: whole words, in any case and with any white space between.
    pub banned: Vec<String>,
    /// Wording that is always written exactly so.
    pub required: Vec<String>,
    /// The highest Flesch-Kincaid grade of a sentence; English only.
    pub max_grade: Option<f32>,
    /// Sentences that a reply has to have.
    pub said: Vec<Wording>,
    /// What becomes of a draft by its form: kinds out of [`FORM`], each with a verdict.
    pub verdicts: Vec<(&'static str, Verdict)>,
}

/// A sentence that a reply has to have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wording {
    /// The name by which it is known.
    pub rule: String,
    /// The sentence.
    pub say: String,
    /// What the reply is about; empty for anything.
    pub products: Vec<String>,
    /// Whose law applies: `DE` is for `DE-BY` too; empty for any.
    pub jurisdictions: Vec<String>,
    /// By which channel; empty for any.
    pub channels: Vec<String>,
}

impl Wording {
    /// Whether it has to be in a reply about this.
    #[must_use]
    pub fn applies(&self, product: &str, jurisdiction: &str, channel: &str) -> bool {
        let one =
            |list: &[String], is: &dyn Fn(&str) -> bool| list.is_empty() || list.iter().any(|it| is(it));
        let inside = |law: &str| {
            jurisdiction.strip_prefix(law).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        one(&self.products, &|it| it == product)
            && one(&self.channels, &|it| it == channel)
            && one(&self.jurisdictions, &inside)
    }

    /// Whether a text has it.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        words::says(text, &self.say)
    }
}

/// The strictest verdict that voices want for a kind; `None` where none says.
pub(crate) fn verdict<'v>(voices: impl Iterator<Item = &'v Voice>, kind: &str) -> Option<Verdict> {
    voices.flat_map(|voice| &voice.verdicts).filter(|(of, _)| *of == kind).map(|(_, verdict)| *verdict).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wording_is_for_its_product_law_and_channel() {
        let wording = Wording {
            products: vec!["savings".into()],
            jurisdictions: vec!["DE".into(), "US-CA".into()],
            channels: vec!["voice".into(), "chat".into()],
            ..Wording::default()
        };
        assert!(wording.applies("savings", "DE-BY", "chat") && wording.applies("savings", "US-CA", "voice"));
        for (product, jurisdiction, channel) in [
            ("loan", "DE", "chat"),
            ("savings", "US", "chat"),
            ("savings", "DEX", "chat"),
            ("savings", "", "chat"),
            ("savings", "DE", "email"),
        ] {
            assert!(!wording.applies(product, jurisdiction, channel), "{product} {jurisdiction} {channel}");
        }
        assert!(Wording::default().applies("", "", ""));
    }

    #[test]
    fn of_two_voices_the_stricter_verdict_holds() {
        let voice = |verdict| Voice { verdicts: vec![(LANGUAGE, verdict)], ..Voice::default() };
        let voices = [voice(Verdict::HandOff), voice(Verdict::Allow)];
        assert_eq!(verdict(voices.iter(), LANGUAGE), Some(Verdict::HandOff));
        assert_eq!(verdict(voices.iter(), GRADE), None);
    }
}
