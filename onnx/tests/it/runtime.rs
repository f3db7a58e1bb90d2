//! Runs graphs, to see what they compute.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ort::{
    environment::Environment,
    logging::LogLevel,
    session::{Session, SessionInputValue, SessionOutputs},
    value::Tensor,
};

/// A model of `fixtures/`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A row of a batch.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) ids: Vec<i64>,
    pub(crate) mask: Vec<i64>,
    pub(crate) types: Vec<i64>,
    /// The output for each token of it, or one for the whole of it.
    pub(crate) output: Vec<Vec<f32>>,
}

impl Row {
    /// Tokens that are not padding.
    pub(crate) fn length(&self) -> usize {
        self.mask.iter().filter(|&&mask| mask == 1).count()
    }

    /// The row without its padding.
    pub(crate) fn alone(&self) -> Self {
        let cut = |values: &[i64]| values[..self.length()].to_vec();
        Self {
            ids: cut(&self.ids),
            mask: cut(&self.mask),
            types: cut(&self.types),
            output: self.output.clone(),
        }
    }
}

/// The rows of `golden.json` in a model of `fixtures/`.
pub(crate) fn golden(name: &str) -> Vec<Row> {
    let path = fixture(name).join("golden.json");
    let rows: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let row = |row: &serde_json::Value| Row {
        ids: serde_json::from_value(row["input_ids"].clone()).unwrap(),
        mask: serde_json::from_value(row["attention_mask"].clone()).unwrap(),
        types: serde_json::from_value(row["token_type_ids"].clone()).unwrap(),
        output: serde_json::from_value(row["output"].clone()).unwrap(),
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

/// A graph in ONNX Runtime.
pub(crate) struct Graph(Session);

impl Graph {
    pub(crate) fn load(path: &Path) -> Self {
        let mut builder = Session::builder(environment()).unwrap().with_intra_threads(1).unwrap();
        Self(builder.commit_from_file(path).unwrap())
    }

    pub(crate) fn inputs(&self) -> Vec<&str> {
        self.0.inputs().iter().map(|input| input.name()).collect()
    }

    /// The shape and values of the output `name` for `rows`, which have one length.
    pub(crate) fn run(&mut self, rows: &[Row], name: &str) -> (Vec<usize>, Vec<f32>) {
        let outputs = self.try_run(rows).unwrap();
        let (shape, values) = outputs.get(name).unwrap().try_extract_tensor::<f32>().unwrap();
        (shape.iter().map(|&n| n as usize).collect(), values.to_vec())
    }

    /// Whether the graph computes anything for `rows`.
    pub(crate) fn runs(&mut self, rows: &[Row]) -> bool {
        self.try_run(rows).is_ok()
    }

    fn try_run(&mut self, rows: &[Row]) -> ort::Result<SessionOutputs<'_>> {
        let tensor = |part: fn(&Row) -> &Vec<i64>| {
            let values: Vec<i64> = rows.iter().flat_map(part).copied().collect();
            Tensor::from_array(([rows.len(), rows[0].ids.len()], values)).unwrap()
        };
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = vec![
            ("input_ids".into(), tensor(|row| &row.ids).into()),
            ("attention_mask".into(), tensor(|row| &row.mask).into()),
        ];
        if self.inputs().contains(&"token_type_ids") {
            inputs.push(("token_type_ids".into(), tensor(|row| &row.types).into()));
        }
        self.0.run(inputs)
    }

    /// The output `name` for each row: one vector for each token that is no padding, or one in all.
    pub(crate) fn outputs(&mut self, rows: &[Row], name: &str) -> Vec<Vec<Vec<f32>>> {
        let (shape, values) = self.run(rows, name);
        let width = *shape.last().unwrap();
        let per_row = values.len() / rows.len();
        let vectors = |(row, values): (&Row, &[f32])| {
            let vectors = values.chunks_exact(width).map(<[f32]>::to_vec);
            vectors.take(if shape.len() == 3 { row.length() } else { 1 }).collect()
        };
        rows.iter().zip(values.chunks_exact(per_row)).map(vectors).collect()
    }
}

fn environment() -> &'static Environment {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/onnxruntime/libonnxruntime.so");
        let library = library.canonicalize().unwrap_or_else(|error| {
            panic!("{} is needed: run `cargo xtask setup` ({error})", library.display())
        });
        let environment = ort::init_from(&library).unwrap().with_telemetry(false).build().unwrap();
        // Some tests want errors; what fails is returned as well.
        environment.set_log_level(LogLevel::Fatal);
        environment
    })
}
