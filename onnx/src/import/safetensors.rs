//! Safetensors files: a length, a JSON header that says where each tensor lies, and the tensors.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    config::{Family, settings},
    error::ImportError,
};
use crate::short::short;

/// A header is a few hundred bytes a tensor; more than this is not one.
const LARGEST_HEADER: u64 = 16 << 20;
/// Files that one model's weights may be spread over.
const MOST_SHARDS: usize = 1024;
/// A tensor that every encoder has; what stands before its name stands before all the encoder's names.
const LANDMARK: &str = "embeddings.word_embeddings.weight";

/// DistilBERT's names for parts of a layer. The longer ones come before those that they contain.
const DISTILBERT: [(&str, &str); 9] = [
    ("encoder.layer", "transformer.layer"),
    ("attention.self.query", "attention.q_lin"),
    ("attention.self.key", "attention.k_lin"),
    ("attention.self.value", "attention.v_lin"),
    ("attention.output.dense", "attention.out_lin"),
    ("attention.output.LayerNorm", "sa_layer_norm"),
    ("intermediate.dense", "ffn.lin1"),
    ("output.dense", "ffn.lin2"),
    ("output.LayerNorm", "output_layer_norm"),
];

/// The float formats that weights come in.
#[derive(Clone, Copy, Debug)]
enum Format {
    F32,
    F16,
    Bf16,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
}

#[derive(Debug)]
struct Entry {
    shard: usize,
    format: Format,
    shape: Vec<usize>,
    from: u64,
    bytes: usize,
}

/// The tensors of a model, read one by one when they are asked for.
#[derive(Debug)]
pub(super) struct Tensors {
    path: PathBuf,
    shards: Vec<Shard>,
    entries: BTreeMap<String, Entry>,
    /// What stands before the names of the encoder's tensors: nothing, or such as `bert.`.
    prefix: String,
    family: Family,
}

impl Tensors {
    /// Reads the headers of the weights in `folder`.
    pub(super) fn open(folder: &Path, family: Family) -> Result<Self, ImportError> {
        let single = folder.join("model.safetensors");
        let index = folder.join("model.safetensors.index.json");
        let sharded = !single.exists() && index.exists();
        let (path, files) =
            if sharded { (index.clone(), shards(&index)?) } else { (single.clone(), vec![single]) };
        let mut tensors =
            Self { path, shards: Vec::new(), entries: BTreeMap::new(), prefix: String::new(), family };
        for file in files {
            tensors.add(file)?;
        }
        let mut ends = tensors.entries.keys().filter_map(|name| name.strip_suffix(LANDMARK));
        match (ends.next(), ends.next()) {
            (Some(prefix), None) => tensors.prefix = prefix.to_owned(),
            (None, _) => return Err(tensors.problem(format!("no tensor's name ends with {LANDMARK}"))),
            _ => return Err(tensors.problem(format!("several tensors' names end with {LANDMARK}"))),
        }
        Ok(tensors)
    }

    /// The file that stands for the weights.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn problem(&self, problem: String) -> ImportError {
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

    /// The name here of a tensor of the encoder, which BERT calls `name`.
    pub(super) fn encoder(&self, name: &str) -> String {
        let mut name = name.to_owned();
        if self.family == Family::DistilBert {
            for (bert, distilbert) in DISTILBERT {
                name = name.replace(bert, distilbert);
            }
        }
        format!("{}{name}", self.prefix)
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Rows of a table.
    pub(super) fn rows(&self, name: &str) -> Result<usize, String> {
        self.find(name)?
            .shape
            .first()
            .copied()
            .ok_or_else(|| format!("{name} is a single number, not a table"))
    }

    /// The values of a tensor of this shape, row by row.
    pub(super) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let entry = self.find(name)?;
        if entry.shape != shape {
            return Err(format!("{name} has shape {:?}, not {shape:?}", entry.shape));
        }
        let shard = &self.shards[entry.shard];
        let mut bytes = vec![0; entry.bytes];
        (&shard.file)
            .seek(SeekFrom::Start(entry.from))
            .and_then(|_| (&shard.file).read_exact(&mut bytes))
            .map_err(|error| format!("{name} cannot be read from {}: {error}", shard.path.display()))?;
        let values = floats(&bytes, entry.format);
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(format!("{name} holds {value}")),
            None => Ok(values),
        }
    }

    fn find(&self, name: &str) -> Result<&Entry, String> {
        self.entries.get(name).ok_or_else(|| format!("there is no F32, F16 or BF16 tensor {name}"))
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
        let (format, element) = match entry["dtype"].as_str() {
            Some("F32") => (Format::F32, 4),
            Some("F16") => (Format::F16, 2),
            Some("BF16") => (Format::Bf16, 2),
            _ => continue, // Buffers such as position_ids.
        };
        if shape.iter().try_fold(element, |size: u64, &n| size.checked_mul(n)) != Some(to - from) {
            return Err(format!("{} has {} bytes, which its shape contradicts", short(&name), to - from));
        }
        let shape = shape.into_iter().map(|n| n as usize).collect();
        let (from, bytes) = (data + from, (to - from) as usize);
        entries.insert(name, Entry { shard, format, shape, from, bytes });
    }
    Ok(entries)
}

fn floats(bytes: &[u8], format: Format) -> Vec<f32> {
    let halves = || bytes.chunks_exact(2).map(|half| u16::from_le_bytes([half[0], half[1]]));
    match format {
        Format::F32 => bytes.chunks_exact(4).map(|v| f32::from_le_bytes([v[0], v[1], v[2], v[3]])).collect(),
        Format::F16 => halves().map(from_f16).collect(),
        // The upper half of a 32-bit float.
        Format::Bf16 => halves().map(|half| f32::from_bits(u32::from(half) << 16)).collect(),
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

    fn open(bytes: &[u8]) -> Result<Tensors, ImportError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        Tensors::open(folder.path(), Family::Bert)
    }

    #[test]
    fn tensors_are_read_by_name_and_shape() {
        let word = "bert.embeddings.word_embeddings.weight";
        let tensors = open(&file(&[(word, "F32", &[2, 3], &ones(6)), ("x", "I64", &[1], &[0; 8])])).unwrap();
        assert_eq!(tensors.encoder("pooler.dense.bias"), "bert.pooler.dense.bias");
        assert_eq!(tensors.values(word, &[2, 3]).unwrap(), [1.0; 6]);
        assert!(tensors.values(word, &[3, 2]).unwrap_err().contains("[2, 3], not [3, 2]"));
        assert!(tensors.values("x", &[1]).unwrap_err().contains("no F32, F16 or BF16 tensor x"));
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let bytes = file(&[(LANDMARK, "F32", &[2], &ones(2)), ("b", "F16", &[3], &[0; 6])]);
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
        let bytes = file(&[(LANDMARK, "F32", &[1], &f32::NAN.to_le_bytes())]);
        let error = open(&bytes).unwrap().values(LANDMARK, &[1]).unwrap_err();
        assert!(error.contains("holds NaN"), "{error}");
    }

    #[test]
    fn a_shard_outside_the_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        for name in ["../model.safetensors", "/model.safetensors", ".hidden.safetensors", "model.bin"] {
            fs::write(&index, json!({ "weight_map": { LANDMARK: name } }).to_string()).unwrap();
            let error = Tensors::open(folder.path(), Family::Bert).unwrap_err().to_string();
            assert!(error.contains(LANDMARK), "{name}: {error}");
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
        assert_eq!(floats(&[0x80, 0x3f, 0x20, 0xc0], Format::Bf16), [1.0, -2.5]);
    }

    #[test]
    fn distilbert_has_its_own_names() {
        let mut tensors = open(&file(&[(LANDMARK, "F32", &[1], &ones(1))])).unwrap();
        tensors.family = Family::DistilBert;
        for (bert, distilbert) in [
            ("encoder.layer.3.attention.self.query.bias", "transformer.layer.3.attention.q_lin.bias"),
            ("encoder.layer.0.attention.output.dense.weight", "transformer.layer.0.attention.out_lin.weight"),
            ("encoder.layer.0.attention.output.LayerNorm.bias", "transformer.layer.0.sa_layer_norm.bias"),
            ("encoder.layer.0.intermediate.dense.bias", "transformer.layer.0.ffn.lin1.bias"),
            ("encoder.layer.0.output.dense.bias", "transformer.layer.0.ffn.lin2.bias"),
            ("encoder.layer.0.output.LayerNorm.bias", "transformer.layer.0.output_layer_norm.bias"),
            ("embeddings.LayerNorm.bias", "embeddings.LayerNorm.bias"),
        ] {
            assert_eq!(tensors.encoder(bert), distilbert);
        }
    }
}
