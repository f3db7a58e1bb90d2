//! Whether a tensor's elements are as many as its shape says.

use super::{MOST_DIMENSIONS, external::Places};
use crate::{
    ElementType,
    proto::{EXTERNAL, SparseTensorProto, TensorProto},
};

/// Elements of a sparse tensor, zeros included: a runtime writes all of them out.
const MOST_SPREAD_OUT: u64 = 1 << 29;

/// Checks `tensor`; returns what its elements are, and their bytes.
pub(super) fn check(tensor: &TensorProto, places: &mut Places) -> Result<(ElementType, u64), String> {
    let element = ElementType::from_number(tensor.data_type)
        .ok_or_else(|| format!("has elements of an unknown type, {}", tensor.data_type))?;
    if tensor.segment.is_some() {
        return Err("is only a segment of one".into());
    }
    let count = elements(&tensor.dims)?;
    let Some(bits) = element.bits() else {
        return strings(tensor, count).map(|bytes| (element, bytes));
    };
    let bytes = count.checked_mul(bits).ok_or("has more elements than there can be")?.div_ceil(8);
    let raw = tensor.raw_data.as_ref();
    match tensor.data_location {
        0 => match raw {
            Some(raw) if raw.len() as u64 != bytes => {
                let dims = Dims(&tensor.dims);
                return Err(format!("needs {bytes} bytes by its shape {dims}, but has {}", raw.len()));
            }
            Some(_) => only(tensor, None)?,
            None => typed(tensor, element, count)?,
        },
        EXTERNAL => {
            only(tensor, None)?;
            if raw.is_some_and(|raw| !raw.is_empty()) {
                return Err("lies in another file, but has data here as well".into());
            }
            places.check(&tensor.external_data, bytes)?;
        }
        other => return Err(format!("lies at an unknown place, {other}")),
    }
    Ok((element, bytes))
}

/// How many elements a shape has.
fn elements(dims: &[i64]) -> Result<u64, String> {
    if dims.len() > MOST_DIMENSIONS {
        return Err(format!("has {} dimensions; {MOST_DIMENSIONS} are allowed", dims.len()));
    }
    let mut product = 1_i64;
    for &dim in dims {
        if dim < 0 {
            return Err(format!("has a dimension of {dim}"));
        }
        // Zeros are left out, so that one of them does not hide the others' overflow.
        product = product.checked_mul(dim.max(1)).ok_or("has more elements than there can be")?;
    }
    Ok(if dims.contains(&0) { 0 } else { product.unsigned_abs() })
}

/// Checks elements that are kept as numbers of protobuf.
fn typed(tensor: &TensorProto, element: ElementType, count: u64) -> Result<(), String> {
    use ElementType as E;
    let (field, wanted) = match element {
        E::Float => (0, count),
        E::Complex64 => (0, 2 * count),
        E::Double => (3, count),
        E::Complex128 => (3, 2 * count),
        E::Int64 => (2, count),
        E::Uint32 | E::Uint64 => (4, count),
        E::Uint4 | E::Int4 | E::Float4E2M1 => (1, count.div_ceil(2)),
        E::Uint2 | E::Int2 => (1, count.div_ceil(4)),
        _ => (1, count),
    };
    only(tensor, Some(field))?;
    let (name, there) = lists(tensor)[field];
    if there as u64 != wanted {
        let dims = Dims(&tensor.dims);
        return Err(format!("needs {wanted} numbers in {name} by its shape {dims}, but has {there}"));
    }
    Ok(())
}

fn strings(tensor: &TensorProto, count: u64) -> Result<u64, String> {
    if tensor.data_location != 0 || tensor.raw_data.is_some() {
        return Err("has strings, but not in string_data".into());
    }
    only(tensor, Some(5))?;
    let there = tensor.string_data.len();
    if there as u64 != count {
        return Err(format!("needs {count} strings by its shape {}, but has {there}", Dims(&tensor.dims)));
    }
    Ok(tensor.string_data.iter().map(|string| string.len() as u64).sum())
}

/// The lists of numbers that a tensor may have, and how many are in each.
fn lists(tensor: &TensorProto) -> [(&'static str, usize); 6] {
    [
        ("float_data", tensor.float_data.len()),
        ("int32_data", tensor.int32_data.len()),
        ("int64_data", tensor.int64_data.len()),
        ("double_data", tensor.double_data.len()),
        ("uint64_data", tensor.uint64_data.len()),
        ("string_data", tensor.string_data.len()),
    ]
}

/// Refuses data in other lists than the one that counts: runtimes differ in which they read.
fn only(tensor: &TensorProto, allowed: Option<usize>) -> Result<(), String> {
    let lists = lists(tensor);
    let other = lists.iter().enumerate().find(|(at, (_, there))| allowed != Some(*at) && *there > 0);
    match other {
        Some((_, (name, _))) => Err(format!("has numbers in {name}, where its type has none")),
        None => Ok(()),
    }
}

/// Checks a tensor of which only some elements are written down.
pub(super) fn check_sparse(
    sparse: &SparseTensorProto,
    places: &mut Places,
) -> Result<(ElementType, u64), String> {
    let (Some(values), Some(indices)) = (&sparse.values, &sparse.indices) else {
        return Err("is sparse, and has no values or no indices".into());
    };
    let (element, bytes) = check(values, places)?;
    check(indices, places)?;
    let all = elements(&sparse.dims)?;
    if all > MOST_SPREAD_OUT {
        return Err(format!("is sparse, and has {all} elements; {MOST_SPREAD_OUT} are allowed"));
    }
    let count = elements(&values.dims)?;
    let rank = sparse.dims.len() as i64;
    let flat = *indices.dims == [count as i64];
    if values.dims.len() != 1 || !flat && *indices.dims != [count as i64, rank] {
        return Err("is sparse, and its indices do not fit its values".into());
    }
    let places: Vec<i64> = if indices.data_type != ElementType::Int64.number() || indices.data_location != 0 {
        return Err("is sparse, and its indices are not int64 in the same file".into());
    } else if let Some(raw) = &indices.raw_data {
        let chunks = raw.chunks_exact(8).map(|chunk| chunk.try_into().unwrap_or_default());
        chunks.map(i64::from_le_bytes).collect()
    } else {
        indices.int64_data.clone()
    };
    let inside = |at: usize, place: i64| {
        let size = if flat { all as i64 } else { sparse.dims[at % sparse.dims.len()] };
        (0..size).contains(&place)
    };
    if places.iter().enumerate().all(|(at, &place)| inside(at, place)) {
        Ok((element, bytes))
    } else {
        Err("is sparse, and has an index outside of its shape".into())
    }
}

/// A shape in an error; at most [`MOST_DIMENSIONS`] are ever shown.
struct Dims<'a>(&'a [i64]);

impl std::fmt::Display for Dims<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> (tempfile::TempDir, Places) {
        let folder = tempfile::tempdir().unwrap();
        let graph = folder.path().join("model.onnx");
        std::fs::write(&graph, "").unwrap();
        let places = Places::new(&graph, folder.path()).unwrap();
        (folder, places)
    }

    fn tensor(element: ElementType, dims: &[i64], raw: usize) -> TensorProto {
        TensorProto {
            dims: dims.into(),
            data_type: element.number(),
            raw_data: Some(vec![0; raw].into()),
            ..TensorProto::default()
        }
    }

    #[track_caller]
    fn refused(tensor: &TensorProto, expected: &str) {
        let error = check(tensor, &mut places().1).unwrap_err();
        assert!(error.contains(expected) && error.len() < 1600, "{error}");
    }

    #[test]
    fn raw_data_must_be_as_long_as_the_shape_says() {
        use ElementType as E;
        for (element, dims, bytes) in [
            (E::Float, &[2, 3][..], 24),
            (E::Float, &[], 4),
            (E::Int64, &[0, 7], 0),
            (E::Int4, &[3], 2),
            (E::Uint2, &[5], 2),
            (E::Bfloat16, &[3], 6),
            (E::Complex128, &[1], 16),
        ] {
            let fits = tensor(element, dims, bytes);
            assert_eq!(check(&fits, &mut places().1).unwrap(), (element, bytes as u64));
            refused(&tensor(element, dims, bytes + 1), "bytes by its shape");
        }
    }

    #[test]
    fn shapes_that_cannot_be_are_refused() {
        use ElementType::Float;
        refused(&tensor(Float, &[-1], 0), "a dimension of -1");
        refused(&tensor(Float, &[i64::MAX, 2], 0), "more elements than there can be");
        refused(&tensor(Float, &[i64::MAX], 0), "more elements than there can be");
        refused(&tensor(Float, &[1 << 40, 1 << 40, 0], 0), "more elements than there can be");
        refused(&tensor(Float, &[1; 65], 4), "65 dimensions");
        refused(&tensor(Float, &[1 << 50], 4), "but has 4");
        for number in [0, 27, -1] {
            refused(&TensorProto { data_type: number, ..tensor(Float, &[1], 4) }, "unknown type");
        }
        refused(&TensorProto { data_location: 2, ..tensor(Float, &[1], 4) }, "unknown place, 2");
    }

    #[test]
    fn numbers_of_protobuf_are_counted() {
        use ElementType as E;
        let base = |element, dims: &[i64]| TensorProto { raw_data: None, ..tensor(element, dims, 0) };
        let fits = [
            TensorProto { float_data: vec![0.0; 6], ..base(E::Float, &[2, 3]) },
            TensorProto { float_data: vec![0.0; 4], ..base(E::Complex64, &[2]) },
            TensorProto { int32_data: vec![0; 2], ..base(E::Int4, &[3]) },
            TensorProto { int32_data: vec![0; 3], ..base(E::Float16, &[3]) },
            TensorProto { int64_data: vec![0], ..base(E::Int64, &[]) },
            TensorProto { uint64_data: vec![0; 2], ..base(E::Uint32, &[2]) },
            TensorProto { double_data: vec![0.0; 2], ..base(E::Double, &[2]) },
            TensorProto { string_data: vec!["ab".into(), "c".into()], ..base(E::String, &[2]) },
            base(E::Float, &[0]),
        ];
        for tensor in fits {
            check(&tensor, &mut places().1).unwrap();
            refused(&TensorProto { dims: vec![7], ..tensor }, "[7], but has");
        }
        refused(&TensorProto { int64_data: vec![0], ..base(E::Float, &[1]) }, "numbers in int64_data");
        refused(&TensorProto { float_data: vec![0.0], ..tensor(E::Float, &[1], 4) }, "numbers in float_data");
        refused(&tensor(E::String, &[1], 4), "not in string_data");
    }

    #[test]
    fn sparse_tensors_stay_inside_their_shape() {
        let sparse = |dims: &[i64], indices: &[i64], shape: &[i64]| SparseTensorProto {
            values: Some(tensor(ElementType::Float, &[2], 8)),
            indices: Some(TensorProto {
                dims: shape.into(),
                data_type: ElementType::Int64.number(),
                int64_data: indices.into(),
                ..TensorProto::default()
            }),
            dims: dims.into(),
        };
        let mut places = places().1;
        let mut check = |sparse: &SparseTensorProto| check_sparse(sparse, &mut places);
        check(&sparse(&[3, 4], &[0, 11], &[2])).unwrap();
        check(&sparse(&[3, 4], &[0, 0, 2, 3], &[2, 2])).unwrap();
        for (wrong, expected) in [
            (sparse(&[3, 4], &[0, 12], &[2]), "outside"),
            (sparse(&[3, 4], &[0, -1], &[2]), "outside"),
            (sparse(&[3, 4], &[0, 0, 3, 3], &[2, 2]), "outside"),
            (sparse(&[], &[0, 0], &[2, 0]), "indices"),
            (sparse(&[3, 4], &[0], &[1]), "do not fit"),
            (sparse(&[1 << 40], &[0, 1], &[2]), "1099511627776 elements"),
            (SparseTensorProto::default(), "no values"),
        ] {
            let error = check(&wrong).unwrap_err();
            assert!(error.contains(expected) || error.contains("numbers"), "{error}");
        }
    }
}
