use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use switchboard_mesh::{
    Channel, Context, Deadline, Mounted,
    testing::{call, listen},
};
use switchboard_proto::{
    inference::v1 as inference,
    inference::v1::inference_service_server::InferenceServiceServer,
    reranking::v1::{Candidate, Method, reranking_service_client::RerankingServiceClient},
    testing::{Inference, StandIn},
};
use tonic::{Code, service::Routes};

use super::*;
use crate::{Config, start};

/// A model-server whose scores are the digits that texts end with, and which takes its time.
#[derive(Clone, Default)]
struct Fake {
    calls: Arc<Mutex<Vec<inference::RerankRequest>>>,
    profiles: Arc<Mutex<usize>>,
    /// For each candidate.
    takes: Duration,
    /// From which call on, counted from 0, it fails, and how.
    fails: Option<(usize, Code)>,
    profile: Vec<inference::ProfileCell>,
    gives: Gives,
    /// It takes calls and says nothing.
    frozen: Arc<Mutex<bool>>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Gives {
    #[default]
    Scores,
    OneTooFew,
    NoNumber,
    AnotherModelEachTime,
}

#[tonic::async_trait]
impl Inference for Fake {
    async fn rerank(
        &self,
        request: Request<inference::RerankRequest>,
    ) -> Result<Response<inference::RerankResponse>, Status> {
        Call::of(&request)?.tenant()?;
        let request = request.into_inner();
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(request.clone());
            calls.len() - 1
        };
        let frozen = *self.frozen.lock().unwrap();
        if frozen {
            std::future::pending::<()>().await;
        }
        if let Some((from, code)) = self.fails
            && number >= from
        {
            return Err(Status::new(code, "upstream says so"));
        }
        tokio::time::sleep(self.takes * request.texts.len() as u32).await;
        let digit = |text: &String| text.chars().last().and_then(|c| c.to_digit(10)).unwrap_or_default();
        let mut scores: Vec<f32> = request.texts.iter().map(|text| digit(text) as f32 / 10.0).collect();
        let mut model = "judge".to_owned();
        match self.gives {
            Gives::Scores => {}
            Gives::OneTooFew => drop(scores.pop()),
            Gives::NoNumber => scores[0] = f32::NAN,
            Gives::AnotherModelEachTime => model = format!("judge-{number}"),
        }
        Ok(Response::new(inference::RerankResponse { scores, model }))
    }

    async fn profile(
        &self,
        request: Request<inference::ProfileRequest>,
    ) -> Result<Response<inference::ProfileResponse>, Status> {
        *self.profiles.lock().unwrap() += 1;
        let model = request.into_inner().model;
        let profile = inference::ModelProfile { model, cells: self.profile.clone(), ..Default::default() };
        Ok(Response::new(inference::ProfileResponse { models: vec![profile] }))
    }
}

async fn client(fake: Option<&Fake>, config: Config) -> RerankingServiceClient<Channel> {
    let context = Context::new(std::env::temp_dir(), Default::default());
    if let Some(fake) = fake {
        let routes = Routes::new(InferenceServiceServer::new(StandIn(fake.clone())));
        context.mount(&Mounted { role: "inference", routes, services: vec![], long_lived: vec![] });
    }
    context.mount(&start(config, &context).await.unwrap());
    RerankingServiceClient::new(context.channel(crate::ROLE))
}

fn request(texts: &[&str]) -> RerankRequest {
    let candidate = |text: &&str| Candidate { text: (*text).into(), ..Candidate::default() };
    RerankRequest {
        query: "What is it?".into(),
        candidates: texts.iter().map(candidate).collect(),
        ..RerankRequest::default()
    }
}

fn indexes(response: &RerankResponse) -> Vec<u32> {
    response.ranking.iter().map(|place| place.index).collect()
}

fn scored(response: &RerankResponse) -> usize {
    response.ranking.iter().filter(|place| place.scored).count()
}

fn with_features() -> Config {
    Config { features: true, ..Config::default() }
}

#[tokio::test]
async fn candidates_come_in_the_order_of_their_scores() {
    let fake = Fake::default();
    let mut client = client(Some(&fake), Config { candidates_per_call: 2, ..Config::default() }).await;
    let reply =
        client.rerank(call("t").request(request(&["3", "9", "1", "5", "7"]))).await.unwrap().into_inner();
    assert_eq!((reply.method(), reply.model.as_str()), (Method::Model, "judge"));
    assert_eq!((indexes(&reply), scored(&reply)), (vec![1, 4, 3, 0, 2], 5));
    let sizes: Vec<usize> = fake.calls.lock().unwrap().iter().map(|call| call.texts.len()).collect();
    assert_eq!(sizes, [2, 2, 1], "the most promising first, part by part");
    let few = RerankRequest { limit: 2, ..request(&["3", "9", "1"]) };
    let reply = client.rerank(call("t").request(few)).await.unwrap().into_inner();
    assert_eq!(indexes(&reply), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_there_is_no_time_for_keeps_its_order_behind_what_was_scored() {
    let fake = Fake { takes: Duration::from_millis(10), ..Fake::default() };
    let mut client = client(Some(&fake), Config { candidates_per_call: 2, ..Config::default() }).await;
    // 20 ms for the first part of two; from then on single ones, so that stopping stays possible: they
    // are foreseen with 12.5 ms, which no longer fits after 50.
    let soon = call("t").until(Deadline::after(Duration::from_millis(60)));
    let reply =
        client.rerank(soon.request(request(&["1", "5", "3", "9", "8", "7"]))).await.unwrap().into_inner();
    assert_eq!((indexes(&reply), scored(&reply)), (vec![3, 4, 1, 2, 0, 5], 5));
    let sizes: Vec<usize> = fake.calls.lock().unwrap().iter().map(|call| call.texts.len()).collect();
    assert_eq!(sizes, [2, 1, 1, 1], "a part that cannot be on time is not begun");
}

#[tokio::test(start_paused = true)]
async fn a_first_part_that_is_late_leaves_the_order_and_says_so() {
    let fake = Fake { takes: Duration::from_secs(1), ..Fake::default() };
    let mut client = client(Some(&fake), Config::default()).await;
    let texts = ["1"; 8];
    let mut ask = async |millis| {
        let began = tokio::time::Instant::now();
        let soon = call("t").until(Deadline::after(Duration::from_millis(millis)));
        let reply = client.rerank(soon.request(request(&texts))).await.unwrap().into_inner();
        assert_eq!((reply.method(), indexes(&reply)), (Method::Model, (0..8).collect()));
        let asked = fake.calls.lock().unwrap().drain(..).map(|call| call.texts.len()).collect::<Vec<_>>();
        (scored(&reply), asked, began.elapsed())
    };
    assert_eq!(ask(100).await.1, [8]);
    // The next one tries less, the one after it does not pay at all.
    assert_eq!(ask(100).await.1, [1]);
    assert_eq!(ask(100).await, (0, vec![], Duration::ZERO));
    // Whoever has the time asks at once, others after a while.
    assert_eq!(ask(5_000).await.0, 4);
    assert_eq!(ask(100).await.1, [8], "an answer ends the memory");
    assert_eq!(ask(100).await.1, [1]);
    tokio::time::advance(Config::default().look_again).await;
    assert_eq!(ask(100).await.1, [8]);
}

#[tokio::test(start_paused = true)]
async fn the_models_table_sets_the_size_of_parts_and_is_asked_for_seldom() {
    let cell = |batch, millis| inference::ProfileCell {
        batch,
        tokens: 64,
        latency: Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 }),
        samples: 1,
    };
    let fake = Fake { profile: vec![cell(1, 10), cell(4, 12), cell(16, 900)], ..Fake::default() };
    let mut client = client(Some(&fake), Config::default()).await;
    let texts = ["1"; 12];
    for _ in 0..3 {
        client.rerank(call("t").request(request(&texts))).await.unwrap();
    }
    let sizes: Vec<usize> = fake.calls.lock().unwrap().iter().map(|call| call.texts.len()).collect();
    // Of the first request nothing is known yet, not even the model's name.
    assert_eq!(sizes, [8, 4, 4, 4, 4, 4, 4, 4]);
    assert_eq!(*fake.profiles.lock().unwrap(), 1);
    tokio::time::advance(Duration::from_secs(61)).await;
    client.rerank(call("t").request(request(&texts))).await.unwrap();
    assert_eq!(*fake.profiles.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_node_that_fails_on_the_way_leaves_what_was_scored() {
    for code in [Code::Unavailable, Code::ResourceExhausted, Code::Internal] {
        let fake = Fake { fails: Some((1, code)), ..Fake::default() };
        let mut client = client(Some(&fake), Config { candidates_per_call: 2, ..Config::default() }).await;
        let reply = client.rerank(call("t").request(request(&["1", "5", "9"]))).await.unwrap().into_inner();
        assert_eq!((indexes(&reply), scored(&reply)), (vec![1, 0, 2], 2), "{code:?}");
    }
    let fake = Fake { gives: Gives::AnotherModelEachTime, ..Fake::default() };
    let mut client = client(Some(&fake), Config { candidates_per_call: 2, ..Config::default() }).await;
    let reply = client.rerank(call("t").request(request(&["1", "5", "9"]))).await.unwrap().into_inner();
    assert_eq!((reply.model.as_str(), scored(&reply)), ("judge-0", 2), "scores of two models are not mixed");
}

#[tokio::test]
async fn a_model_that_goes_away_is_told_and_not_taken_for_none() {
    let fake = Fake { fails: Some((1, Code::Unavailable)), ..Fake::default() };
    let mut plain = client(Some(&fake), Config::default()).await;
    plain.rerank(call("t").request(request(&["1", "5"]))).await.unwrap();
    let status = plain.rerank(call("t").request(request(&["1", "5"]))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let fake = Fake { fails: Some((1, Code::Unavailable)), ..Fake::default() };
    let mut weighing = client(Some(&fake), with_features()).await;
    for method in [Method::Model, Method::Features] {
        let reply = weighing.rerank(call("t").request(request(&["1", "5"]))).await.unwrap().into_inner();
        assert_eq!(reply.method(), method);
    }
}

#[tokio::test]
async fn of_several_nodes_one_that_has_the_model_scores_every_part() {
    let lacks = Fake { fails: Some((0, Code::FailedPrecondition)), ..Fake::default() };
    let has = Fake::default();
    let (mut nodes, mut guards) = (Vec::new(), Vec::new());
    for fake in [&lacks, &has] {
        let routes = Routes::new(InferenceServiceServer::new(StandIn(fake.clone())));
        let (uri, guard) =
            listen(&Mounted { role: "inference", routes, services: vec![], long_lived: vec![] }).await;
        nodes.push(uri);
        guards.push(guard);
    }
    let context = Context::new(std::env::temp_dir(), [("inference".to_owned(), nodes)].into());
    let config = Config { candidates_per_call: 1, ..Config::default() };
    context.mount(&start(config, &context).await.unwrap());
    let mut client = RerankingServiceClient::new(context.channel(crate::ROLE));
    let reply = client.rerank(call("t").request(request(&["1", "9", "5"]))).await.unwrap().into_inner();
    assert_eq!((indexes(&reply), scored(&reply)), (vec![1, 2, 0], 3));
    let asked: Vec<String> = has.calls.lock().unwrap().iter().map(|call| call.model.clone()).collect();
    assert_eq!(asked, ["", "judge", "judge"], "the first part's model goes on");
}

#[tokio::test(start_paused = true)]
async fn that_there_is_no_model_is_remembered_for_a_while() {
    let fake = Fake { fails: Some((0, Code::FailedPrecondition)), ..Fake::default() };
    let mut client = client(Some(&fake), Config::default()).await;
    for _ in 0..3 {
        let reply = client.rerank(call("t").request(request(&["1", "5"]))).await.unwrap().into_inner();
        assert_eq!((reply.method(), indexes(&reply), scored(&reply)), (Method::None, vec![0, 1], 0));
    }
    assert_eq!(fake.calls.lock().unwrap().len(), 1);
    tokio::time::advance(Config::default().look_again).await;
    client.rerank(call("t").request(request(&["1", "5"]))).await.unwrap();
    assert_eq!(fake.calls.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_request_looks_again_whether_there_is_a_model_and_the_others_do_not_wait() {
    let fake = Fake { fails: Some((0, Code::FailedPrecondition)), ..Fake::default() };
    let mut client = client(Some(&fake), Config::default()).await;
    let ask = || call("t").until(Deadline::after(Duration::from_millis(100))).request(request(&["1", "5"]));
    client.rerank(ask()).await.unwrap();
    tokio::time::advance(Config::default().look_again).await;
    // By now the node is frozen.
    *fake.frozen.lock().unwrap() = true;
    let began = tokio::time::Instant::now();
    let (mut first, mut second) = (client.clone(), client.clone());
    let look = tokio::spawn(async move { first.rerank(ask()).await });
    while fake.calls.lock().unwrap().len() == 1 {
        tokio::task::yield_now().await;
    }
    let reply = second.rerank(ask()).await.unwrap().into_inner();
    assert_eq!((reply.method(), began.elapsed()), (Method::None, Duration::ZERO));
    // The one that looked says what is known, and not that a model was slow.
    assert_eq!(look.await.unwrap().unwrap().into_inner().method(), Method::None);
    client.rerank(ask()).await.unwrap();
    assert_eq!(fake.calls.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn without_a_model_what_is_known_is_weighed_where_that_is_on() {
    for fake in [None, Some(Fake { fails: Some((0, Code::ResourceExhausted)), ..Fake::default() })] {
        let mut client = client(fake.as_ref(), with_features()).await;
        let mut asked = request(&["Nothing to do with it.", "The size of a tent."]);
        asked.query = "What size is the tent?".into();
        for (candidate, known) in asked.candidates.iter_mut().zip([0.1, 0.9]) {
            (candidate.similarity, candidate.sentence_similarity, candidate.coverage) = (known, known, known);
        }
        let reply = client.rerank(call("t").request(asked)).await.unwrap().into_inner();
        assert_eq!((reply.method(), indexes(&reply), scored(&reply)), (Method::Features, vec![1, 0], 2));
    }
}

#[tokio::test]
async fn a_named_model_is_that_model_or_none() {
    for upstream in [Code::NotFound, Code::FailedPrecondition] {
        let fake = Fake { fails: Some((0, upstream)), ..Fake::default() };
        let mut client = client(Some(&fake), with_features()).await;
        let named = RerankRequest { model: "other".into(), ..request(&["1"]) };
        let status = client.rerank(call("t").request(named)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(fake.calls.lock().unwrap()[0].model, "other");
    }
}

#[tokio::test]
async fn what_the_caller_can_act_on_passes_and_what_does_not_fit_is_refused() {
    for (fake, expected) in [
        (Fake { fails: Some((0, Code::ResourceExhausted)), ..Fake::default() }, Code::ResourceExhausted),
        (Fake { fails: Some((0, Code::InvalidArgument)), ..Fake::default() }, Code::Internal),
        (Fake { gives: Gives::OneTooFew, ..Fake::default() }, Code::Internal),
        (Fake { gives: Gives::NoNumber, ..Fake::default() }, Code::Internal),
    ] {
        let mut client = client(Some(&fake), Config::default()).await;
        let status = client.rerank(call("t").request(request(&["1", "2"]))).await.unwrap_err();
        assert_eq!(status.code(), expected);
    }
}

#[tokio::test]
async fn requests_out_of_bounds_never_reach_a_model() {
    let fake = Fake::default();
    let mut client = client(Some(&fake), Config::default()).await;
    let with = |change: &dyn Fn(&mut RerankRequest)| {
        let mut request = request(&["1", "2"]);
        change(&mut request);
        request
    };
    for (field, bad) in [
        ("query", with(&|r| r.query.clear())),
        ("query", with(&|r| r.query = "é".repeat(MOST_QUERY + 1))),
        ("candidates", with(&|r| r.candidates.clear())),
        ("candidates", with(&|r| r.candidates = vec![r.candidates[0].clone(); MOST_CANDIDATES + 1])),
        ("candidates[1].text", with(&|r| r.candidates[1].text.clear())),
        ("candidates[1].text", with(&|r| r.candidates[1].text = "é".repeat(MOST_TEXT + 1))),
        ("candidates[0].title", with(&|r| r.candidates[0].title = "é".repeat(MOST_NAME + 1))),
        ("candidates[0].heading_path", with(&|r| r.candidates[0].heading_path = vec![String::new(); 33])),
        ("candidates[0].coverage", with(&|r| r.candidates[0].coverage = f32::NAN)),
        ("candidates[1].similarity", with(&|r| r.candidates[1].similarity = 2.0)),
        ("model", with(&|r| r.model = "m".repeat(300))),
    ] {
        let status = client.rerank(call("t").request(bad)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        use tonic_types::StatusExt as _;
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, field);
    }
    assert!(fake.calls.lock().unwrap().is_empty());
}
