//! Payment cards that are written in an unusual way: with marks between their groups, or onto a word.

use std::ops::Range;

use super::{
    Hit, Kind, checks,
    context::{Hint, Hints},
    numbers::MAX_DIGITS,
    patterns::is_code,
};

/// The groups that cards are printed in, behind the first, which has four digits.
const FORMS: [&[usize]; 4] = [&[4, 4, 4, 3], &[4, 4, 4], &[6, 5], &[6, 4]];

/// The longest word that is looked at beside a number, in bytes.
const WORD_BYTES: usize = 32;

/// Finds cards whose groups have a comma, a slash or a vertical bar between them. One that goes on with
/// more groups of four is a list of numbers, unless the words before speak of a card.
pub(super) fn marked(text: &str, hints: &Hints<'_>, groups: &[Range<usize>], hits: &mut Vec<Hit>) {
    let mut first = 0;
    while first + 2 < groups.len() {
        let marked = groups[first].len() == 4 && mark(text, groups, first).is_some();
        let found = FORMS.iter().filter(|_| marked).find_map(|form| card(text, hints, groups, first, form));
        first += match found {
            Some((count, hit)) => {
                hits.push(hit);
                count
            }
            None => 1,
        };
    }
}

/// The card of a form that begins with group `first`, and of how many groups it is.
fn card(
    text: &str,
    hints: &Hints<'_>,
    groups: &[Range<usize>],
    first: usize,
    form: &[usize],
) -> Option<(usize, Hit)> {
    let last = first + form.len();
    let window = groups.get(first..=last)?;
    let mark = mark(text, groups, first)?;
    let same = |at: usize| self::mark(text, groups, at) == Some(mark);
    let fits =
        window[1..].iter().zip(form).all(|(group, &size)| group.len() == size) && (first + 1..last).all(same);
    if !fits {
        return None;
    }
    let bytes = window[0].start..window[form.len()].end;
    let mut digits = [0; MAX_DIGITS];
    let mut count = 0;
    for group in window {
        digits[count..count + group.len()].copy_from_slice(&text.as_bytes()[group.clone()]);
        count += group.len();
    }
    let inside = text[..bytes.start].ends_with(is_code) || text[bytes.end..].starts_with(is_code);
    let more = |at: usize, next: usize| same(at) && groups.get(next).is_some_and(|group| group.len() == 4);
    let listed = more(last, last + 1) || first.checked_sub(1).is_some_and(|before| more(before, before));
    (!inside && checks::card(&digits[..count]) && (!listed || hints.before(bytes.start) == Some(Hint::Card)))
        .then_some((window.len(), Hit { bytes, kind: Kind::Card, score: 0.95, detector: "card-marked" }))
}

/// What stands between group `at` and the next, when it is such a mark, perhaps with a space on
/// either side.
fn mark<'t>(text: &'t str, groups: &[Range<usize>], at: usize) -> Option<&'t str> {
    let separator = &text[groups.get(at)?.end..groups.get(at + 1)?.start];
    (separator.len() <= 3 && matches!(separator.trim_matches(' '), "," | "/" | "|")).then_some(separator)
}

/// Whether a word ends right before byte `at` that is not itself the end of a code such as `GB29NWBK`.
pub(super) fn glued_before(text: &str, at: usize) -> bool {
    is_plain_word(text.as_bytes()[..at].iter().rev())
}

/// Whether a word begins at byte `at` that is not itself the beginning of a code.
pub(super) fn glued_after(text: &str, at: usize) -> bool {
    is_plain_word(text.as_bytes()[at..].iter())
}

/// Whether letters or underscores come, and no digit right behind them.
fn is_plain_word<'b>(bytes: impl Iterator<Item = &'b u8>) -> bool {
    let mut length = 0;
    for byte in bytes.take(WORD_BYTES) {
        if !byte.is_ascii_alphabetic() && *byte != b'_' {
            return length > 0 && !byte.is_ascii_digit();
        }
        length += 1;
    }
    length > 0
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, find};

    fn cards(text: &str) -> Vec<&str> {
        find(text).iter().filter(|found| found.kind == Kind::Card).map(|found| found.span.of(text)).collect()
    }

    #[test]
    fn marks_between_groups_hide_no_card() {
        for card in [
            "4111|1111|1111|1111",
            "4111,1111,1111,1111",
            "4111/1111/1111/1111",
            "4111 | 1111 | 1111 | 1111",
            "4111, 1111, 1111, 1111",
            "3782/822463/10005",
        ] {
            for text in [format!("pay {card}."), format!("{card}|12|27|123"), format!("card:{card},12/27")] {
                assert_eq!(cards(&text), [card], "{text:?}");
            }
        }
        for text in [
            "4111,1111,1111,1112",
            "4111,1111|1111,1111",
            "sold 4111,1111,1111,1111,2500 pieces",
            "2019/2020/2021/2022",
            "1,299.00",
        ] {
            assert_eq!(cards(text), [""; 0], "{text:?}");
        }
    }

    #[test]
    fn a_word_written_onto_a_card_does_not_hide_it() {
        let card = "4111111111111111";
        for around in ["cardN", "card_N", "NUSD", "N_x", "_N_", "xNx", "my cardN, thanks"] {
            let text = around.replace('N', card);
            assert_eq!(cards(&text), [card], "{text:?}");
        }
        assert_eq!(cards("card4111 1111 1111 1111USD"), ["4111 1111 1111 1111"]);
        for around in ["0xN", "Nb7", "1Z9AAN"] {
            let text = around.replace('N', card);
            assert_eq!(cards(&text), [""; 0], "{text:?}");
        }
        assert_eq!(cards("card4111111111111112"), [""; 0]);
    }
}
