//! Roles spread over several nodes that talk over TCP.

use std::time::Duration;

use switchboard_proto::conversation::v1::Outcome;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::mesh::{ALL, Mesh, call, question, shop};

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_runs_over_roles_on_other_nodes() {
    let models = Mesh::of(&["embeddings", "inference"], Default::default()).await;
    let models_at: http::Uri = format!("http://{}", models.listen().await).parse().unwrap();
    let remote = [("embeddings".to_owned(), vec![models_at.clone()])].into();
    let documents = Mesh::of(&["knowledge"], remote).await;
    shop(&documents).await;
    let documents_at: http::Uri = format!("http://{}", documents.listen().await).parse().unwrap();
    let remote = [
        ("embeddings".to_owned(), vec![models_at.clone()]),
        ("inference".to_owned(), vec![models_at]),
        ("knowledge".to_owned(), vec![documents_at]),
    ];
    let front = Mesh::of(&["conversation", "generation", "policy", "reranking"], remote.into()).await;
    let reply = front.ask("Can I send back shoes I have worn outside?").await;
    assert_eq!(reply.outcome(), Outcome::Answered, "{reply:?}");
    assert_eq!(reply.documents()[0], "returns.md");
    assert!(reply.report.degraded.is_empty(), "{:?}", reply.report.degraded);

    // The node that holds the documents goes: the next turn is an honest lesser answer, soon.
    documents.ctx.drain(Duration::from_secs(2)).await;
    let began = std::time::Instant::now();
    let reply = front.converse(&call("acme"), question("How long is delivery?")).await.unwrap();
    assert_eq!(reply.outcome(), Outcome::HandedOff, "{reply:?}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_model_servers_may_go() {
    let (first, second) = tokio::join!(
        Mesh::of(&["inference"], Default::default()),
        Mesh::of(&["inference"], Default::default())
    );
    let mut nodes: Vec<http::Uri> = Vec::new();
    for node in [&first, &second] {
        nodes.push(format!("http://{}", node.listen().await).parse().unwrap());
    }
    let others: Vec<&str> = ALL.into_iter().filter(|role| *role != "inference").collect();
    let front = Mesh::of(&others, [("inference".to_owned(), nodes)].into()).await;
    shop(&front).await;
    first.ctx.drain(Duration::from_secs(2)).await;
    for question in ["Can I send back shoes I have worn outside?", "How much is standard delivery?"] {
        let reply = front.ask(question).await;
        assert_eq!(reply.outcome(), Outcome::Answered, "{reply:?}");
        assert!(reply.report.degraded.is_empty(), "{:?}", reply.report.degraded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_answers_health_and_reflection() {
    let node = Mesh::of(&["policy"], Default::default()).await;
    node.ctx.health.set("", true);
    let address = node.listen().await;
    let channel = tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let request = HealthCheckRequest { service: "switchboard.policy.v1.PolicyService".into() };
    let health = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
    assert_eq!(health.status().as_str_name(), "SERVING");

    let names = crate::doors::reflected(channel).await;
    assert!(names.contains(&"switchboard.policy.v1.PolicyService".to_owned()), "{names:?}");
    assert!(!names.contains(&"switchboard.knowledge.v1.KnowledgeService".to_owned()), "{names:?}");
}
