//! Which of a model's files are fetched, and which names are never made into a file.

use super::hub::Entry;

/// What the model server reads of a model besides its graph, and what says whose it is.
const DESCRIPTION: [&str; 13] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "artifact.metadata",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
];
/// The usual graphs, the likelier first.
const GRAPHS: [&str; 2] = ["onnx/model.onnx", "model.onnx"];
/// Bytes of the largest description; the largest tokenizers have some 35 MB.
const LARGEST_DESCRIPTION: u64 = 256 << 20;
/// Bytes of the largest file of weights.
const LARGEST_WEIGHTS: u64 = 64 << 30;
/// Bytes of a path.
const LONGEST_PATH: usize = 512;

/// Why nothing was chosen.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChoiceError {
    /// The model lacks a file that every model needs.
    #[error("it has no {0}, without which the model server cannot run it")]
    Lacks(&'static str),
    /// There is neither a usual graph nor weights to make one from.
    #[error("it has neither onnx/model.onnx nor model.safetensors{}", instead(.0))]
    NoGraph(Vec<String>),
    /// A pattern fits no file.
    #[error("--file {pattern}: no file of the model is of that name{}", instead(.graphs))]
    NoMatch { pattern: String, graphs: Vec<String> },
    /// A file is over the bound.
    #[error("{path} has {size} bytes, more than the {largest} that such a file may have")]
    TooLarge { path: String, size: u64, largest: u64 },
}

fn instead(graphs: &[String]) -> String {
    match graphs {
        [] => String::new(),
        graphs => format!("; choose one of its graphs with --file: {}", graphs.join(", ")),
    }
}

/// Whether a path from outside may become one below the model's folder: plain names, joined by
/// slashes, none of them hidden.
pub(super) fn is_safe(path: &str) -> bool {
    let plain = |name: &str| {
        !name.is_empty() && !name.starts_with('.') && !name.ends_with([' ', '.']) && name.len() <= 255
    };
    let allowed = |c: char| !c.is_control() && !matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    path.len() <= LONGEST_PATH && path.chars().all(allowed) && path.split('/').all(plain)
}

/// Bytes that a file of this name may have.
pub(super) fn largest(path: &str) -> u64 {
    let weights = path.ends_with(".safetensors") || path.contains(".onnx");
    if weights { LARGEST_WEIGHTS } else { LARGEST_DESCRIPTION }
}

/// The files to fetch: the description, and the graph with its data; or, where there is none, the
/// weights. `patterns` take the place of the usual graph.
///
/// # Errors
/// What is missing, and what there is instead.
pub(super) fn choose(files: &[Entry], patterns: &[String]) -> Result<Vec<Entry>, ChoiceError> {
    for needed in ["config.json", "tokenizer.json"] {
        if !files.iter().any(|file| file.path == needed) {
            return Err(ChoiceError::Lacks(needed));
        }
    }
    let graphs =
        || files.iter().map(|file| file.path.clone()).filter(|path| path.ends_with(".onnx")).collect();
    let mut wanted: Vec<&Entry> = files.iter().filter(|file| describes(&file.path)).collect();
    let before = wanted.len();
    for pattern in patterns {
        let matching = || files.iter().filter(|file| matches(pattern, &file.path));
        if matching().next().is_none() {
            return Err(ChoiceError::NoMatch { pattern: pattern.clone(), graphs: graphs() });
        }
        for file in matching() {
            wanted.push(file);
            wanted.extend(data_of(files, &file.path));
        }
    }
    if patterns.is_empty() {
        let graph = GRAPHS.iter().find_map(|usual| files.iter().find(|file| file.path == *usual));
        match graph {
            Some(graph) => {
                wanted.push(graph);
                wanted.extend(data_of(files, &graph.path));
            }
            None => wanted.extend(files.iter().filter(|file| is_weights(&file.path))),
        }
        if wanted.len() == before {
            return Err(ChoiceError::NoGraph(graphs()));
        }
    }
    wanted.sort_by(|a, b| a.path.cmp(&b.path));
    wanted.dedup_by(|a, b| a.path == b.path);
    for file in &wanted {
        let (path, largest) = (&file.path, largest(&file.path));
        if let Some(size) = file.size.filter(|&size| size > largest) {
            return Err(ChoiceError::TooLarge { path: path.clone(), size, largest });
        }
    }
    Ok(wanted.into_iter().cloned().collect())
}

/// Whether a chosen set holds a graph.
pub(super) fn has_graph(files: &[Entry]) -> bool {
    files.iter().any(|file| file.path.ends_with(".onnx"))
}

fn describes(path: &str) -> bool {
    // A module's own settings, such as `1_Pooling/config.json`.
    let module = || {
        let (folder, file) = path.split_once('/')?;
        let (number, name) = folder.split_once('_')?;
        let plain =
            number.bytes().all(|b| b.is_ascii_digit()) && name.bytes().all(|b| b.is_ascii_alphabetic());
        Some(file == "config.json" && !number.is_empty() && plain)
    };
    DESCRIPTION.contains(&path) || module().unwrap_or(false)
}

/// Files with a graph's tensors: beside it, and named after it (`model.onnx_data`, `model.onnx.data`).
fn data_of<'a>(files: &'a [Entry], graph: &str) -> impl Iterator<Item = &'a Entry> {
    let graph = if graph.ends_with(".onnx") { Some(graph.to_owned()) } else { None };
    files.iter().filter(move |file| {
        let rest = graph.as_ref().and_then(|graph| file.path.strip_prefix(graph.as_str()));
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
    })
}

fn is_weights(path: &str) -> bool {
    let sharded = || path.starts_with("model-") && path.ends_with(".safetensors") && !path.contains('/');
    path == "model.safetensors" || path == "model.safetensors.index.json" || sharded()
}

/// Whether `path` is `pattern`, in which `*` stands for any characters.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path) = (pattern.as_bytes(), path.as_bytes());
    let (mut p, mut t) = (0, 0);
    // The last star, and how much of the path it stands for so far: the only place to go back to.
    let mut star: Option<(usize, usize)> = None;
    while t < path.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && pattern[p] == path[t] {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, stands)) = star {
            star = Some((at, stands + 1));
            (p, t) = (at + 1, stands + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> Vec<Entry> {
        let entry = |path: &&str| Entry { path: (*path).to_owned(), size: Some(1), checksum: None };
        ["config.json", "tokenizer.json"].iter().chain(paths).map(entry).collect()
    }

    fn chosen(paths: &[&str], patterns: &[&str]) -> Result<Vec<String>, ChoiceError> {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let chosen = choose(&files(paths), &patterns)?.into_iter().map(|file| file.path);
        Ok(chosen.filter(|path| path != "config.json" && path != "tokenizer.json").collect())
    }

    #[test]
    fn paths_that_lead_elsewhere_are_not_safe() {
        for path in [
            "",
            "/etc/passwd",
            "../config.json",
            "onnx/../../config.json",
            "onnx//model.onnx",
            "onnx/",
            "./config.json",
            ".ssh/authorized_keys",
            "onnx/.hidden",
            "a\\..\\b",
            "c:evil",
            "line\nbreak",
            "nul\0",
            "dots..",
            &"a/".repeat(400),
            &"a".repeat(256),
        ] {
            assert!(!is_safe(path), "{path:?}");
        }
        for path in ["config.json", "1_Pooling/config.json", "onnx/model.onnx_data", "onnx/modèle.onnx"] {
            assert!(is_safe(path), "{path:?}");
        }
    }

    #[test]
    fn the_usual_graph_comes_with_its_data_and_without_its_variants() {
        let there = [
            "onnx/model.onnx",
            "onnx/model.onnx_data",
            "onnx/model.onnx_data_1",
            "onnx/model_int8.onnx",
            "model.safetensors",
            "pytorch_model.bin",
            "1_Pooling/config.json",
            "modules.json",
            "run.py",
        ];
        let expected = [
            "1_Pooling/config.json",
            "modules.json",
            "onnx/model.onnx",
            "onnx/model.onnx_data",
            "onnx/model.onnx_data_1",
        ];
        assert_eq!(chosen(&there, &[]).unwrap(), expected);
    }

    #[test]
    fn weights_come_only_where_there_is_no_graph() {
        let sharded =
            ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "x/model.safetensors"];
        assert_eq!(chosen(&sharded, &[]).unwrap(), sharded[..2]);
        assert_eq!(chosen(&["model.onnx", "model.safetensors"], &[]).unwrap(), ["model.onnx"]);
    }

    #[test]
    fn a_pattern_takes_the_place_of_the_usual_graph() {
        let there = ["onnx/model.onnx", "onnx/model_int8.onnx", "onnx/model_int8.onnx.data"];
        assert_eq!(chosen(&there, &["onnx/*int8.onnx"]).unwrap(), there[1..]);
        let error = chosen(&there, &["*fp16*"]).unwrap_err().to_string();
        assert!(error.contains("*fp16*") && error.contains("onnx/model_int8.onnx"), "{error}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = chosen(&["onnx/model_q4.onnx"], &[]).unwrap_err().to_string();
        assert!(error.contains("--file: onnx/model_q4.onnx"), "{error}");
        assert_eq!(choose(&[], &[]).unwrap_err(), ChoiceError::Lacks("config.json"));
        let mut large = files(&["onnx/model.onnx"]);
        large[0].size = Some(u64::MAX);
        assert!(matches!(choose(&large, &[]), Err(ChoiceError::TooLarge { .. })));
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, path, fits) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("*a*b*", "xaxbx", true),
            ("**a", "a", true),
            ("", "a", false),
            ("onnx/*.onnx", "onnx/model.onnx", true),
        ] {
            assert_eq!(matches(pattern, path), fits, "{pattern} {path}");
        }
        // As many stars as there could be: still no more steps than pattern times path.
        assert!(!matches(&"*a".repeat(250), &"b".repeat(500)));
    }
}
