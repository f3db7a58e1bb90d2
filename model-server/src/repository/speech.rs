//! Models of speech: Whisper's graphs and shapes, and Silero's graph.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{json, present, problem};
use crate::error::Error;

/// `model_type` of a model that transcribes.
pub(super) const WHISPER: &str = "whisper";
/// `model_type` of a model that detects speech.
pub(super) const SILERO: [&str; 2] = ["silero_vad", "silero-vad"];

/// A Whisper model: the files of its decoder, and its shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whisper {
    pub(crate) decoders: Decoders,
    /// Attention heads of the decoder, and components of each.
    pub(crate) heads: [usize; 2],
    /// Places of the encoder's output for a whole window.
    pub(crate) source_positions: usize,
    /// Tokens that the decoder has positions for.
    pub(crate) target_positions: usize,
}

/// The files of a decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decoders {
    /// One graph with a switch.
    Merged(PathBuf),
    /// One that reads the prompt, and one that reads what follows.
    Two { first: PathBuf, rest: PathBuf },
}

impl Decoders {
    /// The files.
    pub(crate) fn files(&self) -> Vec<&Path> {
        match self {
            Self::Merged(merged) => vec![merged],
            Self::Two { first, rest } => vec![first, rest],
        }
    }
}

#[derive(Deserialize)]
struct Shapes {
    d_model: usize,
    decoder_attention_heads: usize,
    #[serde(default = "source_positions")]
    max_source_positions: usize,
    #[serde(default = "target_positions")]
    max_target_positions: usize,
}

/// Both as in transformers.
fn source_positions() -> usize {
    1500
}

fn target_positions() -> usize {
    448
}

/// Finds the graphs of a Whisper model, and reads its shapes. `named` is the encoder's file where
/// `model.toml` says it; what it has behind `encoder_model`, such as `_quantized`, the decoders have as well.
///
/// # Errors
/// Names the file that is missing or cannot be used.
pub(super) fn whisper(
    folder: &Path,
    config: &Path,
    named: Option<&Path>,
) -> Result<(PathBuf, Whisper), Error> {
    let encoder = match named {
        Some(named) => folder.join(named),
        None => {
            let usual = ["onnx/encoder_model.onnx", "encoder_model.onnx"].map(|path| folder.join(path));
            usual.iter().find(|path| path.exists()).unwrap_or(&usual[0]).clone()
        }
    };
    present(&encoder, u64::MAX)?;
    let file = encoder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(variant) = file.strip_prefix("encoder_model") else {
        return Err(problem(&encoder, "is not named encoder_model*.onnx, as encoders of speech are"));
    };
    let beside = |stem: &str| encoder.with_file_name(format!("{stem}{variant}"));
    let merged = beside("decoder_model_merged");
    let (first, rest) = (beside("decoder_model"), beside("decoder_with_past_model"));
    let decoders = if merged.exists() {
        present(&merged, u64::MAX)?;
        Decoders::Merged(merged)
    } else if first.exists() && rest.exists() {
        present(&first, u64::MAX)?;
        present(&rest, u64::MAX)?;
        Decoders::Two { first, rest }
    } else {
        let others =
            format!("and there are not both decoder_model{variant} and decoder_with_past_model{variant}");
        return Err(problem(&merged, format!("is not there, {others}")));
    };
    let Shapes { d_model, decoder_attention_heads: heads, max_source_positions, max_target_positions } =
        json(config)?;
    let allowed = |key: &str, value: usize, most: usize| match value {
        value if (1..=most).contains(&value) => Ok(()),
        value => Err(problem(config, format!("has {key} = {value}; 1 to {most} is allowed"))),
    };
    allowed("d_model", d_model, 1 << 16)?;
    allowed("decoder_attention_heads", heads, d_model)?;
    allowed("max_source_positions", max_source_positions, 1 << 16)?;
    allowed("max_target_positions", max_target_positions, 1 << 16)?;
    let whisper = Whisper {
        decoders,
        heads: [heads, d_model / heads],
        source_positions: max_source_positions,
        target_positions: max_target_positions,
    };
    Ok((encoder, whisper))
}
