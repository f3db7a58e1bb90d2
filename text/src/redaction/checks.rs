//! Checksums and number plans, by the standards that define them. Digits are ASCII.

/// The last digit makes the sum come out (Luhn, ISO/IEC 7812-1 annex B).
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(digit - b'0') * if place % 2 == 1 { 2 } else { 1 };
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// A payment card number: an issuer range in use, a length that it issues, and Luhn.
pub(super) fn card(digits: &[u8]) -> bool {
    card_of(card_lengths(digits), digits)
}

/// The same where the [`card_lengths`] of its beginning are known.
pub(super) fn card_of(lengths: u32, digits: &[u8]) -> bool {
    lengths.checked_shr(digits.len() as u32).is_some_and(|lengths| lengths & 1 == 1) && luhn(digits)
}

/// The lengths of the cards that begin with these digits, of which four count; bit 16 is set when there are
/// some of 16.
///
/// # Source
/// ISO/IEC 7812-1 for the form; the ranges are those that the schemes publish. UnionPay cards
/// without a check digit are not recognised.
pub(super) fn card_lengths(digits: &[u8]) -> u32 {
    let Some(issuer) = digits.first_chunk::<4>() else { return 0 };
    let lengths: &[u32] = match number(issuer) {
        4000..=4999 => &[13, 16, 19],                                    // Visa
        5100..=5599 | 2221..=2720 => &[16],                              // Mastercard
        3400..=3499 | 3700..=3799 => &[15],                              // American Express
        3000..=3059 | 3095 | 3600..=3699 | 3800..=3999 => &[14, 16, 19], // Diners Club
        6011 | 6440..=6599 => &[16, 17, 18, 19],                         // Discover
        3528..=3589 => &[16, 17, 18, 19],                                // JCB
        1800 | 2131 => &[15],                                            // JCB, older
        2200..=2204 => &[16, 17, 18, 19],                                // Mir
        6200..=6299 | 8100..=8171 => &[16, 17, 18, 19],                  // UnionPay
        5018..=5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763 => &[12, 13, 14, 15, 16, 17, 18, 19], // Maestro
        5080..=5089 | 6000..=6099 | 8172..=8299 => &[16],                // RuPay
        _ => &[],
    };
    lengths.iter().fold(0, |bits, length| bits | 1u32 << length)
}

/// A US social security number: area not 000, 666 or 900 and above, group not 00, serial not 0000.
///
/// # Source
/// Social Security Administration, "Social Security Number Randomization", in force since 2011.
pub(super) fn ssn(digits: &[u8]) -> bool {
    if digits.len() != 9 {
        return false;
    }
    let area = number(&digits[..3]);
    area != 0 && area != 666 && area < 900 && &digits[3..5] != b"00" && &digits[5..] != b"0000"
}

/// A German tax identification number: among the first ten digits exactly one stands two or three
/// times, no zero in front, and the check digit of ISO/IEC 7064 MOD 11,10.
///
/// # Source
/// Section 139b of the Abgabenordnung; Bundeszentralamt für Steuern, the form since 2016.
pub(super) fn german_tax_id(digits: &[u8]) -> bool {
    if digits.len() != 11 || digits[0] == b'0' {
        return false;
    }
    let mut seen = [0u8; 10];
    for digit in &digits[..10] {
        seen[usize::from(digit - b'0')] += 1;
    }
    let repeated = seen.iter().filter(|&&times| times > 1).count();
    let most = seen.iter().max().copied().unwrap_or(0);
    if repeated != 1 || most > 3 {
        return false;
    }
    let mut product = 10;
    for digit in &digits[..10] {
        let sum = (u32::from(digit - b'0') + product) % 10;
        product = (if sum == 0 { 10 } else { sum }) * 2 % 11;
    }
    (11 - product) % 10 == u32::from(digits[10] - b'0')
}

/// A French registration number (NIR) of 15 digits: sex, a month, and the key 97 - (number mod 97).
/// Numbers from Corsica, which hold a letter, are not recognised.
///
/// # Source
/// INSEE, "Numéro d'inscription au répertoire".
pub(super) fn french_nir(digits: &[u8]) -> bool {
    digits.len() == 15
        && matches!(digits[0], b'1' | b'2')
        && matches!(number(&digits[3..5]), 1..=12 | 20 | 30..=42 | 50..=99)
        && number(&digits[13..]) == 97 - number(&digits[..13]) % 97
}

/// A Spanish DNI (eight digits) or NIE (X, Y or Z and seven digits) with its letter, upper case and
/// without separators.
///
/// # Source
/// Real Decreto 1553/2005; the letter is the number mod 23 in a fixed table.
pub(super) fn spanish_id(id: &[u8]) -> bool {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let [head @ .., letter] = id else { return false };
    let number = match head {
        [first @ b'X'..=b'Z', rest @ ..] if rest.len() == 7 => {
            u64::from(first - b'X') * 10_000_000 + number(rest)
        }
        _ if head.len() == 8 && head.iter().all(u8::is_ascii_digit) => number(head),
        _ => return false,
    };
    usize::try_from(number % 23).is_ok_and(|at| LETTERS[at] == *letter)
}

/// The first two letters of a UK national insurance number.
///
/// # Source
/// HMRC, National Insurance Manual NIM39110.
pub(super) fn nino_prefix(prefix: &str) -> bool {
    const NEVER: [&str; 7] = ["BG", "GB", "KN", "NK", "NT", "TN", "ZZ"];
    let prefix = prefix.to_ascii_uppercase();
    !NEVER.contains(&prefix.as_str())
        && !prefix.contains(['D', 'F', 'I', 'Q', 'U', 'V'])
        && !prefix.ends_with('O')
}

/// How long an IBAN of a country is.
///
/// # Source
/// SWIFT, IBAN Registry (ISO 13616-2).
pub(super) fn iban_length(country: [u8; 2]) -> Option<usize> {
    Some(match &country.map(|letter| letter.to_ascii_uppercase()) {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FK" | b"FO" | b"FI" | b"GL" | b"NL" | b"SD" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"XK" | b"MN" => 20,
        b"CR" | b"CH" | b"HR" | b"LI" | b"LV" => 21,
        b"BG" | b"BH" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"OM" | b"SO" | b"TL" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG" => 24,
        b"LY" | b"PT" | b"ST" => 25,
        b"IS" | b"TR" => 26,
        b"BI" | b"DJ" | b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" => 27,
        b"AL" | b"AZ" | b"BY" | b"CY" | b"DO" | b"GT" | b"HN" | b"HU" | b"LB" | b"NI" | b"PL" | b"SV" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}

/// The check digits of an IBAN without separators: with its first four characters at the end and
/// letters as 10 to 35, the remainder by 97 is 1 (ISO 13616-1, ISO/IEC 7064 MOD 97-10).
pub(super) fn iban(characters: &[u8]) -> bool {
    if characters.len() < 5 {
        return false;
    }
    let remainder =
        characters[4..].iter().chain(&characters[..4]).fold(0u32, |rest, character| match character {
            b'0'..=b'9' => (rest * 10 + u32::from(character - b'0')) % 97,
            letter => (rest * 100 + u32::from(letter.to_ascii_uppercase().wrapping_sub(b'A')) + 10) % 97,
        });
    remainder == 1
}

/// How many digits of a number's beginning are its country code; `None` when no country has it.
///
/// # Source
/// ITU-T E.164, list of assigned country codes.
pub(super) fn country_code(digits: &[u8]) -> Option<usize> {
    if digits.len() < 4 {
        return None;
    }
    match number(&digits[..3]) {
        100..=199 | 700..=799 => Some(1),
        200..=209
        | 270..=279
        | 300..=349
        | 360..=369
        | 390..=419
        | 430..=499
        | 510..=589
        | 600..=669
        | 810..=829
        | 840..=849
        | 860..=869
        | 900..=959
        | 980..=989 => Some(2),
        211..=213
        | 216
        | 218
        | 220..=258
        | 260..=269
        | 290
        | 291
        | 297..=299
        | 350..=359
        | 370..=383
        | 385..=387
        | 389
        | 420
        | 421
        | 423
        | 500..=509
        | 590..=599
        | 670
        | 672..=692
        | 800
        | 808
        | 850
        | 852
        | 853
        | 855
        | 856
        | 870
        | 878
        | 880..=883
        | 886
        | 888
        | 960..=968
        | 970..=977
        | 979
        | 992..=996
        | 998 => Some(3),
        _ => None,
    }
}

/// The value of at most 19 digits.
pub(super) fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_need_issuer_length_and_check_digit() {
        for good in [
            "4111111111111111",
            "4222222222222",
            "5555555555554444",
            "2223003122003222",
            "378282246310005",
            "30569309025904",
            "6011111111111117",
            "3530111333300000",
            "6200000000000005",
            "6759649826438453",
        ] {
            assert!(card(good.as_bytes()), "{good}");
        }
        for bad in ["4111111111111112", "41111111111111", "9999999999999995", "0000000000000000", "1234"] {
            assert!(!card(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn ibans_check_by_mod_97() {
        for good in [
            "DE89370400440532013000",
            "GB29NWBK60161331926819",
            "NO9386011117947",
            "MT84MALT011000012345MTLCAST001S",
        ] {
            let length = iban_length([good.as_bytes()[0], good.as_bytes()[1]]);
            assert_eq!(length, Some(good.len()), "{good}");
            assert!(iban(good.as_bytes()), "{good}");
        }
        assert!(!iban(b"DE88370400440532013000"));
        assert_eq!(iban_length(*b"US"), None);
    }

    #[test]
    fn german_tax_ids_check() {
        // The example of the tax office's own specification, and one digit off.
        assert!(german_tax_id(b"86095742719"));
        assert!(german_tax_id(b"47036892816"));
        assert!(german_tax_id(b"65929970489"));
        assert!(!german_tax_id(b"86095742718"));
        assert!(!german_tax_id(b"12345678901"));
        assert!(!german_tax_id(b"11111111111"));
    }

    #[test]
    fn other_national_ids_check() {
        assert!(ssn(b"460899847"));
        for bad in [b"000899847", b"666899847", b"900899847", b"460009847", b"460890000"] {
            assert!(!ssn(bad));
        }
        assert!(spanish_id(b"12345678Z") && spanish_id(b"X1234567L"));
        assert!(!spanish_id(b"12345678A") && !spanish_id(b"1234567Z") && !spanish_id(b""));
        assert!(french_nir(b"255081416802538"));
        assert!(!french_nir(b"255081416802539"));
        assert!(nino_prefix("AB") && nino_prefix("qq") != nino_prefix("ab"));
    }

    #[test]
    fn country_codes_are_the_assigned_ones() {
        for (digits, length) in [("1212", 1), ("4930", 2), ("3531", 3), ("8801", 3), ("7495", 1), ("9715", 3)]
        {
            assert_eq!(country_code(digits.as_bytes()), Some(length), "{digits}");
        }
        for none in ["0123", "2101", "9991", "2801"] {
            assert_eq!(country_code(none.as_bytes()), None, "{none}");
        }
    }
}
