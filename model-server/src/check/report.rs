//! What was found, as text for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};
use switchboard_mesh::{
    error::chain,
    terminal::{bytes, plain},
};

use super::{Checked, Found};

/// Labels, prompts, inputs and outputs that are printed for people; JSON has all.
const MOST_PRINTED: usize = 12;
/// The width of what stands before a value.
const INDENT: usize = 13;

impl Checked {
    /// Whether the model can be served.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.found.is_ok()
    }

    /// What is wrong with the model, in one line.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.found.as_ref().err().map(|error| one_line(&chain(error)))
    }

    /// Lines for people, without a newline at the end. Nothing in them steers a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let name = one_line(&self.name);
        match &self.found {
            Ok(found) => format!("{name}: {}, {}{}", found.task, found.kind, found.lines()),
            Err(error) => {
                format!("{name}: cannot be served{}", line("problem", &one_line(&chain(error))))
            }
        }
    }

    /// One object: `name`, `usable`, and either all of [`Found`] or the `problem`.
    #[must_use]
    pub fn json(&self) -> Value {
        match &self.found {
            Ok(found) => {
                let weights: serde_json::Map<_, _> =
                    found.weights.iter().map(|(kind, bytes)| ((*kind).to_owned(), json!(bytes))).collect();
                json!({
                    "name": self.name, "usable": true, "task": found.task, "kind": found.kind,
                    "model_type": found.model_type, "file": found.file.display().to_string(),
                    "bytes": found.bytes, "weights": weights, "inputs": found.inputs,
                    "outputs": found.outputs, "dimensions": found.dimensions,
                    "max_tokens": found.max_tokens, "labels": found.labels, "prompts": found.prompts,
                    "normalize": found.normalize, "fingerprint": found.fingerprint,
                    "batch_variant": found.batch_variant,
                })
            }
            Err(error) => json!({ "name": self.name, "usable": false, "problem": chain(error) }),
        }
    }
}

impl Found {
    /// What its results are, such as `384 components`; `-` where only running it would tell.
    #[must_use]
    pub fn result(&self) -> String {
        let count = |one: &str, many: &str| match self.dimensions {
            Some(1) => format!("1 {one}"),
            Some(count) => format!("{count} {many}"),
            None => "-".to_owned(),
        };
        match (self.task, self.kind) {
            ("classify", _) => count("label", "labels"),
            ("rerank", "cross-encoder") => count("score", "scores"),
            ("rerank", _) => count("component a token", "components a token"),
            _ => count("component", "components"),
        }
    }

    /// What most of the weights are.
    #[must_use]
    pub fn weight_type(&self) -> &'static str {
        self.weights.first().map_or("none", |(kind, _)| kind)
    }

    fn lines(&self) -> String {
        let mut text = line("family", &one_line(&self.model_type));
        text += &line("file", &one_line(&self.file.display().to_string()));
        let weights = self.weights.iter().map(|(kind, size)| format!("{} of {kind}", bytes(*size)));
        text += &line("weights", &weights.collect::<Vec<_>>().join(", "));
        let scaled = match self.normalize {
            Some(true) => ", scaled to length 1",
            Some(false) => ", not scaled",
            None => "",
        };
        text += &line("gives", &format!("{}{scaled}", self.result()));
        text += &line("reads", &format!("at most {} tokens", self.max_tokens));
        text += &line("labels", &several(&self.labels));
        text += &line("prompts", &several(&self.prompts));
        text += &lines("inputs", &self.inputs);
        text += &lines("outputs", &self.outputs);
        text += &line("fingerprint", self.fingerprint.as_deref().unwrap_or_default());
        if !self.batch_variant.is_empty() {
            let operators = several(&self.batch_variant);
            text += &line(
                "warning",
                &format!("a text's result changes with the texts beside it, because of {operators}:"),
            );
            text += &line("", "rows of a batch share a scale there. To keep results the same, import the");
            text += &line("", "model from its safetensors weights, `switchboard models import FOLDER");
            text += &line("", "--weights q8` (or fp32), or choose another of its ONNX files.");
        }
        text
    }
}

/// A line of the sheet, with the newline before it; nothing where there is no value.
fn line(key: &str, value: &str) -> String {
    let mut text = String::new();
    if !value.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {key:<INDENT$}{value}");
    }
    text
}

/// A line for each value.
fn lines(key: &str, values: &[String]) -> String {
    let keys = std::iter::once(key).chain(std::iter::repeat(""));
    keys.zip(printed(values)).map(|(key, value)| line(key, &value)).collect()
}

fn several(values: &[String]) -> String {
    printed(values).join(", ")
}

fn printed(values: &[String]) -> Vec<String> {
    let mut printed: Vec<_> = values.iter().take(MOST_PRINTED).map(|value| one_line(value)).collect();
    if values.len() > MOST_PRINTED {
        printed.push(format!("and {} more", values.len() - MOST_PRINTED));
    }
    printed
}

/// Text from a model's files, in one line that steers no terminal.
fn one_line(text: &str) -> String {
    plain(&text.replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Error, repository::problem};

    fn found() -> Found {
        Found {
            task: "classify",
            kind: "tokens",
            model_type: "bert".into(),
            file: "onnx/model.onnx".into(),
            bytes: 1_234_567,
            weights: vec![("int8", 1_200_000), ("float32", 34_567)],
            inputs: vec!["input_ids: int64[batch, seq]".into()],
            outputs: vec!["logits: float32[batch, seq, 20]".into()],
            dimensions: Some(20),
            max_tokens: 256,
            labels: (0..20).map(|n| format!("label\n\u{1b}[2J{n}")).collect(),
            prompts: vec![],
            normalize: None,
            fingerprint: Some("00ff".into()),
            batch_variant: vec!["DynamicQuantizeLinear".into()],
        }
    }

    #[test]
    fn a_sheet_says_all_that_matters_and_steers_no_terminal() {
        let text = Checked { name: "tags".into(), found: Ok(found()) }.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "tags: classify, tokens");
        assert_eq!(lines[3], "  weights      1.2 MB of int8, 34.6 kB of float32");
        assert_eq!(lines[4], "  gives        20 labels");
        assert!(
            lines[6].starts_with("  labels       label [2J0, ") && lines[6].ends_with("and 8 more"),
            "{text}"
        );
        assert!(text.contains("DynamicQuantizeLinear") && text.contains("--weights q8"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains("prompts"), "{text}");
    }

    #[test]
    fn a_folder_that_cannot_be_served_says_why() {
        let error: Error = problem(Path::new("m/config.json"), "has a line\nbreak");
        let checked = Checked { name: "m".into(), found: Err(error) };
        assert_eq!(checked.text(), "m: cannot be served\n  problem      m/config.json has a line break");
        assert_eq!(checked.json()["usable"], false);
        assert!(checked.problem().unwrap().starts_with("m/config.json"));
    }
}
