//! Text inside text: base64, hexadecimal, percent signs and escapes.

use std::ops::Range;

use super::Folded;

/// How often an encoding may hold another one.
const MAX_DEPTH: usize = 3;
/// How many stretches of a text are decoded at most, and of what is inside it.
const MAX_PIECES: usize = 32;
/// How much text is decoded in all, in bytes, for one text.
const MAX_DECODED: usize = 64 << 10;
/// The longest stretch that is decoded, in bytes, a whole number of groups in each encoding; of a longer
/// one it is the begin.
const LONGEST: usize = 48 << 10;
/// The shortest stretch that is tried, in bytes: twelve letters in base64.
const SHORTEST: usize = 16;

impl Folded {
    /// What is encoded within a text, and whether that is all of it: base64 (either alphabet), hexadecimal, percent and backslash
    /// escapes; what is inside those too, three deep. Takes the text as written, since folding
    /// breaks encodings. Only what decodes to readable text counts; the work is bounded.
    #[must_use]
    pub fn decoded(text: &str) -> (Vec<Self>, bool) {
        let mut found = Vec::new();
        let mut all = true;
        let mut left = MAX_DECODED;
        let mut open: Vec<(String, Option<Range<usize>>, usize)> = Vec::new();
        let mut push = |text: &str, origin: Option<&Range<usize>>, depth: usize, open: &mut Vec<_>| {
            if depth >= MAX_DEPTH {
                return;
            }
            let (pieces, whole) = pieces(text);
            all &= whole;
            for (place, inner) in pieces {
                if found.len() >= MAX_PIECES || inner.len() > left {
                    all = false;
                    return;
                }
                left -= inner.len();
                let origin = origin.cloned().unwrap_or(place);
                let folded = Self::new(&inner);
                found.push(folded.mapped(folded.text.chars().map(|c| (c, origin.clone()))));
                open.push((inner, Some(origin), depth + 1));
            }
        };
        push(text, None, 0, &mut open);
        while let Some((text, origin, depth)) = open.pop() {
            push(&text, origin.as_ref(), depth, &mut open);
        }
        (found, all)
    }
}

/// Encoded stretches of a text with what they say, and whether each was looked at to its end.
fn pieces(text: &str) -> (Vec<(Range<usize>, String)>, bool) {
    let mut found = Vec::new();
    let mut whole = true;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() && found.len() <= MAX_PIECES {
        let run = bytes[at..].iter().take_while(|byte| is_code(**byte)).count();
        if run == 0 {
            at += 1;
            continue;
        }
        let range = at..at + run;
        whole &= run <= LONGEST;
        if run >= SHORTEST
            && let Some(stretch) = text.get(at..at + run.min(LONGEST))
        {
            match decode(stretch) {
                Some(inner) => found.push((range.clone(), inner)),
                // Something stands right before or behind: "data=...", "/path/...".
                None => found.extend(parts(stretch, at)),
            }
        }
        at = range.end;
    }
    found.extend(spaced_hex(text));
    (found, whole)
}

/// Encoded parts of a run that is none as a whole.
fn parts(run: &str, start: usize) -> Vec<(Range<usize>, String)> {
    let mut found = Vec::new();
    let mut at = start;
    for part in run.split(['=', '/', '{', '}', '%', '\\']) {
        if part.len() >= SHORTEST && part.len() < run.len() {
            found.extend(decode(part).map(|inner| (at..at + part.len(), inner)));
        }
        at += part.len() + 1;
    }
    found
}

/// A byte of a run that could be encoded text.
fn is_code(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_' | b'%' | b'\\' | b'{' | b'}')
}

fn decode(run: &str) -> Option<String> {
    if run.contains('%') || run.contains('\\') {
        return escaped(run);
    }
    hex(run).or_else(|| base64(run))
}

/// Text with letters in it, and nothing that no text has.
fn readable(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let strange = text.chars().any(|c| (c.is_control() && !c.is_whitespace()) || c == '\u{fffd}');
    (!strange && letters * 2 >= text.chars().count()).then_some(text)
}

fn base64(run: &str) -> Option<String> {
    let run = run.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(run.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0u32);
    for byte in run.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    readable(bytes)
}

fn hex(run: &str) -> Option<String> {
    let digits = run.strip_prefix("0x").unwrap_or(run).as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let bytes = digits.chunks(2).map(|pair| {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()
    });
    readable(bytes.collect::<Option<_>>()?)
}

/// `69 67 6e 6f 72 65 ...`: at least twelve pairs, a space between.
fn spaced_hex(text: &str) -> Vec<(Range<usize>, String)> {
    const FEWEST: usize = 12;
    let mut found = Vec::new();
    let mut run: Vec<u8> = Vec::new();
    let (mut start, mut end) = (0, 0);
    let mut flush = |run: &mut Vec<u8>, place: Range<usize>| {
        let bytes = std::mem::take(run);
        if bytes.len() >= FEWEST && bytes.len() <= MAX_DECODED && found.len() <= MAX_PIECES {
            found.extend(readable(bytes).map(|inner| (place, inner)));
        }
    };
    let mut at = 0;
    for word in text.split(' ') {
        let byte = (word.len() == 2).then(|| u8::from_str_radix(word, 16).ok()).flatten();
        match byte {
            Some(byte) => {
                if run.is_empty() {
                    start = at;
                }
                run.push(byte);
                end = at + word.len();
            }
            None => flush(&mut run, start..end),
        }
        at += word.len() + 1;
    }
    flush(&mut run, start..end);
    found
}

/// `%69%67`, `\x69`, `\u0069`, `\u{69}`; the rest as it stands. `None` when hardly anything is escaped:
/// a web address may have an escape, and the text is looked at as written anyway.
fn escaped(run: &str) -> Option<String> {
    const FEWEST: usize = 4;
    let bytes = run.as_bytes();
    let digits = |range: Range<usize>| u32::from_str_radix(run.get(range)?, 16).ok();
    let mut out = Vec::with_capacity(run.len());
    let mut escapes = 0;
    let mut at = 0;
    while at < bytes.len() {
        let (value, length) = match (bytes[at], bytes.get(at + 1)) {
            (b'%', _) => (digits(at + 1..at + 3), 3),
            (b'\\', Some(b'x')) => (digits(at + 2..at + 4), 4),
            (b'\\', Some(b'u')) if bytes.get(at + 2) == Some(&b'{') => {
                let close = run.get(at + 3..)?.bytes().take(7).position(|byte| byte == b'}');
                close.map_or((None, 1), |close| (digits(at + 3..at + 3 + close), close + 4))
            }
            (b'\\', Some(b'u')) => (digits(at + 2..at + 6), 6),
            _ => (None, 1),
        };
        match value {
            Some(value) if length <= 4 => {
                out.push(u8::try_from(value).ok()?);
                escapes += 1;
                at += length;
            }
            Some(value) => {
                let c = char::from_u32(value)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                escapes += 1;
                at += length;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    (escapes >= FEWEST).then(|| readable(out)).flatten()
}
