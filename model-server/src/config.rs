//! The section `[inference]`.

use std::{num::NonZero, path::PathBuf, thread, time::Duration};

use serde::{Deserialize, Serialize};
use switchboard_mesh::config::{Invalid, within};

use crate::bounds::SMALLEST_QUEUE;

/// What a node runs, and within which limits. A model's own `model.toml` may say otherwise for it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder of models: one folder in it for each, named as the model is. Empty takes the first
    /// there is of `models/` beside the executable, `.cache/models/` of the checkout that the
    /// executable was built in, and the same of the working folder if that is a checkout.
    pub repository: PathBuf,
    /// The ONNX Runtime library, version 1.22 or later. Empty looks in the same order: beside the
    /// executable, then in `.cache/onnxruntime/` of the same checkouts.
    pub runtime: PathBuf,
    /// What computes: `cpu`, `cuda` or `tensorrt`. The latter two need a runtime library that has them;
    /// what they cannot compute of a model, the CPU does.
    pub provider: Provider,
    /// Which GPU, from 0.
    pub gpu: u32,
    /// Cores that the models share; 0 takes all there are.
    pub cores: usize,
    /// Batches of a model that are computed side by side; 0 takes what is best by measurement.
    pub instances: usize,
    /// Threads that compute one batch; 0 takes what is best by measurement.
    pub threads: usize,
    /// Time for measuring a model while it is loaded: which instances and threads are best, and how long
    /// batches take. 0 s measures nothing.
    #[serde(with = "humantime_serde")]
    pub warm_up: Duration,
    /// Tokens that are read of a text, special ones included; the rest is cut. Never more than the
    /// model's own limit.
    pub max_tokens: usize,
    /// Tokens of one batch, padding included. A small batch keeps the wait of the next one short.
    pub max_batch_tokens: usize,
    /// The longest sound of a request.
    #[serde(with = "humantime_serde")]
    pub max_audio: Duration,
    /// Texts that may wait for a model, or be in work; a request beyond that is refused.
    pub queue: usize,
    /// Part of the time of more urgent classes that class chat is sure of while it waits, 0 to 1.
    pub chat_share: f64,
    /// The same for class batch.
    pub batch_share: f64,
    /// Whether callers may load, reload and unload models.
    pub model_control: bool,
    /// What models that write may take.
    pub generation: GenerationConfig,
}

/// The section `[inference.generation]`: what each model that writes may take.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct GenerationConfig {
    /// Tokens of a prompt and of what is written after it, 64 to 1,048,576. Never more than the model's own limit,
    /// or than the memory for keys and values suffices for.
    pub context: usize,
    /// Texts that are continued side by side, 1 to 256; fewer where the memory suffices for fewer.
    pub slots: usize,
    /// MiB of keys and values of all texts together, 1 to 1,048,576. They are taken when the model is loaded,
    /// where its layout allows that.
    pub cache_mib: u64,
    /// Prompts that may wait or be under way, 4 to 65,536; one beyond that is refused.
    pub queue: usize,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self { context: 4096, slots: 8, cache_mib: 1024, queue: 256 }
    }
}

impl GenerationConfig {
    fn check(&self) -> Result<(), Invalid> {
        within("inference.generation.context", self.context, 64..=1 << 20)?;
        within("inference.generation.slots", self.slots, 1..=256)?;
        within("inference.generation.cache_mib", self.cache_mib, 1..=1 << 20)?;
        within("inference.generation.queue", self.queue, 4..=1 << 16)
    }
}

/// What computes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, through CUDA.
    Cuda,
    /// An NVIDIA GPU, through TensorRT, and CUDA for what that cannot do.
    TensorRt,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            repository: PathBuf::new(),
            runtime: PathBuf::new(),
            provider: Provider::Cpu,
            gpu: 0,
            cores: 0,
            instances: 0,
            threads: 0,
            warm_up: Duration::from_millis(1000),
            max_tokens: 256,
            // On two cores MiniLM's throughput is flat from 512 tokens on, and such a batch takes
            // some 90 ms; a larger one would only make others wait for longer.
            max_batch_tokens: 512,
            max_audio: Duration::from_secs(30),
            queue: 4096,
            chat_share: 0.2,
            batch_share: 0.05,
            model_control: false,
            generation: GenerationConfig::default(),
        }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the first key whose value is not allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        within("inference.gpu", self.gpu, 0..=63)?;
        within("inference.cores", self.cores, 0..=1024)?;
        within("inference.instances", self.instances, 0..=64)?;
        within("inference.threads", self.threads, 0..=256)?;
        within("inference.warm_up in seconds", self.warm_up.as_secs(), 0..=600)?;
        within("inference.max_tokens", self.max_tokens, 8..=8192)?;
        within("inference.max_batch_tokens", self.max_batch_tokens, self.max_tokens..=1 << 20)?;
        // Ten minutes of samples are as many bytes as a request may have.
        within("inference.max_audio in seconds", self.max_audio.as_secs(), 1..=600)?;
        within("inference.queue", self.queue, SMALLEST_QUEUE..=1 << 20)?;
        self.generation.check()?;
        for (key, share) in
            [("inference.chat_share", self.chat_share), ("inference.batch_share", self.batch_share)]
        {
            // Not `within`, which would let NaN through.
            if !(0.0..=1.0).contains(&share) {
                return Err(Invalid::new(key, share, "0 to 1"));
            }
        }
        Ok(())
    }

    /// Cores that the models share.
    pub(crate) fn shared_cores(&self) -> usize {
        match self.cores {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            cores => cores,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_allowed_are_named() {
        let refusal = |config: Config| config.check().unwrap_err().to_string();
        assert!(Config::default().check().is_ok());
        let error = refusal(Config { chat_share: f64::NAN, ..Config::default() });
        assert!(error.contains("inference.chat_share"), "{error}");
        let error = refusal(Config { max_batch_tokens: 100, ..Config::default() });
        assert!(error.contains("inference.max_batch_tokens"), "{error}");
    }
}
