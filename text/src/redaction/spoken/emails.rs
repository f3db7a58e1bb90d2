//! E-mail addresses as they are said: "jay at acme dot com".

use std::{ops::Range, sync::LazyLock};

use super::{Word, lexicon::words};
use crate::redaction::{Hit, Kind, lexicon::Lexicon, patterns::hit};

/// The most words of a mailbox name's last part that nothing joins: "john smith at".
const PLAIN_WORDS: usize = 2;

/// The most words of a label of the domain: "bank of america".
const LABEL_WORDS: usize = 4;

/// The most parts of a mailbox name: letters, digits, words and what joins them.
const PARTS: usize = 40;

/// Endings of domains that are said. Any other is as rare as these words are common without an
/// address before them.
const ENDINGS: &str = "com net org edu gov info biz io co uk de fr es it eu us ca au ch at nl be ie se no dk pl pt br mx in jp cn \
                       app dev me tv online shop store email mail";

/// The longest of them, in bytes.
const ENDING_BYTES: usize = 6;

/// Words that no domain begins with.
const ARTICLES: &str = "the a an this that your our its der die das el la";

/// Words before "at" that are no mailbox.
const NO_MAILBOX: &str = "is it its email mail emails e-mail address mailbox me my us you your our him her them they we i to the and \
                          or that this which write contact contacted send sent reach reached be been was were are am also so \
                          yes yeah ok okay sure um uh und ist lautet on for with by from please not no look looking looked \
                          shop shopped shopping bought buy ordered order account accounts up out back go going work working \
                          works here there website site store page online available only of in as un an de das die der mi es \
                          correo adresse mon ma meine got have has had use using called name said say says under via per \
                          but customer support service user username login log find found see check visit";

fn set(words: &'static str) -> Lexicon<()> {
    words.split_whitespace().map(|word| (word, ())).collect()
}

static ENDING: LazyLock<Lexicon<()>> = LazyLock::new(|| set(ENDINGS));
static ARTICLE: LazyLock<Lexicon<()>> = LazyLock::new(|| set(ARTICLES));
static NO_BOX: LazyLock<Lexicon<()>> = LazyLock::new(|| set(NO_MAILBOX));

static SAID: LazyLock<Lexicon<Is>> = LazyLock::new(|| {
    let numbers = words().filter_map(|(name, word)| match word {
        Word::Times(times) => Some((name, Is::Times(times))),
        Word::Unit(_) | Word::Teen(_) | Word::Tens(_) => Some((name, Is::Number)),
        Word::Oh | Word::Hundred | Word::Thousand | Word::Ordinal(_) => None,
    });
    let marks = [
        ("at", Is::At),
        ("arroba", Is::At),
        ("dot", Is::Dot),
        ("punkt", Is::Dot),
        ("punto", Is::Dot),
        ("underscore", Is::Joint(b'_')),
        ("dash", Is::Joint(b'-')),
        ("hyphen", Is::Joint(b'-')),
        ("minus", Is::Joint(b'-')),
        ("plus", Is::Joint(b'+')),
    ];
    numbers.chain(marks).collect()
});

/// A part of a text that may belong to an address.
#[derive(Clone)]
struct Token {
    place: Range<usize>,
    is: Is,
    /// White space stands before it.
    spaced: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Is {
    At,
    /// "dot", or a full stop within or between words.
    Dot,
    /// A mark of a mailbox name, said or written.
    Joint(u8),
    Letter,
    Number,
    Times(usize),
    Word,
    /// A full stop or a comma behind a letter or a word, with white space behind it.
    Pause,
    Other,
}

/// Finds addresses that are said, or written with spaces: `jo @ acme . com`.
pub(in crate::redaction) fn emails(text: &str, from: usize, hits: &mut Vec<Hit>) {
    // Cheap to know, and hardly any text goes on from here.
    if !may_hold(&text.as_bytes()[from..]) {
        return;
    }
    let tokens = tokens(text, from);
    let mut floor = 0;
    for at in 0..tokens.len() {
        if tokens[at].is != Is::At || at < floor {
            continue;
        }
        // "at the dot com office"
        let article = tokens.get(at + 1).is_some_and(|next| ARTICLE.get(&text[next.place.clone()]).is_some());
        if article {
            continue;
        }
        let Some(last) = domain(text, &tokens, at + 1) else { continue };
        let tight = !tokens[at].spaced && text.as_bytes()[tokens[at].place.start] == b'@';
        let Some(first) = mailbox(text, &tokens[floor..at], tight) else { continue };
        let range = tokens[floor + first].place.start..tokens[last].place.end;
        let plain =
            tokens[floor + first..=last].windows(2).all(|two| !two[1].spaced && two[1].is != Is::Pause)
                && text.as_bytes().get(tokens[at].place.start) == Some(&b'@');
        if !plain {
            hits.push(hit(range, Kind::Email, 0.8, "email-spoken"));
        }
        floor = last + 1;
    }
}

/// Whether there is an @, as a sign or said, and behind it a full stop, as a sign or said, which the letters
/// of a domain's ending may follow.
fn may_hold(bytes: &[u8]) -> bool {
    let Some(at) = bytes.iter().enumerate().position(|(at, &byte)| match byte {
        b'@' => true,
        b'a' | b'A' => is_word(bytes, at, b"at") || is_word(bytes, at, b"arroba"),
        _ => false,
    }) else {
        return false;
    };
    (at + 1..bytes.len()).any(|at| match bytes[at] {
        // A full stop at the end of a word is of the sentence.
        b'.' => {
            let blank = |at: usize| bytes.get(at).is_none_or(u8::is_ascii_whitespace);
            (blank(at - 1) || !blank(at + 1)) && letters_follow(&bytes[at + 1..])
        }
        b'd' | b'D' => is_word(bytes, at, b"dot") && letters_follow(&bytes[at + 3..]),
        b'p' | b'P' => {
            (is_word(bytes, at, b"punkt") || is_word(bytes, at, b"punto")) && letters_follow(&bytes[at + 5..])
        }
        _ => false,
    })
}

/// Whether a word stands at a place, in any case.
fn is_word(bytes: &[u8], at: usize, word: &[u8]) -> bool {
    let end = at + word.len();
    bytes.get(at..end).is_some_and(|written| written.eq_ignore_ascii_case(word))
        && !bytes.get(end).is_some_and(u8::is_ascii_alphabetic)
        && !at.checked_sub(1).is_some_and(|before| bytes[before].is_ascii_alphabetic())
}

/// Whether letters come, with no more than white space and a closing bracket before them.
fn letters_follow(bytes: &[u8]) -> bool {
    let rest = bytes.trim_ascii_start();
    let rest =
        rest.strip_prefix(b")").or(rest.strip_prefix(b"]")).or(rest.strip_prefix(b"}")).unwrap_or(rest);
    let rest = rest.strip_prefix(b">").unwrap_or(rest);
    rest.trim_ascii_start().first().is_some_and(u8::is_ascii_alphabetic)
}

/// Reads tokens. Brackets around "at" and "dot" belong to them.
fn tokens(text: &str, from: usize) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut tokens: Vec<Token> = Vec::new();
    let mut at = from;
    let mut spaced = true;
    while at < bytes.len() {
        let byte = bytes[at];
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            // A line's end ends an address.
            if byte == b'\n' {
                tokens.push(Token { place: at..at + 1, is: Is::Other, spaced });
            }
            spaced = true;
            at += 1;
            continue;
        }
        let start = at;
        let letter = |b: &u8| b.is_ascii_alphabetic() || *b == b'\'' || *b >= 0x80;
        let is = if letter(&byte) {
            at += bytes[at..].iter().take_while(|b| letter(b)).count();
            of_word(&text[start..at])
        } else if byte.is_ascii_digit() {
            at += bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
            Is::Number
        } else {
            at += 1;
            let spaced_behind = bytes.get(at).is_none_or(|b| b.is_ascii_whitespace());
            match byte {
                b'@' => Is::At,
                b'.' if !spaced && spaced_behind => Is::Pause,
                b',' if spaced_behind => Is::Pause,
                b'.' => Is::Dot,
                b'_' | b'-' | b'+' => Is::Joint(byte),
                b'(' | b'[' | b'{' | b'<' => match bracketed(text, at) {
                    Some((is, end)) => {
                        at = end;
                        is
                    }
                    None => Is::Other,
                },
                _ => Is::Other,
            }
        };
        tokens.push(Token { place: start..at, is, spaced });
        spaced = false;
    }
    tokens
}

/// `at)` or `dot]` behind an opening bracket, and where it ends.
fn bracketed(text: &str, at: usize) -> Option<(Is, usize)> {
    let rest = &text.as_bytes()[at..];
    let close = rest.iter().take(6).position(|byte| matches!(byte, b')' | b']' | b'}' | b'>'))?;
    match rest[..close].trim_ascii() {
        b"@" => return Some((Is::At, at + close + 1)),
        b"." => return Some((Is::Dot, at + close + 1)),
        _ => {}
    }
    let is = of_word(std::str::from_utf8(rest[..close].trim_ascii()).ok()?);
    matches!(is, Is::At | Is::Dot).then_some((is, at + close + 1))
}

fn of_word(text: &str) -> Is {
    SAID.of(text).unwrap_or(if text.len() == 1 { Is::Letter } else { Is::Word })
}

/// The last token of the domain that begins with token `first`.
fn domain(text: &str, tokens: &[Token], first: usize) -> Option<usize> {
    let mut at = first;
    let mut end = None;
    let mut labels = 0;
    loop {
        let start = at;
        let mut words = 0;
        // Spelled letters are one word.
        while let Some(token) = tokens.get(at) {
            match token.is {
                Is::Letter | Is::Number | Is::Times(_) => {}
                // "c. o. m."
                Is::Pause
                    if at > start
                        && tokens[at - 1].is == Is::Letter
                        && tokens
                            .get(at + 1)
                            .is_some_and(|next| next.is == Is::Letter || next.is == Is::Dot) => {}
                Is::Joint(b'-') if at > start => {}
                // "at" and "us" may be the domain's last part.
                Is::Word | Is::At
                    if words < LABEL_WORDS && (token.is == Is::Word || labels > 0 && at == start) =>
                {
                    words += 1
                }
                _ => break,
            }
            at += 1;
            let label = &tokens[start..at];
            if labels > 0 && ending(text, label) {
                end = Some(at - 1);
                // Only "co dot uk" goes on; a word behind an ending is of the sentence.
                if tokens.get(at).is_none_or(|next| next.is != Is::Dot) {
                    // "c o" may still become "c o m".
                    if label.iter().all(|token| token.is == Is::Letter)
                        && tokens.get(at).is_some_and(|next| next.is == Is::Letter)
                    {
                        continue;
                    }
                    return end;
                }
                break;
            }
        }
        if at == start || tokens.get(at).is_none_or(|next| next.is != Is::Dot) || at - first > PARTS {
            return end;
        }
        labels += 1;
        at += 1;
    }
}

fn ending(text: &str, label: &[Token]) -> bool {
    let mut name = [0; ENDING_BYTES];
    let mut length = 0;
    for token in label.iter().filter(|token| token.is != Is::Pause) {
        let end = length + token.place.len();
        let Some(part) = name.get_mut(length..end) else { return false };
        part.copy_from_slice(&text.as_bytes()[token.place.clone()]);
        length = end;
    }
    std::str::from_utf8(&name[..length]).is_ok_and(|name| ENDING.of(name).is_some())
}

/// The first of the tokens that are the mailbox name before an "at"; they end with its last. Before an
/// @ with no space before it, the name is one word, or letters.
fn mailbox(text: &str, tokens: &[Token], tight: bool) -> Option<usize> {
    let mut first = None;
    let mut plain = 0;
    let mut joined = true;
    for (at, token) in tokens.iter().enumerate().rev().take(PARTS) {
        match token.is {
            Is::Letter | Is::Number | Is::Times(_) => {
                // "a" and "I" are letters only beside others.
                first = Some(at);
                joined = false;
            }
            Is::Dot | Is::Joint(_) => joined = true,
            // "j. o. h. n." and "j, o, h, n"
            Is::Pause if at > 0 && matches!(tokens[at - 1].is, Is::Letter | Is::Number) => {}
            Is::Word => {
                let no = NO_BOX.of(&text[token.place.clone()]).is_some();
                let spelled = first.is_some_and(|first: usize| tokens[first].is == Is::Letter && !joined);
                if no || (!joined && (spelled || plain >= PLAIN_WORDS)) {
                    break;
                }
                plain += usize::from(!joined);
                first = Some(at);
                joined = false;
            }
            _ => break,
        }
        if tight && token.spaced && !matches!(token.is, Is::Letter | Is::Joint(_) | Is::Dot) {
            break;
        }
    }
    let first = first?;
    // A lone "a" or "I" before "at" is a word: "I at".
    let lone = first + 1 == tokens.len() && tokens[first].is == Is::Letter;
    let word = matches!(text.as_bytes()[tokens[first].place.start] | 0x20, b'a' | b'i');
    (!(lone && word)).then_some(first)
}

/// An address as it is written: the same for one that was said and one that was typed.
pub(in crate::redaction) fn normal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut times = 1;
    let tokens = tokens(text, 0);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        let mut place = token.place.clone();
        match token.is {
            Is::At => out.push('@'),
            Is::Dot => out.push('.'),
            Is::Joint(joint) => out.push(char::from(joint)),
            Is::Times(count) => times = count,
            Is::Pause => {}
            Is::Number | Is::Letter | Is::Word | Is::Other => {
                let number = token.is == Is::Number;
                // "forty two" is one number.
                while number && times == 1 && tokens.get(at).is_some_and(|next| next.is == Is::Number) {
                    place.end = tokens[at].place.end;
                    at += 1;
                }
                let written = &text[place];
                let written = if number { super::Written::value(written) } else { written.to_lowercase() };
                for _ in 0..std::mem::replace(&mut times, 1) {
                    out.extend(written.chars().filter(|c| !c.is_whitespace()));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        let mut hits = Vec::new();
        emails(text, 0, &mut hits);
        hits.first().map(|hit| &text[hit.bytes.clone()])
    }

    #[test]
    fn addresses_are_found_as_they_are_said() {
        for (text, address, written) in [
            ("write to jay at acme dot com please", "jay at acme dot com", "jay@acme.com"),
            (
                "it's j o h n underscore doe at gmail dot com",
                "j o h n underscore doe at gmail dot com",
                "john_doe@gmail.com",
            ),
            (
                "my email is john smith at bank of america dot co dot uk.",
                "john smith at bank of america dot co dot uk",
                "johnsmith@bankofamerica.co.uk",
            ),
            ("j. o. h. n. at g mail dot c o m", "j. o. h. n. at g mail dot c o m", "john@gmail.com"),
            ("jo [at] home [dot] de", "jo [at] home [dot] de", "jo@home.de"),
            ("jo(at)home.de", "jo(at)home.de", "jo@home.de"),
            ("jo @ home . de", "jo @ home . de", "jo@home.de"),
            (
                "mail jo dot b forty two at home punkt de",
                "jo dot b forty two at home punkt de",
                "jo.b42@home.de",
            ),
            ("double u b at x dot org", "double u b at x dot org", "uub@x.org"),
        ] {
            assert_eq!(found(text), Some(address), "{text:?}");
            assert_eq!(normal(address), written, "{text:?}");
        }
    }

    #[test]
    fn talk_of_places_is_no_address() {
        for text in [
            "look at amazon dot com",
            "I bought it at shop dot de",
            "we meet at noon. Dot comes too",
            "at the dot",
            "jo@home.de",
        ] {
            assert_eq!(found(text), None, "{text:?}");
        }
    }
}
