//! A text as a model reads it: masked, and in stretches of whole sentences.

use std::ops::Range;

use switchboard_text::{Span, redaction::Entity, sentences};

/// The most texts that an inference node takes at once.
const MOST_WINDOWS: usize = 1024;

/// The stretches of a text that are asked about.
#[derive(Debug)]
pub(super) struct Windows {
    /// The stretches themselves, masked; none is blank.
    pub(super) texts: Vec<String>,
    /// Where each stands in the text, in characters.
    pub(super) places: Vec<Range<usize>>,
    /// Whether they hold all of the text.
    pub(super) whole: bool,
}

impl Windows {
    /// Windows of at most `longest` characters over the first `most` characters of a text. They end with a
    /// sentence, or with a word where a sentence is longer. What is in `found` is masked.
    pub(super) fn of(text: &str, found: &[Entity], longest: usize, most: usize) -> Self {
        let end = text.char_indices().nth(most).map(|(at, _)| at);
        let masked = mask(&text[..end.unwrap_or(text.len())], found);
        let characters: Vec<char> = masked.chars().collect();
        let ends: Vec<usize> =
            sentences::split(&masked).into_iter().map(|sentence| sentence.chars.end).collect();
        let (mut texts, mut places) = (Vec::new(), Vec::new());
        let mut start = 0;
        while start < characters.len() && texts.len() < MOST_WINDOWS {
            let stop = cut(&characters, &ends, start, longest.max(1));
            let blank = |at: &usize| characters[*at].is_whitespace();
            let first = (start..stop).find(|at| !blank(at)).unwrap_or(stop);
            let last = (first..stop).rfind(|at| !blank(at)).map_or(first, |at| at + 1);
            if first < last {
                texts.push(characters[first..last].iter().collect());
                places.push(first..last);
            }
            start = stop;
        }
        Self { texts, places, whole: end.is_none() && start >= characters.len() }
    }
}

/// Where a window ends that begins at `start`; behind it.
fn cut(characters: &[char], ends: &[usize], start: usize, longest: usize) -> usize {
    let stop = characters.len().min(start + longest);
    if stop == characters.len() {
        return stop;
    }
    let sentence = ends[..ends.partition_point(|&end| end <= stop)].last().copied();
    let apart = |at: &usize| characters[at - 1].is_whitespace() || characters[*at].is_whitespace();
    let word = || (start + 1..=stop).rev().find(apart);
    sentence.filter(|&end| end > start).or_else(word).unwrap_or(stop)
}

/// A text with letters and figures of what was found in it replaced, one by one.
fn mask(text: &str, found: &[Entity]) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut found = found.iter().map(|entity| &entity.span.bytes).peekable();
    for (at, c) in text.char_indices() {
        while found.next_if(|bytes| bytes.end <= at).is_some() {}
        masked.push(match found.peek().is_some_and(|bytes| bytes.start <= at) {
            true if c.is_numeric() => '0',
            true if c.is_alphabetic() => 'x',
            _ => c,
        });
    }
    masked
}

/// The most characters that a name is made longer by, either way.
const LONGEST_REST: usize = 32;

/// Whether a character is one of a word, in a script whose words have marks between them. In others a name would
/// take in all of its clause.
fn goes_on(c: char) -> bool {
    let unmarked = matches!(c,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}');
    c.is_alphanumeric() && !unmarked
}

/// Turns places in characters to spans of a text.
pub(super) struct Words<'t> {
    text: &'t str,
    /// Where each character begins, in bytes; made when the first one is asked for.
    starts: Vec<usize>,
}

impl<'t> Words<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, starts: Vec::new() }
    }

    /// The span of a place, which lies in the text.
    pub(super) fn span(&mut self, chars: Range<usize>) -> Span {
        if self.starts.is_empty() {
            self.starts = self.text.char_indices().map(|(at, _)| at).collect();
            self.starts.push(self.text.len());
        }
        Span { bytes: self.starts[chars.start]..self.starts[chars.end], chars }
    }

    /// The same, with all of the words that begin or end there: models read parts of words, and half a name
    /// tells the other half.
    pub(super) fn whole(&mut self, chars: Range<usize>) -> Span {
        let Span { mut chars, mut bytes } = self.span(chars);
        let first = self.text[bytes.start..].starts_with(goes_on);
        let before = self.text[..bytes.start].chars().rev().take(LONGEST_REST);
        for c in before.take_while(|c| first && goes_on(*c)) {
            (chars.start, bytes.start) = (chars.start - 1, bytes.start - c.len_utf8());
        }
        let last = self.text[..bytes.end].ends_with(goes_on);
        let behind = self.text[bytes.end..].chars().take(LONGEST_REST);
        for c in behind.take_while(|c| last && goes_on(*c)) {
            (chars.end, bytes.end) = (chars.end + 1, bytes.end + c.len_utf8());
        }
        Span { chars, bytes }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use switchboard_text::redaction;

    use super::*;

    fn texts(text: &str, longest: usize, most: usize) -> Vec<String> {
        Windows::of(text, &[], longest, most).texts
    }

    #[test]
    fn a_name_takes_in_its_word_and_no_clause() {
        let whole = |text: &str, chars: Range<usize>| text[Words::new(text).whole(chars).bytes].to_owned();
        assert_eq!(whole("ask Annabel now", 4..7), "Annabel");
        assert_eq!(whole("我叫王小明想退货", 2..5), "王小明");
        let long = format!("{}b", "a".repeat(10_000));
        assert_eq!(whole(&long, 5_000..5_001).len(), 1 + 2 * LONGEST_REST);
    }

    #[test]
    fn of_more_windows_than_a_node_takes_the_first_are_read() {
        let windows = Windows::of(&"a ".repeat(3_000), &[], 2, 10_000);
        assert_eq!((windows.texts.len(), windows.whole), (MOST_WINDOWS, false));
    }

    #[test]
    fn windows_end_with_sentences_and_long_ones_with_words() {
        let text = "One two. Three four. Five six seven eight nine ten.";
        assert_eq!(texts(text, 1000, 1000), [text]);
        assert_eq!(texts(text, 21, 1000), ["One two. Three four.", "Five six seven eight", "nine ten."]);
        assert_eq!(texts("aaaaaaaaaa", 4, 1000), ["aaaa", "aaaa", "aa"]);
        assert_eq!(texts(" \n ", 4, 1000), [""; 0]);
    }

    #[test]
    fn what_lies_beyond_the_bound_is_not_read_and_that_is_told() {
        let windows = Windows::of("Größe. Breite.", &[], 100, 6);
        assert_eq!((windows.texts, windows.whole), (vec!["Größe.".to_owned()], false));
        assert!(Windows::of("Größe.", &[], 100, 6).whole);
    }

    #[test]
    fn what_was_found_by_its_form_is_masked() {
        let text = "Jo: jo@home.de, 4111 1111 1111 1111, Größe";
        let found = redaction::find(text);
        assert_eq!(
            Windows::of(text, &found, 100, 100).texts,
            ["Jo: xx@xxxx.xx, 0000 0000 0000 0000, Größe"],
            "{found:?}"
        );
    }

    #[test]
    fn a_part_of_a_word_stands_for_all_of_it() {
        let mut words = Words::new("Über Söderström, ja");
        let whole = words.whole(7..9);
        assert_eq!((whole.of("Über Söderström, ja"), whole.chars), ("Söderström", 5..15));
        assert_eq!(words.whole(15..16).chars, 15..16, "a mark is no word");
    }

    proptest! {
        #[test]
        fn windows_hold_all_that_is_not_blank(text in r"[a-zä0-9@.!? \n]{0,200}", longest in 1usize..40) {
            let windows = Windows::of(&text, &redaction::find(&text), longest, 1000);
            let characters: Vec<char> = text.chars().collect();
            let mut at = 0;
            for (place, window) in windows.places.iter().zip(&windows.texts) {
                prop_assert!(characters[at..place.start].iter().all(|c| c.is_whitespace()));
                prop_assert_eq!((window.chars().count(), place.len() <= longest), (place.len(), true));
                at = place.end;
            }
            prop_assert!(characters[at..].iter().all(|c| c.is_whitespace()));
        }
    }
}
