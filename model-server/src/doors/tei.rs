//! `tei.v1`: the contract of text-embeddings-inference.
//!
//! Theirs is a server of one model. Here the metadata key [`MODEL`] names one; without it the first model of
//! the task serves. A message has one text, so streams are what makes batches: many of a stream's messages
//! are in work at a time.

mod embed;
mod info;
mod predict;
mod rerank;
#[cfg(test)]
mod tests;
mod tokenize;

use std::{sync::Arc, time::Duration};

use switchboard_mesh::{Call, error};
use switchboard_proto::tei::v1::{Metadata, TruncationDirection};
use tokio::time::Instant;
use tonic::{Request, Status};

use super::call_of;
use crate::{
    error::Error,
    model::{Model, Timing},
    registry::Registry,
    tokenize::Truncation,
};

/// The metadata key that names a model.
const MODEL: &str = "x-switchboard-model";

/// Messages of a stream that are in work at a time: enough for batches, and no more than a small part of
/// a model's queue.
const SIDE_BY_SIDE: usize = 128;

/// The services over the models of this node.
#[derive(Clone)]
pub(super) struct Door {
    registry: Arc<Registry>,
}

/// What all messages of a call share.
#[derive(Clone)]
struct Asked {
    call: Call,
    /// The model's name; empty takes the first one of the task.
    model: String,
}

impl Asked {
    fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let model = match request.metadata().get(MODEL) {
            None => String::new(),
            Some(name) => {
                name.to_str().map_err(|_| error::status(Error::invalid(MODEL, "not ASCII")))?.to_owned()
            }
        };
        Ok(Self { call: call_of(request)?, model })
    }

    /// The same, for one message of a stream.
    fn for_message(&self) -> Self {
        Self { call: self.call.for_message(), model: self.model.clone() }
    }
}

impl Door {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// The named model; without a name the first that embeds, and without one the first of all.
    fn any(&self, name: &str) -> Result<Arc<Model>, Error> {
        if !name.is_empty() {
            let model = self.registry.find(name)?;
            return model.reads_texts().map(|()| model);
        }
        let mut models = self.registry.list();
        models.retain(|model| model.reads_texts().is_ok());
        let embeds = models.iter().find(|model| model.card.task.name() == "embed");
        embeds.or(models.first()).cloned().ok_or(Error::NoModel)
    }
}

fn truncation(truncate: bool, direction: TruncationDirection) -> Truncation {
    match (truncate, direction) {
        (false, _) => Truncation::Refuse,
        (true, TruncationDirection::Right) => Truncation::End,
        (true, TruncationDirection::Left) => Truncation::Start,
    }
}

/// An error of the model in this contract's names.
fn named(error: Error) -> Status {
    let renamed = match error {
        Error::Invalid { field, problem } if field == "prompt" => Error::invalid("prompt_name", problem),
        Error::Invalid { field, problem } if field.starts_with("texts") => Error::invalid("inputs", problem),
        Error::TooLong { tokens, most, .. } => too_long("inputs", tokens, most),
        other => other,
    };
    error::status(renamed)
}

/// That a text is longer than the model reads, with what this contract has against it.
fn too_long(field: &str, tokens: usize, most: usize) -> Error {
    Error::invalid(field, format!("{tokens} tokens; the model reads {most}; set truncate to have it cut"))
}

/// What a request took that began at `began`.
fn metadata(timing: &Timing, began: Instant) -> Metadata {
    Metadata {
        compute_chars: u32::try_from(timing.characters).unwrap_or(u32::MAX),
        compute_tokens: u32::try_from(timing.tokens).unwrap_or(u32::MAX),
        total_time_ns: nanos(began.elapsed()),
        tokenization_time_ns: nanos(timing.tokenization),
        queue_time_ns: nanos(timing.queue),
        inference_time_ns: nanos(timing.inference),
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
