//! What belongs to an address behind its street: a flat, a town, a state, a postal code.

use super::lists::{is_state, is_stop_word};
use crate::redaction::lexicon::Lower;

/// Parts of a house, before their number.
const UNITS: [&str; 16] = [
    "apt",
    "apartment",
    "suite",
    "ste",
    "unit",
    "flat",
    "room",
    "rm",
    "floor",
    "fl",
    "bldg",
    "building",
    "box",
    "top",
    "appartement",
    "wohnung",
];

const DIRECTIONS: [&str; 8] = ["N", "S", "E", "W", "NE", "NW", "SE", "SW"];

/// The most words between a street and its postal code.
const TOWN_WORDS: usize = 6;

/// Where an address goes on to whose street and number end at `end`. `lower` says that towns may be
/// in lower case.
pub(super) fn of(text: &str, end: usize, lower: bool) -> usize {
    let mut end = end;
    for _ in 0..3 {
        match unit(text, end).or_else(|| direction(text, end)) {
            Some(further) => end = further,
            None => break,
        }
    }
    town(text, end, lower).unwrap_or(end)
}

/// White space, commas and line ends from `at` on; where they end. `None` when there are none, or more
/// than belong into an address.
fn gap(text: &str, at: usize) -> Option<usize> {
    let length = text[at..]
        .bytes()
        .take(5)
        .take_while(|byte| matches!(byte, b' ' | b',' | b'\n' | b'\r' | b';'))
        .count();
    (1..=4).contains(&length).then_some(at + length)
}

fn word(text: &str, at: usize) -> &str {
    let rest = &text[at..];
    let part = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’' | '-');
    &rest[..rest.find(|c| !part(c)).unwrap_or(rest.len())]
}

/// `Apt. 4B`, `#12`, `Suite 300`.
fn unit(text: &str, at: usize) -> Option<usize> {
    let start = gap(text, at)?;
    if let Some(rest) = text[start..].strip_prefix('#') {
        let id = word(rest, 0);
        let fits = (1..=6).contains(&id.len()) && id.bytes().any(|byte| byte.is_ascii_digit());
        return fits.then_some(start + 1 + id.len());
    }
    let name = word(text, start);
    let lower = Lower::of(name)?;
    if !UNITS.contains(&lower.as_str()) {
        return None;
    }
    let mut next = start + name.len();
    next += usize::from(text[next..].starts_with('.'));
    next += text[next..].bytes().take(2).take_while(|byte| matches!(byte, b' ' | b'#')).count();
    let id = word(text, next);
    let fits = (1..=7).contains(&id.len()) && (id.bytes().any(|byte| byte.is_ascii_digit()) || id.len() == 1);
    fits.then_some(next + id.len())
}

fn direction(text: &str, at: usize) -> Option<usize> {
    let name = word(text[at..].strip_prefix(' ')?, 0);
    DIRECTIONS.contains(&name).then_some(at + 1 + name.len())
}

/// A town with its state or postal code.
fn town(text: &str, end: usize, lower: bool) -> Option<usize> {
    let mut at = end;
    let mut best = None;
    let mut titled = 0;
    let mut coded = false;
    for count in 0..TOWN_WORDS {
        let Some(start) = gap(text, at) else { break };
        let word = word(text, start);
        if word.is_empty() {
            break;
        }
        at = start + word.len();
        if let Some(stop) = code(text, start, word) {
            best = Some(stop);
            at = stop;
            if count > 0 {
                // A country or a town in front came before it: nothing follows but "United States".
                coded = true;
            }
            if coded && titled > 0 {
                break;
            }
            coded = true;
            continue;
        }
        let upper = word.starts_with(char::is_uppercase);
        if coded {
            // The town behind its code: "10115 Berlin", "1000 Bruxelles Ville".
            if !upper || titled >= 2 || text[..start].ends_with('\n') {
                break;
            }
            titled += 1;
            best = Some(at);
            continue;
        }
        let state =
            count > 0 && is_state(word) && (lower || word.bytes().all(|byte| byte.is_ascii_uppercase()));
        if state {
            best = Some(at);
            titled += 1;
            continue;
        }
        let named = Lower::of(word).is_some_and(|word| !is_stop_word(word.as_str()));
        if !named || !(upper || lower) {
            break;
        }
        titled += 1;
    }
    best
}

/// Where a postal code ends that begins with a word: `62704`, `62704-1234`, `SW1A 1AA`, `K1A 0B1`.
fn code(text: &str, start: usize, word: &str) -> Option<usize> {
    let digits = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let end = start + word.len();
    if let Some((head, tail)) = word.split_once('-') {
        let fits =
            digits(head) && digits(tail) && (2..=5).contains(&head.len()) && (3..=4).contains(&tail.len());
        return fits.then_some(end);
    }
    if digits(word) {
        // "394 13", "1012 AB"
        let next = text[end..].strip_prefix(' ').map(|rest| self::word(rest, 0));
        let spaced = next.is_some();
        let next = next.unwrap_or_default();
        if spaced && word.len() == 3 && next.len() == 2 && digits(next) {
            return Some(end + 3);
        }
        if spaced && word.len() == 4 && next.len() == 2 && next.bytes().all(|byte| byte.is_ascii_uppercase())
        {
            return Some(end + 3);
        }
        return (4..=6).contains(&word.len()).then_some(end);
    }
    // The outward half of a British code, or the first half of a Canadian one.
    let bytes = word.as_bytes();
    let outward = (2..=4).contains(&word.len())
        && bytes[0].is_ascii_alphabetic()
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && word.bytes().any(|byte| byte.is_ascii_digit());
    if !outward || !text[end..].starts_with(' ') {
        return None;
    }
    let inward = self::word(text, end + 1);
    let inner = inward.as_bytes();
    (inner.len() == 3
        && inner[0].is_ascii_digit()
        && inner[2].is_ascii_alphanumeric()
        && inner[1].is_ascii_alphabetic())
    .then_some(end + 1 + 3)
}
