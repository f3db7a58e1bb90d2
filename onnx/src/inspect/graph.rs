//! A walk over the nodes and constants of a graph, and of the graphs in it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Problem, external::Places, name, tensor};
use crate::{
    ElementType,
    proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, SparseTensorProto, TensorProto},
    short::short,
};

/// Domains; exports have three or four.
const MOST_DOMAINS: usize = 64;

/// What was seen on the way.
pub(super) struct Walk<'a> {
    places: &'a mut Places,
    pub(super) weights: BTreeMap<ElementType, u64>,
    pub(super) domains: BTreeSet<String>,
    pub(super) batch_variant: BTreeSet<String>,
    pub(super) in_place: bool,
    /// Names of values that are known before the graph runs.
    known: HashSet<&'a str>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(places: &'a mut Places) -> Self {
        Self {
            places,
            weights: BTreeMap::new(),
            domains: BTreeSet::new(),
            batch_variant: BTreeSet::new(),
            in_place: false,
            known: HashSet::new(),
        }
    }

    pub(super) fn graph(&mut self, graph: &'a GraphProto) -> Result<(), Problem> {
        for tensor in &graph.initializer {
            self.tensor(tensor)?;
            self.known.insert(&tensor.name);
        }
        for sparse in &graph.sparse_initializer {
            self.sparse(sparse)?;
        }
        self.nodes(&graph.node)
    }

    pub(super) fn function(&mut self, function: &'a FunctionProto) -> Result<(), Problem> {
        self.nodes(&function.node)?;
        function.attribute_proto.iter().try_for_each(|attribute| self.attribute(attribute))
    }

    fn nodes(&mut self, nodes: &'a [NodeProto]) -> Result<(), Problem> {
        for node in nodes {
            let domain = if node.domain == "ai.onnx" { "" } else { node.domain.as_str() };
            if !self.domains.contains(domain) {
                if self.domains.len() == MOST_DOMAINS {
                    return Err(format!("its operators are of more than {MOST_DOMAINS} domains").into());
                }
                self.domains.insert(name(domain)?);
            }
            if node.op_type == "Constant" && domain.is_empty() {
                self.known.extend(node.output.iter().map(String::as_str));
            }
            self.in_place |= node.op_type == "GroupQueryAttention" && domain == "com.microsoft";
            if self.mixes_rows(node) {
                self.batch_variant.insert(node.op_type.clone());
            }
            for attribute in &node.attribute {
                self.attribute(attribute)?;
            }
        }
        Ok(())
    }

    /// Whether a node scales all of its input by what is in all of its input.
    fn mixes_rows(&self, node: &NodeProto) -> bool {
        match node.op_type.as_str() {
            "DynamicQuantizeLinear" | "DynamicQuantizeMatMul" | "DynamicQuantizeLSTM" => true,
            // With a scale that was measured once, a row is scaled by itself.
            "QAttention" => node.input.get(3).is_some_and(|scale| !self.known.contains(scale.as_str())),
            "BatchNormalization" => {
                let training = |attribute: &AttributeProto| {
                    attribute.name == "training_mode" && attribute.i.is_some_and(|mode| mode != 0)
                };
                node.attribute.iter().any(training)
            }
            _ => false,
        }
    }

    fn attribute(&mut self, attribute: &'a AttributeProto) -> Result<(), Problem> {
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            self.tensor(tensor)?;
        }
        for sparse in attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors) {
            self.sparse(sparse)?;
        }
        // How deep they go was checked before the file was decoded.
        for graph in attribute.g.as_deref().into_iter().chain(&attribute.graphs) {
            self.graph(graph)?;
        }
        Ok(())
    }

    fn tensor(&mut self, tensor: &TensorProto) -> Result<(), Problem> {
        let checked = tensor::check(tensor, self.places);
        self.count(checked, &tensor.name)
    }

    fn sparse(&mut self, sparse: &SparseTensorProto) -> Result<(), Problem> {
        let checked = tensor::check_sparse(sparse, self.places);
        self.count(checked, sparse.values.as_ref().map_or("", |values| &values.name))
    }

    fn count(&mut self, checked: Result<(ElementType, u64), String>, name: &str) -> Result<(), Problem> {
        let tensor = if name.is_empty() { "without a name".to_owned() } else { short(name) };
        let (element, bytes) = checked.map_err(|problem| Problem::Tensor { tensor, problem })?;
        let sum = self.weights.entry(element).or_default();
        *sum = sum.saturating_add(bytes);
        Ok(())
    }
}
