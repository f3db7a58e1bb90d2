//! `InferenceService`: decode, call the model, encode.

use std::{collections::BTreeMap, sync::Arc};

use switchboard_mesh::{Call, error};
use switchboard_proto::inference::v1::{
    ClassifyRequest, ClassifyResponse, EmbedRequest, EmbedResponse, GenerateRequest, GenerateResponse,
    ListModelsRequest, ListModelsResponse, Model as ModelMessage, RerankRequest, RerankResponse, Task,
    TranscribeRequest, TranscribeResponse, Vector, inference_service_server::InferenceService,
};
use tonic::{Request, Response, Status};

use crate::{
    error::Error,
    model::{Embedding, Model},
    onnx,
};

const MOST_TEXTS: usize = 1024;
const MOST_CHARACTERS: usize = 32_000;

/// The models of this node, by name.
pub(crate) struct Service {
    models: BTreeMap<String, Arc<Model>>,
}

impl Service {
    pub(crate) fn new(models: BTreeMap<String, Arc<Model>>) -> Self {
        Self { models }
    }

    /// The model of that name, or the first one.
    fn find(&self, name: &str) -> Result<(&String, &Arc<Model>), Error> {
        if name.is_empty() {
            return self.models.iter().next().ok_or(Error::NoModel);
        }
        self.models.get_key_value(name).ok_or_else(|| Error::UnknownModel {
            loaded: self.models.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }
}

/// What every task without a model answers.
fn no_model<T, R>(request: &Request<T>) -> Result<Response<R>, Status> {
    Call::of(request)?.tenant()?;
    Err(error::status(Error::NoModel))
}

fn check(texts: &[String]) -> Result<(), Status> {
    if !(1..=MOST_TEXTS).contains(&texts.len()) {
        return Err(error::invalid("texts", format!("{} texts; 1 to {MOST_TEXTS} are allowed", texts.len())));
    }
    for (index, text) in texts.iter().enumerate() {
        // A character has at least one byte, so most texts need no counting.
        let characters = if text.len() <= MOST_CHARACTERS { text.len() } else { text.chars().count() };
        if !(1..=MOST_CHARACTERS).contains(&characters) {
            let field = format!("texts[{index}]");
            return Err(error::invalid(
                &field,
                format!("{characters} characters; 1 to {MOST_CHARACTERS} are allowed"),
            ));
        }
    }
    Ok(())
}

#[tonic::async_trait]
impl InferenceService for Service {
    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let call = Call::of(&request)?;
        call.tenant()?;
        let EmbedRequest { model, texts } = request.into_inner();
        check(&texts)?;
        let (name, model) = self.find(&model).map_err(error::status)?;
        let vectors = model.embed(texts, &call).await.map_err(error::status)?;
        let vectors = vectors
            .into_iter()
            .map(|Embedding { values, tokens, truncated }| Vector {
                values,
                tokens: tokens as u32,
                truncated,
            })
            .collect();
        Ok(Response::new(EmbedResponse { vectors, model: name.clone() }))
    }

    async fn rerank(&self, request: Request<RerankRequest>) -> Result<Response<RerankResponse>, Status> {
        no_model(&request)
    }

    type GenerateStream = tonic::codegen::BoxStream<GenerateResponse>;

    async fn generate(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        no_model(&request)
    }

    async fn transcribe(
        &self,
        request: Request<TranscribeRequest>,
    ) -> Result<Response<TranscribeResponse>, Status> {
        no_model(&request)
    }

    async fn classify(
        &self,
        request: Request<ClassifyRequest>,
    ) -> Result<Response<ClassifyResponse>, Status> {
        no_model(&request)
    }

    async fn list_models(
        &self,
        request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        Call::of(&request)?.tenant()?;
        let models = self.models.iter().map(|(name, model)| ModelMessage {
            name: name.clone(),
            task: Task::Embed.into(),
            dimensions: model.dimensions as u32,
            max_tokens: model.max_tokens as u32,
            backend: onnx::NAME.into(),
            fingerprint: model.fingerprint.clone(),
        });
        Ok(Response::new(ListModelsResponse { models: models.collect() }))
    }
}

#[cfg(test)]
mod tests {
    use switchboard_mesh::testing::{call, context, serve};
    use switchboard_proto::inference::v1::inference_service_client::InferenceServiceClient;
    use tonic::Code;

    use super::*;
    use crate::{Config, setup, start};

    async fn client() -> InferenceServiceClient<switchboard_mesh::Channel> {
        let folder = setup::repository();
        let config =
            Config { repository: folder.path().to_owned(), runtime: setup::runtime(), ..Config::default() };
        let mounted = start(config, &context(folder.path())).await.unwrap();
        InferenceServiceClient::new(serve(&mounted))
    }

    fn request(model: &str, texts: Vec<String>) -> Request<EmbedRequest> {
        call("acme").request(EmbedRequest { model: model.into(), texts })
    }

    #[tokio::test]
    async fn the_first_model_embeds_when_none_is_named() {
        let mut client = client().await;
        let texts = vec!["shoes".to_owned(), "a longer text about shoes".to_owned()];
        let reply = client.embed(request("", texts)).await.unwrap().into_inner();
        assert_eq!(reply.model, "all-MiniLM-L6-v2");
        assert_eq!(reply.vectors.iter().map(|vector| vector.values.len()).collect::<Vec<_>>(), [384, 384]);
        assert_eq!(reply.vectors[0].tokens, 3);
    }

    #[tokio::test]
    async fn requests_out_of_bounds_are_refused() {
        let mut client = client().await;
        for texts in [
            vec![],
            vec![String::new()],
            vec!["a".into(); MOST_TEXTS + 1],
            vec!["ok".into(), "é".repeat(MOST_CHARACTERS + 1)],
        ] {
            assert_eq!(client.embed(request("", texts)).await.unwrap_err().code(), Code::InvalidArgument);
        }
        let long =
            client.embed(request("", vec!["é ".repeat(MOST_CHARACTERS / 2)])).await.unwrap().into_inner();
        assert!(long.vectors[0].truncated && long.vectors[0].tokens == 256);
        let unknown = client.embed(request("none", vec!["a".into()])).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        assert!(unknown.message().contains("all-MiniLM-L6-v2"));
    }

    #[tokio::test]
    async fn tasks_without_a_model_say_so() {
        let mut client = client().await;
        let codes = [
            client.rerank(call("acme").request(RerankRequest::default())).await.unwrap_err().code(),
            client.generate(call("acme").request(GenerateRequest::default())).await.unwrap_err().code(),
            client.transcribe(call("acme").request(TranscribeRequest::default())).await.unwrap_err().code(),
            client.classify(call("acme").request(ClassifyRequest::default())).await.unwrap_err().code(),
        ];
        assert_eq!(codes, [Code::FailedPrecondition; 4]);
    }

    #[tokio::test]
    async fn models_are_listed() {
        let reply = client().await.list_models(call("acme").request(ListModelsRequest {})).await.unwrap();
        let models = reply.into_inner().models;
        assert_eq!(models.len(), 1);
        assert_eq!((models[0].task(), models[0].dimensions, models[0].max_tokens), (Task::Embed, 384, 256));
        assert_eq!((models[0].backend.as_str(), models[0].fingerprint.len()), ("onnx/cpu", 32));
    }
}
