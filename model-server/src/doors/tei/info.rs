//! What the model is.

use std::{num::NonZero, thread};

use switchboard_mesh::error;
use switchboard_proto::tei::v1::{InfoRequest, InfoResponse, ModelType, info_server::Info};
use tonic::{Request, Response, Status};

use super::{Asked, Door};
use crate::{bounds::MOST_TEXTS, model::Card, repository::Task};

#[tonic::async_trait]
impl Info for Door {
    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let asked = Asked::of(&request)?;
        let model = self.any(&asked.model).map_err(error::status)?;
        Ok(Response::new(describe(&model.card)))
    }
}

fn describe(card: &Card) -> InfoResponse {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let kind = match card.task {
        Task::Embed { .. } => ModelType::Embedding,
        Task::CrossEncoder | Task::LateInteraction(_) => ModelType::Reranker,
        Task::Sequence { .. } | Task::Tokens { .. } => ModelType::Classifier,
        // These do nothing that this contract has, and are not told of here.
        Task::Transcribe(_) | Task::DetectSpeech | Task::Generate(_) => ModelType::Classifier,
    };
    InfoResponse {
        version: env!("CARGO_PKG_VERSION").into(),
        sha: None,
        docker_label: None,
        model_id: card.name.clone(),
        model_sha: Some(card.fingerprint.clone()),
        model_dtype: card.dtype.clone(),
        model_type: kind.into(),
        max_concurrent_requests: number(card.queue),
        max_input_length: number(card.max_tokens),
        max_batch_tokens: number(card.max_batch_tokens),
        max_batch_requests: None,
        max_client_batch_size: number(MOST_TEXTS),
        // Texts are tokenised on the threads that serve.
        tokenization_workers: number(thread::available_parallelism().map_or(1, NonZero::get)),
    }
}
