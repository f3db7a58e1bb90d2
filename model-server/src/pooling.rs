//! From a vector for each token to one for the text.

use serde::{Deserialize, Serialize};

/// Which of a text's token vectors stand for it.
///
/// # Source
/// Reimers and Gurevych 2019, section 3; the last token as decoder-only embedders are trained.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pooling {
    /// The mean over all of them.
    Mean,
    /// The first one.
    Cls,
    /// The last one that is not padding.
    Last,
}

impl Pooling {
    /// Pools a row, `[length, width]`; `mask` is 1 for each token that counts. Zeros where none does.
    pub(crate) fn pool(self, row: &[f32], width: usize, mask: &[i64]) -> Vec<f32> {
        let mut tokens = row.chunks_exact(width).zip(mask).filter(|(_, mask)| **mask == 1);
        let nothing = || vec![0.0; width];
        match self {
            Self::Cls => tokens.next().map_or_else(nothing, |(token, _)| token.to_vec()),
            Self::Last => tokens.next_back().map_or_else(nothing, |(token, _)| token.to_vec()),
            Self::Mean => {
                let (mut sum, mut count) = (nothing(), 0_u32);
                for (token, _) in tokens {
                    sum.iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
                    count += 1;
                }
                sum.iter_mut().for_each(|sum| *sum /= count.max(1) as f32);
                sum
            }
        }
    }
}

/// The dot product. Eight sums side by side fit vector registers, for which one sum, whose order is fixed,
/// is no work.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Scales `vector` to length 1; `None` when it has no direction, because all is 0.
pub(crate) fn normalise(vector: &mut [f32]) -> Option<()> {
    let length = dot(vector, vector).sqrt();
    if !length.is_normal() {
        return None;
    }
    vector.iter_mut().for_each(|value| *value /= length);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pooling_takes_its_tokens_and_no_padding() {
        let row = [1.0, 2.0, 5.0, 6.0, 9.0, 9.0];
        let pool = |pooling: Pooling| pooling.pool(&row, 2, &[1, 1, 0]);
        assert_eq!(pool(Pooling::Mean), [3.0, 4.0]);
        assert_eq!(pool(Pooling::Cls), [1.0, 2.0]);
        assert_eq!(pool(Pooling::Last), [5.0, 6.0]);
        assert_eq!(Pooling::Mean.pool(&row, 2, &[0, 0, 0]), [0.0, 0.0]);
    }

    #[test]
    fn a_dot_product_has_all_components_whatever_their_number() {
        for count in 0..20_u8 {
            let numbers: Vec<f32> = (0..count).map(f32::from).collect();
            let squares: f32 = numbers.iter().map(|number| number * number).sum();
            // Whole numbers this small have no error.
            assert_eq!(dot(&numbers, &numbers), squares);
        }
    }

    #[test]
    fn a_vector_without_direction_cannot_be_scaled() {
        let mut vector = [3.0, 4.0];
        normalise(&mut vector).unwrap();
        assert_eq!(vector, [0.6, 0.8]);
        assert!(normalise(&mut [0.0, 0.0]).is_none());
        assert!(normalise(&mut [f32::INFINITY, 1.0]).is_none());
    }
}
