//! PDF with a text layer.
//!
//! Characters come with their place on the page. Characters of one baseline are a line; lines that
//! are close are a paragraph; a line in a larger face than most of the text is a heading.

use std::{collections::HashMap, io::Read as _};

use pdf_extract::{
    Dictionary, Document, MediaBox, Object, ObjectId, OutputDev, OutputError, Transform, content::Content,
    output_doc,
};

use super::{Builder, Parsed, Rejected};

/// What a PDF may unpack to, in bytes: a small file can hold gigabytes of zeros.
const MAX_UNPACKED: u64 = 512 << 20;

/// Pages at most.
const MAX_PAGES: usize = 5_000;

/// Levels of the page tree at most; writers make a handful.
const MAX_TREE: usize = 256;

/// Forms that draw each other, at most. The extractor follows them by recursion.
const MAX_FORMS: usize = 32;

/// Forms that a page draws at most, those within forms included.
const MAX_DRAWN: u64 = 100_000;

/// A face this much larger than the text's is a heading's.
const HEADING_SCALE: f64 = 1.15;

/// A heading has at most this many characters.
const MAX_HEADING: usize = 120;

/// Reads a PDF. May panic on damaged files; the caller catches that and limits the time.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Rejected> {
    if unpacks_beyond(bytes, MAX_UNPACKED) {
        let limit = MAX_UNPACKED >> 20;
        return Err(Rejected::new(format!("the PDF unpacks to more than {limit} MiB; less is allowed")));
    }
    let damaged = || Rejected::new("the PDF is damaged or cut off; a whole PDF is allowed");
    let encrypted = || Rejected::new("the PDF is encrypted; a PDF without a password is allowed");
    let document = match Document::load_mem(bytes) {
        Ok(document) => document,
        Err(pdf_extract::Error::Decryption(_) | pdf_extract::Error::InvalidPassword) => {
            return Err(encrypted());
        }
        // What cannot be decrypted often fails as something else.
        Err(_) if bytes.windows(8).any(|window| window == b"/Encrypt") => return Err(encrypted()),
        Err(_) => return Err(damaged()),
    };
    if document.is_encrypted() || document.was_encrypted() {
        return Err(encrypted());
    }
    let pages = document.get_pages().len();
    if pages == 0 {
        return Err(damaged());
    }
    if pages > MAX_PAGES {
        return Err(Rejected::new(format!("the PDF has {pages} pages; up to {MAX_PAGES} are allowed")));
    }
    check_nesting(&document)?;
    let mut page = Page::default();
    output_doc(&document, &mut page).map_err(|_| damaged())?;
    Ok(build(&page.lines))
}

/// Whether the zlib streams in a file unpack to more than `limit` bytes together. Streams behind a
/// second encoding are not seen; the limits on size and time are left for those.
fn unpacks_beyond(bytes: &[u8], limit: u64) -> bool {
    let mut left = limit;
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(6).position(|window| window == b"stream") {
        at += found + 6;
        let data = bytes[at..].trim_ascii_start();
        if data.first() == Some(&0x78) {
            let mut unpacked = flate2::read::ZlibDecoder::new(data).take(left + 1);
            // What is damaged counts as far as it goes.
            let read = std::io::copy(&mut unpacked, &mut std::io::sink());
            let read = read.unwrap_or_else(|_| left + 1 - unpacked.limit());
            if read > left {
                return true;
            }
            left -= read;
        }
    }
    false
}

/// Refuses what the extractor would follow without end: a page that is its own ancestor, a form that
/// draws itself.
fn check_nesting(document: &Document) -> Result<(), Rejected> {
    let empty = Dictionary::new();
    let mut forms = Forms { document, known: HashMap::new() };
    for page in document.page_iter() {
        let mut resources = None;
        let mut node = document.get_dictionary(page).ok();
        let mut levels = 0;
        while let Some(dictionary) = node {
            levels += 1;
            if levels > MAX_TREE {
                return Err(Rejected::new(format!(
                    "the PDF's page tree has no end; up to {MAX_TREE} levels are allowed"
                )));
            }
            resources = resources.or_else(|| forms.entry(dictionary, b"Resources"));
            let parent = dictionary.get(b"Parent").and_then(Object::as_reference);
            node = parent.and_then(|id| document.get_dictionary(id)).ok();
        }
        let resources = resources.unwrap_or(&empty);
        if forms.entry(resources, b"XObject").is_none_or(Dictionary::is_empty) {
            continue;
        }
        let content = document.get_page_content(page).unwrap_or_default();
        let (_, drawn) = forms.drawn_by(&content, resources, 0)?;
        if drawn > MAX_DRAWN {
            return Err(Rejected::new(format!(
                "a page of the PDF draws {drawn} forms; up to {MAX_DRAWN} are allowed"
            )));
        }
    }
    Ok(())
}

/// What forms of a document draw: how deep, and how many forms in all. A form without resources of
/// its own takes those of what draws it, so both name it.
struct Forms<'a> {
    document: &'a Document,
    known: HashMap<(ObjectId, *const Dictionary), (usize, u64)>,
}

impl<'a> Forms<'a> {
    fn entry(&self, dictionary: &'a Dictionary, key: &[u8]) -> Option<&'a Dictionary> {
        let (_, object) = self.document.dereference(dictionary.get(key).ok()?).ok()?;
        object.as_dict().ok()
    }

    /// Looks at a content stream that is drawn within `depth` forms.
    fn drawn_by(
        &mut self,
        content: &[u8],
        resources: &'a Dictionary,
        depth: usize,
    ) -> Result<(usize, u64), Rejected> {
        if depth > MAX_FORMS {
            return Err(Rejected::new(format!(
                "the PDF's forms draw each other without end; up to {MAX_FORMS} levels are allowed"
            )));
        }
        // What cannot be decoded is not drawn either.
        let Ok(content) = Content::decode(content) else { return Ok((0, 0)) };
        let (mut height, mut drawn) = (0, 0_u64);
        for operation in content.operations.iter().filter(|operation| operation.operator == "Do") {
            let name = operation.operands.first().and_then(|name| name.as_name().ok());
            let form =
                name.zip(self.entry(resources, b"XObject")).and_then(|(name, forms)| forms.get(name).ok());
            let Some(id) = form.and_then(|form| form.as_reference().ok()) else { continue };
            let Some(stream) = self.document.get_object(id).and_then(Object::as_stream).ok() else {
                continue;
            };
            let inner = self.entry(&stream.dict, b"Resources").unwrap_or(resources);
            let of_form = match self.known.get(&(id, std::ptr::from_ref(inner))) {
                Some(&known) if depth + 1 + known.0 <= MAX_FORMS => known,
                _ => {
                    let content = stream.decompressed_content().unwrap_or_else(|_| stream.content.clone());
                    let found = self.drawn_by(&content, inner, depth + 1)?;
                    self.known.insert((id, std::ptr::from_ref(inner)), found);
                    found
                }
            };
            height = height.max(of_form.0 + 1);
            drawn = drawn.saturating_add(of_form.1).saturating_add(1);
        }
        Ok((height, drawn))
    }
}

#[derive(Clone, Debug, Default)]
struct Line {
    text: String,
    page: u32,
    /// Distance from the page's upper edge, in points.
    y: f64,
    size: f64,
    right: f64,
}

#[derive(Default)]
struct Page {
    number: u32,
    height: f64,
    lines: Vec<Line>,
    new_word: bool,
}

impl OutputDev for Page {
    fn begin_page(
        &mut self,
        number: u32,
        media: &MediaBox,
        _: Option<(f64, f64, f64, f64)>,
    ) -> Result<(), OutputError> {
        self.number = number;
        self.height = media.ury - media.lly;
        Ok(())
    }

    fn end_page(&mut self) -> Result<(), OutputError> {
        Ok(())
    }

    fn output_character(
        &mut self,
        place: &Transform,
        width: f64,
        _: f64,
        font_size: f64,
        character: &str,
    ) -> Result<(), OutputError> {
        // The side of a square with the area of the face's box, which holds for rotated text too.
        let size = font_size * (place.m11 * place.m22 - place.m12 * place.m21).abs().sqrt();
        let (x, y) = (place.m31, self.height - place.m32);
        let same = self
            .lines
            .last()
            .is_some_and(|line| line.page == self.number && (line.y - y).abs() < size.max(1.0) * 0.5);
        if !same {
            self.lines.push(Line { page: self.number, y, size, right: x, ..Line::default() });
        }
        if let Some(line) = self.lines.last_mut() {
            let gap = x - line.right;
            if self.new_word && !line.text.is_empty() && (gap > size * 0.12 || gap < -size) {
                line.text.push(' ');
            }
            line.text.push_str(character);
            line.size = line.size.max(size);
            line.right = x + width * size;
        }
        self.new_word = false;
        Ok(())
    }

    fn begin_word(&mut self) -> Result<(), OutputError> {
        self.new_word = true;
        Ok(())
    }

    fn end_word(&mut self) -> Result<(), OutputError> {
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), OutputError> {
        Ok(())
    }
}

/// Joins lines to paragraphs and headings.
fn build(lines: &[Line]) -> Parsed {
    let lines: Vec<&Line> = lines.iter().filter(|line| !line.text.trim().is_empty()).collect();
    let body = body_size(&lines);
    let leading = leading(&lines);
    let mut sizes: Vec<i64> =
        lines.iter().filter(|line| is_heading(line, body)).map(|line| tenths(line.size)).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes.dedup();
    let mut builder = Builder::default();
    let mut open = String::new();
    for (at, line) in lines.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| lines[at]);
        let continues = before.is_some_and(|before| {
            before.page == line.page
                && (line.size - before.size).abs() < 0.5
                && line.y > before.y
                && line.y - before.y < leading.max(line.size) * 1.35
        });
        if !continues || bullet(&line.text).is_some() {
            flush(&mut builder, &mut open, before, body, &sizes);
        }
        join(&mut open, line.text.trim());
    }
    flush(&mut builder, &mut open, lines.last().copied(), body, &sizes);
    let title = builder.first_heading().unwrap_or_default();
    builder.finish(title)
}

fn flush(builder: &mut Builder, open: &mut String, last: Option<&Line>, body: f64, sizes: &[i64]) {
    let text = std::mem::take(open);
    let Some(last) = last else { return };
    if is_heading(last, body) && text.chars().count() <= MAX_HEADING {
        let level = sizes.iter().position(|&size| size == tenths(last.size)).unwrap_or_default();
        builder.heading((level + 1).min(6) as u8, &text);
    } else {
        match bullet(&text) {
            Some(item) => builder.line(item),
            None => builder.body(&text),
        }
    }
}

/// Adds a line to a paragraph; a word broken with a hyphen at the line's end is put together again.
fn join(paragraph: &mut String, line: &str) {
    let broken = paragraph.ends_with('-')
        && paragraph.chars().rev().nth(1).is_some_and(char::is_lowercase)
        && line.chars().next().is_some_and(char::is_lowercase);
    if broken {
        paragraph.pop();
    } else if !paragraph.is_empty() {
        paragraph.push(' ');
    }
    paragraph.push_str(line);
}

fn is_heading(line: &Line, body: f64) -> bool {
    line.size > body * HEADING_SCALE && line.text.chars().any(char::is_alphabetic)
}

/// The text after a bullet.
fn bullet(text: &str) -> Option<&str> {
    let text = text.trim_start();
    text.strip_prefix(['\u{2022}', '\u{25AA}', '\u{25CF}'])
        .or_else(|| text.strip_prefix("- "))
        .map(str::trim_start)
}

/// The size of most characters.
fn body_size(lines: &[&Line]) -> f64 {
    let mut counts = std::collections::BTreeMap::<i64, usize>::new();
    for line in lines {
        *counts.entry(tenths(line.size)).or_default() += line.text.len();
    }
    counts.into_iter().max_by_key(|&(_, count)| count).map_or(0.0, |(size, _)| size as f64 / 10.0)
}

/// The most common distance between two lines of the same size.
fn leading(lines: &[&Line]) -> f64 {
    let mut counts = std::collections::BTreeMap::<i64, usize>::new();
    for pair in lines.windows(2) {
        let gap = pair[1].y - pair[0].y;
        if pair[0].page == pair[1].page && gap > 0.0 && (pair[0].size - pair[1].size).abs() < 0.5 {
            *counts.entry(tenths(gap)).or_default() += 1;
        }
    }
    counts.into_iter().max_by_key(|&(_, count)| count).map_or(0.0, |(gap, _)| gap as f64 / 10.0)
}

fn tenths(value: f64) -> i64 {
    (value * 10.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::Kind;

    fn example(path: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/acme/knowledge/");
        std::fs::read(format!("{folder}{path}")).expect("the example is part of the project")
    }

    #[test]
    fn headings_and_paragraphs_are_found_by_face_and_distance() {
        let parsed = parse(&example("products/warranty.pdf")).unwrap();
        let headings: Vec<_> = parsed.blocks.iter().filter(|b| b.kind == Kind::Heading).collect();
        assert!(headings.len() >= 3, "{:?}", parsed.text);
        assert!(parsed.title.to_lowercase().contains("warranty"), "{}", parsed.title);
        assert!(!parsed.text.contains('\u{0}'));
    }

    #[test]
    fn pages_of_another_writer_are_read_too() {
        let parsed = parse(&example("orders/corporate-orders.pdf")).unwrap();
        assert!(parsed.text.split_whitespace().count() > 100, "{:?}", parsed.text);
        assert!(parsed.blocks.len() > 3);
    }

    #[test]
    fn damaged_files_are_refused_or_read_but_never_hang() {
        let whole = example("products/warranty.pdf");
        for cut in (0..whole.len()).step_by(whole.len() / 16 + 1) {
            let _ = std::panic::catch_unwind(|| parse(&whole[..cut]));
        }
        assert!(parse(b"%PDF-1.7\nnothing").unwrap_err().0.contains("damaged"));
    }

    #[test]
    fn an_encrypted_file_is_refused_as_such() {
        // Made with fpdf2: one line of text, `set_encryption(owner_password="o", user_password="u")`.
        let file = include_bytes!("fixtures/encrypted.pdf");
        assert!(parse(file).unwrap_err().0.contains("encrypted"));
    }

    #[test]
    fn a_file_that_unpacks_without_end_is_refused() {
        use std::io::Write as _;
        let mut zeros = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zeros.write_all(&vec![0; 1 << 20]).unwrap();
        let mut file = b"%PDF-1.7\n1 0 obj <<>> stream\r\n".to_vec();
        file.extend(zeros.finish().unwrap());
        assert!(unpacks_beyond(&file, 1 << 19));
        assert!(!unpacks_beyond(&file, 1 << 21));
    }

    /// A page that draws `/F`, and the form, which has the content `form`.
    fn with_form(form: &str, parent: &str) -> Vec<u8> {
        let mut file = b"%PDF-1.4\n".to_vec();
        let stream = |extra: &str, content: &str| {
            format!("<<{extra}/Length {}>>stream\n{content}\nendstream", content.len())
        };
        let own = "/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</F 5 0 R>>>>";
        let objects = [
            "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
            format!("<</Type/Pages/Kids[3 0 R]/Count 1{parent}>>"),
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Resources<</XObject<</F 5 0 R>>>>/Contents 4 0 R>>"
                .to_owned(),
            stream("", "/F Do"),
            stream(own, form),
        ];
        let mut places = Vec::new();
        for (number, object) in (1..).zip(&objects) {
            places.push(file.len());
            file.extend(format!("{number} 0 obj\n{object}\nendobj\n").bytes());
        }
        let table = file.len();
        file.extend(b"xref\n0 6\n0000000000 65535 f \n");
        for place in places {
            file.extend(format!("{place:010} 00000 n \n").bytes());
        }
        file.extend(format!("trailer<</Size 6/Root 1 0 R>>\nstartxref\n{table}\n%%EOF\n").bytes());
        file
    }

    #[test]
    fn what_draws_itself_is_refused_and_what_only_could_is_read() {
        assert!(parse(&with_form("/F Do", "")).unwrap_err().0.contains("forms draw each other"));
        assert!(parse(&with_form("", "/Parent 2 0 R")).unwrap_err().0.contains("page tree"));
        assert!(parse(&with_form("q Q", "")).is_ok());
    }

    #[test]
    fn broken_words_are_put_together() {
        let mut text = String::from("a refer-");
        join(&mut text, "ence to IBAN-");
        join(&mut text, "Numbers");
        assert_eq!(text, "a reference to IBAN- Numbers");
    }
}
