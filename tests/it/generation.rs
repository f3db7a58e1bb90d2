//! One node with models of every task at once, and replies that a language model on it writes.

use std::{fs, os::unix::fs::symlink, path::Path};

use switchboard_generation::Card;
use switchboard_mesh::{Context, testing::context};
use switchboard_proto::{
    generation::v1::{
        FinishReason, GenerateRequest, generate_response::Event,
        generation_service_client::GenerationServiceClient,
    },
    inference::v1::{
        self as inference, EmbedRequest, ListModelsRequest, RerankRequest, TranscribeRequest,
        inference_service_client::InferenceServiceClient,
    },
    knowledge::v1::{Hit, Passage, Sentence},
};
use tempfile::TempDir;

use crate::mesh::{cache, call, inference_config};

/// The files of the language model that every form has.
const COMMON: [&str; 4] =
    ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];

/// A repository with MiniLM, Silero, and the small models of the other tasks; the language model in ONNX, and in
/// Torch where that is built.
fn repository() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("model-server/fixtures/models");
    for model in ["all-MiniLM-L6-v2", "silero-vad"] {
        symlink(cache().join("models").join(model), folder.path().join(model)).unwrap();
    }
    for model in ["tiny-cross-encoder", "tiny-whisper"] {
        symlink(fixtures.join(model), folder.path().join(model)).unwrap();
    }
    let mut forms = vec![("lm", vec!["gqa.onnx", "genai_config.json", "model.safetensors"])];
    if cfg!(feature = "torch") {
        forms.push(("lm-torch", vec!["model.safetensors"]));
    }
    for (name, files) in forms {
        let to = folder.path().join(name);
        fs::create_dir(&to).unwrap();
        for file in COMMON.iter().copied().chain(files) {
            fs::copy(fixtures.join("tiny-lm").join(file), to.join(file)).unwrap();
        }
    }
    folder
}

/// Inference with all of them, and generation with a card for each language model.
async fn mesh() -> (Context, TempDir) {
    let folder = repository();
    let ctx = context(&folder.path().join(".data"));
    let config =
        switchboard_model_server::Config { repository: folder.path().to_owned(), ..inference_config() };
    ctx.mount(&switchboard_model_server::start(config, &ctx).await.unwrap());
    let card = |model: &str| Card {
        model: model.to_owned(),
        context_tokens: 512,
        max_tokens: 64,
        bytes_per_token: 1.8,
        ..Card::default()
    };
    let cards = ["lm", "lm-torch"].map(|model| (model.to_owned(), card(model)));
    let config = switchboard_generation::Config { cards: cards.into(), ..Default::default() };
    ctx.mount(&switchboard_generation::start(config, &ctx).await.unwrap());
    (ctx, folder)
}

fn language_models() -> Vec<&'static str> {
    if cfg!(feature = "torch") { vec!["lm", "lm-torch"] } else { vec!["lm"] }
}

async fn continued(ctx: &Context, model: &str) -> String {
    let message =
        |role: &str, content: &str| inference::ChatMessage { role: role.into(), content: content.into() };
    let request = inference::GenerateRequest {
        model: model.into(),
        messages: vec![
            message(
                "system",
                "You are the support assistant of Larkwood Lamps. Answer from the passages and cite them.",
            ),
            message(
                "user",
                "[1] The desk lamp costs 39.95 euros.\n\nQuestion: What does the desk lamp cost?",
            ),
        ],
        max_tokens: 64,
        ..inference::GenerateRequest::default()
    };
    let mut client = InferenceServiceClient::new(ctx.channel("inference"));
    let mut steps = client.generate(call("acme").request(request)).await.unwrap().into_inner();
    let (mut text, mut ending) = (String::new(), String::new());
    while let Some(step) = steps.message().await.unwrap() {
        assert!(ending.is_empty() && step.prompt_tokens > 40, "{step:?}");
        text.push_str(&step.text);
        ending = step.finish_reason;
    }
    assert_eq!(ending, "stop");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_serves_every_task_at_once() {
    let (ctx, _folder) = mesh().await;
    let mut client = InferenceServiceClient::new(ctx.channel("inference"));
    let listed = client.list_models(call("acme").request(ListModelsRequest {})).await.unwrap().into_inner();
    let tasks: Vec<_> = listed.models.iter().map(|model| (model.name.as_str(), model.task())).collect();
    assert!(tasks.contains(&("lm", inference::Task::Generate)), "{tasks:?}");
    assert!(tasks.contains(&("tiny-whisper", inference::Task::Transcribe)), "{tasks:?}");

    let texts = vec!["What does a lamp cost?".to_owned()];
    let embed = EmbedRequest { texts: texts.clone(), ..EmbedRequest::default() };
    let rerank = RerankRequest { query: texts[0].clone(), texts, ..RerankRequest::default() };
    // A second of a touch tone: 697 and 1209 Hz are a one.
    let tone = |at: f32| 0.2 * ((at * 697.0).sin() + (at * 1209.0).sin());
    let samples = (0..16_000).map(|at| tone(at as f32 * std::f32::consts::TAU / 16_000.0)).collect();
    let transcribe = TranscribeRequest { samples, ..TranscribeRequest::default() };
    let [mut embeds, mut reranks, mut transcribes] = [(); 3].map(|()| client.clone());
    let (embedded, reranked, transcribed, written) = tokio::join!(
        embeds.embed(call("acme").request(embed)),
        reranks.rerank(call("acme").request(rerank)),
        transcribes.transcribe(call("acme").request(transcribe)),
        futures::future::join_all(language_models().into_iter().map(|model| continued(&ctx, model))),
    );
    assert_eq!(embedded.unwrap().into_inner().vectors[0].values.len(), 384);
    assert_eq!(reranked.unwrap().into_inner().model, "tiny-cross-encoder");
    assert_eq!(transcribed.unwrap().into_inner().model, "tiny-whisper");
    assert!(
        written.iter().all(|text| *text == written[0] && text.contains("39.95 euros [1]")),
        "{written:?}"
    );
}

fn hit(id: &str, text: &str) -> Hit {
    Hit {
        passage: Some(Passage {
            passage_id: id.into(),
            document_id: format!("{id}.md"),
            title: "Prices".into(),
            text: text.into(),
            version: "1".into(),
            ..Passage::default()
        }),
        sentences: vec![Sentence {
            text: text.into(),
            end: text.chars().count() as u32,
            ..Sentence::default()
        }],
        ..Hit::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_of_a_node_writes_a_reply_with_its_source() {
    let (ctx, _folder) = mesh().await;
    for model in language_models() {
        let request = GenerateRequest {
            question: "What does the desk lamp cost?".into(),
            evidence: vec![hit("lamp", "The desk lamp costs 39.95 euros.")],
            model: model.into(),
            ..GenerateRequest::default()
        };
        let mut client = GenerationServiceClient::new(ctx.channel("generation"));
        let mut events = client.generate(call("acme").request(request)).await.unwrap().into_inner();
        let (mut route, mut sentences, mut finish) = (None, Vec::new(), None);
        while let Some(event) = events.message().await.unwrap() {
            match event.event.unwrap() {
                Event::Route(it) => route = Some(it),
                Event::Sentence(it) => sentences.push(it),
                Event::Finish(it) => finish = Some(it),
            }
        }
        assert_eq!(route.unwrap().model, model);
        let finish = finish.unwrap();
        assert_eq!(finish.reason(), FinishReason::Complete, "{sentences:?}");
        assert!(finish.input_tokens > 20 && finish.output_tokens > 5, "{finish:?}");
        assert!(sentences[0].text.contains("39.95"), "{sentences:?}");
        assert_eq!(sentences[0].citations[0].passage_id, "lamp");
        assert!(!sentences[0].text.contains('['), "{sentences:?}");
    }
}
