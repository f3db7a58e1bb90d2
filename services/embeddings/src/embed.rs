//! From a checked batch of texts to its vectors.
//!
//! [`Embedder`] sends each distinct text that is not remembered once, in calls of bounded size that
//! run side by side, on as many nodes as there are, and puts the vectors back into the request's order.
//! A call that no node could take is made again while there is time, by the channel over nodes and here
//! over models in the same process; the others keep what they brought.
//! All vectors of one answer have one fingerprint.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use switchboard_mesh::{Call, Channel, Class, call::hedged, error};
use switchboard_proto::{
    embeddings::v1::{EmbedRequest, EmbedResponse, Embedding},
    inference::v1::{
        EmbedRequest as ModelRequest, EmbedResponse as ModelResponse, Vector,
        inference_service_client::InferenceServiceClient,
    },
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    Config,
    cache::{Cache, Scope},
    error::{Error, from_upstream},
    metrics,
};

/// Bytes of the texts of one call: a quarter of gRPC's usual limit on a message. The longest text
/// takes an eighth of it.
const BYTES_PER_CALL: usize = 1 << 20;
/// Times that a call in this process is made until its failure is the request's.
const TRIES: u32 = 3;
/// The wait before a call is made again where the node names none; four times as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// Times that texts are sent because nodes answered with different models.
const ROUNDS: usize = 3;

/// Embeds batches over the model-servers.
#[derive(Clone)]
pub(crate) struct Embedder {
    inference: InferenceServiceClient<Channel>,
    /// Times that a call is made: nodes are asked again by the channel, within its budget.
    tries: u32,
    config: Config,
    cache: Arc<Cache>,
}

/// Texts of one call, with the place of each in the request.
type Part = Vec<(usize, String)>;

/// What is known of a request's texts so far: all by one model.
struct Gathered {
    /// The model, and the fingerprint of its vectors.
    by: Option<(String, Arc<str>)>,
    vectors: Vec<Option<Vector>>,
}

impl Embedder {
    /// Over models that `inference` reaches, with answers of at most `largest` bytes.
    pub(crate) fn new(inference: Channel, largest: usize, config: Config) -> Self {
        let tries = if inference.is_local() { TRIES } else { 1 };
        let inference = InferenceServiceClient::new(inference).max_decoding_message_size(largest);
        let cache = Arc::new(Cache::new(config.cache_mib << 20));
        Self { inference, tries, config, cache }
    }

    /// Embeds a request that was found to be within bounds. Dropping the future ends its calls.
    ///
    /// # Errors
    /// The first status that a call ends with for good; the calls beside it are dropped.
    pub(crate) async fn embed(&self, request: EmbedRequest, call: &Call) -> Result<EmbedResponse, Status> {
        let name = if request.model.is_empty() { self.config.model.clone() } else { request.model };
        let scope = Scope { tenant: call.tenant()?.as_str(), prompt: &request.prompt };
        // What nobody waits for may use what is there, but shall not push out what somebody will
        // ask for again.
        let somebody_waits = call.class != Class::Batch;
        let (texts, places) = distinct(request.texts);
        let mut gathered = self.remembered(&name, scope, &texts, somebody_waits);
        let missing = gathered.vectors.iter().filter(|vector| vector.is_none()).count();
        metrics::HITS.add((texts.len() - missing) as u64, &[]);
        metrics::MISSES.add(missing as u64, &[]);

        for round in 0..ROUNDS {
            let missing: Part = (0..)
                .zip(&texts)
                .filter(|(place, _)| gathered.vectors[*place].is_none())
                .map(|(place, text)| (place, text.clone()))
                .collect();
            if missing.is_empty() {
                break;
            }
            let parts = split(missing, self.config.texts_per_call, BYTES_PER_CALL);
            // Nodes that take different models for the default agree on one that is named.
            let heard = gathered.by.as_ref().filter(|_| round > 0).map(|(model, _)| model.clone());
            let asked = heard.as_ref().unwrap_or(&name);
            let replies: Vec<(Vec<usize>, ModelResponse)> = futures::stream::iter(parts)
                .map(|part| self.call(asked, &request.prompt, part, call))
                .buffered(self.config.calls_at_once)
                .try_collect()
                .await?;
            for (sent, reply) in replies {
                let fingerprint = fingerprint(&reply);
                self.cache.heard(&name, &reply.model, &fingerprint);
                for (&place, vector) in sent.iter().zip(&reply.vectors) {
                    if somebody_waits {
                        self.cache.keep(scope, &fingerprint, &texts[place], vector);
                    }
                }
                gathered.take(reply.model, fingerprint, sent.into_iter().zip(reply.vectors));
            }
        }
        let (Some((model, fingerprint)), Some(vectors)) =
            (gathered.by, gathered.vectors.into_iter().collect::<Option<Vec<_>>>())
        else {
            return Err(error::status(Error::ModelChanged));
        };
        Ok(EmbedResponse {
            embeddings: put_back(vectors, &places),
            model,
            fingerprint: fingerprint.as_ref().to_owned(),
        })
    }

    /// What is remembered of `texts`. Where the model has not been heard of for a while, the first
    /// text counts as forgotten, so that it will be.
    fn remembered(&self, name: &str, scope: Scope<'_>, texts: &[String], counts: bool) -> Gathered {
        let Some(belief) = self.cache.belief(name) else {
            return Gathered { by: None, vectors: vec![None; texts.len()] };
        };
        let mut vectors = self.cache.find(scope, &belief.fingerprint, texts, counts);
        if belief.stale
            && let Some(first) = vectors.first_mut()
        {
            *first = None;
        }
        Gathered { by: Some((belief.model, belief.fingerprint)), vectors }
    }

    /// Makes one call, again where it could not be taken. Returns the places of the texts with it.
    async fn call(
        &self,
        model: &str,
        prompt: &str,
        part: Part,
        call: &Call,
    ) -> Result<(Vec<usize>, ModelResponse), Status> {
        let (places, texts): (Vec<usize>, Vec<String>) = part.into_iter().unzip();
        let (model, prompt) = (model.to_owned(), prompt.to_owned());
        let prompted = !prompt.is_empty();
        let message = ModelRequest { model, texts, prompt, ..ModelRequest::default() };
        let mut tried = 0;
        let reply = loop {
            let request = hedged(call.request_for(&message.model, message.clone()));
            match self.inference.clone().embed(request).await {
                Ok(reply) => break reply.into_inner(),
                Err(status) => {
                    tried += 1;
                    let wait = if tried < self.tries { wait(&status, tried) } else { None };
                    let wait = wait.filter(|wait| *wait < call.deadline.left());
                    tokio::time::sleep(wait.ok_or_else(|| from_upstream(status, prompted))?).await;
                }
            }
        };
        if reply.vectors.len() == places.len() {
            Ok((places, reply))
        } else {
            Err(error::status(Error::Count { got: reply.vectors.len(), texts: places.len() }))
        }
    }
}

impl Gathered {
    /// Takes vectors in. When they are by another model than those before, these are given up: the
    /// last one heard is what the nodes will all be.
    fn take(&mut self, model: String, fingerprint: Arc<str>, found: impl Iterator<Item = (usize, Vector)>) {
        if self.by.as_ref().is_none_or(|(_, before)| *before != fingerprint) {
            self.vectors.fill(None);
            self.by = Some((model, fingerprint));
        }
        for (place, vector) in found {
            self.vectors[place] = Some(vector);
        }
    }
}

/// What names the vectors of a reply that may be compared.
fn fingerprint(reply: &ModelResponse) -> Arc<str> {
    let named = if reply.fingerprint.is_empty() { &reply.model } else { &reply.fingerprint };
    named.as_str().into()
}

/// How long to wait until a call that failed for the `tried`-th time is made again; `None` when that
/// would not help. A node that is full says when it makes sense; without a word it does not.
fn wait(status: &Status, tried: u32) -> Option<Duration> {
    let named = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match status.code() {
        Code::Unavailable => Some(named.unwrap_or(FIRST_WAIT * 4_u32.pow(tried - 1))),
        Code::ResourceExhausted => named,
        _ => None,
    }
}

/// The texts without repetition, in order of first appearance, and for each given text its place
/// among them.
fn distinct(texts: Vec<String>) -> (Vec<String>, Vec<usize>) {
    let mut seen = HashMap::with_capacity(texts.len());
    let mut places = Vec::with_capacity(texts.len());
    for text in texts {
        let next = seen.len();
        places.push(*seen.entry(text).or_insert(next));
    }
    let mut kept: Vec<(String, usize)> = seen.into_iter().collect();
    kept.sort_unstable_by_key(|(_, place)| *place);
    (kept.into_iter().map(|(text, _)| text).collect(), places)
}

/// Cuts texts into parts of at most `most` texts and `bytes` bytes; a longer text stands alone.
fn split(texts: Part, most: usize, bytes: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut left = 0;
    for (place, text) in texts {
        match parts.last_mut() {
            Some(part) if part.len() < most && text.len() <= left => {
                left -= text.len();
                part.push((place, text));
            }
            _ => {
                left = bytes.saturating_sub(text.len());
                parts.push(vec![(place, text)]);
            }
        }
    }
    parts
}

/// Gives each text its vector.
fn put_back(vectors: Vec<Vector>, places: &[usize]) -> Vec<Embedding> {
    let convert = |Vector { values, tokens, truncated }| Embedding { values, tokens, truncated };
    if vectors.len() == places.len() {
        // No text came twice, so every place is its own.
        return vectors.into_iter().map(convert).collect();
    }
    places.iter().map(|&place| convert(vectors[place].clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn repeated_texts_share_a_place() {
        let (kept, places) = distinct(texts(&["b", "a", "b", "c", "a"]));
        assert_eq!(kept, ["b", "a", "c"]);
        assert_eq!(places, [0, 1, 0, 2, 1]);
    }

    #[test]
    fn parts_keep_order_and_both_bounds() {
        let all = (0..).zip(texts(&["aa", "bb", "cc", "dddddd", "e", "f", "g", "h"])).collect();
        let parts = split(all, 3, 4);
        let lengths: Vec<usize> = parts.iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 1, 1, 3, 1]);
        assert!(parts.concat().iter().map(|(place, _)| *place).eq(0..8));
    }

    #[test]
    fn vectors_of_two_models_are_never_gathered() {
        let vector = |value| Vector { values: vec![value], ..Vector::default() };
        let mut gathered = Gathered { by: None, vectors: vec![None; 3] };
        gathered.take("m".into(), "f".into(), [(0, vector(0.0)), (1, vector(1.0))].into_iter());
        gathered.take("m".into(), "g".into(), [(2, vector(2.0))].into_iter());
        assert_eq!(gathered.vectors, [None, None, Some(vector(2.0))]);
        assert_eq!(gathered.by, Some(("m".into(), "g".into())));
    }

    #[test]
    fn a_wait_is_the_one_that_the_node_names() {
        let with = |code, delay: Option<Duration>| {
            let mut details = tonic_types::ErrorDetails::new();
            details.set_retry_info(delay);
            Status::with_error_details(code, "busy", details)
        };
        let named = Some(Duration::from_millis(70));
        assert_eq!(wait(&with(Code::ResourceExhausted, named), 1), named);
        assert_eq!(wait(&with(Code::Unavailable, named), 2), named);
        assert_eq!(wait(&Status::unavailable("gone"), 2), Some(Duration::from_millis(40)));
        assert_eq!(wait(&Status::resource_exhausted("full"), 1), None);
        assert_eq!(wait(&with(Code::NotFound, named), 1), None);
    }
}
