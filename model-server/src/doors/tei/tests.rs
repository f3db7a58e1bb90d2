//! The door over the real model. What goes over the wire is tested with others' clients in `tests/`.

use switchboard_mesh::{
    Channel,
    testing::{call, context, serve},
};
use switchboard_proto::tei::v1::{
    DecodeRequest, EmbedAllRequest, EmbedRequest, EncodeRequest, InfoRequest, ModelType, PredictPairRequest,
    PredictRequest, RerankRequest, RerankStreamRequest, embed_client::EmbedClient, info_client::InfoClient,
    predict_client::PredictClient, rerank_client::RerankClient, tokenize_client::TokenizeClient,
};
use tonic::Code;

use super::*;
use crate::{Config, setup, start};

async fn channel() -> Channel {
    let folder = setup::repository();
    let config = Config {
        repository: folder.path().to_owned(),
        runtime: setup::runtime(),
        warm_up: Duration::ZERO,
        ..Config::default()
    };
    serve(&start(config, &context(folder.path())).await.unwrap())
}

fn embed(text: &str) -> EmbedRequest {
    EmbedRequest { inputs: text.into(), ..EmbedRequest::default() }
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|value| value * value).sum::<f32>().sqrt()
}

#[tokio::test]
async fn a_text_is_embedded_with_what_it_took() {
    let mut client = EmbedClient::new(channel().await);
    let reply = client.embed(embed("Größe")).await.unwrap().into_inner();
    assert_eq!(reply.embeddings.len(), 384);
    assert!((length(&reply.embeddings) - 1.0).abs() < 1e-5);
    let took = reply.metadata.unwrap();
    assert_eq!(took.compute_chars, 5);
    assert!(took.compute_tokens >= 3);
    assert!(took.inference_time_ns > 0 && took.total_time_ns >= took.inference_time_ns, "{took:?}");
    let asked = EmbedRequest { normalize: Some(false), dimensions: Some(16), ..embed("Größe") };
    let raw = client.embed(asked).await.unwrap().into_inner().embeddings;
    assert_eq!(raw.len(), 16);
    assert!((length(&raw) - 1.0).abs() > 0.01, "not scaled");
}

#[tokio::test]
async fn a_long_text_is_only_cut_if_that_was_asked_for() {
    let mut client = EmbedClient::new(channel().await);
    let text = format!("first {}last", "shoes ".repeat(300));
    let refused = client.embed(embed(&text)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("truncate"), "{refused:?}");
    let mut cut = async |direction: TruncationDirection| {
        let direction = direction.into();
        let asked = EmbedRequest { truncate: true, truncation_direction: direction, ..embed(&text) };
        client.embed(asked).await.unwrap().into_inner()
    };
    let [end, start] = [cut(TruncationDirection::Right).await, cut(TruncationDirection::Left).await];
    assert_eq!(end.metadata.unwrap().compute_tokens, 256);
    assert_ne!(end.embeddings, start.embeddings);
}

#[tokio::test]
async fn a_stream_answers_in_order_and_ends_with_the_first_failure() {
    let mut client = EmbedClient::new(channel().await);
    let texts: Vec<String> = (0..40).map(|number| "shoes ".repeat(1 + number * 7 % 30)).collect();
    let mut alone = Vec::new();
    for text in &texts[..3] {
        alone.push(client.embed(embed(text)).await.unwrap().into_inner().embeddings);
    }
    let requests: Vec<_> = texts.iter().map(|text| embed(text)).chain([embed(""), embed("late")]).collect();
    let requests = call("acme").request(futures::stream::iter(requests));
    let mut replies = client.embed_stream(requests).await.unwrap().into_inner();
    for place in 0..texts.len() {
        let together = replies.message().await.unwrap().unwrap().embeddings;
        for (one, other) in alone.get(place).into_iter().flatten().zip(&together) {
            assert!((one - other).abs() < 1e-5, "text {place}: {one} and {other}");
        }
    }
    let failed = replies.message().await.unwrap_err();
    assert_eq!(failed.code(), Code::InvalidArgument);
    assert!(failed.message().starts_with("inputs: 0 characters"), "{failed:?}");
}

#[tokio::test]
async fn metadata_names_the_model() {
    let channel = channel().await;
    let ask = |name: &'static str| call("acme").request_for(name, embed("shoes"));
    let mut client = EmbedClient::new(channel.clone());
    assert!(client.embed(ask("all-MiniLM-L6-v2")).await.is_ok());
    let unknown = client.embed(ask("none")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("all-MiniLM-L6-v2"), "{unknown:?}");
    let info = InfoClient::new(channel).info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.model_id.as_str(), info.model_type()), ("all-MiniLM-L6-v2", ModelType::Embedding));
    assert_eq!((info.max_input_length, info.max_client_batch_size), (256, 1024));
}

#[tokio::test]
async fn what_the_model_refuses_has_the_names_of_this_contract() {
    let mut client = EmbedClient::new(channel().await);
    let prompt = EmbedRequest { prompt_name: Some("none".into()), ..embed("shoes") };
    let refused = client.embed(prompt).await.unwrap_err();
    assert!(refused.message().starts_with("prompt_name"), "{refused:?}");
    let dimensions = EmbedRequest { dimensions: Some(385), ..embed("shoes") };
    let refused = client.embed(dimensions).await.unwrap_err();
    assert!(refused.message().starts_with("dimensions"), "{refused:?}");
    let all = client.embed_all(EmbedAllRequest::default()).await.unwrap_err();
    assert_eq!(all.code(), Code::Unimplemented);
}

#[tokio::test]
async fn tasks_without_a_model_say_so() {
    let channel = channel().await;
    let predict = PredictRequest { inputs: "shoes".into(), ..PredictRequest::default() };
    let mut predicts = PredictClient::new(channel.clone());
    assert_eq!(predicts.predict(predict).await.unwrap_err().code(), Code::FailedPrecondition);
    let pair = PredictPairRequest { inputs: vec!["one".into()], ..PredictPairRequest::default() };
    let refused = predicts.predict_pair(pair).await.unwrap_err();
    assert!(refused.message().contains("a pair has 2"), "{refused:?}");
    let mut reranks = RerankClient::new(channel);
    let rerank = RerankRequest { query: "q".into(), texts: vec!["t".into()], ..RerankRequest::default() };
    assert_eq!(reranks.rerank(rerank).await.unwrap_err().code(), Code::FailedPrecondition);
    let none = futures::stream::iter(Vec::<RerankStreamRequest>::new());
    assert_eq!(reranks.rerank_stream(none).await.unwrap_err().code(), Code::InvalidArgument);
    let many = RerankStreamRequest { query: "q".into(), text: "t".into(), ..RerankStreamRequest::default() };
    let many = futures::stream::iter(vec![many; 1025]);
    let refused = reranks.rerank_stream(many).await.unwrap_err();
    assert!(refused.message().contains("1024"), "{refused:?}");
}

#[tokio::test]
async fn texts_become_tokens_and_tokens_texts() {
    let mut client = TokenizeClient::new(channel().await);
    let encode = EncodeRequest { inputs: "Hello, shoes".into(), add_special_tokens: true, prompt_name: None };
    let tokens = client.tokenize(encode).await.unwrap().into_inner().tokens;
    let seen: Vec<_> = tokens.iter().map(|token| (token.text.as_str(), token.special, token.start)).collect();
    assert_eq!(
        seen,
        [
            ("[CLS]", true, None),
            ("Hello", false, Some(0)),
            (",", false, Some(5)),
            ("shoes", false, Some(7)),
            ("[SEP]", true, None),
        ]
    );
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    let decode = DecodeRequest { ids, skip_special_tokens: true };
    assert_eq!(client.decode(decode).await.unwrap().into_inner().text, "hello, shoes");
    let nothing = client.decode(DecodeRequest::default()).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);
    // Long enough to be done aside.
    let long = EncodeRequest { inputs: "shoes ".repeat(5000), ..EncodeRequest::default() };
    assert_eq!(client.tokenize(long).await.unwrap().into_inner().tokens.len(), 5000);
}
