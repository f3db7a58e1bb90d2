//! Bounds on requests, the same behind every door.

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
