//! The gRPC service: decode, call the core, encode.

use std::{sync::Arc, time::Instant};

use mesh::{
    Call, Tenant,
    error::{self, Kind},
};
use proto::knowledge::v1::{self as pb, ingest_request::Part, knowledge_service_server::KnowledgeService};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use tokio::sync::{Semaphore, oneshot};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    catalog::{Catalog, Passage},
    config::Config,
    document::{Document, Filter, Format, Header, hex},
    error::Error,
    ingest::{Ingest, Outcome},
    metrics,
    search::{Form, Found, Mode, Query, search},
    store::{Space, Store, read},
};

/// Bytes of one chunk of a stream, at most; part of the contract.
const MAX_CHUNK: usize = 1 << 20;

/// Characters of one wording, at most; part of the contract.
const MAX_QUERY: usize = 16_000;

/// Components of a vector, at most; no embedding model has more.
const MAX_DIMENSION: usize = 16_384;

/// The service over an open store.
pub(crate) struct Service {
    config: Config,
    store: Arc<Store>,
    ingest: Ingest,
    searches: Arc<Semaphore>,
}

impl Service {
    pub(crate) fn new(config: Config, store: Arc<Store>, embeddings: mesh::Channel) -> Self {
        let searches = Arc::new(Semaphore::new(config.searches));
        let ingest = Ingest::new(config.clone(), store.clone(), embeddings);
        Self { config, store, ingest, searches }
    }

    /// Runs work that blocks beside the async threads, unless its caller has gone meanwhile.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let permit =
            self.searches.clone().acquire_owned().await.map_err(|_| error::status(Error::Stopping))?;
        let (reply, answer) = oneshot::channel();
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            if !reply.is_closed() {
                let _ = reply.send(span.in_scope(work));
            }
        });
        answer.await.map_err(|_| error::status(Error::Lost))
    }

    /// Reads a tenant's catalog beside the async threads; `none` for a tenant without one.
    async fn read<T: Send + 'static>(
        &self,
        tenant: &Tenant,
        none: T,
        work: impl FnOnce(&Space, &Catalog) -> T + Send + 'static,
    ) -> Result<T, Status> {
        match self.store.space(tenant) {
            Some(space) => self.blocking(move || work(&space, &read(&space.catalog))).await,
            None => Ok(none),
        }
    }

    async fn finish(
        &self,
        call: &Call,
        open: Open,
        results: &mut Vec<pb::IngestResult>,
    ) -> Result<(), Status> {
        let Open { document_id, header, bytes, too_large } = open;
        let rejected = |reason: String| {
            metrics::count_document("rejected");
            Outcome::Rejected { reason }
        };
        let outcome = match header {
            Err(status) => rejected(status.message().to_owned()),
            Ok(_) if too_large => {
                let limit = self.config.max_document_bytes;
                rejected(format!("the document is too large; up to {limit} bytes are allowed"))
            }
            Ok(header) => self.ingest.document(call, header, bytes).await.map_err(error::status)?,
        };
        results.push(result(document_id, outcome));
        Ok(())
    }
}

/// A document whose bytes are arriving.
struct Open {
    document_id: String,
    /// Why the document is refused, where its header is wrong.
    header: Result<Header, Status>,
    bytes: Vec<u8>,
    too_large: bool,
}

#[tonic::async_trait]
impl KnowledgeService for Service {
    async fn ingest(
        &self,
        request: Request<Streaming<pb::IngestRequest>>,
    ) -> Result<Response<pb::IngestResponse>, Status> {
        let call = Call::of(&request)?;
        call.tenant()?;
        let mut stream = request.into_inner();
        let mut results = Vec::new();
        let mut open: Option<Open> = None;
        let mut received = 0;
        while let Some(message) = stream.message().await? {
            match message.part {
                Some(Part::Header(given)) => {
                    if let Some(open) = open.take() {
                        self.finish(&call, open, &mut results).await?;
                    }
                    // Without an id there is nothing to report on.
                    check_id(&given.document_id)?;
                    if results.len() >= self.config.max_documents {
                        let limit = self.config.max_documents;
                        return Err(error::invalid(
                            "header",
                            format!("up to {limit} documents a stream are allowed"),
                        ));
                    }
                    let (document_id, header) = (given.document_id.clone(), header(given));
                    open = Some(Open { document_id, header, bytes: Vec::new(), too_large: false });
                }
                Some(Part::Chunk(chunk)) => {
                    let open = open.as_mut().ok_or_else(|| {
                        error::invalid(
                            "chunk",
                            "a chunk came before any header; a header opens each document",
                        )
                    })?;
                    if chunk.len() > MAX_CHUNK {
                        return Err(error::invalid("chunk", "a chunk of up to 1 MiB is allowed"));
                    }
                    received += chunk.len();
                    if received > self.config.max_stream_bytes {
                        let limit = self.config.max_stream_bytes;
                        let message = format!("the stream is too large; up to {limit} bytes are allowed");
                        return Err(error::of_kind(Kind::Overloaded, message));
                    }
                    if open.bytes.len() + chunk.len() > self.config.max_document_bytes {
                        open.too_large = true;
                        open.bytes = Vec::new();
                    }
                    if !open.too_large && open.header.is_ok() {
                        open.bytes.extend_from_slice(&chunk);
                    }
                }
                None => return Err(error::invalid("part", "each message carries a header or a chunk")),
            }
        }
        if let Some(open) = open {
            self.finish(&call, open, &mut results).await?;
        }
        Ok(Response::new(pb::IngestResponse { results }))
    }

    async fn search(
        &self,
        request: Request<pb::SearchRequest>,
    ) -> Result<Response<pb::SearchResponse>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        let request = request.into_inner();
        let surroundings = request.surroundings;
        let query = query(request)?;
        let started = Instant::now();
        let store = self.store.clone();
        let none = || {
            // A tenant without documents: every word is unknown, and no list could take part.
            let first =
                query.forms.first().map(|form| crate::terms::content(&form.text, &query.filter.locale));
            let unknown_terms = first.into_iter().flatten().map(|term| term.word).collect();
            Ok(pb::SearchResponse { unknown_terms, ..pb::SearchResponse::default() })
        };
        let none = none();
        let work = move |space: &Space, catalog: &Catalog| {
            let number = space.number;
            let mut words =
                |expression: &str, take: &mut dyn FnMut(i64, f32)| store.words(number, expression, take);
            search(catalog, &query, &mut words).map(|found| found_to_pb(catalog, found, surroundings))
        };
        let response = self.read(&tenant, none, work).await?.map_err(error::status)?;
        metrics::SEARCH_SECONDS.record(started.elapsed().as_secs_f64(), &[]);
        Ok(Response::new(response))
    }

    async fn get_passage(
        &self,
        request: Request<pb::GetPassageRequest>,
    ) -> Result<Response<pb::GetPassageResponse>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        let id = request.into_inner().passage_id;
        let passage = self
            .read(&tenant, None, move |_, catalog| catalog.by_id(&id).map(passage))
            .await?
            .ok_or_else(|| error::status(Error::PassageGone))?;
        Ok(Response::new(pb::GetPassageResponse { passage: Some(passage) }))
    }

    async fn delete_document(
        &self,
        request: Request<pb::DeleteDocumentRequest>,
    ) -> Result<Response<pb::DeleteDocumentResponse>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        let id = request.into_inner().document_id;
        check_id(&id)?;
        let passages = self.store.delete(tenant, id).await.map_err(error::status)?;
        Ok(Response::new(pb::DeleteDocumentResponse { passages }))
    }

    async fn list_documents(
        &self,
        request: Request<pb::ListDocumentsRequest>,
    ) -> Result<Response<pb::ListDocumentsResponse>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        let request = request.into_inner();
        let size = match request.page_size {
            0 => 100,
            size @ 1..=1_000 => size as usize,
            _ => return Err(error::invalid("page_size", "0 to 1,000 documents a page are allowed")),
        };
        let after = token(&request.page_token)?;
        let mut documents = self
            .read(&tenant, Vec::new(), move |_, catalog| catalog.documents_after(after.as_deref(), size + 1))
            .await?;
        let more = documents.len() > size;
        documents.truncate(size);
        let next = documents.last().filter(|_| more).map(|last| hex(last.id.as_bytes()));
        Ok(Response::new(pb::ListDocumentsResponse {
            documents: documents.iter().map(|document| document_to_pb(document)).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }
}

fn check_id(id: &str) -> Result<(), Status> {
    if (1..=512).contains(&id.len()) && !id.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(error::invalid("document_id", "1 to 512 bytes without control characters are allowed"))
    }
}

fn header(given: pb::DocumentHeader) -> Result<Header, Status> {
    let format = match pb::Format::try_from(given.format) {
        Ok(pb::Format::Unspecified) => None,
        Ok(pb::Format::Markdown) => Some(Format::Markdown),
        Ok(pb::Format::Html) => Some(Format::Html),
        Ok(pb::Format::Text) => Some(Format::Text),
        Ok(pb::Format::Pdf) => Some(Format::Pdf),
        Ok(pb::Format::FaqCsv) => Some(Format::FaqCsv),
        Ok(pb::Format::FaqJsonl) => Some(Format::FaqJsonl),
        Err(_) => return Err(error::invalid("header.format", "a value of the enum Format is allowed")),
    };
    if given.uri.len() > 2_048 || given.uri.chars().any(char::is_control) {
        return Err(error::invalid("header.uri", "up to 2,048 bytes without control characters are allowed"));
    }
    Ok(Header {
        document_id: given.document_id,
        format,
        title: given.title.trim().to_owned(),
        locale: given.locale.trim().to_owned(),
        audiences: given.audiences,
        uri: given.uri,
    })
}

fn query(given: pb::SearchRequest) -> Result<Query, Status> {
    if !(1..=4).contains(&given.forms.len()) {
        return Err(error::invalid("forms", "1 to 4 forms are allowed"));
    }
    if given.forms[0].text.trim().is_empty() {
        return Err(error::invalid("forms.text", "the first form is the question; it may not be blank"));
    }
    let limit = match given.limit {
        0 => 8,
        limit @ 1..=100 => limit as usize,
        _ => return Err(error::invalid("limit", "0 to 100 passages are allowed")),
    };
    let mode = match pb::SearchMode::try_from(given.mode) {
        Ok(pb::SearchMode::Unspecified) => Mode::All,
        Ok(pb::SearchMode::Lexical) => Mode::Lexical,
        Ok(pb::SearchMode::Dense) => Mode::Dense,
        Err(_) => return Err(error::invalid("mode", "a value of the enum SearchMode is allowed")),
    };
    let filter = given.filter.unwrap_or_default();
    if filter.locale.len() > 35 || filter.audiences.len() > 64 {
        return Err(error::invalid("filter", "a BCP 47 tag and up to 64 audiences are allowed"));
    }
    Ok(Query {
        forms: given.forms.into_iter().map(form).collect::<Result<_, _>>()?,
        limit,
        filter: Filter {
            locale: filter.locale,
            audiences: filter.audiences,
            all_audiences: filter.all_audiences,
        },
        mode,
    })
}

fn form(given: pb::QueryForm) -> Result<Form, Status> {
    if given.text.chars().nth(MAX_QUERY).is_some() {
        return Err(error::invalid("forms.text", "up to 16,000 characters are allowed"));
    }
    let weight = if given.weight == 0.0 { 1.0 } else { given.weight };
    if !(weight > 0.0 && weight <= 1.0) {
        return Err(error::invalid("forms.weight", "a weight from 0 to 1 is allowed"));
    }
    Ok(Form { text: given.text, vector: unit(given.vector)?, weight })
}

/// A vector at length 1; none when it is empty.
fn unit(mut vector: Vec<f32>) -> Result<Option<Vec<f32>>, Status> {
    if vector.is_empty() {
        return Ok(None);
    }
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if vector.len() > MAX_DIMENSION || !length.is_finite() || length < 1e-12 {
        return Err(error::invalid("forms.vector", "a vector of finite numbers, not all zero, is allowed"));
    }
    for component in &mut vector {
        *component = (f64::from(*component) / length) as f32;
    }
    Ok(Some(vector))
}

/// The id that a page token stands for.
fn token(token: &str) -> Result<Option<String>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let wrong = || error::invalid("page_token", "the token of the page before is allowed");
    if token.len() > 1_024 || !token.is_ascii() || !token.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let byte = |at: usize| u8::from_str_radix(&token[at..at + 2], 16).map_err(|_| wrong());
    let bytes = (0..token.len()).step_by(2).map(byte).collect::<Result<_, _>>()?;
    String::from_utf8(bytes).map(Some).map_err(|_| wrong())
}

fn result(document_id: String, outcome: Outcome) -> pb::IngestResult {
    let mut result = pb::IngestResult { document_id, ..pb::IngestResult::default() };
    let status = match outcome {
        Outcome::Created { passages, written, version } => {
            (result.passages, result.passages_written, result.version) = (passages, written, version);
            pb::IngestStatus::Created
        }
        Outcome::Updated { passages, written, version } => {
            (result.passages, result.passages_written, result.version) = (passages, written, version);
            pb::IngestStatus::Updated
        }
        Outcome::Unchanged { passages, version } => {
            (result.passages, result.version) = (passages, version);
            pb::IngestStatus::Unchanged
        }
        Outcome::Rejected { reason } => {
            result.reason = reason;
            pb::IngestStatus::Rejected
        }
    };
    result.set_status(status);
    result
}

fn found_to_pb(catalog: &Catalog, found: Found, surroundings: bool) -> pb::SearchResponse {
    let hit = |hit: crate::search::Hit| {
        let held = catalog.passage(hit.slot)?;
        let sentence = |(sentence, similarity): (&crate::catalog::Sentence, f32)| pb::Sentence {
            start: sentence.start,
            end: sentence.end,
            text: held.sentence(sentence).to_owned(),
            similarity,
        };
        Some(pb::Hit {
            passage: Some(passage(held)),
            score: hit.score,
            lexical_rank: hit.lexical_rank,
            dense_rank: hit.dense_rank,
            similarity: hit.similarity,
            coverage: hit.coverage,
            sentences: held.sentences.iter().zip(hit.sentence_similarities).map(sentence).collect(),
            outdated: held.document.outdated,
            surroundings: if surroundings { around(catalog, held) } else { String::new() },
        })
    };
    let correction = |(written, corrected)| pb::Correction { written, corrected };
    pb::SearchResponse {
        hits: found.hits.into_iter().filter_map(hit).collect(),
        degraded: found.degraded.into_iter().map(str::to_owned).collect(),
        unknown_terms: found.unknown_terms,
        corrections: found.corrections.into_iter().map(correction).collect(),
    }
}

/// The text around a passage, in whole passages, itself among them.
fn around(catalog: &Catalog, held: &Passage) -> String {
    /// Characters before a passage and after it.
    const BEFORE: u32 = 1_500;
    const AFTER: u32 = 500;
    let (from, to) = (held.start.saturating_sub(BEFORE), held.end.saturating_add(AFTER));
    let near = catalog.passages_of(&held.document.id).filter(|other| other.start >= from && other.end <= to);
    near.map(|passage| passage.text.as_str()).collect::<Vec<_>>().join("\n")
}

fn passage(passage: &Passage) -> pb::Passage {
    let document = &passage.document;
    pb::Passage {
        passage_id: passage.id.clone(),
        document_id: document.id.clone(),
        title: document.title.clone(),
        heading_path: passage.headings.clone(),
        version: document.version.clone(),
        start: passage.start,
        end: passage.end,
        text: passage.text.clone(),
        locale: document.locale.clone(),
        audiences: document.audiences.clone(),
        uri: document.uri.clone(),
    }
}

fn document_to_pb(document: &Document) -> pb::Document {
    pb::Document {
        document_id: document.id.clone(),
        title: document.title.clone(),
        locale: document.locale.clone(),
        audiences: document.audiences.clone(),
        version: document.version.clone(),
        passages: document.passages,
        ingested_at: Some(prost_types::Timestamp {
            seconds: document.ingested_at.div_euclid(1000),
            nanos: (document.ingested_at.rem_euclid(1000) * 1_000_000) as i32,
        }),
        uri: document.uri.clone(),
    }
}

#[cfg(test)]
mod tests;
