//! Texts to labels.

use std::sync::Arc;

use switchboard_mesh::error;
use switchboard_proto::tei::v1::{
    PredictPairRequest, PredictRequest, PredictResponse, Prediction, predict_server::Predict,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use super::{Asked, Door, SIDE_BY_SIDE, metadata, named, truncation};
use crate::{
    bounds::{self, MOST_CHARACTERS},
    doors::stream,
    error::Error,
    model::{ClassifyOptions, Model},
    repository::Task,
    tokenize::Truncation,
};

/// A text, or a pair of texts, to label.
struct Question {
    text: String,
    second: Option<String>,
    raw_scores: bool,
    truncation: Truncation,
}

impl Question {
    fn single(request: PredictRequest) -> Result<Self, Error> {
        bounds::one("inputs", &request.inputs, MOST_CHARACTERS)?;
        Ok(Self {
            truncation: truncation(request.truncate, request.truncation_direction()),
            text: request.inputs,
            second: None,
            raw_scores: request.raw_scores,
        })
    }

    fn pair(request: PredictPairRequest) -> Result<Self, Error> {
        let truncation = truncation(request.truncate, request.truncation_direction());
        let [text, second]: [String; 2] = request.inputs.try_into().map_err(|inputs: Vec<String>| {
            Error::invalid("inputs", format!("{} texts; a pair has 2", inputs.len()))
        })?;
        for (index, text) in [&text, &second].into_iter().enumerate() {
            bounds::one(&format!("inputs[{index}]"), text, MOST_CHARACTERS)?;
        }
        Ok(Self { text, second: Some(second), raw_scores: request.raw_scores, truncation })
    }
}

impl Door {
    async fn label(
        &self,
        asked: &Asked,
        question: Result<Question, Error>,
    ) -> Result<PredictResponse, Status> {
        let began = Instant::now();
        let Question { text, second, raw_scores, truncation } = question.map_err(error::status)?;
        let model = self.of_whole_texts(&asked.model).map_err(error::status)?;
        let options = ClassifyOptions { raw_scores, each_token: false, truncation };
        let seconds = second.into_iter().collect();
        let answer = model.classify(vec![text], seconds, options, &asked.call).await.map_err(named)?;
        let labels = answer.rows.into_iter().flat_map(|row| row.labels);
        Ok(PredictResponse {
            predictions: labels.map(|label| Prediction { score: label.score, label: label.name }).collect(),
            metadata: Some(metadata(&answer.timing, began)),
        })
    }

    /// A model that labels whole texts: the named one, or the first. This contract has no place for where
    /// in a text a label stands.
    fn of_whole_texts(&self, name: &str) -> Result<Arc<Model>, Error> {
        let fits = |model: &Arc<Model>| matches!(model.card.task, Task::Sequence { .. });
        if name.is_empty() {
            return self.registry.list().into_iter().find(fits).ok_or(Error::NoModel);
        }
        let model = self.registry.find(name)?;
        match fits(&model) {
            true => Ok(model),
            false => Err(Error::OtherTask {
                name: model.card.name.clone(),
                task: model.card.task.name(),
                wanted: "label whole texts",
            }),
        }
    }

    fn predict_each<Q: Send + 'static>(
        &self,
        request: Request<Streaming<Q>>,
        question: impl Fn(Q) -> Result<Question, Error> + Send + 'static,
    ) -> Result<Response<BoxStream<PredictResponse>>, Status> {
        let (asked, door) = (Asked::of(&request)?, self.clone());
        let answer = move |request| {
            let (asked, door, question) = (asked.for_message(), door.clone(), question(request));
            async move { door.label(&asked, question).await }
        };
        Ok(Response::new(stream::answers(request.into_inner(), SIDE_BY_SIDE, answer)))
    }
}

#[tonic::async_trait]
impl Predict for Door {
    async fn predict(&self, request: Request<PredictRequest>) -> Result<Response<PredictResponse>, Status> {
        let asked = Asked::of(&request)?;
        let question = Question::single(request.into_inner());
        self.label(&asked, question).await.map(Response::new)
    }

    async fn predict_pair(
        &self,
        request: Request<PredictPairRequest>,
    ) -> Result<Response<PredictResponse>, Status> {
        let asked = Asked::of(&request)?;
        let question = Question::pair(request.into_inner());
        self.label(&asked, question).await.map(Response::new)
    }

    type PredictStreamStream = BoxStream<PredictResponse>;

    async fn predict_stream(
        &self,
        request: Request<Streaming<PredictRequest>>,
    ) -> Result<Response<Self::PredictStreamStream>, Status> {
        self.predict_each(request, Question::single)
    }

    type PredictPairStreamStream = BoxStream<PredictResponse>;

    async fn predict_pair_stream(
        &self,
        request: Request<Streaming<PredictPairRequest>>,
    ) -> Result<Response<Self::PredictPairStreamStream>, Status> {
        self.predict_each(request, Question::pair)
    }
}
