//! The tokens of a Whisper model: which mean something else than text, by its own files.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use crate::{
    error::Error,
    repository::{json, problem},
    tokenize::TextTokenizer,
};

/// Codes that models or callers write otherwise, and how they are written here: as BCP 47 does, and of several
/// ways as Whisper does.
const ALIASES: [(&str, &str); 6] =
    [("jw", "jv"), ("nb", "no"), ("fil", "tl"), ("iw", "he"), ("in", "id"), ("cmn", "zh")];
/// The latest time of a first timestamp where the files say nothing, in ticks: a second, as in OpenAI's
/// reference.
const MAX_INITIAL_TIMESTAMP: u32 = 50;

/// The part of `generation_config.json` that matters here. `forced_decoder_ids` does not: transformers leaves
/// it aside since 4.39.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GenerationConfig {
    decoder_start_token_id: Option<u32>,
    eos_token_id: Option<OneOrMore>,
    no_timestamps_token_id: Option<u32>,
    prev_sot_token_id: Option<u32>,
    is_multilingual: Option<bool>,
    lang_to_id: Option<BTreeMap<String, u32>>,
    task_to_id: Option<BTreeMap<String, u32>>,
    suppress_tokens: Option<Vec<i64>>,
    begin_suppress_tokens: Option<Vec<i64>>,
    max_initial_timestamp_index: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(u32),
    More(Vec<u32>),
}

/// A language, and the token that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Language {
    /// As BCP 47 writes it.
    pub(crate) tag: String,
    pub(crate) id: u32,
}

/// What the tokens of a model stand for.
pub(crate) struct Vocabulary {
    tokenizer: TextTokenizer,
    /// Begins a transcript.
    pub(crate) start: u32,
    /// Ends it.
    pub(crate) end: u32,
    /// Before what was said before.
    pub(crate) previous: Option<u32>,
    /// Whose probability tells that nobody speaks.
    pub(crate) no_speech: Option<u32>,
    /// Asks for text in the language that is spoken.
    pub(crate) transcribe: Option<u32>,
    /// Asks for English, whatever is spoken.
    pub(crate) translate: Option<u32>,
    /// In order of tag; none of models that know English alone, whose prompts name no language.
    pub(crate) languages: Vec<Language>,
    pub(crate) no_timestamps: u32,
    /// The token of time 0; every one behind it is a tick later.
    pub(crate) first_timestamp: u32,
    pub(crate) max_initial_timestamp: u32,
    /// Tokens that are never written.
    pub(crate) never: Vec<u32>,
    /// Tokens that are not written first.
    pub(crate) not_first: Vec<u32>,
}

impl Vocabulary {
    /// Reads `generation_config.json` and `tokenizer.json` of a folder; the model gives `size` logits.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn read(folder: &Path, tokenizer_path: &Path, size: usize) -> Result<Self, Error> {
        let path = folder.join("generation_config.json");
        let config: GenerationConfig = json(&path)?;
        let tokenizer = TextTokenizer::load(tokenizer_path, 448)?;
        let named = |token: &str| tokenizer.id(token);
        let needed = |found: Option<u32>, key: &str, token: &str| {
            found.or_else(|| named(token)).ok_or_else(|| {
                problem(&path, format!("has no {key}, and {} no {token}", tokenizer_path.display()))
            })
        };
        let end = config.eos_token_id.and_then(|end| match end {
            OneOrMore::One(end) => Some(end),
            OneOrMore::More(ends) => ends.first().copied(),
        });
        let no_timestamps =
            needed(config.no_timestamps_token_id, "no_timestamps_token_id", "<|notimestamps|>")?;
        let tasks = config.task_to_id.unwrap_or_default();
        let mut languages: Vec<Language> = Vec::new();
        // English-only models may have these tokens without ever having learnt them.
        let multilingual = config.is_multilingual.unwrap_or(config.lang_to_id.is_some());
        for (token, id) in config.lang_to_id.filter(|_| multilingual).unwrap_or_default() {
            let code = token.trim_start_matches("<|").trim_end_matches("|>");
            languages.push(Language { tag: canonical(code).to_owned(), id });
        }
        languages.sort_by(|a, b| a.tag.cmp(&b.tag));
        let transcribe = tasks.get("transcribe").copied().or_else(|| named("<|transcribe|>"));
        let transcribe = transcribe.filter(|_| multilingual);
        let translate = tasks.get("translate").copied().or_else(|| named("<|translate|>"));
        let translate = translate.filter(|_| multilingual);
        if multilingual && (languages.is_empty() || transcribe.is_none()) {
            return Err(problem(&path, "is of a multilingual model, but has no lang_to_id or task_to_id"));
        }
        let start = needed(config.decoder_start_token_id, "decoder_start_token_id", "<|startoftranscript|>")?;
        let previous = config.prev_sot_token_id.or_else(|| named("<|startofprev|>"));
        // Older files name it otherwise; it always comes before the one that switches timestamps off.
        let no_speech = named("<|nospeech|>").or_else(|| named("<|nocaptions|>"));
        let no_speech = no_speech.or_else(|| no_timestamps.checked_sub(1));
        let ids = |ids: Option<Vec<i64>>| -> Vec<u32> {
            ids.unwrap_or_default().into_iter().filter_map(|id| u32::try_from(id).ok()).collect()
        };
        let mut never = ids(config.suppress_tokens);
        never.extend([Some(start), previous, no_speech, transcribe, translate].into_iter().flatten());
        never.extend(["<|translate|>", "<|transcribe|>", "<|startoflm|>"].into_iter().filter_map(named));
        never.sort_unstable();
        never.dedup();
        let found = Self {
            start,
            end: needed(end, "eos_token_id", "<|endoftext|>")?,
            previous,
            no_speech,
            transcribe,
            translate,
            languages,
            no_timestamps,
            first_timestamp: no_timestamps + 1,
            max_initial_timestamp: config.max_initial_timestamp_index.unwrap_or(MAX_INITIAL_TIMESTAMP),
            never,
            not_first: ids(config.begin_suppress_tokens),
            tokenizer,
        };
        let known = found.languages.iter().map(|language| language.id);
        let all = known.chain(found.never.iter().chain(&found.not_first).copied()).chain([
            found.end,
            found.first_timestamp,
            found.previous.unwrap_or(0),
        ]);
        match all.max() {
            Some(largest) if largest as usize >= size => {
                Err(problem(&path, format!("names the token {largest}, but the model gives {size} logits")))
            }
            _ => Ok(found),
        }
    }

    /// Whether a token is a time.
    pub(crate) fn is_timestamp(&self, token: u32) -> bool {
        token >= self.first_timestamp
    }

    /// The language of a BCP 47 tag: its first part counts.
    ///
    /// # Errors
    /// Says which languages there are.
    pub(crate) fn language(&self, tag: &str) -> Result<Option<&Language>, String> {
        let code = tag.split(['-', '_']).next().unwrap_or_default().to_lowercase();
        let code = canonical(&code);
        if self.languages.is_empty() {
            return match code {
                "en" => Ok(None),
                _ => Err(format!("{tag:?} is not spoken by this model; it speaks en alone")),
            };
        }
        self.languages.iter().find(|language| language.tag == code).map(Some).ok_or_else(|| {
            let tags: Vec<_> = self.languages.iter().map(|language| language.tag.as_str()).collect();
            format!("{tag:?} is not spoken by this model; it speaks {}", tags.join(", "))
        })
    }

    /// The text of tokens; those that are none are left out.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn text(&self, tokens: &[u32]) -> Result<String, Error> {
        let text: Vec<u32> =
            tokens.iter().copied().filter(|token| !self.is_timestamp(*token) && *token != self.end).collect();
        self.tokenizer.decode(&text, true)
    }

    /// The last `most` tokens of a text.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn tokens(&self, text: &str, most: usize) -> Result<Vec<u32>, Error> {
        let pieces = self.tokenizer.pieces(&format!(" {}", text.trim()), false)?;
        // Written-out special tokens in a caller's text stay what they are: text that is left out.
        let ids = pieces.into_iter().map(|piece| piece.id).filter(|id| {
            !self.is_timestamp(*id)
                && *id != self.end
                && *id != self.no_timestamps
                && !self.never.contains(id)
                && !self.languages.iter().any(|language| language.id == *id)
        });
        let ids: Vec<u32> = ids.collect();
        Ok(ids[ids.len().saturating_sub(most)..].to_vec())
    }
}

/// How a language's code is written here.
fn canonical(code: &str) -> &str {
    ALIASES.iter().find(|(other, _)| *other == code).map_or(code, |(_, own)| *own)
}
