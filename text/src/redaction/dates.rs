//! Dates of birth: a date that the words around it call one.

use std::{ops::Range, sync::LazyLock};

use super::{
    Hit, Kind, checks,
    context::{self, Hint, Hints},
    lexicon::Lexicon,
    patterns::hit,
};

/// Names of months and their usual abbreviations. Lower case, in the order of the year.
const MONTHS: [&str; 12] = [
    "january jan januar jänner janvier enero gennaio januari janeiro",
    "february feb februar février fevrier febrero febbraio februari fevereiro",
    "march mar märz maerz mars marzo maart março",
    "april apr avril abril aprile",
    "may mai mayo maggio mei maio",
    "june jun juni juin junio giugno junho",
    "july jul juli juillet julio luglio julho",
    "august aug août aout agosto augustus",
    "september sep sept septembre septiembre settembre setembro",
    "october oct oktober okt octobre octubre ottobre outubro",
    "november nov novembre noviembre novembro",
    "december dec dezember dez décembre decembre diciembre dicembre dezembro",
];

static NUMBERED: LazyLock<Lexicon<u64>> = LazyLock::new(|| {
    let months = MONTHS.iter().zip(1..);
    months.flat_map(|(names, month)| names.split(' ').map(move |name| (name, month))).collect()
});

/// The month, 1 to 12, that a word names.
pub(super) fn month(word: &str) -> Option<u64> {
    if word.len() < 3 { None } else { NUMBERED.of(word) }
}

/// Finds dates of birth.
pub(super) fn births(
    text: &str,
    hints: &Hints<'_>,
    groups: &[Range<usize>],
    from: usize,
    hits: &mut Vec<Hit>,
) {
    let mut behind = from;
    for at in 0..groups.len() {
        if groups[at].start < behind || groups[at].len() > 4 {
            continue;
        }
        let Some(range) = date(text, groups, at, from) else { continue };
        let said = hints.before(range.start) == Some(Hint::Birth)
            || context::after(text, range.end) == Some(Hint::Birth);
        if said {
            behind = range.end;
            hits.push(hit(range, Kind::DateOfBirth, 0.85, "date-of-birth"));
        }
    }
}

/// A date with a year whose first digits are group `at`.
fn date(text: &str, groups: &[Range<usize>], at: usize, from: usize) -> Option<Range<usize>> {
    let of = |at: usize| groups.get(at).filter(|group| group.len() <= 4);
    let value = |group: &Range<usize>| checks::number(text[group.clone()].as_bytes());
    let day = |group: &Range<usize>| group.len() <= 2 && (1..=31).contains(&value(group));
    let year = |group: &Range<usize>| match group.len() {
        4 => (1900..=2099).contains(&value(group)),
        2 => true,
        _ => false,
    };
    let first = of(at)?;
    // A date has two numbers or three, with no more than a month's name between.
    if groups.get(at + 1).is_none_or(|second| second.start - first.end > 24) {
        return None;
    }
    let between = |a: &Range<usize>, b: &Range<usize>| text[a.end..b.start].trim_matches(' ');
    // In numbers.
    if let (Some(second), Some(third)) = (of(at + 1), of(at + 2)) {
        let joint = between(first, second);
        let joined = joint.len() <= 3
            && second.start - first.end <= 4
            && third.start - second.end <= 4
            && joint == between(second, third)
            && matches!(joint, "/" | "." | "-" | "" | "年" | "月");
        let months = day(first) && day(second) && (value(first) <= 12 || value(second) <= 12);
        if joined
            && ((months && year(third)) || (first.len() == 4 && year(first) && day(second) && day(third)))
        {
            return Some(first.start..third.end);
        }
    }
    // With the month's name before the day: "July 4th, 1984".
    if day(first)
        && of(at + 1).is_some_and(|second| second.start - first.end <= 5 && year(second))
        && let Some((start, word)) = context::words_before(text, first.start).next()
        && start >= from
        && text[start + word.len()..first.start].trim_matches([' ', '.']).is_empty()
        && month(word).is_some()
        && let Some(second) = of(at + 1)
        && day(first)
        && year(second)
        && matches!(
            text[first.end..second.start].trim_matches([' ', ',']),
            "" | "th" | "st" | "nd" | "rd" | "th," | "st," | "nd," | "rd,"
        )
    {
        return Some(start..second.end);
    }
    // Behind it: "4th of July 1984", "4. Juli 1984".
    let letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte >= 0x80;
    if day(first) && text.as_bytes()[first.end..].iter().take(4).any(letter) {
        let mut words = context::words_after(text, first.end);
        let mut last = first.end;
        for _ in 0..3 {
            let (start, word) = words.next()?;
            if start - last > 3 {
                return None;
            }
            last = start + word.len();
            if month(word).is_some() {
                let second = of(at + 1)?;
                let near = second.start >= last
                    && text[last..second.start].trim_matches([' ', ',', '.', '-', '\'']).is_empty()
                    || context::words_after(text, last).next().is_some_and(|(at, word)| {
                        matches!(word, "de" | "del") && second.start == at + word.len() + 1
                    });
                return (near && year(second)).then_some(first.start..second.end);
            }
            if !matches!(word, "th" | "st" | "nd" | "rd" | "of" | "de" | "er") {
                return None;
            }
        }
    }
    None
}

/// The date that a text says, as year, month, day where that is sure: for telling whether two are the
/// same. The order of day and month is taken from the separators where both could be either.
pub(super) fn normal(text: &str) -> String {
    let named = context::words_after(text, 0).find_map(|(at, word)| month(word).map(|month| (at, month)));
    let mut numbers: Vec<u64> = Vec::new();
    let mut long = None;
    for group in
        text.split(|c: char| !c.is_ascii_digit()).filter(|group| !group.is_empty() && group.len() < 10)
    {
        if group.len() == 4 {
            long = Some(numbers.len());
        }
        numbers.push(checks::number(group.as_bytes()));
    }
    let (year, month, day) = match (numbers.as_slice(), named, long) {
        (&[day, year], Some((_, month)), _) => (year, month, day),
        (&[year, month, day], None, Some(0)) => (year, month, day),
        (&[a, b, year], None, _) if a > 12 || (b <= 12 && text.contains('.')) => (year, b, a),
        (&[a, b, year], None, _) => (year, a, b),
        _ => return text.to_lowercase(),
    };
    format!("{year}-{month}-{day}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_date_has_one_normal_form() {
        for text in ["July 4th, 1984", "4 July 1984", "1984-07-04", "7/4/1984", "04.07.1984", "4. Juli 1984"]
        {
            assert_eq!(normal(text), "1984-7-4", "{text}");
        }
        assert_eq!(normal("24/6/1991"), normal("6/24/1991"));
    }
}
