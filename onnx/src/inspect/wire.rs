//! A walk over the encoded file, before it is decoded.
//!
//! Two bytes of protobuf can become a struct of hundreds, and messages can nest, so a small file could
//! take any amount of memory. The walk allocates nothing, adds up what decoding would, and refuses
//! what would take too much.

use std::mem::size_of;

use prost::encoding::decode_varint;

use crate::proto::{
    AttributeProto, DimensionProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    SegmentProto, SparseTensorProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto,
};

/// Graphs in attributes of nodes of graphs; exports of generation loops have three.
const DEEPEST: usize = 8;
/// What decoding may take on top of a multiple of the file's size, and how much at most.
const BASE: u64 = 256 << 20;
const PER_BYTE: u64 = 3;
const MOST: u64 = 4 << 30;

/// The messages that are decoded.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Model,
    OperatorSet,
    Function,
    Graph,
    Node,
    Attribute,
    Tensor,
    Segment,
    Entry,
    Sparse,
    Value,
    Type,
    TensorType,
    Shape,
    Dimension,
}

impl Kind {
    /// Bytes of one when it is decoded.
    fn size(self) -> usize {
        match self {
            Self::Model => size_of::<ModelProto>(),
            Self::OperatorSet => size_of::<OperatorSetIdProto>(),
            Self::Function => size_of::<FunctionProto>(),
            Self::Graph => size_of::<GraphProto>(),
            Self::Node => size_of::<NodeProto>(),
            Self::Attribute => size_of::<AttributeProto>(),
            Self::Tensor => size_of::<TensorProto>(),
            Self::Segment => size_of::<SegmentProto>(),
            Self::Entry => size_of::<StringStringEntryProto>(),
            Self::Sparse => size_of::<SparseTensorProto>(),
            Self::Value => size_of::<ValueInfoProto>(),
            Self::Type => size_of::<TypeProto>(),
            Self::TensorType => size_of::<TensorTypeProto>(),
            Self::Shape => size_of::<TensorShapeProto>(),
            Self::Dimension => size_of::<DimensionProto>(),
        }
    }

    /// What the field of this number is.
    fn field(self, number: u64) -> Field {
        use Field::{Message, Numbers, Text};
        match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Message(Self::Graph),
            (Self::Model, 8) => Message(Self::OperatorSet),
            (Self::Model, 25) => Message(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Message(Self::Node),
            (Self::Node, 5) | (Self::Function, 11) => Message(Self::Attribute),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Message(Self::Tensor),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Message(Self::Sparse),
            (Self::Graph, 11 | 12) => Message(Self::Value),
            (Self::Tensor, 3) => Message(Self::Segment),
            (Self::Tensor, 13) => Message(Self::Entry),
            (Self::Value, 2) => Message(Self::Type),
            (Self::Type, 1) => Message(Self::TensorType),
            (Self::TensorType, 2) => Message(Self::Shape),
            (Self::Shape, 1) => Message(Self::Dimension),
            (Self::Model | Self::Graph | Self::Dimension, 2)
            | (Self::OperatorSet | Self::Attribute | Self::Value, 1)
            | (Self::Function, 1 | 10 | 13)
            | (Self::Node, 1..=4 | 7 | 8)
            | (Self::Tensor, 6 | 8)
            | (Self::Entry, 1 | 2) => Text,
            (Self::Tensor, 1 | 7 | 11) | (Self::Sparse, 3) => Numbers { size: 8, packed: Packed::Varints },
            (Self::Tensor, 5) => Numbers { size: 4, packed: Packed::Varints },
            (Self::Tensor, 4) => Numbers { size: 4, packed: Packed::Fixed },
            (Self::Tensor, 10) => Numbers { size: 8, packed: Packed::Fixed },
            _ => Field::Other,
        }
    }
}

/// How numbers lie side by side.
#[derive(Clone, Copy)]
enum Packed {
    Varints,
    Fixed,
}

/// What a field becomes.
enum Field {
    Message(Kind),
    /// A string, or bytes that are kept one by one.
    Text,
    /// Numbers, each of this size in memory.
    Numbers {
        size: u64,
        packed: Packed,
    },
    /// Nothing that grows: a number, a tensor's raw data, or a field that is skipped.
    Other,
}

/// Refuses a file that is no protobuf, nests too deep, or would take too much memory to decode.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let most = (BASE + PER_BYTE * bytes.len() as u64).min(MOST);
    Walk { left: most, most }.message(Kind::Model, bytes, 0)
}

struct Walk {
    left: u64,
    most: u64,
}

impl Walk {
    fn message(&mut self, kind: Kind, mut bytes: &[u8], graphs: usize) -> Result<(), String> {
        self.take(kind.size() as u64)?;
        let graphs = if kind == Kind::Graph { graphs + 1 } else { graphs };
        if graphs > DEEPEST {
            return Err(format!("its graphs are nested more than {DEEPEST} deep"));
        }
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            let field = kind.field(key >> 3);
            match key & 7 {
                0 => {
                    varint(&mut bytes)?;
                    self.numbers(&field, 1)?;
                }
                1 => {
                    split(&mut bytes, 8)?;
                    self.numbers(&field, 1)?;
                }
                5 => {
                    split(&mut bytes, 4)?;
                    self.numbers(&field, 1)?;
                }
                2 => {
                    let length = varint(&mut bytes)?;
                    let value = split(&mut bytes, length)?;
                    match field {
                        Field::Message(kind) => self.message(kind, value, graphs)?,
                        Field::Text => self.take((size_of::<String>() + value.len()) as u64)?,
                        Field::Numbers { packed: Packed::Fixed, .. } => self.take(value.len() as u64)?,
                        Field::Numbers { packed: Packed::Varints, .. } => {
                            // The last byte of each has its highest bit clear.
                            self.numbers(&field, value.iter().filter(|&&byte| byte < 0x80).count())?;
                        }
                        Field::Other => {}
                    }
                }
                _ => return Err("it is no protobuf, or damaged".into()),
            }
        }
        Ok(())
    }

    fn numbers(&mut self, field: &Field, count: usize) -> Result<(), String> {
        match field {
            Field::Numbers { size, .. } => self.take(size * count as u64),
            _ => Ok(()),
        }
    }

    fn take(&mut self, bytes: u64) -> Result<(), String> {
        let most = self.most;
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or_else(|| format!("it would take more than {most} bytes of memory to read"))?;
        Ok(())
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    decode_varint(bytes).map_err(|_| "it is cut or damaged".to_owned())
}

fn split<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], String> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let (value, rest) = bytes.split_at_checked(length).ok_or("it is cut or damaged")?;
    *bytes = rest;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_small_file_of_many_messages_is_refused() {
        // Empty nodes, of two bytes each.
        let nodes = [0x0a, 0].repeat(4 << 20);
        let graph = [&[0x3a][..], &prost_length(nodes.len()), &nodes].concat();
        let error = check(&graph).unwrap_err();
        assert!(error.contains("bytes of memory"), "{error}");
        check(&graph[..0]).unwrap();
    }

    #[test]
    fn a_small_file_of_many_numbers_is_refused() {
        let numbers = vec![0; 64 << 20];
        // ModelProto.graph, GraphProto.initializer, TensorProto.int64_data.
        let tensor = [&[0x3a][..], &prost_length(numbers.len()), &numbers].concat();
        let graph = [&[0x2a][..], &prost_length(tensor.len()), &tensor].concat();
        let model = [&[0x3a][..], &prost_length(graph.len()), &graph].concat();
        assert!(check(&model).unwrap_err().contains("bytes of memory"));
        // As many raw bytes cost nothing.
        let tensor = [&[0x4a][..], &prost_length(numbers.len()), &numbers].concat();
        let graph = [&[0x2a][..], &prost_length(tensor.len()), &tensor].concat();
        check(&[&[0x3a][..], &prost_length(graph.len()), &graph].concat()).unwrap();
    }

    #[test]
    fn nesting_has_an_end() {
        let nest = |depth: usize| {
            let mut graph = GraphProto::default();
            for _ in 1..depth {
                let attribute = AttributeProto { g: Some(Box::new(graph)), ..AttributeProto::default() };
                let node = NodeProto { attribute: vec![attribute], ..NodeProto::default() };
                graph = GraphProto { node: vec![node], ..GraphProto::default() };
            }
            ModelProto { graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
        };
        check(&nest(DEEPEST)).unwrap();
        assert!(check(&nest(DEEPEST + 1)).unwrap_err().contains("nested"));
        assert!(check(&nest(200)).unwrap_err().contains("nested"));
    }

    fn prost_length(length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        prost::encode_length_delimiter(length, &mut bytes).unwrap();
        bytes
    }
}
