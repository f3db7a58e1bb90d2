//! Language models in ONNX, in the two layouts that they come in.
//!
//! Both take the tokens, a mask, and keys and values of each layer, and give logits with keys and values that
//! have grown. In optimum's layout these are tensors of the length that a sequence has, so rows of different
//! lengths cannot share a step ([`optimum`]). In onnxruntime-genai's, its operator GroupQueryAttention writes
//! into tensors of the full length, where each row's mask says how much of them counts ([`shared`]).

mod optimum;
mod shared;

use std::path::Path;

use ort::{session::Session, value::TensorElementType};

use super::{Runtime, element, session};
use crate::{
    error::Error,
    generate::{Decoder, Shape},
    placement::DecoderOptions,
    repository::{Language, problem},
};

/// The tensors of a graph, by what they are for.
struct Tensors {
    /// Whether positions are wanted; otherwise the graph counts them.
    positions: bool,
    /// Whether the graph asks if there is a past, as merged exports do.
    branch: bool,
    /// Names of keys and values, as `past_key_values.0.key`, with the names that they come out under.
    past: Vec<(String, String)>,
    /// What keys and values are made of.
    float: TensorElementType,
}

/// Loads the graph of a language model, which writes keys and values where they are if `in_place`.
///
/// # Errors
/// Names the file and what is wrong with it.
pub(crate) fn load(
    runtime: &Runtime,
    graph: &Path,
    language: &Language,
    options: &DecoderOptions,
    in_place: bool,
) -> Result<Box<dyn Decoder>, Error> {
    let DecoderOptions { placement, threads, slots, context, .. } = *options;
    let session = session(runtime, graph, placement, threads)?;
    let tensors = Tensors::find(&session, language).map_err(|what| problem(graph, what))?;
    let size = if tensors.float == TensorElementType::Float16 { 2 } else { 4 };
    let bytes_per_token = language.layers * 2 * language.heads * language.head_size * size;
    let shape = Shape { slots, context, vocabulary: language.vocabulary, bytes_per_token, batches: in_place };
    let too_much =
        |error| problem(graph, format!("has keys and values for which there is no memory: {error}"));
    Ok(match (in_place, tensors.float) {
        (true, TensorElementType::Float16) => {
            Box::new(shared::Shared::<half::f16>::new(session, tensors, shape, language).map_err(too_much)?)
        }
        (true, _) => {
            Box::new(shared::Shared::<f32>::new(session, tensors, shape, language).map_err(too_much)?)
        }
        (false, _) => Box::new(optimum::Optimum::new(session, tensors, shape, language)),
    })
}

impl Tensors {
    fn find(session: &Session, language: &Language) -> Result<Self, String> {
        let mut found =
            Self { positions: false, branch: false, past: Vec::new(), float: TensorElementType::Float32 };
        let (mut ids, mut mask) = (false, false);
        let mut layers = std::collections::BTreeMap::new();
        for input in session.inputs() {
            let (name, kind) = (input.name(), element(input.dtype()));
            match (name, kind) {
                ("input_ids", Some(TensorElementType::Int64)) => ids = true,
                ("attention_mask", Some(TensorElementType::Int64)) => mask = true,
                ("position_ids", Some(TensorElementType::Int64)) => found.positions = true,
                ("use_cache_branch", Some(TensorElementType::Bool)) => found.branch = true,
                ("input_ids" | "attention_mask" | "position_ids", _) => {
                    return Err(format!("wants {name} as {}; int64 is supported", input.dtype()));
                }
                _ => {
                    let of = layer(name).ok_or_else(|| {
                        format!(
                            "wants an input {name:?}; supported: input_ids, attention_mask, position_ids, \
                             use_cache_branch, past_key_values.N.key and past_key_values.N.value"
                        )
                    })?;
                    match kind {
                        Some(float @ (TensorElementType::Float32 | TensorElementType::Float16)) => {
                            if !layers.is_empty() && float != found.float {
                                return Err(format!("wants {name} of another type than the others"));
                            }
                            found.float = float;
                        }
                        _ => {
                            let is = input.dtype();
                            return Err(format!(
                                "wants {name} as {is}; floats of 16 or 32 bits are supported"
                            ));
                        }
                    }
                    layers.insert(of, name.to_owned());
                }
            }
        }
        for (there, name) in [(ids, "input_ids"), (mask, "attention_mask")] {
            if !there {
                return Err(format!("has no input {name}"));
            }
        }
        let gives = |name: &str| session.outputs().iter().any(|output| output.name() == name);
        if !gives("logits") {
            return Err("has no output logits".into());
        }
        for layer in 0..language.layers {
            for part in ["key", "value"] {
                let name = layers.remove(&(layer, part)).ok_or_else(|| {
                    format!("has no input past_key_values.{layer}.{part}, of {} layers", language.layers)
                })?;
                let out = format!("present.{layer}.{part}");
                if !gives(&out) {
                    return Err(format!("has no output {out}"));
                }
                found.past.push((name, out));
            }
        }
        match layers.into_values().next() {
            Some(name) => Err(format!("wants {name:?}, but config.json tells of {} layers", language.layers)),
            None => Ok(found),
        }
    }
}

/// The layer, and whether keys or values, of `past_key_values.3.key`.
fn layer(name: &str) -> Option<(usize, &'static str)> {
    let (layer, part) = name.strip_prefix("past_key_values.")?.split_once('.')?;
    let part = ["key", "value"].into_iter().find(|known| *known == part)?;
    Some((layer.parse().ok()?, part))
}

#[cfg(test)]
mod tests;
