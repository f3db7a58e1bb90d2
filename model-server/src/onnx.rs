//! The ONNX Runtime backend. No `ort` type leaves this module.
//!
//! [`Runtime`] is the loaded library, [`OnnxModel`] a session over an encoder's ONNX file, [`Whisper`] and
//! [`Silero`] those of speech.
//! Tensors are found by name: hub exports differ in their order, in their types, and in whether they
//! take `token_type_ids`.

pub(crate) mod decoder;
mod vad;
mod whisper;

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ort::{
    environment::Environment,
    ep::{CUDA, ExecutionProviderDispatch, TensorRT},
    logging::LogLevel,
    session::{Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::{DynValue, TensorElementType, TensorRef, ValueType},
};

pub(crate) use self::{
    vad::Silero,
    whisper::{Files as WhisperFiles, Whisper},
};
use crate::{
    backend::{Backend, BackendError, Batch, Output},
    config::Provider,
    error::Error,
    placement::Placement,
    repository::{Description, Task, problem},
};

/// The library of this process. It is loaded once and stays: the runtime cannot be loaded again, and
/// its threads must not outlive it.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// The loaded ONNX Runtime.
pub(crate) struct Runtime(Environment);

impl Runtime {
    /// Loads the library at `path`, an absolute path; a process that has one loaded keeps that one.
    ///
    /// # Errors
    /// When it is no ONNX Runtime, or one older than 1.22. A later try may name another library.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((first, environment)) = &*loaded {
            if first != path {
                let (wanted, kept) = (path.display(), first.display());
                tracing::warn!(%wanted, %kept, "another runtime library is loaded already");
            }
            return Ok(Self(environment.clone()));
        }
        let unusable = |error: String| Error::Runtime {
            path: path.to_owned(),
            problem: format!("cannot be used: {error}"),
        };
        let builder = ort::init_from(path).map_err(|error| unusable(error.to_string()))?;
        let environment = builder
            .with_name("switchboard")
            .with_telemetry(false)
            .with_logger(Arc::new(|level, _: &str, _: &str, _: &str, message: &str| log(level, message)))
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        environment.set_log_level(LogLevel::Warning);
        *loaded = Some((path.to_owned(), environment.clone()));
        Ok(Self(environment))
    }
}

/// What fails is returned as an error as well, so nothing here needs a person.
fn log(level: LogLevel, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => tracing::trace!(message, "onnx runtime"),
        LogLevel::Warning | LogLevel::Error | LogLevel::Fatal => tracing::debug!(message, "onnx runtime"),
    }
}

fn providers(placement: Placement) -> Vec<ExecutionProviderDispatch> {
    let gpu = i32::try_from(placement.gpu).unwrap_or_default();
    let cuda = || CUDA::default().with_device_id(gpu).build().error_on_failure();
    match placement.provider {
        Provider::Cpu => Vec::new(),
        Provider::Cuda => vec![cuda()],
        Provider::TensorRt => {
            vec![TensorRT::default().with_device_id(gpu).build().error_on_failure(), cuda()]
        }
    }
}

/// The inputs that a graph may want.
pub(crate) const INPUTS: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];

/// The outputs that a task can be read from, the best first: pooling is done here where it can be.
pub(crate) fn outputs(task: &Task) -> &'static [&'static str] {
    match task {
        Task::Embed { .. } => &["last_hidden_state", "token_embeddings", "sentence_embedding"],
        Task::LateInteraction(_) => &["token_embeddings", "last_hidden_state"],
        Task::CrossEncoder | Task::Sequence { .. } | Task::Tokens { .. } => &["logits"],
        Task::Transcribe(_) | Task::DetectSpeech | Task::Generate(_) => &[],
    }
}

/// A session over the graph of one model.
pub(crate) struct OnnxModel {
    session: Session,
    /// The inputs that the graph wants, and whether as 64-bit integers.
    inputs: Vec<(&'static str, bool)>,
    output: String,
}

impl OnnxModel {
    /// Loads the graph of a model; `threads` compute one batch.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn load(
        runtime: &Runtime,
        description: &Description,
        placement: Placement,
        threads: usize,
    ) -> Result<Self, Error> {
        let Description { graph, task, settings, .. } = description;
        let session = session(runtime, graph, placement, threads)?;
        let mut inputs = Vec::new();
        for input in session.inputs() {
            let name = input.name();
            let Some(known) = INPUTS.into_iter().find(|known| *known == name) else {
                let known = INPUTS.join(", ");
                return Err(problem(graph, format!("wants an input {name:?}; supported: {known}")));
            };
            match element(input.dtype()) {
                Some(TensorElementType::Int64) => inputs.push((known, true)),
                Some(TensorElementType::Int32) => inputs.push((known, false)),
                _ => {
                    let is = input.dtype();
                    return Err(problem(
                        graph,
                        format!("wants {name} as {is}; int64 and int32 are supported"),
                    ));
                }
            }
        }
        for name in &INPUTS[..2] {
            if !inputs.iter().any(|(input, _)| input == name) {
                return Err(problem(graph, format!("has no input {name}")));
            }
        }
        let (known, who) = match &settings.output {
            Some(named) => (vec![named.as_str()], "model.toml names"),
            None => (outputs(task).to_vec(), "this task needs"),
        };
        let gives = |name: &&str| session.outputs().iter().find(|output| output.name() == *name);
        let Some(output) = known.iter().find_map(gives) else {
            let there: Vec<_> = session.outputs().iter().map(|output| output.name()).collect();
            let (known, there) = (known.join(" or "), there.join(", "));
            return Err(problem(graph, format!("has no output {known}, which {who}; it gives {there}")));
        };
        let (output, kind) = (output.name().to_owned(), output.dtype());
        match element(kind) {
            Some(TensorElementType::Float32 | TensorElementType::Float16 | TensorElementType::Bfloat16) => {}
            _ => {
                return Err(problem(
                    graph,
                    format!("gives {output} as {kind}; floats of 16 or 32 bits are supported"),
                ));
            }
        }
        Ok(Self { session, inputs, output })
    }
}

fn element(kind: &ValueType) -> Option<TensorElementType> {
    match kind {
        ValueType::Tensor { ty, .. } => Some(*ty),
        _ => None,
    }
}

/// A session over the graph in a file.
///
/// # Errors
/// Names the file and what is wrong with it.
fn session(runtime: &Runtime, graph: &Path, placement: Placement, threads: usize) -> Result<Session, Error> {
    let open = || -> ort::Result<Session> {
        Session::builder(&runtime.0)?
            .with_execution_providers(providers(placement))?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            // Threads that spin between batches would take the cores from everything else here.
            .with_intra_op_spinning(false)?
            // A memory plan is kept for every shape that was ever run, and batches have all shapes.
            .with_memory_pattern(false)?
            .commit_from_file(graph)
    };
    open().map_err(|error| problem(graph, format!("cannot be run by {}: {error}", placement.name())))
}

impl Backend for OnnxModel {
    fn run(&mut self, batch: &Batch) -> Result<Output, BackendError> {
        let narrow = self.inputs.iter().any(|(_, wide)| !wide);
        let narrowed = |values: &[i64]| -> Vec<i32> {
            // Token ids are 32-bit numbers without a sign, and none is that large.
            if narrow {
                values.iter().map(|&value| i32::try_from(value).unwrap_or(i32::MAX)).collect()
            } else {
                Vec::new()
            }
        };
        let [ids, mask, types] = [&batch.ids, &batch.mask, &batch.types].map(|values| narrowed(values));
        let shape = [batch.rows, batch.length];
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(3);
        for &(name, wide) in &self.inputs {
            let (long, short) = match name {
                "input_ids" => (&batch.ids, &ids),
                "attention_mask" => (&batch.mask, &mask),
                _ => (&batch.types, &types),
            };
            let value = match wide {
                true => TensorRef::<i64>::from_array_view((shape, long.as_slice())).map(Into::into),
                false => TensorRef::<i32>::from_array_view((shape, short.as_slice())).map(Into::into),
            };
            inputs.push((name.into(), value.map_err(failed)?));
        }
        let outputs = self.session.run(inputs).map_err(failed)?;
        let name = self.output.as_str();
        let value =
            outputs.get(name).ok_or_else(|| BackendError::Failed(format!("{name} was not computed")))?;
        let (shape, values) = floats(value)?;
        Output::new(name, &shape, values, batch)
    }
}

/// The shape and the numbers of an output, as 32-bit floats.
fn floats(value: &DynValue) -> Result<(Vec<i64>, Vec<f32>), BackendError> {
    match element(value.dtype()) {
        Some(TensorElementType::Float16) => {
            let (shape, values) = value.try_extract_tensor::<half::f16>().map_err(failed)?;
            Ok((shape.to_vec(), values.iter().map(|value| value.to_f32()).collect()))
        }
        Some(TensorElementType::Bfloat16) => {
            let (shape, values) = value.try_extract_tensor::<half::bf16>().map_err(failed)?;
            Ok((shape.to_vec(), values.iter().map(|value| value.to_f32()).collect()))
        }
        _ => {
            let (shape, values) = value.try_extract_tensor::<f32>().map_err(failed)?;
            Ok((shape.to_vec(), values.to_vec()))
        }
    }
}

/// The last `width` numbers of an output, as 32-bit floats: those of the last token of one row.
fn last_floats(value: &DynValue, width: usize) -> Result<Vec<f32>, BackendError> {
    fn last<T: Copy + Into<f32>>(values: &[T], width: usize) -> Option<Vec<f32>> {
        let start = values.len().checked_sub(width)?;
        Some(values[start..].iter().map(|&value| value.into()).collect())
    }
    let (shape, numbers) = match element(value.dtype()) {
        Some(TensorElementType::Float16) => {
            let (shape, values) = value.try_extract_tensor::<half::f16>().map_err(failed)?;
            (shape, last(values, width))
        }
        Some(TensorElementType::Bfloat16) => {
            let (shape, values) = value.try_extract_tensor::<half::bf16>().map_err(failed)?;
            (shape, last(values, width))
        }
        _ => {
            let (shape, values) = value.try_extract_tensor::<f32>().map_err(failed)?;
            (shape, last(values, width))
        }
    };
    let fits = shape.last().is_some_and(|&last| usize::try_from(last).is_ok_and(|last| last == width));
    let problem = || BackendError::Failed(format!("logits have shape {shape:?}; {width} of a token are due"));
    numbers.filter(|_| fits).ok_or_else(problem)
}

#[expect(clippy::needless_pass_by_value, reason = "fits `map_err`")]
fn failed(error: ort::Error) -> BackendError {
    let text = error.to_string();
    // The runtime has no code for it: these are its allocators' words, on CPU and on CUDA.
    let memory = ["Failed to allocate memory", "out of memory", "std::bad_alloc", "CUDA failure 2:"];
    match memory.iter().any(|sign| text.contains(sign)) {
        true => BackendError::OutOfMemory(text),
        false => BackendError::Failed(text),
    }
}
