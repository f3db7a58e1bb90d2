//! Plain text, kept as it is, so that offsets are those of the file.

use std::ops::Range;

use super::{Block, HEADING_CHARACTERS, Kind, Parsed, truncate};

/// A line this long, in characters, is too long for a heading.
const MAX_HEADING: usize = 150;

/// Text wrapped by hand has no lines longer than this, in bytes.
const WRAPPED: usize = 90;

/// Words of a heading at most.
const MAX_HEADING_WORDS: usize = 28;

/// Finds paragraphs, list items and the lines that can only be headings: underlined ones, short
/// ones alone between blank lines before prose, and short ones that break off before prose although
/// its first word would have fitted. All headings are of one level but the underlined.
pub(super) fn parse(text: &str) -> Parsed {
    let mut blocks: Vec<Block> = Vec::new();
    let mut path: Vec<(u8, String)> = Vec::new();
    let paragraphs = paragraphs(text);
    for (at, lines) in paragraphs.iter().enumerate() {
        let next = paragraphs.get(at + 1).map(|lines| joined(text, lines));
        let (heading, used) = heading(text, lines, next);
        if let Some((level, range)) = heading {
            path.retain(|(above, _)| *above < level);
            path.push((level, truncate(&text[range.clone()], HEADING_CHARACTERS)));
            let path = path.iter().map(|(_, heading)| heading.clone()).collect();
            blocks.push(Block { path, range, kind: Kind::Heading });
        }
        let mut open: Option<Range<usize>> = None;
        for line in &lines[used..] {
            let item = is_item(&text[line.clone()]);
            match &mut open {
                Some(range) if !item => range.end = line.end,
                _ => {
                    push(&mut blocks, &path, open.take());
                    open = Some(line.clone());
                }
            }
        }
        push(&mut blocks, &path, open);
    }
    let title = blocks
        .first()
        .filter(|block| block.kind == Kind::Heading)
        .and_then(|block| block.path.last().cloned())
        .unwrap_or_default();
    Parsed { title, text: text.to_owned(), blocks, loose_headings: true, ..Parsed::default() }
}

fn push(blocks: &mut Vec<Block>, path: &[(u8, String)], range: Option<Range<usize>>) {
    if let Some(range) = range {
        let path = path.iter().map(|(_, heading)| heading.clone()).collect();
        blocks.push(Block { path, range, kind: Kind::Body });
    }
}

/// Lines without white space at either end, grouped by the blank lines between them.
fn paragraphs(text: &str) -> Vec<Vec<Range<usize>>> {
    let mut groups = Vec::new();
    let mut group = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        let start = at + (line.len() - line.trim_start().len());
        at += line.len();
        if trimmed.is_empty() {
            if !group.is_empty() {
                groups.push(std::mem::take(&mut group));
            }
        } else {
            group.push(start..start + trimmed.len());
        }
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

fn joined<'a>(text: &'a str, lines: &[Range<usize>]) -> &'a str {
    match (lines.first(), lines.last()) {
        (Some(first), Some(last)) => &text[first.start..last.end],
        _ => "",
    }
}

/// The heading that a paragraph begins with, and how many of its lines that takes.
fn heading(text: &str, lines: &[Range<usize>], next: Option<&str>) -> (Option<(u8, Range<usize>)>, usize) {
    let first = &text[lines[0].clone()];
    if let Some(underline) = lines.get(1).map(|line| &text[line.clone()])
        && underline.len() >= 3
        && let Some(level) = match underline.as_bytes()[0] {
            b'=' => Some(1),
            b'-' | b'~' => Some(2),
            _ => None,
        }
        && underline.bytes().all(|b| b == underline.as_bytes()[0])
        && first.chars().count() <= MAX_HEADING
    {
        return (Some((level, lines[0].clone())), 2);
    }
    let short = first.chars().count() <= MAX_HEADING
        && first.split_whitespace().count() <= MAX_HEADING_WORDS
        && first.chars().next().is_some_and(|c| c.is_uppercase() || c.is_ascii_digit() || is_caseless(c))
        && !first.ends_with(['.', ',', ';', ':', '!'])
        && !is_item(first);
    if !short {
        return (None, 0);
    }
    let alone = lines.len() == 1 && next.is_some_and(is_prose);
    let breaks_off = lines.get(1).is_some_and(|second| {
        let rest = joined(text, &lines[1..]);
        let width = lines[1..].iter().map(|line| line.len()).max().unwrap_or_default();
        let word = text[second.clone()].split_whitespace().next().map_or(0, str::len);
        is_prose(rest) && width > WRAPPED && lines[0].len() + 1 + word < width
    });
    if alone || breaks_off { (Some((3, lines[0].clone())), 1) } else { (None, 0) }
}

/// Whether text reads like sentences: it has several words and an end.
fn is_prose(text: &str) -> bool {
    let end = text
        .trim_end_matches(['"', '\'', ')', ']', '\u{201d}', '\u{2019}'])
        .ends_with(['.', '!', '?', ':', '\u{3002}']);
    text.split_whitespace().take(5).count() == 5 && (end || text.contains(". "))
}

fn is_item(line: &str) -> bool {
    line.starts_with(['-', '*', '\u{2022}', '\u{2013}'])
        && line.chars().nth(1).is_some_and(char::is_whitespace)
}

fn is_caseless(c: char) -> bool {
    c.is_alphabetic() && !c.is_lowercase() && !c.is_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &str) -> Vec<(Kind, &str)> {
        parse(text).blocks.into_iter().map(|block| (block.kind, &text[block.range])).collect()
    }

    #[test]
    fn the_text_is_the_file() {
        let text = "  One.\r\n\r\n\tTwo \u{e9}.  \n";
        assert_eq!(parse(text).text, text);
        assert_eq!(blocks(text), [(Kind::Body, "One."), (Kind::Body, "Two \u{e9}.")]);
    }

    #[test]
    fn short_lines_alone_before_prose_are_headings() {
        let text = "COMPLAINTS\n\nWe would like to hear from you\nwhen it went wrong.\n\nAcme Ltd\nDublin\n";
        assert_eq!(
            blocks(text),
            [
                (Kind::Heading, "COMPLAINTS"),
                (Kind::Body, "We would like to hear from you\nwhen it went wrong."),
                (Kind::Body, "Acme Ltd\nDublin"),
            ]
        );
        assert_eq!(parse(text).title, "COMPLAINTS");
    }

    #[test]
    fn a_short_line_that_breaks_off_before_long_prose_is_a_heading() {
        let prose = "WARNING: If you renew your licence online , your new licence will show that it is not for federal purposes.";
        let text = format!("Renew online \n{prose}\n");
        assert_eq!(blocks(&text), [(Kind::Heading, "Renew online"), (Kind::Body, prose)]);
    }

    #[test]
    fn wrapped_prose_has_no_headings() {
        let text = "Reply to the final answer within 30 days and ask for a review by\nthe head of customer care. The review takes up to 10 business days.\n";
        assert_eq!(blocks(text).len(), 1);
    }

    #[test]
    fn underlined_lines_are_headings_of_two_levels() {
        let text = "Top\n===\nText\n\nSub\n---\n- one\n- two\n  more\n";
        let parsed = parse(text);
        assert_eq!(parsed.blocks.last().unwrap().path, ["Top", "Sub"]);
        assert_eq!(blocks(text)[3..], [(Kind::Body, "- one"), (Kind::Body, "- two\n  more")]);
    }
}
