//! Stop strings, in text that comes in pieces.

use aho_corasick::{AhoCorasick, MatchKind};

use crate::error::Error;

/// Stop strings of one request.
const MOST_STOPS: usize = 16;
/// Bytes of the longest one.
const LONGEST_STOP: usize = 256;

/// Finds stop strings, and holds back what may still become one.
///
/// The one that ends first wins; of those that end together, the longest. So what is let through depends on
/// the text alone, and not on how it is cut into pieces.
#[derive(Clone)]
pub(crate) struct Stops {
    stops: Vec<String>,
    finder: Option<AhoCorasick>,
    /// The end of the text so far that is the beginning of a stop string.
    held: String,
    /// The stop string that was found.
    found: Option<usize>,
}

impl Stops {
    /// For one sequence; `stops` may be empty.
    ///
    /// # Errors
    /// Names the one that is empty or too long, or says that there are too many.
    pub(crate) fn try_new(stops: Vec<String>) -> Result<Self, Error> {
        if stops.len() > MOST_STOPS {
            return Err(Error::invalid("stop", format!("{} strings; at most {MOST_STOPS}", stops.len())));
        }
        if let Some(index) = stops.iter().position(|stop| !(1..=LONGEST_STOP).contains(&stop.len())) {
            let problem = format!("{} bytes; 1 to {LONGEST_STOP} are allowed", stops[index].len());
            return Err(Error::invalid(format!("stop[{index}]"), problem));
        }
        let finder = match stops.is_empty() {
            true => None,
            false => {
                let finder = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&stops);
                Some(finder.map_err(|error| Error::invalid("stop", error.to_string()))?)
            }
        };
        Ok(Self { stops, finder, held: String::new(), found: None })
    }

    /// Takes a piece of text, and gives what can be handed out: nothing any more once a stop string was
    /// found, which is never handed out itself.
    pub(crate) fn push(&mut self, text: &str) -> String {
        let Some(finder) = &self.finder else { return text.to_owned() };
        if self.found.is_some() {
            return String::new();
        }
        self.held.push_str(text);
        let ready = match finder.find(&self.held).map(|found| found.end()) {
            Some(end) => {
                let ending = |(_, stop): &(usize, &String)| self.held[..end].ends_with(stop.as_str());
                let ending = self.stops.iter().enumerate().filter(ending);
                let longest = ending.max_by_key(|(_, stop)| stop.len());
                self.found = longest.map(|(index, _)| index);
                end - longest.map_or(0, |(_, stop)| stop.len())
            }
            None => self.held.len() - self.beginning(),
        };
        let rest = self.held.split_off(ready);
        std::mem::replace(&mut self.held, rest)
    }

    /// What was held back, at the end of the text; nothing where a stop string was found.
    pub(crate) fn finish(&mut self) -> String {
        match self.found {
            Some(_) => String::new(),
            None => std::mem::take(&mut self.held),
        }
    }

    /// The index of the stop string that was found.
    pub(crate) fn found(&self) -> Option<usize> {
        self.found
    }

    /// Bytes at the end that are the beginning of a stop string; the most that there are.
    fn beginning(&self) -> usize {
        let held = self.held.as_bytes();
        let of = |stop: &String| {
            let most = held.len().min(stop.len() - 1);
            let is_beginning = |length: &usize| held.ends_with(&stop.as_bytes()[..*length]);
            // Both are UTF-8, so what fits begins and ends with a character.
            (1..=most).rev().find(is_beginning).unwrap_or(0)
        };
        self.stops.iter().map(of).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stops(stops: &[&str]) -> Stops {
        Stops::try_new(stops.iter().map(|stop| (*stop).to_owned()).collect()).unwrap()
    }

    fn through(mut stops: Stops, pieces: &[&str]) -> (String, Option<usize>) {
        let mut text: String = pieces.iter().map(|piece| stops.push(piece)).collect();
        text.push_str(&stops.finish());
        (text, stops.found())
    }

    #[test]
    fn only_what_may_become_a_stop_string_is_held_back() {
        let mut stops = stops(&["</answer>", "\n\nUser:"]);
        assert_eq!(stops.push("It is there.\n"), "It is there.");
        assert_eq!(stops.push("And <"), "\nAnd ");
        assert_eq!(stops.push("b> <"), "<b> ");
        assert_eq!(stops.push("/answer> more"), "");
        assert_eq!((stops.push("and more"), stops.finish()), (String::new(), String::new()));
        assert_eq!(stops.found(), Some(0));
    }

    #[test]
    fn text_without_a_stop_string_is_let_through() {
        assert_eq!(through(stops(&["END"]), &["the E", "N"]), ("the EN".into(), None));
        assert_eq!(through(stops(&[]), &["the ", "END"]), ("the END".into(), None));
    }

    #[test]
    fn the_first_to_end_wins_and_of_these_the_longest() {
        assert_eq!(through(stops(&["abcd", "bc"]), &["xabcd"]), ("xa".into(), Some(1)));
        assert_eq!(through(stops(&["bc", "abc"]), &["xa", "bcd"]), ("x".into(), Some(1)));
        assert_eq!(through(stops(&["aab"]), &["aaa", "ab"]), ("aa".into(), Some(0)));
    }

    #[test]
    fn characters_stay_whole() {
        // Their first two bytes are the same.
        assert_eq!(through(stops(&["日x"]), &["無", "日", "本"]), ("無日本".into(), None));
    }

    #[test]
    fn a_stop_string_out_of_bounds_is_named() {
        for (bad, wanted) in [
            (vec!["a".to_owned(), String::new()], "stop[1]: 0 bytes; 1 to 256 are allowed"),
            (vec!["é".repeat(129)], "stop[0]: 258 bytes; 1 to 256 are allowed"),
            (vec!["a".to_owned(); 17], "stop: 17 strings; at most 16"),
        ] {
            assert_eq!(Stops::try_new(bad).err().unwrap().to_string(), wanted);
        }
    }

    /// The definition, without any memory.
    fn cut<'a>(text: &'a str, stops: &[String]) -> &'a str {
        let ends = text.char_indices().map(|(start, letter)| start + letter.len_utf8());
        for end in ends {
            let ending = stops.iter().filter(|stop| text[..end].ends_with(stop.as_str()));
            if let Some(longest) = ending.map(String::len).max() {
                return &text[..end - longest];
            }
        }
        text
    }

    proptest! {
        #[test]
        fn pieces_end_where_the_whole_would(
            pieces in prop::collection::vec("[abö]{0,5}", 0..8),
            stops in prop::collection::vec("[abö]{1,4}", 0..5),
        ) {
            let text = pieces.concat();
            let mut own = Stops::try_new(stops.clone()).unwrap();
            let mut out = String::new();
            for piece in &pieces {
                out.push_str(&own.push(piece));
                prop_assert!(cut(&text, &stops).starts_with(&out));
            }
            out.push_str(&own.finish());
            prop_assert_eq!(out, cut(&text, &stops));
        }
    }
}
