//! Continuing texts: a prompt token by token, together with whatever else is being continued.
//!
//! [`Queue`] is the way in, [`Batcher`] makes the steps, and a [`Decoder`] computes them. What belongs to one
//! text alone is pieces by themselves, which need no model: the prompt that a chat template makes ([`template`],
//! [`prompt`]), the choice of a token ([`sampler`]) among those that a grammar allows ([`grammar`]), the text that
//! tokens stand for ([`text`]), and where it ends ([`stops`], [`endings`]); a [`Writer`] puts them together.

mod batcher;
mod decoder;
mod endings;
#[cfg(test)]
mod fixtures;
mod grammar;
mod pace;
mod prompt;
mod queue;
mod sampler;
mod sequence;
mod stops;
mod template;
mod text;
mod writer;

pub(crate) use self::{
    batcher::Batcher,
    decoder::{Decoder, Feed, Shape},
    endings::read as endings,
    grammar::{Grammars, Rule},
    pace::Pace,
    queue::Queue,
    sampler::Sampling,
    sequence::{Chunk, Chunks, Ending},
    stops::Stops,
    template::{Chat, ChatTemplates},
    text::Vocabulary,
    writer::Style,
};
