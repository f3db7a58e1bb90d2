//! A graph on its way.

use bytes::Bytes;

use crate::{
    ElementType,
    proto::{
        AttributeProto, DimensionProto, GraphProto, NodeProto, TensorProto, TensorShapeProto,
        TensorTypeProto, TypeProto, ValueInfoProto,
    },
};

/// The domain of ONNX's own operators.
pub(super) const ONNX: &str = "";
/// The domain of ONNX Runtime's fused operators.
pub(super) const FUSED: &str = "com.microsoft";

/// Collects the nodes and tensors of a graph. What adds a tensor returns its name.
#[derive(Default)]
pub(super) struct Builder {
    pub(super) graph: GraphProto,
}

impl Builder {
    pub(super) fn floats(&mut self, name: String, dims: &[usize], values: &[f32]) -> String {
        self.tensor(
            name,
            ElementType::Float,
            dims,
            values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        )
    }

    pub(super) fn int32(&mut self, name: &str, dims: &[usize], values: &[i32]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name.into(), ElementType::Int32, dims, raw)
    }

    pub(super) fn int64(&mut self, name: &str, dims: &[usize], values: &[i64]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name.into(), ElementType::Int64, dims, raw)
    }

    pub(super) fn int8(&mut self, name: String, dims: &[usize], values: &[i8]) -> String {
        self.tensor(name, ElementType::Int8, dims, values.iter().map(|&value| value as u8).collect())
    }

    /// `raw` is the little-endian elements.
    pub(super) fn tensor(
        &mut self,
        name: String,
        element: ElementType,
        dims: &[usize],
        raw: Vec<u8>,
    ) -> String {
        self.graph.initializer.push(TensorProto {
            dims: dims.iter().map(|&n| n as i64).collect(),
            data_type: element.number(),
            name: name.clone(),
            raw_data: Some(Bytes::from(raw)),
            ..TensorProto::default()
        });
        name
    }

    /// Adds a node, named after its first output.
    pub(super) fn node<const N: usize>(
        &mut self,
        (domain, op_type): (&str, &str),
        inputs: &[&str],
        outputs: &[&str],
        attributes: [AttributeProto; N],
    ) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        self.graph.node.push(NodeProto {
            input: owned(inputs),
            output: owned(outputs),
            name: format!("{}/{op_type}", outputs[0]),
            op_type: op_type.into(),
            attribute: attributes.into(),
            domain: domain.into(),
            ..NodeProto::default()
        });
    }
}

/// The declaration of an input or output.
pub(super) fn value(name: &str, element: ElementType, dim: Vec<DimensionProto>) -> ValueInfoProto {
    let shape = Some(TensorShapeProto { dim });
    let tensor_type = Some(TensorTypeProto { elem_type: element.number(), shape });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
}
