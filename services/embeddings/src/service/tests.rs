use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use switchboard_mesh::{
    Channel, Context, Mounted,
    testing::{call, listen},
};
use switchboard_proto::{
    embeddings::v1::embeddings_service_client::EmbeddingsServiceClient,
    inference::v1 as inference,
    inference::v1::inference_service_server::InferenceServiceServer,
    testing::{Inference, StandIn},
};
use tonic::{Code, service::Routes};

use super::*;
use crate::{Config, start};

/// A model-server whose vectors are a text's length and first byte.
#[derive(Clone, Default)]
struct Fake {
    calls: Arc<Mutex<Vec<inference::EmbedRequest>>>,
    fails_with: Option<Code>,
    /// What the next calls end with.
    failures: Arc<Mutex<Vec<Status>>>,
    fingerprint: Arc<Mutex<String>>,
    drops_one: bool,
    /// The model that it has; `model` when empty. It knows no other.
    named: String,
    renames: bool,
    hangs: bool,
}

#[tonic::async_trait]
impl Inference for Fake {
    async fn embed(
        &self,
        request: Request<inference::EmbedRequest>,
    ) -> Result<Response<inference::EmbedResponse>, Status> {
        Call::of(&request)?.tenant()?;
        let request = request.into_inner();
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(request.clone());
            calls.len()
        };
        if let Some(code) = self.fails_with {
            return Err(Status::new(code, "upstream says so"));
        }
        let of_another = ["model", "other"].contains(&request.model.as_str())
            && request.model != if self.named.is_empty() { "model" } else { &self.named };
        if of_another {
            return Err(Status::not_found("it has another model"));
        }
        if let Some(status) = self.failures.lock().unwrap().pop() {
            return Err(status);
        }
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let mut vectors: Vec<_> = request
            .texts
            .iter()
            .map(|text| inference::Vector {
                values: vec![text.len() as f32, f32::from(text.as_bytes()[0])],
                tokens: text.len() as u32,
                truncated: text.len() > 100,
            })
            .collect();
        if self.drops_one {
            vectors.pop();
        }
        let model = match self.named.as_str() {
            _ if self.renames => format!("model-{number}"),
            "" => "model".to_owned(),
            named => named.to_owned(),
        };
        let fingerprint = self.fingerprint.lock().unwrap().clone();
        Ok(Response::new(inference::EmbedResponse { vectors, model, fingerprint }))
    }
}

async fn client(fake: &Fake, config: Config) -> EmbeddingsServiceClient<Channel> {
    let context = Context::new(std::env::temp_dir(), Default::default());
    let routes = Routes::new(InferenceServiceServer::new(StandIn(fake.clone())));
    context.mount(&Mounted { role: "inference", routes, services: vec![], long_lived: vec![] });
    context.mount(&start(config, &context).await.unwrap());
    EmbeddingsServiceClient::new(context.channel(crate::ROLE))
}

/// The service over model-servers on nodes of their own, which stop with the guards.
async fn over(fakes: [&Fake; 2], config: Config) -> (EmbeddingsServiceClient<Channel>, Vec<impl Drop>) {
    let (mut nodes, mut guards) = (Vec::new(), Vec::new());
    for fake in fakes {
        let routes = Routes::new(InferenceServiceServer::new(StandIn(fake.clone())));
        let (uri, guard) =
            listen(&Mounted { role: "inference", routes, services: vec![], long_lived: vec![] }).await;
        nodes.push(uri);
        guards.push(guard);
    }
    let remote = [("inference".to_owned(), nodes)].into();
    let context = Context::new(std::env::temp_dir(), remote);
    context.mount(&start(config, &context).await.unwrap());
    (EmbeddingsServiceClient::new(context.channel(crate::ROLE)), guards)
}

fn batch(texts: &[&str]) -> EmbedRequest {
    let texts = texts.iter().map(|&text| text.to_owned()).collect();
    EmbedRequest { texts, ..EmbedRequest::default() }
}

/// The texts of each call so far.
fn sent(fake: &Fake) -> Vec<String> {
    fake.calls.lock().unwrap().iter().map(|call| call.texts.join(" ")).collect()
}

#[tokio::test]
async fn vectors_come_in_order_and_equal_texts_are_sent_once() {
    let fake = Fake::default();
    let mut client = client(&fake, Config { model: "small".into(), ..Config::default() }).await;
    let reply =
        client.embed(call("t").request(batch(&["aa", "b", "aa", "cccc"]))).await.unwrap().into_inner();
    let lengths: Vec<_> = reply.embeddings.iter().map(|embedding| embedding.tokens).collect();
    assert_eq!((lengths.as_slice(), reply.model.as_str()), (&[2, 1, 2, 4][..], "model"));
    let calls = fake.calls.lock().unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].texts.join(" "), calls[0].model.as_str()), ("aa b cccc".into(), "small"));
}

#[tokio::test]
async fn a_large_request_is_spread_over_calls() {
    let fake = Fake::default();
    let mut client = client(&fake, Config { texts_per_call: 100, ..Config::default() }).await;
    let texts: Vec<String> = (1..=1024).map(|n| "x".repeat(n)).collect();
    let request = EmbedRequest { texts, model: "named".into(), ..EmbedRequest::default() };
    let reply = client.embed(call("t").request(request)).await.unwrap().into_inner();
    assert!(reply.embeddings.iter().zip(1_u32..).all(|(embedding, n)| embedding.tokens == n));
    assert!(!reply.embeddings[99].truncated && reply.embeddings[100].truncated);
    let calls = fake.calls.lock().unwrap();
    assert_eq!(calls.len(), 11);
    assert!(calls.iter().all(|call| call.texts.len() <= 100 && call.model == "named"));
}

#[tokio::test]
async fn nodes_share_a_large_request_and_stand_in_for_one_another() {
    let (a, b) = (Fake::default(), Fake::default());
    let config = Config { texts_per_call: 10, calls_at_once: 2, cache_mib: 0, ..Config::default() };
    let (mut client, mut guards) = over([&a, &b], config).await;
    let texts: Vec<String> = (1..=100).map(|n| "x".repeat(n)).collect();
    let request = EmbedRequest { texts, ..EmbedRequest::default() };
    let reply = client.embed(call("t").request(request.clone())).await.unwrap().into_inner();
    assert!(reply.embeddings.iter().zip(1_u32..).all(|(embedding, n)| embedding.tokens == n));
    let taken = [&a, &b].map(|fake| fake.calls.lock().unwrap().len());
    assert_eq!(taken.iter().sum::<usize>(), 10);
    assert!(taken.iter().all(|calls| *calls >= 3), "{taken:?}");
    // One goes: the other one takes it all, and the caller hears nothing of it.
    drop(guards.remove(0));
    for _ in 0..3 {
        let reply = client.embed(call("t").request(request.clone())).await.unwrap().into_inner();
        assert_eq!(reply.embeddings.len(), 100);
    }
}

#[tokio::test]
async fn a_model_that_one_node_lacks_is_looked_for_on_the_others() {
    let (lacks, has) = (Fake { fails_with: Some(Code::NotFound), ..Fake::default() }, Fake::default());
    let config = Config { texts_per_call: 1, cache_mib: 0, ..Config::default() };
    let (mut client, _guards) = over([&lacks, &has], config.clone()).await;
    let named = EmbedRequest { model: "rare".into(), ..batch(&["a", "b", "c", "d"]) };
    let reply = client.embed(call("t").request(named.clone())).await.unwrap().into_inner();
    assert_eq!(reply.embeddings.len(), 4);
    assert_eq!(sent(&has).len(), 4);
    assert!(has.calls.lock().unwrap().iter().all(|call| call.model == "rare"));
    // Nobody has it: that is the answer, after everybody was asked.
    let lacks = [(); 2].map(|()| Fake { fails_with: Some(Code::NotFound), ..Fake::default() });
    let (mut client, _guards) = over([&lacks[0], &lacks[1]], config).await;
    let status = client.embed(call("t").request(named)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn nodes_with_different_defaults_agree_on_one_model() {
    // Each answers to its own name, and only one of them has the other's model.
    let (a, b) = (Fake::default(), Fake { named: "other".into(), ..Fake::default() });
    let config = Config { texts_per_call: 1, ..Config::default() };
    let (mut client, _guards) = over([&a, &b], config).await;
    let reply = client.embed(call("t").request(batch(&["a", "b", "c"]))).await.unwrap().into_inner();
    assert_eq!((reply.embeddings.len(), reply.fingerprint), (3, reply.model));
}

#[tokio::test]
async fn a_text_that_was_embedded_is_not_sent_again() {
    let fake = Fake::default();
    let mut client = client(&fake, Config::default()).await;
    client.embed(call("t").request(batch(&["aa", "b"]))).await.unwrap();
    let reply = client.embed(call("t").request(batch(&["cccc", "b", "aa"]))).await.unwrap().into_inner();
    let lengths: Vec<_> = reply.embeddings.iter().map(|embedding| embedding.tokens).collect();
    assert_eq!((lengths, reply.model.as_str()), (vec![4, 1, 2], "model"));
    assert_eq!(sent(&fake), ["aa b", "cccc"]);
    // Another prompt, another model and another tenant each have their own.
    let prompted = EmbedRequest { prompt: "query".into(), ..batch(&["b"]) };
    client.embed(call("t").request(prompted)).await.unwrap();
    client.embed(call("t").request(EmbedRequest { model: "m".into(), ..batch(&["b"]) })).await.unwrap();
    client.embed(call("u").request(batch(&["b"]))).await.unwrap();
    assert_eq!(sent(&fake)[2..], ["b", "b", "b"]);
    assert_eq!(fake.calls.lock().unwrap()[2].prompt, "query");
}

#[tokio::test]
async fn work_that_nobody_waits_for_reads_the_cache_and_leaves_it_as_it_is() {
    let fake = Fake::default();
    let mut client = client(&fake, Config::default()).await;
    let ingest = call("t").with_class(switchboard_mesh::Class::Batch);
    for _ in 0..2 {
        client.embed(ingest.request(batch(&["a"]))).await.unwrap();
    }
    client.embed(call("t").request(batch(&["a"]))).await.unwrap();
    client.embed(ingest.request(batch(&["a"]))).await.unwrap();
    assert_eq!(sent(&fake), ["a", "a", "a"]);
}

#[tokio::test]
async fn a_new_model_makes_every_vector_of_an_answer() {
    let fake = Fake { fingerprint: Arc::new(Mutex::new("one".into())), ..Fake::default() };
    let mut client = client(&fake, Config::default()).await;
    client.embed(call("t").request(batch(&["a", "b"]))).await.unwrap();
    "two".clone_into(&mut fake.fingerprint.lock().unwrap());
    let reply = client.embed(call("t").request(batch(&["a", "c"]))).await.unwrap().into_inner();
    assert_eq!(reply.fingerprint, "two");
    // `c` brought the news, so `a` had to be made anew; what is left of the old is gone.
    client.embed(call("t").request(batch(&["b"]))).await.unwrap();
    assert_eq!(sent(&fake), ["a b", "c", "a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_answers_everything_still_hears_of_a_new_model() {
    let fake = Fake { fingerprint: Arc::new(Mutex::new("one".into())), ..Fake::default() };
    let mut client = client(&fake, Config::default()).await;
    client.embed(call("t").request(batch(&["a", "b"]))).await.unwrap();
    "two".clone_into(&mut fake.fingerprint.lock().unwrap());
    tokio::time::advance(Duration::from_secs(60)).await;
    let reply = client.embed(call("t").request(batch(&["a", "b"]))).await.unwrap().into_inner();
    assert_eq!(
        (reply.fingerprint.as_str(), sent(&fake).as_slice()),
        ("two", &["a b".to_owned(), "a".into(), "b".into()][..])
    );
}

#[tokio::test(start_paused = true)]
async fn a_part_that_could_not_be_taken_is_sent_again_alone() {
    let fake = Fake::default();
    let mut details = tonic_types::ErrorDetails::new();
    details.set_retry_info(Some(Duration::from_millis(200)));
    use tonic_types::StatusExt as _;
    let full = Status::with_error_details(Code::ResourceExhausted, "full", details);
    *fake.failures.lock().unwrap() = vec![Status::unavailable("gone"), full];
    let config = Config { texts_per_call: 1, calls_at_once: 1, ..Config::default() };
    let mut client = client(&fake, config).await;
    let began = tokio::time::Instant::now();
    let reply = client.embed(call("t").request(batch(&["a", "b"]))).await.unwrap().into_inner();
    assert_eq!((reply.embeddings.len(), sent(&fake).join(" ")), (2, "a a a b".into()));
    assert!(began.elapsed() >= Duration::from_millis(200), "the node named its time");
    // With less time than the node asks for, its status is the answer at once.
    fake.failures.lock().unwrap().push(Status::unavailable("gone"));
    let soon = call("t").until(switchboard_mesh::Deadline::after(Duration::from_millis(5)));
    let status = client.embed(soon.request(batch(&["c"]))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn requests_out_of_bounds_never_reach_a_model() {
    let fake = Fake::default();
    let mut client = client(&fake, Config::default()).await;
    let long = "é".repeat(MOST_CHARACTERS + 1);
    for texts in [vec![], vec![""], vec!["ok", &long], vec!["a"; MOST_TEXTS + 1]] {
        let status = client.embed(call("t").request(batch(&texts))).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    // The longest texts that are allowed, and one too many: still told which field it was.
    let texts = vec!["a".repeat(MOST_CHARACTERS); MOST_TEXTS + 1];
    let request = EmbedRequest { texts, ..EmbedRequest::default() };
    let status = client.embed(call("t").request(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("texts"), "{}", status.message());
    assert!(fake.calls.lock().unwrap().is_empty());
    let most = "é".repeat(MOST_CHARACTERS);
    assert!(client.embed(call("t").request(batch(&[&most]))).await.is_ok());
}

#[tokio::test]
async fn statuses_that_a_caller_can_act_on_pass() {
    for (upstream, expected) in [
        (Code::NotFound, Code::NotFound),
        (Code::ResourceExhausted, Code::ResourceExhausted),
        (Code::Unavailable, Code::Unavailable),
        (Code::DeadlineExceeded, Code::DeadlineExceeded),
        (Code::FailedPrecondition, Code::Unavailable),
        (Code::InvalidArgument, Code::Internal),
        (Code::Unknown, Code::Internal),
    ] {
        let fake = Fake { fails_with: Some(upstream), ..Fake::default() };
        let status =
            client(&fake, Config::default()).await.embed(call("t").request(batch(&["a"]))).await.unwrap_err();
        assert_eq!(status.code(), expected, "{upstream:?}");
        assert_eq!(status.message().contains("upstream says so"), expected != Code::Internal);
    }
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_refused() {
    let split = Config { texts_per_call: 1, ..Config::default() };
    for (fake, expected) in [
        (Fake { drops_one: true, ..Fake::default() }, Code::Internal),
        (Fake { renames: true, ..Fake::default() }, Code::Unavailable),
    ] {
        let mut client = client(&fake, split.clone()).await;
        let status = client.embed(call("t").request(batch(&["a", "b"]))).await.unwrap_err();
        assert_eq!(status.code(), expected);
    }
}

#[tokio::test]
async fn no_model_server_is_unavailable() {
    let context = Context::new(std::env::temp_dir(), Default::default());
    context.mount(&start(Config::default(), &context).await.unwrap());
    let mut client = EmbeddingsServiceClient::new(context.channel(crate::ROLE));
    let status = client.embed(call("t").request(batch(&["a"]))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_hangs_ends_with_the_deadline() {
    let fake = Fake { hangs: true, ..Fake::default() };
    let mut client = client(&fake, Config::default()).await;
    let soon = call("t").until(switchboard_mesh::Deadline::after(Duration::from_millis(20)));
    let status = client.embed(soon.request(batch(&["a"]))).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_stream_answers_each_batch_and_ends_with_a_bad_one() {
    let fake = Fake::default();
    let mut client = client(&fake, Config::default()).await;
    let requests = [Some(batch(&["a"])), Some(batch(&["bb", "cc"])), None, Some(batch(&["d"]))]
        .map(|request| EmbedStreamRequest { request });
    let reply = client.embed_stream(call("t").request(tokio_stream::iter(requests))).await.unwrap();
    let mut replies = reply.into_inner();
    for expected in [1, 2] {
        let response = replies.message().await.unwrap().unwrap().response.unwrap();
        assert_eq!(response.embeddings.len(), expected);
    }
    assert_eq!(replies.message().await.unwrap_err().code(), Code::InvalidArgument);
    assert!(replies.message().await.unwrap().is_none());
    assert_eq!(fake.calls.lock().unwrap().len(), 2);
}
