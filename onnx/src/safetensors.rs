//! Safetensors files: a length, a JSON header that says where each tensor lies, and the tensors.
//!
//! [`Safetensors`] is the weights in a model's folder, in one file or in several with an index.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    ElementType,
    import::{ImportError, settings},
    short::short,
};

/// A header is a few hundred bytes a tensor; more than this is not one.
const LARGEST_HEADER: u64 = 16 << 20;
/// Files that one model's weights may be spread over.
const MOST_SHARDS: usize = 1024;
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
}

#[derive(Debug)]
struct Entry {
    shard: usize,
    element: ElementType,
    shape: Vec<usize>,
    from: u64,
    bytes: usize,
}

/// The float tensors of a model, read one by one when they are asked for. Others, such as buffers of
/// positions, are left out.
#[derive(Debug)]
pub struct Safetensors {
    path: PathBuf,
    shards: Vec<Shard>,
    entries: BTreeMap<String, Entry>,
}

impl Safetensors {
    /// Reads the headers of the weights in `folder`: `model.safetensors`, or the files that
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(folder: &Path) -> Result<Self, ImportError> {
        let single = folder.join("model.safetensors");
        let index = folder.join("model.safetensors.index.json");
        let sharded = !single.exists() && index.exists();
        let (path, files) =
            if sharded { (index.clone(), shards(&index)?) } else { (single.clone(), vec![single]) };
        let mut tensors = Self { path, shards: Vec::new(), entries: BTreeMap::new() };
        for file in files {
            tensors.add(file)?;
        }
        Ok(tensors)
    }

    /// The file that stands for the weights: the only one, or the index.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that hold tensors.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// The tensors' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Bytes of the tensors, by what their elements are.
    #[must_use]
    pub fn bytes(&self) -> BTreeMap<ElementType, u64> {
        let mut bytes = BTreeMap::new();
        for entry in self.entries.values() {
            *bytes.entry(entry.element).or_default() += entry.bytes as u64;
        }
        bytes
    }

    /// The shape of a tensor; `None` where there is no float tensor of this name.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// What is wrong with the weights, as an error that names their file.
    #[must_use]
    pub fn problem(&self, problem: String) -> ImportError {
        ImportError::Weights { path: self.path.clone(), problem }
    }

    fn add(&mut self, path: PathBuf) -> Result<(), ImportError> {
        let unreadable = |source| ImportError::Unreadable { path: path.clone(), source };
        let mut file = File::open(&path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let entries = header(&mut file, size, self.shards.len())
            .map_err(|problem| ImportError::Weights { path: path.clone(), problem })?;
        for (name, entry) in entries {
            if self.entries.contains_key(&name) {
                return Err(self.problem(format!("{} is in two files", short(&name))));
            }
            self.entries.insert(name, entry);
        }
        self.shards.push(Shard { path, file });
        Ok(())
    }

    /// The bytes of a tensor of this shape, row by row, and what its elements are: `Float`, `Float16` or
    /// `Bfloat16`, each little-endian.
    ///
    /// # Errors
    /// When there is no such tensor, it has another shape, or it cannot be read.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<(ElementType, Vec<u8>), String> {
        let entry =
            self.entries.get(name).ok_or_else(|| format!("there is no F32, F16 or BF16 tensor {name}"))?;
        if entry.shape != shape {
            return Err(format!("{name} has shape {:?}, not {shape:?}", entry.shape));
        }
        let shard = &self.shards[entry.shard];
        let mut bytes = vec![0; entry.bytes];
        (&shard.file)
            .seek(SeekFrom::Start(entry.from))
            .and_then(|_| (&shard.file).read_exact(&mut bytes))
            .map_err(|error| format!("{name} cannot be read from {}: {error}", shard.path.display()))?;
        Ok((entry.element, bytes))
    }

    /// The values of a tensor of this shape, row by row.
    ///
    /// # Errors
    /// As [`Safetensors::read`], and when a value is not finite.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let (element, bytes) = self.read(name, shape)?;
        let values = floats(&bytes, element);
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(format!("{name} holds {value}")),
            None => Ok(values),
        }
    }
}

/// The files that an index names.
fn shards(index: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let problem = |problem| ImportError::Weights { path: index.to_owned(), problem };
    let settings = settings(index)?;
    let map = settings["weight_map"].as_object().ok_or_else(|| problem("it has no weight_map".into()))?;
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        // A name from outside becomes a path: it must stay in the folder.
        let file = file.as_str().filter(|name| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            name.ends_with(".safetensors") && !name.starts_with('.') && name.chars().all(plain)
        });
        names.insert(file.ok_or_else(|| {
            let tensor = short(tensor);
            problem(format!(
                "the file of {tensor} is not a name of letters, digits, ., - and _ with .safetensors"
            ))
        })?);
    }
    if names.len() > MOST_SHARDS {
        return Err(problem(format!("it names {} files, more than {MOST_SHARDS}", names.len())));
    }
    Ok(names.into_iter().map(|name| index.with_file_name(name)).collect())
}

/// The float tensors of a file of `size` bytes.
fn header(file: &mut File, size: u64, shard: usize) -> Result<BTreeMap<String, Entry>, String> {
    let cut = "it is cut, or no safetensors file: the header runs past its end";
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| cut)?;
    let length = u64::from_le_bytes(length);
    let data = length.checked_add(8).filter(|&data| data <= size && length <= LARGEST_HEADER).ok_or(cut)?;
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(|_| cut)?;
    let header: BTreeMap<String, Value> =
        serde_json::from_slice(&header).map_err(|error| format!("the header is not JSON: {error}"))?;
    let mut entries = BTreeMap::new();
    for (name, entry) in header {
        if name == "__metadata__" {
            continue;
        }
        let numbers =
            |value: &Value| -> Option<Vec<u64>> { value.as_array()?.iter().map(Value::as_u64).collect() };
        let (shape, offsets) = (numbers(&entry["shape"]), numbers(&entry["data_offsets"]));
        let (Some(shape), Some([from, to])) = (shape, offsets.as_deref()) else {
            return Err(format!("the header's entry {} has no shape or no data_offsets", short(&name)));
        };
        if from > to || *to > size - data {
            return Err(format!("{} runs past the end of the file: it is cut", short(&name)));
        }
        let (element, size) = match entry["dtype"].as_str() {
            Some("F32") => (ElementType::Float, 4),
            Some("F16") => (ElementType::Float16, 2),
            Some("BF16") => (ElementType::Bfloat16, 2),
            _ => continue, // Buffers such as position_ids.
        };
        if shape.iter().try_fold(size, |size: u64, &n| size.checked_mul(n)) != Some(to - from) {
            return Err(format!("{} has {} bytes, which its shape contradicts", short(&name), to - from));
        }
        let shape = shape.into_iter().map(|n| n as usize).collect();
        let (from, bytes) = (data + from, (to - from) as usize);
        entries.insert(name, Entry { shard, element, shape, from, bytes });
    }
    Ok(entries)
}

fn floats(bytes: &[u8], element: ElementType) -> Vec<f32> {
    let halves = || bytes.chunks_exact(2).map(|half| u16::from_le_bytes([half[0], half[1]]));
    match element {
        ElementType::Float16 => halves().map(from_f16).collect(),
        // The upper half of a 32-bit float.
        ElementType::Bfloat16 => halves().map(|half| f32::from_bits(u32::from(half) << 16)).collect(),
        _ => bytes.chunks_exact(4).map(|v| f32::from_le_bytes([v[0], v[1], v[2], v[3]])).collect(),
    }
}

/// A 16-bit float of IEEE 754: sign, 5 bits of exponent, 10 of fraction; a 32-bit one has 8 and 23.
fn from_f16(half: u16) -> f32 {
    let (sign, rest) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff));
    let magnitude = match rest >> 10 {
        // Below the smallest exponent, the fraction counts in steps of 2^-24.
        0 => (rest as f32 * f32::from_bits((127 - 24) << 23)).to_bits(),
        0x1f => 0xff << 23 | (rest & 0x3ff) << 13,
        _ => (rest << 13) + ((127 - 15) << 23),
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    const WORDS: &str = "embeddings.word_embeddings.weight";

    fn file(tensors: &[(&str, &str, &[usize], &[u8])]) -> Vec<u8> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, dtype, shape, bytes) in tensors {
            let from = data.len();
            data.extend_from_slice(bytes);
            let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [from, data.len()] });
            header.insert((*name).into(), entry);
        }
        let header = serde_json::to_vec(&header).unwrap();
        [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
    }

    fn ones(count: usize) -> Vec<u8> {
        1_f32.to_le_bytes().repeat(count)
    }

    fn open(bytes: &[u8]) -> Result<Safetensors, ImportError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        Safetensors::open(folder.path())
    }

    #[test]
    fn tensors_are_read_by_name_and_shape() {
        let word = "bert.embeddings.word_embeddings.weight";
        let tensors = open(&file(&[(word, "F32", &[2, 3], &ones(6)), ("x", "I64", &[1], &[0; 8])])).unwrap();
        assert_eq!(tensors.names().collect::<Vec<_>>(), [word]);
        assert_eq!(tensors.bytes(), BTreeMap::from([(ElementType::Float, 24)]));
        assert_eq!(tensors.values(word, &[2, 3]).unwrap(), [1.0; 6]);
        assert!(tensors.values(word, &[3, 2]).unwrap_err().contains("[2, 3], not [3, 2]"));
        assert!(tensors.values("x", &[1]).unwrap_err().contains("no F32, F16 or BF16 tensor x"));
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let bytes = file(&[(WORDS, "F32", &[2], &ones(2)), ("b", "F16", &[3], &[0; 6])]);
        open(&bytes).unwrap();
        for end in 0..bytes.len() {
            assert!(open(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        let with =
            |header: &str| [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat();
        for header in [
            r#"{"embeddings.word_embeddings.weight": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}"#,
            r#"{"embeddings.word_embeddings.weight": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}"#,
            r#"{"embeddings.word_embeddings.weight": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 0]}}"#,
            r#"{"embeddings.word_embeddings.weight": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}"#,
            r#"{"embeddings.word_embeddings.weight": {"dtype": "F32"}}"#,
            r#"{"embeddings.word_embeddings.weight": 7}"#,
            "[",
        ] {
            assert!(open(&with(header)).is_err(), "{header}");
        }
        assert!(open(&[0xff; 64]).is_err());
    }

    #[test]
    fn weights_that_are_no_numbers_are_refused() {
        let bytes = file(&[(WORDS, "F32", &[1], &f32::NAN.to_le_bytes())]);
        let error = open(&bytes).unwrap().values(WORDS, &[1]).unwrap_err();
        assert!(error.contains("holds NaN"), "{error}");
    }

    #[test]
    fn a_shard_outside_the_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        for name in ["../model.safetensors", "/model.safetensors", ".hidden.safetensors", "model.bin"] {
            fs::write(&index, json!({ "weight_map": { WORDS: name } }).to_string()).unwrap();
            let error = Safetensors::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains(WORDS), "{name}: {error}");
        }
    }

    #[test]
    fn sixteen_bit_floats_are_exact() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(from_f16(bits), value, "{bits:#x}");
        }
        assert!(from_f16(0x7e00).is_nan());
        assert_eq!(floats(&[0x80, 0x3f, 0x20, 0xc0], ElementType::Bfloat16), [1.0, -2.5]);
    }
}
