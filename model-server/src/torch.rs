//! The Torch backend: TorchScript files, and decoders from safetensors of the Llama and Qwen families. No `tch`
//! type leaves it. It is there where the program is built with the feature `torch`.
//!
//! A TorchScript file is a program: what it computes is bounded neither in time nor in memory, it may read and
//! write files, and code that is nested without end ends the process. It is looked into before it is loaded
//! ([`archive`]), so that a broken one is found out; load none that you would not run.
//!
//! Torch computes on OpenMP, whose threads spin while they wait, unless `OMP_WAIT_POLICY=passive` is in the
//! environment when the process starts.

mod archive;
mod device;
mod llama;
mod script;
mod script_decoder;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::{
    backend::Backend,
    error::Error,
    generate::Decoder,
    placement::{DecoderOptions, Placement},
    repository::Description,
};

pub(crate) use self::archive::inspect;

/// Loads the TorchScript file of a model that runs batches; `threads` compute one.
///
/// # Errors
/// Names the file and what is wrong with it.
pub(crate) fn load(
    description: &Description,
    placement: Placement,
    threads: usize,
) -> Result<Box<dyn Backend>, Error> {
    Ok(Box::new(script::ScriptModel::load(description, placement, threads)?))
}

/// Loads the decoder in a model's folder: its TorchScript file where that is named, else its safetensors.
///
/// # Errors
/// Names the file and what is wrong with it.
pub(crate) fn decoder(
    folder: &Path,
    script: Option<&Path>,
    options: &DecoderOptions,
) -> Result<Box<dyn Decoder>, Error> {
    match script {
        Some(file) => Ok(Box::new(script_decoder::ScriptDecoder::load(folder, file, options)?)),
        None => Ok(Box::new(llama::Llama::load(folder, options)?)),
    }
}
