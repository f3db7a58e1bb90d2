//! What a text names: people and things by their names, codes, addresses, quoted wording.
//!
//! [`find`] goes by form, not by knowledge: capitals within an English sentence, letters with figures,
//! `@` and `://`, quotation marks. German writes every noun with a capital, so there only words with
//! capitals inside or throughout (PayPal, DHL) count as names.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;

use crate::{
    sentences,
    span::{Span, Spans},
    words::{Language, is_stop_word},
};

/// What is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A name, of one or several words.
    Name,
    /// A code with figures: a product, an order, a version.
    Code,
    /// An e-mail address, a web address or a host.
    Address,
    /// Wording between quotation marks.
    Quoted,
}

/// Something named in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// Where it stands; of quoted wording without the marks.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// The longest quoted wording, in bytes; a mark without its fellow quotes nothing.
const LONGEST_QUOTE: usize = 200;

/// Finds what a text names, in order, never overlapping. Takes time linear in the text.
#[must_use]
pub fn find(text: &str, language: Language) -> Vec<Entity> {
    let mut found: Vec<(Range<usize>, Kind)> = Vec::new();
    let quotes = quotes(text);
    let mut quote = quotes.into_iter().peekable();
    for sentence in sentences::split(text) {
        let range = sentence.bytes;
        let mut name: Option<Range<usize>> = None;
        let mut first = true;
        for (at, chunk) in chunks(&text[range.clone()]) {
            let (start, chunk) = trimmed(range.start + at, chunk);
            let bytes = start..start + chunk.len();
            while quote.peek().is_some_and(|quote| quote.end <= bytes.start) {
                found.extend(name.take().map(|name| (name, Kind::Name)));
                found.extend(quote.next().map(|quote| (quote, Kind::Quoted)));
            }
            let quoted = quote.peek().is_some_and(|quote| quote.start < bytes.end);
            if quoted || chunk.is_empty() {
                first &= chunk.is_empty();
                found.extend(name.take().map(|name| (name, Kind::Name)));
                continue;
            }
            let kind = kind(chunk, first, language);
            first = false;
            match (kind, &mut name) {
                (Some(Kind::Name), Some(open)) if text[open.end..bytes.start].trim().is_empty() => {
                    open.end = bytes.end;
                }
                (Some(Kind::Name), _) => {
                    found.extend(name.replace(bytes).map(|name| (name, Kind::Name)));
                }
                (kind, _) => {
                    found.extend(name.take().map(|name| (name, Kind::Name)));
                    found.extend(kind.map(|kind| (bytes, kind)));
                }
            }
        }
        found.extend(name.take().map(|name| (name, Kind::Name)));
    }
    found.extend(quote.map(|quote| (quote, Kind::Quoted)));
    let mut spans = Spans::new(text);
    found.into_iter().map(|(bytes, kind)| Entity { span: spans.next(bytes), kind }).collect()
}

/// Stretches without white space.
fn chunks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_whitespace().map(move |chunk| (chunk.as_ptr() as usize - text.as_ptr() as usize, chunk))
}

/// A chunk without the punctuation around it and an English genitive.
fn trimmed(start: usize, chunk: &str) -> (usize, &str) {
    let edge = |c: char| !c.is_alphanumeric();
    let begin = chunk.len() - chunk.trim_start_matches(edge).len();
    let chunk = chunk.trim_matches(edge);
    let chunk = chunk.strip_suffix("'s").or_else(|| chunk.strip_suffix("’s")).unwrap_or(chunk);
    (start + begin, chunk)
}

fn kind(chunk: &str, first: bool, language: Language) -> Option<Kind> {
    if is_address(chunk) {
        return Some(Kind::Address);
    }
    let figures = chunk.bytes().filter(u8::is_ascii_digit).count();
    let letters = chunk.chars().filter(|c| c.is_alphabetic()).count();
    if figures > 0 {
        return is_code(chunk, figures, letters).then_some(Kind::Code);
    }
    let mut upper = chunk.chars().filter(|c| c.is_uppercase());
    let capitals = upper.by_ref().count();
    if letters < 2 || capitals == 0 {
        return None;
    }
    let lead = chunk.starts_with(char::is_uppercase);
    // "PayPal", "iPhone", "DHL"; a hyphen lets a new word begin.
    let inner = chunk.split('-').any(|part| part.chars().skip(1).any(char::is_uppercase));
    let word = chunk.unicode_words().next().unwrap_or(chunk);
    let common = |word: &str| {
        let lower = word.to_lowercase().replace('’', "'");
        // "I'm", "You're" and the like.
        let bare = lower.split('\'').next().unwrap_or_default();
        is_stop_word(&lower, language) || is_stop_word(bare, language)
    };
    if inner {
        // A word that is shouted is no name, but "IT" and "US" may be meant; the stop words are not.
        return (!common(word)).then_some(Kind::Name);
    }
    // The first word of a sentence has its capital anyway, and so has a German noun.
    (lead && !first && language == Language::English && !common(word)).then_some(Kind::Name)
}

/// `a@b.c`, `https://...`, `www....`, `example.com/path`.
fn is_address(chunk: &str) -> bool {
    if chunk.contains("://") || chunk.starts_with("www.") {
        return true;
    }
    if let Some((local, domain)) = chunk.split_once('@') {
        return !local.is_empty() && domain.contains('.');
    }
    let host = chunk.split(['/', '?']).next().unwrap_or_default();
    let Some((name, end)) = host.rsplit_once('.') else { return false };
    let known = matches!(end, "com" | "org" | "net" | "de" | "eu" | "io" | "uk" | "at" | "ch" | "example");
    known && !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-'))
}

/// Letters and figures mixed, or figures that no number has; what numbers write (units, ordinals, ranges,
/// dates) is left to them.
fn is_code(chunk: &str, figures: usize, letters: usize) -> bool {
    if letters == 0 {
        // A date, a range, a share: all with marks between; a code has many figures, or many dots.
        return (figures == chunk.len() && figures >= 6) || version(chunk);
    }
    // "30-day", "5kg", "1st", "4x": figures first, then lower case letters.
    let rest = chunk.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '-'));
    let counted = rest.len() < chunk.len() && rest.chars().all(|c| c.is_lowercase() || c == '-');
    // "9:30am", "€5/month"; "USD5" and "CO2" are read as codes, which is what they need to agree as.
    let priced = chunk.contains([':', '/', '%']);
    !counted && !priced
}

fn version(chunk: &str) -> bool {
    let parts: Vec<&str> = chunk.splitn(6, '.').collect();
    let dated = parts.len() == 3 && matches!(parts[2].len(), 2 | 4) && parts[0].len() <= 2;
    // Groups of three are those of a large number.
    let grouped = parts[1..].iter().all(|part| part.len() == 3);
    parts.len() >= 3
        && !dated
        && !grouped
        && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

/// Wording between quotation marks, without them.
fn quotes(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut open: Option<(usize, char)> = None;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let closed = match open {
            Some((start, end)) if c == end || (end == '”' && c == '“') => {
                let body = text[start..at].trim();
                if !body.is_empty() && body.len() <= LONGEST_QUOTE {
                    let from = start + text[start..at].len() - text[start..at].trim_start().len();
                    found.push(from..from + body.len());
                }
                open = None;
                true
            }
            Some((start, _)) if at - start > LONGEST_QUOTE => {
                open = None;
                false
            }
            _ => false,
        };
        if open.is_none() && !closed {
            let end = match c {
                // A straight mark opens where no word stands before it: 5" is a length.
                '"' if !before.is_alphanumeric() => Some('"'),
                '“' | '„' => Some('”'),
                '«' => Some('»'),
                '»' => Some('«'),
                _ => None,
            };
            open = end.map(|end| (at + c.len_utf8(), end));
        }
        before = c;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(text: &str, language: Language) -> Vec<(&str, Kind)> {
        find(text, language).into_iter().map(|entity| (&text[entity.span.bytes], entity.kind)).collect()
    }

    #[test]
    fn names_are_capitals_within_an_english_sentence() {
        let text = "Parcels go with Royal Mail to Ireland. They arrive on Monday, I think, at DHL's shop.";
        assert_eq!(
            named(text, Language::English),
            [
                ("Royal Mail", Kind::Name),
                ("Ireland", Kind::Name),
                ("Monday", Kind::Name),
                ("DHL", Kind::Name)
            ]
        );
        assert!(named("Returns are free. You can do it. I'm sure.", Language::English).is_empty());
    }

    #[test]
    fn german_nouns_are_no_names() {
        let text = "Das Paket kommt mit DHL, bezahlt wird mit PayPal.";
        assert_eq!(named(text, Language::German), [("DHL", Kind::Name), ("PayPal", Kind::Name)]);
    }

    #[test]
    fn codes_addresses_and_quotes_are_told_apart() {
        let text = "Order W4923227 (AB-12) of 3.11.2: see https://acme.example/a or mail help@acme.example, \
                    and choose “Gift wrap” or \"Send\".";
        assert_eq!(
            named(text, Language::English),
            [
                ("W4923227", Kind::Code),
                ("AB-12", Kind::Code),
                ("3.11.2", Kind::Code),
                ("https://acme.example/a", Kind::Address),
                ("help@acme.example", Kind::Address),
                ("Gift wrap", Kind::Quoted),
                ("Send", Kind::Quoted),
            ]
        );
    }

    #[test]
    fn numbers_are_left_to_numbers() {
        let text = "It takes 30 days, a 14-day week, 5kg, the 1st, 10-15, 9:30am, 1.299.000 and 01.05.2026.";
        assert!(named(text, Language::English).is_empty(), "{:?}", named(text, Language::English));
    }

    #[test]
    fn a_lone_mark_quotes_nothing() {
        assert!(named("a screen of 5\" and a \"half", Language::English).is_empty());
        let long = format!("\"{}\"", "a ".repeat(200));
        assert!(named(&long, Language::English).is_empty());
    }

    proptest! {
        #[test]
        fn spans_are_in_order_and_on_characters(text in r#"([A-Z][a-z]{0,4} |["„“”«». ,]|[0-9]{1,3}|[a-z]{1,3}@|://|\PC){0,40}"#) {
            for language in [Language::English, Language::German] {
                let mut end = 0;
                for entity in find(&text, language) {
                    prop_assert!(entity.span.bytes.start >= end, "{:?}", find(&text, language));
                    end = entity.span.bytes.end;
                    prop_assert!(text.get(entity.span.bytes.clone()).is_some_and(|text| !text.is_empty()));
                }
            }
        }
    }
}
