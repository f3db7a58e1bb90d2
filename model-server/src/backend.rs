//! The seam between scheduling and computing: what a batch is, and what runs it.
//!
//! A [`Backend`] knows tensors and nothing of texts, tasks or callers. What its numbers mean is decided
//! by the [`Reading`] that a model was loaded with.

use crate::pooling::Pooling;

/// Runs batches of one model. One thread at a time calls it, with one batch at a time.
pub(crate) trait Backend: Send {
    /// Computes `batch`. The values that the output has for padding mean nothing.
    ///
    /// # Errors
    /// When the engine fails; the next batch may succeed.
    fn run(&mut self, batch: &Batch) -> Result<Output, BackendError>;
}

/// An engine's failure, in its own words.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BackendError {
    /// The memory was not enough for this batch; a smaller one may do.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// A row of tokens: a text, or a pair of texts, as the model reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// Token ids, special ones included.
    pub(crate) ids: Vec<u32>,
    /// Where the second segment begins; the length of `ids` where there is none.
    pub(crate) second: usize,
    /// Tokens that others attend to, from the first on. Late interaction's queries are filled up with
    /// tokens that get a vector and that nobody attends to.
    pub(crate) attended: usize,
}

impl Row {
    /// A row of one segment.
    pub(crate) fn single(ids: Vec<u32>) -> Self {
        let length = ids.len();
        Self { ids, second: length, attended: length }
    }
}

/// Token rows, padded on the right to the longest of them.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Number of rows.
    pub(crate) rows: usize,
    /// Tokens of each row, padding included.
    pub(crate) length: usize,
    /// Token ids, `[rows, length]`.
    pub(crate) ids: Vec<i64>,
    /// 1 for a token that is attended to, else 0; `[rows, length]`.
    pub(crate) mask: Vec<i64>,
    /// 0 in the first segment and in padding, 1 in the second; `[rows, length]`.
    pub(crate) types: Vec<i64>,
    /// Tokens of each row, padding left out.
    pub(crate) lengths: Vec<usize>,
}

impl Batch {
    /// Pads `rows` with `pad`.
    pub(crate) fn new<'a>(rows: impl ExactSizeIterator<Item = &'a Row> + Clone, pad: u32) -> Self {
        let length = rows.clone().map(|row| row.ids.len()).max().unwrap_or(0);
        let count = rows.len();
        let filled = |value| vec![value; count * length];
        let (mut ids, mut mask, mut types) = (filled(i64::from(pad)), filled(0), filled(0));
        let mut lengths = Vec::with_capacity(count);
        for (at, row) in (0..).step_by(length.max(1)).zip(rows) {
            let end = at + row.ids.len();
            ids[at..end].iter_mut().zip(&row.ids).for_each(|(to, &id)| *to = i64::from(id));
            mask[at..at + row.attended.min(row.ids.len())].fill(1);
            types[at + row.second.min(row.ids.len())..end].fill(1);
            lengths.push(row.ids.len());
        }
        Self { rows: count, length, ids, mask, types, lengths }
    }

    /// Tokens, padding included.
    pub(crate) fn tokens(&self) -> usize {
        self.rows * self.length
    }
}

/// What a graph gives for a batch.
#[derive(Debug)]
pub(crate) struct Output {
    /// The numbers: `[rows, length, width]` where `each_token`, else `[rows, width]`.
    pub(crate) values: Vec<f32>,
    /// Components of a vector.
    pub(crate) width: usize,
    /// Whether there is a vector for each token, or one for each row.
    pub(crate) each_token: bool,
}

impl Output {
    /// Takes the output `name` of `batch`, whose shape is `dims`, for what that says.
    ///
    /// # Errors
    /// When it is neither `[rows, length, width]` nor `[rows, width]`.
    pub(crate) fn new(
        name: &str,
        dims: &[i64],
        values: Vec<f32>,
        batch: &Batch,
    ) -> Result<Self, BackendError> {
        let sizes: Option<Vec<usize>> = dims.iter().map(|&size| usize::try_from(size).ok()).collect();
        match sizes.as_deref() {
            Some(&[rows, length, width]) if rows == batch.rows && length == batch.length => {
                Ok(Self { values, width, each_token: true })
            }
            Some(&[rows, width]) if rows == batch.rows => Ok(Self { values, width, each_token: false }),
            _ => {
                let unfit = format!("{name} has shape {dims:?} for {} x {}", batch.rows, batch.length);
                Err(BackendError::Failed(unfit))
            }
        }
    }
}

/// What is kept of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// One vector for each row, pooled where the graph gives one for each token.
    Pooled(Pooling),
    /// One vector for each row, as the graph gives it.
    Rows,
    /// A vector for each token of each row, padding left out, one after the other.
    Tokens,
}

impl Reading {
    /// Takes each row's numbers out of the output of `batch`.
    ///
    /// # Errors
    /// When the output does not have the shape, or has a number that is not finite.
    pub(crate) fn rows(self, output: &Output, batch: &Batch) -> Result<Vec<Vec<f32>>, BackendError> {
        let Output { values, width, each_token } = output;
        let vectors = if *each_token { batch.tokens() } else { batch.rows };
        if *width == 0 || values.len() != vectors * width {
            let problem = format!("{} values for {vectors} vectors of {width}", values.len());
            return Err(BackendError::Failed(problem));
        }
        let of_row = values.chunks_exact(values.len() / batch.rows.max(1)).zip(&batch.lengths);
        let rows: Vec<Vec<f32>> = match (self, each_token) {
            (Self::Pooled(pooling), true) => of_row
                .zip(batch.mask.chunks_exact(batch.length.max(1)))
                .map(|((row, _), mask)| pooling.pool(row, *width, mask))
                .collect(),
            (Self::Pooled(_) | Self::Rows, false) => of_row.map(|(row, _)| row.to_vec()).collect(),
            (Self::Tokens, true) => of_row.map(|(row, length)| row[..length * width].to_vec()).collect(),
            (Self::Rows, true) => return Err(BackendError::Failed("a vector for each token".into())),
            (Self::Tokens, false) => return Err(BackendError::Failed("no vector for each token".into())),
        };
        if rows.iter().flatten().all(|value| value.is_finite()) {
            Ok(rows)
        } else {
            Err(BackendError::Failed("the model gives numbers that are not finite".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[u32]]) -> Vec<Row> {
        rows.iter().map(|ids| Row::single(ids.to_vec())).collect()
    }

    #[test]
    fn rows_are_padded_to_the_longest() {
        let mut rows = rows(&[&[5, 6], &[7], &[1, 2, 3]]);
        rows[2].second = 1;
        rows[2].attended = 2;
        let batch = Batch::new(rows.iter(), 9);
        assert_eq!((batch.rows, batch.length, batch.tokens()), (3, 3, 9));
        assert_eq!(batch.lengths, [2, 1, 3]);
        assert_eq!(batch.ids, [5, 6, 9, 7, 9, 9, 1, 2, 3]);
        assert_eq!(batch.mask, [1, 1, 0, 1, 0, 0, 1, 1, 0]);
        assert_eq!(batch.types, [0, 0, 0, 0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn padding_has_no_part_in_what_is_read() {
        let batch = Batch::new(rows(&[&[1, 2], &[1]]).iter(), 0);
        let values = vec![1.0, 2.0, 5.0, 6.0, 3.0, 4.0, f32::NAN, f32::NAN];
        let output = Output { values, width: 2, each_token: true };
        let read = |reading: Reading| reading.rows(&output, &batch).unwrap();
        assert_eq!(read(Reading::Pooled(Pooling::Mean)), [[3.0, 4.0], [3.0, 4.0]]);
        assert_eq!(read(Reading::Tokens), [vec![1.0, 2.0, 5.0, 6.0], vec![3.0, 4.0]]);
    }

    #[test]
    fn an_output_that_is_not_what_it_should_be_is_refused() {
        let batch = Batch::new(rows(&[&[1, 2], &[1]]).iter(), 0);
        let output = |values: &[f32], each_token| Output { values: values.to_vec(), width: 2, each_token };
        assert!(Reading::Rows.rows(&output(&[0.0; 3], false), &batch).is_err());
        assert!(Reading::Rows.rows(&output(&[0.0; 8], true), &batch).is_err());
        assert!(Reading::Tokens.rows(&output(&[0.0; 4], false), &batch).is_err());
        assert!(Reading::Rows.rows(&output(&[0.0, 0.0, f32::NAN, 0.0], false), &batch).is_err());
        assert!(Reading::Rows.rows(&output(&[f32::INFINITY; 4], false), &batch).is_err());
        assert!(Reading::Rows.rows(&output(&[0.0; 4], false), &batch).is_ok());
    }
}
