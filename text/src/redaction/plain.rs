//! A stretch of text as detectors read it: in plain characters, with the way back to the text as written.
//!
//! Digits of every script become ASCII ones, full-width and mathematical letters plain ones, and
//! Greek and Cyrillic letters that look like Latin ones become those. What has no width is left out, and
//! so are marks through, around and on digits; HTML entities and percent encodings of ASCII are decoded.
//! Nothing else changes.

use unicode_normalization::char::{decompose_compatible, is_combining_mark};

use crate::clean::is_hidden;

/// The plain form of a stretch. Empty buffers are kept from one use to the next.
#[derive(Default)]
pub(super) struct Plain {
    text: String,
    /// For each byte of the plain text, where its character stands in the text as written.
    places: Vec<(u32, u32)>,
}

/// A text that detectors read, and where its bytes come from.
#[derive(Clone, Copy)]
pub(super) struct View<'t> {
    pub(super) text: &'t str,
    places: Option<&'t [(u32, u32)]>,
}

impl<'t> View<'t> {
    /// A text that is plain as it is.
    pub(super) fn plain(text: &'t str) -> Self {
        Self { text, places: None }
    }

    pub(super) fn mapped(text: &'t str, places: &'t [(u32, u32)]) -> Self {
        Self { text, places: Some(places) }
    }

    /// Where a stretch of this text, which is not empty, stands in the text as written.
    pub(super) fn written(&self, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
        match self.places {
            None => range,
            Some(places) => places[range.start].0 as usize..places[range.end - 1].1 as usize,
        }
    }

    /// The first place whose character stands at `at` of the text as written, or behind it.
    pub(super) fn place_of(&self, at: usize) -> usize {
        match self.places {
            None => at,
            Some(places) => places.partition_point(|&(start, _)| (start as usize) < at),
        }
    }
}

impl Plain {
    /// Reads a stretch; the view's places are offsets in `written`.
    pub(super) fn read<'t>(&'t mut self, written: &str) -> View<'t> {
        self.text.clear();
        self.places.clear();
        let bytes = written.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            if byte < 0x80 {
                let (c, length) = match byte {
                    b'%' | b'&' => decoded(&bytes[at..]).unwrap_or((byte, 1)),
                    _ => (byte, 1),
                };
                self.put(char::from(c), at, length);
                at += length;
                continue;
            }
            let Some(c) = written[at..].chars().next() else { break };
            let length = c.len_utf8();
            match read(c) {
                Read::Nothing => {}
                Read::As(plain) => self.put(plain, at, length),
                // No digit is spelt with a mark.
                Read::Itself
                    if self.text.ends_with(|last: char| last.is_ascii_digit() || last == '@')
                        && is_combining_mark(c) => {}
                Read::Itself => self.put(c, at, length),
            }
            at += length;
        }
        self.look_alike_digits();
        View::mapped(&self.text, &self.places)
    }

    fn put(&mut self, c: char, at: usize, length: usize) {
        // A region is a few kilobytes at most, a whole value less.
        let place = (at as u32, (at + length) as u32);
        self.text.push(c);
        self.places.resize(self.text.len(), place);
    }

    /// Reads letters that were written for digits: an `O` of another script among digits.
    fn look_alike_digits(&mut self) {
        if !self.text.bytes().any(|byte| matches!(byte, OH | EYE)) {
            return;
        }
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        for at in 0..bytes.len() {
            let (digit, letter) = match bytes[at] {
                OH => (b'0', b'o'),
                EYE => (b'1', b'i'),
                _ => continue,
            };
            let is_digit = |at: Option<usize>| {
                at.and_then(|at| bytes.get(at))
                    .is_some_and(|byte| byte.is_ascii_digit() || matches!(*byte, OH | EYE))
            };
            let among = is_digit(at.checked_sub(1)) || is_digit(Some(at + 1));
            let lone = !at.checked_sub(1).is_some_and(|at| bytes[at].is_ascii_alphabetic())
                && !bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic);
            bytes[at] = if among && lone { digit } else { letter };
        }
        self.text = String::from_utf8(bytes).unwrap_or_default();
        if self.text.is_empty() {
            self.places.clear();
        }
    }
}

/// Stand for an O and an I of another script until it is known whether digits are beside them.
const OH: u8 = 0x0e;
const EYE: u8 = 0x0f;

enum Read {
    Nothing,
    As(char),
    Itself,
}

/// Whether a character is read as a digit, an @ or nothing: what makes a word worth a look. Letters
/// that look alike do not count: whole languages are written in them.
pub(super) fn reads_differently(c: char) -> bool {
    match read(c) {
        Read::Nothing => true,
        Read::As(plain) => plain.is_ascii_digit() || matches!(plain, '@' | '[' | ']'),
        Read::Itself => false,
    }
}

/// Whether a character takes no room of its own: what shows nothing, and marks on the character before.
pub(super) fn has_no_width(c: char) -> bool {
    !c.is_ascii() && (matches!(read(c), Read::Nothing) || is_combining_mark(c))
}

fn read(c: char) -> Read {
    match c {
        // Joiners, which words of some scripts need; strokes and slashes through a character, and marks
        // around one, as in keycaps; what stands among tags and selectors and is not given to anything.
        '\u{200c}'
        | '\u{200d}'
        | '\u{335}'..='\u{338}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{e0080}'..='\u{e00ff}'
        | '\u{e01f0}'..='\u{e0fff}' => Read::Nothing,
        _ if is_hidden(c) => Read::Nothing,
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
            Read::As(' ')
        }
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{2043}' | '\u{fe58}' | '\u{fe63}' => Read::As('-'),
        '\u{85}' | '\u{2028}' | '\u{2029}' => Read::As('\n'),
        '\u{2018}' | '\u{2019}' | '\u{201b}' | '\u{2032}' => Read::As('\''),
        '\u{201c}'..='\u{201f}' | '\u{ab}' | '\u{bb}' => Read::As('"'),
        '\u{3002}' | '\u{ff61}' | '\u{2024}' => Read::As('.'),
        '\u{fe6b}' => Read::As('@'),
        _ => match digit(c).or_else(|| alike(c)).or_else(|| compatible(c)) {
            Some(plain) => Read::As(plain),
            None => Read::Itself,
        },
    }
}

/// The digit that a decimal digit of another script is (general category Nd).
fn digit(c: char) -> Option<char> {
    const ZEROS: [u32; 24] = [
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50,
        0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x19d0, 0x1a80, 0xa9d0, 0xff10,
    ];
    let code = u32::from(c);
    if code < 0x660 {
        return None;
    }
    let value = match code {
        0x1d7ce..=0x1d7ff => (code - 0x1d7ce) % 10,
        0x1fbf0..=0x1fbf9 => code - 0x1fbf0,
        _ => {
            let zero = ZEROS[..ZEROS.partition_point(|&zero| zero <= code)].last()?;
            code - zero
        }
    };
    (value < 10).then(|| char::from(b'0' + value as u8))
}

/// The Latin letter that a Greek or Cyrillic one looks like, in most typefaces.
///
/// # Source
/// Unicode Technical Standard 39, confusables; those of one letter that cannot be told apart.
fn alike(c: char) -> Option<char> {
    Some(match c {
        'А' | 'Α' => 'A',
        'а' | 'α' => 'a',
        'В' | 'Β' => 'B',
        'С' | 'Ϲ' => 'C',
        'с' | 'ϲ' => 'c',
        'ԁ' => 'd',
        'Е' | 'Ε' => 'E',
        'е' | 'ҽ' => 'e',
        'Ԍ' => 'G',
        'һ' => 'h',
        'Н' | 'Η' => 'H',
        // Among digits, these are digits.
        'І' | 'Ӏ' | 'Ι' | 'і' | 'ι' | 'ӏ' => char::from(EYE),
        'О' | 'Ο' | 'о' | 'ο' | 'σ' => char::from(OH),
        'Ј' => 'J',
        'ј' | 'ϳ' => 'j',
        'К' | 'Κ' => 'K',
        'к' | 'κ' => 'k',
        'М' | 'Μ' => 'M',
        'Ν' => 'N',
        'Р' | 'Ρ' => 'P',
        'р' | 'ρ' => 'p',
        'ԛ' => 'q',
        'Ѕ' => 'S',
        'ѕ' => 's',
        'Т' | 'Τ' => 'T',
        'ν' | 'ѵ' => 'v',
        'ԝ' => 'w',
        'Х' | 'Χ' => 'X',
        'х' | 'χ' => 'x',
        'У' | 'Υ' => 'Y',
        'у' | 'γ' => 'y',
        'Ζ' => 'Z',
        _ => return None,
    })
}

/// The ASCII character that a full-width, mathematical or circled one stands for.
fn compatible(c: char) -> Option<char> {
    if !matches!(u32::from(c), 0xb2 | 0xb3 | 0xb9 | 0x2070..=0x209c | 0x2460..=0x24ea | 0xff01..=0xff5e | 0xfe50..=0xfe6a | 0x1d400..=0x1d7cb)
    {
        return None;
    }
    let mut plain = None;
    let mut count = 0;
    decompose_compatible(c, |part| {
        plain = Some(part);
        count += 1;
    });
    plain.filter(|part| count == 1 && part.is_ascii_graphic())
}

/// An ASCII character that is encoded at the start of these bytes, and the length of the encoding:
/// `%40`, `&#64;`, `&#x40;`, `&commat;`.
fn decoded(bytes: &[u8]) -> Option<(u8, usize)> {
    if bytes[0] == b'%' {
        let hex = bytes.get(1..3)?;
        if !hex.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let value = hex.iter().fold(0, |value, &digit| value * 16 + hex_value(digit));
        // "100%20" is a space, but "5%42 of them" hardly a B: only what matters here is decoded.
        let wanted = matches!(value, 0x20 | 0x2b | 0x2d | 0x2e | 0x30..=0x39 | 0x40 | 0x5f);
        return wanted.then_some((value as u8, 3));
    }
    for (name, c) in
        [("&commat;", b'@'), ("&period;", b'.'), ("&nbsp;", b' '), ("&plus;", b'+'), ("&lowbar;", b'_')]
    {
        if bytes.starts_with(name.as_bytes()) {
            return Some((c, name.len()));
        }
    }
    let number = bytes.strip_prefix(b"&#")?;
    let (number, radix, head) = match number.first()? {
        b'x' | b'X' => (&number[1..], 16, 3),
        _ => (number, 10, 2),
    };
    let mut value = 0;
    for (at, &byte) in number.iter().take(7).enumerate() {
        if byte == b';' {
            let printable = at > 0 && (0x20..0x7f).contains(&value);
            return printable.then_some((value as u8, head + at + 1));
        }
        if !(byte.is_ascii_digit() || radix == 16 && byte.is_ascii_hexdigit()) {
            return None;
        }
        value = value * radix + hex_value(byte);
    }
    None
}

fn hex_value(digit: u8) -> u32 {
    char::from(digit).to_digit(16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_and_encodings_are_read_as_what_they_stand_for() {
        for (written, plain) in [
            ("４１１１", "4111"),
            ("٤١١١ ۴۱", "4111 41"),
            ("41\u{200b}11", "4111"),
            ("4\u{fe0f}\u{20e3}1\u{20e3}", "41"),
            ("4\u{336}1\u{338}1\u{332}\u{305}", "411"),
            ("4\u{fe00}1\u{e0100}1\u{17b4}1\u{17b5}", "4111"),
            ("e\u{301}", "e\u{301}"),
            ("41\u{2028}1", "41\n1"),
            ("jо@hоmе.de", "jo@home.de"),
            ("411О ОО1", "4110 001"),
            ("jo&#64;home%2Ede &#x34;&#49;", "jo@home.de 41"),
            ("jo&commat;home", "jo@home"),
            ("50% of &c; &#; &#99999999;", "50% of &c; &#; &#99999999;"),
            ("𝟒𝟏 ①", "41 1"),
            ("größe é 番号", "größe é 番号"),
            ("1–2", "1-2"),
        ] {
            assert_eq!(Plain::default().read(written).text, plain, "{written:?}");
        }
    }

    #[test]
    fn places_lead_back_to_what_was_written() {
        let mut plain = Plain::default();
        let written = "é &#52;\u{200b}１ x";
        let view = plain.read(written);
        let at = view.text.find("41").unwrap();
        assert_eq!(&written[view.written(at..at + 2)], "&#52;\u{200b}１");
        assert_eq!(view.place_of(written.find('１').unwrap()), at + 1);
    }
}
