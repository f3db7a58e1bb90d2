//! Documents and passages as plain values.

use sha2::{Digest as _, Sha256};

/// The form in which a document arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Markdown,
    Html,
    Text,
    Pdf,
    FaqCsv,
    FaqJsonl,
}

/// What is known of a document before its bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Header {
    pub(crate) document_id: String,
    pub(crate) format: Option<Format>,
    pub(crate) title: String,
    pub(crate) locale: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) uri: String,
}

/// A stored document, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) locale: String,
    /// Empty: for everyone.
    pub(crate) audiences: Vec<String>,
    pub(crate) uri: String,
    pub(crate) version: String,
    pub(crate) passages: u32,
    /// It says of itself that it no longer holds.
    pub(crate) outdated: bool,
    /// Milliseconds since 1970.
    pub(crate) ingested_at: i64,
}

/// A passage ready to be stored. Offsets are characters; those of sentences
/// count from the passage's first character, so that a passage that only moved stays as it is.
#[derive(Clone, Debug)]
pub(crate) struct NewPassage {
    pub(crate) id: String,
    /// Hash of everything that was embedded and indexed for it.
    pub(crate) fingerprint: Vec<u8>,
    pub(crate) headings: Vec<String>,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) text: String,
    pub(crate) vector: Vec<f32>,
    pub(crate) sentences: Vec<NewSentence>,
}

/// A sentence with its vector.
#[derive(Clone, Debug)]
pub(crate) struct NewSentence {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) vector: Vec<f32>,
}

/// Which documents may answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) locale: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) all_audiences: bool,
}

impl Filter {
    /// Whether a document of `locale` for `audiences` may answer. Locales match by their primary
    /// language: a customer in `de-AT` is served by what is written in `de` or `de-DE`.
    pub(crate) fn allows(&self, document: &Document) -> bool {
        let language = self.locale.is_empty()
            || document.locale.is_empty()
            || primary(&self.locale).eq_ignore_ascii_case(primary(&document.locale));
        let audience = self.all_audiences
            || document.audiences.is_empty()
            || document
                .audiences
                .iter()
                .any(|one| self.audiences.iter().any(|a| a.eq_ignore_ascii_case(one)));
        language && audience
    }
}

fn primary(tag: &str) -> &str {
    tag.split(['-', '_']).next().unwrap_or_default()
}

/// A hash over parts of any length; no two lists of parts give the same bytes to hash.
pub(crate) fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    // 128 bits: accidents do not happen, and ids stay short.
    hasher.finalize()[..16].to_vec()
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|d| char::from(b"0123456789abcdef"[d as usize]))
        .collect()
}

/// What a passage is embedded as: the title of its document, then its own words, headings
/// included. Headings further up gained nothing when measured.
pub(crate) fn index_text(title: &str, text: &str) -> String {
    format!("{title}\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(locale: &str, audiences: &[&str]) -> Document {
        Document {
            id: "d".into(),
            title: String::new(),
            locale: locale.into(),
            audiences: audiences.iter().map(ToString::to_string).collect(),
            uri: String::new(),
            version: String::new(),
            passages: 0,
            outdated: false,
            ingested_at: 0,
        }
    }

    #[test]
    fn a_customer_sees_their_language_and_documents_without_one() {
        let filter = Filter { locale: "de-AT".into(), ..Filter::default() };
        assert!(filter.allows(&document("de", &[])));
        assert!(filter.allows(&document("", &[])));
        assert!(!filter.allows(&document("en", &[])));
        assert!(Filter::default().allows(&document("en", &[])));
    }

    #[test]
    fn documents_for_an_audience_are_hidden_from_everyone_else() {
        let plus = Filter { audiences: vec!["plus".into()], ..Filter::default() };
        assert!(plus.allows(&document("", &["premium", "plus"])));
        assert!(!plus.allows(&document("", &["premium"])));
        assert!(!Filter::default().allows(&document("", &["premium"])));
        assert!(Filter { all_audiences: true, ..Filter::default() }.allows(&document("", &["premium"])));
    }

    #[test]
    fn hashes_do_not_depend_on_how_parts_are_joined_by_accident() {
        assert_ne!(hash([&b"ab"[..], b"c"]), hash([&b"a"[..], b"bc"]));
        assert_eq!(hex(&[0, 255, 16]), "00ff10");
    }
}
