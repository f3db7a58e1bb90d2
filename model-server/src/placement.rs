//! Where a model is run, and by what.

use serde::Deserialize;

use crate::{
    backend::Backend,
    config::{Config, Provider},
    error::Error,
    onnx::{OnnxModel, Runtime},
    repository::{BackendName, Description, Settings},
    torch,
};

/// Where a model is run, and by what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    pub(crate) backend: BackendName,
    pub(crate) provider: Provider,
    pub(crate) gpu: u32,
}

/// How a decoder is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecoderOptions {
    pub(crate) placement: Placement,
    /// Threads that compute a step.
    pub(crate) threads: usize,
    /// Sequences that it holds at once.
    pub(crate) slots: usize,
    /// Most tokens of a sequence; never more than the model has positions.
    pub(crate) context: usize,
    /// What weights, keys and values are kept and multiplied as, where the file leaves it open; `None` takes
    /// `float32` on a CPU and `bfloat16` on a GPU.
    #[cfg_attr(not(feature = "torch"), expect(dead_code, reason = "graphs say it themselves"))]
    pub(crate) precision: Option<Precision>,
}

/// What numbers are kept and multiplied as.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    Float32,
    Bfloat16,
}

impl Placement {
    pub(crate) fn of(config: &Config, backend: BackendName) -> Self {
        Self { backend, provider: config.provider, gpu: config.gpu }
    }

    /// As `ListModels` names it.
    pub(crate) fn name(self) -> &'static str {
        match (self.backend, self.provider) {
            (BackendName::Onnx, Provider::Cpu) => "onnx/cpu",
            (BackendName::Onnx, Provider::Cuda) => "onnx/cuda",
            (BackendName::Onnx, Provider::TensorRt) => "onnx/tensorrt",
            (BackendName::Torch, Provider::Cpu) => "torch/cpu",
            // What TensorRT cannot do, CUDA does.
            (BackendName::Torch, Provider::Cuda | Provider::TensorRt) => "torch/cuda",
        }
    }

    /// Loads a model that runs batches; `threads` compute one.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn load(
        self,
        runtime: &Runtime,
        description: &Description,
        threads: usize,
    ) -> Result<Box<dyn Backend>, Error> {
        match self.backend {
            BackendName::Onnx => Ok(Box::new(OnnxModel::load(runtime, description, self, threads)?)),
            BackendName::Torch => torch::load(description, self, threads),
        }
    }
}

/// Threads that compute a step of a model whose steps come one after the other: as `model.toml` or the
/// configuration says, else all cores.
pub(crate) fn step_threads(settings: &Settings, config: &Config) -> usize {
    match (config.provider, settings.threads.unwrap_or(config.threads)) {
        (Provider::Cpu, 0) => config.shared_cores(),
        (Provider::Cpu, threads) => threads,
        // Steps on one GPU come one after the other.
        _ => 1,
    }
}
