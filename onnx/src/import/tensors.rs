//! The names that an encoder's tensors have in its safetensors files.

use std::path::Path;

use super::{config::Family, error::ImportError};
use crate::safetensors::Safetensors;

/// A tensor that every encoder has; what stands before its name stands before all the encoder's names.
const LANDMARK: &str = "embeddings.word_embeddings.weight";

/// DistilBERT's names for parts of a layer. The longer ones come before those that they contain.
const DISTILBERT: [(&str, &str); 9] = [
    ("encoder.layer", "transformer.layer"),
    ("attention.self.query", "attention.q_lin"),
    ("attention.self.key", "attention.k_lin"),
    ("attention.self.value", "attention.v_lin"),
    ("attention.output.dense", "attention.out_lin"),
    ("attention.output.LayerNorm", "sa_layer_norm"),
    ("intermediate.dense", "ffn.lin1"),
    ("output.dense", "ffn.lin2"),
    ("output.LayerNorm", "output_layer_norm"),
];

/// The tensors of an encoder.
#[derive(Debug)]
pub(super) struct Tensors {
    weights: Safetensors,
    /// What stands before the names of the encoder's tensors: nothing, or such as `bert.`.
    prefix: String,
    family: Family,
}

impl Tensors {
    /// Reads the headers of the weights in `folder`.
    pub(super) fn open(folder: &Path, family: Family) -> Result<Self, ImportError> {
        let weights = Safetensors::open(folder)?;
        let ends: Vec<&str> = weights.names().filter_map(|name| name.strip_suffix(LANDMARK)).collect();
        let prefix = match ends.as_slice() {
            [prefix] => (*prefix).to_owned(),
            [] => return Err(weights.problem(format!("no tensor's name ends with {LANDMARK}"))),
            _ => return Err(weights.problem(format!("several tensors' names end with {LANDMARK}"))),
        };
        Ok(Self { weights, prefix, family })
    }

    /// The file that stands for the weights.
    pub(super) fn path(&self) -> &Path {
        self.weights.path()
    }

    /// The name here of a tensor of the encoder, which BERT calls `name`.
    pub(super) fn encoder(&self, name: &str) -> String {
        let mut name = name.to_owned();
        if self.family == Family::DistilBert {
            for (bert, distilbert) in DISTILBERT {
                name = name.replace(bert, distilbert);
            }
        }
        format!("{}{name}", self.prefix)
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.weights.shape(name).is_some()
    }

    /// Rows of a table.
    pub(super) fn rows(&self, name: &str) -> Result<usize, String> {
        let shape =
            self.weights.shape(name).ok_or_else(|| format!("there is no F32, F16 or BF16 tensor {name}"))?;
        shape.first().copied().ok_or_else(|| format!("{name} is a single number, not a table"))
    }

    /// The values of a tensor of this shape, row by row.
    pub(super) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        self.weights.values(name, shape)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tensors(prefix: &str, family: Family) -> Result<Tensors, ImportError> {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("{prefix}{LANDMARK}");
        let header = format!(r#"{{"{name}": {{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}}}"#);
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
        fs::write(folder.path().join("model.safetensors"), file).unwrap();
        Tensors::open(folder.path(), family)
    }

    #[test]
    fn what_stands_before_the_word_embeddings_stands_before_all() {
        let bert = tensors("bert.", Family::Bert).unwrap();
        assert_eq!(bert.encoder("pooler.dense.bias"), "bert.pooler.dense.bias");
        assert!(bert.has("bert.embeddings.word_embeddings.weight"));
    }

    #[test]
    fn distilbert_has_its_own_names() {
        let tensors = tensors("", Family::DistilBert).unwrap();
        for (bert, distilbert) in [
            ("encoder.layer.3.attention.self.query.bias", "transformer.layer.3.attention.q_lin.bias"),
            ("encoder.layer.0.attention.output.dense.weight", "transformer.layer.0.attention.out_lin.weight"),
            ("encoder.layer.0.attention.output.LayerNorm.bias", "transformer.layer.0.sa_layer_norm.bias"),
            ("encoder.layer.0.intermediate.dense.bias", "transformer.layer.0.ffn.lin1.bias"),
            ("encoder.layer.0.output.dense.bias", "transformer.layer.0.ffn.lin2.bias"),
            ("encoder.layer.0.output.LayerNorm.bias", "transformer.layer.0.output_layer_norm.bias"),
            ("embeddings.LayerNorm.bias", "embeddings.LayerNorm.bias"),
        ] {
            assert_eq!(tensors.encoder(bert), distilbert);
        }
    }
}
