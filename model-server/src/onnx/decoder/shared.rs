//! onnxruntime-genai's layout: keys and values of full length, which GroupQueryAttention writes into.
//!
//! Each layer has one buffer for all slots, which is the graph's input and its output at once. Slots are its
//! first dimension, so that the first so many of them are a tensor as well: a step runs over the slots up to the
//! last one that takes part. Those between that take no part get a token past their end, which their next
//! step overwrites. A prompt is read by itself, over its slot's part of the buffers.

use std::{
    ffi::{CStr, CString, c_char},
    ptr,
};

use ort::{
    AsPointer as _,
    session::Session,
    sys::OrtValue,
    value::{PrimitiveTensorElementType, TensorRef, TensorRefMut},
};

use super::Tensors;
use crate::{
    backend::BackendError,
    generate::{Decoder, Feed, Shape},
    onnx::failed,
    repository::Language,
};

/// A number that keys, values and logits are made of.
pub(super) trait Float:
    PrimitiveTensorElementType + Copy + Default + Into<f32> + Send + std::fmt::Debug + 'static
{
}

impl Float for f32 {}
impl Float for half::f16 {}

/// A graph that writes keys and values where they are.
pub(super) struct Shared<T> {
    session: Session,
    inputs: Vec<CString>,
    outputs: Vec<CString>,
    positions: bool,
    shape: Shape,
    heads: usize,
    head_size: usize,
    /// Keys and values of each layer, `[slots, heads, context, head_size]`.
    buffers: Vec<Vec<T>>,
    /// Tokens that each slot holds.
    held: Vec<usize>,
    logits: Vec<T>,
}

impl<T: Float> Shared<T> {
    /// Takes the memory for all slots at once, so that it cannot be wanting later.
    ///
    /// # Errors
    /// When there is not so much.
    pub(super) fn new(
        session: Session,
        tensors: Tensors,
        shape: Shape,
        language: &Language,
    ) -> Result<Self, String> {
        let length = shape.slots * language.heads * shape.context * language.head_size;
        let mut buffers = Vec::with_capacity(tensors.past.len());
        for _ in &tensors.past {
            let mut buffer = Vec::new();
            buffer.try_reserve_exact(length).map_err(|error| error.to_string())?;
            buffer.resize(length, T::default());
            buffers.push(buffer);
        }
        let name = |name: &str| CString::new(name).map_err(|error| error.to_string());
        let (mut inputs, mut outputs) =
            (vec![name("input_ids")?, name("attention_mask")?], vec![name("logits")?]);
        if tensors.positions {
            inputs.push(name("position_ids")?);
        }
        for (past, present) in &tensors.past {
            inputs.push(name(past)?);
            outputs.push(name(present)?);
        }
        Ok(Self {
            session,
            inputs,
            outputs,
            positions: tensors.positions,
            shape,
            heads: language.heads,
            head_size: language.head_size,
            buffers,
            held: vec![0; shape.slots],
            logits: Vec::new(),
        })
    }

    /// Runs the graph over slots `first..first + rows`; `ids` are the tokens of each, `count` of them, and
    /// `totals` what each slot holds with them. Logits are in `self.logits` then, `[rows, count, vocabulary]`.
    fn run(&mut self, first: usize, ids: &[i64], count: usize, totals: &[usize]) -> Result<(), BackendError> {
        let rows = totals.len();
        let width = totals.iter().max().copied().unwrap_or(0);
        let mut mask = vec![0i64; rows * width];
        for (row, total) in mask.chunks_mut(width.max(1)).zip(totals) {
            row[..*total].fill(1);
        }
        let mut positions = Vec::new();
        if self.positions {
            for total in totals {
                positions.extend((0i64..).skip(total - count).take(count));
            }
        }
        let wanted = rows * count * self.shape.vocabulary;
        let more = wanted.saturating_sub(self.logits.len());
        self.logits.try_reserve_exact(more).map_err(|error| BackendError::OutOfMemory(error.to_string()))?;
        self.logits.resize(wanted, T::default());
        let view = |values| TensorRef::<i64>::from_array_view(values).map_err(failed);
        let ids = view(([rows, count], ids))?;
        let mask = view(([rows, width], mask.as_slice()))?;
        let positions = match self.positions {
            true => Some(view(([rows, count], positions.as_slice()))?),
            false => None,
        };
        let slot = self.heads * self.shape.context * self.head_size;
        let dims = [rows, self.heads, self.shape.context, self.head_size];
        let mut caches = Vec::with_capacity(self.buffers.len());
        for buffer in &mut self.buffers {
            let part = buffer.get_mut(first * slot..(first + rows) * slot);
            let part = part.ok_or_else(|| BackendError::Failed("there is no such slot".into()))?;
            caches.push(TensorRefMut::from_array_view_mut((dims, part)).map_err(failed)?);
        }
        let dims = [rows, count, self.shape.vocabulary];
        let logits = TensorRefMut::from_array_view_mut((dims, self.logits.as_mut_slice())).map_err(failed)?;
        let mut inputs: Vec<*const OrtValue> = vec![ids.ptr(), mask.ptr()];
        inputs.extend(positions.as_ref().map(|positions| positions.ptr()));
        inputs.extend(caches.iter().map(|cache| cache.ptr()));
        let mut outputs: Vec<*mut OrtValue> = vec![logits.ptr().cast_mut()];
        outputs.extend(caches.iter().map(|cache| cache.ptr().cast_mut()));
        run_in_place(&mut self.session, &self.inputs, &inputs, &self.outputs, &mut outputs)
    }

    /// Copies the logits after the last token of a row of the last run.
    fn last(&self, row: usize, count: usize, to: &mut [f32]) {
        let end = (row + 1) * count * self.shape.vocabulary;
        let from = &self.logits[end - self.shape.vocabulary..end];
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = from.into());
    }
}

/// Runs a graph some of whose outputs are the memory of its inputs, which the library's own binding does not
/// allow for views. The names and values are as many as each other.
#[expect(unsafe_code, reason = "the runtime's call takes inputs and outputs in place only as pointers")]
fn run_in_place(
    session: &mut Session,
    input_names: &[CString],
    inputs: &[*const OrtValue],
    output_names: &[CString],
    outputs: &mut [*mut OrtValue],
) -> Result<(), BackendError> {
    if input_names.len() != inputs.len() || output_names.len() != outputs.len() {
        return Err(BackendError::Failed("names and values are not as many".into()));
    }
    let names =
        |names: &[CString]| -> Vec<*const c_char> { names.iter().map(|name| CStr::as_ptr(name)).collect() };
    let (input_names, output_names) = (names(input_names), names(output_names));
    // SAFETY: the session, the names and the values outlive the call and are as many as it is told; nobody else
    // has the session or the values meanwhile, since both are borrowed for writing. The call stores nothing in
    // `outputs`, none of which is null. GroupQueryAttention is made for a past and a present that are one.
    let status = unsafe {
        let run = (ort::api().Run)(
            session.ptr_mut(),
            ptr::null(),
            input_names.as_ptr(),
            inputs.as_ptr(),
            inputs.len(),
            output_names.as_ptr(),
            output_names.len(),
            outputs.as_mut_ptr(),
        );
        ort::Error::result_from_status(run)
    };
    status.map_err(failed)
}

impl<T: Float> Decoder for Shared<T> {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn step(&mut self, rows: &[Feed<'_>]) -> Result<Vec<f32>, BackendError> {
        for row in rows {
            let (total, holds) = (row.past + row.tokens.len(), self.held.get(row.slot).copied());
            if row.tokens.is_empty()
                || total > self.shape.context
                || holds.is_none_or(|holds| holds < row.past)
            {
                let problem =
                    format!("{} tokens after {} do not fit a slot of {holds:?}", row.tokens.len(), row.past);
                return Err(BackendError::Failed(problem));
            }
        }
        let width = self.shape.vocabulary;
        let mut logits = vec![0.0; rows.len() * width];
        // Prompts one by one, and all that write together.
        let (mut writers, mut apart): (Vec<usize>, Vec<usize>) =
            (0..rows.len()).partition(|&at| rows[at].tokens.len() == 1);
        if writers.len() == 1 {
            apart.append(&mut writers);
        }
        for at in apart {
            let row = &rows[at];
            let ids: Vec<i64> = row.tokens.iter().map(|&id| i64::from(id)).collect();
            self.run(row.slot, &ids, ids.len(), &[row.past + ids.len()])?;
            self.last(0, ids.len(), &mut logits[at * width..(at + 1) * width]);
        }
        if let Some(end) = writers.iter().map(|&at| rows[at].slot + 1).max() {
            // Whose text goes on always has room for one more.
            let spare = |held: &usize| (held + 1).min(self.shape.context);
            let mut totals: Vec<usize> = self.held[..end].iter().map(spare).collect();
            let mut ids = vec![0; end];
            for row in writers.iter().map(|&at| &rows[at]) {
                ids[row.slot] = i64::from(row.tokens[0]);
                totals[row.slot] = row.past + 1;
            }
            self.run(0, &ids, 1, &totals)?;
            for at in writers {
                self.last(rows[at].slot, 1, &mut logits[at * width..(at + 1) * width]);
            }
        }
        for row in rows {
            self.held[row.slot] = row.past + row.tokens.len();
        }
        Ok(logits)
    }

    fn clear(&mut self, slot: usize) {
        if let Some(held) = self.held.get_mut(slot) {
            *held = 0;
        }
    }
}
