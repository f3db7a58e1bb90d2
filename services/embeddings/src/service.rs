//! `EmbeddingsService`: decode, check, call the core, encode.

use futures::StreamExt as _;
use switchboard_mesh::{Call, error};
use switchboard_proto::embeddings::v1::{
    EmbedRequest, EmbedResponse, EmbedStreamRequest, EmbedStreamResponse,
    embeddings_service_server::EmbeddingsService,
};
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use crate::embed::Embedder;

const MOST_TEXTS: usize = 1024;
const MOST_CHARACTERS: usize = 32_000;
/// Bytes of a prompt's or a model's name.
const LONGEST_NAME: usize = 256;

/// The service over an [`Embedder`].
pub(crate) struct Service {
    embedder: Embedder,
}

impl Service {
    pub(crate) fn new(embedder: Embedder) -> Self {
        Self { embedder }
    }
}

/// Checks a request whose fields lie at `prefix` in the message.
fn check(request: &EmbedRequest, prefix: &str) -> Result<(), Status> {
    for (field, name) in [("model", &request.model), ("prompt", &request.prompt)] {
        if name.len() > LONGEST_NAME {
            let message = format!("{} bytes; a name has at most {LONGEST_NAME}", name.len());
            return Err(error::invalid(&format!("{prefix}{field}"), message));
        }
    }
    let count = request.texts.len();
    if !(1..=MOST_TEXTS).contains(&count) {
        let message = format!("{count} texts; 1 to {MOST_TEXTS} are allowed");
        return Err(error::invalid(&format!("{prefix}texts"), message));
    }
    for (index, text) in request.texts.iter().enumerate() {
        // A character has at least one byte, so most texts need no counting.
        let characters = if text.len() <= MOST_CHARACTERS { text.len() } else { text.chars().count() };
        if !(1..=MOST_CHARACTERS).contains(&characters) {
            let message = format!("{characters} characters; 1 to {MOST_CHARACTERS} are allowed");
            return Err(error::invalid(&format!("{prefix}texts[{index}]"), message));
        }
    }
    Ok(())
}

#[tonic::async_trait]
impl EmbeddingsService for Service {
    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let call = Call::of(&request)?;
        call.tenant()?;
        let request = request.into_inner();
        check(&request, "")?;
        Ok(Response::new(self.embedder.embed(request, &call).await?))
    }

    type EmbedStreamStream = BoxStream<EmbedStreamResponse>;

    async fn embed_stream(
        &self,
        request: Request<Streaming<EmbedStreamRequest>>,
    ) -> Result<Response<Self::EmbedStreamStream>, Status> {
        let call = Call::of(&request)?;
        call.tenant()?;
        let start = (request.into_inner(), self.embedder.clone(), call);
        // Nothing is read ahead: the next batch is taken when the last one's answer has been.
        let replies = futures::stream::try_unfold(start, |(mut requests, embedder, call)| async move {
            let Some(message) = requests.message().await? else { return Ok(None) };
            let request = message.request.ok_or_else(|| error::invalid("request", "it is missing"))?;
            check(&request, "request.")?;
            let response = embedder.embed(request, &call.for_message()).await?;
            Ok(Some((EmbedStreamResponse { response: Some(response) }, (requests, embedder, call))))
        });
        Ok(Response::new(replies.boxed()))
    }
}

#[cfg(test)]
mod tests;
