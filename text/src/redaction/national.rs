//! National ids of more states: their forms and check digits. Digits are ASCII, letters upper case.

use super::checks::{luhn, number};

/// What a number of digits alone is, and how sure that is. `form` has the sizes of its groups, and is
/// empty when they say nothing; `said` is whether the words around speak of such an id, without
/// which only numbers with two check digits or an unmistakable form count.
pub(super) fn of_digits(digits: &[u8], form: &[u8], said: bool) -> Option<(&'static str, f32)> {
    let grouped = form.len() > 1;
    match digits.len() {
        9 if said && bsn(digits) => Some(("nl-bsn", 0.85)),
        9 if said && luhn(digits) => Some(("ca-sin", 0.8)),
        10 if matches!(form, [6, 4]) && swedish(digits) => Some(("se-personnummer", 0.85)),
        10 if said && nhs(digits) => Some(("uk-nhs", 0.85)),
        11 if (matches!(form, [3, 3, 3, 2]) || said) && cpf(digits) => Some(("br-cpf", 0.9)),
        11 if (matches!(form, [2, 2, 2, 3, 2]) || said) && belgian(digits) => Some(("be-nn", 0.9)),
        11 if (form.len() <= 2 || said) && norwegian(digits) => Some(("no-fodselsnummer", 0.85)),
        11 if said && pesel(digits) => Some(("pl-pesel", 0.85)),
        11 if said && turkish(digits) => Some(("tr-kimlik", 0.85)),
        12 if (matches!(form, [4, 4, 4]) || said) && aadhaar(digits) => Some(("in-aadhaar", 0.85)),
        12 if (matches!(form, [8, 4]) || said) && swedish(&digits[2..]) && century(digits) => {
            Some(("se-personnummer", 0.85))
        }
        13 if (grouped || said) && ahv(digits) => Some(("ch-ahv", 0.95)),
        13 if said && month_day(&digits[2..6]) && luhn(digits) => Some(("za-id", 0.85)),
        18 if chinese(digits) => Some(("cn-id", 0.95)),
        _ => None,
    }
}

/// What a word of letters and digits is: upper case, without separators.
pub(super) fn of_code(code: &[u8]) -> Option<(&'static str, f32)> {
    match code.len() {
        16 if codice_fiscale(code) => Some(("it-codice-fiscale", 0.95)),
        18 if code[17] == b'X' && chinese(code) => Some(("cn-id", 0.95)),
        _ => None,
    }
}

fn value(digit: u8) -> u32 {
    u32::from(digit - b'0')
}

fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(&digit, weight)| value(digit) * weight).sum()
}

fn month_day(digits: &[u8]) -> bool {
    (1..=12).contains(&number(&digits[..2])) && (1..=31).contains(&number(&digits[2..4]))
}

fn century(digits: &[u8]) -> bool {
    matches!(&digits[..2], b"19" | b"20")
}

/// Netherlands, burgerservicenummer: the weighted sum is a multiple of 11 (Besluit BSN).
fn bsn(digits: &[u8]) -> bool {
    let sum = weighted(&digits[..8], &[9, 8, 7, 6, 5, 4, 3, 2]);
    sum > 0 && sum % 11 == value(digits[8])
}

/// Sweden, personnummer: a date and Luhn (Skatteverket, SKV 704).
fn swedish(digits: &[u8]) -> bool {
    month_day(&digits[2..6]) && luhn(digits)
}

/// England, NHS number: MOD 11 (NHS Data Dictionary).
fn nhs(digits: &[u8]) -> bool {
    let rest = 11 - weighted(&digits[..9], &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    let check = if rest == 11 { 0 } else { rest };
    check == value(digits[9])
}

/// Brazil, CPF: two digits, each MOD 11 of those before it (Receita Federal).
fn cpf(digits: &[u8]) -> bool {
    let check = |length: usize| {
        let sum: u32 = (0..length).map(|at| value(digits[at]) * (length + 1 - at) as u32).sum();
        let rest = sum * 10 % 11 % 10;
        rest == value(digits[length])
    };
    digits.iter().any(|digit| *digit != digits[0]) && check(9) && check(10)
}

/// Belgium, numéro de registre national: 97 less the rest by 97, with a 2 in front from 2000 on
/// (Arrêté royal du 3 avril 1984).
fn belgian(digits: &[u8]) -> bool {
    let (birth, check) = (number(&digits[..9]), number(&digits[9..]));
    month_day(&digits[2..6]) && (97 - birth % 97 == check || 97 - (2_000_000_000 + birth) % 97 == check)
}

/// Norway, fødselsnummer: a date and two MOD 11 digits (Skatteetaten).
fn norwegian(digits: &[u8]) -> bool {
    let day = number(&digits[..2]);
    let day = if day > 40 { day - 40 } else { day };
    (1..=31).contains(&day)
        && (1..=12).contains(&number(&digits[2..4]))
        && weighted(digits, &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1]).is_multiple_of(11)
        && weighted(digits, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
}

/// Poland, PESEL (Ustawa o ewidencji ludności).
fn pesel(digits: &[u8]) -> bool {
    weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).is_multiple_of(10)
        && (1..=31).contains(&number(&digits[4..6]))
        && (1..=12).contains(&(number(&digits[2..4]) % 20))
}

/// Turkey, T.C. kimlik numarası.
fn turkish(digits: &[u8]) -> bool {
    let sum = |from: usize, to: usize| (from..to).step_by(2).map(|at| value(digits[at])).sum::<u32>();
    let (odd, even) = (sum(0, 9), sum(1, 8));
    digits[0] != b'0'
        && (odd * 7 + 100 - even) % 10 == value(digits[9])
        && digits[..10].iter().map(|&digit| value(digit)).sum::<u32>() % 10 == value(digits[10])
}

/// India, Aadhaar: twelve digits, the first 2 to 9, and Verhoeff's check (UIDAI).
fn aadhaar(digits: &[u8]) -> bool {
    // Multiplication in the dihedral group of order 10, and its permutation.
    const PERMUTATION: [usize; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let times = |a: usize, b: usize| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + b) % 5,
        (false, true) => 5 + (a + 5 - b) % 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let mut sum = 0;
    for (place, &digit) in digits.iter().rev().enumerate() {
        let mut permuted = value(digit) as usize;
        for _ in 0..place % 8 {
            permuted = PERMUTATION[permuted];
        }
        sum = times(sum, permuted);
    }
    digits[0] >= b'2' && sum == 0
}

/// Switzerland, AHV number: 756 and the check digit of EAN-13 (Zentrale Ausgleichsstelle).
fn ahv(digits: &[u8]) -> bool {
    digits.starts_with(b"756")
        && weighted(digits, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]).is_multiple_of(10)
}

/// Finland, henkilötunnus: a date, a sign for the century, three digits and a check character by 31
/// (Digi- ja väestötietovirasto). `group` are the six digits of the date; returns where it ends.
pub(super) fn finnish(bytes: &[u8], group: &std::ops::Range<usize>) -> Option<usize> {
    const CHECKS: &[u8; 31] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";
    let id = bytes.get(group.start..group.start + 11)?;
    let serial = id[7..10].iter().all(u8::is_ascii_digit);
    if !serial || !matches!(id[6].to_ascii_uppercase(), b'+' | b'-' | b'A'..=b'F' | b'U'..=b'Y') {
        return None;
    }
    let at = (number(&id[..6]) * 1000 + number(&id[7..10])) % 31;
    let dated = (1..=31).contains(&number(&id[..2])) && (1..=12).contains(&number(&id[2..4]));
    let checked = usize::try_from(at).is_ok_and(|at| CHECKS[at] == id[10].to_ascii_uppercase());
    (dated && checked).then_some(group.start + 11)
}

/// China, resident identity card: a date and ISO 7064 MOD 11-2 (GB 11643-1999).
fn chinese(code: &[u8]) -> bool {
    if !century(&code[6..]) || !code[..17].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum = code[..17].iter().fold(0, |sum, &digit| (sum + value(digit)) * 2 % 11);
    let check = (12 - sum) % 11;
    let last = if code[17] == b'X' { 10 } else { value(code[17]) };
    month_day(&code[10..14]) && check == last
}

/// Italy, codice fiscale: six letters, a date in letters and digits, a place, a check letter
/// (Decreto ministeriale 23 dicembre 1976).
fn codice_fiscale(code: &[u8]) -> bool {
    // What characters at odd places count, from 0 and from A on.
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let form = code.iter().enumerate().all(|(at, byte)| match at {
        0..=5 | 8 | 11 | 15 => byte.is_ascii_uppercase(),
        _ => byte.is_ascii_digit(),
    });
    if !form {
        return false;
    }
    let sum: u32 = code[..15]
        .iter()
        .enumerate()
        .map(|(at, &byte)| {
            let rank = if byte.is_ascii_digit() { value(byte) } else { u32::from(byte - b'A') };
            if at % 2 == 0 { ODD[rank as usize] } else { rank }
        })
        .sum();
    b"ABCDEHLMPRST".contains(&code[8]) && sum % 26 == u32::from(code[15] - b'A')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_that_states_publish_check() {
        for (digits, form, detector) in [
            ("111222333", &[][..], "nl-bsn"),
            ("046454286", &[3, 3, 3], "ca-sin"),
            ("8112189876", &[6, 4], "se-personnummer"),
            ("9434765919", &[3, 3, 4], "uk-nhs"),
            ("11144477735", &[3, 3, 3, 2], "br-cpf"),
            ("85073003328", &[2, 2, 2, 3, 2], "be-nn"),
            ("44051401359", &[11], "pl-pesel"),
            ("10000000146", &[11], "tr-kimlik"),
            ("7569217076985", &[3, 4, 4, 2], "ch-ahv"),
            ("11010519491231002X", &[18], "cn-id"),
        ] {
            let found = match digits.strip_suffix('X') {
                Some(_) => of_code(digits.as_bytes()),
                None => of_digits(digits.as_bytes(), form, true),
            };
            assert_eq!(found.map(|(name, _)| name), Some(detector), "{digits}");
            // The last digit is a check digit of every one of them.
            let mut wrong = digits.as_bytes().to_vec();
            let last = wrong.len() - 1;
            wrong[last] = if wrong[last] == b'7' { b'3' } else { b'7' };
            let found = of_digits(&wrong, form, true).map(|(name, _)| name);
            assert_ne!(found, Some(detector), "{digits}");
        }
        assert_eq!(of_code(b"RSSMRA85T10A562S").map(|(name, _)| name), Some("it-codice-fiscale"));
        assert_eq!(of_code(b"RSSMRA85T10A562T"), None);
    }

    #[test]
    fn without_words_only_what_cannot_be_chance_counts() {
        assert_eq!(of_digits(b"046454286", &[3, 3, 3], false), None);
        assert_eq!(of_digits(b"44051401359", &[11], false), None);
        assert!(of_digits(b"11144477735", &[3, 3, 3, 2], false).is_some());
    }
}
