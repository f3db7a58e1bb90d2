//! Texts full of personal data, and of what nearly is some: the same for the same seed.

use switchboard_text::redaction::{Kind, Kinds};

/// Pieces that texts are made of.
const FRAGMENTS: &[&str] = &[
    // Personal data, written.
    "jo@home.de",
    "Jörg.Müller+x@shop.example.de",
    "4111 1111 1111 1111",
    "4111111111111111",
    "3782 822463 10005",
    "DE89 3704 0044 0532 0130 00",
    "GB29NWBK60161331926819",
    "460-89-9847",
    "AB 12 34 56 C",
    "86 095 742 719",
    "12345678Z",
    "X1234567L",
    "+49 (0)30 1234567",
    "(555) 123-4567",
    "1-800-555-0199",
    "555-123-4567 x89",
    "06.10.99.23.65",
    "0049 171 1234567",
    "203.0.113.7",
    "2001:db8::ff00:42:8329",
    "RSSMRA85T10A562S",
    "131052-308T",
    "756.9217.0769.85",
    "6/24/1991",
    "July 4th, 1984",
    "4. Juli 1984",
    "[card-1]",
    "[email-22]",
    "742 Evergreen Terrace, Springfield, IL 62704",
    "Hauptstraße 12a, 10115 Berlin",
    "P.O. Box 149",
    "12 rue de la Paix",
    // The same, said.
    "four one five double two five oh one two three",
    "oh",
    "triple five",
    "nineteen eighty four",
    "july fourth",
    "jay at acme dot com",
    "j o h n underscore doe at gmail dot com",
    "j. o. h. n.",
    "dot",
    "at",
    "4 1 5 5 5 5 1 2 1 2",
    "a b one two three four five six c",
    "jo [at] home [dot] de",
    "null eins sieben",
    // Words that say what a number is.
    "call me at",
    "my account number is",
    "is my account number",
    "MRN",
    "patient no.",
    "born on",
    "date of birth:",
    "is my date of birth",
    "order number",
    "card",
    "SSN",
    "Tel.",
    "I live at",
    "passport",
    "(mobile)",
    "-Fax",
    // Nearly something.
    "2019",
    "12:30",
    "$1,299.00",
    "1.2.3.4.5",
    "@",
    ".",
    "::",
    "00-",
    "+1",
    "DE89 ",
    "4111 1111 1111 1112",
    "a@a.bb",
    "in 2 days",
    "5",
    "7 ",
    "12",
    "3.14",
    "2/3",
    "it",
    "one",
    "Street",
    "straße",
    "[",
    "]",
    "(",
    ")",
    "#",
    "-",
    "/",
    // Other scripts and encodings.
    "４１１１",
    "٤١١١",
    "𝟒𝟏",
    "о",
    "jо@hоmе.de",
    "&#64;",
    "%40",
    "&#x34;",
    "&commat;",
    "%34%31",
    "\u{200b}",
    "\u{a0}",
    "\u{feff}",
    "é",
    "ß",
    "番号は",
    "です",
    "😀",
    "Привет",
    "שלום",
    "’s",
    "don’t",
    "ｊｏ＠ｈｏｍｅ．ｄｅ",
    "\u{202e}",
    // Ordinary words.
    "hello",
    "thank you",
    "the parcel",
    "has not",
    "arrived",
    "please",
    "a",
    "I",
    "and",
    "können",
    "Sie",
];

const SEPARATORS: &[&str] = &[
    " ", " ", " ", " ", " ", " ", "", "", ", ", ". ", "\n", "\n\n", "  ", "\t", "-", ": ", " - ", "...",
    "\u{a0}", "/",
];

/// Words that secrets are put among: what says what a number is, and what says something else.
const FILLERS: &[&str] = &[
    "hello",
    "thank you",
    "the parcel",
    "has not arrived",
    "please",
    "a",
    "I",
    "and",
    "können Sie",
    "Straße",
    "番号は",
    "Привет",
    "😀",
    "order",
    "my card",
    "invoice",
    "call me",
    "SSN",
    "IBAN",
    "my account number",
    "at",
    "dot",
    "one",
    "born on",
    "(",
    ")",
    "e-mail",
    "version",
    "I live at",
    "-",
    "is",
    "USD",
];

/// Characters that show nothing.
const HIDDEN: &[&str] =
    &["\u{200b}", "\u{2060}", "\u{ad}", "\u{fe0f}", "\u{e0041}", "\u{200d}", "\u{336}", "\u{feff}"];

const AROUND: &[&str] = &[" ", " ", " ", "\n", ", ", ". ", "; ", "\t", "  ", ": "];

/// SplitMix64: small, and the same on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A text, the lengths of its chunks and the kinds to look for.
pub(crate) struct Case {
    /// The text.
    pub(crate) text: String,
    /// How long chunks are, in characters.
    pub(crate) cuts: Vec<usize>,
    /// What is looked for.
    pub(crate) kinds: Kinds,
}

/// The case of a seed.
pub(crate) fn case(seed: u64) -> Case {
    let random = &mut Random(seed);
    let mut text = String::new();
    // Long enough, now and then, for the bound on what is held back.
    let long = random.below(16) == 0;
    for _ in 0..random.below(if long { 700 } else { 40 }) {
        match random.below(24) {
            0 => text.extend((0..random.below(30)).map(|_| char::from(b'0' + random.below(10) as u8))),
            1 => text.extend((0..random.below(12)).map(|_| char::from(b' ' + random.below(95) as u8))),
            2 => text.extend(char::from_u32(random.below(0x3100) as u32)),
            3 if long => {
                let (fragment, times) = (random.pick(FRAGMENTS), random.below(400));
                text.push_str(&fragment.repeat(times));
            }
            4 if long => {
                let piece = format!("{}{}", random.pick(FRAGMENTS), random.pick(SEPARATORS));
                text.push_str(&piece.repeat(random.below(200)));
            }
            _ => text.push_str(random.pick(FRAGMENTS)),
        }
        text.push_str(random.pick(SEPARATORS));
    }
    let reach = random.pick(&[1, 3, 10, 100, 5000]);
    let cuts = (0..=random.below(12)).map(|_| random.below(reach + 1)).collect();
    let kinds = match random.below(3) {
        0 => Kinds::ALL,
        1 => Kinds::PATTERNS,
        _ => Kind::ALL.into_iter().filter(|_| random.below(2) == 0).collect(),
    };
    Case { text, cuts, kinds }
}

/// A text with a secret in it.
pub(crate) struct Known {
    /// The text.
    pub(crate) text: String,
    /// Where the secret stands in it, in bytes.
    pub(crate) secret: std::ops::Range<usize>,
}

/// A text of a seed with a secret in it, which no words around it can hide.
pub(crate) fn known(seed: u64) -> Known {
    let random = &mut Random(seed);
    let mut text = String::new();
    let before = random.below(20);
    fill(random, before, &mut text);
    text.push_str(random.pick(AROUND));
    let start = text.len();
    let mut secret = secret(random);
    if random.below(3) == 0 {
        secret = padded(random, &secret);
    }
    text.push_str(&secret);
    let secret = start..text.len();
    text.push_str(random.pick(AROUND));
    let behind = random.below(20);
    fill(random, behind, &mut text);
    Known { text, secret }
}

fn fill(random: &mut Random, words: usize, text: &mut String) {
    for _ in 0..words {
        text.push_str(random.pick(FILLERS));
        text.push_str(random.pick(AROUND));
    }
}

/// A card, an IBAN, a phone number from abroad, a social security number or an e-mail address. One of
/// their spaces may be a line break.
fn secret(random: &mut Random) -> String {
    let mut secret = match random.below(5) {
        0 => {
            let mut digits = format!("4{}", digits(random, 14));
            let check = (0..10).find(|check| luhn(&format!("{digits}{check}")).is_multiple_of(10));
            digits.extend(check.and_then(|check| char::from_digit(check, 10)));
            grouped(&digits, random.pick(&["", " ", "-", "  ", " - "]))
        }
        1 => {
            let account = digits(random, 18);
            // DE is 1314 (ISO 13616-1), and the check digits stand behind it.
            let rest =
                format!("{account}131400").bytes().fold(0, |rest, c| (rest * 10 + u32::from(c - b'0')) % 97);
            grouped(&format!("DE{:02}{account}", 98 - rest), random.pick(&["", " "]))
        }
        2 => format!("+49 171 {}", digits(random, 7)),
        3 => format!("{}-{}-{}", 100 + random.below(500), 10 + random.below(90), 1000 + random.below(9000)),
        _ => format!("{}.{}@{}.de", letters(random), letters(random), letters(random)),
    };
    if random.below(3) == 0
        && let Some(space) = secret.rfind(' ')
    {
        secret.replace_range(space..=space, random.pick(&["\n", "\r\n", " \n "]));
    }
    secret
}

/// A secret with hidden characters among its own, up to some hundred between two.
fn padded(random: &mut Random, secret: &str) -> String {
    let most = random.pick(&[2, 20, 300]);
    let mut padded = String::new();
    for c in secret.chars() {
        if !padded.is_empty() && random.below(3) > 0 {
            padded.push_str(&random.pick(HIDDEN).repeat(random.below(most)));
        }
        padded.push(c);
    }
    padded
}

fn digits(random: &mut Random, count: usize) -> String {
    (0..count).map(|_| char::from(b'0' + random.below(10) as u8)).collect()
}

fn letters(random: &mut Random) -> String {
    (0..3 + random.below(6)).map(|_| char::from(b'a' + random.below(26) as u8)).collect()
}

fn grouped(characters: &str, separator: &str) -> String {
    let groups: Vec<&str> =
        (0..characters.len()).step_by(4).map(|at| &characters[at..characters.len().min(at + 4)]).collect();
    groups.join(separator)
}

/// The sum whose last digit is 0 in a valid card number (ISO/IEC 7812-1 annex B).
fn luhn(digits: &str) -> u32 {
    let doubled = |value: u32| if value > 4 { value * 2 - 9 } else { value * 2 };
    let values = digits.bytes().rev().map(|digit| u32::from(digit - b'0'));
    values.enumerate().map(|(place, value)| if place % 2 == 1 { doubled(value) } else { value }).sum()
}
