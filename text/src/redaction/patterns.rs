//! Detectors of what has a form of its own: addresses, accounts, ids with letters.
//!
//! Each looks around a sign that cannot be missing (an @, a group of digits, a colon), so that none
//! reads a text more than a few times.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use super::{
    Hit, Kind, checks,
    context::{Hint, Hints},
    national,
    numbers::{BREAK_BYTES, is_line_break},
};

/// The longest mailbox name and the longest domain that are taken, in bytes. RFC 5321 has 64 and 255;
/// what is longer is no address, but its end is hidden like one.
const MAILBOX_BYTES: usize = 192;
const DOMAIN_BYTES: usize = 255;

/// Text that reads like a placeholder.
pub(super) fn literals(text: &str, from: usize, hits: &mut Vec<Hit>) {
    let bytes = text.as_bytes();
    for start in (from..bytes.len()).filter(|&at| bytes[at] == b'[') {
        if let Some(end) = placeholder(&text[start..]) {
            hits.push(hit(start..start + end, Kind::Literal, 1.0, "placeholder"));
        }
    }
}

/// The length of a placeholder that a text begins with.
fn placeholder(text: &str) -> Option<usize> {
    let body = text.strip_prefix('[')?;
    let kind = Kind::ALL
        .iter()
        .map(|kind| kind.as_str())
        .find(|kind| body.strip_prefix(kind).is_some_and(|rest| rest.starts_with('-')))?;
    let digits = &body[kind.len() + 1..];
    let length = digits.bytes().take(10).take_while(u8::is_ascii_digit).count();
    let whole = (1..=9).contains(&length) && !digits.starts_with('0') && digits[length..].starts_with(']');
    whole.then_some(kind.len() + length + 3)
}

/// E-mail addresses, internationalised ones included. Two full stops in a row are of the sentence, not
/// of the address.
pub(super) fn emails(text: &str, from: usize, hits: &mut Vec<Hit>) {
    let mut floor = from;
    let bytes = text.as_bytes();
    for at in (from..bytes.len()).filter(|&at| bytes[at] == b'@') {
        if at < floor {
            continue;
        }
        if let Some(start) = mailbox(text, floor, at)
            && let Some(end) = domain(text, at + 1)
        {
            hits.push(hit(start..end, Kind::Email, 0.99, "email"));
            floor = end;
        }
    }
}

/// Where the mailbox name that ends at `end` begins.
fn mailbox(text: &str, floor: usize, end: usize) -> Option<usize> {
    let floor = floor.max(text.ceil_char_boundary(end.saturating_sub(MAILBOX_BYTES)));
    let mut start = None;
    let mut after = '@';
    let mut place = end;
    for c in text[floor..end].chars().rev() {
        place -= c.len_utf8();
        if is_letter(c) || c == '_' {
            start = Some(place);
        } else if !(matches!(c, '%' | '+' | '-')
            || (matches!(c, '\'' | '’' | '&') && after != '@')
            || (c == '.' && after != '.' && after != '@'))
        {
            break;
        }
        after = c;
    }
    start
}

/// Where the domain that begins at `start` ends.
fn domain(text: &str, start: usize) -> Option<usize> {
    let mut end = None;
    let mut labels = 0;
    let mut letters = 0;
    let mut before = '@';
    for (at, c) in text[start..].char_indices().take_while(|&(at, _)| at < DOMAIN_BYTES) {
        if c == '.' {
            if matches!(before, '@' | '.') {
                break;
            }
            labels += 1;
            letters = 0;
        } else if is_letter(c) || (c == '-' && before != '@') {
            letters = if c.is_alphabetic() { letters + 1 } else { i32::MIN };
            if labels > 0 && letters >= 2 {
                end = Some(start + at + c.len_utf8());
            }
        } else {
            break;
        }
        before = c;
    }
    end
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || (!c.is_ascii() && c.is_alphanumeric())
}

/// IBANs of known countries, in one piece or in groups.
pub(super) fn ibans(text: &str, groups: &[Range<usize>], from: usize, hits: &mut Vec<Hit>) {
    let bytes = text.as_bytes();
    for group in groups {
        // The letters stand right before the digits, or a space before them when it is spelled out.
        let mut start = group.start;
        if start > from && bytes[start - 1] == b' ' && group.len() == 1 {
            start -= 1;
        }
        if start < from + 2 || !bytes[start - 2..start].iter().all(u8::is_ascii_alphabetic) {
            continue;
        }
        start -= 2;
        let Some(length) = checks::iban_length([bytes[start], bytes[start + 1]]) else { continue };
        // The longest has 33 characters.
        let mut characters = [0; 34];
        let mut count = 0;
        let mut end = start;
        while count < length {
            // A mark may stand between two characters, or a line break.
            let Some(joint) = bytes[end..].iter().take(BREAK_BYTES + 1).position(u8::is_ascii_alphanumeric)
            else {
                break;
            };
            let separator = &text[end..end + joint];
            if !matches!(separator, "" | " " | "-" | ".") && !is_line_break(separator) {
                break;
            }
            end += joint;
            characters[count] = bytes[end];
            count += 1;
            end += 1;
        }
        let characters = &characters[..count];
        if count == length
            && characters[2..4].iter().all(u8::is_ascii_digit)
            && !beside(text, &(start..end), is_code)
            && checks::iban(characters)
        {
            hits.push(hit(start..end, Kind::Iban, 0.99, "iban"));
        }
    }
}

/// IPv4 addresses, without the loopback and unspecified ones, which are nobody's.
pub(super) fn ipv4(text: &str, hints: &Hints<'_>, groups: &[Range<usize>], hits: &mut Vec<Hit>) {
    let bytes = text.as_bytes();
    for four in groups.windows(4) {
        let dotted = four.windows(2).all(|two| two[0].end + 1 == two[1].start && bytes[two[0].end] == b'.');
        if !dotted || four.iter().any(|group| group.len() > 3) {
            continue;
        }
        let range = four[0].start..four[3].end;
        let Ok(address) = text[range.clone()].parse::<Ipv4Addr>() else { continue };
        if !touches(text, &range, '.')
            && !address.is_loopback()
            && !address.is_unspecified()
            && hints.before(range.start) != Some(Hint::Thing)
        {
            hits.push(hit(range, Kind::Ip, 0.9, "ipv4"));
        }
    }
}

/// IPv6 addresses, likewise.
pub(super) fn ipv6(text: &str, from: usize, hits: &mut Vec<Hit>) {
    let bytes = text.as_bytes();
    let part = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let mut at = from;
    while at < bytes.len() {
        if !part(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && part(bytes[at]) {
            at += 1;
        }
        // The longest form, with an IPv4 address at its end.
        if at - start > 48 {
            continue;
        }
        // A time or a ratio parses as no address; `::` and the like are somebody's punctuation.
        let written = text[start..at].trim_end_matches('.');
        let written = if written.ends_with("::") { written } else { written.trim_end_matches(':') };
        let head = if written.starts_with("::") {
            0
        } else {
            written.len() - written.trim_start_matches([':', '.']).len()
        };
        let range = start + head..start + written.len();
        let written = &written[head..];
        let groups = written.split(':').filter(|group| !group.is_empty()).count();
        if groups < 2 || written.len() < 6 {
            continue;
        }
        let Ok(address) = written.parse::<Ipv6Addr>() else { continue };
        let beside = inside_word(text, &range) || text[range.end..].starts_with(':');
        if !address.is_loopback() && !beside {
            hits.push(hit(range, Kind::Ip, 0.95, "ipv6"));
        }
    }
}

/// National ids that hold letters.
pub(super) fn national_ids(text: &str, groups: &[Range<usize>], from: usize, hits: &mut Vec<Hit>) {
    let mut behind = from;
    for group in groups {
        if group.start < behind {
            continue;
        }
        let found = nino(text, group, from)
            .or_else(|| spanish(text, group, from))
            .or_else(|| coded(text, group, from));
        if let Some(found) = found {
            behind = found.bytes.end;
            hits.push(found);
        }
    }
}

/// A UK national insurance number: `AB 12 34 56 C`, or spelled out with single spaces.
fn nino(text: &str, group: &Range<usize>, from: usize) -> Option<Hit> {
    let bytes = text.as_bytes();
    let spaced = usize::from(group.start > from && matches!(bytes[group.start - 1], b' ' | b'-'));
    let start = (group.start - spaced).checked_sub(2).filter(|&start| start >= from)?;
    let prefix = text.get(start..start + 2).filter(|two| two.bytes().all(|b| b.is_ascii_alphabetic()))?;
    let mut at = group.start;
    let mut digits = 0;
    while digits < 6 {
        match bytes.get(at)? {
            b'0'..=b'9' => digits += 1,
            b' ' | b'-' if bytes.get(at + 1)?.is_ascii_digit() => {}
            _ => return None,
        }
        at += 1;
    }
    at += usize::from(matches!(bytes.get(at)?, b' ' | b'-'));
    let range = start..at + 1;
    let suffix = bytes.get(at)?.to_ascii_uppercase();
    let whole = (b'A'..=b'D').contains(&suffix) && !inside_word(text, &range);
    (whole && checks::nino_prefix(prefix)).then(|| hit(range, Kind::NationalId, 0.85, "uk-nino"))
}

/// A Spanish DNI or NIE.
fn spanish(text: &str, group: &Range<usize>, from: usize) -> Option<Hit> {
    let bytes = text.as_bytes();
    let mut id = [0; 9];
    let start = match group.len() {
        8 => group.start,
        7 => {
            let dash = usize::from(group.start > from && bytes[group.start - 1] == b'-');
            let start = (group.start - dash).checked_sub(1).filter(|&start| start >= from)?;
            id[0] = bytes[start].to_ascii_uppercase();
            start
        }
        _ => return None,
    };
    let end = group.end + usize::from(matches!(bytes.get(group.end)?, b'-' | b' '));
    let letter = *bytes.get(end)?;
    let range = start..end + 1;
    id[8 - group.len()..8].copy_from_slice(&bytes[group.clone()]);
    id[8] = letter.to_ascii_uppercase();
    // With letters at both ends the range is one of characters.
    (checks::spanish_id(&id) && !inside_word(text, &range))
        .then(|| hit(range, Kind::NationalId, 0.9, "es-dni"))
}

/// A word of letters and digits with a checksum, and a Finnish henkilötunnus.
fn coded(text: &str, group: &Range<usize>, from: usize) -> Option<Hit> {
    let bytes = text.as_bytes();
    if group.len() == 6
        && let Some(end) = national::finnish(bytes, group)
    {
        let range = group.start..end;
        return (!inside_word(text, &range)).then(|| hit(range, Kind::NationalId, 0.95, "fi-hetu"));
    }
    let start =
        bytes[from..group.start].iter().rev().take(17).take_while(|b| b.is_ascii_alphanumeric()).count();
    let range = group.start - start..group.start;
    let length = bytes[range.start..].iter().take(19).take_while(|b| b.is_ascii_alphanumeric()).count();
    if !matches!(length, 16 | 18) {
        return None;
    }
    let range = range.start..range.start + length;
    let mut code = [0; 18];
    let code = &mut code[..length];
    code.copy_from_slice(&bytes[range.clone()]);
    code.make_ascii_uppercase();
    let (detector, score) = national::of_code(code)?;
    (!inside_word(text, &range)).then(|| hit(range, Kind::NationalId, score, detector))
}

pub(super) fn hit(bytes: Range<usize>, kind: Kind, score: f32, detector: &'static str) -> Hit {
    Hit { bytes, kind, score, detector }
}

pub(super) fn inside_word(text: &str, range: &Range<usize>) -> bool {
    beside(text, range, is_word)
}

fn beside(text: &str, range: &Range<usize>, is: fn(char) -> bool) -> bool {
    text[..range.start].chars().next_back().is_some_and(is)
        || text[range.end..].chars().next().is_some_and(is)
}

/// Whether a character next to a number makes both one word. Scripts without case, such as Chinese
/// and Japanese, are written without spaces: their letters stand beside numbers, not in them.
pub(super) fn is_word(c: char) -> bool {
    is_code(c) || (!c.is_ascii() && (c.is_lowercase() || c.is_uppercase() || c.is_numeric()))
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
