//! Reads a reply as it arrives: sentences, and what each cites.
//!
//! [`Reader`] takes the text in pieces of any size, takes marks such as `[1]`, `[1][2]` and `[1, 3]` out of
//! it, and hands a sentence out as soon as what follows shows that it has ended. A line break always ends
//! one. A mark belongs to the sentence that it stands in or behind; one that begins a line, to the next.

use std::collections::VecDeque;

use switchboard_text::sentences;

/// Bytes of the longest sentence; a model that goes on without an end is not writing sentences.
pub(crate) const LONGEST_SENTENCE: usize = 2_000;
/// Bytes of the longest mark.
const LONGEST_MARK: usize = 48;
/// Most numbers that a sentence cites; the others say no more.
const MOST_NUMBERS: usize = 16;
/// What may stand between an item of a list or a heading and its beginning.
const BULLETS: [char; 8] = ['-', '*', '+', '•', '–', '#', '>', '·'];

/// A sentence of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cited {
    /// The sentence without marks, on one line.
    pub(crate) text: String,
    /// The numbers that it cites, as they are written, each once; 0 for one that is too large.
    pub(crate) numbers: Vec<u32>,
}

/// A sentence has more than [`LONGEST_SENTENCE`] bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// What is not handed out yet.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The line, without marks and in single spaces.
    line: String,
    /// Numbers with the place in `line` where they stood.
    marks: Vec<(usize, u32)>,
    /// What may become a mark.
    held: String,
    /// A mark stood right before what comes next.
    marked: bool,
    /// What has ended.
    done: VecDeque<Cited>,
}

impl Reader {
    /// Reads on; [`Reader::next`] has the sentences that have ended.
    ///
    /// # Errors
    /// [`TooLong`]; nothing more may be read then.
    pub(crate) fn push(&mut self, text: &str) -> Result<(), TooLong> {
        for c in text.chars() {
            self.read(c);
            if self.line.len() > LONGEST_SENTENCE {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    /// The next sentence that has ended.
    pub(crate) fn next(&mut self) -> Option<Cited> {
        self.done.pop_front()
    }

    /// The rest when the reply is over: the sentences that have ended, and one that has not.
    pub(crate) fn finish(mut self) -> (VecDeque<Cited>, Option<Cited>) {
        self.release();
        let open = !self.line.trim_end().ends_with(is_end);
        let before = self.done.len();
        self.cut(true);
        let unfinished = if open && self.done.len() > before { self.done.pop_back() } else { None };
        (self.done, unfinished)
    }

    fn read(&mut self, c: char) {
        if !self.held.is_empty() {
            match c {
                ']' => return self.close(),
                '0'..='9' | ' ' | ',' | ';' if self.held.len() < LONGEST_MARK => {
                    return self.held.push(c);
                }
                _ => self.release(),
            }
        }
        match c {
            '[' => self.held.push(c),
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => self.cut(true),
            c => self.write(c),
        }
    }

    /// A bracket closes: a mark, or text after all.
    fn close(&mut self) {
        let inside = self.held.trim_start_matches('[');
        let numbers: Vec<u32> = inside
            .split([',', ';'])
            .map(str::trim)
            .filter(|part| !part.is_empty())
            // What has a space inside is no number either, and no passage's.
            .map(|digits| digits.parse().unwrap_or(0))
            .collect();
        if numbers.is_empty() {
            self.held.push(']');
            return self.release();
        }
        self.held.clear();
        self.line.truncate(self.line.trim_end().len());
        for number in numbers {
            // More than one sentence may be waiting, but not many.
            if self.marks.len() < 4 * MOST_NUMBERS {
                self.marks.push((self.line.len(), number));
            }
        }
        self.marked = true;
    }

    /// What was held is no mark.
    fn release(&mut self) {
        for c in std::mem::take(&mut self.held).chars() {
            self.write(c);
        }
    }

    fn write(&mut self, c: char) {
        if c.is_whitespace() {
            if !self.line.is_empty() && !self.line.ends_with(' ') {
                self.line.push(' ');
                self.cut(false);
            }
        } else if !c.is_control() {
            // "within 30 days.[1]Then": the mark stood for the space.
            if self.marked && c.is_alphanumeric() && !self.line.is_empty() && !self.line.ends_with(' ') {
                self.line.push(' ');
            }
            self.line.push(c);
            // Some scripts have no spaces.
            if !c.is_ascii() {
                self.cut(false);
            }
        }
        self.marked = false;
    }

    /// Moves the sentences of the line that have ended to `done`; all of them when the line has ended.
    fn cut(&mut self, ended: bool) {
        let spans = sentences::split(&self.line);
        let mut given = 0;
        for (at, span) in spans.iter().enumerate() {
            let next = spans.get(at + 1).map_or(self.line.len(), |next| next.bytes.start);
            if !ended && (at + 1 == spans.len() || !has_ended(span.of(&self.line), &self.line[next..])) {
                break;
            }
            let mut numbers = Vec::new();
            for (_, number) in self.marks.iter().filter(|(place, _)| (given..=next).contains(place)) {
                if numbers.len() < MOST_NUMBERS && !numbers.contains(number) {
                    numbers.push(*number);
                }
            }
            self.marks.retain(|(place, _)| *place > next);
            given = next;
            let text = plain(span.of(&self.line));
            if text.contains(char::is_alphanumeric) {
                self.done.push_back(Cited { text: text.to_owned(), numbers });
            }
        }
        if ended {
            self.line.clear();
            self.marks.clear();
            self.marked = false;
        } else if given > 0 {
            self.line.drain(..given);
            self.marks.iter_mut().for_each(|(place, _)| *place -= given);
        }
    }
}

/// Whether nothing more can show that a sentence goes on: a whole word follows it, or, where there are no
/// spaces between words, anything.
fn has_ended(sentence: &str, rest: &str) -> bool {
    match rest.find(char::is_alphanumeric) {
        Some(word) => sentence.ends_with(['。', '！', '？']) || rest[word..].contains(' '),
        None => false,
    }
}

fn is_end(c: char) -> bool {
    matches!(
        c,
        '.' | '!' | '?' | '…' | '。' | '！' | '？' | '؟' | '۔' | '।' | '"' | '”' | '“' | '»' | ')' | '*'
    )
}

/// A sentence without the mark of a list or heading before it.
fn plain(sentence: &str) -> &str {
    let bare = sentence.trim_start_matches(BULLETS);
    if bare.starts_with(' ') || bare.is_empty() { bare.trim() } else { sentence }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn push(reader: &mut Reader, text: &str) -> Vec<Cited> {
        reader.push(text).unwrap();
        std::iter::from_fn(|| reader.next()).collect()
    }

    /// Sentences with their numbers, as `text|1,2`.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let mut reader = Reader::default();
        let mut all: Vec<Cited> = Vec::new();
        for piece in pieces {
            all.extend(push(&mut reader, piece));
        }
        let (rest, unfinished) = reader.finish();
        all.extend(rest.into_iter().chain(unfinished));
        let numbers = |cited: &Cited| cited.numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        all.iter().map(|cited| format!("{}|{}", cited.text, numbers(cited))).collect()
    }

    fn by_character(text: &str) -> Vec<String> {
        read(text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]))
    }

    #[test]
    fn marks_are_taken_out_and_belong_to_their_sentence() {
        for (text, expected) in [
            ("You can return shoes [1].", &["You can return shoes.|1"][..]),
            ("You can return shoes. [1]", &["You can return shoes.|1"]),
            (
                "You can return shoes.[1][2] It is free [ 3 ,1;3 ].",
                &["You can return shoes.|1,2", "It is free.|3,1"],
            ),
            ("It is free.[2]You pay nothing[3], ever.", &["It is free.|2", "You pay nothing, ever.|3"]),
            ("[1] It is free.\n[2] We open at 9.\r\n", &["It is free.|1", "We open at 9.|2"]),
            (
                "- shoes [1]\n* bags [2]\n\n## Fees [3]\n1. Open the app [4].",
                &["shoes|1", "bags|2", "Fees|3", "1. Open the app.|4"],
            ),
            ("See [Returns] and [] and [1a] and [2", &["See [Returns] and [] and [1a] and [2|"]),
            ("A [99999999999] b [0].", &["A b.|0"]),
            (
                "It takes 5 days. [1] It is approx. 3 km [2]. Bye.",
                &["It takes 5 days.|1", "It is approx. 3 km.|2", "Bye.|"],
            ),
            ("返品できます。[1]無料です。[2]", &["返品できます。|1", "無料です。|2"]),
            ("[[1]] x", &["[] x|1"]),
            (" \n[1]\n...\n---\n", &[]),
        ] {
            assert_eq!(read([text]), expected, "{text:?}");
            assert_eq!(by_character(text), expected, "{text:?}, a character at a time");
        }
    }

    #[test]
    fn a_sentence_is_given_out_once_the_next_word_is_whole() {
        let mut reader = Reader::default();
        assert_eq!(push(&mut reader, "Open until 5 p.m. [1] Th"), []);
        let first = Cited { text: "Open until 5 p.m.".into(), numbers: vec![1] };
        assert_eq!(push(&mut reader, "e "), [first]);
        assert_eq!(push(&mut reader, "shop is shut [2"), []);
        assert_eq!(push(&mut reader, "].\n"), [Cited { text: "The shop is shut.".into(), numbers: vec![2] }]);
        assert_eq!(push(&mut reader, "返品できます。"), []);
        assert_eq!(push(&mut reader, "無").len(), 1);
    }

    #[test]
    fn what_has_no_end_is_told_apart() {
        let mut reader = Reader::default();
        push(&mut reader, "It is free [1]. It takes 5");
        let (ended, unfinished) = reader.finish();
        assert!(ended.is_empty());
        assert_eq!(unfinished.unwrap().text, "It takes 5");
        let mut reader = Reader::default();
        push(&mut reader, "It is free [1].");
        assert_eq!(
            reader.finish(),
            (vec![Cited { text: "It is free.".into(), numbers: vec![1] }].into(), None)
        );
    }

    #[test]
    fn a_text_without_an_end_is_too_long_at_a_bound() {
        for piece in ["a", "[", "word ", "[1a", "[1] a", "。", "a.b"] {
            let mut reader = Reader::default();
            let mut bytes = 0;
            while bytes < 1 << 18 && reader.push(piece).is_ok() {
                while reader.next().is_some() {}
                bytes += piece.len();
                assert!(reader.line.len() + reader.held.len() <= LONGEST_SENTENCE + LONGEST_MARK);
            }
            assert!(bytes < 1 << 18, "{piece:?}");
        }
    }

    #[test]
    fn marks_without_end_take_no_room() {
        let mut reader = Reader::default();
        push(&mut reader, &"[1]".repeat(100_000));
        assert!(reader.marks.len() <= 64);
        assert_eq!(push(&mut reader, "It is free.\n")[0].numbers, [1]);
    }

    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[A-Za-zäß]{1,7}",
            2 => "[0-9]{1,3}",
            6 => Just(" ".to_owned()),
            3 => prop::sample::select(vec![". ", "! ", "?", "...", "\n", "\r\n", "。", ", ", "e.g. ", "Mr. ", "- "])
                .prop_map(str::to_owned),
            2 => prop::sample::select(vec!["[", "]", "[1", "[x]", "[]", "[,]", "\"", ")"]).prop_map(str::to_owned),
            3 => "\\[[0-9]{1,2}([,;] ?[0-9]{1,2}){0,2}\\]",
        ]
    }

    proptest! {
        #[test]
        fn how_a_reply_is_cut_into_pieces_changes_nothing(
            text in prop::collection::vec(piece(), 0..40).prop_map(|pieces| pieces.concat()),
            sizes in prop::collection::vec(1usize..9, 1..8),
        ) {
            let whole = read([text.as_str()]);
            prop_assert_eq!(&by_character(&text), &whole);
            let characters: Vec<char> = text.chars().collect();
            let (mut pieces, mut at) = (Vec::new(), 0);
            for size in sizes.iter().cycle() {
                if at >= characters.len() {
                    break;
                }
                pieces.push(characters[at..(at + size).min(characters.len())].iter().collect::<String>());
                at += size;
            }
            prop_assert_eq!(&read(pieces.iter().map(String::as_str)), &whole);
        }

        #[test]
        fn sentences_are_those_of_the_text_without_marks(
            lines in prop::collection::vec(prop::collection::vec(piece(), 0..12), 0..4),
        ) {
            // Each line by itself, without brackets: what the splitter makes of it.
            let lines: Vec<String> =
                lines.iter().map(|line| line.concat().replace(['[', ']', '\n', '\r'], "")).collect();
            let squeezed = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
            let lines: Vec<String> = lines.iter().map(squeezed).collect();
            let expected: Vec<String> = lines
                .iter()
                .flat_map(|line| sentences::split(line).into_iter().map(|span| plain(span.of(line)).to_owned()))
                .filter(|sentence| sentence.contains(char::is_alphanumeric))
                .map(|sentence| format!("{sentence}|"))
                .collect();
            prop_assert_eq!(by_character(&lines.join("\n")), expected);
        }

        #[test]
        fn every_number_in_a_sentence_is_cited_by_it(
            words in prop::collection::vec("[a-z]{1,6}", 1..8),
            numbers in prop::collection::vec(0u32..200, 1..16),
            place in 0usize..8,
        ) {
            let marks: String = numbers.iter().map(|n| format!("[{n}]")).collect();
            let mut parts = words.clone();
            let place = place.min(parts.len());
            parts.insert(place, marks);
            let mut once = Vec::new();
            numbers.iter().for_each(|n| if !once.contains(n) { once.push(*n) });
            let expected = once.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let text = format!("X {}.", parts.join(" "));
            prop_assert_eq!(by_character(&text), vec![format!("X {}.|{expected}", words.join(" "))]);
        }
    }
}
