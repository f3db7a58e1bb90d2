//! The tokens that end a reply.

use std::{collections::BTreeSet, path::Path};

use serde::Deserialize;

use super::text::Vocabulary;
use crate::{
    error::Error,
    repository::{json_if_there, problem},
};

/// Tokens that end a turn, by the names that families of models give them. They count where the tokenizer
/// has them as special ones: files of fine-tuned models often name the end of a text alone.
const ENDS_OF_TURN: [&str; 3] = ["<|im_end|>", "<|eot_id|>", "<end_of_turn>"];

/// One number or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Several(Vec<u32>),
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    eos_token_id: Option<Ids>,
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    eos_token: Option<Written>,
}

/// A special token in `tokenizer_config.json`: a text, or an object with one in it.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Written {
    Text(String),
    Object { content: String },
}

impl Written {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Object { content: text } => text,
        }
    }
}

/// The tokens that end a reply of the model in `folder`: all that `generation_config.json`,
/// `config.json` and `tokenizer_config.json` name, and the usual ends of a turn. May be empty.
///
/// # Errors
/// Names the file that cannot be used, or names a token that the tokenizer does not have.
pub(crate) fn read(folder: &Path, vocabulary: &Vocabulary) -> Result<BTreeSet<u32>, Error> {
    let mut endings = BTreeSet::new();
    for file in ["generation_config.json", "config.json"] {
        let path = folder.join(file);
        let config: Config = json_if_there(&path)?.unwrap_or_default();
        let ids = match config.eos_token_id {
            None => Vec::new(),
            Some(Ids::One(id)) => vec![id],
            Some(Ids::Several(ids)) => ids,
        };
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary.len()) {
            let tokens = vocabulary.len();
            return Err(problem(&path, format!("has eos_token_id {id}; the tokenizer has {tokens} tokens")));
        }
        endings.extend(ids);
    }
    let path = folder.join("tokenizer_config.json");
    let config: TokenizerConfig = json_if_there(&path)?.unwrap_or_default();
    if let Some(token) = config.eos_token {
        let id = vocabulary.id(token.text());
        let missing = || format!("has eos_token {:?}, which the tokenizer does not have", token.text());
        endings.insert(id.ok_or_else(|| problem(&path, missing()))?);
    }
    let of_turn = ENDS_OF_TURN.iter().filter_map(|token| vocabulary.id(token));
    endings.extend(of_turn.filter(|id| vocabulary.is_special(*id)));
    Ok(endings)
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use serde_json::{Value, json};

    use super::{super::fixtures, *};

    fn folder(files: &[(&str, Value)]) -> (tempfile::TempDir, Arc<Vocabulary>) {
        let tokenizer = fixtures::chat();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        for (file, content) in files {
            fs::write(folder.path().join(file), content.to_string()).unwrap();
        }
        let vocabulary = Vocabulary::load(&folder.path().join("tokenizer.json")).unwrap();
        (folder, vocabulary)
    }

    #[test]
    fn all_files_count() {
        let (folder, vocabulary) = folder(&[
            ("generation_config.json", json!({"eos_token_id": [5, 6]})),
            ("config.json", json!({"eos_token_id": 7})),
            ("tokenizer_config.json", json!({"eos_token": {"content": "</s>"}})),
        ]);
        let turn = vocabulary.id("<|im_end|>").unwrap();
        let endings = read(folder.path(), &vocabulary).unwrap();
        assert_eq!(endings, BTreeSet::from([2, 5, 6, 7, turn]));
    }

    #[test]
    fn files_may_be_missing_or_say_nothing() {
        let nothing = json!({"eos_token_id": null, "eos_token": null});
        let (folder, vocabulary) =
            folder(&[("config.json", nothing.clone()), ("tokenizer_config.json", nothing)]);
        let turn = vocabulary.id("<|im_end|>").unwrap();
        assert_eq!(read(folder.path(), &vocabulary).unwrap(), BTreeSet::from([turn]));
    }

    #[test]
    fn a_token_that_there_is_not_is_named() {
        for (file, content, wanted) in [
            ("config.json", json!({"eos_token_id": 99_999}), "eos_token_id 99999"),
            ("generation_config.json", json!({"eos_token_id": "x"}), "generation_config.json"),
            ("tokenizer_config.json", json!({"eos_token": "<eos>"}), "eos_token \"<eos>\""),
        ] {
            let (folder, vocabulary) = folder(&[(file, content)]);
            let error = read(folder.path(), &vocabulary).unwrap_err().to_string();
            assert!(error.contains(file) && error.contains(wanted), "{error}");
        }
    }
}
