//! The turn's stage `rerank`: what it makes of a reranking service that answers, is late, or is away.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use switchboard_mesh::{Context, Mounted};
use switchboard_proto::{
    conversation::v1::{Budget, ConverseRequest, Outcome, Stage, StageStatus},
    reranking::v1::{
        Candidate, Method, RankedCandidate, RerankRequest, RerankResponse,
        reranking_service_client::RerankingServiceClient,
        reranking_service_server::{RerankingService, RerankingServiceServer},
    },
};
use tonic::{Code, Request, Response, Status, service::Routes};

use crate::{
    binary::{json, run, stderr},
    mesh::{ALL, Mesh, RETURNS, Reply, SHIPPING, assert_code, call, inference_config, question, shop},
    models::fixtures,
};

/// A reranking service that turns the order around, as far as it scores.
#[derive(Clone, Default)]
struct Fake {
    asked: Arc<Mutex<Vec<RerankRequest>>>,
    method: Method,
    /// Candidates that it has time for; 0 has for all.
    scores: usize,
    hangs: bool,
}

#[tonic::async_trait]
impl RerankingService for Fake {
    async fn rerank(&self, request: Request<RerankRequest>) -> Result<Response<RerankResponse>, Status> {
        let request = request.into_inner();
        let count = request.candidates.len();
        self.asked.lock().unwrap().push(request);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let scored = if self.scores == 0 { count } else { self.scores };
        let place =
            |index: usize| RankedCandidate { index: index as u32, score: 0.5, scored: index < scored };
        let ranking = (0..scored).rev().chain(scored..count).map(place).collect();
        let model = if self.method == Method::Model { "judge".into() } else { String::new() };
        Ok(Response::new(RerankResponse { ranking, method: self.method.into(), model }))
    }
}

/// Every role but reranking, which is a fake or nothing.
async fn mesh(fake: Option<&Fake>) -> Mesh {
    let others: Vec<&str> = ALL.into_iter().filter(|role| *role != "reranking").collect();
    let mesh = Mesh::of(&others, Default::default()).await;
    if let Some(fake) = fake {
        let routes = Routes::new(RerankingServiceServer::new(fake.clone()));
        mesh.ctx.mount(&Mounted { role: "reranking", routes, services: vec![], long_lived: vec![] });
    }
    shop(&mesh).await;
    mesh
}

fn stage(reply: &Reply) -> Stage {
    reply.report.stages.iter().find(|stage| stage.name == "rerank").cloned().unwrap()
}

const QUESTION: &str = "Can I send back shoes I have worn outside?";

#[tokio::test(flavor = "multi_thread")]
async fn passages_are_ranked_with_what_is_known_of_them() {
    let fake = Fake { method: Method::Model, ..Fake::default() };
    let mesh = mesh(Some(&fake)).await;
    let reply = mesh.ask(QUESTION).await;
    assert_eq!(reply.outcome(), Outcome::Answered, "{reply:?}");
    assert_eq!(reply.documents()[0], "returns.md");
    let asked = fake.asked.lock().unwrap()[0].clone();
    let count = asked.candidates.len();
    let stage = stage(&reply);
    assert_eq!(
        (stage.status(), stage.detail),
        (StageStatus::Ok, format!("{count} of {count} passages by judge"))
    );
    assert!(reply.report.degraded.is_empty(), "{:?}", reply.report.degraded);
    assert_eq!(asked.query, QUESTION);
    let best = asked.candidates.iter().find(|candidate| candidate.text.contains("worn outside")).unwrap();
    assert!(best.lexical_rank > 0 && best.dense_rank > 0 && best.coverage > 0.0, "{best:?}");
    assert!(best.similarity > 0.3 && best.sentence_similarity > 0.3, "{best:?}");
    assert_eq!(best.heading_path.last().map(String::as_str), Some("Shoes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_scored_in_time_is_told() {
    let fake = Fake { method: Method::Model, scores: 1, ..Fake::default() };
    let mesh = mesh(Some(&fake)).await;
    let stage = stage(&mesh.ask(QUESTION).await);
    assert_eq!(stage.status(), StageStatus::Ok);
    assert!(stage.detail.starts_with("1 of ") && !stage.detail.starts_with("1 of 1 "), "{}", stage.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_takes_its_share_and_no_more() {
    let fake = Fake { method: Method::Model, hangs: true, ..Fake::default() };
    let mesh = mesh(Some(&fake)).await;
    let time = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let budget = Some(Budget { first_sentence: time(2), whole: time(5) });
    let request = ConverseRequest { budget, ..question(QUESTION) };
    let reply = mesh.converse(&call("acme"), request).await.unwrap();
    assert_eq!(reply.outcome(), Outcome::Answered, "{reply:?}");
    assert_eq!(stage(&reply).status(), StageStatus::TimedOut);
    assert_eq!(reply.report.degraded, ["rerank: timed out"]);
    let spent = Duration::try_from(reply.report.spent.unwrap()).unwrap();
    assert!(spent < Duration::from_secs(5), "{spent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_nothing_to_rank_by_is_not_asked_again() {
    let fake = Fake { method: Method::None, ..Fake::default() };
    let mesh = mesh(Some(&fake)).await;
    for _ in 0..3 {
        let reply = mesh.ask(QUESTION).await;
        assert_eq!(reply.outcome(), Outcome::Answered, "{reply:?}");
        assert_eq!(stage(&reply).status(), StageStatus::Skipped);
        assert!(reply.report.degraded.is_empty(), "{:?}", reply.report.degraded);
    }
    assert_eq!(fake.asked.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_is_told_once_and_left_alone_for_a_while() {
    let mesh = mesh(None).await;
    let first = mesh.ask(QUESTION).await;
    assert_eq!((first.outcome(), stage(&first).status()), (Outcome::Answered, StageStatus::Failed));
    assert_eq!(first.report.degraded, ["rerank: unavailable"]);
    let second = mesh.ask(QUESTION).await;
    assert_eq!((second.outcome(), stage(&second).status()), (Outcome::Answered, StageStatus::Skipped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cross_encoder_on_a_node_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let ctx = Context::new(folder.path().to_owned(), Default::default());
    let config =
        switchboard_model_server::Config { repository: fixtures().join("models"), ..inference_config() };
    ctx.mount(&switchboard_model_server::start(config, &ctx).await.unwrap());
    ctx.mount(&switchboard_reranking::start(Default::default(), &ctx).await.unwrap());
    let mut client = RerankingServiceClient::new(ctx.channel("reranking"));
    let candidate = |text: String| Candidate { text, title: "Returns".into(), ..Candidate::default() };
    let candidates: Vec<_> = (1..=20).map(|n| candidate(format!("Shoes {}", "worn ".repeat(n)))).collect();
    let request = |model: &str| RerankRequest {
        query: QUESTION.into(),
        candidates: candidates.clone(),
        model: model.into(),
        ..RerankRequest::default()
    };
    // The first call learns of the model, the second one knows how long its batches take.
    let mut rankings = Vec::new();
    for _ in 0..2 {
        let reply = client.rerank(call("acme").request(request(""))).await.unwrap().into_inner();
        assert_eq!((reply.method(), reply.model.as_str()), (Method::Model, "tiny-cross-encoder"));
        assert!(reply.ranking.iter().all(|place| place.scored), "{:?}", reply.ranking);
        assert!(reply.ranking.is_sorted_by(|a, b| a.score >= b.score), "{:?}", reply.ranking);
        rankings.push(reply.ranking.iter().map(|place| place.index).collect::<Vec<_>>());
    }
    assert_eq!(rankings[0], rankings[1]);
    let named =
        client.rerank(call("acme").request(request("tiny-late-interaction"))).await.unwrap().into_inner();
    assert_eq!(named.model, "tiny-late-interaction");
    for lacking in ["tiny-embedder", "nobody"] {
        assert_code(client.rerank(call("acme").request(request(lacking))).await, Code::NotFound);
    }
}

#[test]
fn eval_measures_what_reranking_changes_and_fits_weights() {
    let folder = tempfile::tempdir().unwrap();
    let docs = folder.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    for (id, text) in [("returns.md", RETURNS), ("shipping.md", SHIPPING)] {
        std::fs::write(docs.join(id), text).unwrap();
    }
    let questions = folder.path().join("questions.jsonl");
    let lines = [
        r#"{"question": "How long can I return a jacket?", "expect": "returns.md", "contains": ["30 days"]}"#,
        r#"{"question": "What does delivery cost?", "expect": "shipping.md", "contains": ["4.95 euros"]}"#,
        r#"{"question": "Who wrote Carmen?", "expect": "none"}"#,
    ];
    std::fs::write(&questions, lines.join("\n")).unwrap();
    let (docs, questions) = (docs.to_str().unwrap(), questions.to_str().unwrap());
    let eval = ["eval", "rerank", "--json", "--fit", "--docs", docs, "--questions", questions];
    let measured = json(&run(folder.path(), &[&eval[..], &["--set", "reranking.features=true"]].concat()));
    assert_eq!(measured["questions"], 2, "what has no answer is left out");
    assert_eq!(measured["by"], "what is known of the candidates");
    assert_eq!((&measured["fused"]["span@5"], &measured["reranked"]["span@5"]), (&1.0.into(), &1.0.into()));
    assert_eq!(measured["fitted"]["weights"].as_object().map(|weights| weights.len()), Some(14));
    let without = json(&run(folder.path(), &eval[..3].iter().chain(&eval[4..]).copied().collect::<Vec<_>>()));
    assert_eq!((&without["by"], &without["fused"]), (&"".into(), &without["reranked"]));
    assert_eq!(without["fitted"], serde_json::Value::Null);
    // A weight that is misspelt is named, with those that there are.
    let output =
        run(folder.path(), &[&["--set", "reranking.weights.titel=1"][..], &["config", "check"]].concat());
    let told = stderr(&output);
    assert!(!output.status.success() && told.contains("titel") && told.contains("title"), "{told}");
}
