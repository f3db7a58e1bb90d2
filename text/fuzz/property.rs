//! What must hold for every text, however it is cut, and for every secret: for tests and for long runs.

use std::ops::Range;

use switchboard_text::redaction::{Entity, Kinds, Piece, Stream, find, find_kinds};

/// Checks that a stream gives what the whole text gives.
///
/// `cuts` says how long the chunks are, in characters, again and again; a 0 is an empty chunk.
///
/// # Errors
/// What does not hold, in words. It holds the text: it is made up.
pub(crate) fn streamed_is_whole(text: &str, cuts: &[usize], kinds: Kinds) -> Result<(), String> {
    let whole = find_kinds(text, kinds);
    in_order(text, &whole, kinds)?;
    let (pieces, most) = streamed(text, cuts, kinds);
    let written: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
    if written != text {
        return Err(format!("the pieces are another text: {written:?} of {text:?}"));
    }
    let found: Vec<Entity> = pieces.iter().filter_map(|piece| piece.entity.clone()).collect();
    if found != whole {
        return Err(format!("streamed {found:#?}\nwhole {whole:#?}\nof {text:?} cut by {cuts:?}"));
    }
    for piece in &pieces {
        if let Some(entity) = &piece.entity
            && entity.span.of(text) != piece.text
        {
            return Err(format!("a piece is not where it says: {entity:?} in {text:?}"));
        }
    }
    if most > Stream::HOLDS_AT_MOST {
        return Err(format!("{most} bytes were held back of {text:?}"));
    }
    Ok(())
}

/// Checks that no byte of a secret that stands in a text is outside what is found.
///
/// # Errors
/// What does not hold, in words. It holds the text: it is made up.
pub(crate) fn secret_is_covered(text: &str, secret: &Range<usize>) -> Result<(), String> {
    // A plus sign alone tells nothing.
    let mut covered = secret.start + usize::from(text[secret.clone()].starts_with('+'));
    let found = find(text);
    for entity in &found {
        if entity.span.bytes.start <= covered {
            covered = covered.max(entity.span.bytes.end);
        }
    }
    if covered < secret.end {
        return Err(format!("{:?} leaks in {text:?}, found {found:#?}", &text[secret.clone()]));
    }
    Ok(())
}

/// Finds are in order and within the text, and of the kinds that were asked for.
fn in_order(text: &str, found: &[Entity], kinds: Kinds) -> Result<(), String> {
    let mut end = 0;
    for entity in found {
        let (bytes, chars) = (&entity.span.bytes, &entity.span.chars);
        let ordered = bytes.start >= end && bytes.end > bytes.start && text.get(bytes.clone()).is_some();
        if !ordered || !kinds.contains(entity.kind) {
            return Err(format!("out of order or unasked: {entity:?} in {text:?}"));
        }
        if text[..bytes.start].chars().count() != chars.start
            || text[..bytes.end].chars().count() != chars.end
        {
            return Err(format!("characters and bytes differ: {entity:?} in {text:?}"));
        }
        end = bytes.end;
    }
    Ok(())
}

/// The pieces of a text cut into chunks, and the most that was held back after one.
fn streamed(text: &str, cuts: &[usize], kinds: Kinds) -> (Vec<Piece>, usize) {
    let mut stream = Stream::new(kinds);
    let mut pieces = Vec::new();
    let mut most = 0;
    let mut rest = text;
    let mut cuts = cuts.iter().copied().cycle();
    let mut empty = 0;
    while !rest.is_empty() {
        let length = cuts.next().filter(|_| empty < 3).unwrap_or(1);
        empty = if length == 0 { empty + 1 } else { 0 };
        let end = rest.char_indices().nth(length).map_or(rest.len(), |(at, _)| at);
        let (chunk, behind) = rest.split_at(end);
        pieces.extend(stream.push(chunk));
        most = most.max(stream.held());
        rest = behind;
    }
    pieces.extend(stream.finish());
    (pieces, most)
}
