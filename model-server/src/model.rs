//! A loaded embedding model: its tokenizer, its thread, and what `ListModels` says of it.

use std::{fs::File, io, path::Path, sync::Arc, thread};

use sha2::{Digest as _, Sha256};
use switchboard_mesh::{Call, health::Health};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    backend::{Backend as _, Batch},
    error::Error,
    onnx::{OnnxModel, Runtime},
    repository::{Folder, problem},
    scheduler::{Limits, Queue},
    tokenize::{TextTokenizer, Tokens},
};

/// Texts of more bytes than this are tokenised off the async threads; fewer take under a
/// millisecond, less than the way there and back may cost on a busy machine.
const INLINE_BYTES: usize = 4096;

/// An embedding model, ready to serve.
pub(crate) struct Model {
    /// Length of its vectors.
    pub(crate) dimensions: usize,
    /// Longest input in tokens.
    pub(crate) max_tokens: usize,
    /// Names the vectors that may be compared: a hash of weights, tokenizer and longest input.
    pub(crate) fingerprint: String,
    tokenizer: Arc<TextTokenizer>,
    queue: Queue,
}

/// A text's vector, of length 1.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// Its components.
    pub(crate) values: Vec<f32>,
    /// Tokens that were read, special ones included.
    pub(crate) tokens: usize,
    /// Whether the text was cut to the model's length.
    pub(crate) truncated: bool,
}

impl Model {
    /// Loads the model in `folder`, runs it once at its shortest and once at its longest, and starts
    /// its thread. Should the thread be lost, `health` says that this node no longer serves.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn load(
        folder: &Folder,
        config: &Config,
        runtime: &Runtime,
        health: Health,
    ) -> Result<Self, Error> {
        let dimensions = folder.config.hidden_size;
        let max_tokens = config.max_tokens.min(folder.config.max_position_embeddings);
        // Hashing reads all of the weights; the session loads meanwhile.
        let (fingerprint, backend) = thread::scope(|scope| {
            let fingerprint = scope.spawn(|| fingerprint(folder, max_tokens));
            let backend = OnnxModel::load(runtime, &folder.graph, dimensions, config.compute_threads());
            (fingerprint.join().expect("hashing does not panic"), backend)
        });
        let (fingerprint, mut backend) = (fingerprint?, backend?);
        let tokenizer = TextTokenizer::load(&folder.tokenizer, max_tokens)?;

        let text = tokenizer.encode(&"warm up ".repeat(max_tokens))?;
        for row in [&text.ids[..text.ids.len().min(8)], &text.ids] {
            let batch = Batch::new(std::iter::once(row), folder.config.pad_token_id);
            backend.embed(&batch).map_err(|error| {
                let config = folder.config_path.display();
                problem(&folder.graph, format!("does not run as {config} describes it: {error}"))
            })?;
        }

        let limits = Limits {
            queue: config.queue,
            batch_tokens: config.max_batch_tokens,
            pad: folder.config.pad_token_id,
        };
        let name = folder.name.clone();
        let lost = move || {
            tracing::error!(model = %name, "the model's thread has ended; restart the node");
            health.set(crate::SERVICE, false);
            health.set("", false);
        };
        let queue = Queue::start(&folder.name, Box::new(backend), limits, lost)
            .map_err(|error| problem(&folder.graph, format!("cannot be given a thread: {error}")))?;
        tracing::info!(model = %folder.name, dimensions, max_tokens, fingerprint, "model loaded");
        Ok(Self { dimensions, max_tokens, fingerprint, tokenizer: Arc::new(tokenizer), queue })
    }

    /// Embeds `texts`, in order. Dropping the future stops the tokenising and takes the texts out
    /// of the queue; a batch that has begun is finished.
    ///
    /// # Errors
    /// `Overloaded` when the queue is full, `Deadline` when the call's passed before the work began.
    pub(crate) async fn embed(&self, texts: Vec<String>, call: &Call) -> Result<Vec<Embedding>, Error> {
        let places = self.queue.admit(texts.len(), call.class)?;
        let rows = self.tokenize(texts).await?;
        let (ids, cuts): (Vec<_>, Vec<_>) = rows.into_iter().map(|row| (row.ids, row.truncated)).unzip();
        let tokens: Vec<usize> = ids.iter().map(Vec::len).collect();
        let vectors = self.queue.submit(places, ids, call).await.map_err(|_| Error::Stopped)??;
        let parts = vectors.into_iter().zip(tokens).zip(cuts);
        Ok(parts.map(|((values, tokens), truncated)| Embedding { values, tokens, truncated }).collect())
    }

    async fn tokenize(&self, texts: Vec<String>) -> Result<Vec<Tokens>, Error> {
        if texts.iter().map(String::len).sum::<usize>() <= INLINE_BYTES {
            return texts.iter().map(|text| self.tokenizer.encode(text)).collect();
        }
        let gone = CancellationToken::new();
        let _guard = gone.clone().drop_guard();
        let tokenizer = Arc::clone(&self.tokenizer);
        let work = move || {
            let wanted = texts.iter().take_while(|_| !gone.is_cancelled());
            wanted.map(|text| tokenizer.encode(text)).collect()
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::Tokenizer(error.to_string()))?
    }
}

/// The first half of a SHA-256 over all that a vector depends on besides its text, in hex.
fn fingerprint(folder: &Folder, max_tokens: usize) -> Result<String, Error> {
    let mut hash = Sha256::new();
    hash.update((max_tokens as u64).to_le_bytes());
    for path in [&folder.graph, &folder.tokenizer] {
        feed(&mut hash, path).map_err(|error| problem(path, format!("cannot be read: {error}")))?;
    }
    Ok(hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

fn feed(hash: &mut Sha256, path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    hash.update(file.metadata()?.len().to_le_bytes());
    let mut buffer = vec![0; 1 << 16];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(()),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use switchboard_mesh::testing::call;

    use super::*;
    use crate::{library, repository, setup};

    /// Made by `fixtures/make_embeddings.py`: float64, one text at a time, no padding.
    const GOLDEN: &str = include_str!("../fixtures/embeddings.json");

    #[derive(Deserialize)]
    struct Golden {
        max_tokens: usize,
        rows: Vec<GoldenRow>,
    }

    #[derive(Deserialize)]
    struct GoldenRow {
        text: String,
        tokens: usize,
        truncated: bool,
        vector: Vec<f32>,
    }

    fn load() -> Model {
        let folder = setup::repository();
        let folders = repository::scan(folder.path()).unwrap();
        let runtime = Runtime::load(&library::find(&setup::runtime()).unwrap()).unwrap();
        Model::load(&folders[0], &Config::default(), &runtime, Health::default()).unwrap()
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[tokio::test]
    async fn vectors_are_those_of_an_independent_implementation() {
        let golden: Golden = serde_json::from_str(GOLDEN).unwrap();
        let model = load();
        assert_eq!((model.max_tokens, model.dimensions), (golden.max_tokens, 384));
        for row in golden.rows {
            let vectors = model.embed(vec![row.text.clone()], &call("t")).await.unwrap();
            let Embedding { values, tokens, truncated } = &vectors[0];
            assert_eq!((*tokens, *truncated), (row.tokens, row.truncated), "{:?}", row.text);
            let cosine = cosine(values, &row.vector);
            assert!(cosine >= 0.999_99, "{cosine}: {:?}", row.text);
            let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
            assert!((length - 1.0).abs() < 1e-5, "{length}");
        }
    }

    #[tokio::test]
    async fn a_batch_row_equals_the_row_alone() {
        let golden: Golden = serde_json::from_str(GOLDEN).unwrap();
        let texts: Vec<String> = golden.rows.into_iter().map(|row| row.text).collect();
        let model = load();
        let together = model.embed(texts.clone(), &call("t")).await.unwrap();
        for (text, row) in texts.into_iter().zip(together) {
            let alone = model.embed(vec![text.clone()], &call("t")).await.unwrap();
            let apart =
                row.values.iter().zip(&alone[0].values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Float32 sums in another order; components are about 0.05 in size.
            assert!(apart <= 2e-6, "{apart}: {text:?}");
            assert!(cosine(&row.values, &alone[0].values) >= 0.999_999, "{text:?}");
        }
    }

    #[tokio::test]
    async fn the_fingerprint_follows_the_tokenizer() {
        let folder = setup::repository();
        let folders = repository::scan(folder.path()).unwrap();
        let first = fingerprint(&folders[0], 256).unwrap();
        assert_eq!(first.len(), 32);
        assert_eq!(fingerprint(&folders[0], 256).unwrap(), first);
        assert_ne!(fingerprint(&folders[0], 128).unwrap(), first);
        std::fs::remove_file(&folders[0].tokenizer).unwrap();
        std::fs::write(&folders[0].tokenizer, "{}").unwrap();
        assert_ne!(fingerprint(&folders[0], 256).unwrap(), first);
    }
}
