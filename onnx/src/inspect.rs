//! What an ONNX file holds, and whether that can be true.
//!
//! [`inspect`] reads a graph and checks what a damaged or hostile file could lie about before a runtime
//! gets it: that the elements of each tensor are as many as its shape says, that data in other files is
//! there, and lies in the model's folder; that what is nested is not nested without end. It computes
//! nothing: how much memory and time a graph takes when it runs is for the runtime to bound.

mod error;
mod external;
mod functions;
mod graph;
mod tensor;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use prost::Message as _;

pub use self::error::InspectError;
use self::{external::Places, graph::Walk};
use crate::{
    ElementType,
    proto::{ModelProto, ValueInfoProto},
    short::short,
};

/// Bytes of a file: no reader of protobuf takes more.
const LARGEST: u64 = i32::MAX as u64;
/// Versions of the file format: with 3 came what this needs, and in 2026 there are 14.
const IR_VERSIONS: std::ops::RangeInclusive<i64> = 3..=32;
/// Versions of ONNX's own operators; in 2026 there are 28.
const OPSETS: std::ops::RangeInclusive<i64> = 1..=64;
/// Inputs and outputs; decoders have some 200.
const MOST_VALUES: usize = 4096;
/// Bytes of a name that is handed on.
const LONGEST_NAME: usize = 512;
/// Dimensions of a tensor.
const MOST_DIMENSIONS: usize = 64;

/// What a graph takes, gives and holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// Version of the file format.
    pub ir_version: i64,
    /// Version of ONNX's own operators; `None` for a graph that has none of them.
    pub opset: Option<i64>,
    /// What the graph takes, in order.
    pub inputs: Vec<Value>,
    /// What the graph gives, in order.
    pub outputs: Vec<Value>,
    /// Bytes of the constants, by what their elements are; strings count their characters.
    pub weights: BTreeMap<ElementType, u64>,
    /// Bytes of the constants.
    pub weight_bytes: u64,
    /// Other files with constants, canonical, each once.
    pub external_files: Vec<PathBuf>,
    /// Domains of the operators; ONNX's own is empty.
    pub domains: BTreeSet<String>,
    /// Operators that make a row of a batch depend on the other rows, each once. They take a scale from
    /// the whole of an input that is only known when the graph runs.
    pub batch_variant: Vec<String>,
    /// Whether it has ONNX Runtime's GroupQueryAttention, which writes keys and values where they are.
    pub in_place: bool,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// What its elements are; `None` for a sequence, a map or an optional value.
    pub element: Option<ElementType>,
    /// Its shape; `None` when the number of dimensions is open.
    pub dims: Option<Vec<Dimension>>,
}

/// As `name: float32[batch, 384]`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element = self.element.map_or("other", ElementType::name);
        write!(f, "{}: {element}", self.name)?;
        let Some(dims) = &self.dims else { return Ok(()) };
        let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Symbol(name) => f.write_str(name),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// A dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// It is always this size.
    Fixed(u64),
    /// It may differ from call to call, and has a name.
    Symbol(String),
    /// It may differ from call to call.
    Unknown,
}

/// What is wrong, before the file's path is put to it.
enum Problem {
    Model(String),
    Tensor { tensor: String, problem: String },
}

impl From<String> for Problem {
    fn from(problem: String) -> Self {
        Self::Model(problem)
    }
}

/// Reads and checks the graph at `path`; its model's folder is `root`.
///
/// Data in other files must lie in `root`, or beside the graph once links are followed: in a hub's
/// cache, a model's files are links to files that lie together elsewhere. Memory stays below seven times
/// the file's size and 512 MiB, and within that below 8 GiB and the file.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn inspect(path: &Path, root: &Path) -> Result<Inspection, InspectError> {
    let unreadable = |source| InspectError::Unreadable { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(io::Error::other("it is not a file")));
    }
    if metadata.len() > LARGEST {
        return Err(InspectError::TooLarge { path: path.to_owned(), bytes: metadata.len() });
    }
    let mut places = Places::new(path, root).map_err(unreadable)?;
    let bytes = Bytes::from(fs::read(path).map_err(unreadable)?);
    check(bytes, &mut places).map_err(|problem| match problem {
        Problem::Model(problem) => InspectError::Unusable { path: path.to_owned(), problem },
        Problem::Tensor { tensor, problem } => {
            InspectError::Tensor { path: path.to_owned(), tensor, problem }
        }
    })
}

fn check(bytes: Bytes, places: &mut Places) -> Result<Inspection, Problem> {
    wire::check(&bytes)?;
    let model = ModelProto::decode(bytes).map_err(|error| short(&error.to_string()))?;
    if !IR_VERSIONS.contains(&model.ir_version) {
        return Err(format!("it is of version {} of the format", model.ir_version).into());
    }
    let opset = opset(&model)?;
    let graph = model.graph.as_ref().ok_or_else(|| "it has no graph".to_owned())?;
    functions::check(&model)?;

    let mut walk = Walk::new(places);
    walk.graph(graph)?;
    for function in &model.functions {
        walk.function(function)?;
    }
    let constants: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    // Files of before 2019 list the constants among the inputs.
    let inputs = graph.input.iter().filter(|input| !constants.contains(input.name.as_str()));
    let inputs = values(inputs, "inputs")?;
    let outputs = values(graph.output.iter(), "outputs")?;
    if outputs.is_empty() {
        return Err("its graph gives nothing".to_owned().into());
    }
    let Walk { weights, domains, batch_variant, in_place, .. } = walk;
    Ok(Inspection {
        ir_version: model.ir_version,
        opset,
        inputs,
        outputs,
        weight_bytes: weights.values().fold(0, |sum, bytes| sum.saturating_add(*bytes)),
        weights,
        external_files: places.files(),
        domains,
        batch_variant: batch_variant.into_iter().collect(),
        in_place,
    })
}

/// The version of ONNX's own operators.
fn opset(model: &ModelProto) -> Result<Option<i64>, String> {
    if model.opset_import.is_empty() {
        return Err("it does not say which operators it wants".into());
    }
    let own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let mut versions =
        model.opset_import.iter().filter(|opset| own(&opset.domain)).map(|opset| opset.version);
    let Some(version) = versions.next() else {
        return Ok(None);
    };
    if !OPSETS.contains(&version) {
        return Err(format!("it wants version {version} of ONNX's operators"));
    }
    if versions.any(|other| other != version) {
        return Err("it wants two versions of ONNX's operators".into());
    }
    Ok(Some(version))
}

fn values<'a>(infos: impl Iterator<Item = &'a ValueInfoProto>, what: &str) -> Result<Vec<Value>, String> {
    let mut values = Vec::new();
    for info in infos {
        if values.len() == MOST_VALUES {
            return Err(format!("it has more than {MOST_VALUES} {what}"));
        }
        values.push(value(info)?);
    }
    Ok(values)
}

fn value(info: &ValueInfoProto) -> Result<Value, String> {
    let name = name(&info.name)?;
    let Some(tensor) = info.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()) else {
        return Ok(Value { name, element: None, dims: None });
    };
    let element = ElementType::from_number(tensor.elem_type)
        .ok_or_else(|| format!("{} has elements of an unknown type, {}", short(&name), tensor.elem_type))?;
    let Some(shape) = &tensor.shape else {
        return Ok(Value { name, element: Some(element), dims: None });
    };
    if shape.dim.len() > MOST_DIMENSIONS {
        return Err(format!("{} has {} dimensions", short(&name), shape.dim.len()));
    }
    let mut dims = Vec::new();
    for dim in &shape.dim {
        dims.push(match (dim.dim_value, &dim.dim_param) {
            // Some exporters write -1 for a size that differs.
            (None | Some(-1), None) => Dimension::Unknown,
            (Some(size), _) => Dimension::Fixed(
                u64::try_from(size).map_err(|_| format!("{} has a dimension of {size}", short(&name)))?,
            ),
            (None, Some(symbol)) if symbol.is_empty() => Dimension::Unknown,
            (None, Some(symbol)) => Dimension::Symbol(self::name(symbol)?),
        });
    }
    Ok(Value { name, element: Some(element), dims: Some(dims) })
}

/// A name that is handed on, which must not be endless.
fn name(name: &str) -> Result<String, String> {
    if name.len() > LONGEST_NAME {
        return Err(format!("the name {} has {} bytes; {LONGEST_NAME} are allowed", short(name), name.len()));
    }
    Ok(name.to_owned())
}
