//! Operators that a model brings along. A runtime puts their nodes in their callers' place, so one that
//! calls itself, or a chain in which each calls the next twice, would grow without end.

use std::collections::HashMap;

use crate::{
    proto::{ModelProto, NodeProto},
    short::short,
};

/// Nodes of a model once everything stands in its place; the largest exports have some 100,000.
const MOST_NODES: u64 = 4 << 20;
/// Functions that call functions.
const DEEPEST: usize = 32;

type Name<'a> = (&'a str, &'a str, &'a str);

struct Functions<'a> {
    by_name: HashMap<Name<'a>, &'a [NodeProto]>,
    /// Nodes of those that have been counted.
    counted: HashMap<Name<'a>, u64>,
}

/// Refuses a model whose functions grow without end.
pub(super) fn check(model: &ModelProto) -> Result<(), String> {
    let mut functions = Functions { by_name: HashMap::new(), counted: HashMap::new() };
    for function in &model.functions {
        let name = (domain(&function.domain), function.name.as_str(), function.overload.as_str());
        if functions.by_name.insert(name, &function.node).is_some() {
            return Err(format!("the function {} is defined twice", short(&function.name)));
        }
    }
    let nodes = match &model.graph {
        Some(graph) => functions.nodes(&graph.node, 0)?,
        None => 0,
    };
    for function in &model.functions {
        // Also those that nothing calls: a runtime looks at them all the same.
        functions.nodes(&function.node, 0)?;
    }
    if nodes > MOST_NODES {
        return Err(format!("its functions grow to {nodes} nodes; {MOST_NODES} are allowed"));
    }
    Ok(())
}

fn domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

impl<'a> Functions<'a> {
    fn nodes(&mut self, nodes: &'a [NodeProto], depth: usize) -> Result<u64, String> {
        let mut sum = 0_u64;
        for node in nodes {
            sum = sum.saturating_add(1).saturating_add(self.call(node, depth)?);
            for attribute in &node.attribute {
                for graph in attribute.g.as_deref().into_iter().chain(&attribute.graphs) {
                    sum = sum.saturating_add(self.nodes(&graph.node, depth)?);
                }
            }
        }
        Ok(sum)
    }

    /// Nodes that take the place of a call; none when it calls no function.
    fn call(&mut self, node: &'a NodeProto, depth: usize) -> Result<u64, String> {
        let name = (domain(&node.domain), node.op_type.as_str(), node.overload.as_str());
        let Some(&body) = self.by_name.get(&name) else {
            return Ok(0);
        };
        if let Some(&counted) = self.counted.get(&name) {
            return Ok(counted);
        }
        if depth == DEEPEST {
            return Err(format!("its functions call each other more than {DEEPEST} deep"));
        }
        let counted = self.nodes(body, depth + 1)?;
        self.counted.insert(name, counted);
        Ok(counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{FunctionProto, GraphProto};

    fn call(name: &str) -> NodeProto {
        NodeProto { op_type: name.into(), domain: "own".into(), ..NodeProto::default() }
    }

    fn model(functions: &[(&str, &[&str])]) -> ModelProto {
        let function = |(name, calls): &(&str, &[&str])| FunctionProto {
            name: (*name).into(),
            domain: "own".into(),
            node: calls.iter().map(|name| call(name)).collect(),
            ..FunctionProto::default()
        };
        ModelProto {
            graph: Some(GraphProto { node: vec![call("f0")], ..GraphProto::default() }),
            functions: functions.iter().map(function).collect(),
            ..ModelProto::default()
        }
    }

    #[test]
    fn functions_that_end_are_fine() {
        check(&model(&[("f0", &["f1", "f1", "Add"]), ("f1", &["Mul"])])).unwrap();
    }

    #[test]
    fn functions_without_end_are_refused() {
        for functions in [
            &[("f0", &["f0"][..])][..],
            &[("f0", &["f1"]), ("f1", &["f0"])],
            &[("f0", &["Add"]), ("f1", &["f1"])],
        ] {
            assert!(check(&model(functions)).unwrap_err().contains("deep"));
        }
        assert!(check(&model(&[("f0", &[]), ("f0", &[])])).unwrap_err().contains("twice"));
    }

    #[test]
    fn functions_that_double_again_and_again_are_refused() {
        let names: Vec<String> = (0..31).map(|n| format!("f{n}")).collect();
        let calls: Vec<[&str; 2]> = names.iter().skip(1).map(|name| [name.as_str(); 2]).collect();
        let functions: Vec<(&str, &[&str])> =
            names.iter().map(String::as_str).zip(calls.iter().map(|calls| &calls[..])).collect();
        let error = check(&model(&functions)).unwrap_err();
        assert!(error.contains("nodes"), "{error}");
    }
}
