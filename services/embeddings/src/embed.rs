//! From a checked batch of texts to its vectors.
//!
//! [`Embedder`] sends each distinct text once, in calls of bounded size, and puts the vectors back
//! into the request's order.

use std::collections::HashMap;

use futures::{StreamExt as _, TryStreamExt as _};
use switchboard_mesh::{Call, Channel, error};
use switchboard_proto::{
    embeddings::v1::{EmbedRequest, EmbedResponse, Embedding},
    inference::v1::{
        EmbedRequest as ModelRequest, EmbedResponse as ModelResponse, Vector,
        inference_service_client::InferenceServiceClient,
    },
};
use tonic::Status;

use crate::{
    Config,
    error::{Error, from_upstream},
};

/// Bytes of the texts of one call: a quarter of gRPC's usual limit on a message. The longest text
/// takes an eighth of it.
const BYTES_PER_CALL: usize = 1 << 20;

/// Embeds batches over the model-servers.
#[derive(Clone)]
pub(crate) struct Embedder {
    inference: InferenceServiceClient<Channel>,
    config: Config,
}

impl Embedder {
    pub(crate) fn new(inference: InferenceServiceClient<Channel>, config: Config) -> Self {
        Self { inference, config }
    }

    /// Embeds a request that was found to be within bounds. Dropping the future ends its calls.
    ///
    /// # Errors
    /// The first status that a call ends with; the calls beside it are dropped.
    pub(crate) async fn embed(&self, request: EmbedRequest, call: &Call) -> Result<EmbedResponse, Status> {
        let model = if request.model.is_empty() { self.config.model.clone() } else { request.model };
        let (texts, places) = distinct(request.texts);
        let parts = split(texts, self.config.texts_per_call, BYTES_PER_CALL);
        let replies: Vec<ModelResponse> = futures::stream::iter(parts)
            .map(|texts| self.call(&model, texts, call))
            .buffered(self.config.calls_at_once)
            .try_collect()
            .await?;

        let mut vectors: Vec<Vector> = Vec::new();
        let mut model = None;
        for reply in replies {
            if *model.get_or_insert_with(|| reply.model.clone()) != reply.model {
                return Err(error::status(Error::ModelChanged));
            }
            vectors.extend(reply.vectors);
        }
        Ok(EmbedResponse { embeddings: put_back(vectors, &places), model: model.unwrap_or_default() })
    }

    async fn call(&self, model: &str, texts: Vec<String>, call: &Call) -> Result<ModelResponse, Status> {
        let count = texts.len();
        let request = call.request(ModelRequest { model: model.to_owned(), texts });
        let reply = self.inference.clone().embed(request).await.map_err(from_upstream)?.into_inner();
        if reply.vectors.len() == count {
            Ok(reply)
        } else {
            Err(error::status(Error::Count { got: reply.vectors.len(), texts: count }))
        }
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

/// Cuts `texts` into parts of at most `most` texts and `bytes` bytes; a longer text stands alone.
fn split(texts: Vec<String>, most: usize, bytes: usize) -> Vec<Vec<String>> {
    let mut parts: Vec<Vec<String>> = Vec::new();
    let mut left = 0;
    for text in texts {
        match parts.last_mut() {
            Some(part) if part.len() < most && text.len() <= left => {
                left -= text.len();
                part.push(text);
            }
            _ => {
                left = bytes.saturating_sub(text.len());
                parts.push(vec![text]);
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
        let parts = split(texts(&["aa", "bb", "cc", "dddddd", "e", "f", "g", "h"]), 3, 4);
        assert_eq!(parts, [vec!["aa", "bb"], vec!["cc"], vec!["dddddd"], vec!["e", "f", "g"], vec!["h"]]);
    }
}
