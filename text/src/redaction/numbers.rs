//! Detectors of what is made of digits alone: cards, national ids, phone numbers.
//!
//! Digits are cut into groups, and groups with short separators between them into runs, once per
//! text. A detector looks at windows of groups, so `4111 1111 1111 1111 12/27` is a card and an
//! expiry date, and a long number is never cut into a plausible piece. A window holds at most
//! [`MAX_DIGITS`] digits, so all of it is linear in the text.
//!
//! A number may go on behind a line break, but numbers one per line are numbers of their own unless
//! a checksum or the words before say otherwise.

use std::ops::Range;

use super::{
    Hit, Kind, cards, checks,
    context::{self, Hint, Hints, Said},
    national,
    patterns::{is_code, is_word},
};

/// The most digits of anything found here: a payment card (ISO/IEC 7812-1).
pub(super) const MAX_DIGITS: usize = 19;

/// Digits of a text and what stands between them.
#[derive(Default)]
pub(super) struct Digits {
    /// Maximal stretches of ASCII digits.
    pub(super) groups: Vec<Range<usize>>,
    /// What stands between a group and the next.
    gaps: Vec<Gap>,
    /// All digits in a row, and where among them each group begins, with the end of the last.
    row: Vec<u8>,
    begins: Vec<usize>,
}

impl Digits {
    /// Reads the digits of a text from byte `from` on; returns how many there are.
    pub(super) fn read(&mut self, text: &str, from: usize) -> usize {
        self.groups.clear();
        self.gaps.clear();
        self.row.clear();
        self.begins.clear();
        self.begins.push(0);
        let bytes = text.as_bytes();
        let mut at = from;
        while at < bytes.len() {
            if !bytes[at].is_ascii_digit() {
                at += 1;
                continue;
            }
            let start = at;
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                self.row.push(bytes[at]);
                at += 1;
            }
            if let Some(last) = self.groups.last() {
                self.gaps.push(Gap::of(&text[last.end..start]));
            }
            self.groups.push(start..at);
            self.begins.push(self.row.len());
        }
        self.row.len()
    }
}

/// Finds cards, national ids and phone numbers. `spelled` says that the text was spoken, digit by
/// digit.
pub(super) fn find(text: &str, hints: &Hints<'_>, digits: &Digits, spelled: bool, hits: &mut Vec<Hit>) {
    let Digits { groups, gaps, row, begins } = digits;
    cards::marked(text, hints, groups, hits);
    let mut first = 0;
    for next in 1..=groups.len() {
        if next == groups.len() || !gaps[next - 1].joins {
            if begins[next] - begins[first] >= 7 {
                let (groups, gaps, begins) =
                    (&groups[first..next], &gaps[first..next - 1], &begins[first..=next]);
                let said = hints.said(groups[0].start);
                let run = Run { text, groups, gaps, row, begins, spelled, said };
                run.scan(Run::identity, hits);
                run.scan(Run::phone, hits);
            }
            first = next;
        }
    }
}

/// Where a phone number's extension behind byte `at` ends: `x123`, `ext. 5`.
fn extension(text: &str, at: usize) -> Option<usize> {
    let rest = &text.as_bytes()[at..];
    let mut skip = rest.iter().take(2).take_while(|byte| matches!(byte, b' ' | b',')).count();
    let names: [&[u8]; 5] = [b"extension", b"durchwahl", b"ext.", b"ext", b"x"];
    let name = names
        .iter()
        .find(|name| rest.get(skip..skip + name.len()).is_some_and(|word| word.eq_ignore_ascii_case(name)))?;
    skip += name.len();
    skip += usize::from(rest.get(skip) == Some(&b' '));
    let digits = rest[skip..].iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0).then_some(at + skip + digits)
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
    /// It is a line break.
    broken: bool,
}

impl Gap {
    /// A card or an id may end before it, and another begin behind it.
    fn parts(self) -> bool {
        self.loose || !self.single
    }

    fn of(separator: &str) -> Self {
        match separator.as_bytes() {
            b" " => return Self { joins: true, single: true, dials: true, loose: true, broken: false },
            b"-" => return Self { joins: true, single: true, dials: true, loose: false, broken: false },
            [b'a'..=b'z', ..] => return Self::default(),
            _ => {}
        }
        if is_line_break(separator) {
            let single = !separator.contains(')');
            return Self { joins: true, single, dials: true, loose: true, broken: true };
        }
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
            broken: false,
        }
    }
}

/// The most that a line break within a number takes with the spaces around it, in bytes.
pub(super) const BREAK_BYTES: usize = 16;

/// Whether a separator is one line break, with spaces around it, and a hyphen or a closing bracket
/// before it at most.
pub(super) fn is_line_break(separator: &str) -> bool {
    if separator.len() > BREAK_BYTES {
        return false;
    }
    let Some(at) = separator.find(['\r', '\n']) else { return false };
    let (before, after) = separator.split_at(at);
    let after = after.strip_prefix("\r\n").unwrap_or(&after[1..]);
    let mut before = before.trim_matches(blank).chars();
    before.next().is_none_or(|c| dash(c) || c == ')') && before.next().is_none() && after.chars().all(blank)
}

fn blank(c: char) -> bool {
    space(c) || c == '\t'
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
    row: &'t [u8],
    begins: &'t [usize],
    spelled: bool,
    /// What is said before all of it: between its groups there are no words.
    said: Option<Said>,
}

/// Groups in a row.
struct Window<'t> {
    digits: &'t [u8],
    /// Each digit stands by itself.
    lone: bool,
    /// A line ends between two of them.
    broken: bool,
    first: usize,
    last: usize,
}

/// What a detector found: the last group of it, and the hit.
type Found = (usize, Hit);

impl Run<'_> {
    /// Tries a detector at each group, from left to right, and goes on behind what it found.
    /// It is given the first group of the line too.
    fn scan(&self, detector: fn(&Self, usize, usize) -> Option<Found>, hits: &mut Vec<Hit>) {
        let (mut line, mut first) = (0, 0);
        while first < self.groups.len() {
            let next = match detector(self, line, first) {
                Some((last, hit)) => {
                    hits.push(hit);
                    last + 1
                }
                None => first + 1,
            };
            line = (first..next.min(self.gaps.len()))
                .rfind(|&at| self.gaps[at].broken)
                .map_or(line, |at| at + 1);
            first = next;
        }
    }

    /// A card or a national id that begins with group `first`.
    fn identity(&self, _line: usize, first: usize) -> Option<Found> {
        let begins = self.begins(first);
        let glued = first == 0 && cards::glued_before(self.text, self.groups[0].start);
        if !begins && !glued {
            return None;
        }
        let mut lone = true;
        let mut found: Option<Found> = None;
        let mut broken = false;
        let mut cards = None;
        for last in first..self.groups.len() {
            if last > first {
                let gap = self.gaps[last - 1];
                // A card that fills its line ends there; hardly any has fewer digits than this.
                let card = || found.as_ref().is_some_and(|(_, hit)| hit.kind == Kind::Card);
                if !gap.single || (gap.broken && self.window(first, last - 1).len() >= 15 && card()) {
                    break;
                }
                broken |= gap.broken;
            }
            let digits = self.window(first, last);
            if digits.len() > MAX_DIGITS {
                break;
            }
            lone &= self.groups[last].len() == 1;
            if digits.len() < 9 {
                continue;
            }
            let ends = self.ends(last);
            let cards = *cards.get_or_insert_with(|| checks::card_lengths(digits));
            let window = Window { digits, lone, broken, first, last };
            let identified = if begins && ends {
                self.identify(&window, cards)
            } else if ends
                || (last + 1 == self.groups.len() && cards::glued_after(self.text, self.groups[last].end))
            {
                // Letters written onto a card number do not hide it.
                checks::card_of(cards, digits).then_some((Kind::Card, 0.9, "card-in-word"))
            } else {
                None
            };
            if let Some((kind, score, detector)) = identified {
                // So does an id, unless it is the beginning of a card.
                if broken && found.is_some() && kind != Kind::Card {
                    continue;
                }
                let bytes = self.groups[first].start..self.groups[last].end;
                found = Some((last, Hit { bytes, kind, score, detector }));
            }
        }
        found
    }

    /// What the digits of a window are; `cards` has the lengths of cards that begin so.
    fn identify(&self, window: &Window<'_>, cards: u32) -> Option<(Kind, f32, &'static str)> {
        let &Window { digits, lone, broken, first, last } = window;
        let sizes = || self.groups[first..=last].iter().map(Range::len);
        let hint = self.hint(first);
        let listed = || self.is_listed(first, last);
        if checks::card_of(cards, digits) && (hint == Some(Hint::Card) || !listed()) {
            return Some((Kind::Card, 0.97, "card"));
        }
        // Issuer ranges are assigned all the time: where the text speaks of a card, Luhn and a first
        // digit that payment cards have (ISO/IEC 7812-1, major industry identifier) are enough.
        let paying = hint == Some(Hint::Card) && digits.len() >= 12 && (b'2'..=b'6').contains(&digits[0]);
        if paying && !self.is_international(first) && !listed() && checks::luhn(digits) {
            return Some((Kind::Card, 0.8, "card-in-context"));
        }
        // With a weak checksum or none, what stands around it counts.
        if !matches!(digits.len(), 9..=13 | 15 | 18) {
            return None;
        }
        // Digits by themselves have no form: of these lengths they are nothing that is not spoken of.
        let spoken_of = hint.is_some() || last + 1 == self.groups.len();
        if lone && !spoken_of && matches!(digits.len(), 9 | 10 | 12 | 13) {
            return None;
        }
        let said = hint == Some(Hint::Ssn);
        let lone = self.spelled || lone;
        let apart = self.opens(first) && self.closes(last);
        let dashed = || sizes().eq([3, 2, 4]) && self.is_dashed(first) && self.is_dashed(first + 1);
        let told = || hint == Some(Hint::Id) || self.said_after(last) == Some(Hint::Id);
        let formed = || dashed() || (!listed() && sizes().eq([2, 3, 3, 3]));
        if broken && !said && !told() && !formed() {
            return None;
        }
        match digits.len() {
            9 | 11 if !apart && !said => None,
            9 if sizes().eq([3, 2, 4]) && checks::ssn(digits) => {
                let spaced = self.separator(first) == self.separator(first + 1);
                match (said, dashed(), spaced) {
                    (true, ..) => Some((Kind::NationalId, 0.95, "us-ssn")),
                    (_, true, _) => Some((Kind::NationalId, 0.85, "us-ssn")),
                    (_, _, true) if hint != Some(Hint::Thing) => Some((Kind::NationalId, 0.7, "us-ssn")),
                    _ => None,
                }
            }
            9 if (first == last || lone) && said && checks::ssn(digits) => {
                Some((Kind::NationalId, 0.8, "us-ssn"))
            }
            11 if (first == last || sizes().eq([2, 3, 3, 3])) && checks::german_tax_id(digits) => {
                Some((Kind::NationalId, 0.9, "de-tax-id"))
            }
            15 if checks::french_nir(digits) => Some((Kind::NationalId, 0.95, "fr-nir")),
            _ if !apart => None,
            _ => {
                // Only where a separator says so is a form known.
                let mut form = [0u8; 8];
                let parts = last - first + 1;
                let form = if lone || parts > form.len() {
                    &[][..]
                } else {
                    for (size, part) in form.iter_mut().zip(sizes()) {
                        *size = u8::try_from(part).unwrap_or(u8::MAX);
                    }
                    &form[..parts]
                };
                let (detector, score) = national::of_digits(digits, form, told())?;
                Some((Kind::NationalId, score, detector))
            }
        }
    }

    /// A phone number that begins with group `first`: the longest that one of the forms allows.
    fn phone(&self, line: usize, first: usize) -> Option<Found> {
        let apart = self.opens(line)
            || (self.begins(line)
                && context::right_before(self.text, self.groups[line].start) == Some(Hint::Phone));
        // Groups behind a code, as in a mistyped IBAN, are part of it.
        // A lone digit begins one only abroad, or as the North American 1.
        let lone = self.groups[first].len() == 1 && !self.is_international(first) && !self.is_spelled(first);
        let american = lone
            && self.digits(first) == b"1"
            && self.groups.get(first + 1).is_some_and(|next| next.len() == 3);
        if !apart || (first > 0 && !self.opens(first)) || (lone && !american) {
            return None;
        }
        let start = self.phone_start(first);
        let international = self.is_international(first);
        let mut best = None;
        let mut broken = false;
        for last in first..self.groups.len() {
            if last > first {
                let gap = self.gaps[last - 1];
                // What fills its line ends there; hardly any number from abroad is shorter than this.
                let short = international && self.window(first, last - 1).len() < 9;
                if !gap.dials || (gap.broken && best.is_some() && !short) {
                    break;
                }
                broken |= gap.broken;
            }
            let digits = self.window(first, last);
            if digits.len() > 17 {
                break;
            }
            let end = self.groups[last].end;
            if digits.len() < 7 {
                continue;
            }
            if broken && !international && self.hint(first) != Some(Hint::Phone) {
                break;
            }
            let score = self.phone_score(digits, first, last);
            let Some(score) = score
                // One number per line is a number of a known form or none.
                .filter(|&score| {
                    !broken || score > 0.65 || self.gaps[first..last].iter().any(|gap| !gap.broken)
                })
                .filter(|_| international || !(self.is_date(first, last) || self.is_amount(first, last)))
            else {
                continue;
            };
            let extension = extension(self.text, end);
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
        let hint = self.hint(first);
        let other = matches!(hint, Some(Hint::Thing | Hint::Record | Hint::Id | Hint::Ssn | Hint::Card));
        if other {
            return None;
        }
        let said = hint == Some(Hint::Phone) || self.said_after(last) == Some(Hint::Phone);
        let whole = groups.len() == 1;
        // Digit by digit, as one is read out: who counts to ten does not.
        if self.is_spelled(first) {
            let counts = || digits.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
            let lone = || groups.iter().all(|group| group.len() == 1);
            let plausible = said || self.spelled || (10..=11).contains(&digits.len());
            return (plausible
                && (7..=15).contains(&digits.len())
                && (self.spelled || lone())
                && counts() + 3 < digits.len())
            .then_some(if said { 0.85 } else { 0.6 });
        }
        // At most 17 digits are looked at, so at most 17 groups.
        let mut sizes = [0; 17];
        let sizes = &mut sizes[..groups.len()];
        sizes.iter_mut().zip(groups).for_each(|(size, group)| *size = group.len());
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
        // An area code in brackets.
        let bracketed = self.is_bracketed(first);
        if bracketed && sizes.len() >= 2 && (8..=11).contains(&digits.len()) && sizes[0] <= 4 {
            return Some(0.75);
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
        let (hint, end) = self.said?;
        context::reaches(end, self.groups[first].start).then_some(hint)
    }

    fn said_after(&self, last: usize) -> Option<Hint> {
        if last + 1 < self.groups.len() {
            return None;
        }
        context::after(self.text, self.groups[last].end)
    }

    /// Whether the number is given digit by digit from group `first` on.
    fn is_spelled(&self, first: usize) -> bool {
        self.spelled || self.groups[first..].iter().take(4).filter(|group| group.len() == 1).count() == 4
    }

    /// Whether group `first` stands in brackets.
    fn is_bracketed(&self, first: usize) -> bool {
        self.text[..self.groups[first].start].ends_with('(')
            && self.text[self.groups[first].end..].starts_with(')')
    }

    fn digits(&self, at: usize) -> &[u8] {
        self.window(at, at)
    }

    /// The digits of groups in a row.
    fn window(&self, first: usize, last: usize) -> &[u8] {
        &self.row[self.begins[first]..self.begins[last + 1]]
    }

    /// Whether a window that is not all of its run has each of its numbers on a line of its own.
    fn is_listed(&self, first: usize, last: usize) -> bool {
        let broken = |at: usize| self.gaps.get(at).is_some_and(|gap| gap.broken);
        first < last
            && (first..last).all(broken)
            && (broken(last) || first.checked_sub(1).is_some_and(broken))
    }

    /// Whether a hyphen stands between group `at` and the next, perhaps at the end of a line.
    fn is_dashed(&self, at: usize) -> bool {
        let separator = self.separator(at);
        let hyphens = if self.gaps[at].broken { separator.trim_end() } else { separator };
        !hyphens.is_empty() && hyphens.chars().all(dash)
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
