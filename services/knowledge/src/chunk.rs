//! Text to passages: pieces that can be found, read and cited on their own.
//!
//! Sentences are packed until a passage is full, and a heading stays with the sentence after it. A
//! new heading begins a new passage; where headings are only guessed (plain text), not before the
//! passage is half full. Cuts fall between paragraphs if that wastes little. A sentence is cut only
//! if it alone is too long.
//!
//! Measured on questions against help pages (recall of the answering span among five passages):
//! whole sentences beat windows of equal length, and overlapping passages gained nothing.

use std::ops::Range;

use crate::parse::{Block, Kind, Parsed};

/// Goes into every document's version: raise it when passages would be cut or embedded differently.
pub(crate) const VERSION: &str = "chunk-1";

/// How large passages may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) characters: usize,
    /// By [`estimate_tokens`].
    pub(crate) tokens: usize,
    /// Characters that a passage may repeat of the one before.
    pub(crate) overlap: usize,
}

/// A passage: where it is in the text, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Headings above its first sentence, outermost first.
    pub(crate) headings: Vec<String>,
    pub(crate) range: Range<usize>,
    /// Empty in a passage of headings only.
    pub(crate) sentences: Vec<Sentence>,
}

/// A sentence of a passage, in bytes of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sentence {
    pub(crate) range: Range<usize>,
    /// Where the headings directly before it begin; the sentence's start if there are none.
    pub(crate) lead: usize,
}

/// What is never cut unless it alone is too long: a sentence with the headings directly before it,
/// or headings that no sentence follows.
struct Unit<'a> {
    path: &'a [String],
    sentence: Option<Range<usize>>,
    range: Range<usize>,
    /// Where it lies in the text, in characters.
    characters: Range<usize>,
    /// Where it lies in the tokens of all units.
    tokens: Range<usize>,
    /// Whether another section begins here.
    opens: bool,
    /// Whether a paragraph ends here.
    ends_block: bool,
}

/// Cuts a document into passages, in order. Together they cover all of its blocks.
pub(crate) fn cut(parsed: &Parsed, limits: Limits) -> Vec<Cut> {
    let units = units(parsed, limits);
    let mut cuts = Vec::new();
    pack(&units, limits, parsed.loose_headings, |units| {
        let sentence =
            |unit: &Unit<'_>| unit.sentence.clone().map(|range| Sentence { range, lead: unit.range.start });
        cuts.push(Cut {
            headings: units[0].path.to_vec(),
            range: units[0].range.start..units[units.len() - 1].range.end,
            sentences: units.iter().filter_map(sentence).collect(),
        });
    });
    cuts
}

/// Distributes units over passages.
fn pack<'a>(units: &[Unit<'a>], limits: Limits, loose_headings: bool, mut passage: impl FnMut(&[Unit<'a>])) {
    let reach = |from: usize, end: usize| units[end - 1].characters.end - units[from].characters.start;
    let fits = |from: usize, end: usize| {
        reach(from, end) <= limits.characters
            && units[end - 1].tokens.end - units[from].tokens.start <= limits.tokens
    };
    // `from` is where the passage starts, `new` the first unit that no passage has had.
    let (mut from, mut new) = (0, 0);
    while new < units.len() {
        let mut end = new + 1;
        let closes =
            |end: usize| units[end].opens && !(loose_headings && reach(from, end) * 2 < limits.characters);
        while end < units.len() && !closes(end) && fits(from, end + 1) {
            end += 1;
        }
        if end < units.len() && !closes(end) {
            let paragraph = (new + 1..end).rev().find(|&end| units[end - 1].ends_block);
            // A quarter is what may be wasted to end with a paragraph.
            end = paragraph
                .filter(|&paragraph| reach(from, paragraph) * 4 >= limits.characters * 3)
                .unwrap_or(end);
        }
        passage(&units[from..end]);
        new = end;
        // Repeat whole sentences of the same section, as many as may be and leave room for a new one.
        from = end;
        while new < units.len()
            && !units[from].opens
            && reach(from - 1, end) <= limits.overlap
            && fits(from - 1, new + 1)
        {
            from -= 1;
        }
    }
}

fn units<'a>(parsed: &'a Parsed, limits: Limits) -> Vec<Unit<'a>> {
    let mut units: Vec<Unit<'a>> = Vec::new();
    let mut clock = Clock::new(&parsed.text);
    let mut headings: Vec<&Block> = Vec::new();
    for block in &parsed.blocks {
        if block.kind == Kind::Heading {
            headings.push(block);
            continue;
        }
        let body = &parsed.text[block.range.clone()];
        let mut pieces = Vec::new();
        for sentence in switchboard_text::sentences::split(body) {
            split_long(body, sentence.bytes, limits, &mut pieces);
        }
        let count = pieces.len();
        for (at, piece) in pieces.into_iter().enumerate() {
            let sentence = block.range.start + piece.start..block.range.start + piece.end;
            let mut range = sentence.clone();
            if at == 0
                && let Some(first) = headings.first()
            {
                let with = &parsed.text[first.range.start..range.end];
                if with.chars().count() <= limits.characters && estimate_tokens(with) <= limits.tokens {
                    range.start = first.range.start;
                } else {
                    push_headings(parsed, limits, &headings, &mut clock, &mut units);
                }
            }
            headings.clear();
            let opens =
                units.last().is_some_and(|last| last.path != block.path || range.start < sentence.start);
            let mut unit = Unit::new(&parsed.text, &block.path, range, units.last(), &mut clock);
            (unit.sentence, unit.opens, unit.ends_block) = (Some(sentence), opens, at + 1 == count);
            units.push(unit);
        }
    }
    push_headings(parsed, limits, &headings, &mut clock, &mut units);
    units
}

/// Adds headings as units of their own.
fn push_headings<'a>(
    parsed: &'a Parsed,
    limits: Limits,
    headings: &[&'a Block],
    clock: &mut Clock<'_>,
    units: &mut Vec<Unit<'a>>,
) {
    for (at, heading) in headings.iter().enumerate() {
        let text = &parsed.text[heading.range.clone()];
        let mut pieces = Vec::new();
        split_long(text, 0..text.len(), limits, &mut pieces);
        for piece in pieces {
            let range = heading.range.start + piece.start..heading.range.start + piece.end;
            let opens = at == 0 && units.last().is_some_and(|last| last.sentence.is_some());
            let mut unit = Unit::new(&parsed.text, &heading.path, range, units.last(), clock);
            unit.opens = opens;
            units.push(unit);
        }
    }
}

impl<'a> Unit<'a> {
    fn new(
        text: &str,
        path: &'a [String],
        range: Range<usize>,
        before: Option<&Self>,
        clock: &mut Clock<'_>,
    ) -> Self {
        let tokens = before.map_or(0, |before| before.tokens.end);
        Self {
            path,
            sentence: None,
            characters: clock.at(range.start)..clock.at(range.end),
            tokens: tokens..tokens + estimate_tokens(&text[range.clone()]),
            opens: false,
            ends_block: false,
            range,
        }
    }
}

fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let piece = &text[range.clone()];
    let start = range.start + (piece.len() - piece.trim_start().len());
    start..start + piece.trim().len()
}

/// Cuts a sentence that is too long, at white space where there is some in its second half.
fn split_long(text: &str, sentence: Range<usize>, limits: Limits, out: &mut Vec<Range<usize>>) {
    let mut rest = sentence;
    while !rest.is_empty() {
        let piece = &text[rest.clone()];
        let (mut end, mut space) = (piece.len(), None);
        let mut tokens = TokenCounter::default();
        for (count, (at, c)) in piece.char_indices().enumerate() {
            tokens.push(c);
            if count >= limits.characters || tokens.total > limits.tokens {
                end = at;
                break;
            }
            if c.is_whitespace() {
                space = Some(at);
            }
        }
        if end < piece.len()
            && let Some(space) = space.filter(|&space| space * 2 > end)
        {
            end = space;
        }
        // At least one character, or this would never end.
        let end = end.max(piece.chars().next().map_or(1, char::len_utf8));
        let cut = trim(text, rest.start..rest.start + end);
        if !cut.is_empty() {
            out.push(cut);
        }
        rest = trim(text, rest.start + end..rest.end);
    }
}

/// Estimates how many word pieces a model of the BERT family makes of a text: one for each six
/// letters of a word begun, one for each three digits begun, one for every other visible character
/// (marks, and writing without spaces). On English prose it is some tenth above the true count.
pub(crate) fn estimate_tokens(text: &str) -> usize {
    let mut counter = TokenCounter::default();
    text.chars().for_each(|c| counter.push(c));
    counter.total
}

#[derive(Default)]
struct TokenCounter {
    total: usize,
    letters: usize,
    digits: usize,
}

impl TokenCounter {
    fn push(&mut self, c: char) {
        if c.is_numeric() {
            self.letters = 0;
            self.total += usize::from(self.digits.is_multiple_of(3));
            self.digits += 1;
        } else if c.is_alphabetic() && (c as u32) < 0x2E80 {
            self.digits = 0;
            self.total += usize::from(self.letters.is_multiple_of(6));
            self.letters += 1;
        } else {
            (self.letters, self.digits) = (0, 0);
            self.total += usize::from(!c.is_whitespace());
        }
    }
}

/// Turns byte offsets into character offsets, in one pass while they go forward.
pub(crate) struct Clock<'a> {
    text: &'a str,
    byte: usize,
    character: usize,
}

impl<'a> Clock<'a> {
    /// A clock at the start of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, byte: 0, character: 0 }
    }

    /// The number of characters before `byte`.
    pub(crate) fn at(&mut self, byte: usize) -> usize {
        if byte >= self.byte {
            self.character += self.text[self.byte..byte].chars().count();
        } else {
            self.character -= self.text[byte..self.byte].chars().count();
        }
        self.byte = byte;
        self.character
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{document::Header, parse::parse};
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { characters: 100, tokens: 1000, overlap: 40 };

    fn document(id: &str, text: &str) -> Parsed {
        parse(&Header { document_id: id.into(), ..Header::default() }, text.as_bytes()).unwrap()
    }

    fn texts(parsed: &Parsed, limits: Limits) -> Vec<&str> {
        cut(parsed, limits).into_iter().map(|cut| &parsed.text[cut.range]).collect()
    }

    #[test]
    fn a_section_that_fits_is_one_passage_with_its_headings() {
        let parsed = document("a.md", "# A\n\n## B\n\nOne. Two.\n\nThree.\n\n## C\n\nFour.\n");
        let cuts = cut(&parsed, LIMITS);
        assert_eq!(texts(&parsed, LIMITS), ["A\n\nB\n\nOne. Two.\n\nThree.", "C\n\nFour."]);
        assert_eq!(cuts[0].headings, ["A", "B"]);
        let sentences: Vec<_> = cuts[0].sentences.iter().map(|s| &parsed.text[s.range.clone()]).collect();
        assert_eq!(sentences, ["One.", "Two.", "Three."]);
        assert_eq!(cuts[0].sentences[0].lead, 0, "the first sentence is led by its headings");
        assert_eq!(cuts[0].sentences[1].lead, cuts[0].sentences[1].range.start);
    }

    #[test]
    fn a_long_section_repeats_whole_sentences() {
        let text = "The first sentence is here. The second sentence is here. The third sentence is here. \
                    The fourth sentence is here. The fifth sentence is here.";
        let parsed = document("a.txt", text);
        assert_eq!(
            texts(&parsed, LIMITS),
            [
                "The first sentence is here. The second sentence is here. The third sentence is here.",
                "The third sentence is here. The fourth sentence is here. The fifth sentence is here.",
            ]
        );
    }

    #[test]
    fn cuts_fall_between_paragraphs_where_that_wastes_little() {
        let text = "The first paragraph is one sentence, and it is nearly eighty letters long, this.\n\nThe second starts. It goes on for longer than fits.";
        let none = Limits { overlap: 0, ..LIMITS };
        assert_eq!(
            texts(&document("a.txt", text), none)[1],
            "The second starts. It goes on for longer than fits."
        );
    }

    #[test]
    fn short_sections_of_plain_text_share_a_passage() {
        let text = "First\n\nThis is a short section here.\n\nSecond\n\nThis is another short one here.\n\nThird\n\nAnd \
                    this is the last section here.";
        let parsed = document("a.txt", text);
        let cuts = cut(&parsed, Limits { characters: 110, ..LIMITS });
        assert_eq!(cuts.iter().map(|cut| cut.headings[0].as_str()).collect::<Vec<_>>(), ["First", "Third"]);
        let sections =
            text.replace("First", "# First").replace("Second", "# Second").replace("Third", "# Third");
        assert_eq!(cut(&document("a.md", &sections), Limits { characters: 110, ..LIMITS }).len(), 3);
    }

    #[test]
    fn a_heading_at_the_end_is_not_lost() {
        let parsed = document("a.md", "# A\n\nText.\n\n# Contact");
        assert_eq!(texts(&parsed, LIMITS), ["A\n\nText.", "Contact"]);
    }

    #[test]
    fn a_faq_row_is_a_passage() {
        let parsed = document("faq.csv", "question,answer\nWrap?,Yes. Always.\nPhone?,No.\n");
        assert_eq!(texts(&parsed, LIMITS), ["Wrap?\n\nYes. Always.", "Phone?\n\nNo."]);
    }

    #[test]
    fn tokens_are_estimated_a_little_high() {
        assert_eq!(estimate_tokens("Returns, 12345 unworn-shoes!"), 2 + 1 + 2 + 1 + 1 + 1 + 1);
        assert_eq!(estimate_tokens("日本語"), 3);
    }

    proptest! {
        #[test]
        fn passages_cover_the_text_in_order_within_the_limits(
            text in "(# [A-Z][a-z]{1,9}\n\n|[A-Za-zäß日🙂]{1,130}|[a-z]{1,12} |[a-z]{1,9}\\. |\n\n|- |\\? ){0,120}",
            ending in "(md|txt)",
            characters in 50_usize..200,
            tokens in 16_usize..60,
            overlap in 0_usize..25,
        ) {
            let header = Header { document_id: format!("a.{ending}"), ..Header::default() };
            let Ok(parsed) = parse(&header, text.as_bytes()) else { return Ok(()) };
            let cuts = cut(&parsed, Limits { characters, tokens, overlap });
            let mut covered = vec![false; parsed.text.len()];
            let mut last = (0, 0);
            for cut in &cuts {
                let piece = &parsed.text[cut.range.clone()];
                prop_assert!(piece.chars().count() <= characters);
                prop_assert!((cut.range.start, cut.range.end) > last);
                prop_assert!(cut.range.end > last.1, "each passage brings something new");
                last = (cut.range.start, cut.range.end);
                covered[cut.range.clone()].fill(true);
                prop_assert!(cut.sentences.iter().all(|s| s.lead >= cut.range.start && s.range.end <= cut.range.end));
                let each = cut.sentences.iter().map(|s| estimate_tokens(&parsed.text[s.range.clone()]));
                prop_assert!(each.sum::<usize>() <= tokens);
            }
            for block in &parsed.blocks {
                let lost = parsed.text[block.range.clone()].char_indices().any(|(at, c)| {
                    !c.is_whitespace() && !covered[block.range.start + at]
                });
                prop_assert!(!lost, "nothing visible is lost");
            }
        }
    }
}
