//! Numbers in prose with what they mean: amounts of money, shares, lengths of time, dates, times of day.
//!
//! [`find`] reads figures and spelled numbers, English and German, and gives each a [`Value`] in a normal
//! form, so that "two weeks" meets "14 days" and "1.299,00 €" meets "EUR 1299". [`Number::agrees`] compares
//! two of them. A run of figures that is part of a code (`A-4711`, `3.11.2`, a phone number) is no number.

mod figures;
mod spelled;
mod tokens;
mod units;

use std::ops::Range;

use self::{
    tokens::{Token, TokenKind},
    units::Unit,
};
use crate::{
    span::{Span, Spans},
    words::Language,
};

/// What a number says, in a normal form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A number of something, or of nothing that is known here.
    Plain(f64),
    /// A share in percent.
    Percent(f64),
    /// An amount of money.
    Money {
        /// In the currency's main unit.
        amount: f64,
        /// ISO 4217, such as `EUR`; of signs that several share the usual one (`$` is `USD`).
        currency: &'static str,
    },
    /// A length of time from seconds to weeks, in hours; a day has 24.
    Hours(f64),
    /// A number of days that are worked.
    WorkingDays(f64),
    /// A number of months; a year has 12.
    Months(f64),
    /// A length, mass, volume or amount of data.
    Measure {
        /// In the unit.
        amount: f64,
        /// The unit: `m`, `g`, `l` or `byte`.
        unit: &'static str,
    },
    /// A time of day, in minutes after midnight.
    Time(u16),
    /// A date, as far as it is told.
    Date {
        /// The year, where it is told.
        year: Option<u16>,
        /// 1 to 12.
        month: u8,
        /// 1 to 31, where it is told.
        day: Option<u8>,
    },
}

/// A number in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Number {
    /// Where it stands, sign, currency and unit included.
    pub span: Span,
    /// What it says.
    pub value: Value,
    /// The figure as written, whatever it counts; of a date the day, else the month.
    pub figure: f64,
}

impl Number {
    /// Whether both say the same: equal in the normal form, or in the figure when one of them does not
    /// say what it counts. Dates agree in what both tell.
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        use Value::{Date, Hours, Measure, Money, Months, Percent, Plain, Time, WorkingDays};
        match (self.value, other.value) {
            (Percent(a), Percent(b))
            | (Hours(a), Hours(b))
            | (WorkingDays(a), WorkingDays(b))
            | (Months(a), Months(b)) => near(a, b),
            (Money { amount: a, currency: of }, Money { amount: b, currency }) => {
                of == currency && near(a, b)
            }
            (Measure { amount: a, unit: of }, Measure { amount: b, unit }) => of == unit && near(a, b),
            (Time(a), Time(b)) => a == b,
            (Date { year, month, day }, Date { year: other_year, month: other_month, day: other_day }) => {
                let same = |a: Option<u16>, b: Option<u16>| a.is_none() || b.is_none() || a == b;
                month == other_month
                    && same(year, other_year)
                    && same(day.map(u16::from), other_day.map(u16::from))
            }
            (Plain(_), _) | (_, Plain(_)) => near(self.figure, other.figure),
            _ => false,
        }
    }
}

/// Equal but for what binary fractions lose.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0)
}

/// Finds numbers, in order, never overlapping. Takes time linear in the text.
///
/// The language decides what `1.299` and `01/02/2026` mean, and no more.
#[must_use]
pub fn find(text: &str, language: Language) -> Vec<Number> {
    let tokens = tokens::split(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = Reader { tokens: &tokens, language }.read(at, &mut found);
    }
    share_units(text, &mut found);
    let mut spans = Spans::new(text);
    found
        .into_iter()
        .map(|Raw { bytes, value, figure }| Number { span: spans.next(bytes), value, figure })
        .collect()
}

/// Whether a lower-case word is a number or a part of one.
pub(crate) fn is_spelled(word: &str) -> bool {
    spelled::is_part(word)
}

/// A number before its place is counted in characters.
#[derive(Clone, Debug)]
struct Raw {
    bytes: Range<usize>,
    value: Value,
    figure: f64,
}

/// In "3 to 5 days" the unit belongs to both.
fn share_units(text: &str, found: &mut [Raw]) {
    for at in (1..found.len()).rev() {
        let (before, after) = found.split_at_mut(at);
        let (Some(first), Some(second)) = (before.last_mut(), after.first()) else { continue };
        let Value::Plain(figure) = first.value else { continue };
        let between = text[first.bytes.end..second.bytes.start].trim();
        if !units::JOINING.iter().any(|joining| between.eq_ignore_ascii_case(joining)) {
            continue;
        }
        // The factor between figure and value is that of the unit.
        let scaled = |value: f64| if second.figure == 0.0 { figure } else { figure * value / second.figure };
        first.value = match second.value {
            Value::Percent(_) => Value::Percent(figure),
            Value::Money { currency, amount } => Value::Money { amount: scaled(amount), currency },
            Value::Hours(value) => Value::Hours(scaled(value)),
            Value::WorkingDays(_) => Value::WorkingDays(figure),
            Value::Months(value) => Value::Months(scaled(value)),
            Value::Measure { amount, unit } => Value::Measure { amount: scaled(amount), unit },
            _ => continue,
        };
    }
}

struct Reader<'t> {
    tokens: &'t [Token<'t>],
    language: Language,
}

impl Reader<'_> {
    /// Reads what begins with the token at `at`; gives the token to go on with.
    fn read(&self, at: usize, found: &mut Vec<Raw>) -> usize {
        let Some(token) = self.tokens.get(at) else { return at + 1 };
        if let Some((raw, next)) = self.date(at) {
            found.push(raw);
            return next;
        }
        let first = match token.kind {
            TokenKind::Figures if !token.part_of_code => {
                if let Some(value) = figures::fixed(token.text, self.language) {
                    return self.time_or_date(at, value, found);
                }
                if let Some((low, high)) = figures::range(token.text, self.language) {
                    // "10-15": two numbers in one run.
                    let dash = token.text.find('-').unwrap_or(0);
                    let middle = token.bytes.start + dash;
                    found.push(Raw {
                        bytes: token.bytes.start..middle,
                        value: Value::Plain(low),
                        figure: low,
                    });
                    return self.counted(at, middle + 1, high, at + 1, found);
                }
                figures::number(token.text, self.language).map(|value| (value, at + 1))
            }
            TokenKind::Word => spelled::read(self.tokens, at).filter(|&(value, next)| {
                // "one" and "ein" are hardly ever numbers but before a unit.
                value > 1.0 || next > at + 1 || self.unit(next).is_some()
            }),
            _ => None,
        };
        match first {
            Some((value, next)) => self.counted(at, token.bytes.start, value, next, found),
            None => at + 1,
        }
    }

    /// A figure with the sign before it and the unit after it. `next` is the token behind the figure.
    fn counted(&self, at: usize, start: usize, figure: f64, next: usize, found: &mut Vec<Raw>) -> usize {
        let (figure, next) = match self.tokens.get(next) {
            Some(word) => match units::multiple(word.text) {
                Some(factor) => (figure * factor, next + 1),
                None => (figure, next),
            },
            None => (figure, next),
        };
        let before = at.checked_sub(1).and_then(|before| self.tokens.get(before));
        // A currency stands right before, or a space away; one that belongs to the number before does not.
        let currency = before
            .filter(|token| found.last().is_none_or(|last: &Raw| last.bytes.end <= token.bytes.start))
            .and_then(|token| Some((units::currency(token.text)?, token.bytes.start)));
        let end = |next: usize| next.checked_sub(1).and_then(|last| self.tokens.get(last));
        if let Some((currency, from)) = currency {
            let end = end(next).map_or(start, |token| token.bytes.end);
            // "$30 a month" is money first.
            found.push(Raw { bytes: from..end, value: Value::Money { amount: figure, currency }, figure });
            return next;
        }
        let (value, next) = match self.unit(next) {
            Some((unit, after)) => (unit.value(figure), after),
            None => (Value::Plain(figure), next),
        };
        let end = end(next).map_or(start, |token| token.bytes.end);
        found.push(Raw { bytes: start..end, value, figure });
        next
    }

    /// The unit that begins with the token at `at`, over a hyphen ("30-day") and "business"; with the
    /// token behind it.
    fn unit(&self, at: usize) -> Option<(Unit, usize)> {
        let mut next = at;
        if self.tokens.get(next).is_some_and(|token| token.text == "-" && !token.spaced) {
            next += 1;
        }
        let word = self.tokens.get(next)?;
        if units::is_working(word.text) {
            let day = self.tokens.get(next + 1)?;
            let day = if day.text == "-" { self.tokens.get(next + 2)? } else { day };
            let after = next + if self.tokens.get(next + 1)?.text == "-" { 3 } else { 2 };
            return units::is_day(day.text).then_some((Unit::WorkingDays, after));
        }
        if word.text.eq_ignore_ascii_case("per")
            && self.tokens.get(next + 1).is_some_and(|word| word.text.eq_ignore_ascii_case("cent"))
        {
            return Some((Unit::Percent, next + 2));
        }
        let unit = units::unit(word.text)?;
        // "%-ige" and the like may follow; what belongs to the number ends here.
        Some((unit, next + 1))
    }

    /// A date or a time that one run of figures holds.
    fn time_or_date(&self, at: usize, value: Value, found: &mut Vec<Raw>) -> usize {
        let token = &self.tokens[at];
        let mut bytes = token.bytes.clone();
        let mut next = at + 1;
        let (value, figure) = match value {
            Value::Time(minutes) => {
                let mut minutes = minutes;
                if let Some((half, after)) = self.half_of_day(next) {
                    minutes = half.of(minutes);
                    next = after;
                } else if self.tokens.get(next).is_some_and(|word| word.text.eq_ignore_ascii_case("uhr")) {
                    next += 1;
                }
                if let Some(last) = self.tokens.get(next - 1) {
                    bytes.end = last.bytes.end;
                }
                (Value::Time(minutes), f64::from(minutes / 60))
            }
            Value::Date { month, day, .. } => (value, f64::from(day.unwrap_or(month))),
            other => (other, 0.0),
        };
        found.push(Raw { bytes, value, figure });
        next
    }

    /// `am`, `p.m.` and the like, with the token behind it.
    fn half_of_day(&self, at: usize) -> Option<(units::Half, usize)> {
        let word = self.tokens.get(at)?;
        if let Some(half) = units::half(word.text) {
            return Some((half, at + 1));
        }
        // "p.m": three tokens.
        let (dot, second) = (self.tokens.get(at + 1)?, self.tokens.get(at + 2)?);
        if dot.text == "." && !dot.spaced && !second.spaced && second.text.eq_ignore_ascii_case("m") {
            let half = match word.text {
                "a" | "A" => units::Half::Morning,
                "p" | "P" => units::Half::Afternoon,
                _ => return None,
            };
            return Some((half, at + 3));
        }
        None
    }

    /// A date with the month's name, or a time such as "9 am" and "18 Uhr".
    fn date(&self, at: usize) -> Option<(Raw, usize)> {
        let token = self.tokens.get(at)?;
        let raw = |end: usize, value: Value, figure: u16| {
            let bytes = token.bytes.start..self.tokens.get(end)?.bytes.end;
            Some((Raw { bytes, value, figure: f64::from(figure) }, end + 1))
        };
        if token.part_of_code {
            return None;
        }
        if let Some(month) = units::month(token.text) {
            // "May 1, 2026", "May 1st", "May 2026"; never "may" alone.
            let next = self.tokens.get(at + 1).filter(|next| next.kind == TokenKind::Figures)?;
            if let Some(day) = figures::small(next.text, 31) {
                let mut end = at + 1;
                if self.tokens.get(end + 1).is_some_and(|word| units::is_ordinal(word.text) && !word.spaced) {
                    end += 1;
                }
                let comma = usize::from(self.tokens.get(end + 1).is_some_and(|token| token.text == ","));
                let year = self.tokens.get(end + 1 + comma).and_then(|year| figures::year(year.text));
                let last = if year.is_some() { end + 1 + comma } else { end };
                return raw(last, Value::Date { year, month, day: Some(day) }, u16::from(day));
            }
            let year = figures::year(next.text)?;
            return raw(at + 1, Value::Date { year: Some(year), month, day: None }, u16::from(month));
        }
        let small = figures::small(token.text, 31).filter(|_| token.kind == TokenKind::Figures)?;
        if let Some((half, after)) = self.half_of_day(at + 1) {
            let minutes = (1..=12).contains(&small).then(|| half.of(u16::from(small) * 60))?;
            return raw(after - 1, Value::Time(minutes), u16::from(small));
        }
        let mut next = at + 1;
        if self.tokens.get(next).is_some_and(|word| word.text.eq_ignore_ascii_case("uhr")) && small < 24 {
            return raw(next, Value::Time(u16::from(small) * 60), u16::from(small));
        }
        // "1 May", "1. Mai", "1st of May", each with a year or without.
        // English writes no full stop there: "We have 3. May I ..."
        let dot = if self.language == Language::German { "." } else { "" };
        if self
            .tokens
            .get(next)
            .is_some_and(|token| !token.spaced && (token.text == dot || units::is_ordinal(token.text)))
        {
            next += 1;
        }
        if self.tokens.get(next).is_some_and(|word| word.text.eq_ignore_ascii_case("of")) {
            next += 1;
        }
        let month = units::month(self.tokens.get(next)?.text)?;
        let comma = usize::from(self.tokens.get(next + 1).is_some_and(|token| token.text == ","));
        let year = self.tokens.get(next + 1 + comma).and_then(|year| figures::year(year.text));
        let last = if year.is_some() { next + 1 + comma } else { next };
        raw(last, Value::Date { year, month, day: Some(small) }, u16::from(small))
    }
}

#[cfg(test)]
mod tests;
