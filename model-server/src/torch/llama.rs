//! Decoders of the Llama and Qwen families, from safetensors.
//!
//! Every step computes all of its tokens side by side, without padding: norms, projections and the layers
//! between know nothing of rows. Only attention does ([`attention`]): it reads keys and values where they lie, in a
//! cache with a place for every position of every slot ([`cache`]).
//!
//! # Source
//! Touvron et al. 2023 (Llama) and the Qwen2 and Qwen3 reports, with names and details as transformers has
//! them; grouped queries by Ainslie et al. 2023, rotations by Su et al. 2021.

mod attention;
mod cache;
mod config;
mod layer;
mod rotation;
mod weights;

use std::{collections::BTreeSet, path::Path};

use tch::{Kind, Tensor};

use self::{
    attention::Plan,
    cache::Cache,
    config::Config,
    layer::{Layer, norm},
    rotation::Rotation,
    weights::Weights,
};
use super::{
    device::{Place, failed},
    script::floats,
};
use crate::{
    backend::BackendError,
    error::Error,
    generate::{Decoder, Feed, Shape},
    placement::DecoderOptions,
    repository::problem,
};

/// A loaded model, with the keys and values of its slots.
pub(super) struct Llama {
    place: Place,
    shape: Shape,
    config: Config,
    /// `[vocabulary, hidden]`.
    words: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    /// `[vocabulary, hidden]`; may be `words`.
    head: Tensor,
    rotation: Rotation,
    cache: Cache,
}

impl Llama {
    /// Loads the model in `folder`: `config.json` and its safetensors.
    ///
    /// # Errors
    /// Names the file, the key or tensor, and what is allowed.
    pub(super) fn load(folder: &Path, options: &DecoderOptions) -> Result<Self, Error> {
        let config_path = folder.join("config.json");
        let config = Config::read(&config_path)?;
        let unusable = |what| problem(&config_path, what);
        let place = Place::try_new(options.placement, options.threads).map_err(unusable)?;
        let kind = place.kind(options.precision);
        let shape = Shape {
            slots: options.slots,
            context: options.context.min(config.positions),
            vocabulary: config.vocabulary,
            bytes_per_token: 2
                * config.layers
                * config.kv_heads
                * config.head_size
                * kind.elt_size_in_bytes(),
            batches: true,
        };
        let _computing = place.enter();
        let mut weights = Weights::open(folder, kind, place.device)?;
        let (hidden, table) = (config.hidden, [config.vocabulary, config.hidden]);
        let words = weights.take("model.embed_tokens.weight", &table)?;
        let layers: Result<Vec<Layer>, Error> =
            (0..config.layers).map(|number| Layer::load(&mut weights, number, &config)).collect();
        let layers = layers?;
        let norm = weights.take("model.norm.weight", &[hidden])?;
        let head = match config.tied {
            true => words.shallow_clone(),
            false => weights.take("lm_head.weight", &table)?,
        };
        weights.finish(config.tied)?;
        let built = Rotation::new(&config, shape.context, place.device, kind)
            .and_then(|rotation| Ok((rotation, Cache::new(&config, &shape, kind, place.device)?)));
        let (rotation, cache) = built.map_err(|error| {
            let (slots, context) = (shape.slots, shape.context);
            let bytes = slots * context * shape.bytes_per_token;
            let what =
                format!("cannot have {slots} slots for {context} tokens, {bytes} bytes: {}", failed(error));
            unusable(what)
        })?;
        Ok(Self { place, shape, config, words, layers, norm, head, rotation, cache })
    }

    fn forward(&mut self, rows: &[Feed<'_>]) -> tch::Result<Tensor> {
        let device = self.place.device;
        let plan = Plan::new(rows, &self.config, device)?;
        let turn = self.rotation.at(&plan.positions)?;
        let mut states = Tensor::f_embedding(&self.words, &plan.ids, -1, false, false)?;
        for (number, layer) in self.layers.iter().enumerate() {
            states = layer.forward(&states, &turn, &plan, self.cache.layer(number), &self.config)?;
        }
        let last = states.f_index_select(0, &plan.last)?;
        norm(&last, &self.norm, self.config.epsilon)?.f_linear(&self.head, None::<&Tensor>)
    }
}

impl Decoder for Llama {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn step(&mut self, rows: &[Feed<'_>]) -> Result<Vec<f32>, BackendError> {
        check(&self.shape, rows)?;
        let _computing = self.place.enter();
        let logits = self.forward(rows).map_err(failed)?;
        let (_, values) = floats(&logits)?;
        if values.iter().all(|value| value.is_finite()) {
            return Ok(values);
        }
        // Attention passes over what it does not see by multiplying it with 0, which only numbers stand.
        rows.iter().try_for_each(|row| self.cache.wipe(row.slot)).map_err(failed)?;
        Err(BackendError::Failed("the model gives numbers that are not finite".into()))
    }

    fn clear(&mut self, _slot: usize) {
        // The places stay for the next sequence.
    }
}

/// Sees that a step can be made.
///
/// # Errors
/// Says which row cannot.
pub(super) fn check(shape: &Shape, rows: &[Feed<'_>]) -> Result<(), BackendError> {
    let mut slots = BTreeSet::new();
    let wrong =
        |row: &Feed<'_>, what: String| Err(BackendError::Failed(format!("slot {}: {what}", row.slot)));
    for row in rows {
        let end = row.past.saturating_add(row.tokens.len());
        if row.slot >= shape.slots || !slots.insert(row.slot) {
            return wrong(row, format!("there are {}, each for one row", shape.slots));
        }
        if row.tokens.is_empty() || end > shape.context {
            return wrong(
                row,
                format!("{} tokens after {}; 1 to {} fit", row.tokens.len(), row.past, shape.context),
            );
        }
        if let Some(id) = row.tokens.iter().find(|&&id| id as usize >= shape.vocabulary) {
            return wrong(row, format!("the token {id}; there are {}", shape.vocabulary));
        }
    }
    match rows {
        [] => Err(BackendError::Failed("a step without rows".into())),
        _ => Ok(()),
    }
}

/// What a linear layer needs: its matrix `[out, in]`, and what is added.
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    fn forward(&self, states: &Tensor) -> tch::Result<Tensor> {
        states.f_linear(&self.weight, self.bias.as_ref())
    }
}

/// Whole numbers as a tensor.
fn integers(values: &[i64], device: tch::Device) -> tch::Result<Tensor> {
    debug_assert_eq!(Kind::Int64.elt_size_in_bytes(), size_of::<i64>());
    Tensor::f_from_slice(values)?.f_to_device(device)
}
