//! From a document's bytes to stored passages: parse, cut, embed, store.

use std::{
    collections::HashMap,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use mesh::{Call, Channel, Class, error::Kind};
use proto::embeddings::v1::{EmbedRequest, embeddings_service_client::EmbeddingsServiceClient};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use tokio::sync::{Semaphore, oneshot};

use crate::{
    catalog::{Catalog, Passage, Sentence},
    chunk::{self, Clock, Cut, Limits},
    config::Config,
    document::{Document, Header, NewPassage, NewSentence, hash, hex, index_text},
    error::Error,
    metrics,
    parse::{Parsed, Rejected, parse},
    store::{Model, Store, Write, read},
};

/// Documents that are parsed at once, over all calls.
const PARSERS: usize = 2;

/// Stack of a parsing thread, in bytes: damaged PDFs can nest deeply. Only what is used is taken.
const PARSER_STACK: usize = 256 << 20;

/// What became of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created { passages: u32, written: u32, version: String },
    Updated { passages: u32, written: u32, version: String },
    Unchanged { passages: u32, version: String },
    Rejected { reason: String },
}

impl Outcome {
    fn label(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Updated { .. } => "updated",
            Self::Unchanged { .. } => "unchanged",
            Self::Rejected { .. } => "rejected",
        }
    }
}

/// Takes documents in.
pub(crate) struct Ingest {
    config: Config,
    store: Arc<Store>,
    embeddings: EmbeddingsServiceClient<Channel>,
    parsers: Arc<Semaphore>,
}

/// A document cut into passages, without vectors.
struct Prepared {
    parsed: Parsed,
    drafts: Vec<Draft>,
}

impl Ingest {
    pub(crate) fn new(config: Config, store: Arc<Store>, embeddings: Channel) -> Self {
        let parsers = Arc::new(Semaphore::new(PARSERS));
        Self { config, store, embeddings: EmbeddingsServiceClient::new(embeddings), parsers }
    }

    /// Takes one document in. When it returns, the document is durable, unchanged or rejected.
    ///
    /// # Errors
    /// `Embeddings` and the store's; nothing of the document was stored, and it is safe to try
    /// again.
    pub(crate) async fn document(
        &self,
        call: &Call,
        header: Header,
        bytes: Vec<u8>,
    ) -> Result<Outcome, Error> {
        let started = Instant::now();
        let outcome = self.take(call, header, bytes).await?;
        metrics::INGEST_SECONDS.record(started.elapsed().as_secs_f64(), &[]);
        metrics::count_document(outcome.label());
        Ok(outcome)
    }

    async fn take(&self, call: &Call, header: Header, bytes: Vec<u8>) -> Result<Outcome, Error> {
        let limits = self.limits();
        let hashed = move || (version(limits, &header, &bytes), header, bytes);
        let (version, header, bytes) = tokio::task::spawn_blocking(hashed).await.map_err(|_| Error::Lost)?;
        let tenant = call.tenant().map_err(|_| Error::Lost)?.clone();
        let space = self.store.space(&tenant);
        if let Some(space) = &space
            && let Some(document) = read(&space.catalog).document(&header.document_id)
            && document.version == version
        {
            return Ok(Outcome::Unchanged { passages: document.passages, version });
        }
        let (header, prepared) = match self.prepare(tenant.as_str(), header, bytes).await? {
            Ok(done) => done,
            Err(Rejected(reason)) => return Ok(Outcome::Rejected { reason }),
        };
        let known =
            space.map_or_else(Known::default, |space| Known::of(&read(&space.catalog), &header.document_id));
        let (stored, model) = self.embed(call, &prepared.parsed.title, prepared.drafts, known).await?;
        let passages = stored.len() as u32;
        let outdated = prepared.parsed.outdated();
        let document = Document {
            id: header.document_id,
            title: prepared.parsed.title,
            locale: prepared.parsed.locale,
            audiences: prepared.parsed.audiences,
            uri: header.uri,
            version: version.clone(),
            passages,
            outdated,
            ingested_at: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as i64),
        };
        let done = self.store.replace(Write { tenant, document, passages: stored, model }).await?;
        let written = done.written;
        Ok(if done.created {
            Outcome::Created { passages, written, version }
        } else {
            Outcome::Updated { passages, written, version }
        })
    }

    fn limits(&self) -> Limits {
        Limits {
            characters: self.config.chunk_characters,
            tokens: self.config.chunk_tokens,
            overlap: self.config.overlap_characters,
        }
    }

    /// Parses and cuts on a thread of its own, which may panic and may not come back.
    async fn prepare(
        &self,
        tenant: &str,
        header: Header,
        bytes: Vec<u8>,
    ) -> Result<Result<(Header, Prepared), Rejected>, Error> {
        // The permit goes with the thread: what hangs is not joined by ever more of its kind.
        let permit = tokio::time::timeout(self.config.parse_timeout, self.parsers.clone().acquire_owned());
        let permit = permit.await.map_err(|_| Error::ParsersBusy)?.map_err(|_| Error::Stopping)?;
        let (tenant, limits) = (tenant.to_owned(), self.limits());
        let (reply, answer) = oneshot::channel();
        let work = move || {
            let _permit = permit;
            if reply.is_closed() {
                return;
            }
            let done = catch_unwind(AssertUnwindSafe(|| {
                parse(&header, &bytes).map(|parsed| {
                    let cuts = chunk::cut(&parsed, limits);
                    let drafts = drafts(&tenant, &header.document_id, &parsed, &cuts);
                    Prepared { parsed, drafts }
                })
            }));
            let done =
                done.unwrap_or_else(|_| Err(Rejected("the document is damaged and cannot be read".into())));
            let _ = reply.send(done.map(|prepared| (header, prepared)));
        };
        std::thread::Builder::new()
            .name("knowledge-parser".into())
            .stack_size(PARSER_STACK)
            .spawn(work)
            .map_err(|_| Error::Lost)?;
        match tokio::time::timeout(self.config.parse_timeout, answer).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err(Error::Lost),
            Err(_) => {
                let limit = self.config.parse_timeout.as_secs();
                Ok(Err(Rejected(format!("the document took longer than {limit} s to read; make it smaller"))))
            }
        }
    }

    /// Gives every passage and its sentences their vectors: those of the same passage as it was
    /// stored, or new ones.
    async fn embed(
        &self,
        call: &Call,
        title: &str,
        drafts: Vec<Draft>,
        known: Known,
    ) -> Result<(Vec<NewPassage>, Model), Error> {
        // What occurs twice, such as a sentence that two passages share, is embedded once.
        let mut texts: Vec<String> = Vec::new();
        let mut wanted: HashMap<String, usize> = HashMap::new();
        let mut want = |text: String| {
            *wanted.entry(text).or_insert_with_key(|text| {
                texts.push(text.clone());
                texts.len() - 1
            })
        };
        let mut passages = Vec::with_capacity(drafts.len());
        let mut places = Vec::new();
        for draft in drafts {
            if known.of_passage(&draft.passage).is_none() {
                let passage = want(index_text(title, &draft.passage.text));
                let sentences: Vec<usize> = draft.sentences.into_iter().map(&mut want).collect();
                places.push((passages.len(), passage, sentences));
            }
            passages.push(draft.passage);
        }
        let (vectors, model) = self.vectors(call, &texts).await?;
        for (at, passage, sentences) in places {
            passages[at].vector.clone_from(&vectors[passage]);
            for (sentence, vector) in passages[at].sentences.iter_mut().zip(sentences) {
                sentence.vector.clone_from(&vectors[vector]);
            }
        }
        for passage in &mut passages {
            if let Some(stored) = known.of_passage(passage) {
                passage.vector.clone_from(&stored.passage);
                for (sentence, vector) in passage.sentences.iter_mut().zip(&stored.sentences) {
                    sentence.vector.clone_from(vector);
                }
            }
        }
        Ok((passages, model))
    }

    /// Embeds texts in bounded batches, texts of like length together, so that few tokens are
    /// padding. The vectors come in the order of the texts.
    async fn vectors(&self, call: &Call, texts: &[String]) -> Result<(Vec<Vec<f32>>, Model), Error> {
        let mut model = self.store.model();
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&at| texts[at].len());
        let mut vectors = vec![Vec::new(); texts.len()];
        let call = call.with_class(Class::Batch);
        for batch in order.chunks(self.config.embed_batch) {
            let request = EmbedRequest {
                texts: batch.iter().map(|&at| texts[at].clone()).collect(),
                model: self.config.embedding_model.clone(),
                ..EmbedRequest::default()
            };
            let answer = self
                .embeddings
                .clone()
                .embed(call.request_to_any(request))
                .await
                .map_err(|status| unembedded(&status))?;
            let answer = answer.into_inner();
            let wrong =
                |message: &str| Error::Embeddings { kind: Kind::Unavailable, message: message.into() };
            if answer.embeddings.len() != batch.len() {
                return Err(wrong("the embeddings service gave another number of vectors"));
            }
            for (&at, embedding) in batch.iter().zip(answer.embeddings) {
                let dimension = embedding.values.len();
                let found = Model { name: answer.model.clone(), dimension };
                if dimension == 0 || !embedding.values.iter().all(|value| value.is_finite()) {
                    return Err(wrong("the embeddings service gave a vector that is not one"));
                }
                // The store refuses a second model, unless it has no documents any more.
                model = Some(found);
                vectors[at] = embedding.values;
            }
        }
        let model = model.ok_or_else(|| Error::Embeddings {
            kind: Kind::Unavailable,
            message: "the embeddings service named no model".into(),
        })?;
        if vectors.iter().any(|vector| vector.len() != model.dimension) {
            let message = "the embeddings service changed its model meanwhile".into();
            return Err(Error::Embeddings { kind: Kind::Unavailable, message });
        }
        Ok((vectors, model))
    }
}

/// A hash of all that decides what is stored.
fn version(limits: Limits, header: &Header, bytes: &[u8]) -> String {
    let way = format!("{} {limits:?} {:?}", chunk::VERSION, header.format);
    let audiences = header.audiences.join("\n");
    let said = [&way, &header.title, &header.locale, &audiences, &header.uri];
    hex(&hash(said.map(String::as_bytes).into_iter().chain([bytes])))
}

/// What a failed embedding means for the caller: a model that is missing has to be set up, what the
/// service cannot take will not be taken later either, and anything else can be tried again.
fn unembedded(status: &tonic::Status) -> Error {
    let kind = match status.code() {
        tonic::Code::DeadlineExceeded => Kind::Deadline,
        tonic::Code::ResourceExhausted => Kind::Overloaded,
        tonic::Code::NotFound | tonic::Code::FailedPrecondition => Kind::Precondition,
        tonic::Code::InvalidArgument | tonic::Code::Internal => Kind::Internal,
        _ => Kind::Unavailable,
    };
    Error::Embeddings { kind, message: status.message().to_owned() }
}

/// Vectors of a document's stored passages, by fingerprint.
#[derive(Default)]
struct Known(HashMap<Vec<u8>, Vectors>);

struct Vectors {
    passage: Vec<f32>,
    sentences: Vec<Vec<f32>>,
}

impl Known {
    fn of(catalog: &Catalog, document_id: &str) -> Self {
        let vectors = |passage: &Passage| {
            let sentence = |sentence: &Sentence| catalog.sentence_vectors.row(sentence.vector).to_vec();
            let vectors = Vectors {
                passage: catalog.passage_vectors.row(passage.vector).to_vec(),
                sentences: passage.sentences.iter().map(sentence).collect(),
            };
            (passage.fingerprint.clone(), vectors)
        };
        Self(catalog.passages_of(document_id).map(vectors).collect())
    }

    fn of_passage(&self, passage: &NewPassage) -> Option<&Vectors> {
        self.0.get(&passage.fingerprint).filter(|stored| stored.sentences.len() == passage.sentences.len())
    }
}

/// A passage without vectors.
struct Draft {
    passage: NewPassage,
    /// What each of its sentences is embedded as: the sentence, after the headings that lead it.
    sentences: Vec<String>,
}

/// Passages with their ids and offsets.
fn drafts(tenant: &str, document_id: &str, parsed: &Parsed, cuts: &[Cut]) -> Vec<Draft> {
    let Parsed { title, text, .. } = parsed;
    let mut clock = Clock::new(text);
    let mut seen: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut draft = |cut: &Cut| {
        let piece = &text[cut.range.clone()];
        let path = cut.headings.join("\u{1f}");
        let content = [tenant, document_id, &path, piece].map(str::as_bytes);
        // The same words can stand twice under one heading; they are two passages.
        let repeat = seen.entry(hash(content)).or_default();
        let id = hex(&hash(content.into_iter().chain([&repeat.to_le_bytes()[..]])));
        *repeat += 1;
        let start = clock.at(cut.range.start) as u32;
        let mut sentence = |range: &Range<usize>| NewSentence {
            start: clock.at(range.start) as u32 - start,
            end: clock.at(range.end) as u32 - start,
            vector: Vec::new(),
        };
        let sentences = cut.sentences.iter().map(|one| sentence(&one.range)).collect();
        // The same text can be cut into other sentences: what is a heading is not part of it.
        let bounds: Vec<u8> = cut
            .sentences
            .iter()
            .flat_map(|one| [one.lead, one.range.start, one.range.end])
            .flat_map(|at| ((at - cut.range.start) as u64).to_le_bytes())
            .collect();
        let indexed = [chunk::VERSION, title, &path, piece].map(str::as_bytes);
        let passage = NewPassage {
            id,
            fingerprint: hash(indexed.into_iter().chain([bounds.as_slice()])),
            headings: cut.headings.clone(),
            start,
            end: clock.at(cut.range.end) as u32,
            text: piece.to_owned(),
            vector: Vec::new(),
            sentences,
        };
        let sentences = cut.sentences.iter().map(|one| text[one.lead..one.range.end].to_owned()).collect();
        Draft { passage, sentences }
    };
    cuts.iter().map(&mut draft).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_passages_of_one_document_have_ids_of_their_own_that_stay() {
        let header = Header { document_id: "d.md".into(), ..Header::default() };
        let prepared = |source: &str| {
            let parsed = parse(&header, source.as_bytes()).unwrap();
            let cuts = chunk::cut(&parsed, Limits { characters: 500, tokens: 128, overlap: 0 });
            let drafts = drafts("acme", "d.md", &parsed, &cuts);
            drafts.into_iter().map(|draft| draft.passage).collect::<Vec<_>>()
        };
        let first = prepared("# T\n\nIntro é.\n\n## S\n\nSame.\n\n## S\n\nSame.\n");
        assert_ne!(first[1].id, first[2].id);
        let moved = prepared("# T\n\nAnother, longer intro.\n\n## S\n\nSame.\n\n## S\n\nSame.\n");
        assert_eq!((&first[1].id, &first[1].fingerprint), (&moved[1].id, &moved[1].fingerprint));
        assert_ne!(first[1].start, moved[1].start);
        assert_ne!(first[0].id, moved[0].id);
    }

    #[test]
    fn the_same_text_cut_into_other_sentences_is_another_passage() {
        let header = Header { document_id: "d.md".into(), ..Header::default() };
        let long = "x".repeat(280);
        let parsed = parse(&header, format!("# {long}\n\n{long}\n\n# {long}").as_bytes()).unwrap();
        let cuts = chunk::cut(&parsed, Limits { characters: 500, tokens: 128, overlap: 0 });
        let drafts = drafts("acme", "d.md", &parsed, &cuts);
        let mut counts = HashMap::new();
        for draft in drafts {
            let count = draft.passage.sentences.len();
            assert_eq!(*counts.entry(draft.passage.fingerprint).or_insert(count), count);
        }
    }

    #[tokio::test]
    async fn a_document_does_not_wait_for_ever_for_parsers_that_hang() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path(), 100).unwrap());
        let embeddings = mesh::testing::context(folder.path()).channel("embeddings");
        let config = Config { parse_timeout: std::time::Duration::from_millis(10), ..Config::default() };
        let ingest = Ingest::new(config, store, embeddings);
        let _hung = ingest.parsers.clone().acquire_many_owned(PARSERS as u32).await.unwrap();
        let done = ingest.prepare("acme", Header::default(), b"words".to_vec()).await;
        assert!(matches!(done, Err(Error::ParsersBusy)));
    }
}
