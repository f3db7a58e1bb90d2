//! Text from a file, fit for an error.

/// Characters that are kept.
const MOST: usize = 60;

/// The beginning of `text`, with nothing in it that would change what a terminal shows.
pub(crate) fn short(text: &str) -> String {
    let shown =
        |c: char| if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(MOST).map(shown).collect();
    if text.chars().nth(MOST).is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_odd_text_is_cut_and_cleaned() {
        assert_eq!(short("encoder.layer.0"), "encoder.layer.0");
        assert_eq!(short("a\n\u{1b}[2Jb"), "a\u{fffd}\u{fffd}[2Jb");
        assert_eq!(short(&"é".repeat(61)), format!("{}...", "é".repeat(60)));
    }
}
