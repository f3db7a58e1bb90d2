//! The service over an in-process mesh, with an embeddings role that hashes words.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use mesh::{Context, Mounted, testing};
use pb::{
    DeleteDocumentRequest, DocumentHeader, GetPassageRequest, IngestRequest, IngestStatus,
    ListDocumentsRequest, QueryForm, SearchMode, SearchRequest,
    knowledge_service_client::KnowledgeServiceClient,
};
use proto::embeddings::v1::{
    self as emb,
    embeddings_service_server::{EmbeddingsService, EmbeddingsServiceServer, SERVICE_NAME},
};
use tonic::{Code, service::Routes};

use super::*;

/// Embeds a text as the sum of its words' hashes: texts that share words are near.
#[derive(Clone, Default)]
struct FakeEmbeddings {
    down: Arc<AtomicBool>,
    texts: Arc<Mutex<Vec<String>>>,
}

/// That of the usual small models, so that times mean something.
const DIMENSION: usize = 384;

fn embed(text: &str) -> Vec<f32> {
    let mut vector = vec![0.01_f32; DIMENSION];
    for word in crate::terms::words(text) {
        let hash = crate::document::hash([word.as_bytes()]);
        vector[hash[0] as usize] += 1.0;
        vector[hash[1] as usize + 128] += 0.5;
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.into_iter().map(|x| x / length).collect()
}

#[tonic::async_trait]
impl EmbeddingsService for FakeEmbeddings {
    type EmbedStreamStream = futures::stream::Empty<Result<emb::EmbedStreamResponse, Status>>;

    async fn embed(
        &self,
        request: Request<emb::EmbedRequest>,
    ) -> Result<Response<emb::EmbedResponse>, Status> {
        if self.down.load(Ordering::Relaxed) {
            return Err(Status::unavailable("no model is loaded"));
        }
        assert_eq!(Call::of(&request)?.class, mesh::Class::Batch);
        let texts = request.into_inner().texts;
        assert!(texts.len() <= Config::default().embed_batch);
        self.texts.lock().unwrap().extend(texts.iter().cloned());
        let embeddings = texts
            .iter()
            .map(|text| emb::Embedding { values: embed(text), tokens: 1, truncated: false })
            .collect();
        Ok(Response::new(emb::EmbedResponse { embeddings, model: "fake".into(), ..Default::default() }))
    }

    async fn embed_stream(
        &self,
        _: Request<Streaming<emb::EmbedStreamRequest>>,
    ) -> Result<Response<Self::EmbedStreamStream>, Status> {
        Err(Status::unimplemented("not used"))
    }
}

struct Mesh {
    folder: tempfile::TempDir,
    embeddings: FakeEmbeddings,
    client: KnowledgeServiceClient<mesh::Channel>,
    _context: Context,
}

impl Mesh {
    async fn start() -> Self {
        Self::over(tempfile::tempdir().unwrap(), Config::default()).await
    }

    async fn over(folder: tempfile::TempDir, config: Config) -> Self {
        let context = testing::context(folder.path());
        let embeddings = FakeEmbeddings::default();
        context.mount(&Mounted {
            role: "embeddings",
            routes: Routes::new(EmbeddingsServiceServer::new(embeddings.clone())),
            services: vec![SERVICE_NAME],
            long_lived: vec![],
        });
        context.mount(&crate::start(config, &context).await.unwrap());
        let client = KnowledgeServiceClient::new(context.channel("knowledge"));
        Self { folder, embeddings, client, _context: context }
    }

    /// Closes the mesh and opens its folder again.
    async fn again(self) -> Self {
        let Self { folder, client, _context, .. } = self;
        drop((client, _context));
        Self::over(folder, Config::default()).await
    }

    async fn send(
        &self,
        tenant: &str,
        messages: Vec<IngestRequest>,
    ) -> Result<Vec<pb::IngestResult>, Status> {
        let request = testing::call(tenant).request(futures::stream::iter(messages));
        Ok(self.client.clone().ingest(request).await?.into_inner().results)
    }

    async fn put(&self, tenant: &str, id: &str, content: &[u8]) -> pb::IngestResult {
        self.send(tenant, document(id, content)).await.unwrap().remove(0)
    }

    async fn search(&self, tenant: &str, request: SearchRequest) -> Result<pb::SearchResponse, Status> {
        let request = testing::call(tenant).request(request);
        Ok(self.client.clone().search(request).await?.into_inner())
    }

    async fn ask(&self, tenant: &str, text: &str) -> Vec<pb::Hit> {
        self.search(tenant, question(text)).await.unwrap().hits
    }

    fn embedded(&self) -> usize {
        std::mem::take(&mut *self.embeddings.texts.lock().unwrap()).len()
    }
}

fn part(part: Part) -> IngestRequest {
    IngestRequest { part: Some(part) }
}

fn document(id: &str, content: &[u8]) -> Vec<IngestRequest> {
    let header = DocumentHeader { document_id: id.into(), ..DocumentHeader::default() };
    let mut messages = vec![part(Part::Header(header))];
    messages.extend(content.chunks(1 << 20).map(|chunk| part(Part::Chunk(chunk.to_vec()))));
    messages
}

#[tokio::test]
async fn the_text_around_a_passage_comes_where_it_is_asked_for() {
    let mesh = Mesh::start().await;
    let more = "More of it is here. ".repeat(30);
    let page = format!("# One\n\nFirst words of the page. {more}\n\n# Two\n\nShoes are sold here.\n");
    mesh.put("acme", "page.md", page.as_bytes()).await;
    assert_eq!(mesh.ask("acme", "shoes").await[0].surroundings, "");
    let request = SearchRequest { surroundings: true, ..question("shoes") };
    let around = mesh.search("acme", request).await.unwrap().hits.remove(0).surroundings;
    assert!(around.contains("First words") && around.contains("Shoes are sold"), "{around}");
    assert!(around.len() < 2_100);
}

fn question(text: &str) -> SearchRequest {
    let form = QueryForm { text: text.into(), vector: embed(text), weight: 0.0 };
    SearchRequest { forms: vec![form], ..SearchRequest::default() }
}

const RETURNS: &str = "# Returns\n\nYou can return items within 30 days.\n\n## Shoes\n\nShoes that were worn outside \
                       cannot be returned. We look at the soles.\n\n## Costs\n\nReturns from Ireland are free.\n";

#[tokio::test]
async fn a_question_finds_the_passage_that_answers_it() {
    let mesh = Mesh::start().await;
    let stored = mesh.put("acme", "help/returns.md", RETURNS.as_bytes()).await;
    assert_eq!((stored.status(), stored.passages, stored.passages_written), (IngestStatus::Created, 3, 3));
    mesh.put("acme", "help/gifts.md", b"# Gift cards\n\nA gift card is valid for five years.\n").await;
    let hits = mesh.ask("acme", "Can I send back shoes worn outside?").await;
    let passage = hits[0].passage.clone().unwrap();
    assert_eq!((passage.document_id.as_str(), passage.title.as_str()), ("help/returns.md", "Returns"));
    assert_eq!(passage.heading_path, ["Returns", "Shoes"]);
    assert_eq!(passage.version, stored.version);
    assert_eq!((hits[0].lexical_rank, hits[0].dense_rank), (1, 1));
    assert!(hits[0].similarity > 0.5 && hits[0].coverage > 0.4, "{:?}", hits[0]);
    assert_eq!(hits[0].sentences.len(), 2);
    assert!(hits[0].sentences[0].similarity > hits[0].sentences[1].similarity);

    let request = testing::call("acme").request(GetPassageRequest { passage_id: passage.passage_id.clone() });
    let got = mesh.client.clone().get_passage(request).await.unwrap().into_inner().passage.unwrap();
    assert_eq!(got, passage);
}

#[tokio::test]
async fn offsets_of_passages_and_sentences_are_characters_of_the_file() {
    let mesh = Mesh::start().await;
    let long = "Überall gibt es Größe 38 für Füße. Schuhe 👟 kosten 20 €! ".repeat(30);
    let file = format!("\u{FEFF}Größen\n\n{long}\n\nZweiter Absatz über Rücksendungen nach Köln.\n");
    let characters: Vec<char> = file.trim_start_matches('\u{FEFF}').chars().collect();
    mesh.put("acme", "sizes.txt", file.as_bytes()).await;
    let request = SearchRequest { limit: 100, ..question("Schuhe Größe Rücksendungen") };
    let hits = mesh.search("acme", request).await.unwrap().hits;
    assert!(hits.len() > 2);
    for hit in hits {
        let passage = hit.passage.unwrap();
        let cut = |start: u32, end: u32| characters[start as usize..end as usize].iter().collect::<String>();
        assert_eq!(cut(passage.start, passage.end), passage.text);
        assert!(!hit.sentences.is_empty());
        for sentence in hit.sentences {
            assert_eq!(cut(sentence.start, sentence.end), sentence.text);
        }
    }
}

#[tokio::test]
async fn a_hit_tells_whether_its_document_still_holds() {
    let mesh = Mesh::start().await;
    mesh.put("acme", "old.md", b"# Returns\n\nThis page is no longer valid. Returns took ten days.\n").await;
    mesh.put("acme", "new.md", b"# Returns\n\nReturns take thirty days.\n").await;
    let hits = mesh.ask("acme", "How many days do returns take?").await;
    let told: Vec<_> =
        hits.iter().map(|hit| (hit.passage.as_ref().unwrap().document_id.as_str(), hit.outdated)).collect();
    assert_eq!(told, [("new.md", false), ("old.md", true)]);
}

#[tokio::test]
async fn an_unchanged_document_costs_nothing_and_a_changed_one_what_changed() {
    let mesh = Mesh::start().await;
    let first = mesh.put("acme", "returns.md", RETURNS.as_bytes()).await;
    assert!(mesh.embedded() > 3);
    let again = mesh.put("acme", "returns.md", RETURNS.as_bytes()).await;
    assert_eq!((again.status(), again.passages, again.passages_written), (IngestStatus::Unchanged, 3, 0));
    assert_eq!((mesh.embedded(), &again.version), (0, &first.version));

    let changed = RETURNS.replace("within 30 days", "within 60 calendar days");
    let updated = mesh.put("acme", "returns.md", changed.as_bytes()).await;
    assert_eq!((updated.status(), updated.passages, updated.passages_written), (IngestStatus::Updated, 3, 1));
    assert_eq!(mesh.embedded(), 2, "one passage and its one sentence");
    let hits = mesh.ask("acme", "shoes worn outside soles").await;
    let shoes = hits[0].passage.as_ref().unwrap();
    assert_eq!(shoes.version, updated.version);
    let text = "Returns\n\nYou can return items within 60 calendar days.\n\nShoes\n\n";
    assert_eq!(shoes.start as usize, text.find("Shoes").unwrap(), "an unchanged passage moved");
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_restart() {
    let mesh = Mesh::start().await;
    mesh.put("acme", "returns.md", RETURNS.as_bytes()).await;
    let before = mesh.ask("acme", "worn shoes").await;
    let mesh = mesh.again().await;
    assert_eq!(mesh.ask("acme", "worn shoes").await, before);
    let again = mesh.put("acme", "returns.md", RETURNS.as_bytes()).await;
    assert_eq!((again.status(), mesh.embedded()), (IngestStatus::Unchanged, 0));
}

#[tokio::test]
async fn a_bad_document_is_reported_and_the_others_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { max_document_bytes: 2_000, ..Config::default() };
    let mesh = Mesh::over(folder, config).await;
    let mut messages = document("a.txt", b"Good words.");
    for (id, content) in [
        ("empty.txt", &b""[..]),
        ("latin1.txt", b"caf\xe9"),
        ("broken.pdf", b"%PDF-1.7 no more"),
        ("wrong.md", b"%PDF-1.7 no more"),
        ("huge.txt", &[b'x'; 2_001]),
    ] {
        messages.extend(document(id, content));
    }
    messages.extend(document("z.txt", b"More words."));
    let results = mesh.send("acme", messages).await.unwrap();
    let statuses: Vec<_> = results.iter().map(pb::IngestResult::status).collect();
    assert_eq!(statuses[0], IngestStatus::Created);
    assert!(statuses[1..6].iter().all(|status| *status == IngestStatus::Rejected), "{results:?}");
    assert_eq!(statuses[6], IngestStatus::Created);
    for (result, says) in results[1..6].iter().zip(["empty", "UTF-8", "damaged", ".pdf", "2000 bytes"]) {
        assert!(result.reason.contains(says), "{result:?}");
    }
}

#[tokio::test]
async fn a_bad_header_costs_no_other_document() {
    let mesh = Mesh::start().await;
    let mut messages = document("a.txt", b"Good words.");
    let uri = "u".repeat(3_000);
    let header = DocumentHeader { document_id: "b.txt".into(), uri, ..DocumentHeader::default() };
    messages.extend([part(Part::Header(header)), part(Part::Chunk(b"x".to_vec()))]);
    messages.extend(document("c.txt", b"More words."));
    let results = mesh.send("acme", messages).await.unwrap();
    let statuses: Vec<_> = results.iter().map(pb::IngestResult::status).collect();
    assert_eq!(statuses, [IngestStatus::Created, IngestStatus::Rejected, IngestStatus::Created]);
    assert!(results[1].reason.contains("2,048"), "{results:?}");
    let mut messages = document("d.txt", b"Kept words.");
    messages.extend(document("", b"x"));
    assert_eq!(mesh.send("acme", messages).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(mesh.ask("acme", "kept").await.len(), 3);
}

#[tokio::test]
async fn a_text_that_stands_under_and_as_a_heading_is_stored() {
    let mesh = Mesh::start().await;
    let long = "x".repeat(280);
    let file = format!("# {long}\n\n{long}\n\n# {long}");
    assert_eq!(mesh.put("acme", "a.md", file.as_bytes()).await.status(), IngestStatus::Created);
    let file = format!("{file}\n\nMore.");
    assert_eq!(mesh.put("acme", "a.md", file.as_bytes()).await.status(), IngestStatus::Updated);
}

#[tokio::test]
async fn a_rejected_version_leaves_the_stored_one() {
    let mesh = Mesh::start().await;
    mesh.put("acme", "a.txt", b"Shoes are red.").await;
    assert_eq!(mesh.put("acme", "a.txt", b"\xff\xff").await.status(), IngestStatus::Rejected);
    assert_eq!(mesh.ask("acme", "shoes").await.len(), 1);
}

#[tokio::test]
async fn without_embeddings_nothing_is_stored_and_trying_again_works() {
    let mesh = Mesh::start().await;
    mesh.embeddings.down.store(true, Ordering::Relaxed);
    let status = mesh.send("acme", document("a.txt", b"Shoes are red.")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(mesh.ask("acme", "shoes").await.is_empty());
    mesh.embeddings.down.store(false, Ordering::Relaxed);
    assert_eq!(mesh.put("acme", "a.txt", b"Shoes are red.").await.status(), IngestStatus::Created);
    assert_eq!(mesh.ask("acme", "shoes").await.len(), 1);
}

#[tokio::test]
async fn malformed_streams_are_refused() {
    let mesh = Mesh::start().await;
    let refused = |messages| async { mesh.send("acme", messages).await.unwrap_err().code() };
    assert_eq!(refused(vec![part(Part::Chunk(b"x".to_vec()))]).await, Code::InvalidArgument);
    assert_eq!(refused(vec![IngestRequest { part: None }]).await, Code::InvalidArgument);
    assert_eq!(refused(document("", b"x")).await, Code::InvalidArgument);
    assert_eq!(refused(document(&"x".repeat(513), b"x")).await, Code::InvalidArgument);
    let mut large = document("a", b"");
    large.push(part(Part::Chunk(vec![b'x'; (1 << 20) + 1])));
    assert_eq!(refused(large).await, Code::InvalidArgument);
}

#[tokio::test]
async fn tenants_never_meet() {
    let mesh = Mesh::start().await;
    mesh.put("a", "d.txt", b"The secret word is kumquat.").await;
    mesh.put("b", "d.txt", b"The shop sells oranges.").await;
    assert!(mesh.ask("c", "kumquat").await.is_empty());
    let found = mesh.search("b", question("secret kumquat")).await.unwrap();
    assert_eq!(found.unknown_terms, ["secret", "kumquat"]);
    assert!(found.hits.iter().all(|hit| hit.passage.as_ref().unwrap().text.contains("oranges")));
    let of_a = mesh.ask("a", "kumquat").await[0].passage.clone().unwrap();
    let request = testing::call("b").request(GetPassageRequest { passage_id: of_a.passage_id });
    assert_eq!(mesh.client.clone().get_passage(request).await.unwrap_err().code(), Code::NotFound);
    let request = testing::call("b").request(DeleteDocumentRequest { document_id: "d.txt".into() });
    mesh.client.clone().delete_document(request).await.unwrap();
    assert_eq!(mesh.ask("a", "kumquat").await.len(), 1);
}

#[tokio::test]
async fn a_deleted_document_is_gone_at_once() {
    let mesh = Mesh::start().await;
    mesh.put("acme", "a.txt", b"Shoes are red.").await;
    let delete = || async {
        let request = testing::call("acme").request(DeleteDocumentRequest { document_id: "a.txt".into() });
        mesh.client.clone().delete_document(request).await.unwrap().into_inner().passages
    };
    assert_eq!(delete().await, 1);
    assert!(mesh.ask("acme", "shoes").await.is_empty());
    assert_eq!(delete().await, 0);
    let mesh = mesh.again().await;
    assert!(mesh.ask("acme", "shoes").await.is_empty());
}

#[tokio::test]
async fn filters_follow_front_matter() {
    let mesh = Mesh::start().await;
    mesh.put("acme", "p.md", b"---\nlocale: en\naudience: [premium]\n---\nPremium shoes.").await;
    mesh.put("acme", "e.md", b"---\nlocale: en\naudience: [public, plus]\n---\nShoes for all.").await;
    mesh.put("acme", "d.md", b"---\nlocale: de\n---\nShoes heissen Schuhe.").await;
    let ids = |filter: pb::Filter| {
        let request = SearchRequest { filter: Some(filter), ..question("shoes") };
        let found = mesh.search("acme", request);
        async {
            let hits = found.await.unwrap().hits.into_iter();
            let mut ids: Vec<_> = hits.map(|hit| hit.passage.unwrap().document_id).collect();
            ids.sort();
            ids
        }
    };
    assert_eq!(ids(pb::Filter::default()).await, ["d.md", "e.md"]);
    let premium =
        pb::Filter { audiences: vec!["premium".into()], locale: "en-IE".into(), ..pb::Filter::default() };
    assert_eq!(ids(premium).await, ["e.md", "p.md"]);
    let office = pb::Filter { all_audiences: true, ..pb::Filter::default() };
    assert_eq!(ids(office).await.len(), 3);
}

#[tokio::test]
async fn no_question_is_full_text_syntax() {
    let mesh = Mesh::start().await;
    mesh.put("acme", "a.txt", b"Shoes are red. Near and far.").await;
    for text in [
        "\" OR 1",
        "NEAR(",
        "*",
        "col:shoes",
        "title:",
        "shoes AND",
        "NOT",
        "^shoes",
        "{shoes}",
        "-shoes",
        "a\" \"b",
        "'; DROP TABLE documents; --",
        "(((",
        "+",
        "\u{0}\u{1}x",
        "\u{202e}\u{5d0}\u{5d1}",
        "👟",
        "NEAR(shoes red, 2)",
    ] {
        for mode in [SearchMode::Unspecified, SearchMode::Lexical, SearchMode::Dense] {
            let request = SearchRequest { mode: mode as i32, ..question(text) };
            mesh.search("acme", request).await.unwrap_or_else(|status| panic!("{text:?}: {status}"));
        }
    }
    assert!(!mesh.ask("acme", "NEAR(shoes*").await.is_empty());
}

#[tokio::test]
async fn bad_searches_are_refused_with_the_field() {
    let mesh = Mesh::start().await;
    mesh.put("acme", "a.txt", b"Shoes are red.").await;
    let good = question("shoes");
    let mut bad = vec![
        SearchRequest::default(),
        question(" "),
        question(&"x ".repeat(8_001)),
        SearchRequest { limit: 101, ..good.clone() },
        SearchRequest { mode: 9, ..good.clone() },
        SearchRequest { forms: vec![good.forms[0].clone(); 5], ..good.clone() },
    ];
    let changes: [fn(&mut QueryForm); 3] =
        [|form| form.vector.truncate(3), |form| form.vector[0] = f32::NAN, |form| form.weight = -1.0];
    for change in changes {
        let mut request = good.clone();
        change(&mut request.forms[0]);
        bad.push(request);
    }
    for request in bad {
        let status = mesh.search("acme", request.clone()).await.expect_err("must be refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{request:?}");
    }
    let degraded = SearchRequest {
        forms: vec![QueryForm { text: "shoes".into(), ..QueryForm::default() }],
        ..SearchRequest::default()
    };
    assert_eq!(mesh.search("acme", degraded).await.unwrap().degraded, ["dense"]);
}

#[tokio::test]
async fn documents_are_listed_in_pages_in_order() {
    let mesh = Mesh::start().await;
    let messages =
        ["c.txt", "a.txt", "é.txt", "b.txt"].iter().flat_map(|id| document(id, b"Words.")).collect();
    mesh.send("acme", messages).await.unwrap();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListDocumentsRequest { page_size: 2, page_token: token };
        let page = mesh.client.clone().list_documents(testing::call("acme").request(request)).await.unwrap();
        let page = page.into_inner();
        seen.extend(page.documents.into_iter().map(|d| (d.document_id, d.passages, d.ingested_at.is_some())));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let expected = ["a.txt", "b.txt", "c.txt", "é.txt"].map(|id| (id.to_owned(), 1, true));
    assert_eq!(seen, expected);
    let request = ListDocumentsRequest { page_size: 0, page_token: "zz".into() };
    let status =
        mesh.client.clone().list_documents(testing::call("acme").request(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_locked_folder_and_another_model_stop_the_start() {
    let mesh = Mesh::start().await;
    mesh.put("acme", "a.txt", b"Words.").await;
    let context = testing::context(mesh.folder.path());
    let error = crate::start(Config::default(), &context).await.err().expect("locked");
    let reason = mesh::error::chain(&error);
    assert!(reason.contains("in use by another process"), "{reason}");
    let Mesh { folder, client, _context, .. } = mesh;
    drop((client, _context));
    let config = Config { embedding_model: "other".into(), ..Config::default() };
    let error = crate::start(config, &testing::context(folder.path())).await.err().expect("another model");
    let reason = mesh::error::chain(&error);
    assert!(reason.contains("\"fake\"") && reason.contains("\"other\""), "{reason}");
}

/// Also prints how long things take over the example company (`--nocapture`).
#[tokio::test(flavor = "multi_thread")]
async fn the_example_company_is_ingested_and_searched() {
    let mesh = Mesh::start().await;
    let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/acme/knowledge"));
    let mut messages = Vec::new();
    for folder in std::fs::read_dir(root).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let id = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            messages.extend(document(&id, &std::fs::read(&path).unwrap()));
        }
    }
    let started = Instant::now();
    let results = mesh.send("acme", messages).await.unwrap();
    let ingested = started.elapsed();
    for result in &results {
        assert_eq!(result.status(), IngestStatus::Created, "{result:?}");
    }
    let passages: u32 = results.iter().map(|result| result.passages).sum();
    let hits = mesh.ask("acme", "Can I send back shoes I have worn outside?").await;
    let found: Vec<_> =
        hits.iter().take(3).map(|hit| hit.passage.as_ref().unwrap().document_id.as_str()).collect();
    assert!(found.contains(&"returns/returns-policy.md"), "{found:?}");
    let texts =
        ["Can I send back shoes I have worn outside?", "How long is a gift card valid?", "shiping to spain"];
    let mut took: Vec<_> = Vec::new();
    for round in 0..300 {
        let request = question(texts[round % 3]);
        let started = Instant::now();
        mesh.search("acme", request).await.unwrap();
        took.push(started.elapsed());
    }
    took.sort();
    println!(
        "{} documents, {passages} passages, {} texts embedded; ingest {ingested:?}; search p50 {:?}, p99 {:?}",
        results.len(),
        mesh.embedded(),
        took[150],
        took[297]
    );
}
