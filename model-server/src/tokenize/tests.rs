use std::path::PathBuf;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::setup;

fn tokenizer(max_tokens: usize) -> TextTokenizer {
    TextTokenizer::load(&setup::model().join("tokenizer.json"), max_tokens).unwrap()
}

fn row(tokenizer: &TextTokenizer, text: &str, truncation: Truncation) -> Result<Tokens, Error> {
    tokenizer.row(tokenizer.split(text).unwrap(), truncation, false)
}

#[test]
fn rows_are_neither_padded_nor_cut_at_the_files_length() {
    let tokenizer = tokenizer(256);
    let tokens = row(&tokenizer, "hello", Truncation::End).unwrap();
    assert_eq!((tokens.row, tokens.truncated), (Row::single(vec![101, 7592, 102]), false));
    let long = row(&tokenizer, &"hello ".repeat(200), Truncation::End).unwrap();
    assert_eq!(long.row.ids.len(), 202);
}

#[test]
fn a_long_text_is_cut_at_either_end_or_refused() {
    let tokenizer = tokenizer(16);
    assert!(!row(&tokenizer, &"hello ".repeat(14), Truncation::Refuse).unwrap().truncated);
    let text = format!("first {}last", "hello ".repeat(13));
    let [end, start] = [Truncation::End, Truncation::Start].map(|side| row(&tokenizer, &text, side).unwrap());
    let last = tokenizer.id("last").unwrap();
    assert!(end.truncated && start.truncated);
    assert_eq!((end.row.ids.len(), end.row.ids[1], end.row.ids[15]), (16, 2034, 102));
    assert_eq!((start.row.ids.len(), start.row.ids[0], start.row.ids[14]), (16, 101, last));
    let error = row(&tokenizer, &text, Truncation::Refuse).unwrap_err();
    assert!(matches!(error, Error::TooLong { tokens: 17, most: 16, .. }), "{error}");
}

#[test]
fn of_a_pair_the_longer_text_is_cut_first() {
    let tokenizer = tokenizer(12);
    let split = |text: &str| tokenizer.split(text).unwrap();
    let pair = tokenizer.pair(split("a b"), split(&"c ".repeat(20)), Truncation::End).unwrap();
    assert!(pair.truncated);
    assert_eq!((pair.row.ids.len(), pair.row.second), (12, 4));
    let pair = tokenizer.pair(split(&"c ".repeat(20)), split(&"d ".repeat(20)), Truncation::End).unwrap();
    assert_eq!((pair.row.ids.len(), pair.row.second), (12, 6));
}

#[test]
fn spans_are_in_characters() {
    let tokenizer = tokenizer(16);
    let raw = tokenizer.split_with_spans("Größe 😀 ok").unwrap();
    let tokens = tokenizer.row(raw, Truncation::End, true).unwrap();
    assert_eq!((tokens.spans[0], tokens.spans.len()), (None, tokens.row.ids.len()));
    assert_eq!(tokens.spans[tokens.spans.len() - 2], Some((8, 10)));
}

#[test]
fn any_text_has_tokens() {
    let tokenizer = tokenizer(16);
    proptest!(|(text in any::<String>(), other in any::<String>())| {
        let [one, two] = [&text, &other].map(|text| tokenizer.split(text).unwrap());
        let tokens = tokenizer.row(one.clone(), Truncation::End, false).unwrap();
        prop_assert!((2..=16).contains(&tokens.row.ids.len()));
        let pair = tokenizer.pair(one, two, Truncation::Start).unwrap();
        prop_assert!((3..=16).contains(&pair.row.ids.len()));
        prop_assert!(pair.row.second <= pair.row.ids.len());
    });
}

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

fn byte_level() -> TextTokenizer {
    TextTokenizer::load(&fixture("tokenizers/byte-level.json"), 64).unwrap()
}

#[derive(Deserialize)]
struct Golden {
    rows: Vec<GoldenRow>,
}

#[derive(Deserialize)]
struct GoldenRow {
    text: String,
    /// Id, and characters from and up to.
    tokens: Vec<(u32, usize, usize)>,
}

/// Its post-processor takes the space off a span that begins with one, and would do so again.
#[test]
fn spans_of_a_byte_level_tokenizer_have_their_first_character() {
    let golden = std::fs::read_to_string(fixture("goldens/byte-level.json")).unwrap();
    let golden: Golden = serde_json::from_str(&golden).unwrap();
    assert!(golden.rows.len() >= 9);
    let tokenizer = byte_level();
    for GoldenRow { text, tokens } in golden.rows {
        let raw = tokenizer.split_with_spans(&text).unwrap();
        let row = tokenizer.row(raw, Truncation::End, true).unwrap();
        let of_row = row.row.ids.iter().zip(row.spans).filter_map(|(&id, span)| Some((id, span?.0, span?.1)));
        assert_eq!(of_row.collect::<Vec<_>>(), tokens, "{text:?}");
        let pieces = tokenizer.pieces(&text, true).unwrap();
        let of_pieces = pieces.iter().filter_map(|piece| Some((piece.id, piece.span?.0, piece.span?.1)));
        assert_eq!(of_pieces.collect::<Vec<_>>(), tokens, "{text:?}");
    }
}

#[test]
fn a_prompt_stays_when_the_beginning_is_cut_off() {
    let wordpiece = tokenizer(16);
    let text = format!("first {}last", "hello ".repeat(20));
    let tokens = wordpiece.prompted("a question: ", &text, Truncation::Start).unwrap();
    let prompt = wordpiece.row(wordpiece.split("a question:").unwrap(), Truncation::End, false).unwrap();
    let (ids, prompt) = (tokens.row.ids, prompt.row.ids);
    assert!(tokens.truncated && ids.len() == 16);
    assert_eq!(ids[..4], prompt[..4]);
    assert_eq!(ids[14..], [wordpiece.id("last").unwrap(), 102]);
    // The space before the text's first word is in that word's token, which is cut off with it.
    let byte_level = TextTokenizer { max_tokens: 8, ..byte_level() };
    let tokens = byte_level.prompted("where ", "is my parcel is my parcel", Truncation::Start).unwrap();
    assert_eq!(byte_level.decode(&tokens.row.ids, true).unwrap(), "where my parcel is my parcel");
    // A prompt that fills the row alone, and texts that fit.
    let full = wordpiece.prompted(&"hello ".repeat(20), "text", Truncation::Start).unwrap();
    assert_eq!((full.row.ids.len(), full.row.ids[14]), (16, 7592));
    for truncation in [Truncation::Start, Truncation::End, Truncation::Refuse] {
        let short = wordpiece.prompted("a question: ", "hello", truncation).unwrap();
        assert_eq!(short, row(&wordpiece, "a question: hello", truncation).unwrap());
    }
}

#[test]
fn a_pair_is_the_same_with_its_first_text_cut_beforehand() {
    let tokenizer = tokenizer(12);
    for (first, second) in [(1, 1), (5, 5), (9, 1), (20, 1), (20, 5), (20, 30), (5, 30)] {
        let first = (0..first).map(|n| format!("{n} ")).collect::<String>();
        let second = tokenizer.split(&"b ".repeat(second)).unwrap();
        for truncation in [Truncation::End, Truncation::Start] {
            let whole = tokenizer.pair(tokenizer.split(&first).unwrap(), second.clone(), truncation).unwrap();
            let cut = tokenizer.first_of_pairs(&first, truncation).unwrap();
            assert!(cut.0.len() <= 9);
            assert_eq!(tokenizer.pair(cut, second.clone(), truncation).unwrap().row, whole.row, "{first}");
        }
    }
    assert!(tokenizer.first_of_pairs(&"a ".repeat(9), Truncation::Refuse).is_ok());
    let error = tokenizer.first_of_pairs(&"a ".repeat(10), Truncation::Refuse).err().unwrap();
    assert!(matches!(error, Error::TooLong { tokens: 13, most: 12, .. }), "{error}");
}

#[test]
fn a_text_without_tokens_is_no_row() {
    let mut tokenizer = tokenizer(16);
    tokenizer.inner.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
    tokenizer.added = [0, 0];
    assert_eq!(row(&tokenizer, "hello", Truncation::End).unwrap().row, Row::single(vec![7592]));
    let error = row(&tokenizer, " \n ", Truncation::End).unwrap_err();
    assert!(matches!(&error, Error::Invalid { problem, .. } if problem.contains("no token")), "{error}");
}
