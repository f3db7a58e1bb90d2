//! Cuts text where sentences end: English and German help-centre prose, lists and headings.
//!
//! [`split`] first cuts lines: a blank line, a list item, a heading, a table row and a short line are
//! ends; a line that was only wrapped is not. Within a stretch a sentence ends at closing
//! punctuation, unless it belongs to an abbreviation, an initial, an ordinal or a list number. The
//! rules of Unicode's UAX #29 alone cut after `approx.` and `z. B.`, so they are not used.

use std::ops::Range;

use crate::span::{Span, Spans};

/// A line at least this long, in bytes, that ends without punctuation was wrapped: plain text and
/// PDFs wrap at some 60 to 100 characters, headings and list items are mostly shorter.
const WRAPPED: usize = 55;
/// A line at least this long goes on when the next begins in lower case; a shorter one is a heading
/// over a list that was written without marks.
const CARRIED: usize = 30;

/// How many characters of quotes, brackets and bullets may stand between a mark and the next word.
const BETWEEN: usize = 64;

/// Abbreviations that stand before what they belong to, without their last full stop.
const NEVER_LAST: [&str; 60] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "mt", "gen", "rep", "sen", "rev", "hon", "fig", "figs", "no",
    "nos", "approx", "e.g", "eg", "i.e", "ie", "vs", "incl", "excl", "cf", "ca", "min", "max", "tel", "ext",
    "art", "sec", "ch", "vol", "pp", "ed", "est", "viz", "z.b", "d.h", "u.a", "o.ä", "v.a", "i.d.r", "nr",
    "bzw", "ggf", "evtl", "inkl", "exkl", "zzgl", "abs", "hr", "fr", "hrsg", "vgl", "sog", "str", "mio",
    "mrd",
];

/// Abbreviations that may end a sentence: they do when what follows is a usual first word.
const MAYBE_LAST: [&str; 26] = [
    "etc", "inc", "ltd", "co", "corp", "jr", "sr", "u.s", "u.k", "e.u", "u.n", "p.m", "a.m", "usw", "dept",
    "ave", "blvd", "rd", "apt", "jan", "feb", "aug", "sept", "oct", "nov", "dec",
];

/// Words that open sentences and hardly ever follow an abbreviation with a capital.
const OPENERS: [&str; 74] = [
    "The", "A", "An", "If", "You", "Your", "We", "Our", "It", "Its", "This", "That", "These", "Those", "In",
    "On", "At", "To", "For", "From", "With", "Without", "Please", "When", "Where", "How", "What", "Why",
    "Who", "Which", "There", "They", "He", "She", "But", "And", "Or", "However", "Once", "After", "Before",
    "All", "Any", "Only", "Do", "Not", "Items", "Orders", "Der", "Die", "Das", "Ein", "Eine", "Wenn", "Sie",
    "Wir", "Ihr", "Ihre", "Bitte", "Es", "Im", "Für", "Mit", "Nach", "Bei", "Dann", "Dies", "Diese", "Wie",
    "Was", "Wo", "Wann", "Alle", "Nur",
];

/// Months, before which a number with a full stop is a German date.
const MONTHS: [&str; 14] = [
    "Januar",
    "Jänner",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
    "Quartal",
];

/// The sentences of a text, in order. They never overlap, none is blank, and together they hold all
/// that is not white space; white space around a sentence is not part of it.
#[must_use]
pub fn split(text: &str) -> Vec<Span> {
    let mut spans = Spans::new(text);
    let mut sentences = Vec::new();
    for block in blocks(text) {
        for bytes in within(text, block) {
            sentences.push(spans.next(bytes));
        }
    }
    sentences
}

/// Stretches between line breaks that are ends.
fn blocks(text: &str) -> Vec<Range<usize>> {
    let mut blocks: Vec<Range<usize>> = Vec::new();
    let mut open = false;
    let mut at = 0;
    for line in text.split_inclusive(['\n', '\r', '\u{2028}', '\u{2029}']) {
        let range = at..at + line.len();
        at = range.end;
        let content = line.trim();
        if content.is_empty() {
            // "\r\n" gives an empty line too: only a real blank line, one with its own break, ends.
            open &= line == "\n" && text[..range.start].ends_with('\r');
            continue;
        }
        match blocks.last_mut() {
            Some(block) if open && continues(&text[block.clone()], content) => block.end = range.end,
            _ => blocks.push(range),
        }
        open = !is_heading(content);
    }
    blocks
}

/// Whether `line` only carries on what stands before it.
fn continues(block: &str, line: &str) -> bool {
    if is_heading(line) || is_item(line) || line.starts_with(['|', '>']) {
        return false;
    }
    let before = block.trim_end().rsplit(['\n', '\r']).next().unwrap_or_default().trim();
    // A row of a table is whole on its line.
    if before.ends_with('|') {
        return false;
    }
    let lower = line.starts_with(char::is_lowercase) && before.len() >= CARRIED && !before.ends_with(':');
    // Wrapped where a sentence happened to end: the paragraph goes on, its sentences are cut later.
    lower || (before.len() >= WRAPPED && !before.ends_with(':'))
}

fn is_heading(line: &str) -> bool {
    line.starts_with('#') && line.trim_start_matches('#').starts_with([' ', '\t'])
}

/// A bullet, or a number or letter with a full stop or bracket.
fn is_item(line: &str) -> bool {
    let bullet = line.strip_prefix(['-', '*', '+', '•', '–', '—', '·', '▪', '◦', '‣', '○', '●', '✓', '✔']);
    if bullet.is_some_and(|rest| rest.starts_with(char::is_whitespace)) {
        return true;
    }
    let line = line.trim_start_matches('(');
    let head = line.find(['.', ')']).map_or("", |at| &line[..at]);
    let numbered = (1..=3).contains(&head.len()) && head.bytes().all(|b| b.is_ascii_digit());
    let lettered = head.len() == 1 && head.as_bytes()[0].is_ascii_lowercase();
    (numbered || lettered) && line[head.len() + 1..].starts_with(char::is_whitespace)
}

/// The sentences of one block, as trimmed byte ranges.
fn within(text: &str, block: Range<usize>) -> Vec<Range<usize>> {
    let mut sentences = Vec::new();
    let mut start = block.start;
    let mut characters = text[block.clone()].char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if !is_terminal(character) {
            continue;
        }
        // A run such as "?!", "..." or '."' ends as one.
        let mark = block.start + at;
        let mut last = character;
        let mut end = mark + character.len_utf8();
        while let Some(&(next, c)) = characters.peek()
            && (is_terminal(c) || closes(c))
        {
            if is_terminal(c) {
                last = c;
            }
            end = block.start + next + c.len_utf8();
            characters.next();
        }
        let run = &text[mark..end];
        let rest = &text[end..block.end];
        if ends(&text[start..mark], run, last, rest) {
            push(text, start..end, &mut sentences);
            start = end;
        }
    }
    push(text, start..block.end, &mut sentences);
    sentences
}

fn push(text: &str, range: Range<usize>, sentences: &mut Vec<Range<usize>>) {
    let piece = &text[range.clone()];
    let begin = range.start + piece.len() - piece.trim_start().len();
    let content = piece.trim();
    if !content.is_empty() {
        sentences.push(begin..begin + content.len());
    }
}

/// Whether the punctuation `run` after `before` ends a sentence, with `rest` behind it.
fn ends(before: &str, run: &str, last: char, rest: &str) -> bool {
    if matches!(last, '。' | '！' | '？' | '।') {
        return true;
    }
    if !rest.starts_with(char::is_whitespace) {
        return rest.is_empty();
    }
    // Quotes, brackets and bullets may stand before the next word.
    let next = rest.char_indices().take(BETWEEN).find(|(_, c)| c.is_alphanumeric());
    let next = next.map_or("", |(at, _)| &rest[at..]);
    if matches!(last, '?' | '!' | '؟' | '۔') {
        // "Yahoo! is" and a quoted question go on.
        return !(next.starts_with(char::is_lowercase) && (last == '!' || run.ends_with(closes)));
    }
    if next.starts_with(char::is_lowercase) {
        return false;
    }
    if run.len() > 1 {
        return true;
    }
    let word =
        before.rsplit(|c: char| c.is_whitespace() || "([\"'„“‘/".contains(c)).next().unwrap_or_default();
    let opener = || {
        let first = next.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        OPENERS.contains(&first)
    };
    let lower = word.to_lowercase();
    let lone = word.chars().count() == 1 && word.starts_with(char::is_alphabetic);
    if word.bytes().all(|b| b.is_ascii_digit()) && !word.is_empty() {
        let first = next.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let dated = word.len() <= 2 && MONTHS.contains(&first);
        // The date first: it may come often in a sentence, and trimming looks at all before it.
        return !dated && before.trim().len() != word.len();
    }
    if NEVER_LAST.contains(&lower.as_str()) {
        // "No." is a number before a figure and an answer before anything else.
        return lower == "no" && !next.starts_with(|c: char| c.is_ascii_digit());
    }
    if MAYBE_LAST.contains(&lower.as_str()) || lone {
        return opener();
    }
    true
}

fn is_terminal(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？' | '؟' | '۔' | '।')
}

fn closes(c: char) -> bool {
    matches!(c, '"' | '\'' | '”' | '’' | '»' | '›' | ')' | ']' | '“' | '*' | '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sentences(text: &str) -> Vec<&str> {
        split(text).iter().map(|span| span.of(text)).collect()
    }

    #[test]
    fn sentences_end_at_closing_punctuation() {
        assert_eq!(
            sentences(
                "You can return shoes within 30 days. Really?! Yes. \"It works.\" 返品できます。はい。"
            ),
            [
                "You can return shoes within 30 days.",
                "Really?!",
                "Yes.",
                "\"It works.\"",
                "返品できます。",
                "はい。"
            ]
        );
    }

    #[test]
    fn abbreviations_decimals_and_dates_do_not_end_a_sentence() {
        for whole in [
            "Mr. Smith paid approx. $3.50 for item No. 7 at acme.com today.",
            "Ship within the U.S. Postal Service network, e.g. Priority Mail, vs. Ground.",
            "Write to J. Smith Inc. Returns, Suite 5.",
            "Das gilt z. B. für Schuhe, d. h. Nr. 5 bzw. Größe 42 bis zum 3. Mai 2024.",
            "1. Open the app and tap Returns.",
            "The code (see fig. 3) is valid until 5 p.m. Eastern time.",
            "He asked \"Is it free?\" and left.",
        ] {
            assert_eq!(sentences(whole), [whole]);
        }
    }

    #[test]
    fn an_abbreviation_before_a_usual_opening_word_ends_one() {
        assert_eq!(
            sentences(
                "We are open until 5 p.m. Please call. Delivery is 5 days. It costs $5. Shipping is free."
            ),
            [
                "We are open until 5 p.m.",
                "Please call.",
                "Delivery is 5 days.",
                "It costs $5.",
                "Shipping is free."
            ]
        );
        assert_eq!(sentences("Is it free? No. Returns cost $5."), ["Is it free?", "No.", "Returns cost $5."]);
    }

    #[test]
    fn lists_headings_and_blank_lines_are_ends() {
        let text = "# Returns\nYou may return:\n- shoes\n- jackets, unworn\n1) bags\n\nRefunds\nWe refund.\r\n\r\nBye";
        assert_eq!(
            sentences(text),
            [
                "# Returns",
                "You may return:",
                "- shoes",
                "- jackets, unworn",
                "1) bags",
                "Refunds",
                "We refund.",
                "Bye"
            ]
        );
    }

    #[test]
    fn wrapped_lines_go_on() {
        let text = "You can return any item that you have not worn outside\r\nwithin 30 days of the delivery. We refund \
                    it to the card\nThat you paid with.";
        assert_eq!(sentences(text).len(), 2);
    }

    #[test]
    fn blank_text_has_no_sentences() {
        assert!(split("").is_empty() && split(" \n\t\r\n ").is_empty());
    }

    #[test]
    fn hostile_texts_take_linear_time() {
        // A scan to the end, or back to the start, at each mark takes minutes for these.
        let many = 500_000;
        assert_eq!(split(&". ".repeat(many)).len(), many);
        let blank = " ".repeat(many);
        assert_eq!(split(&format!("{blank}Am {}", "3. Mai ".repeat(many / 5))).len(), 1);
    }

    proptest! {
        #[test]
        fn sentences_hold_all_that_is_not_blank_once(text in r"(?s)([a-zA-ZäÜ。0-9.!?\-#|)( \r\n]|.){0,200}") {
            let mut end = 0;
            for span in split(&text) {
                prop_assert!(text[end..span.bytes.start].trim().is_empty());
                prop_assert!(span.bytes.start >= end && span.bytes.end <= text.len());
                let sentence = span.of(&text);
                prop_assert!(!sentence.is_empty() && sentence.trim() == sentence);
                prop_assert_eq!(span.chars.len(), sentence.chars().count());
                prop_assert_eq!(text[..span.bytes.start].chars().count(), span.chars.start);
                end = span.bytes.end;
            }
            prop_assert!(text[end..].trim().is_empty());
        }
    }
}
