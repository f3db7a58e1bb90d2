//! Whether a document says of itself that it no longer holds.
//!
//! Help centres keep old policies for reference, and an old policy answers a question as readily as
//! the one in force. [`outdated`] reads the notice that such pages carry: in the title, or in one of
//! the first sentences, in English or German. A notice elsewhere speaks of something else.

use std::sync::LazyLock;

use regex::Regex;

use crate::sentences;

/// Sentences at the start of a document that can hold the notice.
const SENTENCES: usize = 3;
/// A sentence of at most this many words is about the page that it stands on: "No longer valid."
const BARE_WORDS: usize = 4;

static TITLE: LazyLock<Regex> = LazyLock::new(|| {
    constant(
        r"(?i)\b(archived?|superseded|outdated|obsolete|discontinued|old version|no longer valid|archiv|veraltet|ungültig)\b",
    )
});
static NOTICE: LazyLock<Regex> = LazyLock::new(|| {
    constant(
        r"(?i)\b(no longer (valid|current|in force|appl(y|ies))|old version|superseded|outdated|archived|obsolete|(has|have|was|were) (been )?replaced by|applied (only )?(to|until|from)|(was|were) (valid|in force)|kept (here )?(only )?for reference|nicht mehr (gültig|aktuell)|alte fassung|veraltet|archiviert|galt(en)? (nur )?(bis|für)|(wurde|wurden) (ersetzt )?durch)\b",
    )
});
static ITSELF: LazyLock<Regex> = LazyLock::new(|| {
    constant(
        r"(?i)\b(th(is|ese) (page|document|article|version|policy|rules?|terms?|rates?|prices?|conditions?|notice|guide|programme|program)|(page|document|article|version|policy|programme|program) (is|was|has)|dieses? (seite|dokument|fassung|version|richtlinie|regeln?|preise|bedingungen))\b",
    )
});

fn constant(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern")
}

/// Whether a document with this title and beginning calls itself outdated.
#[must_use]
pub fn outdated(title: &str, beginning: &str) -> bool {
    TITLE.is_match(title)
        || sentences::split(beginning).iter().take(SENTENCES).map(|span| span.of(beginning)).any(|sentence| {
            NOTICE.is_match(sentence)
                && (ITSELF.is_match(sentence) || sentence.split_whitespace().count() <= BARE_WORDS)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_read() {
        for (title, beginning) in [
            ("Returns (2021)", "Old version. Please read the current one."),
            ("Returns", "This policy applied to orders until 31 December 2023."),
            ("Fees", "These rates are no longer valid. See the current ones."),
            ("Shipping rates (archive 2022)", "Standard delivery costs 5 euros."),
            ("Versand", "Diese Preise galten bis Ende 2022."),
            ("Card", "No longer valid. The card ended in May."),
        ] {
            assert!(outdated(title, beginning), "{title}: {beginning}");
        }
    }

    #[test]
    fn pages_about_old_things_are_not_old() {
        for (title, beginning) in [
            ("Passwords", "Your reset link is no longer valid after an hour. Ask for a new one."),
            ("Repairs", "A zip that was replaced by us has a warranty of two years."),
            ("Cookies", "This page says which cookies we use. One. Two. This page is outdated."),
            ("Discounts", "A discount that was applied to an order is refunded with it."),
            ("Umtausch", "Der Artikel wurde durch uns geprüft."),
        ] {
            assert!(!outdated(title, beginning), "{title}: {beginning}");
        }
    }
}
