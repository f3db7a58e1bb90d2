//! The few keys of YAML front matter that say something about a document.
//!
//! Front matter is written by people and by site generators; of YAML it uses plain and quoted
//! scalars and lists of them. That much is read here, under a bound; anything else is passed over.

/// Front matter is not looked for beyond this many bytes.
const MAX_BYTES: usize = 16 * 1024;

/// What front matter said; empty where it said nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FrontMatter {
    pub(super) title: String,
    pub(super) locale: String,
    pub(super) audiences: Vec<String>,
}

/// Splits front matter off `text`: the keys, and the rest.
pub(super) fn split(text: &str) -> (FrontMatter, &str) {
    let none = (FrontMatter::default(), text);
    let mut lines = text.split_inclusive('\n');
    if lines.next().map(str::trim_end) != Some("---") {
        return none;
    }
    let mut matter = FrontMatter::default();
    let mut at = text.find('\n').map_or(text.len(), |end| end + 1);
    let mut key = String::new();
    for line in lines {
        at += line.len();
        let line = line.trim_end();
        if line == "---" || line == "..." {
            return (matter, &text[at..]);
        }
        if at > MAX_BYTES {
            return none;
        }
        let inner = line.trim_start();
        if let Some(item) = inner.strip_prefix("- ") {
            matter.set(&key, vec![scalar(item)]);
        } else if inner.len() == line.len()
            && let Some((name, value)) = line.split_once(':')
        {
            key = name.trim().to_ascii_lowercase();
            matter.set(&key, values(value));
        }
    }
    // It never ended: a thematic break and text.
    none
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
    let text = text.trim();
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(list) => list.split(',').map(scalar).collect(),
        None => vec![scalar(text)],
    }
}

fn scalar(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            return match quote {
                '"' => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
                _ => inner.replace("''", "'"),
            };
        }
    }
    text.split(" #").next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_the_rest_is_text() {
        let text = "---\ntitle: \"Size: a guide\"\nlang: de # German\naudience: [plus, 'premium']\nx:\n  y: 1\n---\n# Hi\n";
        let (matter, rest) = split(text);
        assert_eq!(matter.title, "Size: a guide");
        assert_eq!(matter.locale, "de");
        assert_eq!(matter.audiences, ["plus", "premium"]);
        assert_eq!(rest, "# Hi\n");
    }

    #[test]
    fn lists_can_stand_below_their_key() {
        let (matter, rest) = split("---\r\naudiences:\r\n  - plus\r\n  - premium\r\n---\r\nText");
        assert_eq!(matter.audiences, ["plus", "premium"]);
        assert_eq!(rest, "Text");
    }

    #[test]
    fn a_rule_at_the_top_is_not_front_matter() {
        for text in ["---\nJust text.", "# Title\n---\na: b\n---\n", ""] {
            assert_eq!(split(text), (FrontMatter::default(), text));
        }
    }
}
