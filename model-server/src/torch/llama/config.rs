//! `config.json` of a decoder: what is supported, and what is refused.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    error::Error,
    repository::{json, problem},
};

/// Families whose decoders are these layers.
const FAMILIES: [&str; 3] = ["llama", "qwen2", "qwen3"];
/// What transformers takes where a config says nothing.
const THETA: f64 = 10_000.0;

#[derive(Debug, Deserialize)]
struct Raw {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    #[serde(default)]
    rope_theta: Option<f64>,
    #[serde(default)]
    rope_scaling: Option<Value>,
    /// What transformers 5 has in the place of both.
    #[serde(default)]
    rope_parameters: Option<Value>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    hidden_act: Option<String>,
    #[serde(default)]
    use_sliding_window: bool,
}

/// The measures of a decoder. All are small enough that their products are no trouble.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    pub(super) hidden: usize,
    /// Width of the layers between attention and attention.
    pub(super) inner: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    /// Heads of keys and values; as many queries share each.
    pub(super) kv_heads: usize,
    /// Components of a head, an even number.
    pub(super) head_size: usize,
    pub(super) vocabulary: usize,
    pub(super) positions: usize,
    /// What is added to a mean square.
    pub(super) epsilon: f64,
    pub(super) theta: f64,
    pub(super) scaling: Scaling,
    /// Whether the output's matrix is that of the words.
    pub(super) tied: bool,
    /// Whether queries, keys and values have a bias.
    pub(super) input_bias: bool,
    /// Whether attention's output has one.
    pub(super) output_bias: bool,
    /// Whether queries and keys are normalised in each head.
    pub(super) head_norms: bool,
}

/// How rotations are slowed down for more positions than the model was first trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scaling {
    None,
    /// All of them by a factor.
    Linear {
        factor: f64,
    },
    /// The slow ones by a factor, and those between in part.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        /// Positions that it was first trained on.
        positions: f64,
    },
}

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// Names the file, the key, and what is allowed.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let raw: Raw = json(path)?;
        check(raw).map_err(|what| problem(path, what))
    }

    /// Queries that share a head of keys and values.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

fn check(raw: Raw) -> Result<Config, String> {
    let family = raw.model_type.as_str();
    if !FAMILIES.contains(&family) {
        let known = FAMILIES.join(", ");
        return Err(format!("has model_type {family:?}; of decoders as safetensors, {known} are supported"));
    }
    if let Some(other) = raw.hidden_act.filter(|act| act != "silu") {
        return Err(format!("has hidden_act {other:?}; silu is supported"));
    }
    for (key, set) in [("mlp_bias", raw.mlp_bias), ("use_sliding_window", raw.use_sliding_window)] {
        if set {
            return Err(format!("has {key} = true; only models without are supported"));
        }
    }
    let kv_heads = raw.num_key_value_heads.unwrap_or(raw.num_attention_heads);
    let head_size = raw.head_dim.or(raw.hidden_size.checked_div(raw.num_attention_heads)).unwrap_or(0);
    for (key, value, most) in [
        ("hidden_size", raw.hidden_size, 1 << 16),
        ("intermediate_size", raw.intermediate_size, 1 << 18),
        ("num_hidden_layers", raw.num_hidden_layers, 1 << 10),
        ("num_attention_heads", raw.num_attention_heads, 1 << 10),
        ("num_key_value_heads", kv_heads, raw.num_attention_heads),
        ("head_dim", head_size, 1 << 10),
        ("vocab_size", raw.vocab_size, 1 << 22),
        ("max_position_embeddings", raw.max_position_embeddings, 1 << 24),
    ] {
        if !(1..=most).contains(&value) {
            return Err(format!("has {key} = {value}; 1 to {most} is allowed"));
        }
    }
    if !raw.num_attention_heads.is_multiple_of(kv_heads) || !head_size.is_multiple_of(2) {
        return Err(format!(
            "has num_attention_heads = {}, num_key_value_heads = {kv_heads} and head_dim = {head_size}; the first is \
             a multiple of the second, and the third even",
            raw.num_attention_heads
        ));
    }
    let epsilon = raw.rms_norm_eps;
    if !(epsilon > 0.0 && epsilon < 1.0) {
        return Err(format!("has rms_norm_eps = {epsilon}; a number between 0 and 1 is allowed"));
    }
    let rope = raw.rope_parameters.or(raw.rope_scaling).unwrap_or(Value::Null);
    let theta = rope["rope_theta"].as_f64().or(raw.rope_theta).unwrap_or(THETA);
    if !(theta.is_finite() && theta > 1.0) {
        return Err(format!("has rope_theta = {theta}; a number above 1 is allowed"));
    }
    Ok(Config {
        hidden: raw.hidden_size,
        inner: raw.intermediate_size,
        layers: raw.num_hidden_layers,
        heads: raw.num_attention_heads,
        kv_heads,
        head_size,
        vocabulary: raw.vocab_size,
        positions: raw.max_position_embeddings,
        epsilon,
        theta,
        scaling: scaling(&rope)?,
        tied: raw.tie_word_embeddings,
        input_bias: family == "qwen2" || raw.attention_bias,
        output_bias: family != "qwen2" && raw.attention_bias,
        head_norms: family == "qwen3",
    })
}

fn scaling(rope: &Value) -> Result<Scaling, String> {
    // Older files say `type`.
    let kind = [&rope["rope_type"], &rope["type"]].into_iter().find_map(Value::as_str);
    let number = |key: &str| {
        let found = rope[key].as_f64().filter(|number| number.is_finite() && *number > 0.0);
        found.ok_or_else(|| format!("has a rope scaling without {key}, a number above 0"))
    };
    match kind {
        None | Some("default") => Ok(Scaling::None),
        Some("linear") => Ok(Scaling::Linear { factor: number("factor")? }),
        Some("llama3") => {
            let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
            if low >= high {
                return Err(format!(
                    "has low_freq_factor = {low}; less than high_freq_factor, {high}, is allowed"
                ));
            }
            let positions = number("original_max_position_embeddings")?;
            Ok(Scaling::Llama3 { factor: number("factor")?, low, high, positions })
        }
        Some(other) => {
            let other: String = other.chars().take(60).collect();
            Err(format!("has a rope scaling {other:?}; default, linear and llama3 are supported"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A small Llama's config with other values.
    fn config(changes: &[(&str, Value)]) -> Result<Config, String> {
        let mut raw = json!({
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
        });
        for (key, value) in changes {
            raw[*key] = value.clone();
        }
        check(serde_json::from_value(raw).map_err(|error| error.to_string())?)
    }

    #[test]
    fn what_a_config_leaves_out_is_as_transformers_has_it() {
        let llama = config(&[]).unwrap();
        assert_eq!((llama.head_size, llama.theta, llama.scaling), (16, 10_000.0, Scaling::None));
        assert_eq!((llama.input_bias, llama.output_bias, llama.head_norms), (false, false, false));
        let qwen2 = config(&[("model_type", json!("qwen2"))]).unwrap();
        assert_eq!((qwen2.input_bias, qwen2.output_bias, qwen2.head_norms), (true, false, false));
        let qwen3 = config(&[("model_type", json!("qwen3")), ("head_dim", json!(32))]).unwrap();
        assert_eq!((qwen3.input_bias, qwen3.head_norms, qwen3.head_size), (false, true, 32));
        let newer = json!({"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0});
        let newer = config(&[("rope_parameters", newer)]).unwrap();
        assert_eq!((newer.theta, newer.scaling), (500.0, Scaling::Linear { factor: 4.0 }));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (key, value, what) in [
            ("model_type", json!("gemma2"), "llama, qwen2, qwen3"),
            ("hidden_act", json!("gelu"), "hidden_act"),
            ("mlp_bias", json!(true), "mlp_bias"),
            ("use_sliding_window", json!(true), "use_sliding_window"),
            ("hidden_size", json!(0), "hidden_size = 0"),
            ("num_hidden_layers", json!(100_000), "num_hidden_layers"),
            ("num_key_value_heads", json!(3), "multiple"),
            ("num_key_value_heads", json!(8), "1 to 4"),
            ("head_dim", json!(15), "even"),
            ("rms_norm_eps", json!(0.0), "rms_norm_eps"),
            ("rope_theta", json!(0.0), "rope_theta"),
            (
                "rope_scaling",
                json!({"rope_type": "yarn", "factor": 4.0}),
                "\"yarn\"; default, linear and llama3",
            ),
            ("rope_scaling", json!({"type": "linear"}), "factor"),
            (
                "rope_scaling",
                json!({"rope_type": "llama3", "low_freq_factor": 4.0, "high_freq_factor": 1.0}),
                "less",
            ),
        ] {
            let error = config(&[(key, value)]).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }
}
