//! Texts by how well they answer a query.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use switchboard_mesh::error::{self, Fault as _};
use switchboard_proto::tei::v1::{
    Rank, RerankRequest, RerankResponse, RerankStreamRequest, TruncationDirection, rerank_server::Rerank,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::{Asked, Door, metadata, too_long, truncation};
use crate::{
    LARGEST_REQUEST,
    bounds::{self, MOST_CHARACTERS, MOST_QUERY, MOST_TEXTS},
    error::Error,
    model::Timing,
    repository::TaskName,
};

/// Texts to rank, and how.
#[derive(Default)]
struct Question {
    /// Texts with their places, by what they are asked with: a stream may mix queries.
    groups: BTreeMap<Group, Vec<(usize, String)>>,
    texts: usize,
    bytes: usize,
    raw_scores: bool,
    return_text: bool,
}

/// What texts are asked with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    query: String,
    truncate: bool,
    direction: TruncationDirection,
}

impl Question {
    fn of(request: RerankRequest) -> Result<Self, Error> {
        bounds::one("query", &request.query, MOST_QUERY)?;
        bounds::texts("texts", &request.texts)?;
        let direction = request.truncation_direction();
        let group = Group { query: request.query, truncate: request.truncate, direction };
        Ok(Self {
            texts: request.texts.len(),
            groups: BTreeMap::from([(group, request.texts.into_iter().enumerate().collect())]),
            raw_scores: request.raw_scores,
            return_text: request.return_text,
            ..Self::default()
        })
    }

    /// Takes in a message of a stream.
    fn add(&mut self, message: RerankStreamRequest) -> Result<(), Error> {
        bounds::one("query", &message.query, MOST_QUERY)?;
        bounds::one("text", &message.text, MOST_CHARACTERS)?;
        if self.texts == MOST_TEXTS {
            return Err(Error::invalid("text", format!("one more than the {MOST_TEXTS} that are allowed")));
        }
        // A stream is held in memory to its end, and so no larger than a request may be.
        self.bytes += message.query.len() + message.text.len();
        if self.bytes > LARGEST_REQUEST {
            return Err(Error::invalid("text", format!("the stream has more than {LARGEST_REQUEST} bytes")));
        }
        if self.texts == 0 {
            (self.raw_scores, self.return_text) = (message.raw_scores, message.return_text);
        }
        let direction = message.truncation_direction();
        let group = Group { query: message.query, truncate: message.truncate, direction };
        self.groups.entry(group).or_default().push((self.texts, message.text));
        self.texts += 1;
        Ok(())
    }
}

impl Door {
    async fn rank(&self, asked: &Asked, question: Question) -> Result<RerankResponse, Status> {
        let began = Instant::now();
        let model = self.registry.for_task(&asked.model, TaskName::Rerank).map_err(error::status)?;
        let Question { groups, texts, raw_scores, return_text, .. } = question;
        let model = &model;
        let scored = groups.into_iter().map(|(group, texts)| async move {
            let Group { query, truncate, direction } = group;
            let places: Vec<usize> = texts.iter().map(|(place, _)| *place).collect();
            let texts: Vec<String> = texts.into_iter().map(|(_, text)| text).collect();
            let kept = if return_text { texts.clone() } else { Vec::new() };
            let truncation = truncation(truncate, direction);
            let answer = model.rerank(query, texts, raw_scores, truncation, &asked.call).await;
            let answer = answer.map_err(|error| placed(error, &places))?;
            let mut kept = kept.into_iter();
            let ranks = places.into_iter().zip(answer.rows).map(move |(place, score)| Rank {
                index: u32::try_from(place).unwrap_or(u32::MAX),
                text: kept.next(),
                score,
            });
            Ok::<_, Error>((ranks, answer.timing))
        });
        let scored = try_join_all(scored).await.map_err(error::status)?;
        let mut ranks = Vec::with_capacity(texts);
        let mut timing = Timing::default();
        for (some, took) in scored {
            ranks.extend(some);
            timing.tokens += took.tokens;
            timing.characters += took.characters;
            // They were computed side by side.
            timing.tokenization = timing.tokenization.max(took.tokenization);
            timing.queue = timing.queue.max(took.queue);
            timing.inference = timing.inference.max(took.inference);
        }
        ranks.sort_by(|one, other| other.score.total_cmp(&one.score).then(one.index.cmp(&other.index)));
        Ok(RerankResponse { ranks, metadata: Some(metadata(&timing, began)) })
    }
}

/// An error of the model about a group, with the place that its text has in the whole request.
fn placed(error: Error, places: &[usize]) -> Error {
    let place = |field: &str| -> Option<String> {
        let index: usize = field.strip_prefix("texts[")?.strip_suffix(']')?.parse().ok()?;
        Some(format!("texts[{}]", places.get(index)?))
    };
    let error = match error.field().and_then(place) {
        Some(field) => error.in_field(field),
        None => error,
    };
    match error {
        Error::TooLong { field, tokens, most } => too_long(&field, tokens, most),
        other => other,
    }
}

#[tonic::async_trait]
impl Rerank for Door {
    async fn rerank(&self, request: Request<RerankRequest>) -> Result<Response<RerankResponse>, Status> {
        let asked = Asked::of(&request)?;
        let question = Question::of(request.into_inner()).map_err(error::status)?;
        self.rank(&asked, question).await.map(Response::new)
    }

    async fn rerank_stream(
        &self,
        request: Request<Streaming<RerankStreamRequest>>,
    ) -> Result<Response<RerankResponse>, Status> {
        let asked = Asked::of(&request)?;
        let mut messages = request.into_inner();
        let mut question = Question::default();
        while let Some(message) = messages.message().await? {
            question.add(message).map_err(error::status)?;
        }
        if question.texts == 0 {
            return Err(error::status(Error::invalid("text", "the stream has no message")));
        }
        self.rank(&asked.for_message(), question).await.map(Response::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_place_in_the_whole_request() {
        let long = |field: &str| Error::TooLong { field: field.into(), tokens: 9, most: 8 };
        let problem = "9 tokens; the model reads 8; set truncate to have it cut";
        assert_eq!(placed(long("texts[1]"), &[4, 6]).to_string(), format!("texts[6]: {problem}"));
        assert_eq!(placed(long("query"), &[4, 6]).to_string(), format!("query: {problem}"));
        assert_eq!(placed(Error::invalid("texts[0]", "bad"), &[4, 6]).to_string(), "texts[4]: bad");
    }
}
