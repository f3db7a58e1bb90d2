//! The ONNX Runtime backend. No `ort` type leaves this file.
//!
//! [`Runtime`] is the loaded library, [`OnnxModel`] a session over one graph. Tensors are found by
//! name: hub exports differ in their order and in whether they take `token_type_ids`.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ort::{
    environment::Environment,
    logging::LogLevel,
    session::{Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::TensorRef,
};

use crate::{
    backend::{Backend, BackendError, Batch},
    error::Error,
    pooling,
    repository::problem,
};

/// What runs the graphs, as `ListModels` names it.
pub(crate) const NAME: &str = "onnx/cpu";

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

/// What a graph gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// A vector for each token, under this name.
    Hidden(&'static str),
    /// A vector for each row, under this name.
    Sentence(&'static str),
}

impl Output {
    fn name(self) -> &'static str {
        match self {
            Self::Hidden(name) | Self::Sentence(name) => name,
        }
    }
}

/// Known outputs, the best first: pooling is done here where it can be.
const OUTPUTS: [Output; 3] = [
    Output::Hidden("last_hidden_state"),
    Output::Hidden("token_embeddings"),
    Output::Sentence("sentence_embedding"),
];

/// A session over the graph of one embedding model.
pub(crate) struct OnnxModel {
    session: Session,
    takes_types: bool,
    output: Output,
    width: usize,
}

impl OnnxModel {
    /// Loads `graph`, whose vectors have `width` components; `threads` compute one batch.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn load(runtime: &Runtime, graph: &Path, width: usize, threads: usize) -> Result<Self, Error> {
        let session = session(runtime, graph, threads)
            .map_err(|error| problem(graph, format!("is not an ONNX model that can be run: {error}")))?;
        for input in session.inputs() {
            if !["input_ids", "attention_mask", "token_type_ids"].contains(&input.name()) {
                return Err(problem(graph, format!("wants an unknown input, {:?}", input.name())));
            }
        }
        let takes = |name| session.inputs().iter().any(|input| input.name() == name);
        for name in ["input_ids", "attention_mask"] {
            if !takes(name) {
                return Err(problem(graph, format!("has no input {name}")));
            }
        }
        let gives = |name: &str| session.outputs().iter().any(|output| output.name() == name);
        let output = OUTPUTS.into_iter().find(|output| gives(output.name()));
        let output = output.ok_or_else(|| {
            problem(graph, "has no output last_hidden_state, token_embeddings or sentence_embedding")
        })?;
        Ok(Self { takes_types: takes("token_type_ids"), session, output, width })
    }
}

fn session(runtime: &Runtime, graph: &Path, threads: usize) -> ort::Result<Session> {
    Session::builder(&runtime.0)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        // Threads that spin between batches would take the cores from everything else here.
        .with_intra_op_spinning(false)?
        // A memory plan is kept for every shape that was ever run, and batches have all shapes.
        .with_memory_pattern(false)?
        .commit_from_file(graph)
}

impl Backend for OnnxModel {
    fn embed(&mut self, batch: &Batch) -> Result<Vec<Vec<f32>>, BackendError> {
        let failed = |error: ort::Error| BackendError(error.to_string());
        let shape = [batch.rows, batch.length];
        let tensor = |values| TensorRef::<i64>::from_array_view((shape, values)).map_err(failed);
        let types = vec![0; batch.ids.len()];
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = vec![
            ("input_ids".into(), tensor(batch.ids.as_slice())?.into()),
            ("attention_mask".into(), tensor(batch.mask.as_slice())?.into()),
        ];
        if self.takes_types {
            inputs.push(("token_type_ids".into(), tensor(types.as_slice())?.into()));
        }
        let outputs = self.session.run(inputs).map_err(failed)?;

        let name = self.output.name();
        let value = outputs.get(name).ok_or_else(|| BackendError(format!("{name} was not computed")))?;
        let (shape, values) = value.try_extract_tensor::<f32>().map_err(failed)?;
        let expected: &[usize] = match self.output {
            Output::Hidden(_) => &[batch.rows, batch.length, self.width],
            Output::Sentence(_) => &[batch.rows, self.width],
        };
        if !shape.iter().map(|&n| usize::try_from(n).unwrap_or(0)).eq(expected.iter().copied()) {
            return Err(BackendError(format!("{name} has shape {shape:?}, not {expected:?}")));
        }
        match self.output {
            Output::Hidden(_) => pooling::mean(values, self.width, batch),
            Output::Sentence(_) => {
                values.chunks_exact(self.width).map(|row| pooling::normalise(row.to_vec())).collect()
            }
        }
    }
}
