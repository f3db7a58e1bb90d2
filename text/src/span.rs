//! A stretch of a text, in characters and in bytes.

use std::ops::Range;

/// A stretch of a text. Characters (Unicode scalar values) are what contracts speak of, bytes are
/// what Rust slices by; both say the same stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offsets in characters.
    pub chars: Range<usize>,
    /// Offsets in bytes, on character boundaries.
    pub bytes: Range<usize>,
}

impl Span {
    /// The stretch itself. `text` must be the text that this span was found in.
    ///
    /// # Panics
    /// When the span does not lie within `text`.
    #[must_use]
    pub fn of<'t>(&self, text: &'t str) -> &'t str {
        &text[self.bytes.clone()]
    }

    /// The spans of byte ranges, in their order, which may be any, overlapping too. One pass over `text`.
    ///
    /// # Panics
    /// When a range does not lie within `text` on character boundaries.
    #[must_use]
    pub fn of_bytes(text: &str, ranges: &[Range<usize>]) -> Vec<Self> {
        let mut places: Vec<usize> = ranges.iter().flat_map(|range| [range.start, range.end]).collect();
        places.sort_unstable();
        places.dedup();
        let mut counted = Vec::with_capacity(places.len());
        let mut spans = Spans::new(text);
        for &place in &places {
            counted.push(spans.advance(place));
        }
        let count = |place: usize| places.binary_search(&place).map_or(0, |at| counted[at]);
        let span =
            |bytes: &Range<usize>| Self { chars: count(bytes.start)..count(bytes.end), bytes: bytes.clone() };
        ranges.iter().map(span).collect()
    }
}

/// Turns byte ranges into spans in one pass; ranges come in order and do not overlap.
pub(crate) struct Spans<'t> {
    text: &'t str,
    byte: usize,
    character: usize,
}

impl<'t> Spans<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, byte: 0, character: 0 }
    }

    pub(crate) fn next(&mut self, bytes: Range<usize>) -> Span {
        let start = self.advance(bytes.start);
        let end = self.advance(bytes.end);
        Span { chars: start..end, bytes }
    }

    fn advance(&mut self, to: usize) -> usize {
        self.character += self.text[self.byte..to].chars().count();
        self.byte = to;
        self.character
    }
}
