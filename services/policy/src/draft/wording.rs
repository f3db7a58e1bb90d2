//! Phrases as a company writes them down, found in a text as whole words.

use std::ops::Range;

use switchboard_text::words;

/// The longest phrase, in words; longer ones are found by their begin.
const MOST_WORDS: usize = 64;

/// The words of a text, read once for all phrases.
pub(super) struct Said<'t> {
    text: &'t str,
    words: Vec<(Range<usize>, String)>,
}

impl<'t> Said<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let place = |word: &str| {
            let at = word.as_ptr() as usize - text.as_ptr() as usize;
            (at..at + word.len(), word.to_lowercase())
        };
        Self { text, words: words::words(text).map(place).collect() }
    }

    /// Where a phrase stands: word by word, in any case, with any white space and marks between the words
    /// but the end of a sentence. A phrase without a word is nowhere.
    pub(super) fn places(&self, phrase: &str) -> Vec<Range<usize>> {
        let phrase: Vec<String> = words::words(phrase).take(MOST_WORDS).map(str::to_lowercase).collect();
        let mut found = Vec::new();
        if phrase.is_empty() {
            return found;
        }
        let mut at = 0;
        while let Some(stretch) = self.words.get(at..at + phrase.len()) {
            let same = stretch.iter().zip(&phrase).all(|((_, word), wanted)| word == wanted)
                && stretch
                    .windows(2)
                    .all(|pair| !self.text[pair[0].0.end..pair[1].0.start].contains(['.', '!', '?']));
            if same {
                found.push(stretch[0].0.start..stretch[phrase.len() - 1].0.end);
                at += phrase.len();
            } else {
                at += 1;
            }
        }
        found
    }
}
