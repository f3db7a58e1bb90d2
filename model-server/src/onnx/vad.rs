//! Silero's graph for detecting speech: `input` (context and samples), `state`, and `sr`.

use std::{borrow::Cow, path::Path};

use ort::{
    session::{Session, SessionInputValue},
    value::{TensorElementType, TensorRef, ValueType},
};

use super::{Placement, Runtime, failed, floats, session};
use crate::{
    backend::BackendError,
    error::Error,
    repository::problem,
    vad::{Engine, STATE},
};

/// A session over the graph.
pub(crate) struct Silero {
    session: Session,
    /// Whether the graph takes the rate; else it is made for 16 kHz alone.
    takes_rate: bool,
}

impl Silero {
    /// Loads the graph. One thread computes it: a step is far too short to share.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn load(runtime: &Runtime, graph: &Path, placement: Placement) -> Result<Self, Error> {
        let session = session(runtime, graph, placement, 1)?;
        let inputs: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
        let outputs: Vec<&str> = session.outputs().iter().map(|output| output.name()).collect();
        if let Some(name) = inputs.iter().find(|name| !["input", "state", "sr"].contains(name)) {
            return Err(problem(graph, format!("wants an input {name:?}; supported: input, state, sr")));
        }
        let there = |names: &[&str], wanted: &[&'static str]| {
            wanted.iter().copied().find(|wanted| !names.contains(wanted))
        };
        if let Some(name) = there(&inputs, &["input", "state"]).or(there(&outputs, &["output", "stateN"])) {
            return Err(problem(graph, format!("has no {name}, which Silero's graphs have")));
        }
        let state = session.inputs().iter().find(|input| input.name() == "state");
        let kept = |kind: &ValueType| match kind {
            ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => {
                shape.len() == 3 && shape[2] == STATE as i64
            }
            _ => false,
        };
        if !state.is_some_and(|state| kept(state.dtype())) {
            return Err(problem(graph, format!("has a state that is not float32 [2, batch, {STATE}]")));
        }
        let takes_rate = inputs.contains(&"sr");
        Ok(Self { session, takes_rate })
    }
}

impl Engine for Silero {
    fn only_16_khz(&self) -> bool {
        !self.takes_rate
    }

    fn run(
        &mut self,
        rate: u32,
        rows: usize,
        input: &[f32],
        state: &mut Vec<f32>,
    ) -> Result<Vec<f32>, BackendError> {
        let rate = [i64::from(rate)];
        let width = input.len() / rows.max(1);
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = vec![
            ("input".into(), TensorRef::from_array_view(([rows, width], input)).map_err(failed)?.into()),
            (
                "state".into(),
                TensorRef::from_array_view(([2, rows, STATE], state.as_slice())).map_err(failed)?.into(),
            ),
        ];
        if self.takes_rate {
            inputs.push((
                "sr".into(),
                TensorRef::from_array_view(((), rate.as_slice())).map_err(failed)?.into(),
            ));
        }
        let outputs = self.session.run(inputs).map_err(failed)?;
        let numbers = |name: &str, count: usize| {
            let value =
                outputs.get(name).ok_or_else(|| BackendError::Failed(format!("{name} was not computed")))?;
            match floats(value)? {
                (_, values) if values.len() == count && values.iter().all(|value| value.is_finite()) => {
                    Ok(values)
                }
                (shape, _) => {
                    Err(BackendError::Failed(format!("{name} has shape {shape:?} for {rows} rows")))
                }
            }
        };
        let probabilities = numbers("output", rows)?;
        let next = numbers("stateN", state.len())?;
        drop(outputs);
        *state = next;
        Ok(probabilities)
    }
}
