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
//! it, never within a find. Characters of no width count for none of this, so padding hides nothing; where
//! they are more than [`PADDED_BYTES`], what stands among them is taken for hidden and found as it is.

use super::{
    Hit,
    lexicon::{Lexicon, key, key_of},
    plain,
    region::Detectors,
    spoken::{self, Trigger},
};

/// How many pieces before an active one belong to its region: the words of a spoken mailbox, a street
/// before its number.
const BACK: usize = 4;

/// How many pieces behind an active one belong to its region: a street behind its number, words that
/// say what a number was.
const ON: usize = 5;

/// The most bytes of a region that is looked at as a whole, without characters of no width.
const REGION_BYTES: usize = 4096;

/// The same with characters of no width, and so about the most that a stream holds back: hundreds between any
/// two digits of a card. No honest text has as many.
const PADDED_BYTES: usize = 64 * 1024;

/// More than anything that is found takes, in bytes without characters of no width: an encoded e-mail address.
pub(super) const MARGIN_BYTES: usize = 1024;

/// The most bytes of a word, and of the white space before one, that are taken as one piece.
const PIECE_BYTES: usize = 64;

/// The most that is kept undecided, in bytes: a region and the piece behind it.
pub(super) const HELD_BYTES: usize = PADDED_BYTES + 2 * PIECE_BYTES;

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
    /// Bytes of characters without width.
    hidden: u32,
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
        self.hidden = self.hidden.saturating_add(other.hidden);
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
    triggers: &'static Lexicon<Trigger>,
}

struct Open {
    start: usize,
    /// How many quiet pieces came since the last active one.
    quiet: usize,
    /// The last active piece may be a part of a spoken number; whether a word says so.
    numeric: Option<bool>,
    signs: Signs,
    /// It goes on from a stretch that was padded beyond what is held.
    padded: bool,
}

impl Open {
    /// Where the region is too long when nothing more of it is hidden.
    fn limit(&self) -> usize {
        self.start + (REGION_BYTES + self.signs.hidden as usize).min(PADDED_BYTES)
    }
}

impl Scanner {
    pub(super) fn new(detectors: Detectors) -> Self {
        Self {
            detectors,
            at: 0,
            starts: [0; 8],
            count: 0,
            floor: 0,
            open: None,
            triggers: spoken::triggers(),
        }
    }

    /// Goes on through a text that begins as it did in the call before. Returns how far it is
    /// decided, which is all of it when this is its `end`; hits are in order and lie before that.
    pub(super) fn scan(&mut self, text: &str, end: bool, hits: &mut Vec<Hit>) -> usize {
        let bytes = text.as_bytes();
        loop {
            self.skip(bytes);
            if let Some(open) = self.open.take_if(|open| open.quiet == ON + BACK) {
                // It ends before the last quiet pieces.
                let end = self.starts[(self.count - BACK) & 7];
                self.close(text, end, &open, hits);
                continue;
            }
            let Some((next, signs)) = piece(text, self.at, end, self.triggers) else { break };
            let ends = |open: &mut Open| {
                let whole = next - open.start;
                whole > PADDED_BYTES
                    || whole - signs.hidden as usize > REGION_BYTES + open.signs.hidden as usize
            };
            if let Some(open) = self.open.take_if(ends) {
                if next - open.start > PADDED_BYTES {
                    self.mask(text, &open, hits);
                } else {
                    self.force(text, &open, hits);
                }
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
                    open.signs.add(signs);
                }
                (None, true) => {
                    let start = if self.count > BACK { self.starts[(self.count - 1 - BACK) & 7] } else { 0 };
                    let start = start.max(self.floor);
                    let numeric = signs.numeric().then_some(signs.numbers > 0);
                    self.open = Some(Open { start, quiet: 0, numeric, signs, padded: false });
                }
                (None, false) => {}
            }
        }
        if end {
            if let Some(open) = self.open.take() {
                self.close(text, text.len(), &open, hits);
            }
            return text.len();
        }
        match &self.open {
            Some(open) => open.start,
            None if self.count >= BACK => self.starts[(self.count - BACK) & 7].max(self.floor),
            None => self.floor,
        }
    }

    /// Goes over words that are no reason to look closer, as long as they are the plain case: white space,
    /// one byte at most, letters, a mark behind them at most, a space. What [`piece`] says of them is the
    /// same.
    #[inline]
    fn skip(&mut self, bytes: &[u8]) {
        // A region ends behind so many of them, or because it is too long.
        let (mut most, limit) = match &self.open {
            Some(open) => (ON + BACK - open.quiet, open.limit()),
            None => (usize::MAX, usize::MAX),
        };
        let before = self.count;
        let mut word = self.at + usize::from(bytes.get(self.at) == Some(&b' '));
        while most > 0
            && let Some(end) = plain_word(bytes, word, self.triggers)
            && end <= limit
        {
            self.starts[self.count & 7] = self.at;
            self.count += 1;
            self.at = end;
            // White space stands there; to look again would be to wait for the memory.
            word = end + 1;
            most -= 1;
        }
        if let Some(open) = &mut self.open {
            open.quiet += self.count - before;
        }
    }

    /// Looks at a region that ends at byte `end`.
    fn close(&mut self, text: &str, end: usize, open: &Open, hits: &mut Vec<Hit>) {
        let region = open.start..end;
        self.floor = end;
        if open.padded {
            hits.extend(self.detectors.padded(text, region));
        } else {
            self.detectors.find(text, region, open.signs, hits);
        }
    }

    /// Decides the first part of a region that is too long to be looked at as a whole.
    fn force(&mut self, text: &str, open: &Open, hits: &mut Vec<Hit>) {
        let start = open.start;
        let before = hits.len();
        let end = text.floor_char_boundary(open.limit());
        let mut cut = match (open.signs.hidden, margin(&text[start..end])) {
            (0, _) => text.floor_char_boundary(end - MARGIN_BYTES),
            // A cut has to take the work on, and here it would go through what is padded.
            (_, shown) if shown < (end - start) / 4 => return self.mask(text, open, hits),
            (_, shown) => start + shown,
        };
        cut = text.ceil_char_boundary(cut);
        if open.padded {
            // What was padded ends in so much that is not.
            hits.extend(self.detectors.padded(text, start..cut));
        } else {
            // What lies in the piece that is cut was not counted.
            let marks = open.signs.marks | Signs::HIGH | Signs::ESCAPE | Signs::BRACKET | Signs::RUN;
            self.detectors.find(text, start..end, Signs { marks, ..open.signs }, hits);
            if let Some(across) = hits[before..].iter().find(|hit| hit.bytes.end > cut) {
                if across.bytes.start > start {
                    cut = cut.min(across.bytes.start);
                } else {
                    cut = across.bytes.end;
                }
            }
            hits.truncate(before + hits[before..].partition_point(|hit| hit.bytes.end <= cut));
        }
        self.reopen(cut, false);
    }

    /// Decides all of a region so padded that it is too long to be held: what is shown in it is hidden, and so
    /// is what it goes on with.
    fn mask(&mut self, text: &str, open: &Open, hits: &mut Vec<Hit>) {
        let found = self.detectors.padded(text, open.start..self.at);
        let padded = open.padded || found.is_some();
        hits.extend(found);
        self.reopen(self.at, padded);
    }

    /// Goes on with the rest of a region.
    fn reopen(&mut self, at: usize, padded: bool) {
        self.at = at;
        self.floor = at;
        self.count = 0;
        self.starts = [at; 8];
        self.open = Some(Open { start: at, quiet: 0, numeric: Some(true), signs: Signs::default(), padded });
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

/// Where the last [`MARGIN_BYTES`] of a text begin that have a width.
fn margin(text: &str) -> usize {
    let mut shown = 0;
    for (at, c) in text.char_indices().rev() {
        shown += if plain::has_no_width(c) { 0 } else { c.len_utf8() };
        if shown >= MARGIN_BYTES {
            return at;
        }
    }
    0
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

/// Where the piece ends whose word begins at `word`, when it is a plain word that triggers nothing.
#[inline]
fn plain_word(bytes: &[u8], word: usize, triggers: &Lexicon<Trigger>) -> Option<usize> {
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
    if (2..=10).contains(&letters) && triggers.may_hold(key_of(eight, letters)) {
        return None;
    }
    let mark = matches!(bytes.get(end)?, b',' | b'.' | b'?' | b'!' | b':' | b';' | b')');
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
fn piece(text: &str, from: usize, end: bool, triggers: &Lexicon<Trigger>) -> Option<(usize, Signs)> {
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
    let cut = at == word + PIECE_BYTES;
    if at == bytes.len() {
        if (!end && !cut) || at == from {
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
        if seen & ODD != 0 || (seen & HIGH != 0 && cut) {
            odd(&text[word..at], cut, &mut signs);
        }
        let escaped = |word: &[u8]| word.contains(&b';') || word.windows(3).any(|three| three == b"%40");
        if seen & ESCAPE != 0 && escaped(&bytes[word..at]) {
            signs.marks |= Signs::AT | Signs::LONE_AT;
        }
    }
    Some((at, signs))
}

/// What the characters of a word say that are read as others, or that have no width. `cut` says that it
/// goes on.
#[cold]
fn odd(word: &str, cut: bool, signs: &mut Signs) {
    let mut shown = false;
    for c in word.chars() {
        if plain::reads_differently(c) {
            signs.digits += 1;
            signs.marks |= Signs::OTHER | Signs::BRACKET;
            if matches!(c, '＠' | '﹫') {
                signs.marks |= Signs::AT | Signs::LONE_AT;
            }
        }
        if plain::has_no_width(c) {
            signs.hidden += c.len_utf8() as u32;
        } else {
            shown = true;
        }
    }
    // Marks without end, as they may stand between two digits.
    if cut && !shown {
        signs.digits += 1;
        signs.marks |= Signs::OTHER;
    }
}

/// What a word made of letters says.
fn word_signs(bytes: &[u8], start: usize, end: usize, triggers: &Lexicon<Trigger>, signs: &mut Signs) {
    let word = &bytes[start..end];
    match word.len() {
        1 => {
            // "a" and "I" are words; what a letter before or behind them says is enough. A letter
            // behind a curly apostrophe is the end of a word.
            let common = matches!(bytes[start] | 0x20, b'a' | b'i' | b'\'');
            let glued = start > 0 && bytes[start - 1] >= 0x80;
            signs.letters += u32::from(!common && !glued);
        }
        2..=10 if triggers.may_hold(key(word)) => {
            match std::str::from_utf8(word).ok().and_then(|word| triggers.of(word)) {
                Some(Trigger::Number) => {
                    // "forty-two"
                    signs.marks |= if signs.numbers > 0 { Signs::RUN } else { 0 };
                    signs.numbers += 1;
                }
                Some(Trigger::At) => signs.marks |= Signs::SAID_AT,
                Some(Trigger::Dot) => signs.marks |= Signs::DOT,
                Some(Trigger::Joint) => signs.marks |= Signs::OTHER,
                None => {}
            }
        }
        _ => {}
    }
}
