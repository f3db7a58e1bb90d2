//! Texts to vectors.

use switchboard_mesh::error;
use switchboard_proto::tei::v1::{
    EmbedAllRequest, EmbedAllResponse, EmbedRequest, EmbedResponse, EmbedSparseRequest, EmbedSparseResponse,
    embed_server::Embed,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use super::{Asked, Door, SIDE_BY_SIDE, metadata, named, truncation};
use crate::{
    bounds::{self, MOST_CHARACTERS},
    doors::stream,
    model::EmbedOptions,
    repository::TaskName,
};

impl Door {
    async fn embed_text(&self, asked: &Asked, request: EmbedRequest) -> Result<EmbedResponse, Status> {
        let began = Instant::now();
        bounds::one("inputs", &request.inputs, MOST_CHARACTERS).map_err(error::status)?;
        let model = self.registry.for_task(&asked.model, TaskName::Embed).map_err(error::status)?;
        let options = EmbedOptions {
            truncation: truncation(request.truncate, request.truncation_direction()),
            prompt: request.prompt_name.unwrap_or_default(),
            normalize: Some(request.normalize.unwrap_or(true)),
            dimensions: request.dimensions.unwrap_or(0) as usize,
        };
        let answer = model.embed(vec![request.inputs], options, &asked.call).await.map_err(named)?;
        let metadata = Some(metadata(&answer.timing, began));
        let embeddings = answer.rows.into_iter().next().map(|row| row.values).unwrap_or_default();
        Ok(EmbedResponse { embeddings, metadata })
    }
}

fn no_sparse<T>() -> Result<T, Status> {
    Err(Status::unimplemented("no model here makes sparse vectors; Embed makes dense ones"))
}

fn no_tokens<T>() -> Result<T, Status> {
    Err(Status::unimplemented("this node gives no vector for each token; Embed gives one for the text"))
}

#[tonic::async_trait]
impl Embed for Door {
    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let asked = Asked::of(&request)?;
        self.embed_text(&asked, request.into_inner()).await.map(Response::new)
    }

    type EmbedStreamStream = BoxStream<EmbedResponse>;

    async fn embed_stream(
        &self,
        request: Request<Streaming<EmbedRequest>>,
    ) -> Result<Response<Self::EmbedStreamStream>, Status> {
        let (asked, door) = (Asked::of(&request)?, self.clone());
        let answer = move |request| {
            let (asked, door) = (asked.for_message(), door.clone());
            async move { door.embed_text(&asked, request).await }
        };
        Ok(Response::new(stream::answers(request.into_inner(), SIDE_BY_SIDE, answer)))
    }

    async fn embed_sparse(
        &self,
        _: Request<EmbedSparseRequest>,
    ) -> Result<Response<EmbedSparseResponse>, Status> {
        no_sparse()
    }

    type EmbedSparseStreamStream = BoxStream<EmbedSparseResponse>;

    async fn embed_sparse_stream(
        &self,
        _: Request<Streaming<EmbedSparseRequest>>,
    ) -> Result<Response<Self::EmbedSparseStreamStream>, Status> {
        no_sparse()
    }

    async fn embed_all(&self, _: Request<EmbedAllRequest>) -> Result<Response<EmbedAllResponse>, Status> {
        no_tokens()
    }

    type EmbedAllStreamStream = BoxStream<EmbedAllResponse>;

    async fn embed_all_stream(
        &self,
        _: Request<Streaming<EmbedAllRequest>>,
    ) -> Result<Response<Self::EmbedAllStreamStream>, Status> {
        no_tokens()
    }
}
