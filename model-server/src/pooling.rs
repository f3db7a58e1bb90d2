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

/// Scales `vector` to length 1; `None` when it has no direction, because all is 0.
pub(crate) fn normalise(vector: &mut [f32]) -> Option<()> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
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
    fn a_vector_without_direction_cannot_be_scaled() {
        let mut vector = [3.0, 4.0];
        normalise(&mut vector).unwrap();
        assert_eq!(vector, [0.6, 0.8]);
        assert!(normalise(&mut [0.0, 0.0]).is_none());
        assert!(normalise(&mut [f32::INFINITY, 1.0]).is_none());
    }
}
