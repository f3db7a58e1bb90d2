use std::sync::{Arc, Mutex};

use super::*;
use crate::transcribe::tests::{SIZE, vocabulary};

/// Some words of the small model.
const ONE: u32 = 100;
const TWO: u32 = 101;
const THREE: u32 = 102;

/// What a row writes: by its number and by how many tokens it has, the prompt's among them, the tokens that
/// are likely, with their logits. All others have 0.
type Script = fn(&Vocabulary, usize, usize) -> Vec<(u32, f32)>;

/// An engine whose rows are numbered by the first value of their windows.
struct Scripted {
    vocabulary: Vocabulary,
    script: Script,
    rows: Vec<(usize, usize)>,
    mark: Vec<(usize, usize)>,
    /// Rows of each step.
    steps: Arc<Mutex<Vec<usize>>>,
}

impl Engine for Scripted {
    fn encode(&mut self, windows: Windows) -> Result<(), BackendError> {
        self.rows = windows.values.iter().map(|value| (*value as usize, 0)).collect();
        Ok(())
    }

    fn decode(&mut self, ids: &[u32], width: usize, wanted: &[usize]) -> Result<Vec<f32>, BackendError> {
        assert_eq!(ids.len(), self.rows.len() * width);
        self.steps.lock().unwrap().push(self.rows.len());
        let mut logits = Vec::new();
        for (row, length) in &mut self.rows {
            for place in wanted {
                let mut own = vec![0.0; SIZE];
                for (token, logit) in (self.script)(&self.vocabulary, *row, *length + place + 1) {
                    own[token as usize] = logit;
                }
                logits.extend(own);
            }
            *length += width;
        }
        Ok(logits)
    }

    fn mark(&mut self) {
        self.mark.clone_from(&self.rows);
    }

    fn rewind(&mut self, rows: &[usize]) -> Result<(), BackendError> {
        self.rows = rows.iter().map(|row| self.mark[*row]).collect();
        Ok(())
    }

    fn keep(&mut self, rows: &[usize]) -> Result<(), BackendError> {
        self.rows = rows.iter().map(|row| self.rows[*row]).collect();
        Ok(())
    }
}

/// Decodes rows in a known language, without times: prompts of four tokens. Also the rows of each step.
fn decode(script: Script, rows: &[usize], most: usize) -> (Vec<Decoded>, Vec<usize>) {
    decode_in(Some(0), script, rows, most)
}

/// The same in one of the vocabulary's languages, or in one that is to be found out.
fn decode_in(
    language: Option<usize>,
    script: Script,
    rows: &[usize],
    most: usize,
) -> (Vec<Decoded>, Vec<usize>) {
    let words = vocabulary(&[]);
    let language = language.map(|number| &words.languages[number]);
    let steps = Arc::default();
    let mut engine = Scripted {
        vocabulary: vocabulary(&[]),
        script,
        rows: Vec::new(),
        mark: Vec::new(),
        steps: Arc::clone(&steps),
    };
    let forever = |_: usize| Some(Duration::from_secs(60));
    let mut decoder = Decoder {
        engine: &mut engine,
        vocabulary: &words,
        positions: 128,
        timestamps: false,
        translate: false,
        left: &forever,
    };
    let values = rows.iter().map(|row| *row as f32).collect();
    let of = |_: &usize| Row { before: &[], language, most, seed: 7 };
    let found = decoder
        .decode(Windows { rows: rows.len(), frames: 1, values }, &rows.iter().map(of).collect::<Vec<_>>());
    let found = found.unwrap().into_iter().map(Option::unwrap).collect();
    let steps = steps.lock().unwrap().clone();
    (found, steps)
}

/// Each row writes as many words as its number says.
fn counting(vocabulary: &Vocabulary, row: usize, length: usize) -> Vec<(u32, f32)> {
    match length.saturating_sub(4) < row {
        true => vec![([ONE, TWO, THREE][(row + length) % 3], 30.0)],
        false => vec![(vocabulary.end, 30.0)],
    }
}

#[test]
fn rows_that_are_done_leave_once_half_are() {
    let (found, steps) = decode(counting, &[1, 6, 2, 4], 50);
    assert_eq!(found.iter().map(|found| found.tokens.len()).collect::<Vec<_>>(), [1, 6, 2, 4]);
    // The prompt, then a step for each word: with two left, they go on alone, and with one the same.
    assert_eq!(steps, [4, 4, 4, 2, 2, 1, 1]);
    for (row, found) in [1, 6, 2, 4].into_iter().zip(found) {
        assert_eq!(decode(counting, &[row], 50).0[0].tokens, found.tokens);
    }
}

#[test]
fn tokens_are_bounded() {
    let (found, steps) = decode(counting, &[40], 9);
    // The prompt, and all but the last of them: nothing more is wanted behind it.
    assert_eq!((found[0].tokens.len(), steps.len()), (9, 9));
}

#[test]
fn what_repeats_itself_is_tried_again_at_higher_temperatures() {
    // The likeliest is a loop; the end is nearly as likely, so that drawing soon finds it.
    let looping: Script = |vocabulary, _, _| vec![(ONE, 30.0), (vocabulary.end, 29.0)];
    let (found, steps) = decode(looping, &[1], 100);
    assert!(found[0].tokens.len() < 60, "{}", found[0].tokens.len());
    assert!(steps.len() > 100, "the loop was tried first");
    // Drawn with the same seed each time.
    assert_eq!(decode(looping, &[1], 100).0[0].tokens, found[0].tokens);
}

#[test]
fn silence_is_not_tried_again() {
    // Nobody speaks, and no word is likely.
    let silent: Script = |vocabulary, _, length| match length {
        1 => vec![(vocabulary.no_speech.unwrap(), 30.0)],
        5 => vec![(vocabulary.end, 30.0)],
        _ => vec![(ONE, 0.1)],
    };
    let (found, steps) = decode(silent, &[1], 100);
    assert!(found[0].is_silence(), "{found:?}");
    assert_eq!(steps.len(), 2);
}

#[test]
fn languages_are_found_out_for_each_row() {
    // Row 0 speaks the first language, row 1 the second.
    let speaking: Script = |vocabulary, row, length| match length {
        1 => vec![(vocabulary.languages[row].id, 30.0)],
        _ => vec![(vocabulary.end, 30.0)],
    };
    let (found, _) = decode_in(None, speaking, &[0, 1], 9);
    let languages: Vec<_> = found.into_iter().map(|found| found.language).collect();
    assert_eq!(languages, [Some(0), Some(1)]);
}

#[test]
fn text_that_says_the_same_over_and_over_compresses_well() {
    assert!(compression(&"four five ".repeat(40)) > MOST_COMPRESSION);
    assert!(
        compression("I would like to return the blue shoes that I ordered on Monday.") < MOST_COMPRESSION
    );
    assert!(compression("") < MOST_COMPRESSION);
}
