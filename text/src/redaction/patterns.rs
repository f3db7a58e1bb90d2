//! Detectors of what has a form of its own: addresses, accounts, ids with letters.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
    sync::LazyLock,
};

use regex::Regex;

use super::{
    Hit, Kind, checks,
    context::{Hint, Hints},
};

/// The longest e-mail address, in bytes (RFC 5321: 64 before the @, 255 after it).
const EMAIL_BYTES: usize = 320;

// Two full stops in a row are of the sentence, not of the address.
static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    constant(
        r"[\p{L}\p{N}_](?:(?:\.?[\p{L}\p{N}_%+'’&-])*\.?[\p{L}\p{N}_%+-])?@[\p{L}\p{N}](?:\.?[\p{L}\p{N}-])*\.\p{L}{2,}",
    )
});
static IBAN_HEAD: LazyLock<Regex> = LazyLock::new(|| constant(r"(?-u:\b)[A-Za-z]{2}[0-9]{2}"));
static IPV4: LazyLock<Regex> = LazyLock::new(|| constant(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"));
static IPV6: LazyLock<Regex> =
    LazyLock::new(|| constant(r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:\.[0-9]{1,3}){0,3}"));
static NINO: LazyLock<Regex> = LazyLock::new(|| constant(r"(?i-u)\b[A-Z]{2}(?: ?[0-9]{2}){3} ?[A-D]\b"));
static SPANISH: LazyLock<Regex> =
    LazyLock::new(|| constant(r"(?i-u)\b(?:[0-9]{8}|[XYZ]-?[0-9]{7})-?[A-Z]\b"));
/// What [`super::Pseudonyms`] writes, and what is restored.
pub(super) static PLACEHOLDER: LazyLock<Regex> =
    LazyLock::new(|| constant(r"\[(literal|email|iban|card|national-id|ip|phone)-([1-9][0-9]{0,8})\]"));

fn constant(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern")
}

/// Text that reads like a placeholder.
pub(super) fn literals(text: &str, hits: &mut Vec<Hit>) {
    let found =
        PLACEHOLDER.find_iter(text).map(|found| hit(found.range(), Kind::Literal, 1.0, "placeholder"));
    hits.extend(found);
}

/// E-mail addresses, internationalised ones included.
pub(super) fn emails(text: &str, hits: &mut Vec<Hit>) {
    if !text.contains('@') {
        return;
    }
    let found = EMAIL.find_iter(text).filter(|found| found.len() <= EMAIL_BYTES);
    hits.extend(found.map(|found| hit(found.range(), Kind::Email, 0.99, "email")));
}

/// IBANs of known countries, in one piece or in groups.
pub(super) fn ibans(text: &str, hits: &mut Vec<Hit>) {
    let bytes = text.as_bytes();
    for head in IBAN_HEAD.find_iter(text) {
        let start = head.start();
        let Some(length) = checks::iban_length([bytes[start], bytes[start + 1]]) else { continue };
        let mut characters = Vec::with_capacity(length);
        let mut separated = false;
        let mut end = start;
        for (at, character) in text[start..].char_indices() {
            if character.is_ascii_alphanumeric() {
                characters.push(character as u8);
                (separated, end) = (false, start + at + 1);
                if characters.len() == length {
                    break;
                }
            } else if !separated && matches!(character, ' ' | '\u{a0}' | '\u{202f}' | '-' | '.') {
                separated = true;
            } else {
                break;
            }
        }
        if characters.len() == length && !beside(text, &(start..end), is_code) && checks::iban(&characters) {
            hits.push(hit(start..end, Kind::Iban, 0.99, "iban"));
        }
    }
}

/// IP addresses, without the loopback and unspecified ones, which are nobody's.
pub(super) fn addresses(text: &str, hits: &mut Vec<Hit>) {
    for found in IPV4.find_iter(text) {
        let Ok(address) = found.as_str().parse::<Ipv4Addr>() else { continue };
        let lone = !touches(text, &found.range(), '.');
        if lone && !address.is_loopback() && !address.is_unspecified() && !is_version(text, found.start()) {
            hits.push(hit(found.range(), Kind::Ip, 0.9, "ipv4"));
        }
    }
    if !text.contains(':') {
        return;
    }
    for found in IPV6.find_iter(text) {
        // A time or a ratio parses as no address; `::` and the like are somebody's punctuation.
        let written = found.as_str().trim_end_matches('.');
        let written = if written.ends_with("::") { written } else { written.trim_end_matches(':') };
        let Ok(address) = written.parse::<Ipv6Addr>() else { continue };
        let range = found.start()..found.start() + written.len();
        let groups = written.split(':').filter(|group| !group.is_empty()).count();
        if groups >= 2 && written.len() >= 6 && !address.is_loopback() && !touches(text, &range, ':') {
            hits.push(hit(range, Kind::Ip, 0.95, "ipv6"));
        }
    }
}

/// National ids that hold letters.
pub(super) fn national_ids(text: &str, hits: &mut Vec<Hit>) {
    for found in NINO.find_iter(text) {
        if checks::nino_prefix(&found.as_str()[..2]) && !inside_word(text, &found.range()) {
            hits.push(hit(found.range(), Kind::NationalId, 0.85, "uk-nino"));
        }
    }
    for found in SPANISH.find_iter(text) {
        let id: Vec<u8> =
            found.as_str().bytes().filter(|&b| b != b'-').map(|b| b.to_ascii_uppercase()).collect();
        if checks::spanish_id(&id) && !inside_word(text, &found.range()) {
            hits.push(hit(found.range(), Kind::NationalId, 0.9, "es-dni"));
        }
    }
}

fn hit(bytes: Range<usize>, kind: Kind, score: f32, detector: &'static str) -> Hit {
    Hit { bytes, kind, score, detector }
}

fn inside_word(text: &str, range: &Range<usize>) -> bool {
    beside(text, range, is_word)
}

fn beside(text: &str, range: &Range<usize>, is: fn(char) -> bool) -> bool {
    text[..range.start].chars().next_back().is_some_and(is)
        || text[range.end..].chars().next().is_some_and(is)
}

/// Whether a character next to a number makes both one word. Scripts without case, such as Chinese
/// and Japanese, are written without spaces: their letters stand beside numbers, not in them.
pub(super) fn is_word(c: char) -> bool {
    is_code(c) || c.is_lowercase() || c.is_uppercase() || c.is_numeric()
}

/// Whether a character next to a number with a checksum makes it a piece of something longer.
pub(super) fn is_code(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether a dotted or coloned number goes on, or hangs on a word.
fn touches(text: &str, range: &Range<usize>, joint: char) -> bool {
    let goes_on = text[range.end..]
        .strip_prefix(joint)
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()));
    goes_on || text[..range.start].ends_with(joint) || inside_word(text, range)
}

/// Whether the words before say that dotted numbers are a version.
fn is_version(text: &str, at: usize) -> bool {
    let mut from = at.saturating_sub(24);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    Hints::of(&text[from..at]).before(at - from) == Some(Hint::Thing)
}
