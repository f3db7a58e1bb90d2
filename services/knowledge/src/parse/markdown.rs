//! CommonMark with tables.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::{Builder, Parsed, Rejected, front_matter, html, table_row};

/// Reads Markdown: markup goes, link texts and code stay, each list item and table row is a block.
pub(super) fn parse(source: &str) -> Result<Parsed, Rejected> {
    let (matter, source) = front_matter::split(source)?;
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut reader = Reader::default();
    for event in Parser::new_ext(source, options) {
        reader.event(event);
    }
    reader.flush();
    let title = if matter.title.is_empty() {
        reader.builder.first_heading().unwrap_or_default()
    } else {
        matter.title
    };
    Ok(Parsed { locale: matter.locale, audiences: matter.audiences, ..reader.builder.finish(title) })
}

#[derive(Default)]
struct Reader {
    builder: Builder,
    /// Words of the block that is being read.
    words: String,
    items: usize,
    heading: Option<HeadingLevel>,
    html: String,
    columns: Vec<String>,
    cells: Vec<String>,
    in_table: bool,
}

impl Reader {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Text(text) | Event::Code(text) => self.words.push_str(&text),
            Event::SoftBreak | Event::HardBreak => self.words.push(' '),
            Event::Html(tags) => self.html.push_str(&tags),
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Rule => self.flush(),
            _ => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Heading { level, .. } => {
                self.flush();
                self.heading = Some(*level);
            }
            Tag::Item => {
                self.flush();
                self.items += 1;
            }
            Tag::Table(_) => {
                self.flush();
                self.columns.clear();
                self.in_table = true;
            }
            Tag::Paragraph | Tag::List(_) | Tag::CodeBlock(_) | Tag::BlockQuote(_) | Tag::HtmlBlock => {
                self.flush()
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Item => {
                self.flush();
                self.items = self.items.saturating_sub(1);
            }
            TagEnd::TableCell => self.cells.push(std::mem::take(&mut self.words)),
            TagEnd::TableHead => self.columns = std::mem::take(&mut self.cells),
            TagEnd::TableRow => {
                let row = table_row(&self.columns, &std::mem::take(&mut self.cells));
                self.builder.line(&row);
            }
            TagEnd::Table => self.in_table = false,
            TagEnd::HtmlBlock => {
                for block in html::blocks(&std::mem::take(&mut self.html)) {
                    self.builder.body(&block);
                }
            }
            TagEnd::Heading(_) | TagEnd::Paragraph | TagEnd::CodeBlock | TagEnd::BlockQuote(_) => {
                self.flush()
            }
            _ => {}
        }
    }

    fn flush(&mut self) {
        if self.in_table {
            return;
        }
        let words = std::mem::take(&mut self.words);
        match self.heading.take() {
            Some(level) => self.builder.heading(level as u8, &words),
            None if self.items > 0 => self.builder.line(&words),
            None => self.builder.body(&words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::Kind;

    #[test]
    fn blocks_know_the_headings_above_them() {
        let parsed = parse(
            "# Returns\n\nIntro *with* [a link](x).\n\n## Shoes\n\nWorn `outside`?\nNo.\n\n# Other\n\nText\n",
        )
        .unwrap();
        let blocks: Vec<_> =
            parsed.blocks.iter().map(|b| (&parsed.text[b.range.clone()], b.path.join("/"), b.kind)).collect();
        assert_eq!(
            blocks,
            [
                ("Returns", "Returns".into(), Kind::Heading),
                ("Intro with a link.", "Returns".into(), Kind::Body),
                ("Shoes", "Returns/Shoes".into(), Kind::Heading),
                ("Worn outside? No.", "Returns/Shoes".into(), Kind::Body),
                ("Other", "Other".into(), Kind::Heading),
                ("Text", "Other".into(), Kind::Body),
            ]
        );
        assert_eq!(parsed.title, "Returns");
    }

    #[test]
    fn items_and_rows_are_blocks_of_their_own() {
        let parsed = parse(
            "- one\n  - two\n- three\n\n| Membership | Window |\n|---|---|\n| Plus | 45 days |\n| | 60 days |\n\n<div>Raw <b>HTML</b></div>\n",
        )
        .unwrap();
        let blocks: Vec<_> = parsed.blocks.iter().map(|b| &parsed.text[b.range.clone()]).collect();
        assert_eq!(
            blocks,
            ["one", "two", "three", "Membership: Plus; Window: 45 days", "Window: 60 days", "Raw HTML"]
        );
    }

    #[test]
    fn front_matter_is_not_text() {
        let parsed = parse("---\ntitle: T\nlocale: de\naudience: plus\n---\n\n# H\n\nHallo\n").unwrap();
        assert_eq!((parsed.title.as_str(), parsed.locale.as_str()), ("T", "de"));
        assert_eq!(parsed.audiences, ["plus"]);
        assert_eq!(parsed.text, "H\n\nHallo");
    }
}
