//! From a vector for each token to one for the text.

use crate::backend::{BackendError, Batch};

/// The mean over each row's tokens, padding left out, scaled to length 1.
///
/// `hidden` is `[rows, length, width]`.
///
/// # Errors
/// When a sum is not a finite number: the model is broken.
///
/// # Source
/// Reimers and Gurevych 2019, section 3 (mean strategy).
pub(crate) fn mean(hidden: &[f32], width: usize, batch: &Batch) -> Result<Vec<Vec<f32>>, BackendError> {
    let length = batch.length.max(1);
    let rows = hidden.chunks_exact(length * width).zip(batch.mask.chunks_exact(length));
    rows.map(|(row, mask)| {
        let mut sum = vec![0.0; width];
        for (token, _) in row.chunks_exact(width).zip(mask).filter(|(_, mask)| **mask == 1) {
            sum.iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
        }
        normalise(sum)
    })
    .collect()
}

/// Scales `vector` to length 1; the mean's own division falls away in it.
///
/// # Errors
/// When it has no direction: a value is not finite, or all are 0.
pub(crate) fn normalise(mut vector: Vec<f32>) -> Result<Vec<f32>, BackendError> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if !length.is_normal() {
        return Err(BackendError(format!("the model gave a vector of length {length}")));
    }
    vector.iter_mut().for_each(|value| *value /= length);
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_has_no_part_in_the_mean() {
        let rows: [&[u32]; 2] = [&[1, 2], &[1]];
        let batch = Batch::new(rows.into_iter(), 0);
        let hidden = [1.0, 2.0, 5.0, 6.0, 3.0, 4.0, f32::NAN, f32::NAN];
        let vectors = mean(&hidden, 2, &batch).unwrap();
        assert_eq!(vectors[1], [0.6, 0.8]);
        assert!((vectors[0][0] - 0.6).abs() < 1e-6 && (vectors[0][1] - 0.8).abs() < 1e-6);
    }

    #[test]
    fn a_vector_without_direction_is_refused() {
        assert!(normalise(vec![0.0, 0.0]).is_err());
        assert!(normalise(vec![f32::NAN, 1.0]).is_err());
        assert!(normalise(vec![f32::INFINITY, 1.0]).is_err());
    }
}
