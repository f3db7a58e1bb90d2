//! Models of speech: what they are loaded with, and what they are asked.

use switchboard_mesh::Call;

use super::{Card, Model, load, load::Loaded};
use crate::{
    backend::BackendError,
    config::{Config, Provider},
    error::Error,
    onnx::{Runtime, Silero, Whisper, WhisperFiles},
    placement::{Placement, step_threads},
    repository::{self, BackendName, Description},
    transcribe::{self, Parameters, TranscribeOptions, Transcript},
    vad::{Rate, Sensitivity, Speech},
    warmup::Layout,
};

impl Loaded {
    /// Loads a model that transcribes, and runs it once.
    pub(super) fn transcriber(
        description: &Description,
        whisper: &repository::Whisper,
        config: &Config,
        runtime: &Runtime,
    ) -> Result<Self, Error> {
        let inspection = description.inspect()?;
        let threads = step_threads(&description.settings, config);
        let placement = Placement::of(config, BackendName::Onnx);
        let parameters = Parameters::read(&description.folder.join("preprocessor_config.json"))?;
        let files = WhisperFiles::new(&description.graph, whisper, &parameters);
        let engine = Box::new(Whisper::load(runtime, &files, placement, threads)?);
        let mut loaded = transcribe::Loaded::new(description, whisper, parameters, engine)?;
        if !description.settings.warm_up.unwrap_or(config.warm_up).is_zero() {
            let failed = |error: BackendError| {
                repository::problem(&description.graph, format!("does not run: {error}"))
            };
            loaded.measure().map_err(failed)?;
        }
        let mut card = card(description, placement, threads);
        card.max_tokens = whisper.target_positions;
        card.dtype = load::dtype(&inspection);
        card.fingerprint = load::fingerprint(description, &inspection, card.max_tokens)?;
        Ok(Self::new_of(card, load::Part::Transcriber(Box::new(loaded)), inspection))
    }

    /// Loads a model that detects speech, and runs it once.
    pub(super) fn listener(
        description: &Description,
        config: &Config,
        runtime: &Runtime,
    ) -> Result<Self, Error> {
        let inspection = description.inspect()?;
        // A step takes a fifth of a millisecond on a core; a GPU takes longer to be asked.
        let placement = Placement { provider: Provider::Cpu, ..Placement::of(config, BackendName::Onnx) };
        let mut engine: Box<dyn crate::vad::Engine> =
            Box::new(Silero::load(runtime, &description.graph, placement)?);
        crate::vad::probe(engine.as_mut())
            .map_err(|error| repository::problem(&description.graph, format!("does not run: {error}")))?;
        let mut card = card(description, placement, 1);
        card.dtype = load::dtype(&inspection);
        card.fingerprint = load::fingerprint(description, &inspection, 0)?;
        Ok(Self::new_of(card, load::Part::Listener(engine), inspection))
    }
}

fn card(description: &Description, placement: Placement, threads: usize) -> Card {
    Card {
        name: description.name.clone(),
        task: description.task.clone(),
        model_type: description.model_type.clone(),
        dimensions: 0,
        max_tokens: 0,
        max_batch_tokens: 0,
        queue: 0,
        backend: placement.name(),
        dtype: String::new(),
        fingerprint: String::new(),
        layout: Layout { instances: 1, threads },
    }
}

impl Model {
    /// Transcribes mono samples at 16 kHz.
    ///
    /// # Errors
    /// As [`transcribe::Transcriber::transcribe`]; `OtherTask` when it is no model for it.
    pub(crate) async fn transcribe(
        &self,
        samples: Vec<f32>,
        options: TranscribeOptions,
        call: &Call,
    ) -> Result<Transcript, Error> {
        self.transcriber()?.transcribe(samples, options, call).await
    }

    /// The stretches of speech in mono samples.
    ///
    /// # Errors
    /// As [`crate::vad::Listener::detect`]; `OtherTask` when it is no model for it.
    pub(crate) async fn detect_speech(
        &self,
        samples: &[f32],
        rate: Rate,
        sensitivity: Sensitivity,
        call: &Call,
    ) -> Result<Vec<Speech>, Error> {
        self.listener()?.detect(samples, rate, sensitivity, call).await
    }
}
