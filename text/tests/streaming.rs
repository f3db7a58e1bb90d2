//! Redaction of streams: the same as of whole texts, whatever the text and the chunks, and no secret leaks.

#[path = "../fuzz/generate.rs"]
mod generate;
#[path = "../fuzz/property.rs"]
mod property;

use proptest::prelude::*;
use switchboard_text::redaction::{Kinds, Stream};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_gives_what_the_whole_text_gives(seed in any::<u64>()) {
        let generate::Case { text, cuts, kinds } = generate::case(seed);
        property::streamed_is_whole(&text, &cuts, kinds).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_secret_is_covered_wherever_it_stands(seed in any::<u64>()) {
        let generate::Known { text, secret } = generate::known(seed);
        property::secret_is_covered(&text, &secret).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn any_characters_will_do(text in r"(?s).{0,200}", cuts in prop::collection::vec(0usize..9, 1..6)) {
        property::streamed_is_whole(&text, &cuts, Kinds::ALL).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn every_chunking_of_a_message_gives_the_same() {
    let text = "Hi, I am born on July 4th, 1984; call +49 30 1234567 or write to j o at home dot de, card \
                4111 1111 1111 1111. I live at 742 Evergreen Terrace, Springfield, IL 62704. Thanks a lot for that!";
    for length in 1..=text.chars().count() {
        property::streamed_is_whole(text, &[length], Kinds::ALL).unwrap();
    }
}

#[test]
fn a_run_without_end_is_neither_held_nor_leaked() {
    let card = "4111 1111 1111 1111";
    for filler in ["7", "1 ", "x", "one ", "٤", "a@", "1.", "\u{200b}", " ", "[1", "0 "] {
        let filler = filler.repeat(100_000 / filler.len());
        let text = format!("{filler} card: {card} and jo@home.de {filler}");
        let mut stream = Stream::new(Kinds::PATTERNS);
        let mut out = String::new();
        let mut given = |pieces: Vec<switchboard_text::redaction::Piece>| {
            out.extend(pieces.into_iter().filter(|piece| piece.entity.is_none()).map(|piece| piece.text));
        };
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(rest.ceil_char_boundary(777.min(rest.len())));
            given(stream.push(chunk));
            assert!(stream.held() <= Stream::HOLDS_AT_MOST);
            rest = behind;
        }
        given(stream.finish());
        assert!(
            !out.contains(card) && !out.contains("jo@home.de"),
            "beside {:?}",
            &filler[..2.min(filler.len())]
        );
    }
}

#[test]
fn ordinary_text_leaves_after_a_few_words() {
    let mut stream = Stream::new(Kinds::PATTERNS);
    for _ in 0..50 {
        stream.push("thank you for your patience while we look into this ");
        assert!(stream.held() < 60, "{} bytes are held back", stream.held());
    }
}
