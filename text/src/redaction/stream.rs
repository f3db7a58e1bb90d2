//! Personal data in a text that comes in pieces.

use super::{
    Entity, Hit, Kinds,
    region::Detectors,
    scanner::{self, Scanner},
};
use crate::span::Span;

/// How much of a large chunk is looked at before what is decided of it is let go, in bytes.
const STEP_BYTES: usize = 16 * 1024;

/// Finds personal data in a text that comes in chunks, and gives the text on as soon as it is decided.
///
/// What may still become part of a find is held back: a few words as a rule, and with numbers in them
/// a few more, rarely more than four kilobytes; never more than [`Stream::HOLDS_AT_MOST`]. However the text is cut into chunks, the
/// pieces say what [`super::find_kinds`] says of the whole text: both run the same code, which decides
/// by the text alone where it may cut.
///
/// At the bound, a stretch of numbers or spoken letters without end is looked at in overlapping
/// windows: what would be found in it anywhere is still found, and no byte of it leaves; only the
/// words around are read less far. That holds for what takes at most [`Stream::FINDS_AT_MOST`]. Characters of
/// no width do not count, as long as all that is held back with them stays in its bound: in what is padded
/// beyond that everything is taken for hidden, and found as `padded`.
///
/// ```
/// use switchboard_text::redaction::{Kinds, Stream};
///
/// let mut stream = Stream::new(Kinds::PATTERNS);
/// let mut pieces = Vec::new();
/// for chunk in ["Write to jo@ho", "me.de", " please"] {
///     pieces.extend(stream.push(chunk));
/// }
/// pieces.extend(stream.finish());
/// let found: Vec<&str> = pieces.iter().filter(|p| p.entity.is_some()).map(|p| p.text.as_str()).collect();
/// assert_eq!(found, ["jo@home.de"]);
/// ```
pub struct Stream {
    scanner: Scanner,
    /// The end of what was given on, as context, and what is held back.
    buffer: String,
    /// How much of the buffer was given on, in bytes.
    given: usize,
    /// Where the buffer begins in the text, in bytes.
    bytes: usize,
    /// Where what is held back begins in the text, in characters.
    chars: usize,
    hits: Vec<Hit>,
}

/// A piece of a text that may leave.
#[derive(Clone, PartialEq)]
pub struct Piece {
    /// The text as it was written.
    pub text: String,
    /// What it is, when it is personal data; offsets are into the whole text.
    pub entity: Option<Entity>,
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Piece").field("entity", &self.entity).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("held", &self.held()).finish_non_exhaustive()
    }
}

impl Stream {
    /// The most that is held back after a call, in bytes.
    pub const HOLDS_AT_MOST: usize = scanner::HELD_BYTES;

    /// The longest that a find may be, in bytes without characters of no width, to be found in a stretch that
    /// goes on beyond what is held back.
    pub const FINDS_AT_MOST: usize = scanner::MARGIN_BYTES;

    /// A stream at its beginning, which finds these kinds.
    #[must_use]
    pub fn new(kinds: Kinds) -> Self {
        Self {
            scanner: Scanner::new(Detectors::new(kinds)),
            buffer: String::new(),
            given: 0,
            bytes: 0,
            chars: 0,
            hits: Vec::new(),
        }
    }

    /// How much is held back now, in bytes.
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.len() - self.given
    }

    /// Takes the next chunk; returns what may leave, in order. Neighbouring pieces without an entity
    /// are not joined.
    pub fn push(&mut self, chunk: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut rest = chunk;
        while !rest.is_empty() {
            let (step, behind) = rest.split_at(rest.floor_char_boundary(STEP_BYTES));
            rest = behind;
            self.buffer.push_str(step);
            self.advance(false, &mut pieces);
        }
        pieces
    }

    /// Says that the text ends here; returns what was held back.
    #[must_use]
    pub fn finish(mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.advance(true, &mut pieces);
        pieces
    }

    fn advance(&mut self, end: bool, pieces: &mut Vec<Piece>) {
        let mut hits = std::mem::take(&mut self.hits);
        let decided = self.scanner.scan(&self.buffer, end, &mut hits);
        for hit in hits.drain(..) {
            self.give(hit.bytes.start, pieces);
            let text = self.buffer[hit.bytes.clone()].to_owned();
            let chars = self.chars..self.chars + text.chars().count();
            self.chars = chars.end;
            self.given = hit.bytes.end;
            let bytes = self.bytes + hit.bytes.start..self.bytes + hit.bytes.end;
            let Hit { kind, score, detector, .. } = hit;
            pieces.push(Piece {
                text,
                entity: Some(Entity { span: Span { chars, bytes }, kind, score, detector }),
            });
        }
        self.hits = hits;
        self.give(decided, pieces);
        let kept = self.buffer.floor_char_boundary(Scanner::keep_from(decided));
        // Moving the rest costs as much as it is long, so it waits for something to gain by it.
        if kept > self.buffer.len() - kept {
            self.buffer.drain(..kept);
            self.scanner.forget(kept);
            self.given -= kept;
            self.bytes += kept;
        }
    }

    /// Gives on the text up to `end`, if there is any.
    fn give(&mut self, end: usize, pieces: &mut Vec<Piece>) {
        if end > self.given {
            let text = self.buffer[self.given..end].to_owned();
            self.chars += text.chars().count();
            self.given = end;
            pieces.push(Piece { text, entity: None });
        }
    }
}
