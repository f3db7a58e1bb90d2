use std::fs;

use super::*;

/// A model's folder with an empty tokenizer and graph, and these files.
fn model(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{"model_type": "bert", "hidden_size": 4, "max_position_embeddings": 64}"#;
    for (name, text) in [("config.json", config), ("tokenizer.json", ""), ("onnx/model.onnx", "")] {
        write(folder.path(), name, text);
    }
    for (name, text) in files {
        write(folder.path(), name, text);
    }
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn described(files: &[(&str, &str)]) -> Description {
    describe(model(files).path()).unwrap()
}

fn refusal(files: &[(&str, &str)]) -> String {
    describe(model(files).path()).unwrap_err().to_string()
}

fn config(rest: &str) -> String {
    format!(r#"{{"model_type": "bert", "hidden_size": 4, "max_position_embeddings": 64, {rest}}}"#)
}

#[test]
fn models_are_listed_by_name_and_folders_that_cannot_be_named_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b", "a", ".partial"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let unspeakable = std::os::unix::ffi::OsStrExt::from_bytes(b"not \xff UTF-8");
    fs::create_dir(folder.path().join::<&std::ffi::OsStr>(unspeakable)).unwrap();
    fs::write(folder.path().join("README.md"), "").unwrap();
    assert!(list(folder.path()).unwrap().into_keys().eq(["a", "b"]));
}

#[test]
fn the_graph_is_the_one_that_is_named_else_the_usual_one_else_the_only_one() {
    let graph = |folder: &Path| {
        let description = describe(folder).unwrap();
        description.graph.strip_prefix(folder).unwrap().display().to_string()
    };
    let folder = model(&[("model.onnx", ""), ("onnx/model_q8.onnx", "")]);
    assert_eq!(graph(folder.path()), "onnx/model.onnx");
    fs::remove_file(folder.path().join("onnx/model.onnx")).unwrap();
    assert_eq!(graph(folder.path()), "model.onnx");
    fs::remove_file(folder.path().join("model.onnx")).unwrap();
    assert_eq!(graph(folder.path()), "onnx/model_q8.onnx");
    write(folder.path(), "onnx/model_fp16.onnx", "");
    let error = describe(folder.path()).unwrap_err().to_string();
    assert!(error.contains("onnx/model_fp16.onnx, onnx/model_q8.onnx"), "{error}");
    write(folder.path(), "model.toml", "file = 'onnx/model_fp16.onnx'");
    assert_eq!(graph(folder.path()), "onnx/model_fp16.onnx");
    for outside in ["../model.onnx", "/tmp/model.onnx", "onnx/../../x.onnx"] {
        write(folder.path(), "model.toml", &format!("file = '{outside}'"));
        let error = describe(folder.path()).unwrap_err().to_string();
        assert!(error.contains("model.toml") && error.contains("not below"), "{error}");
    }
}

#[test]
fn torchscript_is_taken_where_there_is_no_onnx_or_it_is_asked_for() {
    let chosen = |folder: &Path| {
        let Description { backend, graph, .. } = describe(folder).unwrap();
        (backend, graph.strip_prefix(folder).unwrap().display().to_string())
    };
    let folder = model(&[("model.pt", ""), ("a.pt", "")]);
    assert_eq!(chosen(folder.path()), (BackendName::Onnx, "onnx/model.onnx".into()));
    write(folder.path(), "model.toml", "backend = 'torch'");
    assert_eq!(chosen(folder.path()), (BackendName::Torch, "model.pt".into()));
    write(folder.path(), "model.toml", "file = 'a.pt'");
    assert_eq!(chosen(folder.path()), (BackendName::Torch, "a.pt".into()));
    write(folder.path(), "model.toml", "");
    fs::remove_file(folder.path().join("onnx/model.onnx")).unwrap();
    assert_eq!(chosen(folder.path()), (BackendName::Torch, "model.pt".into()));
    write(folder.path(), "model.toml", "backend = 'onnx'");
    assert!(describe(folder.path()).unwrap_err().to_string().contains("onnx/model.onnx"));
    fs::remove_file(folder.path().join("model.pt")).unwrap();
    write(folder.path(), "model.toml", "backend = 'torch'");
    assert!(describe(folder.path()).unwrap_err().to_string().contains("model.pt cannot be read"));
}

#[test]
fn the_task_is_read_from_the_architecture_and_the_labels() {
    let of = |rest: &str| described(&[("config.json", &config(rest))]).task;
    assert_eq!(
        of(r#""architectures": ["BertModel"]"#),
        Task::Embed {
            pooling: Some(Pooling::Mean),
            normalize: true,
            prompts: BTreeMap::new(),
            default_prompt: None
        }
    );
    let sequence = r#""architectures": ["BertForSequenceClassification"]"#;
    assert_eq!(of(&format!(r#"{sequence}, "id2label": {{"0": "LABEL_0"}}"#)), Task::CrossEncoder);
    assert_eq!(of(&format!(r#"{sequence}, "num_labels": 1"#)), Task::CrossEncoder);
    let labels = |labels: &[&str]| labels.iter().map(|&label| label.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        of(&format!(r#"{sequence}, "id2label": {{"1": "yes", "0": "no"}}"#)),
        Task::Sequence { labels: labels(&["no", "yes"]), independent: false }
    );
    assert_eq!(
        of(&format!(r#"{sequence}, "problem_type": "multi_label_classification""#)),
        Task::Sequence { labels: labels(&["LABEL_0", "LABEL_1"]), independent: true }
    );
    assert_eq!(
        of(r#""architectures": ["BertForTokenClassification"], "id2label": {"0": "O", "1": "B-PER"}"#),
        Task::Tokens { labels: labels(&["O", "B-PER"]) }
    );
    assert_eq!(of(r#""architectures": ["HF_ColBERT"]"#), Task::LateInteraction(LateInteraction::default()));
}

#[test]
fn late_interaction_is_read_from_its_artifact() {
    let artifact = r#"{"query_maxlen": 16, "doc_maxlen": 60, "query_token_id": "[Q]", "mask_punctuation": false,
        "checkpoint": "x", "nbits": 2}"#;
    let Task::LateInteraction(late) = described(&[("artifact.metadata", artifact)]).task else {
        panic!("another task");
    };
    assert_eq!((late.query_tokens, late.document_tokens), (16, 60));
    assert_eq!((late.query_marker.as_str(), late.document_marker.as_str()), ("[Q]", "[unused1]"));
    assert!(!late.skip_punctuation);
    let error = refusal(&[("artifact.metadata", r#"{"query_maxlen": 0}"#)]);
    assert!(error.contains("artifact.metadata has query_maxlen = 0; 4 to 8192"), "{error}");
}

#[test]
fn pooling_normalisation_and_prompts_are_read_from_the_modules() {
    let modules = |more: &str| {
        format!(
            r#"[{{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}},
            {{"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}}{more}]"#
        )
    };
    let normalise =
        r#", {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}"#;
    let prompts = r#"{"prompts": {"query": "q: ", "document": ""}, "default_prompt_name": "query"}"#;
    let read = |modules: &str, pooling: &str| {
        let files = [
            ("modules.json", modules),
            ("1_Pooling/config.json", pooling),
            ("config_sentence_transformers.json", prompts),
        ];
        described(&files).task
    };
    let Task::Embed { pooling, normalize, prompts, default_prompt } =
        read(&modules(normalise), r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#)
    else {
        panic!("another task");
    };
    assert_eq!((pooling, normalize), (Some(Pooling::Cls), true));
    // Beside a default prompt, an empty one is the way to have none.
    let both = BTreeMap::from([("query".into(), "q: ".into()), ("document".into(), String::new())]);
    assert_eq!((prompts, default_prompt), (both, Some("query".into())));
    let Task::Embed { pooling, normalize, .. } = read(&modules(""), r#"{"pooling_mode_lasttoken": true}"#)
    else {
        panic!("another task");
    };
    assert_eq!((pooling, normalize), (Some(Pooling::Last), false));
    let dense = r#", {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"}"#;
    let error = refusal(&[("modules.json", &modules(dense))]);
    assert!(error.contains("modules.json has a module \"Dense\"") && error.contains("`output`"), "{error}");
    let output = ("model.toml", "output = 'sentence_embedding'");
    let Task::Embed { pooling, .. } = described(&[("modules.json", &modules(dense)), output]).task else {
        panic!("another task");
    };
    assert_eq!(pooling, None);
    let out = modules("").replace("1_Pooling\"", "../secrets\"");
    let error = refusal(&[("modules.json", &out)]);
    assert!(error.contains("../secrets"), "{error}");
}

#[test]
fn empty_prompts_without_a_default_are_none() {
    let prompts = r#"{"prompts": {"query": "", "document": "d: "}, "default_prompt_name": null}"#;
    let file = ("config_sentence_transformers.json", prompts);
    assert_eq!(described(&[file]).task.prompts(), ["document"]);
    let default = ("model.toml", "default_prompt = 'document'");
    assert_eq!(described(&[file, default]).task.prompts(), ["document", "query"]);
}

#[test]
fn a_pooling_that_there_is_not_is_named() {
    for (pooling, named) in [
        (r#"{"pooling_mode_max_tokens": true}"#, "max_tokens"),
        (
            r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#,
            "cls_token and mean_tokens",
        ),
        (r#"{"pooling_mode": "weightedmean"}"#, "weightedmean"),
        (r#"{"pooling_mode_mean_tokens": true, "include_prompt": false}"#, "prompts"),
    ] {
        let error = refusal(&[("1_Pooling/config.json", pooling)]);
        assert!(error.contains("1_Pooling/config.json") && error.contains(named), "{error}");
    }
}

#[test]
fn the_longest_input_is_the_least_that_any_file_says() {
    let limit = r#"{"max_seq_length": 32}"#;
    let most = |files: &[(&str, &str)]| described(files).max_tokens;
    assert_eq!(most(&[]), Some(64));
    assert_eq!(most(&[("sentence_bert_config.json", limit)]), Some(32));
    assert_eq!(most(&[("sentence_bert_config.json", limit), ("model.toml", "max_tokens = 48")]), Some(48));
    let roberta = r#"{"model_type": "roberta", "max_position_embeddings": 66, "pad_token_id": 1}"#;
    assert_eq!(most(&[("config.json", roberta)]), Some(64));
    let relative = r#"{"model_type": "deberta-v2", "max_position_embeddings": -1}"#;
    assert_eq!(most(&[("config.json", relative)]), None);
    for tokens in [0, 1, 7] {
        let config = format!(r#"{{"model_type": "bert", "max_position_embeddings": {tokens}}}"#);
        let error = refusal(&[("config.json", &config)]);
        assert!(error.contains("config.json has max_position_embeddings"), "{error}");
    }
    let error = refusal(&[("sentence_bert_config.json", r#"{"max_seq_length": 7}"#)]);
    assert!(error.contains("sentence_bert_config.json has max_seq_length for 7 tokens"), "{error}");
}

#[test]
fn what_the_operator_says_goes_before_what_is_found() {
    let toml = "task = 'embed'\npooling = 'last'\nnormalize = false\ninstances = 2\nwarm_up = '50ms'\n\
                default_prompt = 'q'\n[prompts]\nq = 'query: '";
    let sequence = config(r#""architectures": ["BertForSequenceClassification"]"#);
    let description = described(&[("config.json", &sequence), ("model.toml", toml)]);
    let Task::Embed { pooling, normalize, default_prompt, .. } = description.task else {
        panic!("another task");
    };
    assert_eq!((pooling, normalize, default_prompt.as_deref()), (Some(Pooling::Last), false, Some("q")));
    assert_eq!(description.settings.warm_up, Some(std::time::Duration::from_millis(50)));
}

#[test]
fn settings_that_cannot_be_name_the_key_and_what_is_allowed() {
    for (toml, named) in [
        ("pool = 'mean'", "unknown field `pool`"),
        ("pooling = 'max'", "`mean`"),
        ("task = 'summarise'", "`classify`"),
        ("task = 'generate'", "num_attention_heads"),
        ("instances = 0", "instances = 0; 1 to 64"),
        ("queue = 1025", "queue = 1025; 2048 to"),
        ("max_tokens = 100000", "max_tokens = 100000; 8 to 8192"),
        ("task = 'rerank'", "no model that reranks"),
        ("task = 'classify'", "ForTokenClassification"),
        ("default_prompt = 'q'", "default prompt"),
        ("= 3", "cannot be used"),
    ] {
        let error = refusal(&[("model.toml", toml)]);
        assert!(error.contains(named), "{toml}: {error}");
    }
}

#[test]
fn labels_with_a_gap_or_too_many_are_refused() {
    let sequence = r#""architectures": ["BertForSequenceClassification"]"#;
    let error =
        refusal(&[("config.json", &config(&format!(r#"{sequence}, "id2label": {{"0": "a", "2": "b"}}"#)))]);
    assert!(error.contains("id2label without a name for 1"), "{error}");
    let error = refusal(&[("config.json", &config(&format!(r#"{sequence}, "num_labels": 1000000000"#)))]);
    assert!(error.contains("labels"), "{error}");
}

#[test]
fn a_settings_file_without_end_is_not_read() {
    let long = " ".repeat(LARGEST_SETTINGS as usize + 1);
    let error = refusal(&[("config.json", &long)]);
    assert!(error.contains("config.json has more than"), "{error}");
}
