//! `RerankingService`: decode, check, call the core, encode.

use switchboard_mesh::{Call, error};
use switchboard_proto::reranking::v1::{
    RerankRequest, RerankResponse, reranking_service_server::RerankingService,
};
use tonic::{Request, Response, Status};

use crate::rank::Reranker;

const MOST_CANDIDATES: usize = 1_024;
const MOST_QUERY: usize = 8_000;
const MOST_TEXT: usize = 32_000;
const MOST_NAME: usize = 1_000;
const MOST_HEADINGS: usize = 32;
/// Bytes of a model's name or of a language tag.
const LONGEST_TAG: usize = 256;

/// The service over a [`Reranker`].
pub(crate) struct Service {
    reranker: Reranker,
}

impl Service {
    pub(crate) fn new(reranker: Reranker) -> Self {
        Self { reranker }
    }
}

#[tonic::async_trait]
impl RerankingService for Service {
    async fn rerank(&self, request: Request<RerankRequest>) -> Result<Response<RerankResponse>, Status> {
        let call = Call::of(&request)?;
        call.tenant()?;
        let request = request.into_inner();
        check(&request)?;
        Ok(Response::new(self.reranker.rerank(request, &call).await?))
    }
}

fn check(request: &RerankRequest) -> Result<(), Status> {
    for (field, tag) in [("model", &request.model), ("locale", &request.locale)] {
        if tag.len() > LONGEST_TAG {
            return Err(error::invalid(field, format!("{} bytes; at most {LONGEST_TAG}", tag.len())));
        }
    }
    length("query", &request.query, 1, MOST_QUERY)?;
    let count = request.candidates.len();
    if !(1..=MOST_CANDIDATES).contains(&count) {
        let message = format!("{count} candidates; 1 to {MOST_CANDIDATES} are allowed");
        return Err(error::invalid("candidates", message));
    }
    for (index, candidate) in request.candidates.iter().enumerate() {
        let field = |name: &str| format!("candidates[{index}].{name}");
        length(&field("text"), &candidate.text, 1, MOST_TEXT)?;
        length(&field("title"), &candidate.title, 0, MOST_NAME)?;
        if candidate.heading_path.len() > MOST_HEADINGS {
            let message = format!("{} headings; at most {MOST_HEADINGS}", candidate.heading_path.len());
            return Err(error::invalid(&field("heading_path"), message));
        }
        for heading in &candidate.heading_path {
            length(&field("heading_path"), heading, 0, MOST_NAME)?;
        }
        for (name, value) in [
            ("similarity", candidate.similarity),
            ("sentence_similarity", candidate.sentence_similarity),
            ("coverage", candidate.coverage),
        ] {
            // A little beyond 1 is what rounding makes of a cosine.
            if !(-1.001..=1.001).contains(&value) {
                return Err(error::invalid(&field(name), format!("{value}; from -1 to 1 is allowed")));
            }
        }
    }
    Ok(())
}

fn length(field: &str, text: &str, least: usize, most: usize) -> Result<(), Status> {
    // A character has at least one byte, so most texts need no counting.
    let characters = if text.len() <= most { text.len() } else { text.chars().count() };
    if (least..=most).contains(&characters) {
        Ok(())
    } else {
        Err(error::invalid(field, format!("{characters} characters; {least} to {most} are allowed")))
    }
}

#[cfg(test)]
mod tests;
