//! Postal addresses: a street and a number, with what belongs to them.
//!
//! The number is the sign: before it or behind it stands a street. What goes on behind, a flat, a
//! town, a state, a postal code, is taken along as far as its form says that it belongs.

mod lists;
mod tail;

use std::ops::Range;

use lists::{is_romance_street, is_stop_word, is_street, is_street_suffix};

use super::{
    Hit, Kind,
    context::{Hint, Hints, words_after, words_before},
    lexicon::Lower,
    patterns::hit,
};

/// The most words of a street's name with its type.
const STREET_WORDS: usize = 5;

/// Finds postal addresses.
pub(super) fn find(text: &str, hints: &Hints<'_>, groups: &[Range<usize>], from: usize, hits: &mut Vec<Hit>) {
    let mut behind = from;
    for group in groups {
        if group.start < behind || group.len() > 6 {
            continue;
        }
        let house = house(text, group);
        let Some(core) = house
            .and_then(|house| number_first(text, group, house))
            .or_else(|| house.and_then(|house| number_last(text, group, house, behind)))
            .or_else(|| box_number(text, group, behind))
        else {
            continue;
        };
        let end = tail::of(text, core.range.end, core.lower);
        if core.sure || end > core.range.end || hints.before(core.range.start) == Some(Hint::Address) {
            let range = core.range.start..end;
            behind = end;
            hits.push(hit(range, Kind::Address, if core.sure { 0.8 } else { 0.65 }, "address"));
        }
    }
}

/// A street with its number.
struct Core {
    range: Range<usize>,
    /// Nothing else is needed to know that it is one.
    sure: bool,
    /// It is all in lower case, as speech recognisers write.
    lower: bool,
}

/// Where a house number that begins with a group of digits ends: `12`, `12a`, `12-14`, `12/3`.
fn house(text: &str, group: &Range<usize>) -> Option<usize> {
    let bytes = text.as_bytes();
    let before = text[..group.start].chars().next_back();
    if before
        .is_some_and(|c| c.is_alphanumeric() || matches!(c, '$' | '€' | '£' | '.' | ':' | '/' | '-' | '+'))
    {
        return None;
    }
    let mut end = group.end;
    if let Some(b'-' | b'/') = bytes.get(end) {
        let more = bytes[end + 1..].iter().take(5).take_while(|byte| byte.is_ascii_digit()).count();
        if (1..=4).contains(&more) {
            end += 1 + more;
        }
    }
    if bytes.get(end).is_some_and(u8::is_ascii_alphabetic) {
        end += 1;
    }
    let goes_on = text[end..].chars().next().is_some_and(|c| c.is_alphanumeric() || matches!(c, '%' | ':'));
    (!goes_on).then_some(end)
}

/// `742 Evergreen Terrace`, `12 rue de la Paix`. `house` is where the number ends.
fn number_first(text: &str, group: &Range<usize>, house: usize) -> Option<Core> {
    let gap = text[house..].bytes().take_while(|byte| matches!(byte, b' ' | b',')).count();
    if !(1..=2).contains(&gap) {
        return None;
    }
    let mut last = house + gap;
    let mut end = None;
    let mut titled = true;
    let mut named = 0;
    let romance = words_after(text, last)
        .next()
        .is_some_and(|(at, word)| at == last && is_romance_street(word) && !text[at..].starts_with("ST"));
    for (count, (at, word)) in street_words(text, last).enumerate().take(STREET_WORDS) {
        let between = &text[last..at];
        if count > 0 && !matches!(between, " " | ". " | "-") {
            break;
        }
        let lower = Lower::of(word)?;
        let upper = word.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit());
        last = at + word.len();
        if romance {
            let particle = matches!(
                lower.as_str(),
                "de" | "la"
                    | "du"
                    | "des"
                    | "del"
                    | "della"
                    | "l"
                    | "le"
                    | "al"
                    | "da"
                    | "do"
                    | "dos"
                    | "das"
                    | "d"
                    | "di"
                    | "of"
                    | "los"
                    | "las"
                    | "el"
            );
            if count > 0 && !upper && !particle {
                break;
            }
            if count > 0 && upper {
                end = Some(last);
            }
            continue;
        }
        if count == 0 && !upper && is_stop_word(lower.as_str()) {
            return None;
        }
        if count > 0 && is_street(lower.as_str()) {
            end = Some(last + usize::from(lower.as_str().len() <= 4 && text[last..].starts_with('.')));
            titled &= upper || named > 0 && word.chars().all(char::is_lowercase) && lower.as_str().len() > 2;
            // "Park Road": the type may itself be part of the name.
            continue;
        }
        if count == 0 && upper && is_street_suffix(lower.as_str()) {
            end = Some(last);
            continue;
        }
        if end.is_some() {
            break;
        }
        if is_stop_word(lower.as_str()) {
            return None;
        }
        titled &= upper;
        named += 1;
    }
    let end = end?;
    Some(Core { range: group.start..end, sure: titled, lower: !titled })
}

/// Words of a street's name: ordinals such as `5th` count.
fn street_words(text: &str, at: usize) -> impl Iterator<Item = (usize, &str)> {
    let mut from = at;
    std::iter::from_fn(move || {
        let part = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’');
        let start = from + text[from..].find(part)?;
        let rest = &text[start..];
        let length = rest.find(|c| !part(c)).unwrap_or(rest.len());
        from = start + length;
        let word = &text[start..from];
        // A bare number ends the street.
        (!word.bytes().all(|byte| byte.is_ascii_digit())).then_some((start, word))
    })
}

/// `Hauptstraße 12`, `Via Roma 3`, `ul. Długa 5`.
fn number_last(text: &str, group: &Range<usize>, house: usize, from: usize) -> Option<Core> {
    if !follows_word(text, group) {
        return None;
    }
    let mut last = group.start;
    let mut best = None;
    for (count, (at, word)) in words_before(text, group.start).enumerate().take(STREET_WORDS) {
        if at < from {
            break;
        }
        let between = &text[at + word.len()..last];
        let near = if count == 0 {
            matches!(between, " " | ". " | ", ")
        } else {
            matches!(between, " " | ". " | "-" | "'")
        };
        if !near {
            break;
        }
        last = at;
        let lower = Lower::of(word)?;
        let lower = lower.as_str();
        let upper = word.starts_with(char::is_uppercase);
        if count == 0 && (upper || lower.len() >= 8) && is_street_suffix(lower) {
            best = Some((at, upper || lower.len() >= 9));
            // "Alte Schönhauser Straße": words of the name before the type.
            if !matches!(
                lower,
                "straße" | "strasse" | "str" | "platz" | "weg" | "allee" | "gasse" | "ring" | "damm" | "ufer"
            ) {
                break;
            }
            continue;
        }
        if best.is_some() {
            if upper && !is_stop_word(lower) && count <= 2 {
                best = Some((at, true));
                continue;
            }
            break;
        }
        if count > 0 && is_romance_street(word) {
            let name = words_after(text, at + word.len()).next().is_some_and(|(_, word)| {
                word.starts_with(char::is_uppercase)
                    || matches!(word, "de" | "del" | "della" | "la" | "du" | "do" | "da")
            });
            if name {
                best = Some((at, upper || lower.len() > 3));
            }
            break;
        }
        if is_stop_word(lower) && !matches!(lower, "of" | "the") {
            break;
        }
    }
    let (start, sure) = best?;
    Some(Core { range: start..house, sure, lower: !text[start..].starts_with(char::is_uppercase) })
}

/// Whether a word ends right before a number, with two bytes between at most.
fn follows_word(text: &str, group: &Range<usize>) -> bool {
    let before = &text.as_bytes()[..group.start];
    before.iter().rev().take(3).any(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80)
}

/// `P.O. Box 149`, `Postfach 12 34`, `PSC 0413, Box 8144`.
fn box_number(text: &str, group: &Range<usize>, from: usize) -> Option<Core> {
    if !follows_word(text, group) {
        return None;
    }
    let (at, word) = words_before(text, group.start).next().filter(|(at, _)| *at >= from)?;
    let lower = Lower::of(word)?;
    let start = match lower.as_str() {
        "postfach" | "postbox" | "postbus" | "apartado" => at,
        "box" => {
            let rest = text[..at].trim_end_matches(' ');
            let tail = rest.get(rest.len().saturating_sub(4)..).unwrap_or_default().to_ascii_lowercase();
            let length = ["p.o.", "p o", "po"].iter().find(|head| tail.ends_with(*head))?.len();
            rest.len() - length
        }
        "psc" | "cmr" if word.chars().all(|c| c.is_uppercase()) => at,
        _ => return None,
    };
    (start >= from).then_some(Core { range: start..group.end, sure: true, lower: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redaction::{Kinds, find_kinds};

    fn found(text: &str) -> Vec<&str> {
        let kinds = Kinds::NONE.with(Kind::Address);
        find_kinds(text, kinds).iter().map(|entity| entity.span.of(text)).collect()
    }

    #[test]
    fn addresses_are_found_with_what_belongs_to_them() {
        for (text, address) in [
            (
                "I live at 742 Evergreen Terrace, Springfield, IL 62704.",
                "742 Evergreen Terrace, Springfield, IL 62704",
            ),
            ("send it to 12 St James Road Apt 4B please", "12 St James Road Apt 4B"),
            ("350 5th Avenue, New York, NY 10118-0110 is it", "350 5th Avenue, New York, NY 10118-0110"),
            ("10 Downing Street, London SW1A 2AA", "10 Downing Street, London SW1A 2AA"),
            ("i live at 742 evergreen terrace springfield", "742 evergreen terrace"),
            ("Meine Adresse: Hauptstraße 12a, 10115 Berlin.", "Hauptstraße 12a, 10115 Berlin"),
            ("Alte Schönhauser Str. 5, 10119 Berlin", "Alte Schönhauser Str. 5, 10119 Berlin"),
            ("wohne in der Gartenstrasse 7", "Gartenstrasse 7"),
            ("31 Rue Al Imam, Tunis", "31 Rue Al Imam"),
            ("Via Franscini 71", "Via Franscini 71"),
            ("P.O. Box 149", "P.O. Box 149"),
            ("Puruntie 82", "Puruntie 82"),
        ] {
            assert_eq!(found(text), [address], "{text:?}");
        }
    }

    #[test]
    fn other_numbers_are_no_addresses() {
        for text in [
            "it took 3 days on the way",
            "2 of the boxes, lane closed",
            "I waited 20 minutes in the court",
            "5 items for the drive",
            "on page 12 Street names are listed",
            "box 7 is open",
            "I paid 20 and went my way",
        ] {
            assert_eq!(found(text), [] as [&str; 0], "{text:?}");
        }
    }
}
