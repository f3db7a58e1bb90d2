//! Whisper's graphs as the Hugging Face hub has them: an encoder, and a decoder that keeps keys and values.
//!
//! The decoder is one graph with a switch (`decoder_model_merged`), or two, of which the first reads a
//! prompt and the second one token after the other. What is kept is found by its names: `present.*` of one
//! step is `past_key_values.*` of the next. Those of the encoder are computed by the first step alone, and
//! stay what they are, whatever later steps give under their names.

use std::{borrow::Cow, path::Path, sync::Arc};

use ort::{
    memory::Allocator,
    session::{Session, SessionInputValue, SessionOutputs},
    value::{
        DynTensor, DynValue, PrimitiveTensorElementType, Tensor, TensorElementType, TensorRef, ValueType,
    },
};

use super::{Placement, Runtime, element, failed, session};
use crate::{
    backend::BackendError,
    error::Error,
    repository::{self, Decoders, problem},
    transcribe::{Engine, Parameters, Windows},
};

const PAST: &str = "past_key_values.";
const PRESENT: &str = "present.";

/// The files of a model, and what its config says of their shapes.
pub(crate) struct Files<'a> {
    encoder: &'a Path,
    decoders: &'a Decoders,
    /// Attention heads of the decoder, and components of each.
    heads: [usize; 2],
    mels: usize,
    frames: usize,
}

impl<'a> Files<'a> {
    /// Those of a model that reads such features.
    pub(crate) fn new(encoder: &'a Path, whisper: &'a repository::Whisper, parameters: &Parameters) -> Self {
        let repository::Whisper { decoders, heads, .. } = whisper;
        Self { encoder, decoders, heads: *heads, mels: parameters.mels(), frames: parameters.frames() }
    }
}

/// A value that is kept from step to step, under the name that a graph takes it by.
type Kept = (String, DynValue);

/// Where decoding has come to.
#[derive(Clone)]
struct State {
    rows: usize,
    /// Tokens that each row has.
    length: usize,
    hidden: Arc<DynValue>,
    /// Keys and values of the encoder's output.
    cross: Arc<Vec<Kept>>,
    /// Keys and values of the tokens so far.
    past: Arc<Vec<Kept>>,
}

/// Sessions over a model's graphs.
pub(crate) struct Whisper {
    encoder: Session,
    /// Whether the encoder takes 16-bit floats.
    half: bool,
    /// Reads prompts; where there is no `rest`, single tokens as well.
    first: Decoder,
    rest: Option<Decoder>,
    heads: [usize; 2],
    mels: usize,
    state: Option<State>,
    mark: Option<State>,
}

/// A decoder's graph, and the inputs that it wants.
struct Decoder {
    session: Session,
    inputs: Vec<(Input, String, TensorElementType)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Ids,
    Hidden,
    UseCache,
    CachePosition,
    /// Kept of the encoder.
    Cross,
    /// Kept of the tokens.
    Past,
}

impl Whisper {
    /// Loads the graphs; `threads` compute a step.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn load(
        runtime: &Runtime,
        files: &Files<'_>,
        placement: Placement,
        threads: usize,
    ) -> Result<Self, Error> {
        let open = |path: &Path| session(runtime, path, placement, threads);
        let encoder = open(files.encoder)?;
        let half = input_features(&encoder, files)?;
        if !encoder.outputs().iter().any(|output| output.name() == "last_hidden_state") {
            return Err(problem(files.encoder, "has no output last_hidden_state"));
        }
        let (first, rest) = match files.decoders {
            Decoders::Merged(path) => (Decoder::new(open(path)?, path, Some(true))?, None),
            Decoders::Two { first, rest } => (
                Decoder::new(open(first)?, first, Some(false))?,
                Some(Decoder::new(open(rest)?, rest, None)?),
            ),
        };
        let (heads, mels) = (files.heads, files.mels);
        Ok(Self { encoder, half, first, rest, heads, mels, state: None, mark: None })
    }
}

/// Checks the encoder's input; whether it is of 16-bit floats.
fn input_features(encoder: &Session, files: &Files<'_>) -> Result<bool, Error> {
    let wrong = |what: String| problem(files.encoder, what);
    let mut half = None;
    for input in encoder.inputs() {
        if input.name() != "input_features" {
            return Err(wrong(format!("wants an input {:?}; supported: input_features", input.name())));
        }
        let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
            return Err(wrong("wants input_features that are no tensor".into()));
        };
        half = match ty {
            TensorElementType::Float32 => Some(false),
            TensorElementType::Float16 => Some(true),
            other => {
                return Err(wrong(format!(
                    "wants input_features as {other:?}; floats of 16 or 32 bits are supported"
                )));
            }
        };
        let says = |place: usize, own: usize, what: &str| match shape.get(place) {
            Some(&fixed) if fixed >= 0 && fixed != own as i64 => {
                Err(wrong(format!("takes {fixed} {what}; preprocessor_config.json says {own}")))
            }
            _ => Ok(()),
        };
        says(1, files.mels, "mel bands")?;
        says(2, files.frames, "frames")?;
    }
    half.ok_or_else(|| wrong("has no input input_features".into()))
}

impl Decoder {
    /// `switched`: whether one that reads prompts must have, or must not have, a switch for what is kept.
    fn new(session: Session, path: &Path, switched: Option<bool>) -> Result<Self, Error> {
        let mut inputs = Vec::new();
        for input in session.inputs() {
            let name = input.name();
            let kind = match name {
                "input_ids" => Input::Ids,
                "encoder_hidden_states" => Input::Hidden,
                "use_cache_branch" => Input::UseCache,
                "cache_position" => Input::CachePosition,
                name if name.starts_with(PAST) && name.contains(".encoder.") => Input::Cross,
                name if name.starts_with(PAST) => Input::Past,
                name => {
                    let known = "input_ids, encoder_hidden_states, use_cache_branch, cache_position and \
                                 past_key_values.*";
                    return Err(problem(path, format!("wants an input {name:?}; supported: {known}")));
                }
            };
            let wanted = match kind {
                Input::Ids | Input::CachePosition => &[TensorElementType::Int64][..],
                Input::UseCache => &[TensorElementType::Bool],
                _ => &[TensorElementType::Float32, TensorElementType::Float16],
            };
            match element(input.dtype()).filter(|found| wanted.contains(found)) {
                Some(found) => inputs.push((kind, name.to_owned(), found)),
                None => {
                    return Err(problem(
                        path,
                        format!("wants {name} as {}, which is not supported", input.dtype()),
                    ));
                }
            }
        }
        let has = |kind: Input| inputs.iter().any(|(own, ..)| *own == kind);
        let keeps = |part: &str| {
            session.outputs().iter().any(|o| o.name().starts_with(PRESENT) && o.name().contains(part))
        };
        let gives_logits = session.outputs().iter().any(|output| output.name() == "logits");
        let missing = match switched {
            _ if !has(Input::Ids) => Some("input input_ids"),
            _ if !gives_logits => Some("output logits"),
            _ if !keeps(".decoder.") => Some("output present.*.decoder.*"),
            Some(_) if !has(Input::Hidden) => Some("input encoder_hidden_states"),
            Some(_) if !keeps(".encoder.") => Some("output present.*.encoder.*"),
            Some(true) if !has(Input::UseCache) => Some("input use_cache_branch"),
            Some(true) | None if !has(Input::Past) => Some("input past_key_values.*.decoder.*"),
            Some(true) | None if !has(Input::Cross) => Some("input past_key_values.*.encoder.*"),
            _ => None,
        };
        match missing {
            Some(what) => Err(problem(path, format!("has no {what}"))),
            None => Ok(Self { session, inputs }),
        }
    }

    /// Runs a step over `ids`, `[rows, width]`, behind what `state` has.
    fn run(
        &mut self,
        ids: &[i64],
        width: usize,
        state: &State,
        heads: [usize; 2],
    ) -> Result<SessionOutputs<'_>, BackendError> {
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(self.inputs.len());
        let positions: Vec<i64> = (state.length..state.length + width).map(|at| at as i64).collect();
        let cached = [state.length > 0];
        for (kind, name, element) in &self.inputs {
            let kept = |values: &'_ Arc<Vec<Kept>>| values.iter().position(|(own, _)| own == name);
            let value: SessionInputValue<'_> = match kind {
                Input::Ids => TensorRef::from_array_view(([state.rows, width], ids)).map_err(failed)?.into(),
                Input::CachePosition => {
                    TensorRef::from_array_view(([width], positions.as_slice())).map_err(failed)?.into()
                }
                Input::UseCache => {
                    TensorRef::from_array_view(([1_usize], cached.as_slice())).map_err(failed)?.into()
                }
                Input::Hidden => (&*state.hidden).into(),
                // Where nothing is kept yet there are no tokens.
                Input::Cross | Input::Past if state.length == 0 => {
                    let shape = [state.rows, heads[0], 0, heads[1]];
                    DynTensor::new(&Allocator::default(), *element, shape).map_err(failed)?.into()
                }
                Input::Cross | Input::Past => {
                    let from = if *kind == Input::Cross { &state.cross } else { &state.past };
                    let missing = || BackendError::Failed(format!("{name} was not computed"));
                    (&from[kept(from).ok_or_else(missing)?].1).into()
                }
            };
            inputs.push((name.as_str().into(), value));
        }
        self.session.run(inputs).map_err(failed)
    }
}

impl Engine for Whisper {
    fn encode(&mut self, windows: Windows) -> Result<(), BackendError> {
        (self.state, self.mark) = (None, None);
        let Windows { rows, frames, values } = windows;
        let shape = [rows, self.mels, frames];
        let features: SessionInputValue<'_> = match self.half {
            true => {
                let values: Vec<half::f16> = values.into_iter().map(half::f16::from_f32).collect();
                Tensor::from_array((shape, values)).map_err(failed)?.into()
            }
            false => Tensor::from_array((shape, values)).map_err(failed)?.into(),
        };
        let mut outputs = self.encoder.run(vec![("input_features", features)]).map_err(failed)?;
        let hidden = outputs.remove("last_hidden_state");
        let hidden =
            hidden.ok_or_else(|| BackendError::Failed("last_hidden_state was not computed".into()))?;
        self.state = Some(State {
            rows,
            length: 0,
            hidden: Arc::new(hidden),
            cross: Arc::default(),
            past: Arc::default(),
        });
        Ok(())
    }

    fn decode(&mut self, ids: &[u32], width: usize, wanted: &[usize]) -> Result<Vec<f32>, BackendError> {
        let state = self.state.as_mut().ok_or_else(nothing)?;
        let begins = state.length == 0;
        // Graphs that read what follows on a prompt take one token of each row.
        let fits = if begins { width > 0 } else { width == 1 };
        if !fits || ids.len() != state.rows * width {
            let (count, rows, length) = (ids.len(), state.rows, state.length);
            return Err(BackendError::Failed(format!("{count} tokens for {rows} rows behind {length}")));
        }
        let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
        let decoder = match &mut self.rest {
            Some(rest) if !begins => rest,
            _ => &mut self.first,
        };
        let mut outputs = decoder.run(&ids, width, state, self.heads)?;
        let logits = pick(&outputs, [state.rows, width], wanted)?;
        let names: Vec<String> =
            outputs.keys().filter(|key| key.starts_with(PRESENT)).map(str::to_owned).collect();
        let (mut cross, mut past) = (Vec::new(), Vec::new());
        for name in names {
            let of_encoder = name.contains(".encoder.");
            let Some(value) = outputs.remove(&name).filter(|_| begins || !of_encoder) else { continue };
            let kept = (format!("{PAST}{}", &name[PRESENT.len()..]), value);
            if of_encoder { cross.push(kept) } else { past.push(kept) }
        }
        if begins {
            state.cross = Arc::new(cross);
        }
        state.past = Arc::new(past);
        state.length += width;
        Ok(logits)
    }

    fn mark(&mut self) {
        self.mark.clone_from(&self.state);
    }

    fn rewind(&mut self, rows: &[usize]) -> Result<(), BackendError> {
        let mark = self.mark.as_ref().ok_or_else(nothing)?;
        self.state = Some(mark.keep(rows)?);
        Ok(())
    }

    fn keep(&mut self, rows: &[usize]) -> Result<(), BackendError> {
        let state = self.state.as_ref().ok_or_else(nothing)?;
        self.state = Some(state.keep(rows)?);
        Ok(())
    }
}

fn nothing() -> BackendError {
    BackendError::Failed("nothing was encoded".into())
}

impl State {
    fn keep(&self, rows: &[usize]) -> Result<Self, BackendError> {
        if rows.iter().copied().eq(0..self.rows) {
            return Ok(self.clone());
        }
        let of = |kept: &Arc<Vec<Kept>>| {
            let kept = kept.iter().map(|(name, value)| Ok((name.clone(), gather(value, rows)?)));
            kept.collect::<Result<Vec<Kept>, BackendError>>().map(Arc::new)
        };
        let hidden = Arc::new(gather(&self.hidden, rows)?);
        Ok(Self {
            rows: rows.len(),
            length: self.length,
            hidden,
            cross: of(&self.cross)?,
            past: of(&self.past)?,
        })
    }
}

/// A tensor of some rows of another.
fn gather(value: &DynValue, rows: &[usize]) -> Result<DynValue, BackendError> {
    match element(value.dtype()) {
        Some(TensorElementType::Float16) => gather_of::<half::f16>(value, rows),
        _ => gather_of::<f32>(value, rows),
    }
}

fn gather_of<T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static>(
    value: &DynValue,
    rows: &[usize],
) -> Result<DynValue, BackendError> {
    let (shape, values) = value.try_extract_tensor::<T>().map_err(failed)?;
    let mut shape = shape.to_vec();
    let there = shape.first().and_then(|rows| usize::try_from(*rows).ok()).unwrap_or(0);
    let size = values.len() / there.max(1);
    let mut kept = Vec::with_capacity(rows.len() * size);
    for row in rows {
        let row = values.get(row * size..(row + 1) * size);
        kept.extend_from_slice(row.ok_or_else(|| BackendError::Failed("no such row".into()))?);
    }
    if let Some(first) = shape.first_mut() {
        *first = rows.len() as i64;
    }
    Ok(Tensor::from_array((shape, kept)).map_err(failed)?.into_dyn())
}

/// The logits of some places of each row, `[rows, places, vocabulary]`.
fn pick(
    outputs: &SessionOutputs<'_>,
    [rows, width]: [usize; 2],
    places: &[usize],
) -> Result<Vec<f32>, BackendError> {
    let value =
        outputs.get("logits").ok_or_else(|| BackendError::Failed("logits were not computed".into()))?;
    match element(value.dtype()) {
        Some(TensorElementType::Float16) => pick_of(value, [rows, width], places, half::f16::to_f32),
        _ => pick_of(value, [rows, width], places, |value: f32| value),
    }
}

fn pick_of<T: PrimitiveTensorElementType + Copy>(
    value: &DynValue,
    [rows, width]: [usize; 2],
    places: &[usize],
    float: impl Fn(T) -> f32,
) -> Result<Vec<f32>, BackendError> {
    let (shape, values) = value.try_extract_tensor::<T>().map_err(failed)?;
    let size = match **shape {
        [r, w, size] if r == rows as i64 && w == width as i64 => usize::try_from(size).unwrap_or(0),
        _ => 0,
    };
    if size == 0 || places.iter().any(|place| *place >= width) {
        return Err(BackendError::Failed(format!("logits have shape {shape:?} for {rows} x {width}")));
    }
    let mut picked = Vec::with_capacity(rows * places.len() * size);
    for row in values.chunks_exact(width * size) {
        for place in places {
            picked.extend(row[place * size..(place + 1) * size].iter().map(|value| float(*value)));
        }
    }
    match picked.iter().all(|value| value.is_finite()) {
        true => Ok(picked),
        false => Err(BackendError::Failed("the model gives numbers that are not finite".into())),
    }
}
