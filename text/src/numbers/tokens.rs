//! A text as words, runs of figures and single marks.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// Letters.
    Word,
    /// Figures, with the marks between them that numbers, dates and times have.
    Figures,
    /// One other character.
    Mark,
}

/// A piece of a text; white space is none.
#[derive(Clone, Debug)]
pub(super) struct Token<'t> {
    pub(super) text: &'t str,
    pub(super) bytes: Range<usize>,
    pub(super) kind: TokenKind,
    /// Whether white space stands before it.
    pub(super) spaced: bool,
    /// Figures that belong to a code, such as those of `A4711` and `WX-12`.
    pub(super) part_of_code: bool,
}

/// Cuts a text into tokens.
pub(super) fn split(text: &str) -> Vec<Token<'_>> {
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut spaced = true;
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let start = at;
        if first.is_whitespace() {
            at += first.len_utf8();
            spaced = true;
            continue;
        }
        let kind = if first.is_ascii_digit() {
            at = figures_end(text, at);
            TokenKind::Figures
        } else if first.is_alphabetic() {
            at += text[at..].find(|c: char| !c.is_alphabetic()).unwrap_or(text.len() - at);
            TokenKind::Word
        } else {
            at += first.len_utf8();
            TokenKind::Mark
        };
        let token = Token { text: &text[start..at], bytes: start..at, kind, spaced, part_of_code: false };
        tokens.push(token);
        spaced = false;
    }
    mark_codes(&mut tokens);
    tokens
}

/// Where a run of figures ends: marks belong to it while figures follow them.
fn figures_end(text: &str, start: usize) -> usize {
    let mut end = start;
    let mut characters = text[start..].char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        if c.is_ascii_digit() {
            end = start + at + 1;
            continue;
        }
        let joins = matches!(c, '.' | ',' | ':' | '/' | '-' | '\'' | '’' | '\u{a0}' | '\u{202f}');
        if !(joins && characters.peek().is_some_and(|(_, next)| next.is_ascii_digit())) {
            break;
        }
        // A space groups three figures, or it parts two numbers.
        if matches!(c, '\u{a0}' | '\u{202f}') {
            let rest = &text[start + at + c.len_utf8()..];
            let group = rest.bytes().take(4).take_while(u8::is_ascii_digit).count();
            if group != 3 {
                break;
            }
        }
    }
    end
}

/// Figures right behind letters are a code's, and so are figures behind letters and a hyphen, or such
/// that letters follow which are no unit.
fn mark_codes(tokens: &mut [Token<'_>]) {
    for at in 0..tokens.len() {
        if tokens[at].kind != TokenKind::Figures {
            continue;
        }
        let joined = |token: &Token<'_>| !token.spaced;
        let behind = |back: usize| at.checked_sub(back).and_then(|before| tokens.get(before));
        let letters = joined(&tokens[at])
            && behind(1).is_some_and(|before| {
                let hyphen = matches!(before.text, "-" | "_" | "#");
                let worded = before.kind == TokenKind::Word && super::units::currency(before.text).is_none();
                worded
                    || (before.text == "#")
                    || (hyphen
                        && !before.spaced
                        && behind(2).is_some_and(|token| {
                            token.kind == TokenKind::Word && super::units::currency(token.text).is_none()
                        }))
            });
        let follows = tokens.get(at + 1).is_some_and(|after| {
            joined(after)
                && (after.text == "_"
                    || (after.kind == TokenKind::Word
                        && super::units::unit(after.text).is_none()
                        && super::units::multiple(after.text).is_none()
                        && super::units::half(after.text).is_none()
                        && super::units::currency(after.text).is_none()
                        && !super::units::is_ordinal(after.text)
                        && !after.text.eq_ignore_ascii_case("x")
                        && !after.text.eq_ignore_ascii_case("uhr")))
        });
        tokens[at].part_of_code = letters || follows;
    }
}
