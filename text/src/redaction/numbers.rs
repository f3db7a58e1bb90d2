//! Detectors of what is made of digits alone: cards, national ids, phone numbers.
//!
//! Digits are cut into groups, and groups with short separators between them into runs, once per
//! text. A detector looks at windows of groups, so `4111 1111 1111 1111 12/27` is a card and an
//! expiry date, and a long number is never cut into a plausible piece. A window holds at most
//! [`MAX_DIGITS`] digits, so all of it is linear in the text.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::{
    Hit, Kind, checks,
    context::{Hint, Hints},
    patterns::{is_code, is_word},
};

/// The most digits of anything found here: a payment card (ISO/IEC 7812-1).
const MAX_DIGITS: usize = 19;

/// A phone number's extension: `x123`, `ext. 5`.
static EXTENSION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?i:[ ,]{0,2}(?:x|ext\.?|extension|durchwahl) ?)[0-9]{1,6}").expect("a constant pattern")
});

/// Finds cards, national ids and phone numbers.
pub(super) fn find(text: &str, hits: &mut Vec<Hit>) {
    let groups = groups(text);
    if groups.iter().map(Range::len).sum::<usize>() < 7 {
        return;
    }
    let gaps: Vec<Gap> = groups.windows(2).map(|pair| Gap::of(&text[pair[0].end..pair[1].start])).collect();
    let hints = Hints::of(text);
    let mut first = 0;
    for next in 1..=groups.len() {
        if next == groups.len() || !gaps[next - 1].joins {
            let run = Run { text, groups: &groups[first..next], gaps: &gaps[first..next - 1], hints: &hints };
            run.scan(Run::identity, hits);
            run.scan(Run::phone, hits);
            first = next;
        }
    }
}

/// Maximal stretches of ASCII digits.
fn groups(text: &str) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_digit()) {
        match groups.last_mut() {
            Some(last) if last.end == at && byte.is_ascii_digit() => last.end += 1,
            _ => groups.push(at..at + 1),
        }
    }
    groups
}

/// What the separator between two groups allows; found once, since windows overlap.
#[derive(Clone, Copy, Default)]
struct Gap {
    /// It can stand within a number.
    joins: bool,
    /// It can stand within a card or an id.
    single: bool,
    /// It can stand within a phone number: a full stop with a space ends a sentence.
    dials: bool,
    /// Two numbers may stand on either side of it.
    loose: bool,
}

impl Gap {
    /// A card or an id may end before it, and another begin behind it.
    fn parts(self) -> bool {
        self.loose || !self.single
    }

    fn of(separator: &str) -> Self {
        let count = separator.chars().take(4).count();
        if count > 3 || !separator.chars().all(|c| space(c) || dash(c) || ".()/".contains(c)) {
            return Self::default();
        }
        let spaced = separator.contains(space);
        Self {
            joins: true,
            single: separator.chars().all(|c| space(c) || dash(c)) || separator == ".",
            dials: !(spaced && separator.contains('.')),
            loose: spaced || separator.contains('/'),
        }
    }
}

fn space(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{2007}' | '\u{2009}' | '\u{202f}')
}

fn dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// Groups of digits that may belong together.
struct Run<'t> {
    text: &'t str,
    groups: &'t [Range<usize>],
    gaps: &'t [Gap],
    hints: &'t Hints,
}

/// What a detector found: the last group of it, and the hit.
type Found = (usize, Hit);

impl Run<'_> {
    /// Tries a detector at each group, from left to right, and goes on behind what it found.
    fn scan(&self, detector: fn(&Self, usize) -> Option<Found>, hits: &mut Vec<Hit>) {
        let mut first = 0;
        while first < self.groups.len() {
            match detector(self, first) {
                Some((last, hit)) => {
                    hits.push(hit);
                    first = last + 1;
                }
                None => first += 1,
            }
        }
    }

    /// A card or a national id that begins with group `first`.
    fn identity(&self, first: usize) -> Option<Found> {
        if !self.begins(first) {
            return None;
        }
        let mut digits = Vec::with_capacity(MAX_DIGITS);
        let mut found = None;
        for last in first..self.groups.len() {
            if last > first && !self.gaps[last - 1].single {
                break;
            }
            if digits.len() + self.groups[last].len() > MAX_DIGITS {
                break;
            }
            digits.extend_from_slice(self.digits(last));
            if digits.len() >= 9
                && self.ends(last)
                && let Some((kind, score, detector)) = self.identify(&digits, first, last)
            {
                let bytes = self.groups[first].start..self.groups[last].end;
                found = Some((last, Hit { bytes, kind, score, detector }));
            }
        }
        found
    }

    fn identify(&self, digits: &[u8], first: usize, last: usize) -> Option<(Kind, f32, &'static str)> {
        let sizes = || self.groups[first..=last].iter().map(Range::len);
        if checks::card(digits) {
            return Some((Kind::Card, 0.97, "card"));
        }
        // Issuer ranges are assigned all the time: where the text speaks of a card, Luhn and a first
        // digit that payment cards have (ISO/IEC 7812-1, major industry identifier) are enough.
        let paying = digits.len() >= 12 && (b'2'..=b'6').contains(&digits[0]);
        if paying && self.hint(first) == Some(Hint::Card) && checks::luhn(digits) {
            return Some((Kind::Card, 0.8, "card-in-context"));
        }
        // With a weak checksum or none, what stands around it counts.
        let said = self.hint(first) == Some(Hint::Ssn);
        let apart = self.opens(first) && self.closes(last);
        match digits.len() {
            9 | 11 if !apart && !said => None,
            9 if sizes().eq([3, 2, 4]) && checks::ssn(digits) => {
                let dashed =
                    self.separator(first).chars().all(dash) && self.separator(first + 1).chars().all(dash);
                let spaced = self.separator(first) == self.separator(first + 1);
                match (said, dashed, spaced) {
                    (true, ..) => Some((Kind::NationalId, 0.95, "us-ssn")),
                    (_, true, _) => Some((Kind::NationalId, 0.85, "us-ssn")),
                    (_, _, true) if self.hint(first) != Some(Hint::Thing) => {
                        Some((Kind::NationalId, 0.7, "us-ssn"))
                    }
                    _ => None,
                }
            }
            9 if first == last && said && checks::ssn(digits) => Some((Kind::NationalId, 0.8, "us-ssn")),
            11 if (first == last || sizes().eq([2, 3, 3, 3])) && checks::german_tax_id(digits) => {
                Some((Kind::NationalId, 0.9, "de-tax-id"))
            }
            15 if checks::french_nir(digits) => Some((Kind::NationalId, 0.95, "fr-nir")),
            _ => None,
        }
    }

    /// A phone number that begins with group `first`: the longest that one of the forms allows.
    fn phone(&self, first: usize) -> Option<Found> {
        let named = self.hints.right_before(self.groups[0].start) == Some(Hint::Phone);
        let apart = self.opens(0) || (named && self.begins(0));
        // Groups behind a code, as in a mistyped IBAN, are part of it.
        // A lone digit begins one only abroad, or as the North American 1.
        let lone = self.groups[first].len() == 1 && !self.is_international(first);
        let american = lone
            && self.digits(first) == b"1"
            && self.groups.get(first + 1).is_some_and(|next| next.len() == 3);
        if !apart || (first > 0 && !self.opens(first)) || (lone && !american) {
            return None;
        }
        let start = self.phone_start(first);
        let mut best = None;
        let mut digits = Vec::with_capacity(MAX_DIGITS);
        for last in first..self.groups.len() {
            if last > first && !self.gaps[last - 1].dials {
                break;
            }
            if digits.len() + self.groups[last].len() > 17 {
                break;
            }
            digits.extend_from_slice(self.digits(last));
            let end = self.groups[last].end;
            if digits.len() < 7 {
                continue;
            }
            let Some(score) = self.phone_score(&digits, first, last) else { continue };
            let extension = EXTENSION.find(&self.text[end..]).map(|found| end + found.end());
            if extension.is_some() || self.closes(last) {
                let bytes = start..extension.unwrap_or(end);
                best = Some((last, Hit { bytes, kind: Kind::Phone, score, detector: "phone" }));
            }
        }
        best
    }

    /// How sure it is that a window is a phone number; `None` when it has no such form.
    fn phone_score(&self, digits: &[u8], first: usize, last: usize) -> Option<f32> {
        let groups = &self.groups[first..=last];
        if self.is_international(first) {
            let code = checks::country_code(digits)?;
            // North America has exactly ten digits behind its code, others no fixed length (E.164).
            let fits = if code == 1 && digits[0] == b'1' {
                digits.len() == 11
            } else {
                (8..=15).contains(&digits.len())
            };
            return fits.then_some(0.95);
        }
        // At most 17 digits are looked at, so at most 17 groups.
        let mut sizes = [0; 17];
        let sizes = &mut sizes[..groups.len()];
        sizes.iter_mut().zip(groups).for_each(|(size, group)| *size = group.len());
        let hint = self.hint(first);
        if hint == Some(Hint::Thing) || self.is_date(first, last) || self.is_amount(first, last) {
            return None;
        }
        let said = hint == Some(Hint::Phone);
        let whole = sizes.len() == 1;
        // A number called from abroad, with the prefix that most of the world dials.
        if let Some(rest) = digits.strip_prefix(b"00") {
            let plausible = (9..=15).contains(&rest.len()) && (!whole || said || rest.len() >= 10);
            return (checks::country_code(rest).is_some() && plausible && sizes.len() <= 7).then_some(0.8);
        }
        // North America: 3-3-4 with an optional 1 (NANP; an area code begins with 2 to 9).
        let american = match *sizes {
            [3, 3, 4] => digits[0] >= b'2',
            [1, 3, 3, 4] => digits[0] == b'1' && digits[1] >= b'2',
            _ => false,
        };
        if american {
            return Some(0.85);
        }
        // Small groups are numbers of their own: dates, times, lists.
        let grouped = sizes.iter().all(|&size| size >= 2) && (sizes.len() <= 4 || self.is_pairs(first, last));
        // A trunk zero before the area code, as in most of Europe, Asia and Australia.
        if digits[0] == b'0' && digits[1] != b'0' && (9..=12).contains(&digits.len()) {
            if whole {
                return (10..=11).contains(&digits.len()).then_some(if said { 0.9 } else { 0.6 });
            }
            let pairs = sizes.iter().all(|&size| size == 2);
            return (grouped && (!pairs || self.is_pairs(first, last))).then_some(0.8);
        }
        // Everything else only where the words before say so.
        (said && (7..=12).contains(&digits.len()) && (whole || grouped)).then_some(0.65)
    }

    /// Five pairs with one separator, as French numbers are written.
    fn is_pairs(&self, first: usize, last: usize) -> bool {
        last - first == 4
            && self.groups[first..=last].iter().all(|group| group.len() == 2)
            && (first..last).all(|at| self.separator(at) == self.separator(first))
    }

    /// Whether three neighbouring groups are a date with a year from 1900 to 2099.
    fn is_date(&self, first: usize, last: usize) -> bool {
        let value = |at: usize| match self.digits(at) {
            digits if digits.len() <= 4 => checks::number(digits),
            _ => u64::MAX,
        };
        let day = |at: usize| self.groups[at].len() <= 2 && (1..=31).contains(&value(at));
        let year = |at: usize| self.groups[at].len() == 4 && (1900..=2099).contains(&value(at));
        (first..(last + 1).saturating_sub(2))
            .any(|at| (day(at) && day(at + 1) && year(at + 2)) || (year(at) && day(at + 1) && day(at + 2)))
    }

    /// Whether a currency or percent sign stands at a number.
    fn is_amount(&self, first: usize, last: usize) -> bool {
        const SIGNS: [char; 6] = ['$', '€', '£', '¥', '%', '₹'];
        let before = self.text[..self.groups[first].start].trim_end_matches(space);
        let after = self.text[self.groups[last].end..].trim_start_matches(space);
        before.ends_with(SIGNS)
            || after.starts_with(SIGNS)
            || ["EUR", "USD", "GBP", "CHF", "Euro"].iter().any(|code| after.starts_with(code))
    }

    fn is_international(&self, first: usize) -> bool {
        self.text[..self.groups[first].start].ends_with('+')
    }

    fn hint(&self, first: usize) -> Option<Hint> {
        self.hints.before(self.groups[first].start)
    }

    fn digits(&self, at: usize) -> &[u8] {
        self.text[self.groups[at].clone()].as_bytes()
    }

    /// What stands between group `at` and the next.
    fn separator(&self, at: usize) -> &str {
        &self.text[self.groups[at].end..self.groups[at + 1].start]
    }

    /// Where a phone number begins, with its plus sign and opening bracket.
    fn phone_start(&self, first: usize) -> usize {
        let mut start = self.groups[first].start;
        for sign in ['+', '('] {
            let closed = sign != '(' || self.text[start..].chars().take(12).any(|c| c == ')');
            if self.text[..start].ends_with(sign) && closed {
                start -= 1;
            }
        }
        start
    }

    /// Whether a number with a checksum may begin with group `first`.
    fn begins(&self, first: usize) -> bool {
        if first > 0 {
            return self.gaps[first - 1].parts();
        }
        !self.text[..self.groups[0].start].ends_with(is_code)
    }

    /// Whether a number with a checksum may end with group `last`.
    fn ends(&self, last: usize) -> bool {
        if last + 1 < self.groups.len() {
            return self.gaps[last].parts();
        }
        !self.text[self.groups[last].end..].starts_with(is_code)
    }

    /// Whether any number may begin with group `first`: it is not the tail of something longer.
    fn opens(&self, first: usize) -> bool {
        if first > 0 {
            return self.gaps[first - 1].loose;
        }
        let before = self.text[..self.groups[0].start].trim_end_matches(['+', '(']);
        let mut back = before.chars().rev();
        match back.next() {
            None => true,
            Some(c) if is_word(c) || "=#@".contains(c) => false,
            // A decimal.
            Some('.' | ',') => !back.next().is_some_and(char::is_numeric),
            // The tail of a code such as AB-1234, or of a path.
            Some(c) if dash(c) || c == '/' => !back.next().is_some_and(is_word),
            Some(_) => true,
        }
    }

    /// Whether any number may end with group `last`.
    fn closes(&self, last: usize) -> bool {
        if last + 1 < self.groups.len() {
            return self.gaps[last].loose;
        }
        let mut next = self.text[self.groups[last].end..].chars();
        match next.next() {
            None => true,
            Some(c) if is_word(c) => false,
            Some('.' | ',' | ':') => !next.next().is_some_and(char::is_numeric),
            Some(c) if dash(c) || c == '/' => !next.next().is_some_and(is_word),
            Some(_) => true,
        }
    }
}
