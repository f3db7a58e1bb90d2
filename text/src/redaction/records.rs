//! Numbers of accounts, patients and members, and ids without a check digit: found by the words around.

use std::ops::Range;

use super::{
    Hit, Kind,
    context::{self, Hint, Hints},
    patterns::hit,
};

/// The fewest digits that count: fewer are years, amounts and ages.
const MIN_DIGITS: usize = 4;

/// The most bytes of a code.
const MAX_BYTES: usize = 40;

/// Finds what is called an account number, a member id, a passport number.
pub(super) fn find(text: &str, hints: &Hints<'_>, groups: &[Range<usize>], from: usize, hits: &mut Vec<Hit>) {
    let bytes = text.as_bytes();
    let mut behind = from;
    for (at, group) in groups.iter().enumerate() {
        if group.start < behind {
            continue;
        }
        let start = group.start
            - bytes[behind..group.start].iter().rev().take(12).take_while(|&&byte| in_code(byte)).count();
        let mut end = group.start;
        let mut digits = 0;
        let mut next = at;
        // Codes go on over single spaces while digits follow.
        loop {
            while end < bytes.len() && in_code(bytes[end]) && end - start <= MAX_BYTES {
                digits += usize::from(bytes[end].is_ascii_digit());
                end += 1;
            }
            while groups.get(next).is_some_and(|group| group.start < end) {
                next += 1;
            }
            match groups.get(next) {
                Some(group) if group.start == end + 1 && bytes[end] == b' ' && end - start < MAX_BYTES => {
                    end += 1
                }
                _ => break,
            }
        }
        while end > group.end && !bytes[end - 1].is_ascii_alphanumeric() {
            end -= 1;
        }
        behind = end;
        let beside = text[..start]
            .chars()
            .next_back()
            .is_some_and(|c| c.is_alphanumeric() || matches!(c, '$' | '€' | '£'))
            || text[end..].chars().next().is_some_and(|c| c.is_alphanumeric() || c == '%');
        if digits < MIN_DIGITS || end - start > MAX_BYTES || beside {
            continue;
        }
        let hint = match hints.before(start) {
            hint @ Some(Hint::Record | Hint::Id) => hint,
            _ => context::after(text, end),
        };
        match hint {
            Some(Hint::Record) => hits.push(hit(start..end, Kind::Record, 0.7, "record")),
            Some(Hint::Id) if digits > MIN_DIGITS => {
                hits.push(hit(start..end, Kind::NationalId, 0.6, "id-in-context"));
            }
            _ => {}
        }
    }
}

fn in_code(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}
