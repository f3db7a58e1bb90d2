//! The few keys of YAML front matter that say something about a document.
//!
//! Front matter is written by people and by site generators; of YAML it uses plain and quoted
//! scalars and lists of them. That much is read here, under a bound; anything else is passed over.

use super::Rejected;

/// Front matter ends within this many bytes.
const MAX_BYTES: usize = 16 * 1024;

/// What front matter said; empty where it said nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FrontMatter {
    pub(super) title: String,
    pub(super) locale: String,
    pub(super) audiences: Vec<String>,
}

/// Splits front matter off `text`: the keys, and the rest. A rule at the top that no key follows is
/// text.
///
/// # Errors
/// Front matter that does not end, or not soon enough: what it says of the audience may not be
/// passed over.
pub(super) fn split(text: &str) -> Result<(FrontMatter, &str), Rejected> {
    let none = (FrontMatter::default(), text);
    let mut lines = text.split_inclusive('\n');
    if lines.next().map(str::trim_end) != Some("---") {
        return Ok(none);
    }
    let mut matter = FrontMatter::default();
    let mut at = text.find('\n').map_or(text.len(), |end| end + 1);
    let mut key = String::new();
    // Whether the first line that says something has a key.
    let mut keyed = None;
    for line in lines {
        at += line.len();
        let line = line.trim_end();
        let inner = line.trim_start();
        if line == "---" || line == "..." {
            let said = keyed != Some(false) || matter != FrontMatter::default();
            return Ok(if said { (matter, &text[at..]) } else { none });
        }
        if inner.is_empty() || inner.starts_with('#') {
            continue;
        }
        let field = line.split_once(':').filter(|(name, value)| {
            inner.len() == line.len() && is_key(name) && (value.is_empty() || value.starts_with([' ', '\t']))
        });
        keyed.get_or_insert(field.is_some());
        if let Some(item) = inner.strip_prefix("- ") {
            matter.set(&key, vec![scalar(item)]);
        } else if let Some((name, value)) = field {
            key = name.trim().trim_matches(['"', '\'']).to_ascii_lowercase();
            matter.set(&key, values(value));
        }
        if at > MAX_BYTES {
            break;
        }
    }
    if keyed == Some(true) || !matter.audiences.is_empty() {
        return Err(Rejected::new(format!(
            "the front matter after `---` does not end with a line `---` within {MAX_BYTES} bytes"
        )));
    }
    // A thematic break and text.
    Ok(none)
}

/// Whether a name before a colon is a key and not the beginning of a sentence.
fn is_key(name: &str) -> bool {
    let name = name.trim().trim_matches(['"', '\'']);
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

impl FrontMatter {
    fn set(&mut self, key: &str, values: Vec<String>) {
        match key {
            "title" => self.title = values.join(", "),
            "locale" | "lang" | "language" => self.locale = values.concat(),
            "audience" | "audiences" => self.audiences.extend(values.into_iter().filter(|v| !v.is_empty())),
            _ => {}
        }
    }
}

/// The values on a key's own line: one scalar, or a list in brackets.
fn values(text: &str) -> Vec<String> {
    let text = uncomment(text).trim();
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(list) => list.split(',').map(scalar).collect(),
        None => vec![scalar(text)],
    }
}

fn scalar(text: &str) -> String {
    let text = uncomment(text).trim();
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            return match quote {
                '"' => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
                _ => inner.replace("''", "'"),
            };
        }
    }
    text.to_owned()
}

/// A value without the comment after it. A `#` within quotes, or without a space before it, begins
/// none.
fn uncomment(text: &str) -> &str {
    let mut quote = None;
    let mut before = '[';
    let mut spaced = true;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open && (before != '\\' || open == '\'') => quote = None,
            Some(_) => {}
            None if c == '#' && spaced => return &text[..at],
            // A quote within a word is an apostrophe; a doubled one goes on.
            None if matches!(c, '"' | '\'') && (matches!(before, '[' | ',') || before == c && !spaced) => {
                quote = Some(c);
            }
            None => {}
        }
        spaced = c.is_whitespace();
        if quote.is_some() || !spaced {
            before = c;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_the_rest_is_text() {
        let text = "---\ntitle: \"Size: a guide\"\nlang: de # German\naudience: [plus, 'premium']\nx:\n  y: 1\n---\n# Hi\n";
        let (matter, rest) = split(text).unwrap();
        assert_eq!(matter.title, "Size: a guide");
        assert_eq!(matter.locale, "de");
        assert_eq!(matter.audiences, ["plus", "premium"]);
        assert_eq!(rest, "# Hi\n");
    }

    #[test]
    fn lists_can_stand_below_their_key() {
        let (matter, rest) = split("---\r\naudiences:\r\n  - plus\r\n  - premium\r\n---\r\nText").unwrap();
        assert_eq!(matter.audiences, ["plus", "premium"]);
        assert_eq!(rest, "Text");
    }

    #[test]
    fn a_rule_at_the_top_is_not_front_matter() {
        for text in [
            "---\nJust text.",
            "---\nJust text.\n\nNote: more.\n---\nThe rest.",
            "# Title\n---\na: b\n---\n",
            "",
        ] {
            assert_eq!(split(text).unwrap(), (FrontMatter::default(), text));
        }
    }

    #[test]
    fn front_matter_without_an_end_is_refused() {
        let long = format!("---\nx: {}\naudience: premium\n---\nText", "y".repeat(MAX_BYTES));
        for text in [long.as_str(), "---\naudience: premium\n\nText", "---\ntext\n\"audience\": premium\n"] {
            assert!(split(text).unwrap_err().0.contains("front matter"), "{text:.40}");
        }
    }

    #[test]
    fn comments_end_values() {
        let text = "---\n# first\ntitle: 'It''s # 1' # a comment\nlang: \"de\" # German\n\
                    audience: [plus, 'premium'] # members don't\n'audience': vip#1 # c\n---\n";
        let (matter, _) = split(text).unwrap();
        assert_eq!((matter.title.as_str(), matter.locale.as_str()), ("It's # 1", "de"));
        assert_eq!(matter.audiences, ["plus", "premium", "vip#1"]);
    }
}
