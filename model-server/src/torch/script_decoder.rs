//! A causal language model as TorchScript.
//!
//! `forward(input_ids, attention_mask, position_ids, past) -> (logits, present)`: ids and positions are int64
//! `[1, S]`, the mask int64 `[1, past + S]`, `past` is float32 `[layers, 2, 1, kv_heads, past, head_dim]`
//! with keys before values; logits are `[1, S, vocabulary]`, and `present` is `past` with the new tokens'
//! behind it. Rows of a step run one after the other, so that none has to be padded.

use std::path::Path;

use serde::Deserialize;
use tch::{CModule, IValue, Kind, Tensor};

use super::{
    archive,
    device::{Place, failed},
    script,
};
use crate::{
    backend::BackendError,
    error::Error,
    generate::{Decoder, Feed, Shape},
    placement::DecoderOptions,
    repository::{json, problem},
};

/// What `forward` takes.
const INPUTS: [&str; 4] = ["input_ids", "attention_mask", "position_ids", "past"];
/// Bytes of a component of keys and values.
const COMPONENT: usize = size_of::<f32>();

/// The part of `config.json` that says how large keys and values are.
#[derive(Debug, Deserialize)]
struct Measures {
    num_hidden_layers: usize,
    num_attention_heads: usize,
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    hidden_size: usize,
    #[serde(default)]
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    vocab_size: usize,
}

/// A loaded decoder, with what its slots hold.
pub(super) struct ScriptDecoder {
    module: CModule,
    place: Place,
    shape: Shape,
    /// Keys and values of no tokens: `[layers, 2, 1, kv_heads, 0, head_dim]`.
    nothing: Tensor,
    slots: Vec<Option<Tensor>>,
}

impl ScriptDecoder {
    /// Loads `file`, which the `config.json` in `folder` describes.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(super) fn load(folder: &Path, file: &Path, options: &DecoderOptions) -> Result<Self, Error> {
        let config_path = folder.join("config.json");
        let config: Measures = json(&config_path)?;
        let heads = config.num_key_value_heads.unwrap_or(config.num_attention_heads);
        let size = config.head_dim.or(config.hidden_size.checked_div(config.num_attention_heads));
        let measures = [config.num_hidden_layers, heads, size.unwrap_or(0)];
        let small = |measure: &usize| (1..=1 << 16).contains(measure);
        if !(measures.iter().all(small) && (1..=1 << 24).contains(&config.vocab_size)) {
            let what = format!(
                "has layers, key-value heads and their size {measures:?}, and vocab_size {}; \
                                65536 and 16777216 are the most",
                config.vocab_size
            );
            return Err(problem(&config_path, what));
        }
        let contents = archive::read(file)?;
        let takes: Vec<&str> = contents.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        if takes != INPUTS {
            let (takes, wanted) = (takes.join(", "), INPUTS.join(", "));
            return Err(problem(file, format!("has a forward that takes {takes}; wanted {wanted}")));
        }
        let place = Place::try_new(options.placement, options.threads).map_err(|what| problem(file, what))?;
        let module = script::load(file, place, options.placement)?;
        let [layers, heads, size] = measures.map(|measure| measure as i64);
        let nothing = Tensor::f_zeros([layers, 2, 1, heads, 0, size], (Kind::Float, place.device))
            .map_err(|error| problem(file, format!("cannot be run: {}", failed(error))))?;
        let shape = Shape {
            slots: options.slots,
            context: options.context.min(config.max_position_embeddings),
            vocabulary: config.vocab_size,
            bytes_per_token: 2 * measures.iter().product::<usize>() * COMPONENT,
            batches: false,
        };
        Ok(Self { module, place, shape, nothing, slots: (0..shape.slots).map(|_| None).collect() })
    }

    /// The logits after a row's last token; its slot then holds it.
    fn feed(&mut self, row: &Feed<'_>) -> Result<Vec<f32>, BackendError> {
        let run = |past: &Tensor| -> tch::Result<IValue> {
            let (from, count) = (row.past as i64, row.tokens.len() as i64);
            let ids: Vec<i64> = row.tokens.iter().map(|&id| i64::from(id)).collect();
            let on = (Kind::Int64, self.place.device);
            let ids = Tensor::f_from_slice(&ids)?.f_to_device(self.place.device)?;
            let mask = Tensor::f_ones([1, from + count], on)?;
            let places = Tensor::f_arange_start(from, from + count, on)?.f_unsqueeze(0)?;
            // What the slot holds beyond `past` is forgotten.
            let past = past.f_narrow(4, 0, from)?;
            self.module.forward_is(&[ids.f_unsqueeze(0)?, mask, places, past].map(IValue::Tensor))
        };
        let held = self.slots[row.slot].as_ref().unwrap_or(&self.nothing);
        let holds = held.size()[4];
        if holds < row.past as i64 {
            return Err(BackendError::Failed(format!(
                "slot {} holds {holds} tokens, not {}",
                row.slot, row.past
            )));
        }
        let given = run(held).map_err(failed)?;
        let IValue::Tuple(parts) = given else {
            return Err(BackendError::Failed("gives no tuple of logits and present".into()));
        };
        let Ok::<[IValue; 2], _>([IValue::Tensor(logits), IValue::Tensor(present)]) = parts.try_into() else {
            return Err(BackendError::Failed("gives no tuple of logits and present".into()));
        };
        let mut wanted = self.nothing.size();
        wanted[4] = (row.past + row.tokens.len()) as i64;
        let kind = present.f_kind().map_err(failed)?;
        if present.size() != wanted || kind != Kind::Float {
            let is = present.size();
            return Err(BackendError::Failed(format!(
                "gives present as {kind:?} {is:?}; wanted Float {wanted:?}"
            )));
        }
        let wanted = [1, row.tokens.len() as i64, self.shape.vocabulary as i64];
        if logits.size() != wanted {
            return Err(BackendError::Failed(format!("gives logits {:?}; wanted {wanted:?}", logits.size())));
        }
        let last = logits.f_narrow(1, row.tokens.len() as i64 - 1, 1).map_err(failed)?;
        let (_, values) = script::floats(&last)?;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(BackendError::Failed("the model gives numbers that are not finite".into()));
        }
        self.slots[row.slot] = Some(present);
        Ok(values)
    }
}

impl Decoder for ScriptDecoder {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn step(&mut self, rows: &[Feed<'_>]) -> Result<Vec<f32>, BackendError> {
        super::llama::check(&self.shape, rows)?;
        let _computing = self.place.enter();
        let mut logits = Vec::with_capacity(rows.len() * self.shape.vocabulary);
        for row in rows {
            // What a failed step has fed before is beyond `past` when it is made again.
            logits.extend(self.feed(row)?);
        }
        Ok(logits)
    }

    fn clear(&mut self, slot: usize) {
        if let Some(held) = self.slots.get_mut(slot) {
            *held = None;
        }
    }
}
