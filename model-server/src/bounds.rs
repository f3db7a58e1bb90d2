//! Bounds on requests, the same behind every door.

use std::time::Duration;

use crate::error::Error;

/// Texts of one request.
pub(crate) const MOST_TEXTS: usize = 1024;
/// Texts that the smallest queue holds: the largest request fits, also when a quarter is kept free of class
/// batch, and with its query beside its texts.
pub(crate) const SMALLEST_QUEUE: usize = 2 * MOST_TEXTS;
/// Characters of a text.
pub(crate) const MOST_CHARACTERS: usize = 32_000;
/// Characters of a query.
pub(crate) const MOST_QUERY: usize = 8_000;

/// Characters of a language's tag.
pub(crate) const MOST_LOCALE: usize = 35;
/// Characters of what was said before.
pub(crate) const MOST_PROMPT: usize = 2_000;

/// Checks the texts of a request; `field` is their name in it.
///
/// # Errors
/// Names the field, what it is, and what is allowed.
pub(crate) fn texts(field: &str, texts: &[String]) -> Result<(), Error> {
    if !(1..=MOST_TEXTS).contains(&texts.len()) {
        return Err(Error::invalid(field, format!("{} texts; 1 to {MOST_TEXTS} are allowed", texts.len())));
    }
    for (index, text) in texts.iter().enumerate() {
        // The name is only made where it is needed.
        if text.is_empty() || text.len() > MOST_CHARACTERS {
            one(&format!("{field}[{index}]"), text, MOST_CHARACTERS)?;
        }
    }
    Ok(())
}

/// Checks one text of at most `most` characters.
///
/// # Errors
/// As [`texts`].
pub(crate) fn one(field: &str, text: &str, most: usize) -> Result<(), Error> {
    // A character has at least one byte, so most texts need no counting.
    let characters = if text.len() <= most { text.len() } else { text.chars().count() };
    if (1..=most).contains(&characters) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{characters} characters; 1 to {most} are allowed")))
}

/// Checks samples of a sound, of at most so long.
///
/// # Errors
/// As [`texts`].
pub(crate) fn samples(field: &str, samples: &[f32], rate: u32, longest: Duration) -> Result<(), Error> {
    let most = (longest.as_secs_f64() * f64::from(rate)) as usize;
    if !(1..=most).contains(&samples.len()) {
        let (count, seconds) = (samples.len(), longest.as_secs_f64());
        let allowed = format!("1 to {most} ({seconds} s at {rate} Hz) are allowed");
        return Err(Error::invalid(field, format!("{count} samples; {allowed}")));
    }
    // NaN is in no range.
    match samples.iter().position(|sample| !(-1.0..=1.0).contains(sample)) {
        Some(at) => {
            Err(Error::invalid(format!("{field}[{at}]"), format!("{}; -1 to 1 is allowed", samples[at])))
        }
        None => Ok(()),
    }
}

/// Checks a text that may be empty, of at most `most` characters.
///
/// # Errors
/// As [`texts`].
pub(crate) fn optional(field: &str, text: &str, most: usize) -> Result<(), Error> {
    if text.is_empty() { Ok(()) } else { one(field, text, most) }
}
