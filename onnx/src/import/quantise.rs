//! Weights as 8-bit integers and scales. Zero is always exact: everything is symmetric about it.

/// Weights that share a scale in [`blocks`].
pub(super) const BLOCK: usize = 32;

/// Turns `rows`, each of `width` values, into columns.
pub(super) fn transpose<T: Copy + Default>(rows: &[T], width: usize) -> Vec<T> {
    let height = rows.len() / width;
    let mut columns = vec![T::default(); rows.len()];
    for (row, values) in rows.chunks_exact(width).enumerate() {
        for (column, &value) in values.iter().enumerate() {
            columns[column * height + row] = value;
        }
    }
    columns
}

/// Each row of `width` values as integers from `-largest` to `largest`, and its scale: a value is near
/// to its integer times the scale.
pub(super) fn rows(values: &[f32], width: usize, largest: i8) -> (Vec<i8>, Vec<f32>) {
    let scales: Vec<f32> = values.chunks_exact(width).map(|row| scale(row, largest)).collect();
    let quantised = values.chunks_exact(width).zip(&scales);
    let quantised =
        quantised.flat_map(|(row, &scale)| row.iter().map(move |&value| round(value, scale, largest)));
    (quantised.collect(), scales)
}

/// Each row in blocks of [`BLOCK`] values, as bytes of which 128 is zero, and each block's scale. The
/// last block of a row is filled up with zeros.
pub(super) fn blocks(values: &[f32], width: usize) -> (Vec<u8>, Vec<f32>) {
    let per_row = width.div_ceil(BLOCK);
    let count = values.len() / width * per_row;
    let (mut quantised, mut scales) = (Vec::with_capacity(count * BLOCK), Vec::with_capacity(count));
    for block in values.chunks_exact(width).flat_map(|row| row.chunks(BLOCK)) {
        let scale = scale(block, i8::MAX);
        scales.push(scale);
        quantised.extend(block.iter().map(|&value| round(value, scale, i8::MAX).cast_unsigned() ^ 0x80));
        quantised.resize(scales.len() * BLOCK, 0x80);
    }
    (quantised, scales)
}

fn scale(values: &[f32], largest: i8) -> f32 {
    let most = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let scale = most / f32::from(largest);
    // All zero, or nearly: any scale does.
    if scale > 0.0 { scale } else { 1.0 }
}

fn round(value: f32, scale: f32, largest: i8) -> i8 {
    let largest = f32::from(largest);
    (value / scale).round_ties_even().clamp(-largest, largest) as i8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_become_columns() {
        assert_eq!(transpose(&[1, 2, 3, 4, 5, 6], 3), [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn blocks_are_filled_up_with_zeros() {
        let (bytes, scales) = blocks(&[1.0, -2.0, 0.0, 4.0, 0.0, 0.0], 3);
        assert_eq!(scales, [2.0 / 127.0, 4.0 / 127.0]);
        assert_eq!(bytes.len(), 2 * BLOCK);
        assert_eq!(bytes[..4], [128 + 64, 1, 128, 128]);
        assert_eq!(bytes[BLOCK..BLOCK + 4], [255, 128, 128, 128]);
        assert!(bytes[3..BLOCK].iter().all(|&byte| byte == 128));
    }

    proptest! {
        /// Rounding is off by half a step of the row's own scale, whatever the values.
        #[test]
        fn a_value_is_near_to_its_integer_times_the_scale(
            values in prop::collection::vec(-1e30_f32..1e30, 1..200),
            largest in prop::sample::select(vec![64_i8, 127]),
        ) {
            let width = values.len();
            let (integers, scales) = rows(&values, width, largest);
            let (bytes, block_scales) = blocks(&values, width);
            for (at, &value) in values.iter().enumerate() {
                prop_assert!((f32::from(integers[at]) * scales[0] - value).abs() <= 0.501 * scales[0]);
                let scale = block_scales[at / BLOCK];
                let near = (f32::from(bytes[at]) - 128.0) * scale;
                prop_assert!((near - value).abs() <= 0.501 * scale);
            }
        }
    }
}
