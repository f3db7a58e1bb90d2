//! A loaded model: its tokenizer, its queue, and what it does with texts.

#[cfg(test)]
mod goldens;
mod load;
#[cfg(test)]
mod tests;

pub(crate) use self::load::Loaded;

use std::{sync::Arc, time::Duration};

use switchboard_mesh::Call;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    backend::Row,
    error::Error,
    labels::{self, Label},
    late, pooling,
    profile::Profile,
    repository::Task,
    scheduler::{Done, Places, Queue},
    statistics::{Counts, Parts, Statistics},
    tokenize::{Piece, TextTokenizer, Tokens, Truncation},
    warmup::Layout,
};

/// Texts of more bytes than this are tokenised off the async threads; fewer take under a
/// millisecond, less than the way there and back may cost on a busy machine.
const INLINE_BYTES: usize = 4096;

/// What is known of a model without asking it.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    /// The folder's name.
    pub(crate) name: String,
    pub(crate) task: Task,
    /// The family, such as `bert`.
    pub(crate) model_type: String,
    /// Components of a vector, for embedding; scores of a text, else.
    pub(crate) dimensions: usize,
    /// Longest input in tokens.
    pub(crate) max_tokens: usize,
    /// Tokens of a batch, padding included.
    pub(crate) max_batch_tokens: usize,
    /// Texts that may wait or be in work.
    pub(crate) queue: usize,
    /// What runs it, such as `onnx/cpu`.
    pub(crate) backend: &'static str,
    /// What its weights are, such as `float32`.
    pub(crate) dtype: String,
    /// Names what may be compared: a hash of all that results depend on besides the request.
    pub(crate) fingerprint: String,
    pub(crate) layout: Layout,
}

/// A model, ready to serve.
pub(crate) struct Model {
    pub(crate) card: Card,
    tokenizer: Arc<TextTokenizer>,
    /// For late interaction.
    reader: Option<Arc<late::Reader>>,
    queue: Queue,
}

/// What a model made of a request.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    /// One result for each text, in order.
    pub(crate) rows: Vec<T>,
    pub(crate) timing: Timing,
}

/// Where a request's time went, and what it had to read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    pub(crate) tokenization: Duration,
    pub(crate) queue: Duration,
    pub(crate) inference: Duration,
    /// Tokens that were read, special ones included.
    pub(crate) tokens: usize,
    /// Characters of all texts.
    pub(crate) characters: usize,
}

/// How to embed.
#[derive(Clone, Debug, Default)]
pub(crate) struct EmbedOptions {
    /// Name of the prompt; empty takes the default one.
    pub(crate) prompt: String,
    /// Whether to scale to length 1; as the folder says when absent.
    pub(crate) normalize: Option<bool>,
    /// Components to keep; 0 keeps all.
    pub(crate) dimensions: usize,
    pub(crate) truncation: Truncation,
}

/// A text's vector.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// Its components.
    pub(crate) values: Vec<f32>,
    /// Tokens that were read, special ones included.
    pub(crate) tokens: usize,
    /// Whether the text was cut to the model's length.
    pub(crate) truncated: bool,
}

/// How to classify.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClassifyOptions {
    /// Whether scores are what the model gives, and not probabilities.
    pub(crate) raw_scores: bool,
    /// Whether token labels come for each token apart, and not joined to spans.
    pub(crate) each_token: bool,
    pub(crate) truncation: Truncation,
}

/// The labels of a text: all of them, the best first; or its labelled spans, in reading order.
#[derive(Debug)]
pub(crate) struct Classification {
    pub(crate) labels: Vec<Label>,
    pub(crate) tokens: usize,
    pub(crate) truncated: bool,
}

/// Rows on their way: what they were made of, and what they cost so far.
struct Prepared {
    tokens: Vec<Tokens>,
    timing: Timing,
}

impl Model {
    /// Embeds `texts`, in order. Dropping the future stops the tokenising and takes the texts out of
    /// the queue; a batch that has begun is finished.
    ///
    /// # Errors
    /// `Overloaded` when the queue is full, `Deadline` when the call's cannot be kept, `OtherTask` when
    /// it embeds nothing, `Invalid` for an unknown prompt or a length that vectors do not have.
    pub(crate) async fn embed(
        &self,
        texts: Vec<String>,
        options: EmbedOptions,
        call: &Call,
    ) -> Result<Answer<Embedding>, Error> {
        let Task::Embed { normalize, prompts, default_prompt, .. } = &self.card.task else {
            return Err(self.other_task("embed"));
        };
        if options.dimensions > self.card.dimensions {
            let problem = format!("{}; at most {} are there", options.dimensions, self.card.dimensions);
            return Err(Error::invalid("dimensions", problem));
        }
        let name = if options.prompt.is_empty() { default_prompt.as_ref() } else { Some(&options.prompt) };
        let prompt = match name {
            None => String::new(),
            Some(name) => prompts.get(name).cloned().ok_or_else(|| {
                let known: Vec<&str> = prompts.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                Error::invalid("prompt", format!("the model has no prompt of that name; it has {known}"))
            })?,
        };
        let (tally, places) = self.admit(texts.len(), call)?;
        let truncation = options.truncation;
        let prepare = move |tokenizer: &TextTokenizer, text: &str| {
            let prompted = if prompt.is_empty() { None } else { Some(format!("{prompt}{text}")) };
            let raw = tokenizer.split(prompted.as_deref().unwrap_or(text))?;
            tokenizer.row(raw, truncation, false)
        };
        let prepared = self.prepare(texts, prepare).await;
        let normalize = options.normalize.unwrap_or(*normalize);
        let finish = |tokens: &[Tokens], done: Vec<Vec<f32>>| {
            let vectors = done.into_iter().zip(tokens);
            vectors
                .map(|(mut values, tokens)| {
                    if options.dimensions > 0 {
                        values.truncate(options.dimensions);
                    }
                    if normalize && pooling::normalise(&mut values).is_none() {
                        let problem = "the model gave a vector without direction".to_owned();
                        return Err(crate::backend::BackendError::Failed(problem).into());
                    }
                    Ok(Embedding { values, tokens: tokens.count, truncated: tokens.truncated })
                })
                .collect()
        };
        self.compute(tally, places, prepared, call, finish).await
    }

    /// Scores `texts` by how well they answer `query`, in order.
    ///
    /// # Errors
    /// As [`Self::embed`].
    pub(crate) async fn rerank(
        &self,
        query: String,
        texts: Vec<String>,
        raw_scores: bool,
        truncation: Truncation,
        call: &Call,
    ) -> Result<Answer<f32>, Error> {
        match (&self.card.task, &self.reader) {
            (Task::CrossEncoder, _) => {
                let (tally, places) = self.admit(texts.len(), call)?;
                let query = self.tokenizer.split(&query)?;
                let prepare = move |tokenizer: &TextTokenizer, text: &str| {
                    tokenizer.pair(query.clone(), tokenizer.split(text)?, truncation)
                };
                let prepared = self.prepare(texts, prepare).await;
                let finish = |_: &[Tokens], done: Vec<Vec<f32>>| {
                    let logits = done.into_iter().map(|row| row.first().copied().unwrap_or_default());
                    Ok(logits.map(|logit| if raw_scores { logit } else { labels::sigmoid(logit) }).collect())
                };
                self.compute(tally, places, prepared, call, finish).await
            }
            (Task::LateInteraction(_), Some(reader)) => {
                let (tally, places) = self.admit(texts.len() + 1, call)?;
                let query = reader.query(&self.tokenizer, &query, truncation)?;
                let for_texts = Arc::clone(reader);
                let prepare = move |tokenizer: &TextTokenizer, text: &str| {
                    for_texts.document(tokenizer, text, truncation)
                };
                let prepared = self.prepare(texts, prepare).await.map(|mut prepared| {
                    prepared.timing.tokens += query.count;
                    prepared.tokens.push(query);
                    prepared
                });
                let width = self.card.dimensions;
                let finish = |tokens: &[Tokens], mut done: Vec<Vec<f32>>| {
                    done.iter_mut().for_each(|vectors| late::normalise(vectors, width));
                    let query = done.pop().unwrap_or_default();
                    let count = (query.len() / width.max(1)).max(1) as f32;
                    let score = |(vectors, tokens): (Vec<f32>, &Tokens)| {
                        let sum = reader.score(&query, &vectors, width, &tokens.row.ids);
                        if raw_scores { sum } else { sum / count }
                    };
                    Ok(done.into_iter().zip(tokens).map(score).collect())
                };
                self.compute(tally, places, prepared, call, finish).await
            }
            _ => Err(self.other_task("rerank")),
        }
    }

    /// Labels `texts`, each with a second text where the model judges pairs, in order.
    ///
    /// # Errors
    /// As [`Self::embed`]; `Invalid` for second texts where tokens are labelled.
    pub(crate) async fn classify(
        &self,
        texts: Vec<String>,
        second_texts: Vec<String>,
        options: ClassifyOptions,
        call: &Call,
    ) -> Result<Answer<Classification>, Error> {
        let truncation = options.truncation;
        let each_token = match &self.card.task {
            Task::Sequence { .. } => false,
            Task::Tokens { .. } => true,
            _ => return Err(self.other_task("classify")),
        };
        if !second_texts.is_empty() && (each_token || second_texts.len() != texts.len()) {
            let problem = match each_token {
                true => "the model labels tokens of single texts".to_owned(),
                false => {
                    format!("{} for {} texts; as many or none are allowed", second_texts.len(), texts.len())
                }
            };
            return Err(Error::invalid("second_texts", problem));
        }
        let (tally, places) = self.admit(texts.len(), call)?;
        let prepared = if second_texts.is_empty() {
            let prepare = move |tokenizer: &TextTokenizer, text: &str| match each_token {
                true => tokenizer.row(tokenizer.split_with_spans(text)?, truncation, true),
                false => tokenizer.row(tokenizer.split(text)?, truncation, false),
            };
            self.prepare(texts, prepare).await
        } else {
            let pairs: Vec<(String, String)> = texts.into_iter().zip(second_texts).collect();
            let prepare = move |tokenizer: &TextTokenizer, (first, second): &(String, String)| {
                tokenizer.pair(tokenizer.split(first)?, tokenizer.split(second)?, truncation)
            };
            self.prepare(pairs, prepare).await
        };
        let task = &self.card.task;
        let finish = |tokens: &[Tokens], done: Vec<Vec<f32>>| {
            let rows = done.into_iter().zip(tokens);
            let labels = |logits: &[f32], tokens: &Tokens| match task {
                Task::Sequence { labels, independent } => {
                    labels::of_text(logits, labels, *independent, options.raw_scores)
                }
                task => {
                    let each = labels::of_tokens(logits, task.labels(), &tokens.spans, options.raw_scores);
                    if options.each_token { each } else { labels::join(each) }
                }
            };
            Ok(rows
                .map(|(logits, tokens)| Classification {
                    labels: labels(&logits, tokens),
                    tokens: tokens.count,
                    truncated: tokens.truncated,
                })
                .collect())
        };
        self.compute(tally, places, prepared, call, finish).await
    }

    /// The tokens of a text, with special ones where `special`.
    ///
    /// # Errors
    /// When the tokenizer fails, which it should for no text.
    pub(crate) fn tokenize(&self, text: &str, special: bool) -> Result<Vec<Piece>, Error> {
        self.tokenizer.pieces(text, special)
    }

    /// The text that tokens stand for.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        self.tokenizer.decode(ids, skip_special)
    }

    /// What became of requests so far.
    pub(crate) fn statistics(&self) -> Counts {
        self.queue.statistics().counts()
    }

    /// How long batches take, and how long what waits will.
    pub(crate) fn profile(&self) -> (Profile, Duration) {
        self.queue.profile()
    }

    /// Takes places in the queue for a request, which counts from now on.
    fn admit(&self, rows: usize, call: &Call) -> Result<(Tally<'_>, Places), Error> {
        let tally = Tally::begin(self.queue.statistics());
        match self.queue.admit(rows, call.class) {
            Ok(places) => Ok((tally, places)),
            Err(error) => {
                tally.failed();
                Err(error)
            }
        }
    }

    fn other_task(&self, wanted: &'static str) -> Error {
        Error::OtherTask { name: self.card.name.clone(), task: self.card.task.name(), wanted }
    }

    /// Makes rows of `inputs`. Long ones are tokenised off the async threads; dropping the future stops
    /// that.
    async fn prepare<I: Input>(
        &self,
        inputs: Vec<I>,
        prepare: impl Fn(&TextTokenizer, &I::Borrowed) -> Result<Tokens, Error> + Send + 'static,
    ) -> Result<Prepared, Error> {
        let began = Instant::now();
        let characters = inputs.iter().map(Input::characters).sum();
        let tokens: Result<Vec<Tokens>, Error> = if inputs.iter().map(Input::bytes).sum::<usize>()
            <= INLINE_BYTES
        {
            inputs.iter().map(|input| prepare(&self.tokenizer, input.borrowed())).collect()
        } else {
            let gone = CancellationToken::new();
            let _guard = gone.clone().drop_guard();
            let tokenizer = Arc::clone(&self.tokenizer);
            let work = move || {
                let wanted = inputs.iter().take_while(|_| !gone.is_cancelled());
                wanted.map(|input| prepare(&tokenizer, input.borrowed())).collect()
            };
            tokio::task::spawn_blocking(work).await.map_err(|error| Error::Tokenizer(error.to_string()))?
        };
        let tokens = tokens?;
        let count = tokens.iter().map(|tokens| tokens.count).sum();
        let timing = Timing { tokenization: began.elapsed(), tokens: count, characters, ..Timing::default() };
        Ok(Prepared { tokens, timing })
    }

    /// Has rows computed, and makes an answer of their numbers.
    async fn compute<T>(
        &self,
        tally: Tally<'_>,
        places: Places,
        prepared: Result<Prepared, Error>,
        call: &Call,
        finish: impl FnOnce(&[Tokens], Vec<Vec<f32>>) -> Result<Vec<T>, Error>,
    ) -> Result<Answer<T>, Error> {
        let work = async {
            let Prepared { mut tokens, mut timing } = prepared?;
            // Late interaction needs the ids again; for the others they are only moved.
            let keep = self.reader.is_some();
            let rows: Vec<Row> = tokens
                .iter_mut()
                .map(|tokens| if keep { tokens.row.clone() } else { std::mem::take(&mut tokens.row) })
                .collect();
            let Done { rows, queue, inference } = self.queue.submit(places, rows, call)?.answer().await?;
            (timing.queue, timing.inference) = (queue, inference);
            let began = Instant::now();
            let rows = finish(&tokens, rows)?;
            Ok((rows, timing, began.elapsed()))
        };
        match work.await {
            Ok((rows, timing, output)) => {
                let Timing { tokenization: input, queue, inference: infer, .. } = timing;
                tally.succeeded(rows.len(), Parts { queue, input, infer, output });
                Ok(Answer { rows, timing })
            }
            Err(error) => {
                tally.failed();
                Err(error)
            }
        }
    }
}

/// A text, or a pair of texts.
trait Input: Send + 'static {
    type Borrowed: ?Sized;
    fn borrowed(&self) -> &Self::Borrowed;
    fn bytes(&self) -> usize;
    fn characters(&self) -> usize;
}

impl Input for String {
    type Borrowed = str;
    fn borrowed(&self) -> &str {
        self
    }
    fn bytes(&self) -> usize {
        self.len()
    }
    fn characters(&self) -> usize {
        self.chars().count()
    }
}

impl Input for (String, String) {
    type Borrowed = (String, String);
    fn borrowed(&self) -> &(String, String) {
        self
    }
    fn bytes(&self) -> usize {
        self.0.len() + self.1.len()
    }
    fn characters(&self) -> usize {
        self.0.chars().count() + self.1.chars().count()
    }
}

/// Counts a request however it ends: dropped without a word, its caller has gone.
struct Tally<'a> {
    statistics: Option<&'a Statistics>,
    began: Instant,
}

impl<'a> Tally<'a> {
    fn begin(statistics: &'a Statistics) -> Self {
        Self { statistics: Some(statistics), began: Instant::now() }
    }

    fn succeeded(mut self, rows: usize, parts: Parts) {
        if let Some(statistics) = self.statistics.take() {
            statistics.succeeded(rows, parts);
        }
    }

    fn failed(mut self) {
        if let Some(statistics) = self.statistics.take() {
            statistics.failed(self.began.elapsed());
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        if let Some(statistics) = self.statistics {
            statistics.cancelled(self.began.elapsed());
        }
    }
}
