//! The text that tokens stand for, as they come one by one.
//!
//! A [`Vocabulary`] knows each token's bytes, which a grammar needs as well; a [`Detokenizer`] puts them
//! together to characters. That is exact and takes the same time for each token, where decoding a growing
//! row again and again does not.

use std::{collections::HashSet, path::Path, sync::Arc};

use serde_json::Value;
use tokenizers::Tokenizer;

use super::prompt::Guard;
use crate::{error::Error, repository::problem};

/// Tokens of the largest vocabulary; the largest published ones have some 260,000.
const MOST_TOKENS: usize = 1 << 22;
/// Bytes of the longest token.
const LONGEST_TOKEN: usize = 4096;

/// A tokenizer with the bytes of each of its tokens.
pub(crate) struct Vocabulary {
    pub(super) tokenizer: Tokenizer,
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<u32>,
    special: HashSet<u32>,
    pub(super) guard: Guard,
    opening: Opening,
}

/// What a tokenizer leaves out where a text begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// At most so many spaces.
    Spaces(usize),
    /// Each space of the first token that was marked with this character.
    Marks(char),
}

/// How a tokenizer writes its tokens.
struct Form {
    /// Bytes as characters of their own, as GPT-2's tokenizer does.
    byte_level: bool,
    /// Whether `<0xE6>` is a byte.
    fallback: bool,
    /// What stands for something else, in order.
    replaced: Vec<(String, String)>,
    opening: Opening,
}

impl Vocabulary {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// Names the file when it is not a tokenizer, or is of a kind whose tokens have no bytes of their own.
    pub(crate) fn load(path: &Path) -> Result<Arc<Self>, Error> {
        let tokenizer = Tokenizer::from_file(path)
            .map_err(|error| problem(path, format!("is not a usable tokenizer: {error}")))?;
        Self::of(tokenizer).map(Arc::new).map_err(|what| problem(path, what))
    }

    pub(super) fn of(mut tokenizer: Tokenizer) -> Result<Self, String> {
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
        let form = Form::of(&tokenizer)?;
        let most = tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        if most > MOST_TOKENS {
            return Err(format!("has a token of number {}; {MOST_TOKENS} tokens are allowed", most - 1));
        }
        let added = tokenizer.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special);
        let (special, names): (HashSet<u32>, Vec<String>) =
            special.map(|(id, token)| (*id, token.content.clone())).unzip();
        let guard = Guard::new(&names)?;
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(most));
        for id in 0..most as u32 {
            let from = bytes.len();
            if let Some(token) = tokenizer.id_to_token(id) {
                form.write(&token, &mut bytes);
            }
            if bytes.len() - from > LONGEST_TOKEN {
                return Err(format!(
                    "has a token of {} bytes; {LONGEST_TOKEN} are allowed",
                    bytes.len() - from
                ));
            }
            ends.push(u32::try_from(bytes.len()).map_err(|_| "has tokens of more than 4 GiB".to_owned())?);
        }
        Ok(Self { tokenizer, bytes, ends, special, guard, opening: form.opening })
    }

    /// Numbers that tokens have, from 0; some may be of no token.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A token's bytes; none for a number that no token has. A special token's are its name.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let end = |id: usize| self.ends.get(id).map_or(self.bytes.len(), |end| *end as usize);
        let from = if id == 0 { 0 } else { end(id - 1) };
        &self.bytes[from..end(id)]
    }

    /// Whether a token is special: it stands for no text of its own.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// The number of the token that is written like this.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }
}

impl Form {
    /// Reads a tokenizer's decoder.
    fn of(tokenizer: &Tokenizer) -> Result<Self, String> {
        let decoder = serde_json::to_value(tokenizer.get_decoder()).map_err(|error| error.to_string())?;
        let steps = match decoder.get("decoders").and_then(Value::as_array) {
            Some(steps) => steps.clone(),
            None => vec![decoder],
        };
        let mut form =
            Self { byte_level: false, fallback: false, replaced: Vec::new(), opening: Opening::Spaces(0) };
        let mut known = false;
        for step in &steps {
            let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
            match step["type"].as_str().unwrap_or("none at all") {
                "ByteLevel" => (form.byte_level, known) = (true, true),
                "ByteFallback" => (form.fallback, known) = (true, true),
                "Fuse" => known = true,
                "Replace" if step["pattern"]["String"].is_string() => {
                    let from = step["pattern"]["String"].as_str().unwrap_or_default().to_owned();
                    form.replaced.push((from, text("content")));
                }
                "Strip" if text("content") == " " && step["stop"] == 0 => {
                    form.opening = Opening::Spaces(step["start"].as_u64().unwrap_or(0) as usize);
                }
                "Metaspace" => {
                    let mark = text("replacement");
                    if let Some(first) = mark.chars().next().filter(|_| step["prepend_scheme"] != "never") {
                        form.opening = Opening::Marks(first);
                    }
                    form.replaced.push((mark, " ".to_owned()));
                    known = true;
                }
                other => return Err(format!("has a decoder that cannot write piece by piece: {other}")),
            }
        }
        match known {
            true => Ok(form),
            false => Err("has no decoder of bytes: ByteLevel, ByteFallback or Metaspace is needed".into()),
        }
    }

    fn write(&self, token: &str, bytes: &mut Vec<u8>) {
        if self.byte_level {
            let from = bytes.len();
            for letter in token.chars() {
                let Some(byte) = byte_of(letter) else {
                    bytes.truncate(from);
                    bytes.extend_from_slice(token.as_bytes());
                    return;
                };
                bytes.push(byte);
            }
            return;
        }
        let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        match hex.filter(|hex| self.fallback && hex.len() == 2).map(|hex| u8::from_str_radix(hex, 16)) {
            Some(Ok(byte)) => bytes.push(byte),
            _ => {
                let replaced = |text: String, (from, to): &(String, String)| text.replace(from.as_str(), to);
                let text = self.replaced.iter().fold(token.to_owned(), replaced);
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
}

/// The byte that a character stands for in GPT-2's vocabulary: printable ones of Latin-1 stand for
/// themselves, and the 68 others follow from U+0100 on, in order.
fn byte_of(letter: char) -> Option<u8> {
    let itself = |code: u32| matches!(code, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    match letter as u32 {
        code if itself(code) => Some(code as u8),
        code @ 0x100..=0x143 => {
            (0..=255).filter(|byte| !itself(*byte)).nth(code as usize - 0x100).map(|it| it as u8)
        }
        _ => None,
    }
}

/// Makes text of one sequence's tokens.
///
/// What it gives, all together, is what the tokenizer makes of all tokens at once, with one exception: in
/// bytes that are not UTF-8, a tokenizer with byte fallback gives up a whole run of byte tokens, and this
/// only what is wrong in it, since the beginning of the run has been handed out.
pub(crate) struct Detokenizer {
    vocabulary: Arc<Vocabulary>,
    skip_special: bool,
    /// The beginning of a character.
    pending: Vec<u8>,
    /// What is still to be left out at the beginning; `None` once there is text.
    opening: Option<Opening>,
}

impl Detokenizer {
    /// For a sequence from its first token on; special tokens give no text where `skip_special`.
    pub(crate) fn new(vocabulary: &Arc<Vocabulary>, skip_special: bool) -> Self {
        let opening = Some(vocabulary.opening);
        Self { vocabulary: Arc::clone(vocabulary), skip_special, pending: Vec::new(), opening }
    }

    /// The text that a token adds: whole characters, maybe none.
    pub(crate) fn push(&mut self, id: u32) -> String {
        if self.skip_special && self.vocabulary.is_special(id) {
            return String::new();
        }
        if let Some(Opening::Marks(mark)) = self.opening {
            let Some(token) = self.vocabulary.tokenizer.id_to_token(id) else { return String::new() };
            self.opening = None;
            self.pending.extend_from_slice(token.replace(mark, "").as_bytes());
        } else {
            self.pending.extend_from_slice(self.vocabulary.bytes(id));
        }
        let mut text = String::new();
        let mut rest = self.pending.len();
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            rest -= chunk.valid().len();
            // Only at the very end may it still become a character.
            if rest == invalid.len() && is_beginning(invalid) {
                break;
            }
            rest -= invalid.len();
            if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..self.pending.len() - rest);
        self.without_opening(text)
    }

    /// What is left at the end: a mark in place of a character that was not completed.
    pub(crate) fn finish(&mut self) -> String {
        let cut = !std::mem::take(&mut self.pending).is_empty();
        self.without_opening(if cut { char::REPLACEMENT_CHARACTER.into() } else { String::new() })
    }

    fn without_opening(&mut self, text: String) -> String {
        let Some(Opening::Spaces(most)) = self.opening else { return text };
        let spaces = text.bytes().take_while(|byte| *byte == b' ').count().min(most);
        let ended = spaces < text.len() || spaces == most;
        self.opening = (!ended).then_some(Opening::Spaces(most - spaces));
        text[spaces..].to_owned()
    }
}

/// Whether bytes that are not UTF-8 can become so by what follows.
fn is_beginning(invalid: &[u8]) -> bool {
    std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests;
