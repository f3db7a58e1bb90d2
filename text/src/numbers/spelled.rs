//! Numbers in words, English and German.

use super::tokens::{Token, TokenKind};

/// More words than any sensible number has.
const MOST_WORDS: usize = 16;
/// The longest German number word that is read, in bytes.
const LONGEST: usize = 80;

/// The number that begins with the word at `at`, and the token behind it.
pub(super) fn read(tokens: &[Token<'_>], at: usize) -> Option<(f64, usize)> {
    let first = tokens.get(at)?;
    if let Some(value) = german(&first.text.to_lowercase()) {
        return Some((value, at + 1));
    }
    english(tokens, at)
}

/// Whether a lower-case word is a number or a part of one.
pub(super) fn is_part(word: &str) -> bool {
    part(word).is_some() || german(word).is_some()
}

/// `total` holds what is complete to the thousands, `group` what is being counted below.
fn english(tokens: &[Token<'_>], at: usize) -> Option<(f64, usize)> {
    let (mut total, mut group) = (0.0, None::<f64>);
    let (mut next, mut end) = (at, at);
    while next < at + MOST_WORDS {
        let Some(token) = tokens.get(next) else { break };
        // "twenty-one", "a hundred and five".
        let joins = token.text == "-" || token.text.eq_ignore_ascii_case("and");
        if joins && end > at && end == next {
            if token.text != "-" && group.is_none_or(|value| value % 100.0 != 0.0) && total == 0.0 {
                break;
            }
            next += 1;
            continue;
        }
        if token.kind != TokenKind::Word {
            break;
        }
        match part(&token.text.to_lowercase()) {
            Some(Part::Small(value)) => {
                let fits = match group {
                    None => true,
                    // "twenty one", "two hundred thirty".
                    Some(before) if value < 10.0 => before >= 20.0 && before % 10.0 == 0.0,
                    Some(before) => before >= 100.0 && before % 100.0 == 0.0,
                };
                if !fits {
                    break;
                }
                group = Some(group.unwrap_or(0.0) + value);
            }
            Some(Part::Hundred) => match group {
                Some(value) if value < 100.0 => group = Some(value * 100.0),
                _ => break,
            },
            Some(Part::Multiple(factor)) => match group.take() {
                Some(value) => total += value * factor,
                None => break,
            },
            None => break,
        }
        next += 1;
        end = next;
    }
    (end > at).then(|| (total + group.unwrap_or(0.0), end))
}

enum Part {
    Small(f64),
    Hundred,
    Multiple(f64),
}

fn part(word: &str) -> Option<Part> {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    if let Some(value) = (0u8..).zip(SMALL).find_map(|(value, name)| (name == word).then_some(value)) {
        return Some(Part::Small(f64::from(value)));
    }
    if let Some(value) = (2u8..).zip(TENS).find_map(|(value, name)| (name == word).then_some(value)) {
        return Some(Part::Small(f64::from(value) * 10.0));
    }
    Some(match word {
        "dozen" => Part::Small(12.0),
        "hundred" => Part::Hundred,
        "thousand" => Part::Multiple(1e3),
        "million" => Part::Multiple(1e6),
        "billion" => Part::Multiple(1e9),
        _ => return None,
    })
}

/// A German number word such as `zweihundertfünfundzwanzig`.
fn german(word: &str) -> Option<f64> {
    if word.len() > LONGEST {
        return None;
    }
    match word.split_once("tausend") {
        Some((before, after)) => {
            let thousands = if before.is_empty() { 1.0 } else { below_thousand(before)? };
            let rest = if after.is_empty() { 0.0 } else { below_thousand(after)? };
            Some(thousands * 1000.0 + rest)
        }
        None => below_thousand(word),
    }
}

fn below_thousand(word: &str) -> Option<f64> {
    match word.split_once("hundert") {
        Some((before, after)) => {
            let hundreds = if before.is_empty() { 1.0 } else { unit(before)? };
            let after = after.strip_prefix("und").unwrap_or(after);
            let rest = if after.is_empty() { 0.0 } else { below_hundred(after)? };
            Some(hundreds * 100.0 + rest)
        }
        None => below_hundred(word),
    }
}

fn below_hundred(word: &str) -> Option<f64> {
    const TEENS: [(&str, f64); 10] = [
        ("zehn", 10.0),
        ("elf", 11.0),
        ("zwölf", 12.0),
        ("dreizehn", 13.0),
        ("vierzehn", 14.0),
        ("fünfzehn", 15.0),
        ("sechzehn", 16.0),
        ("siebzehn", 17.0),
        ("achtzehn", 18.0),
        ("neunzehn", 19.0),
    ];
    const TENS: [(&str, f64); 8] = [
        ("zwanzig", 20.0),
        ("dreißig", 30.0),
        ("vierzig", 40.0),
        ("fünfzig", 50.0),
        ("sechzig", 60.0),
        ("siebzig", 70.0),
        ("achtzig", 80.0),
        ("neunzig", 90.0),
    ];
    let of = |table: &[(&str, f64)], word: &str| {
        table.iter().find_map(|&(name, value)| (name == word).then_some(value))
    };
    if let Some(value) = unit(word).or_else(|| of(&TEENS, word)).or_else(|| of(&TENS, word)) {
        return Some(value);
    }
    TENS.iter().find_map(|(name, tens)| {
        let ones = word.strip_suffix(name)?.strip_suffix("und")?;
        Some(tens + unit(ones)?)
    })
}

fn unit(word: &str) -> Option<f64> {
    Some(match word {
        "null" => 0.0,
        "ein" | "eins" => 1.0,
        "zwei" => 2.0,
        "drei" => 3.0,
        "vier" => 4.0,
        "fünf" => 5.0,
        "sechs" => 6.0,
        "sieben" => 7.0,
        "acht" => 8.0,
        "neun" => 9.0,
        _ => return None,
    })
}
