//! HTML pages: what a reader came for, without the page around it.

use html5ever::{driver, tendril::TendrilSink as _};
use scraper::{ElementRef, Html, HtmlTreeSink, Node, Selector, node::Element};

use super::{Builder, Parsed, Rejected, squeeze, table_row};

/// Elements inside one another at most. The parser's time grows with size times depth; browsers
/// stop nesting at the same depth.
const MAX_DEPTH: usize = 512;

/// Bytes that are parsed between two looks at the depth.
const PIECE: usize = 4096;

/// What is never part of the content.
const PASSED_OVER: [&str; 17] = [
    "nav", "footer", "aside", "script", "style", "noscript", "template", "svg", "iframe", "object", "button",
    "select", "textarea", "head", "dialog", "canvas", "math",
];

/// Reads a page: the content of `main` or else of the only `article`, where there is one;
/// navigation, small forms, scripts and hidden parts are left out; tables are read row by row.
pub(super) fn parse(source: &str) -> Result<Parsed, Rejected> {
    let page = tree(source).ok_or_else(|| {
        Rejected::new(format!("the HTML is nested too deeply; up to {MAX_DEPTH} levels are allowed"))
    })?;
    let content = ["main", "[role=main]"].iter().find_map(|name| first(&page, name));
    let content = content.or_else(|| only_article(&page)).or_else(|| first(&page, "body"));
    let whole_page = content.is_none_or(|content| content.value().name() == "body");
    let content = content.unwrap_or_else(|| page.root_element());
    let mut reader = Reader { whole_page, ..Reader::default() };
    reader.read(content);
    let title = reader
        .builder
        .first_heading()
        .or_else(|| first(&page, "title").map(|title| squeeze(&title.text().collect::<String>())))
        .unwrap_or_default();
    let locale = page.root_element().value().attr("lang").unwrap_or_default().trim().to_owned();
    // A page with a broken tag is still worth reading.
    let locale = if super::check_locale(&locale).is_ok() { locale } else { String::new() };
    Ok(Parsed { locale, ..reader.builder.finish(title) })
}

/// The blocks of a piece of HTML inside another document; none of one that is nested too deeply.
pub(super) fn blocks(source: &str) -> Vec<String> {
    let Some(page) = tree(source) else { return Vec::new() };
    let mut reader = Reader::default();
    reader.read(page.root_element());
    let parsed = reader.builder.finish(String::new());
    parsed.blocks.iter().map(|block| parsed.text[block.range.clone()].to_owned()).collect()
}

/// Parses piece by piece and stops at the first that is nested too deeply. Tags alone do not tell
/// the depth: which of them open, close or nest is for the parser to say.
fn tree(source: &str) -> Option<Html> {
    let sink = HtmlTreeSink::new(Html::new_document());
    let mut parser = driver::parse_document(sink, driver::ParseOpts::default());
    let (mut rest, mut seen) = (source, 0);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
        parser.process(piece.into());
        rest = after;
        let page = parser.tokenizer.sink.sink.0.borrow();
        let nodes = page.tree.nodes();
        let count = nodes.len();
        if nodes.rev().take(count - seen).any(|node| node.ancestors().nth(MAX_DEPTH).is_some()) {
            return None;
        }
        seen = count;
    }
    Some(parser.finish())
}

/// The article that holds all articles with text; a page of several is read whole.
fn only_article(page: &Html) -> Option<ElementRef<'_>> {
    let selector = Selector::parse("article").ok()?;
    let is_article = |node: ego_tree::NodeRef<'_, Node>| {
        node.value().as_element().is_some_and(|element| element.name() == "article")
    };
    let mut articles = page.select(&selector).filter(|article| {
        !article.ancestors().any(is_article) && article.text().any(|text| !text.trim().is_empty())
    });
    articles.next().filter(|_| articles.next().is_none())
}

/// Bytes of text in an element, without those of form controls and what is passed over.
fn weight(root: ElementRef<'_>) -> usize {
    let counts = |node: ego_tree::NodeRef<'_, Node>| {
        node.ancestors().take_while(|above| above.id() != root.id()).all(|above| {
            above
                .value()
                .as_element()
                .is_none_or(|element| element.name() != "label" && !PASSED_OVER.contains(&element.name()))
        })
    };
    let texts = root.descendants().filter_map(|node| node.value().as_text().map(|text| (node, text.trim())));
    texts.filter(|&(node, text)| !text.is_empty() && counts(node)).map(|(_, text)| text.len()).sum()
}

fn first<'a>(page: &'a Html, selector: &str) -> Option<ElementRef<'a>> {
    let selector = Selector::parse(selector).ok()?;
    page.select(&selector).find(|element| element.text().any(|text| !text.trim().is_empty()))
}

#[derive(Default)]
struct Reader {
    builder: Builder,
    words: String,
    /// Whether the page named no main content, so that its header is the site's.
    whole_page: bool,
    /// Weight of all that is read, once a form made it known.
    weight: Option<usize>,
    items: usize,
    tables: Vec<Table>,
}

#[derive(Default)]
struct Table {
    columns: Vec<String>,
    cells: Vec<String>,
    /// Whether every cell of the row so far is a heading.
    headings: bool,
}

impl Reader {
    /// Walks the tree without recursion: nesting is the author's choice, the stack is ours.
    fn read(&mut self, root: ElementRef<'_>) {
        use ego_tree_edge::{Close, Open};
        let mut skipping: Option<ego_tree_edge::Id> = None;
        for edge in root.traverse() {
            match edge {
                Open(node) if skipping.is_none() => match node.value() {
                    Node::Text(text) => self.words.push_str(text),
                    Node::Element(element) if self.skips(element) => skipping = Some(node.id()),
                    Node::Element(element) if element.name() == "form" && self.is_minor(node, root) => {
                        skipping = Some(node.id());
                    }
                    Node::Element(element) => self.open(element),
                    _ => {}
                },
                Close(node) => match skipping {
                    Some(skipped) if skipped == node.id() => skipping = None,
                    Some(_) => {}
                    None => {
                        if let Node::Element(element) = node.value() {
                            self.close(element);
                        }
                    }
                },
                Open(_) => {}
            }
        }
        self.flush();
    }

    fn skips(&self, element: &Element) -> bool {
        let hidden = element.attr("hidden").is_some() || element.attr("aria-hidden") == Some("true");
        hidden
            || match element.name() {
                "header" => self.whole_page,
                name => PASSED_OVER.contains(&name),
            }
    }

    /// Whether a form has little of the page's text, as a search box has; some pages are one form.
    fn is_minor(&mut self, form: ego_tree::NodeRef<'_, Node>, root: ElementRef<'_>) -> bool {
        let all = *self.weight.get_or_insert_with(|| weight(root));
        ElementRef::wrap(form).is_none_or(|form| weight(form) * 4 < all)
    }

    fn open(&mut self, element: &Element) {
        match element.name() {
            "br" => self.words.push(' '),
            "table" => {
                self.flush();
                self.tables.push(Table::default());
            }
            "tr" => {
                if let Some(table) = self.tables.last_mut() {
                    table.headings = true;
                }
            }
            "td" => {
                if let Some(table) = self.tables.last_mut() {
                    table.headings = false;
                }
            }
            "li" => {
                self.flush();
                self.items += 1;
            }
            name if is_block(name) && self.tables.is_empty() => self.flush(),
            name if is_block(name) => self.words.push(' '),
            _ => {}
        }
    }

    fn close(&mut self, element: &Element) {
        match element.name() {
            "table" => {
                self.words.clear();
                self.tables.pop();
            }
            "td" | "th" => {
                let words = std::mem::take(&mut self.words);
                if let Some(table) = self.tables.last_mut() {
                    table.cells.push(squeeze(&words));
                }
            }
            "tr" => {
                let Some(table) = self.tables.last_mut() else { return };
                let cells = std::mem::take(&mut table.cells);
                if table.headings && table.columns.is_empty() {
                    table.columns = cells;
                } else {
                    let row = table_row(&table.columns, &cells);
                    self.builder.line(&row);
                }
            }
            "caption" => {
                let words = std::mem::take(&mut self.words);
                self.builder.body(&words);
            }
            "li" => {
                self.flush();
                self.items = self.items.saturating_sub(1);
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" if self.tables.is_empty() => {
                let words = std::mem::take(&mut self.words);
                self.builder.heading(element.name().as_bytes()[1] - b'0', &words);
            }
            name if is_block(name) && self.tables.is_empty() => self.flush(),
            name if is_block(name) => self.words.push(' '),
            _ => {}
        }
    }

    fn flush(&mut self) {
        let words = std::mem::take(&mut self.words);
        if self.items > 0 { self.builder.line(&words) } else { self.builder.body(&words) }
    }
}

fn is_block(name: &str) -> bool {
    matches!(
        name,
        "address"
            | "article"
            | "blockquote"
            | "body"
            | "dd"
            | "details"
            | "div"
            | "dl"
            | "dt"
            | "fieldset"
            | "figcaption"
            | "figure"
            | "form"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "header"
            | "hr"
            | "html"
            | "main"
            | "ol"
            | "p"
            | "pre"
            | "section"
            | "summary"
            | "ul"
    )
}

/// The tree walk's types, which come from the crate under `scraper`.
mod ego_tree_edge {
    pub(super) use ego_tree::{
        NodeId as Id,
        iter::Edge::{Close, Open},
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(source: &str) -> Parsed {
        parse(source).unwrap()
    }

    fn texts(parsed: &Parsed) -> Vec<&str> {
        parsed.blocks.iter().map(|block| &parsed.text[block.range.clone()]).collect()
    }

    #[test]
    fn only_the_main_content_is_read() {
        let parsed = page(
            "<html lang=en><head><title>Gift cards | Shop</title><script>var x='<p>no</p>'</script></head><body>\
             <header><nav><a>Women</a></nav></header><main><header><h1>Gift&nbsp;cards</h1></header>\
             <p>24&nbsp;hours &mdash; a<b>b</b>c.<br>Next</p><aside>Popular</aside><p hidden>secret</p>\
             <form><p>Search</p></form></main><footer>(c)</footer></body></html>",
        );
        assert_eq!(texts(&parsed), ["Gift cards", "24 hours \u{2014} abc. Next"]);
        assert_eq!((parsed.title.as_str(), parsed.locale.as_str()), ("Gift cards", "en"));
    }

    #[test]
    fn tables_are_read_row_by_row_under_their_columns() {
        let parsed = page(
            "<body><h2>Rates</h2><table><tr><th>To</th><th>Price</th></tr>\
             <tr><td>Ireland</td><td><p>4</p><p>euro</p></td></tr><tr><th>Spain</th><td>7 euro</td></tr></table>",
        );
        assert_eq!(texts(&parsed), ["Rates", "To: Ireland; Price: 4 euro", "To: Spain; Price: 7 euro"]);
    }

    #[test]
    fn a_page_without_main_content_loses_its_header_and_navigation() {
        let parsed =
            page("<title>T</title><header>Shop</header><nav>x</nav><div>Text<ul><li>a<li>b</ul></div>");
        assert_eq!(texts(&parsed), ["Text", "a", "b"]);
        assert_eq!(parsed.title, "T");
    }

    #[test]
    fn deep_nesting_is_refused_before_it_costs_time() {
        let deep = |depth: usize| format!("<body>{}word", "<div>".repeat(depth));
        assert_eq!(texts(&page(&deep(500))), ["word"]);
        assert!(parse(&deep(1_000_000)).unwrap_err().0.contains("512"));
        let long = "<p>a<br><li>b</i>".repeat(5_000);
        assert_eq!(page(&long).blocks.len(), 10_000);
        assert!(blocks(&deep(10_000)).is_empty());
        for evasion in ["<div></i>", "<div/>", "<svg><p><div/>", "<div><!-- </div> -->", "<rt><div>"] {
            assert!(parse(&evasion.repeat(2_000)).is_err(), "{evasion}");
        }
    }

    #[test]
    fn what_only_looks_deep_is_read() {
        let icon = format!("<svg><title>x</title>{}</svg>", "<path d='1'/>".repeat(2_000));
        let script = format!("<script>var x = '{}'</script>", "<div>".repeat(2_000));
        let comment = format!("<!-- {} -->", "<div>".repeat(2_000));
        assert_eq!(texts(&page(&format!("<body>{icon}{script}{comment}<p>word"))), ["word"]);
    }

    #[test]
    fn a_page_of_several_articles_is_read_whole() {
        let parsed = page("<body><article>One</article><article> </article><article>Two</article>");
        assert_eq!(texts(&parsed), ["One", "Two"]);
        let one = page("<body><p>Teaser</p><article>One<article>Reply</article></article>");
        assert_eq!(texts(&one), ["One", "Reply"]);
    }

    #[test]
    fn a_page_that_is_one_form_is_read_without_its_controls() {
        let parsed = page(
            "<body><form><p>Returns take 14 days.</p><select><option>Austria</select><button>Go</button>\
             <textarea>Text</textarea></form>",
        );
        assert_eq!(texts(&parsed), ["Returns take 14 days."]);
    }
}
