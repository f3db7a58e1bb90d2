//! Files that are damaged, cut, or made to mislead.

use std::{fs, path::Path};

use proptest::prelude::*;
use prost::Message as _;
use switchboard_onnx::{
    ElementType, inspect,
    inspect::{Dimension, InspectError, Inspection},
    proto::{
        AttributeProto, DimensionProto, EXTERNAL, FunctionProto, GraphProto, ModelProto, NodeProto,
        OperatorSetIdProto, SparseTensorProto, StringStringEntryProto, TensorProto, TensorShapeProto,
        TensorTypeProto, TypeProto, ValueInfoProto,
    },
};

fn tensor(name: &str, element: ElementType, dims: &[i64], raw: usize) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.into(),
        data_type: element.number(),
        raw_data: Some(vec![1; raw].into()),
        ..TensorProto::default()
    }
}

fn external(name: &str, dims: &[i64], location: &str) -> TensorProto {
    TensorProto {
        raw_data: None,
        data_location: EXTERNAL,
        external_data: vec![
            StringStringEntryProto::new("location", location),
            StringStringEntryProto::new("offset", "4"),
        ],
        ..tensor(name, ElementType::Float, dims, 0)
    }
}

fn node(domain: &str, op_type: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    let input = ["x", "w", "b", "scale"].map(String::from).into();
    NodeProto {
        input,
        output: vec!["y".into()],
        op_type: op_type.into(),
        domain: domain.into(),
        attribute,
        ..NodeProto::default()
    }
}

fn value(name: &str, dim: Vec<DimensionProto>) -> ValueInfoProto {
    let shape = Some(TensorShapeProto { dim });
    let tensor_type = Some(TensorTypeProto { elem_type: ElementType::Float.number(), shape });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
}

/// A model with something of everything.
fn model() -> ModelProto {
    let branch = GraphProto {
        initializer: vec![tensor("inner", ElementType::Int8, &[3], 3)],
        node: vec![node("", "DynamicQuantizeLinear", vec![])],
        ..GraphProto::default()
    };
    let branch = AttributeProto {
        name: "then_branch".into(),
        g: Some(Box::new(branch)),
        r#type: 5,
        ..Default::default()
    };
    let constant = AttributeProto {
        name: "value".into(),
        t: Some(TensorProto {
            int64_data: vec![7, 8],
            raw_data: None,
            ..tensor("", ElementType::Int64, &[2], 0)
        }),
        r#type: 4,
        ..Default::default()
    };
    let graph = GraphProto {
        name: "g".into(),
        node: vec![
            node("", "If", vec![branch]),
            NodeProto { output: vec!["c".into()], ..node("ai.onnx", "Constant", vec![constant]) },
            node("com.microsoft", "Gelu", vec![AttributeProto::float("alpha", 1.0)]),
            node("own", "Twice", vec![]),
        ],
        initializer: vec![
            tensor("w", ElementType::Float, &[2, 3], 24),
            external("far", &[4], "data"),
            TensorProto {
                string_data: vec!["a".into(), "bc".into()],
                raw_data: None,
                ..tensor("s", ElementType::String, &[2], 0)
            },
        ],
        sparse_initializer: vec![SparseTensorProto {
            values: Some(tensor("sparse", ElementType::Float, &[1], 4)),
            indices: Some(TensorProto {
                raw_data: None,
                int64_data: vec![5],
                ..tensor("", ElementType::Int64, &[1], 0)
            }),
            dims: vec![2, 3],
        }],
        input: vec![
            value(
                "x",
                vec![DimensionProto::named("batch"), DimensionProto::fixed(3), DimensionProto::default()],
            ),
            value("w", vec![]),
            ValueInfoProto { name: "list".into(), r#type: Some(TypeProto::default()) },
        ],
        output: vec![value("y", vec![DimensionProto { dim_value: Some(-1), dim_param: None }])],
    };
    let function = FunctionProto {
        name: "Twice".into(),
        domain: "own".into(),
        node: vec![node("", "Add", vec![])],
        ..FunctionProto::default()
    };
    ModelProto {
        ir_version: 8,
        producer_name: "test".into(),
        graph: Some(graph),
        functions: vec![function],
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
    }
}

fn inspected(folder: &Path, bytes: &[u8]) -> Result<Inspection, InspectError> {
    let path = folder.join("model.onnx");
    fs::write(&path, bytes).unwrap();
    inspect(&path, folder)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("data"), [0; 20]).unwrap();
    folder
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

#[track_caller]
fn refused(change: impl FnOnce(&mut ModelProto), expected: &str) {
    let mut model = model();
    change(&mut model);
    let folder = folder();
    let error = inspected(folder.path(), &model.encode_to_vec()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert!(error.len() < folder.path().as_os_str().len() + 400, "{error}");
}

#[test]
fn what_a_graph_takes_gives_and_holds_is_told() {
    let folder = folder();
    let found = inspected(folder.path(), &model().encode_to_vec()).unwrap();
    assert_eq!((found.ir_version, found.opset), (8, Some(17)));
    let names: Vec<&str> = found.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["x", "list"], "a constant is no input");
    let dims = [Dimension::Symbol("batch".into()), Dimension::Fixed(3), Dimension::Unknown];
    assert_eq!(found.inputs[0].dims.as_deref(), Some(&dims[..]));
    assert_eq!((found.inputs[1].element, &found.inputs[1].dims), (None, &None));
    assert_eq!(found.outputs[0].dims.as_deref(), Some(&[Dimension::Unknown][..]));
    let weights = [
        (ElementType::Float, 24 + 16 + 4),
        (ElementType::Int8, 3),
        (ElementType::Int64, 16),
        (ElementType::String, 3),
    ];
    assert_eq!(found.weights, weights.into());
    assert_eq!(found.weight_bytes, 66);
    assert_eq!(found.external_files, [folder.path().canonicalize().unwrap().join("data")]);
    assert_eq!(found.domains, ["", "com.microsoft", "own"].map(String::from).into());
    assert_eq!(found.batch_variant, ["DynamicQuantizeLinear"]);
}

#[test]
fn a_scale_that_was_measured_before_mixes_no_rows() {
    let attention = || node("com.microsoft", "QAttention", vec![]);
    let mixing = |node, constant| {
        let folder = folder();
        let mut model = model();
        let graph = graph(&mut model);
        graph.node = vec![node];
        graph.initializer.push(tensor(constant, ElementType::Float, &[], 4));
        inspected(folder.path(), &model.encode_to_vec()).unwrap().batch_variant
    };
    assert_eq!(mixing(attention(), "scale"), [""; 0]);
    assert_eq!(mixing(attention(), "other"), ["QAttention"]);
    let training = |mode| node("", "BatchNormalization", vec![AttributeProto::int("training_mode", mode)]);
    assert_eq!(mixing(training(1), "other"), ["BatchNormalization"]);
    assert_eq!(mixing(training(0), "other"), [""; 0]);
}

#[test]
fn tensors_that_lie_are_named_wherever_they_are() {
    refused(
        |model| graph(model).initializer[0].dims = vec![2, 4],
        "the tensor w needs 32 bytes by its shape [2, 4], but has 24",
    );
    refused(|model| graph(model).initializer[0].dims = vec![-2, 3], "the tensor w has a dimension of -2");
    refused(
        |model| {
            let branch = graph(model).node[0].attribute[0].g.as_mut().unwrap();
            branch.initializer[0].dims = vec![1 << 40];
        },
        "the tensor inner needs 1099511627776 bytes",
    );
    refused(
        |model| {
            graph(model).node[1].attribute[0].t.as_mut().unwrap().dims = vec![3];
        },
        "the tensor without a name needs 3 numbers in int64_data",
    );
    refused(
        |model| {
            model.functions[0].node[0].attribute = vec![AttributeProto {
                tensors: vec![tensor("t", ElementType::Float, &[1], 3)],
                ..Default::default()
            }];
        },
        "the tensor t needs 4 bytes",
    );
    refused(
        |model| graph(model).sparse_initializer[0].dims = vec![2, 2],
        "the tensor sparse is sparse, and has an index outside",
    );
    refused(
        |model| graph(model).initializer[1].dims = vec![5],
        "the tensor far needs 20 bytes at 4 of data, which has 20 bytes",
    );
    refused(
        |model| {
            let tensor = &mut graph(model).initializer[1];
            *tensor = external(&"long".repeat(10_000), &[4], "../data");
        },
        "only a relative path without ..",
    );
}

#[test]
fn models_that_cannot_be_are_refused() {
    refused(|model| model.ir_version = 0, "version 0 of the format");
    refused(|model| model.opset_import.clear(), "which operators");
    refused(|model| model.opset_import[0].version = 1000, "version 1000");
    refused(
        |model| {
            let other = OperatorSetIdProto { domain: "ai.onnx".into(), version: 18 };
            model.opset_import.push(other);
        },
        "two versions",
    );
    refused(|model| model.graph = None, "no graph");
    refused(|model| graph(model).output.clear(), "gives nothing");
    refused(|model| graph(model).input[0].name = "n".repeat(600), "has 600 bytes");
    refused(|model| model.functions[0].node = vec![node("own", "Twice", vec![])], "call each other");
    refused(
        |model| {
            let domains = (0..100).map(|n| node(&format!("domain{n}"), "Op", vec![]));
            graph(model).node.extend(domains);
        },
        "more than 64 domains",
    );
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = folder();
    for name in ["nothing.onnx", "."] {
        let error = inspect(&folder.path().join(name), folder.path()).unwrap_err();
        assert!(matches!(error, InspectError::Unreadable { .. }), "{error}");
    }
    let large = fs::File::create(folder.path().join("large.onnx")).unwrap();
    large.set_len(1 << 31).unwrap();
    let error = inspect(&folder.path().join("large.onnx"), folder.path()).unwrap_err();
    assert!(error.to_string().contains("2147483648 bytes; at most 2147483647"), "{error}");
}

#[test]
fn a_file_cut_anywhere_is_refused_without_a_crash() {
    let folder = folder();
    let mut bytes = model().encode_to_vec();
    // Last in the file, the functions could be cut off whole.
    let functions = FunctionProto::encoded_len(&model().functions[0]) + 3;
    bytes.truncate(bytes.len() - functions);
    inspected(folder.path(), &bytes).unwrap();
    for end in 0..bytes.len() {
        inspected(folder.path(), &bytes[..end]).unwrap_err();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is flipped, there is an answer, and it is short.
    #[test]
    fn flipped_bytes_do_no_harm(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let folder = folder();
        let mut bytes = model().encode_to_vec();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Err(error) = inspected(folder.path(), &bytes) {
            prop_assert!(error.to_string().len() < 1000);
        }
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Err(error) = inspected(folder().path(), &bytes) {
            prop_assert!(error.to_string().len() < 1000);
        }
    }
}
