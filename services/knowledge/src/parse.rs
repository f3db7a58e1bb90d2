//! Bytes of any supported form to text with headings.
//!
//! [`parse`] finds out the form, refuses what is not what it claims to be with a reason that says
//! what is allowed, and gives a [`Parsed`]: the document's text, and the blocks in it (headings,
//! paragraphs, list items, table rows) in reading order. One file for each form is beside this one.

mod faq;
mod front_matter;
mod html;
mod markdown;
mod pdf;
mod text;

use std::ops::Range;

use crate::document::{Format, Header};

/// Headings are cut to this many characters; longer ones are not headings any more.
const HEADING_CHARACTERS: usize = 300;

/// Titles are cut to this many characters.
const TITLE_CHARACTERS: usize = 300;

/// What is allowed, for messages.
const FORMATS: &str =
    "Markdown, HTML, UTF-8 text, PDF with a text layer, and FAQ tables as CSV or JSON Lines";

/// A document that cannot be read: why, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Rejected(pub(crate) String);

impl Rejected {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Heading,
    Body,
}

/// A contiguous piece of a document's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Headings above it, outermost first; a heading's own text is the last.
    pub(crate) path: Vec<String>,
    /// Bytes of the text; without white space at either end.
    pub(crate) range: Range<usize>,
    pub(crate) kind: Kind,
}

/// A document's text and its structure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// Empty when the document says none.
    pub(crate) title: String,
    /// Empty when the document says none.
    pub(crate) locale: String,
    /// Empty when the document says none, or that everyone may see it.
    pub(crate) audiences: Vec<String>,
    pub(crate) text: String,
    /// In order, not overlapping.
    pub(crate) blocks: Vec<Block>,
    /// Whether headings are guesses, so that short sections may share a passage.
    pub(crate) loose_headings: bool,
}

impl Parsed {
    /// Whether the document says of itself that it no longer holds.
    pub(crate) fn outdated(&self) -> bool {
        let first = self.blocks.iter().find(|block| block.kind == Kind::Body);
        let beginning = first.map_or("", |block| &self.text[block.range.clone()]);
        switchboard_text::validity::outdated(&self.title, beginning)
    }
}

/// Reads a document. `bytes` are at most the configured size; may take seconds, and may panic
/// inside a parser of another crate, so call it where that is caught.
///
/// # Errors
/// [`Rejected`], for people to read.
pub(crate) fn parse(header: &Header, bytes: &[u8]) -> Result<Parsed, Rejected> {
    let format = detect(header, bytes)?;
    let mut parsed = match format {
        Format::Pdf => pdf::parse(bytes)?,
        Format::Markdown => markdown::parse(utf8(bytes)?)?,
        Format::Html => html::parse(utf8(bytes)?)?,
        Format::Text => text::parse(utf8(bytes)?),
        Format::FaqCsv => faq::csv(utf8(bytes)?)?,
        Format::FaqJsonl => faq::jsonl(utf8(bytes)?)?,
    };
    if parsed.blocks.is_empty() {
        return Err(Rejected::new(match format {
            Format::Pdf => "the PDF has no text layer, only pictures of text; a PDF with text is allowed",
            _ => "the document has no text in it",
        }));
    }
    if !header.title.is_empty() {
        parsed.title.clone_from(&header.title);
    } else if parsed.title.is_empty() {
        parsed.title = title_from_id(&header.document_id);
    }
    parsed.title = truncate(&parsed.title, TITLE_CHARACTERS);
    if !header.locale.is_empty() {
        parsed.locale.clone_from(&header.locale);
    }
    if !header.audiences.is_empty() {
        parsed.audiences.clone_from(&header.audiences);
    }
    check_locale(&parsed.locale)?;
    parsed.audiences = audiences(&parsed.audiences)?;
    Ok(parsed)
}

/// Finds the form: what the header says, else the name's ending, else the content; refuses content
/// that plainly is something else.
fn detect(header: &Header, bytes: &[u8]) -> Result<Format, Rejected> {
    if bytes.is_empty() {
        return Err(Rejected::new(format!("the document is empty (0 bytes); allowed are {FORMATS}")));
    }
    let found = sniff(bytes)?;
    let ending = header.document_id.rsplit(['/', '\\']).next().unwrap_or_default();
    let ending = ending.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    let by_name = match ending.as_str() {
        "md" | "markdown" | "mdown" => Some(Format::Markdown),
        "html" | "htm" | "xhtml" => Some(Format::Html),
        "txt" | "text" => Some(Format::Text),
        "pdf" => Some(Format::Pdf),
        "csv" => Some(Format::FaqCsv),
        "jsonl" | "ndjson" => Some(Format::FaqJsonl),
        _ => None,
    };
    let (claimed, by) = match (header.format, by_name) {
        (Some(format), _) => (Some(format), "its header says".to_owned()),
        (None, by_name) => (by_name, format!("its name ends in .{ending}")),
    };
    let mislabelled =
        |is: &str, fix: &str| Err(Rejected::new(format!("{by}, but the content is {is}; {fix}")));
    match (claimed, found) {
        (Some(Format::Pdf) | None, Some(Format::Pdf)) => Ok(Format::Pdf),
        (Some(_), Some(Format::Pdf)) => mislabelled("a PDF", "name it .pdf or set its format to PDF"),
        (Some(Format::Pdf), _) => mislabelled("not a PDF (no %PDF- at its start)", "a whole PDF is allowed"),
        (Some(Format::Html) | None, Some(Format::Html)) => Ok(Format::Html),
        (Some(_), Some(Format::Html)) => mislabelled("HTML", "name it .html or set its format to HTML"),
        (Some(Format::Html), _) if !has_tag(bytes) => {
            mislabelled("not HTML (it has no tags)", "name it .txt or set its format to text")
        }
        (Some(format), _) => Ok(format),
        (None, _) => Ok(Format::Text),
    }
}

/// What the content plainly is: PDF, HTML, or nothing that shows.
fn sniff(bytes: &[u8]) -> Result<Option<Format>, Rejected> {
    let head = &bytes[..bytes.len().min(1024)];
    let not_text = |is: &str| Err(Rejected::new(format!("the content is {is}; allowed are {FORMATS}")));
    if head.windows(5).any(|window| window == b"%PDF-") && !head.starts_with(b"<") {
        // Readers accept a little of anything before the mark, but prose about PDFs is no PDF.
        let before = head.windows(5).position(|window| window == b"%PDF-").unwrap_or_default();
        if before == 0 || head[..before].iter().any(|b| !b.is_ascii_graphic() && !b.is_ascii_whitespace()) {
            return Ok(Some(Format::Pdf));
        }
    }
    match head {
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => return not_text("UTF-16 text, and text must be UTF-8"),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => return not_text("a ZIP archive, as office documents are"),
        [0x89, b'P', b'N', b'G', ..] | [0xFF, 0xD8, 0xFF, ..] | [b'G', b'I', b'F', b'8', ..] => {
            return not_text("a picture");
        }
        [0xD0, 0xCF, 0x11, 0xE0, ..] => return not_text("an old office document"),
        [0x1F, 0x8B, ..] => return not_text("a gzip archive"),
        _ => {}
    }
    if bytes.contains(&0) {
        return not_text("binary (it holds NUL bytes)");
    }
    let strange = head.iter().filter(|&&b| b < 32 && !b.is_ascii_whitespace() && b != 0x1B).count();
    if strange * 10 > head.len() {
        return not_text("binary (it is full of control characters)");
    }
    let start = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    let starts =
        |with: &str| start.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()));
    let html = starts("<!doctype html") || starts("<html") || starts("<head") || starts("<body");
    Ok(html.then_some(Format::Html))
}

fn has_tag(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair[0] == b'<' && (pair[1].is_ascii_alphabetic() || pair[1] == b'!'))
}

/// The bytes as text, without a byte order mark.
fn utf8(bytes: &[u8]) -> Result<&str, Rejected> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Rejected::new(format!("byte {at} is not UTF-8 (Latin-1 and UTF-16 are not read); save it as UTF-8"))
    })?;
    Ok(text.strip_prefix('\u{FEFF}').unwrap_or(text))
}

/// A readable title from a path: its last part without the ending.
fn title_from_id(id: &str) -> String {
    let name = id.trim_end_matches('/').rsplit(['/', '\\']).next().unwrap_or(id);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let words = stem.replace(['-', '_'], " ");
    let words = words.trim();
    if words.is_empty() { id.to_owned() } else { words.to_owned() }
}

/// Checks a language tag.
fn check_locale(locale: &str) -> Result<(), Rejected> {
    let fits = locale.len() <= 35
        && locale
            .split('-')
            .all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()));
    if locale.is_empty() || fits {
        Ok(())
    } else {
        Err(Rejected::new("the locale is not a BCP 47 tag; such as en, de or de-AT is allowed"))
    }
}

/// Checks audiences and writes them in one way. A document for `public`, `everyone` or `all` is for
/// everyone, whoever else is named.
fn audiences(given: &[String]) -> Result<Vec<String>, Rejected> {
    let mut audiences: Vec<String> =
        given.iter().map(|one| one.trim().to_lowercase()).filter(|one| !one.is_empty()).collect();
    if audiences.iter().any(|one| matches!(one.as_str(), "public" | "everyone" | "all")) {
        return Ok(Vec::new());
    }
    audiences.sort_unstable();
    audiences.dedup();
    if audiences.len() > 32 || audiences.iter().any(|one| one.len() > 64 || one.chars().any(char::is_control))
    {
        return Err(Rejected::new(
            "the audiences are too many or too long; up to 32 of 64 bytes are allowed",
        ));
    }
    Ok(audiences)
}

fn truncate(text: &str, characters: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(characters).collect()
}

/// Puts a text together from headings and blocks, for forms whose markup is not part of the text.
#[derive(Default)]
struct Builder {
    text: String,
    blocks: Vec<Block>,
    path: Vec<(u8, String)>,
}

impl Builder {
    /// Adds a heading of `level`, 1 being the outermost.
    fn heading(&mut self, level: u8, heading: &str) {
        let heading = squeeze(heading);
        if heading.is_empty() {
            return;
        }
        self.path.retain(|(above, _)| *above < level);
        self.path.push((level, truncate(&heading, HEADING_CHARACTERS)));
        self.push(&heading, Kind::Heading, "\n\n");
    }

    /// Adds a paragraph.
    fn body(&mut self, body: &str) {
        self.push(&squeeze(body), Kind::Body, "\n\n");
    }

    /// Adds a list item or table row, on a line of its own.
    fn line(&mut self, line: &str) {
        self.push(&squeeze(line), Kind::Body, "\n");
    }

    fn push(&mut self, text: &str, kind: Kind, gap: &str) {
        if text.is_empty() {
            return;
        }
        if !self.text.is_empty() {
            self.text.push_str(gap);
        }
        let start = self.text.len();
        self.text.push_str(text);
        let path = self.path.iter().map(|(_, heading)| heading.clone()).collect();
        self.blocks.push(Block { path, range: start..self.text.len(), kind });
    }

    /// The first heading, or nothing.
    fn first_heading(&self) -> Option<String> {
        self.blocks
            .iter()
            .find(|block| block.kind == Kind::Heading)
            .and_then(|block| block.path.last().cloned())
    }

    fn finish(self, title: String) -> Parsed {
        Parsed { title, text: self.text, blocks: self.blocks, ..Parsed::default() }
    }
}

/// Runs of white space become one space; other control characters and soft hyphens go.
fn squeeze(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        let before = out.len();
        if before > 0 {
            out.push(' ');
        }
        let at = out.len();
        out.extend(
            word.chars().filter(|c| !c.is_control() && !matches!(c, '\u{AD}' | '\u{200B}' | '\u{FEFF}')),
        );
        if out.len() == at {
            out.truncate(before);
        }
    }
    out
}

/// A table row for reading and searching: each cell after its column's name.
fn table_row(columns: &[String], cells: &[String]) -> String {
    let mut row = String::new();
    for (at, cell) in cells.iter().map(|cell| cell.trim()).enumerate().filter(|(_, cell)| !cell.is_empty()) {
        if !row.is_empty() {
            row.push_str("; ");
        }
        if let Some(column) = columns.get(at).map(|column| column.trim()).filter(|column| !column.is_empty())
        {
            row.push_str(column);
            row.push_str(": ");
        }
        row.push_str(cell);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(id: &str) -> Header {
        Header { document_id: id.into(), ..Header::default() }
    }

    fn reason(id: &str, bytes: &[u8]) -> String {
        parse(&header(id), bytes).expect_err("must be rejected").0
    }

    #[test]
    fn content_that_is_not_what_its_name_says_is_refused_with_what_is_allowed() {
        assert!(reason("a.md", b"%PDF-1.7 ...").contains("name it .pdf"));
        assert!(reason("a.txt", b"<!DOCTYPE html><p>Hi</p>").contains("name it .html"));
        assert!(reason("a.txt", b"abc\0def").contains("NUL"));
        assert!(reason("a.pdf", b"just words").contains("not a PDF"));
        assert!(reason("a.html", b"just words").contains("no tags"));
        assert!(reason("a.docx", b"PK\x03\x04rest").contains("ZIP"));
        assert!(reason("a.txt", b"").contains("0 bytes"));
        assert!(reason("a.txt", b" \n\t ").contains("no text"));
        assert!(reason("a.txt", b"caf\xe9").contains("UTF-8"));
        assert!(reason("a.txt", b"\xff\xfeh\0i\0").contains("UTF-16"));
        assert!(reason("a.txt", &[1_u8; 64]).contains("control"));
    }

    #[test]
    fn without_an_ending_the_content_decides() {
        let detect = |bytes: &[u8]| detect(&header("page"), bytes).unwrap();
        assert_eq!(detect(b"%PDF-1.4"), Format::Pdf);
        assert_eq!(detect(b"  <HTML><body>x"), Format::Html);
        assert_eq!(detect(b"Prose about the %PDF- mark."), Format::Text);
    }

    #[test]
    fn the_header_wins_over_the_document() {
        let mut header = header("a.md");
        header.title = "Given".into();
        header.locale = "en".into();
        header.audiences = vec!["Plus".into()];
        let parsed = parse(&header, b"---\ntitle: Own\nlocale: de\naudience: premium\n---\nHallo.").unwrap();
        assert_eq!((parsed.title.as_str(), parsed.locale.as_str()), ("Given", "en"));
        assert_eq!(parsed.audiences, ["plus"]);
        header.locale = "not a tag".into();
        assert!(parse(&header, b"Hi.").unwrap_err().0.contains("BCP 47"));
    }

    #[test]
    fn public_means_everyone() {
        assert!(audiences(&["Public".into(), "plus".into()]).unwrap().is_empty());
        assert_eq!(
            audiences(&["premium".into(), "plus".into(), "plus".into()]).unwrap(),
            ["plus", "premium"]
        );
    }

    #[test]
    fn a_title_is_made_from_the_name_when_there_is_none() {
        assert_eq!(parse(&header("faq/general-faq.txt"), b"Some words.").unwrap().title, "general faq");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_under_any_name_are_read_or_refused(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
            ending in "(md|html|txt|csv|jsonl|x)",
        ) {
            let _ = parse(&header(&format!("a.{ending}")), &bytes);
        }

        #[test]
        fn blocks_lie_in_order_within_the_text(
            text in "(# |## |- |\\| a \\| b \\|\n|<p>|<td>|[a-zé .]{1,20}|\n\n|\n){0,40}",
            ending in "(md|html|txt)",
        ) {
            if let Ok(parsed) = parse(&header(&format!("a.{ending}")), text.as_bytes()) {
                let mut end = 0;
                for block in parsed.blocks {
                    proptest::prop_assert!(block.range.start >= end);
                    let piece = &parsed.text[block.range.clone()];
                    proptest::prop_assert!(!piece.is_empty() && piece.trim() == piece);
                    end = block.range.end;
                }
            }
        }
    }
}
