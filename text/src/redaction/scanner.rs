//! Cuts a text into what is of no interest and regions that are looked at closely.
//!
//! One pass over the bytes, piece by piece: a piece is a word with the white space before it. A piece
//! with a digit, an @ or a word of spoken numbers and addresses is active; a region is a stretch of
//! active pieces with [`BACK`] quiet ones before it and [`ON`] behind it. Where regions lie depends on
//! the text alone, never on how much of it is known so far: that is what makes a stream give what the
//! whole text gives. Between regions nothing is looked at, so text goes through about as fast as it
//! can be read.
//!
//! A region that does not end within [`REGION_BYTES`] is looked at in windows of that size: what is
//! found in all but the last [`MARGIN_BYTES`] of a window stands, and the next window begins behind
//! it, never within a find.

use std::sync::LazyLock;

use super::{Hit, plain, region::Detectors, spoken};

/// How many pieces before an active one belong to its region: the words of a spoken mailbox, a street
/// before its number.
const BACK: usize = 4;

/// How many pieces behind an active one belong to its region: a street behind its number, words that
/// say what a number was.
const ON: usize = 5;

/// The most bytes of a region, and so about the most that a stream holds back.
pub(super) const REGION_BYTES: usize = 4096;

/// More than anything that is found takes, in bytes as written: an encoded e-mail address. What is
/// padded with characters of no width to take more may not be found in a region without end.
pub(super) const MARGIN_BYTES: usize = 1024;

/// The most bytes of a word, and of the white space before one, that are taken as one piece.
const PIECE_BYTES: usize = 64;

/// The most that is kept undecided, in bytes: a region and the piece behind it.
pub(super) const HELD_BYTES: usize = REGION_BYTES + 2 * PIECE_BYTES;

/// How much text before a region its detectors may read, in bytes.
pub(super) const CONTEXT_BYTES: usize = 96;

/// What a region holds, so that only the detectors that can find something are run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signs {
    /// Digits of any script.
    pub(super) digits: u32,
    /// Words of numbers.
    pub(super) numbers: u32,
    /// Letters that stand alone.
    letters: u32,
    marks: u16,
}

impl Signs {
    /// An @ as a sign.
    pub(super) const AT: u16 = 1;
    /// An @ with white space beside it.
    const LONE_AT: u16 = 2;
    /// The word "at".
    const SAID_AT: u16 = 4;
    /// The word "dot", or a full stop that stands alone.
    const DOT: u16 = 8;
    /// A full stop within a word.
    const POINT: u16 = 16;
    /// At least two colons in a word.
    pub(super) const COLONS: u16 = 32;
    /// Bytes outside ASCII.
    pub(super) const HIGH: u16 = 64;
    /// What may be the beginning of an encoded character.
    pub(super) const ESCAPE: u16 = 128;
    /// An opening bracket.
    pub(super) const BRACKET: u16 = 256;
    /// Something else that makes a piece active.
    const OTHER: u16 = 512;
    /// Two words of numbers, or one and a digit or a letter, with at most two words between.
    pub(super) const RUN: u16 = 1024;

    pub(super) fn has(self, mark: u16) -> bool {
        self.marks & mark != 0
    }

    /// Whether there can be an e-mail address of any form.
    pub(super) fn may_hold_email(self) -> bool {
        self.has(Self::AT) || self.may_hold_spoken_email()
    }

    /// Whether there can be one that was said, or is written with spaces.
    pub(super) fn may_hold_spoken_email(self) -> bool {
        (self.has(Self::SAID_AT) && self.has(Self::DOT | Self::POINT))
            || (self.has(Self::AT) && (self.has(Self::DOT | Self::LONE_AT) || self.letters >= 2))
    }

    fn add(&mut self, other: Self) {
        self.digits = self.digits.saturating_add(other.digits);
        self.numbers = self.numbers.saturating_add(other.numbers);
        self.letters = self.letters.saturating_add(other.letters);
        self.marks |= other.marks;
    }

    /// Whether it may be a part of a spoken number.
    fn numeric(self) -> bool {
        self.digits | self.numbers | self.letters != 0
    }

    fn active(self) -> bool {
        const MARKS: u16 = Signs::AT | Signs::SAID_AT | Signs::DOT | Signs::COLONS | Signs::OTHER;
        self.numeric() || self.has(MARKS)
    }
}

/// The state between two calls; offsets are into the text that the next call gets.
pub(super) struct Scanner {
    detectors: Detectors,
    /// Where the next piece begins.
    at: usize,
    /// Where the last pieces begin, by their number modulo 8.
    starts: [usize; 8],
    /// How many pieces there were since `floor`.
    count: usize,
    /// Where the last region ended.
    floor: usize,
    open: Option<Open>,
    triggers: &'static Filter,
}

struct Open {
    start: usize,
    /// How many quiet pieces came since the last active one.
    quiet: usize,
    /// The last active piece may be a part of a spoken number; whether a word says so.
    numeric: Option<bool>,
    signs: Signs,
}

impl Scanner {
    pub(super) fn new(detectors: Detectors) -> Self {
        Self { detectors, at: 0, starts: [0; 8], count: 0, floor: 0, open: None, triggers: &TRIGGERS }
    }

    /// Goes on through a text that begins as it did in the call before. Returns how far it is
    /// decided, which is all of it when this is its `end`; hits are in order and lie before that.
    pub(super) fn scan(&mut self, text: &str, end: bool, hits: &mut Vec<Hit>) -> usize {
        let bytes = text.as_bytes();
        loop {
            if self.open.is_none() {
                self.skip(bytes);
            }
            let Some((next, signs)) = piece(text, self.at, end, self.triggers) else { break };
            if let Some(open) = &self.open
                && next - open.start > REGION_BYTES
            {
                let (start, signs) = (open.start, open.signs);
                self.force(text, start, signs, hits);
                continue;
            }
            self.starts[self.count & 7] = self.at;
            self.count += 1;
            self.at = next;
            match (&mut self.open, signs.active()) {
                (Some(open), true) => {
                    if signs.numeric() {
                        let said = signs.numbers > 0;
                        if open.quiet <= 2 && open.numeric.is_some_and(|before| before || said) {
                            open.signs.marks |= Signs::RUN;
                        }
                        open.numeric = Some(said);
                    }
                    open.quiet = 0;
                    open.signs.add(signs);
                }
                (Some(open), false) => {
                    open.quiet += 1;
                    open.signs.marks |= signs.marks;
                    if open.quiet == ON + BACK {
                        let region = open.start..self.starts[(self.count - BACK) & 7];
                        self.floor = region.end;
                        self.detectors.find(text, region, open.signs, hits);
                        self.open = None;
                    }
                }
                (None, true) => {
                    let start = if self.count > BACK { self.starts[(self.count - 1 - BACK) & 7] } else { 0 };
                    let start = start.max(self.floor);
                    let numeric = signs.numeric().then_some(signs.numbers > 0);
                    self.open = Some(Open { start, quiet: 0, numeric, signs });
                }
                (None, false) => {}
            }
        }
        if end {
            if let Some(open) = self.open.take() {
                self.detectors.find(text, open.start..text.len(), open.signs, hits);
            }
            return text.len();
        }
        match &self.open {
            Some(open) => open.start,
            None if self.count >= BACK => self.starts[(self.count - BACK) & 7].max(self.floor),
            None => self.floor,
        }
    }

    /// Goes over words that are no reason to look closer, as long as they are the plain case: at most
    /// one space, letters, at most one mark behind them, a space. What [`piece`] says of them is the same.
    #[inline]
    fn skip(&mut self, bytes: &[u8]) {
        while let Some(end) = plain_word(bytes, self.at, self.triggers) {
            self.starts[self.count & 7] = self.at;
            self.count += 1;
            self.at = end;
        }
    }

    /// Decides the first part of a region that is too long to be held.
    fn force(&mut self, text: &str, start: usize, signs: Signs, hits: &mut Vec<Hit>) {
        let before = hits.len();
        let end = text.floor_char_boundary(start + REGION_BYTES);
        // What lies in the piece that is cut was not counted.
        let marks = signs.marks | Signs::HIGH | Signs::ESCAPE | Signs::BRACKET | Signs::RUN;
        self.detectors.find(text, start..end, Signs { marks, ..signs }, hits);
        let mut cut = text.floor_char_boundary(end - MARGIN_BYTES);
        if let Some(across) = hits[before..].iter().find(|hit| hit.bytes.end > cut) {
            if across.bytes.start > start {
                cut = cut.min(across.bytes.start);
            } else {
                cut = across.bytes.end;
            }
        }
        hits.truncate(before + hits[before..].partition_point(|hit| hit.bytes.end <= cut));
        self.at = cut;
        self.floor = cut;
        self.count = 0;
        self.starts = [cut; 8];
        self.open = Some(Open { start: cut, quiet: 0, numeric: Some(true), signs: Signs::default() });
    }

    /// How much of a text that is decided up to `decided` must be given to the next call.
    pub(super) fn keep_from(decided: usize) -> usize {
        decided.saturating_sub(CONTEXT_BYTES)
    }

    /// Says that the next call's text begins `bytes` later.
    pub(super) fn forget(&mut self, bytes: usize) {
        self.at -= bytes;
        self.floor = self.floor.saturating_sub(bytes);
        for start in &mut self.starts {
            *start = start.saturating_sub(bytes);
        }
        if let Some(open) = &mut self.open {
            open.start -= bytes;
        }
    }
}

const SPACE: u16 = 1;
const LETTER: u16 = 2;
const DIGIT: u16 = 4;
const AT: u16 = 8;
const COLON: u16 = 16;
/// The first byte of a character that may be read as another; see [`plain::reads_differently`].
const ODD: u16 = 32;
const HIGH: u16 = 64;
/// Beginnings of encodings: `&commat;`, `%40`.
const ESCAPE: u16 = 128;
const POINT: u16 = 256;
const BRACKET: u16 = 512;

static CLASSES: [u16; 256] = classes();

const fn classes() -> [u16; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' => SPACE,
            b'a'..=b'z' | b'A'..=b'Z' | b'\'' => LETTER,
            b'0'..=b'9' => DIGIT,
            b'@' => AT,
            b':' => COLON,
            b'&' | b'%' => ESCAPE,
            b'.' => POINT,
            b'[' => BRACKET,
            // Latin letters with marks, Greek, Cyrillic, Hebrew and the letters of Arabic cannot.
            0xc2 | 0xd9 | 0xdb | 0xdf..=0xff => HIGH | ODD,
            0x80.. => HIGH,
            _ => 0,
        };
        byte += 1;
    }
    classes
}

fn class(byte: u8) -> u16 {
    CLASSES[usize::from(byte)]
}

/// Where the piece at `at` ends, when it is a plain word that triggers nothing.
#[inline]
fn plain_word(bytes: &[u8], at: usize, triggers: &Filter) -> Option<usize> {
    let word = at + usize::from(*bytes.get(at)? == b' ');
    let eight = u64::from_le_bytes(*bytes.get(word..)?.first_chunk()?);
    let mut letters = leading_letters(eight);
    let mut end = word + letters;
    match letters {
        0 => return None,
        1 if !matches!(bytes[word] | 0x20, b'a' | b'i') => return None,
        8 => {
            let more = leading_letters(u64::from_le_bytes(*bytes.get(end..)?.first_chunk()?));
            if more == 8 {
                return None;
            }
            letters += more;
            end += more;
        }
        _ => {}
    }
    if (2..=10).contains(&letters) {
        let kept = if letters >= 8 { u64::MAX } else { (1 << (8 * letters)) - 1 };
        let key = ((eight | 0x2020_2020_2020_2020) & kept) ^ ((letters as u64) << 56);
        if triggers.may_hold(key) {
            return None;
        }
    }
    let mark = matches!(bytes.get(end)?, b',' | b'.' | b'?' | b'!');
    end += usize::from(mark);
    (class(*bytes.get(end)?) == SPACE).then_some(end)
}

/// How many of eight bytes are ASCII letters or apostrophes before the first that is not.
#[inline]
fn leading_letters(eight: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // Without its high bit a byte plus one of these has it when it is large enough.
    let low = (eight | (0x20 * ONES)) & !HIGHS;
    let from_a = low + (0x80 - b'a' as u64) * ONES;
    let above_z = low + (0x80 - b'z' as u64 - 1) * ONES;
    let apostrophe = (eight ^ (b'\'' as u64 * ONES)) & !HIGHS;
    let not_apostrophe = apostrophe + 0x7f * ONES;
    let letter = (from_a & !above_z) | !not_apostrophe;
    let other = (!letter | eight) & HIGHS;
    (other.trailing_zeros() / 8) as usize
}

/// The piece of a text that begins at `from`: where it ends, and what it holds. `None` when it may go
/// on behind what is known of the text.
fn piece(text: &str, from: usize, end: bool, triggers: &Filter) -> Option<(usize, Signs)> {
    let bytes = text.as_bytes();
    let mut at = from;
    let limit = bytes.len().min(from + PIECE_BYTES);
    while at < limit && class(bytes[at]) == SPACE {
        at += 1;
    }
    if at == from + PIECE_BYTES {
        return Some((at, Signs::default()));
    }
    let word = at;
    let limit = bytes.len().min(word + PIECE_BYTES);
    let mut signs = Signs::default();
    let mut seen = 0;
    let mut colons = 0;
    while at < limit {
        let class = class(bytes[at]);
        if class == LETTER {
            let start = at;
            at += 1;
            while at < limit && self::class(bytes[at]) == LETTER {
                at += 1;
            }
            word_signs(bytes, start, at, triggers, &mut signs);
            continue;
        }
        if class == SPACE {
            break;
        }
        seen |= class;
        signs.digits += u32::from(class == DIGIT);
        colons += u32::from(class == COLON);
        at += 1;
    }
    if at == bytes.len() {
        if (!end && at < word + PIECE_BYTES) || at == from {
            return None;
        }
    } else {
        at = text.floor_char_boundary(at);
    }
    if seen != 0 {
        let lone_at = at > word && (bytes[word] == b'@' || bytes[at - 1] == b'@');
        let dot = at == word + 1 && bytes[word] == b'.';
        let marks = [
            (seen & AT != 0, Signs::AT),
            (lone_at, Signs::LONE_AT),
            (dot, Signs::DOT),
            (seen & POINT != 0 && bytes[word..at - 1].contains(&b'.'), Signs::POINT),
            (colons > 1, Signs::COLONS),
            (seen & HIGH != 0, Signs::HIGH),
            (seen & ESCAPE != 0, Signs::ESCAPE),
            (seen & BRACKET != 0, Signs::BRACKET),
        ];
        for (is, mark) in marks {
            signs.marks |= if is { mark } else { 0 };
        }
        if seen & ODD != 0 {
            odd(&text[word..at], &mut signs);
        }
        let escaped = |word: &[u8]| word.contains(&b';') || word.windows(3).any(|three| three == b"%40");
        if seen & ESCAPE != 0 && escaped(&bytes[word..at]) {
            signs.marks |= Signs::AT | Signs::LONE_AT;
        }
    }
    Some((at, signs))
}

/// What the characters of a word say that are read as others.
#[cold]
fn odd(word: &str, signs: &mut Signs) {
    for c in word.chars().filter(|&c| plain::reads_differently(c)) {
        signs.digits += 1;
        signs.marks |= Signs::OTHER | Signs::BRACKET;
        if matches!(c, '＠' | '﹫') {
            signs.marks |= Signs::AT | Signs::LONE_AT;
        }
    }
}

/// What a word made of letters says.
fn word_signs(bytes: &[u8], start: usize, end: usize, triggers: &Filter, signs: &mut Signs) {
    match end - start {
        1 => {
            // "a" and "I" are words; what a letter before or behind them says is enough. A letter
            // behind a curly apostrophe is the end of a word.
            let common = matches!(bytes[start] | 0x20, b'a' | b'i' | b'\'');
            let glued = start > 0 && bytes[start - 1] >= 0x80;
            signs.letters += u32::from(!common && !glued);
        }
        2..=10 if triggers.may_hold(key(bytes, start, end)) => match spoken::trigger(&bytes[start..end]) {
            Some(spoken::Trigger::Number) => {
                // "forty-two"
                signs.marks |= if signs.numbers > 0 { Signs::RUN } else { 0 };
                signs.numbers += 1;
            }
            Some(spoken::Trigger::At) => signs.marks |= Signs::SAID_AT,
            Some(spoken::Trigger::Dot) => signs.marks |= Signs::DOT,
            Some(spoken::Trigger::Joint) => signs.marks |= Signs::OTHER,
            None => {}
        },
        _ => {}
    }
}

/// A word's first eight bytes in lower case, with its length.
#[inline]
fn key(bytes: &[u8], start: usize, end: usize) -> u64 {
    let length = end - start;
    let word = match bytes.get(start..start + 8).and_then(|eight| <[u8; 8]>::try_from(eight).ok()) {
        Some(eight) => u64::from_le_bytes(eight),
        None => {
            let mut eight = [0; 8];
            let kept = length.min(8);
            eight[..kept].copy_from_slice(&bytes[start..start + kept]);
            u64::from_le_bytes(eight)
        }
    };
    let kept = if length >= 8 { u64::MAX } else { (1 << (8 * length)) - 1 };
    ((word | 0x2020_2020_2020_2020) & kept) ^ ((length as u64) << 56)
}

/// A set of keys that says no to nearly all words after one multiplication.
struct Filter([u64; 256]);

impl Filter {
    #[inline]
    fn place(key: u64) -> (usize, u32) {
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50;
        ((hash >> 6) as usize & 255, (hash & 63) as u32)
    }

    #[inline]
    fn may_hold(&self, key: u64) -> bool {
        let (word, bit) = Self::place(key);
        self.0[word] >> bit & 1 == 1
    }
}

static TRIGGERS: LazyLock<Filter> = LazyLock::new(|| {
    let mut filter = Filter([0; 256]);
    for word in spoken::triggers() {
        let (place, bit) = Filter::place(key(word.as_bytes(), 0, word.len()));
        filter.0[place] |= 1 << bit;
    }
    filter
});
