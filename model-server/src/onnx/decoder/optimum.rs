//! Optimum's layout: keys and values as long as the sequence.
//!
//! It runs row by row. Rows of equal length could share a step, but each would have its keys and values in a
//! tensor with the others', and to take one out or in, all of them would be copied.

use std::borrow::Cow;

use ort::{
    memory::Allocator,
    session::{Session, SessionInputValue},
    value::{DynTensor, DynValue, Tensor, TensorRef},
};

use super::Tensors;
use crate::{
    backend::BackendError,
    generate::{Decoder, Feed, Shape},
    onnx::{failed, last_floats},
    repository::Language,
};

/// What a slot holds.
struct Held {
    tokens: usize,
    /// Keys and values of each layer, as [`Tensors::past`] has them.
    past: Vec<DynValue>,
}

/// A graph whose keys and values grow with each step.
pub(super) struct Optimum {
    session: Session,
    tensors: Tensors,
    shape: Shape,
    language: Language,
    slots: Vec<Option<Held>>,
}

impl Optimum {
    pub(super) fn new(session: Session, tensors: Tensors, shape: Shape, language: &Language) -> Self {
        let slots = std::iter::repeat_with(|| None).take(shape.slots).collect();
        Self { session, tensors, shape, language: *language, slots }
    }

    fn row(&mut self, row: &Feed<'_>) -> Result<(Vec<f32>, Held), BackendError> {
        let Self { session, tensors, shape, language, slots } = self;
        let held = slots.get(row.slot).and_then(Option::as_ref).filter(|_| row.past > 0);
        if held.map_or(0, |held| held.tokens) != row.past {
            let there = held.map_or(0, |held| held.tokens);
            return Err(BackendError::Failed(format!("a slot holds {there} tokens and not {}", row.past)));
        }
        let (count, total) = (row.tokens.len(), row.past + row.tokens.len());
        let ids: Vec<i64> = row.tokens.iter().map(|&id| i64::from(id)).collect();
        let mask = vec![1i64; total];
        let positions: Vec<i64> = (0i64..).skip(row.past).take(count).collect();
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = vec![
            (
                "input_ids".into(),
                TensorRef::from_array_view(([1, count], ids.as_slice())).map_err(failed)?.into(),
            ),
            (
                "attention_mask".into(),
                TensorRef::from_array_view(([1, total], mask.as_slice())).map_err(failed)?.into(),
            ),
        ];
        if tensors.positions {
            let positions = TensorRef::from_array_view(([1, count], positions.as_slice())).map_err(failed)?;
            inputs.push(("position_ids".into(), positions.into()));
        }
        if tensors.branch {
            let branch = Tensor::from_array(([1], vec![row.past > 0])).map_err(failed)?;
            inputs.push(("use_cache_branch".into(), branch.into()));
        }
        for (at, (name, _)) in tensors.past.iter().enumerate() {
            let value: SessionInputValue<'_> = match held.and_then(|held| held.past.get(at)) {
                Some(past) => past.into(),
                None => {
                    let nothing = [1, language.heads, 0, language.head_size];
                    DynTensor::new(&Allocator::default(), tensors.float, nothing).map_err(failed)?.into()
                }
            };
            inputs.push((name.as_str().into(), value));
        }
        let mut outputs = session.run(inputs).map_err(failed)?;
        let logits = outputs.get("logits").ok_or_else(|| BackendError::Failed("no logits".into()))?;
        let logits = last_floats(logits, shape.vocabulary)?;
        let past = tensors.past.iter().map(|(_, out)| {
            outputs.remove(out).ok_or_else(|| BackendError::Failed(format!("{out} was not computed")))
        });
        Ok((logits, Held { tokens: total, past: past.collect::<Result<_, _>>()? }))
    }
}

impl Decoder for Optimum {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn step(&mut self, rows: &[Feed<'_>]) -> Result<Vec<f32>, BackendError> {
        let mut logits = Vec::with_capacity(rows.len() * self.shape.vocabulary);
        let mut grown = Vec::with_capacity(rows.len());
        for row in rows {
            let (own, held) = self.row(row)?;
            logits.extend(own);
            grown.push((row.slot, held));
        }
        // Only now: a step that fails changes no slot.
        for (slot, held) in grown {
            if let Some(place) = self.slots.get_mut(slot) {
                *place = Some(held);
            }
        }
        Ok(logits)
    }

    fn clear(&mut self, slot: usize) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = None;
        }
    }
}
