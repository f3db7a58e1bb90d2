//! Turns a BERT encoder's `model.safetensors` into an ONNX file, with no Python.
//!
//! [`convert`] reads the weights of a model folder and writes the encoder as a graph of ONNX
//! Runtime's fused operators (domain `com.microsoft`), which load without a pass of graph fusion
//! and run as fast as a fused export gets on a CPU. The graph takes `input_ids`, `attention_mask`
//! and `token_type_ids`, all `[batch, seq]` of int64, and gives `last_hidden_state`, `[batch, seq,
//! hidden]` of float; pooling is left to whoever runs it.
//!
//! [`onnx`] holds the few messages of onnx.proto that such a file needs.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message as _;
use serde_json::Value;

/// The operator set, and the file format that came with it; every ONNX Runtime since 1.12 reads them.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;
/// The domain of ONNX Runtime's fused operators.
const FUSED: &str = "com.microsoft";
/// A safetensors header is a few hundred bytes a tensor; more than this is not one.
const LARGEST_HEADER: usize = 16 << 20;

/// Writes the encoder in `model_dir` (`config.json`, `model.safetensors`) to `out` as ONNX.
///
/// `out` appears whole or not at all: it is written beside its place and renamed. Float32 weights of
/// a BERT with absolute positions and exact GELU, as sentence-transformers publishes them, are
/// supported; anything else is refused.
///
/// # Errors
/// Names the file and what is wrong with it.
pub(crate) fn convert(model_dir: &Path, out: &Path) -> Result<()> {
    let config_path = model_dir.join("config.json");
    let config =
        fs::read(&config_path).with_context(|| format!("{} cannot be read", config_path.display()))?;
    let shape = serde_json::from_slice(&config)
        .map_err(anyhow::Error::from)
        .and_then(|config| Shape::read(&config))
        .with_context(|| format!("{} is not a usable BERT config", config_path.display()))?;

    let weights_path = model_dir.join("model.safetensors");
    let bytes =
        fs::read(&weights_path).with_context(|| format!("{} cannot be read", weights_path.display()))?;
    let model = Weights::parse(&bytes)
        .and_then(|weights| {
            Encoder { weights: &weights, shape: &shape, graph: onnx::Graph::default() }.build()
        })
        .with_context(|| format!("{} does not hold a usable BERT encoder", weights_path.display()))?;

    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let part = out.with_extension(format!("part-{}", std::process::id()));
    fs::write(&part, model.encode_to_vec())
        .and_then(|()| fs::rename(&part, out))
        .inspect_err(|_| drop(fs::remove_file(&part)))
        .with_context(|| format!("{} cannot be written", out.display()))
}

/// What the config says of the encoder.
struct Shape {
    hidden: usize,
    heads: usize,
    layers: usize,
    intermediate: usize,
    epsilon: f32,
}

impl Shape {
    fn read(config: &Value) -> Result<Self> {
        let count = |key: &str| {
            let value = config[key].as_u64().filter(|n| (1..1 << 20).contains(n));
            value.map(|n| n as usize).with_context(|| format!("{key} = {} is not a count", config[key]))
        };
        for (key, wanted) in [("model_type", "bert"), ("hidden_act", "gelu")] {
            ensure!(config[key] == wanted, "{key} = {} is not supported: {wanted:?} is", config[key]);
        }
        let positions = &config["position_embedding_type"];
        ensure!(
            positions.is_null() || positions == "absolute",
            "position_embedding_type = {positions} is not supported"
        );
        let shape = Self {
            hidden: count("hidden_size")?,
            heads: count("num_attention_heads")?,
            layers: count("num_hidden_layers")?,
            intermediate: count("intermediate_size")?,
            epsilon: config["layer_norm_eps"].as_f64().context("layer_norm_eps is missing")? as f32,
        };
        ensure!(
            shape.hidden.is_multiple_of(shape.heads),
            "hidden_size is not a multiple of num_attention_heads"
        );
        Ok(shape)
    }
}

/// A safetensors file: a length, a JSON header that says where each tensor lies, and the tensors.
struct Weights<'a> {
    tensors: BTreeMap<String, (Vec<usize>, &'a [u8])>,
}

impl<'a> Weights<'a> {
    /// Reads the header of a file; only float32 tensors are kept.
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>().context("the file is too short")?;
        let length = usize::try_from(u64::from_le_bytes(*length))?;
        ensure!(
            length <= LARGEST_HEADER.min(rest.len()),
            "the header runs past the end of the file: it is cut"
        );
        let (header, data) = rest.split_at(length);
        let header: BTreeMap<String, Value> =
            serde_json::from_slice(header).context("the header is not JSON")?;
        let mut tensors = BTreeMap::new();
        for (name, entry) in header {
            if entry["dtype"] != "F32" {
                continue; // `__metadata__`, and buffers such as position_ids.
            }
            let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone())?;
            let (from, to): (usize, usize) = serde_json::from_value(entry["data_offsets"].clone())?;
            let Some(values) = data.get(from..to) else {
                bail!("{name} runs past the end of the file: it is cut");
            };
            let size = shape.iter().try_fold(4_usize, |size, &n| size.checked_mul(n));
            ensure!(size == Some(values.len()), "{name} has {} bytes for shape {shape:?}", values.len());
            tensors.insert(name, (shape, values));
        }
        Ok(Self { tensors })
    }

    /// A vector of `length` values.
    fn vector(&self, name: &str, length: usize) -> Result<Vec<u8>> {
        let (shape, values) = self.find(name)?;
        ensure!(shape == &[length], "{name} has shape {shape:?}, not [{length}]");
        Ok(values.to_vec())
    }

    /// A table with `width` columns, and its number of rows.
    fn table(&self, name: &str, width: usize) -> Result<(usize, Vec<u8>)> {
        let (shape, values) = self.find(name)?;
        ensure!(shape.len() == 2 && shape[1] == width, "{name} has shape {shape:?}, not [_, {width}]");
        Ok((shape[0], values.to_vec()))
    }

    /// The weights of linear layers with the same input, transposed to `[input, outputs]` and side
    /// by side: PyTorch keeps `[output, input]`, ONNX multiplies from the right.
    fn linear(&self, names: &[String], input: usize, output: usize) -> Result<Vec<u8>> {
        let width = names.len() * output;
        let mut joined = vec![0; input * width * 4];
        for (part, name) in names.iter().enumerate() {
            let (shape, values) = self.find(name)?;
            ensure!(shape == &[output, input], "{name} has shape {shape:?}, not [{output}, {input}]");
            for (row, column_of) in values.chunks_exact(input * 4).enumerate() {
                for (column, value) in column_of.chunks_exact(4).enumerate() {
                    let at = (column * width + part * output + row) * 4;
                    joined[at..at + 4].copy_from_slice(value);
                }
            }
        }
        Ok(joined)
    }

    fn find(&self, name: &str) -> Result<&(Vec<usize>, &'a [u8])> {
        self.tensors.get(name).with_context(|| format!("it has no float32 tensor {name}"))
    }
}

/// An encoder on its way into a graph. Values and tensors keep the names that PyTorch gave them.
struct Encoder<'a> {
    weights: &'a Weights<'a>,
    shape: &'a Shape,
    graph: onnx::Graph,
}

impl Encoder<'_> {
    fn build(mut self) -> Result<onnx::Model> {
        let mut hidden = self.embeddings()?;
        for layer in 0..self.shape.layers {
            let output = if layer + 1 == self.shape.layers {
                "last_hidden_state".to_owned()
            } else {
                format!("encoder.layer.{layer}.output")
            };
            hidden = self.layer(layer, hidden, output)?;
        }
        let (batch, seq) = (onnx::Dimension::named("batch"), onnx::Dimension::named("seq"));
        self.graph.name = "bert".into();
        self.graph.inputs = ["input_ids", "attention_mask", "token_type_ids"]
            .map(|name| onnx::ValueInfo::tensor(name, onnx::INT64, vec![batch.clone(), seq.clone()]))
            .into();
        let width = onnx::Dimension::fixed(self.shape.hidden);
        self.graph.outputs = vec![onnx::ValueInfo::tensor(&hidden, onnx::FLOAT, vec![batch, seq, width])];
        Ok(onnx::Model {
            ir_version: IR_VERSION,
            producer_name: "switchboard".into(),
            graph: Some(self.graph),
            opsets: vec![
                onnx::OperatorSet { domain: String::new(), version: OPSET },
                onnx::OperatorSet { domain: FUSED.into(), version: 1 },
            ],
        })
    }

    /// Word, position and type embeddings, summed and normalised.
    fn embeddings(&mut self) -> Result<String> {
        // The fused operators take int32, tokenizers and other exports' callers give int64.
        for name in ["input_ids", "token_type_ids", "attention_mask"] {
            let cast = vec![onnx::Attribute::of_int("to", i64::from(onnx::INT32))];
            self.node("Cast", "", &[name], &[&format!("{name}.int32")], cast);
        }
        let mut inputs = vec!["input_ids.int32".to_owned(), "token_type_ids.int32".to_owned()];
        for table in ["word", "position", "token_type"] {
            let name = format!("embeddings.{table}_embeddings.weight");
            let (rows, values) = self.weights.table(&name, self.shape.hidden)?;
            inputs.push(self.tensor(name, &[rows, self.shape.hidden], values));
        }
        inputs.extend(self.norm("embeddings.LayerNorm")?);
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let epsilon = vec![onnx::Attribute::of_float("epsilon", self.shape.epsilon)];
        // The second output, a mask index, is required by the operator and needed by nobody.
        self.node("EmbedLayerNormalization", FUSED, &inputs, &["embeddings", "embeddings.mask"], epsilon);
        Ok("embeddings".into())
    }

    /// Self-attention and feed-forward, each with its residual and norm.
    fn layer(&mut self, layer: usize, input: String, output: String) -> Result<String> {
        let Shape { hidden, heads, intermediate, .. } = *self.shape;
        let at = |part: &str| format!("encoder.layer.{layer}.{part}");

        let projections = ["query", "key", "value"].map(|part| at(&format!("attention.self.{part}")));
        let weights = projections.each_ref().map(|name| format!("{name}.weight"));
        let values = self.weights.linear(&weights, hidden, hidden)?;
        let weights = self.tensor(at("attention.self.qkv.weight"), &[hidden, 3 * hidden], values);
        let mut bias = Vec::with_capacity(3 * hidden * 4);
        for name in &projections {
            bias.extend(self.weights.vector(&format!("{name}.bias"), hidden)?);
        }
        let bias = self.tensor(at("attention.self.qkv.bias"), &[3 * hidden], bias);
        let attended = at("attention.self");
        let inputs = [input.as_str(), &weights, &bias, "attention_mask.int32"];
        let heads = vec![onnx::Attribute::of_int("num_heads", i64::try_from(heads)?)];
        self.node("Attention", FUSED, &inputs, &[&attended], heads);

        let dense = self.matmul(&attended, &at("attention.output.dense"), hidden, hidden)?;
        let normed = at("attention.output");
        self.skip(&dense, &input, &at("attention.output"), &normed)?;

        let dense = self.matmul(&normed, &at("intermediate.dense"), hidden, intermediate)?;
        let bias = at("intermediate.dense.bias");
        let values = self.weights.vector(&bias, intermediate)?;
        let bias = self.tensor(bias, &[intermediate], values);
        let active = at("intermediate");
        self.node("BiasGelu", FUSED, &[&dense, &bias], &[&active], Vec::new());

        let dense = self.matmul(&active, &at("output.dense"), intermediate, hidden)?;
        self.skip(&dense, &normed, &at("output"), &output)?;
        Ok(output)
    }

    /// `input` times the weights of the linear layer `name`, without its bias.
    fn matmul(&mut self, input: &str, name: &str, from: usize, to: usize) -> Result<String> {
        let weight = format!("{name}.weight");
        let values = self.weights.linear(std::slice::from_ref(&weight), from, to)?;
        let weight = self.tensor(weight, &[from, to], values);
        self.node("MatMul", "", &[input, &weight], &[name], Vec::new());
        Ok(name.to_owned())
    }

    /// Adds `block`'s bias and the residual to `input`, and normalises the sum.
    fn skip(&mut self, input: &str, residual: &str, block: &str, output: &str) -> Result<()> {
        let [gamma, beta] = self.norm(&format!("{block}.LayerNorm"))?;
        let bias = format!("{block}.dense.bias");
        let values = self.weights.vector(&bias, self.shape.hidden)?;
        let bias = self.tensor(bias, &[self.shape.hidden], values);
        let inputs = [input, residual, &gamma, &beta, &bias];
        let epsilon = vec![onnx::Attribute::of_float("epsilon", self.shape.epsilon)];
        self.node("SkipLayerNormalization", FUSED, &inputs, &[output], epsilon);
        Ok(())
    }

    fn norm(&mut self, name: &str) -> Result<[String; 2]> {
        let mut add = |part: &str| -> Result<String> {
            let name = format!("{name}.{part}");
            let values = self.weights.vector(&name, self.shape.hidden)?;
            Ok(self.tensor(name, &[self.shape.hidden], values))
        };
        Ok([add("weight")?, add("bias")?])
    }

    fn tensor(&mut self, name: String, dims: &[usize], raw: Vec<u8>) -> String {
        let dims = dims.iter().map(|&n| n as i64).collect();
        self.graph.tensors.push(onnx::Tensor { dims, data_type: onnx::FLOAT, name: name.clone(), raw });
        name
    }

    fn node(
        &mut self,
        kind: &str,
        domain: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<onnx::Attribute>,
    ) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        self.graph.nodes.push(onnx::Node {
            inputs: owned(inputs),
            outputs: owned(outputs),
            name: format!("{}/{kind}", outputs[0]),
            kind: kind.into(),
            attributes,
            domain: domain.into(),
        });
    }
}

/// The part of onnx.proto that an encoder's file needs, with its field numbers.
mod onnx {
    /// `TensorProto.DataType`.
    pub(super) const FLOAT: i32 = 1;
    pub(super) const INT32: i32 = 6;
    pub(super) const INT64: i32 = 7;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Model {
        #[prost(int64, tag = "1")]
        pub(super) ir_version: i64,
        #[prost(string, tag = "2")]
        pub(super) producer_name: String,
        #[prost(message, optional, tag = "7")]
        pub(super) graph: Option<Graph>,
        #[prost(message, repeated, tag = "8")]
        pub(super) opsets: Vec<OperatorSet>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct OperatorSet {
        #[prost(string, tag = "1")]
        pub(super) domain: String,
        #[prost(int64, tag = "2")]
        pub(super) version: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Graph {
        #[prost(message, repeated, tag = "1")]
        pub(super) nodes: Vec<Node>,
        #[prost(string, tag = "2")]
        pub(super) name: String,
        #[prost(message, repeated, tag = "5")]
        pub(super) tensors: Vec<Tensor>,
        #[prost(message, repeated, tag = "11")]
        pub(super) inputs: Vec<ValueInfo>,
        #[prost(message, repeated, tag = "12")]
        pub(super) outputs: Vec<ValueInfo>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Node {
        #[prost(string, repeated, tag = "1")]
        pub(super) inputs: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub(super) outputs: Vec<String>,
        #[prost(string, tag = "3")]
        pub(super) name: String,
        #[prost(string, tag = "4")]
        pub(super) kind: String,
        #[prost(message, repeated, tag = "5")]
        pub(super) attributes: Vec<Attribute>,
        #[prost(string, tag = "7")]
        pub(super) domain: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Attribute {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(float, optional, tag = "2")]
        float: Option<f32>,
        #[prost(int64, optional, tag = "3")]
        int: Option<i64>,
        /// 1 for float, 2 for int.
        #[prost(int32, tag = "20")]
        kind: i32,
    }

    impl Attribute {
        pub(super) fn of_float(name: &str, value: f32) -> Self {
            Self { name: name.into(), float: Some(value), int: None, kind: 1 }
        }

        pub(super) fn of_int(name: &str, value: i64) -> Self {
            Self { name: name.into(), float: None, int: Some(value), kind: 2 }
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Tensor {
        #[prost(int64, repeated, tag = "1")]
        pub(super) dims: Vec<i64>,
        #[prost(int32, tag = "2")]
        pub(super) data_type: i32,
        #[prost(string, tag = "8")]
        pub(super) name: String,
        /// Little-endian.
        #[prost(bytes, tag = "9")]
        pub(super) raw: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ValueInfo {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, optional, tag = "2")]
        kind: Option<Type>,
    }

    impl ValueInfo {
        pub(super) fn tensor(name: &str, element: i32, dimensions: Vec<Dimension>) -> Self {
            let tensor = TensorType { element, shape: Some(TensorShape { dimensions }) };
            Self { name: name.into(), kind: Some(Type { tensor: Some(tensor) }) }
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Type {
        #[prost(message, optional, tag = "1")]
        tensor: Option<TensorType>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct TensorType {
        #[prost(int32, tag = "1")]
        element: i32,
        #[prost(message, optional, tag = "2")]
        shape: Option<TensorShape>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct TensorShape {
        #[prost(message, repeated, tag = "1")]
        dimensions: Vec<Dimension>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Dimension {
        #[prost(int64, optional, tag = "1")]
        size: Option<i64>,
        #[prost(string, optional, tag = "2")]
        symbol: Option<String>,
    }

    impl Dimension {
        pub(super) fn fixed(size: usize) -> Self {
            Self { size: Some(size as i64), symbol: None }
        }

        pub(super) fn named(name: &str) -> Self {
            Self { size: None, symbol: Some(name.into()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [(&str, usize); 4] = [("a", 1), ("b", 2), ("c", 3), ("d", 4)];

    fn safetensors() -> Vec<u8> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, length) in LENGTHS {
            let from = data.len();
            data.extend((0..length).flat_map(|n| (n as f32).to_le_bytes()));
            let entry =
                serde_json::json!({ "dtype": "F32", "shape": [length], "data_offsets": [from, data.len()] });
            header.insert(name.into(), entry);
        }
        let header = serde_json::to_vec(&header).unwrap();
        [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
    }

    #[test]
    fn weights_are_read_by_name() {
        let bytes = safetensors();
        let weights = Weights::parse(&bytes).unwrap();
        for (name, length) in LENGTHS {
            assert_eq!(weights.vector(name, length).unwrap().len(), 4 * length);
        }
        assert!(weights.vector("a", 2).is_err());
        assert!(weights.vector("e", 1).is_err());
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let bytes = safetensors();
        for end in 0..bytes.len() {
            assert!(Weights::parse(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn linear_layers_are_transposed_and_joined() {
        let values: Vec<u8> =
            [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensors = ["x", "y"].map(|name| (name.to_owned(), (vec![2, 3], values.as_slice()))).into();
        let joined = Weights { tensors }.linear(&["x".into(), "y".into()], 3, 2).unwrap();
        let joined: Vec<f32> =
            joined.chunks_exact(4).map(|v| f32::from_le_bytes(v.try_into().unwrap())).collect();
        assert_eq!(joined, [1.0, 4.0, 1.0, 4.0, 2.0, 5.0, 2.0, 5.0, 3.0, 6.0, 3.0, 6.0]);
    }

    #[test]
    fn an_unsupported_model_is_named() {
        let folder = std::env::temp_dir().join(format!("bert-onnx-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), r#"{"model_type": "t5"}"#).unwrap();
        let error = format!("{:#}", convert(&folder, &folder.join("model.onnx")).unwrap_err());
        fs::remove_dir_all(&folder).unwrap();
        assert!(error.contains("config.json") && error.contains("t5"), "{error}");
    }
}
