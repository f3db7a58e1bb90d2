//! What a run of figures says.

use super::Value;
use crate::words::Language;

/// The longest run that is a number; longer ones are codes, and no binary fraction holds them.
const LONGEST: usize = 15;

/// The number of a run such as `1,299.50`; `None` for what is none.
pub(super) fn number(run: &str, language: Language) -> Option<f64> {
    let mut plain = String::with_capacity(run.len());
    // Signs that only ever group.
    for c in run.chars() {
        match c {
            '\'' | '’' | '\u{a0}' | '\u{202f}' => {}
            '0'..='9' | '.' | ',' => plain.push(c),
            _ => return None,
        }
    }
    if plain.bytes().filter(u8::is_ascii_digit).count() > LONGEST {
        return None;
    }
    let last = plain.rfind(['.', ',']);
    let Some(last) = last else { return plain.parse().ok() };
    let mark = plain.as_bytes()[last] as char;
    let mixed = plain.contains(if mark == '.' { ',' } else { '.' });
    let marks = plain.matches(mark).count();
    let fraction = plain.len() - last - 1;
    let decimal = if mixed {
        // The last mark is the fraction's, and there is one of it.
        if marks > 1 {
            return None;
        }
        true
    } else if marks > 1 {
        false
    } else {
        // "1.299" says what the language says; nobody groups "0.500", or less or more than three.
        let groups = fraction == 3 && (1..=3).contains(&last) && !plain.starts_with('0');
        let grouping = if language == Language::German { '.' } else { ',' };
        !(groups && mark == grouping)
    };
    let whole = if decimal { &plain[..last] } else { &plain[..] };
    let mut groups = whole.split(['.', ',']);
    let first = groups.next().unwrap_or_default();
    if whole.len() > first.len() && (first.len() > 3 || groups.any(|group| group.len() != 3)) {
        return None;
    }
    let mut digits: String = whole.chars().filter(char::is_ascii_digit).collect();
    if decimal {
        digits.push('.');
        digits.push_str(&plain[last + 1..]);
    }
    digits.parse().ok()
}

/// Both ends of a run such as `10-15`.
pub(super) fn range(run: &str, language: Language) -> Option<(f64, f64)> {
    let (low, high) = run.split_once('-')?;
    let (low, high) = (number(low, language)?, number(high, language)?);
    // "555-1234" is none, nor is a code.
    (low < high && high < 10_000.0).then_some((low, high))
}

/// The date or the time of a run such as `2026-05-01`, `01.05.2026`, `5/1/2026` and `9:30`.
pub(super) fn fixed(run: &str, language: Language) -> Option<Value> {
    let parts = |mark| -> Option<Vec<u16>> {
        let parts: Vec<&str> = run.split(mark).collect();
        if !(2..=3).contains(&parts.len()) || parts.iter().any(|part| part.is_empty() || part.len() > 4) {
            return None;
        }
        parts.into_iter().map(|part| part.parse().ok()).collect()
    };
    if run.contains(':') {
        let parts = parts(':')?;
        let minutes = run.split(':').nth(1).filter(|minutes| minutes.len() == 2);
        return (minutes.is_some() && parts[0] < 24 && parts[1] < 60)
            .then(|| Value::Time(parts[0] * 60 + parts[1]));
    }
    let (year, month, day) = if run.contains('-') {
        let parts = parts('-').filter(|parts| parts.len() == 3)?;
        (parts[0], parts[1], parts[2])
    } else if run.contains('/') {
        let parts = parts('/').filter(|parts| parts.len() == 3)?;
        // Americans put the month first; who has a 13th month does not.
        match (parts[0], parts[1]) {
            (month, day) if language == Language::English && month <= 12 => (parts[2], month, day),
            (day, month) => (parts[2], month, day),
        }
    } else {
        // "3.11.2" is a version.
        let dated = run.rsplit('.').next().is_some_and(|year| matches!(year.len(), 2 | 4));
        let parts = parts('.').filter(|parts| parts.len() == 3 && dated)?;
        (parts[2], parts[1], parts[0])
    };
    let year = if year < 100 { 2000 + year } else { year };
    date(year, month, day)
}

fn date(year: u16, month: u16, day: u16) -> Option<Value> {
    let ok = (1000..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let month = u8::try_from(month).ok()?;
    let day = u8::try_from(day).ok()?;
    ok.then_some(Value::Date { year: Some(year), month, day: Some(day) })
}

/// A whole number from 1 to `most`, of one or two figures.
pub(super) fn small(run: &str, most: u8) -> Option<u8> {
    let value = (run.len() <= 2).then(|| run.parse().ok())??;
    (1..=most).contains(&value).then_some(value)
}

/// A year of four figures.
pub(super) fn year(run: &str) -> Option<u16> {
    let value = (run.len() == 4).then(|| run.parse().ok())??;
    (1000..3000).contains(&value).then_some(value)
}
