//! Ingest over a whole mesh: versions, deletion, bad documents.

use futures::stream;
use switchboard_proto::conversation::v1::Outcome;
use switchboard_proto::knowledge::v1::{
    DeleteDocumentRequest, DocumentHeader, Filter, IngestRequest, IngestStatus, ListDocumentsRequest,
    QueryForm, SearchMode, SearchRequest, ingest_request::Part,
    knowledge_service_client::KnowledgeServiceClient,
};

use crate::mesh::{Mesh, RETURNS, call, shop};

const KNOWLEDGE: [&str; 3] = ["embeddings", "inference", "knowledge"];

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_is_written() {
    let mesh = Mesh::of(&KNOWLEDGE, Default::default()).await;
    // Sections long enough that each is a passage of its own.
    let section = |name: &str, fact: &str| {
        format!("## {name}\n\n{fact} {}\n\n", "This rule holds for every order. ".repeat(9))
    };
    let text =
        |fact: &str| format!("# Rules\n\n{}{}", section("First", fact), section("Second", "Boats float."));
    let first = mesh.ingest("acme", "rules.md", &text("Cats purr.")).await;
    assert_eq!(first.status(), IngestStatus::Created, "{first:?}");
    let same = mesh.ingest("acme", "rules.md", &text("Cats purr.")).await;
    assert_eq!((same.status(), same.passages_written), (IngestStatus::Unchanged, 0), "{same:?}");
    let changed = mesh.ingest("acme", "rules.md", &text("Dogs bark.")).await;
    assert_eq!(changed.status(), IngestStatus::Updated);
    assert!(changed.passages_written < changed.passages, "{changed:?}");
    assert!(changed.passages_written > 0, "{changed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_document_is_gone_at_once() {
    let mesh = Mesh::whole().await;
    shop(&mesh).await;
    assert_eq!(mesh.ask("How long does the warranty on tents last?").await.outcome(), Outcome::Answered);
    let mut client = KnowledgeServiceClient::new(mesh.ctx.channel("knowledge"));
    let request = DeleteDocumentRequest { document_id: "warranty.md".into() };
    let deleted = client.delete_document(call("acme").request(request.clone())).await.unwrap().into_inner();
    assert!(deleted.passages > 0);
    let again = client.delete_document(call("acme").request(request)).await.unwrap().into_inner();
    assert_eq!(again.passages, 0);
    let reply = mesh.ask("How long does the warranty on tents last?").await;
    assert!(!reply.documents().contains(&"warranty.md".to_owned()), "{reply:?}");
    let listed = client.list_documents(call("acme").request(ListDocumentsRequest::default())).await.unwrap();
    assert_eq!(listed.into_inner().documents.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_goes_on_past_a_bad_document_and_keeps_the_old_version() {
    let mesh = Mesh::of(&KNOWLEDGE, Default::default()).await;
    shop(&mesh).await;
    let header = |id: &str| Part::Header(DocumentHeader { document_id: id.into(), ..Default::default() });
    let parts = [
        header("empty.txt"),
        header("image.md"),
        Part::Chunk(vec![0x89, b'P', b'N', b'G', 0, 0, 0, 13]),
        header("returns.md"),
        Part::Chunk(vec![0xff, 0xfe, 0xfd, 0x80]),
        header("broken.pdf"),
        Part::Chunk(b"%PDF-1.7 and nothing else".to_vec()),
        header("good.txt"),
        Part::Chunk("Our shop in Cork opens at nine.".into()),
    ];
    let parts: Vec<_> = parts.into_iter().map(|part| IngestRequest { part: Some(part) }).collect();
    let mut client = KnowledgeServiceClient::new(mesh.ctx.channel("knowledge"));
    let results =
        client.ingest(call("acme").request(stream::iter(parts))).await.unwrap().into_inner().results;
    let by_id = |id: &str| results.iter().find(|r| r.document_id == id).unwrap();
    for id in ["empty.txt", "image.md", "returns.md", "broken.pdf"] {
        assert_eq!(by_id(id).status(), IngestStatus::Rejected, "{id}");
        assert!(by_id(id).reason.len() > 10, "{id}: {}", by_id(id).reason);
    }
    assert_eq!(by_id("good.txt").status(), IngestStatus::Created);
    // What stood before still stands.
    let same = mesh.ingest("acme", "returns.md", RETURNS).await;
    assert_eq!(same.status(), IngestStatus::Unchanged);
}

#[tokio::test(flavor = "multi_thread")]
async fn audiences_and_locales_narrow_what_is_found() {
    let mesh = Mesh::of(&KNOWLEDGE, Default::default()).await;
    let document = |locale: &str, audience: &str, text: &str| {
        format!("---\nlocale: {locale}\naudience: [{audience}]\n---\n# Lounge\n\n{text}\n")
    };
    mesh.ingest("acme", "gold.md", &document("en", "gold", "Gold members may use the lounge in Dublin."))
        .await;
    mesh.ingest("acme", "de.md", &document("de", "public", "Die Lounge in Dublin ist ab neun Uhr offen."))
        .await;
    let mut client = KnowledgeServiceClient::new(mesh.ctx.channel("knowledge"));
    let mut find = async |locale: &str, audiences: &[&str]| -> Vec<String> {
        let request = SearchRequest {
            forms: vec![QueryForm { text: "lounge Dublin".into(), ..Default::default() }],
            filter: Some(Filter {
                locale: locale.into(),
                audiences: audiences.iter().map(|a| (*a).to_owned()).collect(),
                all_audiences: false,
            }),
            mode: SearchMode::Lexical.into(),
            ..Default::default()
        };
        let found = client.search(call("acme").request(request)).await.unwrap().into_inner();
        found.hits.into_iter().map(|hit| hit.passage.unwrap().document_id).collect()
    };
    assert_eq!(find("en", &["gold"]).await, ["gold.md"]);
    assert!(find("en", &[]).await.is_empty());
    assert_eq!(find("de-AT", &["public"]).await, ["de.md"]);
}
