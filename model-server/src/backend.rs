//! The seam between scheduling and computing: what a batch is, and what runs it.

/// Runs batches of one model.
///
/// Owned by one thread, which calls it with one batch at a time.
pub(crate) trait Backend: Send {
    /// Embeds each row of `batch`; one vector of length 1 for each, in order.
    ///
    /// # Errors
    /// When the engine fails; the next batch may succeed.
    fn embed(&mut self, batch: &Batch) -> Result<Vec<Vec<f32>>, BackendError>;
}

/// An engine's failure, in its own words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BackendError(pub(crate) String);

/// Token rows, padded on the right to the longest of them.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Number of rows.
    pub(crate) rows: usize,
    /// Tokens of each row, padding included.
    pub(crate) length: usize,
    /// Token ids, `[rows, length]`.
    pub(crate) ids: Vec<i64>,
    /// 1 for a token, 0 for padding, `[rows, length]`.
    pub(crate) mask: Vec<i64>,
}

impl Batch {
    /// Pads `rows` with `pad`.
    pub(crate) fn new<'a>(rows: impl ExactSizeIterator<Item = &'a [u32]> + Clone, pad: u32) -> Self {
        let length = rows.clone().map(<[u32]>::len).max().unwrap_or(0);
        let count = rows.len();
        let (mut ids, mut mask) = (Vec::with_capacity(count * length), Vec::with_capacity(count * length));
        for row in rows {
            ids.extend(row.iter().map(|&id| i64::from(id)));
            mask.extend(std::iter::repeat_n(1, row.len()));
            ids.resize(ids.len() + length - row.len(), i64::from(pad));
            mask.resize(ids.len(), 0);
        }
        Self { rows: count, length, ids, mask }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_padded_to_the_longest() {
        let rows: [&[u32]; 3] = [&[5, 6], &[7], &[1, 2, 3]];
        let batch = Batch::new(rows.into_iter(), 9);
        assert_eq!((batch.rows, batch.length), (3, 3));
        assert_eq!(batch.ids, [5, 6, 9, 7, 9, 9, 1, 2, 3]);
        assert_eq!(batch.mask, [1, 1, 0, 1, 0, 0, 1, 1, 1]);
    }
}
