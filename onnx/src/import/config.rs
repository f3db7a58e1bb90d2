//! What `config.json` says of the model.

use std::{fmt, fs, path::Path};

use serde_json::Value;

use super::error::ImportError;
use crate::short::short;

/// Bytes of settings; a config with very many labels has some 100 kB.
const LARGEST: u64 = 16 << 20;

/// Families whose encoders differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Positions count from 0.
    Bert,
    /// Positions count from one past the padding token's id; also XLM-RoBERTa and CamemBERT.
    Roberta,
    /// Tensors have other names, and there are no token types.
    DistilBert,
}

/// What stands on an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Head {
    /// Nothing: it gives hidden states.
    None,
    /// Labels for a whole text; a cross-encoder has one.
    Sequence,
    /// Labels for each token.
    Token,
    /// A smaller vector for each token, for late interaction.
    TokenVectors,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "encoder",
            Self::Sequence => "sequence classification",
            Self::Token => "token classification",
            Self::TokenVectors => "late interaction",
        })
    }
}

/// Activations between the linear layers of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    /// `x * P(X <= x)`, by the error function.
    Gelu,
    /// The same, by a hyperbolic tangent that is near to it.
    GeluTanh,
    Relu,
}

/// The part of `config.json` that the graph depends on.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) model_type: String,
    pub(super) family: Family,
    pub(super) head: Head,
    /// How many labels are named; the head's weights say how many there are.
    pub(super) labels: Option<usize>,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) layers: usize,
    pub(super) intermediate: usize,
    pub(super) epsilon: f32,
    pub(super) activation: Activation,
    pub(super) vocabulary: usize,
    pub(super) positions: usize,
    /// The token that fills up rows; only RoBERTa's positions depend on it.
    pub(super) padding: i64,
}

impl Config {
    /// Reads and checks the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, ImportError> {
        let config = settings(path)?;
        Self::parse(&config).map_err(|problem| ImportError::Settings { path: path.to_owned(), problem })
    }

    fn parse(config: &Value) -> Result<Self, String> {
        let model_type = config["model_type"].as_str().unwrap_or_default();
        let family = match model_type {
            "bert" => Family::Bert,
            "roberta" | "xlm-roberta" | "camembert" => Family::Roberta,
            "distilbert" => Family::DistilBert,
            _ => {
                let supported = "bert, roberta, xlm-roberta, camembert and distilbert are";
                return Err(format!(
                    "model_type = {} is not supported: {supported}",
                    short(&config["model_type"].to_string())
                ));
            }
        };
        let own_names = family == Family::DistilBert;
        let key = |bert, distilbert| if own_names { distilbert } else { bert };
        let positions = &config["position_embedding_type"];
        if !positions.is_null() && positions != "absolute" {
            let problem = "is not supported: \"absolute\" is";
            return Err(format!("position_embedding_type = {} {problem}", short(&positions.to_string())));
        }
        for key in ["is_decoder", "add_cross_attention", "is_encoder_decoder"] {
            if config[key] == true {
                return Err(format!("{key} = true is not supported: only encoders are"));
            }
        }
        let hidden = count(config, key("hidden_size", "dim"))?;
        let heads = count(config, key("num_attention_heads", "n_heads"))?;
        if !hidden.is_multiple_of(heads) {
            return Err(format!("hidden_size = {hidden} is not a multiple of num_attention_heads = {heads}"));
        }
        Ok(Self {
            model_type: model_type.to_owned(),
            family,
            head: head(config)?,
            labels: config["id2label"].as_object().map(serde_json::Map::len),
            hidden,
            heads,
            layers: count(config, key("num_hidden_layers", "n_layers"))?,
            intermediate: count(config, key("intermediate_size", "hidden_dim"))?,
            // DistilBERT has no such setting: transformers writes it into the code.
            epsilon: if own_names { 1e-12 } else { epsilon(config)? },
            activation: activation(config, key("hidden_act", "activation"))?,
            vocabulary: count(config, "vocab_size")?,
            positions: count(config, "max_position_embeddings")?,
            padding: padding(config)?,
        })
    }
}

/// Reads the JSON file at `path`.
pub(crate) fn settings(path: &Path) -> Result<Value, ImportError> {
    let unreadable = |source| ImportError::Unreadable { path: path.to_owned(), source };
    let problem = |problem| ImportError::Settings { path: path.to_owned(), problem };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > LARGEST {
        return Err(problem(format!("it has {size} bytes, more than the {LARGEST} that settings may have")));
    }
    let text = fs::read(path).map_err(unreadable)?;
    serde_json::from_slice(&text).map_err(|error| problem(format!("it is not JSON: {error}")))
}

fn count(config: &Value, key: &str) -> Result<usize, String> {
    let value = config[key].as_u64().filter(|n| (1..1 << 24).contains(n));
    value
        .map(|n| n as usize)
        .ok_or_else(|| format!("{key} = {} is not a count", short(&config[key].to_string())))
}

fn epsilon(config: &Value) -> Result<f32, String> {
    let value = config["layer_norm_eps"].as_f64().filter(|value| (0.0..1.0).contains(value));
    value.map(|value| value as f32).ok_or_else(|| {
        format!(
            "layer_norm_eps = {} is not a number from 0 to 1",
            short(&config["layer_norm_eps"].to_string())
        )
    })
}

fn padding(config: &Value) -> Result<i64, String> {
    match &config["pad_token_id"] {
        // What transformers takes for RoBERTa.
        Value::Null => Ok(1),
        value => value
            .as_i64()
            .filter(|id| (0..1 << 24).contains(id))
            .ok_or_else(|| format!("pad_token_id = {} is not the id of a token", short(&value.to_string()))),
    }
}

fn activation(config: &Value, key: &str) -> Result<Activation, String> {
    match config[key].as_str().unwrap_or_default() {
        "gelu" | "gelu_python" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        _ => {
            let supported = "gelu, gelu_python, gelu_new, gelu_fast, gelu_pytorch_tanh and relu are";
            Err(format!("{key} = {} is not supported: {supported}", short(&config[key].to_string())))
        }
    }
}

fn head(config: &Value) -> Result<Head, String> {
    let architecture = &config["architectures"][0];
    let Some(name) = architecture.as_str() else {
        return Ok(Head::None);
    };
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    if name == "HF_ColBERT" {
        Ok(Head::TokenVectors)
    } else if ends(&["ForSequenceClassification"]) {
        Ok(Head::Sequence)
    } else if ends(&["ForTokenClassification"]) {
        Ok(Head::Token)
    } else if ends(&["Model", "ForMaskedLM", "ForPreTraining"]) {
        Ok(Head::None)
    } else {
        let supported =
            "encoders, ...ForSequenceClassification, ...ForTokenClassification and HF_ColBERT are";
        Err(format!("architectures = {} is not supported: {supported}", short(&architecture.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bert() -> Value {
        json!({
            "model_type": "bert", "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
            "intermediate_size": 24, "layer_norm_eps": 1e-12, "hidden_act": "gelu", "vocab_size": 10,
            "max_position_embeddings": 8,
        })
    }

    #[test]
    fn a_plain_bert_is_an_encoder() {
        let config = Config::parse(&bert()).unwrap();
        assert_eq!((config.family, config.head, config.padding), (Family::Bert, Head::None, 1));
    }

    #[test]
    fn what_is_not_supported_is_named_with_what_is() {
        for (key, value, expected) in [
            ("model_type", json!("t5"), "model_type = \"t5\" is not supported: bert"),
            ("hidden_act", json!("silu"), "hidden_act = \"silu\" is not supported: gelu"),
            ("position_embedding_type", json!("relative_key"), "\"absolute\" is"),
            ("architectures", json!(["BertForQuestionAnswering"]), "HF_ColBERT are"),
            ("is_decoder", json!(true), "is_decoder"),
            ("num_attention_heads", json!(3), "not a multiple"),
            ("num_hidden_layers", json!(-1), "num_hidden_layers = -1 is not a count"),
            ("hidden_size", json!(1_u64 << 40), "hidden_size"),
            ("layer_norm_eps", json!(null), "layer_norm_eps = null"),
            ("pad_token_id", json!(-1), "pad_token_id = -1"),
            ("vocab_size", json!("x".repeat(1000)), "xxx..."),
        ] {
            let mut config = bert();
            config[key] = value;
            let error = Config::parse(&config).unwrap_err();
            assert!(error.contains(expected) && error.len() < 200, "{key}: {error}");
        }
    }

    #[test]
    fn heads_are_found_by_the_architecture() {
        for (name, head) in [
            ("XLMRobertaForSequenceClassification", Head::Sequence),
            ("BertForTokenClassification", Head::Token),
            ("HF_ColBERT", Head::TokenVectors),
            ("BertForMaskedLM", Head::None),
            ("BertModel", Head::None),
        ] {
            let mut config = bert();
            config["architectures"] = json!([name]);
            assert_eq!(Config::parse(&config).unwrap().head, head);
        }
    }
}
