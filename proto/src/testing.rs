//! What stands in for a role in tests of those who call it. With the feature `testing` alone.

use tonic::{Request, Response, Status, async_trait, codegen::BoxStream};

use crate::inference::v1::{
    ClassifyRequest, ClassifyResponse, DetectSpeechRequest, DetectSpeechResponse, EmbedRequest,
    EmbedResponse, GenerateRequest, GenerateResponse, ListModelsRequest, ListModelsResponse, ProfileRequest,
    ProfileResponse, RerankRequest, RerankResponse, TranscribeRequest, TranscribeResponse,
    inference_service_server::InferenceService,
};

/// What a call of either kind gives.
type Reply<T> = Result<Response<T>, Status>;

fn lacks<T>() -> Reply<T> {
    Err(Status::unimplemented("this stand-in does not do that"))
}

/// What a stand-in for a model server does: what a test needs of it. The rest is UNIMPLEMENTED.
#[async_trait]
pub trait Inference: Send + Sync + 'static {
    /// See the contract.
    async fn embed(&self, _: Request<EmbedRequest>) -> Reply<EmbedResponse> {
        lacks()
    }

    /// See the contract.
    async fn rerank(&self, _: Request<RerankRequest>) -> Reply<RerankResponse> {
        lacks()
    }

    /// See the contract.
    async fn generate(&self, _: Request<GenerateRequest>) -> Reply<BoxStream<GenerateResponse>> {
        lacks()
    }

    /// See the contract.
    async fn transcribe(&self, _: Request<TranscribeRequest>) -> Reply<TranscribeResponse> {
        lacks()
    }

    /// See the contract.
    async fn detect_speech(&self, _: Request<DetectSpeechRequest>) -> Reply<DetectSpeechResponse> {
        lacks()
    }

    /// See the contract.
    async fn classify(&self, _: Request<ClassifyRequest>) -> Reply<ClassifyResponse> {
        lacks()
    }

    /// See the contract.
    async fn list_models(&self, _: Request<ListModelsRequest>) -> Reply<ListModelsResponse> {
        lacks()
    }

    /// See the contract.
    async fn profile(&self, _: Request<ProfileRequest>) -> Reply<ProfileResponse> {
        lacks()
    }
}

/// The service that a stand-in gives.
#[derive(Clone, Debug)]
pub struct StandIn<T>(pub T);

#[async_trait]
impl<T: Inference> InferenceService for StandIn<T> {
    async fn embed(&self, request: Request<EmbedRequest>) -> Reply<EmbedResponse> {
        self.0.embed(request).await
    }

    async fn rerank(&self, request: Request<RerankRequest>) -> Reply<RerankResponse> {
        self.0.rerank(request).await
    }

    type GenerateStream = BoxStream<GenerateResponse>;

    async fn generate(&self, request: Request<GenerateRequest>) -> Reply<Self::GenerateStream> {
        self.0.generate(request).await
    }

    async fn transcribe(&self, request: Request<TranscribeRequest>) -> Reply<TranscribeResponse> {
        self.0.transcribe(request).await
    }

    async fn detect_speech(&self, request: Request<DetectSpeechRequest>) -> Reply<DetectSpeechResponse> {
        self.0.detect_speech(request).await
    }

    async fn classify(&self, request: Request<ClassifyRequest>) -> Reply<ClassifyResponse> {
        self.0.classify(request).await
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Reply<ListModelsResponse> {
        self.0.list_models(request).await
    }

    async fn profile(&self, request: Request<ProfileRequest>) -> Reply<ProfileResponse> {
        self.0.profile(request).await
    }
}
