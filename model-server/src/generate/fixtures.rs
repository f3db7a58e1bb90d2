//! Tokenizers of the kinds that there are, for tests.

use std::sync::Arc;

use serde_json::{Value, json};

use super::text::Vocabulary;

pub(super) const BYTE_LEVEL: &str = include_str!("../../fixtures/tokenizers/byte-level.json");

pub(super) fn vocabulary(tokenizer: &str) -> Arc<Vocabulary> {
    Arc::new(Vocabulary::of(tokenizer.parse().unwrap()).unwrap())
}

/// The tokenizer of bytes with the tokens of chats. `<|eot_id|>` is not special here.
pub(super) fn chat() -> Value {
    let mut tokenizer: Value = serde_json::from_str(BYTE_LEVEL).unwrap();
    let tokens = tokenizer["added_tokens"].as_array_mut().unwrap();
    for (id, content, special, rstrip) in [
        (400, "<|im_start|>", true, false),
        (401, "<|im_end|>", true, false),
        (402, "<|eot_id|>", false, false),
        (403, "<|end|>", true, true),
    ] {
        tokens.push(json!({"id": id, "content": content, "special": special, "single_word": false,
            "lstrip": false, "rstrip": rstrip, "normalized": false}));
    }
    tokenizer
}

/// A tokenizer as Llama's first ones: words with a mark in place of spaces, and bytes for what else there is.
pub(super) fn fallback() -> Value {
    let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["▁", "▁where", "▁is", "ö", "日", "a", "▁a", "ing", "<", ">", "▁▁"].map(str::to_owned));
    let vocabulary: serde_json::Map<String, Value> =
        tokens.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true,
            "byte_fallback": true, "vocab": vocabulary, "merges": []},
    })
}
