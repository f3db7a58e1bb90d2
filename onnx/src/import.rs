//! Turns a safetensors folder of the BERT family into ONNX.
//!
//! [`bert`] makes a model folder, [`graph`] the graph's file alone. The graph is made of ONNX Runtime's
//! fused operators (domain `com.microsoft`), which load without a pass of graph fusion and run as fast
//! as a fused export gets on a CPU. It takes `input_ids` and `attention_mask`, and `token_type_ids`
//! where the model knows more than one type, all `[batch, seq]` of int64, padded on the right. What
//! it gives depends on the head that the config names:
//!
//! | head | output | shape |
//! |---|---|---|
//! | none | `last_hidden_state` | `[batch, seq, hidden]` |
//! | sequence classification | `logits` | `[batch, labels]` |
//! | token classification | `logits` | `[batch, seq, labels]` |
//! | late interaction (`HF_ColBERT`) | `token_embeddings`, not normalised | `[batch, seq, dim]` |
//!
//! Pooling is left to whoever runs it.

mod config;
mod encoder;
mod error;
mod folder;
mod graph;
mod head;
mod linear;
mod quantise;
mod tensors;
mod write;

use std::{fmt, fs, path::Path};

pub(crate) use self::config::settings;
use self::{config::Config, encoder::Encoder, tensors::Tensors};
pub use self::{config::Head, error::ImportError, folder::bert};

/// How the weights of the encoder's linear layers and its word embeddings are kept. Norms, biases, the
/// other embeddings and the head stay 32-bit floats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// 32-bit floats.
    #[default]
    Fp32,
    /// 8-bit integers with a scale for each column, multiplied with inputs that are quantised when they
    /// are known, by one scale for a whole batch. The fastest on a CPU; but what a text is batched with
    /// changes its result.
    ///
    /// The weights use 7 of the bits: on x86-64 CPUs without VNNI, products of full bytes overflow the
    /// 16 bits that two of them are added in. The inputs' rounding outweighs what this costs.
    Int8Dynamic,
    /// 8-bit integers with a scale for each 32 of a row, multiplied with inputs that are rounded
    /// likewise, each row for itself. A row's result does not depend on its batch.
    Weights8,
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "32-bit float weights",
            Self::Int8Dynamic => "8-bit integer weights",
            Self::Weights8 => "8-bit block weights",
        })
    }
}

/// What may be chosen.
#[derive(Clone, Debug)]
pub struct Options {
    /// How weights are kept.
    pub weights: Weights,
    /// Bytes that the graph's file may have. The tensors of a larger one go into a file beside it, named
    /// after it with `_data` at the end. At most 2 GiB, the bound of the format; 1.9 GB by default.
    pub largest_file: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { weights: Weights::default(), largest_file: 1_900_000_000 }
    }
}

/// What was made. Displayed, it is one line for people.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// `model_type` of the config.
    pub family: String,
    /// What stands on the encoder.
    pub head: Head,
    /// How weights are kept.
    pub weights: Weights,
    /// Layers of the encoder.
    pub layers: usize,
    /// Tensors of the graph.
    pub tensors: usize,
    /// Bytes of the graph's file, and of the one with its tensors where there is one.
    pub bytes: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, head, weights, layers, tensors, bytes } = self;
        let megabytes = *bytes as f64 / 1e6;
        write!(f, "{family}, {head}: {layers} layers, {tensors} tensors, {megabytes:.1} MB, {weights}")
    }
}

/// Writes the graph of the model in the folder `source` (`config.json`, and `model.safetensors` or
/// `model.safetensors.index.json` with its shards) to `file`.
///
/// `file` appears whole or not at all, and takes the place of one that is there. All of the graph's
/// tensors are held in memory until it is written.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn graph(source: &Path, file: &Path, options: &Options) -> Result<Report, ImportError> {
    let config = Config::read(&source.join("config.json"))?;
    let tensors = Tensors::open(source, config.family)?;
    let model = Encoder::new(&tensors, &config, options.weights).build();
    let graph = model.map_err(|problem| ImportError::Weights { path: tensors.path().to_owned(), problem })?;
    let count = graph.initializer.len();
    if let Some(folder) = file.parent() {
        let unwritable = |source| ImportError::Unwritable { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(unwritable)?;
    }
    let bytes = write::write(graph, file, options.largest_file)
        .map_err(|source| ImportError::Unwritable { path: file.to_owned(), source })?;
    Ok(Report {
        family: config.model_type,
        head: config.head,
        weights: options.weights,
        layers: config.layers,
        tensors: count,
        bytes,
    })
}
