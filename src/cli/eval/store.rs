//! A knowledge base for one measurement: in this process, in a temporary folder.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use switchboard_proto::{
    embeddings::v1::{EmbedRequest, embeddings_service_client::EmbeddingsServiceClient},
    knowledge::v1::{
        DocumentHeader, Filter, Format, Hit, IngestStatus, QueryForm, SearchMode, SearchRequest,
        knowledge_service_client::KnowledgeServiceClient,
    },
};
use switchboard_text::context;

use super::data::{Question, json_lines};
use crate::{
    cli::{
        Global,
        client::{Client, explain},
        ingest, show,
    },
    config::Config,
    roles::Role,
};

/// How long one call may take.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct Document {
    doc_id: String,
    text: String,
    #[serde(default)]
    title: Option<String>,
}

/// A knowledge base that is gone with its process.
pub(super) struct Store {
    pub(super) client: Client,
    pub(super) config: Config,
    _folder: Temporary,
}

impl Store {
    /// An empty one; `more` roles run beside those that store and search.
    ///
    /// # Errors
    /// A role that cannot start.
    pub(super) async fn open(global: &Global, more: &[Role]) -> Result<Self> {
        let folder = Temporary::new()?;
        let quiet = [("data", folder.0.display().to_string()), ("telemetry.log", "warn".to_owned())];
        let config = global.load(&quiet)?;
        let client = Client::embedded(&config, &[&ingest::ROLES, more].concat()).await?;
        Ok(Self { client, config, _folder: folder })
    }

    /// Stores documents. One that is refused is told and left out.
    ///
    /// # Errors
    /// A document that cannot be stored for another reason than its own.
    pub(super) async fn fill(&self, documents: Vec<(DocumentHeader, Vec<u8>)>) -> Result<()> {
        let bar = ingest::progress(documents.len());
        for (header, bytes) in documents {
            let id = header.document_id.clone();
            let refused = match ingest::send(&self.client, header, bytes).await? {
                Ok(result) => (result.status() == IngestStatus::Rejected).then_some(result.reason),
                Err(reason) => Some(reason),
            };
            if let Some(reason) = refused {
                bar.suspend(|| eprintln!("rejected {}: {}", show::plain(&id), show::plain(&reason)));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The wordings that a conversation would search for, with their vectors.
    ///
    /// # Errors
    /// What the embeddings service says.
    pub(super) async fn forms(&self, question: &Question) -> Result<Vec<QueryForm>> {
        let wordings = context::forms(&question.text, &question.history);
        let meant = wordings.iter().filter(|form| !form.meaning.is_empty());
        let texts = meant.map(|form| form.meaning.clone()).collect();
        let mut service = EmbeddingsServiceClient::new(self.client.channel(Role::Embeddings));
        let request = self.client.request(EmbedRequest { texts, ..EmbedRequest::default() }, LIMIT)?;
        let embedded = service.embed(request).await.map_err(|status| explain(&status))?.into_inner();
        let mut vectors = embedded.embeddings.into_iter();
        let forms = wordings.into_iter().map(|form| {
            let vector = if form.meaning.is_empty() { None } else { vectors.next() };
            let vector = vector.map(|embedding| embedding.values).unwrap_or_default();
            QueryForm { text: form.words, vector, weight: form.weight }
        });
        Ok(forms.collect())
    }

    /// The first `limit` passages that wordings find.
    ///
    /// # Errors
    /// What the knowledge service says.
    pub(super) async fn search(&self, forms: &[QueryForm], mode: SearchMode, limit: u32) -> Result<Vec<Hit>> {
        let request = SearchRequest {
            surroundings: false,
            forms: forms.to_vec(),
            limit,
            filter: Some(Filter { all_audiences: true, ..Filter::default() }),
            mode: mode.into(),
        };
        let mut service = KnowledgeServiceClient::new(self.client.channel(Role::Knowledge))
            .max_decoding_message_size(64 << 20);
        let request = self.client.request(request, LIMIT)?;
        Ok(service.search(request).await.map_err(|status| explain(&status))?.into_inner().hits)
    }
}

/// The documents of a folder, or of a file of JSON Lines.
///
/// # Errors
/// What cannot be read.
pub(super) async fn documents(path: &Path) -> Result<Vec<(DocumentHeader, Vec<u8>)>> {
    let mut documents = Vec::new();
    if path.is_dir() {
        for file in ingest::collect(&[path.to_owned()])? {
            let bytes = ingest::read(&file.path).await.map_err(anyhow::Error::msg);
            let bytes = bytes.with_context(|| format!("{:?} cannot be read", file.path))?;
            let header = DocumentHeader { document_id: file.id, ..DocumentHeader::default() };
            documents.push((header, bytes));
        }
    } else {
        for Document { doc_id, text, title } in json_lines(path)? {
            // Ids such as `Title#3` carry their title where there is no other.
            let title = title.unwrap_or_else(|| doc_id.split('#').next().unwrap_or_default().to_owned());
            let format = Format::Text.into();
            let header = DocumentHeader { document_id: doc_id, format, title, ..DocumentHeader::default() };
            documents.push((header, text.into_bytes()));
        }
    }
    ensure!(!documents.is_empty(), "--docs {path:?} holds no document");
    Ok(documents)
}

/// A folder that is removed again.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("switchboard-eval-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("{path:?} cannot be made"))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
