//! Makes a question fit to be read: no invisible characters, plain white space, NFC, in bounds.
//!
//! [`clean_question`] comes before everything else, so that what people cannot see (controls,
//! zero-width characters, direction overrides) can neither hide personal data from redaction nor
//! make two equal questions differ.

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

/// The most characters of a question: a long e-mail, some four pages.
pub const MAX_CHARACTERS: usize = 8000;

/// Why a text cannot be read as a question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Nothing visible is left.
    #[error("the question is empty; 1 to {MAX_CHARACTERS} characters are allowed")]
    Empty,
    /// Nothing that could be a word: only signs or emoji.
    #[error("the question has no letter and no digit; it needs at least one")]
    NoWords,
    /// Over the limit.
    #[error("the question is too long; 1 to {MAX_CHARACTERS} characters are allowed")]
    TooLong,
}

/// Cleans a question.
///
/// Removes control characters, zero-width characters, variation selectors and direction overrides; makes of each run of
/// white space one space, or one line break where it held one; composes to NFC. Zero-width joiners
/// stay between letters and marks that are not ASCII, since some scripts spell with them. Text in any script
/// and direction passes.
///
/// # Errors
/// [`Unusable`], which says what is allowed.
pub fn clean_question(text: &str) -> Result<String, Unusable> {
    // Bounds the work: no sensible text shrinks to a quarter.
    if text.len() > MAX_CHARACTERS * 16 {
        return Err(Unusable::TooLong);
    }
    let visible = visible(text);
    let mut clean = String::with_capacity(visible.len());
    let mut gap = None;
    for character in visible.nfc() {
        if character.is_whitespace() {
            gap = Some(if gap == Some('\n') || is_break(character) { '\n' } else { ' ' });
        } else {
            if let Some(space) = gap.take()
                && !clean.is_empty()
            {
                clean.push(space);
            }
            clean.push(character);
        }
    }
    if clean.is_empty() {
        Err(Unusable::Empty)
    } else if !clean.chars().any(char::is_alphanumeric) {
        Err(Unusable::NoWords)
    } else if clean.chars().count() > MAX_CHARACTERS {
        Err(Unusable::TooLong)
    } else {
        Ok(clean)
    }
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let kept = match character {
            '\u{200c}' | '\u{200d}' => {
                let spells = |c: char| !c.is_ascii() && (c.is_alphabetic() || is_combining_mark(c));
                out.ends_with(spells) && characters.peek().copied().is_some_and(spells)
            }
            _ => !is_hidden(character) && (character.is_whitespace() || !character.is_control()),
        };
        if kept {
            out.push(character);
        }
    }
    out
}

/// Format characters that show nothing: soft hyphens, zero-width spaces, direction marks, overrides
/// and isolates, invisible operators and vowels, byte order marks, annotations, tags, variation
/// selectors.
pub(crate) fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' | '\u{e0100}'..='\u{e01ef}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn invisible_characters_go_and_white_space_is_plain() {
        let text = "\u{feff} Wo\u{ad} ist\u{0} \t mein\u{202e} Pa\u{200b}ket?\r\n\r\n Da\u{308}nke\u{1b} ";
        assert_eq!(clean_question(text).as_deref(), Ok("Wo ist mein Paket?\nDänke"));
        let text = "4\u{fe0f}1\u{e0100}1\u{17b4}1\u{17b5}";
        assert_eq!(clean_question(text).as_deref(), Ok("4111"));
    }

    #[test]
    fn scripts_pass_in_their_own_spelling() {
        for text in ["איפה החבילה שלי?", "می\u{200c}خواهم", "我的包裹在哪里？", "क्\u{200d}ष"]
        {
            assert_eq!(clean_question(text).as_deref(), Ok(text));
        }
        assert_eq!(clean_question("41\u{200d}11").as_deref(), Ok("4111"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_reason() {
        assert_eq!(clean_question(""), Err(Unusable::Empty));
        assert_eq!(clean_question(" \u{7}\u{200b}\n"), Err(Unusable::Empty));
        assert_eq!(clean_question("👍🏽 ❤️ ?!"), Err(Unusable::NoWords));
        assert_eq!(clean_question(&"a".repeat(MAX_CHARACTERS + 1)), Err(Unusable::TooLong));
        assert_eq!(clean_question(&"a".repeat(1 << 20)), Err(Unusable::TooLong));
        assert!(clean_question(&"ä".repeat(MAX_CHARACTERS)).is_ok());
    }

    proptest! {
        #[test]
        fn cleaning_twice_changes_nothing(text in r"(?s).{0,60}") {
            if let Ok(clean) = clean_question(&text) {
                prop_assert_eq!(clean_question(&clean), Ok(clean.clone()));
            }
        }
    }
}
