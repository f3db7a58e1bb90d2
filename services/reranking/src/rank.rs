//! From a checked request to its ranking.
//!
//! [`Reranker`] scores the most promising candidates first, part by part, and goes on while the time
//! left would do for the next part. Where no node has a model it weighs what is known of the
//! candidates, if that is on, and else lets the order stand.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use switchboard_mesh::{Call, Channel, call::hedged, error};
use switchboard_proto::{
    inference::v1::{
        ProfileRequest, RerankRequest as ModelRequest, inference_service_client::InferenceServiceClient,
    },
    reranking::v1::{Candidate, Method, RankedCandidate, RerankRequest, RerankResponse},
};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::{
    Config,
    error::{Error, from_upstream},
    features::{self, Weights},
    metrics,
    pace::{Pace, Table, tokens},
};

/// How long a model's table is used before it is asked for again.
const TABLE_FOR: Duration = Duration::from_secs(60);
/// The part of a request's time that asking for the table may take.
const TABLE_SHARE: u32 = 10;
/// The time that a look whether there is a model by now has to itself.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of the texts of one call: a quarter of gRPC's usual limit on a message.
const BYTES_PER_CALL: usize = 1 << 20;
/// Characters that a model-server takes of a candidate.
const MOST_CHARACTERS: usize = 32_000;

/// Ranks candidates over the model-servers.
pub(crate) struct Reranker {
    inference: InferenceServiceClient<Channel>,
    config: Config,
    known: Mutex<Known>,
}

/// What was heard of models lately.
#[derive(Default)]
struct Known {
    /// Until when no node is believed to have one.
    none_until: Option<Instant>,
    /// What was late a moment ago for requests of the configured model, by [`Pace::late`], and when. Before
    /// a first answer this is all that is known of how slow the nodes are.
    late: Option<(f64, Instant)>,
    /// By the name that requests use. Only names that a node has answered to come in here, so there
    /// are as few as there are models.
    models: HashMap<String, Heard>,
}

struct Heard {
    model: String,
    /// The table, and when it was asked for.
    table: Option<(Option<Arc<Table>>, Instant)>,
}

/// What a model made of the candidates.
enum Outcome {
    /// Scores of the first ones, as far as the time went.
    Scored { model: String, scores: Vec<f32> },
    /// No node has a model for this.
    NoModel,
    /// There is a model, but every node is full or away.
    Lost(Status),
}

impl Reranker {
    pub(crate) fn new(inference: InferenceServiceClient<Channel>, config: Config) -> Self {
        Self { inference, config, known: Mutex::default() }
    }

    /// Ranks a request that was found to be within bounds. Dropping the future ends its calls.
    ///
    /// # Errors
    /// A named model that is not there; what the first call to a model fails with, where nothing else
    /// can rank.
    pub(crate) async fn rerank(&self, request: RerankRequest, call: &Call) -> Result<RerankResponse, Status> {
        let name = if request.model.is_empty() { &self.config.model } else { &request.model };
        let outcome = if name.is_empty() && self.is_none() {
            Outcome::NoModel
        } else {
            self.by_model(name, &request, call).await?
        };
        let weighing = self.config.features && name.is_empty();
        let (method, model, scores) = match outcome {
            Outcome::Scored { model, scores } if !(scores.is_empty() && weighing) => {
                (Method::Model, model, scores)
            }
            Outcome::Lost(status) if !weighing => return Err(status),
            _ if weighing => (Method::Features, String::new(), weighed(&request, self.config.weights).await?),
            _ => (Method::None, String::new(), Vec::new()),
        };
        metrics::count(method, scores.len(), request.candidates.len() - scores.len());
        let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
        let ranking = order(&scores, request.candidates.len()).into_iter().take(limit).collect();
        Ok(RerankResponse { ranking, method: method.into(), model })
    }

    /// Scores candidates in their order, as many as there is time for.
    async fn by_model(&self, name: &str, request: &RerankRequest, call: &Call) -> Result<Outcome, Status> {
        // What it takes to carry the answer back is not there for scoring.
        let until = call.deadline.for_hop();
        let call = &call.until(until);
        let table = self.table(name, call).await.map(|table| table.as_ref().clone());
        let mut pace = Pace::new(table, if name == self.config.model { self.late() } else { None });
        let mut model = None;
        let mut scores: Vec<f32> = Vec::new();
        while scores.len() < request.candidates.len() {
            let rest = &request.candidates[scores.len()..];
            let each = tokens(request.query.len() + rest[0].text.len());
            let most = pace.rows(each, until.left(), self.config.candidates_per_call);
            let part = next_part(rest, most);
            let longest = part.iter().map(|text| tokens(request.query.len() + text.len())).max().unwrap_or(1);
            if until.expired() || pace.predict(part.len(), longest).is_some_and(|time| time > until.left()) {
                break;
            }
            let count = part.len();
            let began = Instant::now();
            // Nodes may take different models for the default: the first part's stays.
            let asked = model.clone().unwrap_or_else(|| name.to_owned());
            let message = ModelRequest {
                model: asked.clone(),
                query: request.query.clone(),
                texts: part,
                ..ModelRequest::default()
            };
            let request = hedged(call.request_for(&asked, message));
            let reply = match self.inference.clone().rerank(request).await {
                Ok(reply) => reply.into_inner(),
                Err(status) if scores.is_empty() => {
                    if status.code() == Code::DeadlineExceeded && name == self.config.model {
                        self.known().late =
                            Some((Pace::late(count, longest, began.elapsed()), Instant::now()));
                    }
                    return self.without_a_score(name, status);
                }
                // What is scored is worth more than an error.
                Err(status) => {
                    tracing::debug!(code = ?status.code(), scored = scores.len(), "scoring ended early");
                    break;
                }
            };
            let took = began.elapsed();
            metrics::PART.record(took.as_secs_f64(), &[]);
            pace.note(count, longest, took);
            if reply.scores.len() != count {
                return Err(error::status(Error::Count { got: reply.scores.len(), candidates: count }));
            }
            if !reply.scores.iter().all(|score| score.is_finite()) {
                return Err(error::status(Error::NoNumber { model: reply.model }));
            }
            // Scores of two models cannot be compared: those of the first one stand.
            if *model.get_or_insert_with(|| reply.model.clone()) != reply.model {
                break;
            }
            scores.extend(reply.scores);
        }
        if let Some(model) = &model {
            self.heard(name, model);
        }
        let model = model.or_else(|| self.model_of(name)).unwrap_or_else(|| name.to_owned());
        Ok(Outcome::Scored { model, scores })
    }

    /// What becomes of a request whose first call failed.
    fn without_a_score(&self, name: &str, status: Status) -> Result<Outcome, Status> {
        match status.code() {
            // Who said a while ago that there is none said nothing new. A node that is frozen would else
            // count as one that has a model and is slow.
            Code::DeadlineExceeded if name.is_empty() && self.known().none_until.is_some() => {
                self.known().none_until = Some(Instant::now() + self.config.look_again);
                Ok(Outcome::NoModel)
            }
            Code::DeadlineExceeded => {
                let model = self.model_of(name).unwrap_or_else(|| name.to_owned());
                Ok(Outcome::Scored { model, scores: Vec::new() })
            }
            Code::ResourceExhausted => Ok(Outcome::Lost(status)),
            // It was there a moment ago, so this is a loss and not how things are.
            Code::Unavailable if self.model_of(name).is_some() => Ok(Outcome::Lost(status)),
            // Nodes of an earlier version answer that they do not know the method.
            Code::FailedPrecondition | Code::Unimplemented if !name.is_empty() => {
                Err(error::status(Error::NoSuchModel { name: name.to_owned() }))
            }
            Code::FailedPrecondition | Code::Unimplemented | Code::Unavailable if name.is_empty() => {
                self.known().none_until = Some(Instant::now() + self.config.look_again);
                Ok(Outcome::NoModel)
            }
            _ => Err(from_upstream(status)),
        }
    }

    /// How long the model's batches take, by the word of a node; asked for now and then.
    async fn table(&self, name: &str, call: &Call) -> Option<Arc<Table>> {
        let model = {
            let known = self.known();
            let heard = known.models.get(name)?;
            match &heard.table {
                Some((table, asked)) if asked.elapsed() < TABLE_FOR => return table.clone(),
                _ => heard.model.clone(),
            }
        };
        let soon = switchboard_mesh::Deadline::after(call.deadline.left() / TABLE_SHARE);
        let asked = call.until(soon).request_for(&model, ProfileRequest { model: model.clone() });
        let reply = self.inference.clone().profile(asked).await;
        let profiles = reply.map(|reply| reply.into_inner().models).unwrap_or_default();
        let table = profiles
            .iter()
            .find(|profile| profile.model == model)
            .map(|profile| Arc::new(Table::of(profile)));
        if let Some(heard) = self.known().models.get_mut(name) {
            heard.table = Some((table.clone(), Instant::now()));
        }
        table
    }

    /// What was late a moment ago, if anything was.
    fn late(&self) -> Option<f64> {
        let (late, since) = self.known().late?;
        (since.elapsed() < self.config.look_again).then_some(late)
    }

    fn heard(&self, name: &str, model: &str) {
        let mut known = self.known();
        known.none_until = None;
        known.late = known.late.filter(|_| name != self.config.model);
        match known.models.get_mut(name) {
            Some(heard) if heard.model == model => {}
            _ => {
                known.models.insert(name.to_owned(), Heard { model: model.to_owned(), table: None });
            }
        }
    }

    /// Whether to believe that there is no model. When that was long ago, one request looks again; those
    /// beside it do not wait for what it finds.
    fn is_none(&self) -> bool {
        let (mut known, now) = (self.known(), Instant::now());
        let Some(until) = known.none_until else { return false };
        if now >= until {
            known.none_until = Some(now + LOOK.min(self.config.look_again));
        }
        now < until
    }

    fn model_of(&self, name: &str) -> Option<String> {
        self.known().models.get(name).map(|heard| heard.model.clone())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Weighs candidates, off the runtime's own threads: a thousand long ones take a while.
async fn weighed(request: &RerankRequest, weights: Weights) -> Result<Vec<f32>, Status> {
    let (query, locale) = (request.query.clone(), request.locale.clone());
    let candidates = request.candidates.clone();
    let work =
        tokio::task::spawn_blocking(move || weights.scores(&features::of(&query, &locale, &candidates)));
    work.await.map_err(|_| error::of_kind(error::Kind::Internal, "internal error"))
}

/// The texts of the next call: at most `most`, and at most so many bytes; at least one.
fn next_part(candidates: &[Candidate], most: usize) -> Vec<String> {
    let mut bytes = 0;
    let mut part = Vec::new();
    for candidate in candidates.iter().take(most.max(1)) {
        let text = as_read(candidate);
        bytes += text.len();
        if bytes > BYTES_PER_CALL && !part.is_empty() {
            break;
        }
        part.push(text);
    }
    part
}

/// A candidate as a model reads it: where it stands first, since a passage alone may not say what it
/// is about.
fn as_read(candidate: &Candidate) -> String {
    let mut place: Vec<&str> = Vec::new();
    for name in std::iter::once(&candidate.title).chain(&candidate.heading_path) {
        // The first heading often repeats the title.
        if !name.is_empty() && place.last() != Some(&name.as_str()) {
            place.push(name);
        }
    }
    if place.is_empty() {
        return candidate.text.clone();
    }
    let text = format!("{}\n{}", place.join(" > "), candidate.text);
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}

/// The ranking of `count` candidates of which the first have `scores`: these by score, equal ones as
/// they came, and the others after them.
fn order(scores: &[f32], count: usize) -> Vec<RankedCandidate> {
    let mut scored: Vec<usize> = (0..scores.len()).collect();
    scored.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let place = |index: usize| match scores.get(index) {
        Some(&score) => RankedCandidate { index: index as u32, score, scored: true },
        None => RankedCandidate { index: index as u32, score: 0.0, scored: false },
    };
    scored.into_iter().chain(scores.len()..count).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_scored_comes_first_and_the_rest_in_its_order() {
        let ranking = order(&[0.1, 0.9, 0.9], 5);
        let indexes: Vec<u32> = ranking.iter().map(|place| place.index).collect();
        assert_eq!(indexes, [1, 2, 0, 3, 4]);
        let scored: Vec<bool> = ranking.iter().map(|place| place.scored).collect();
        assert_eq!(scored, [true, true, true, false, false]);
    }

    #[test]
    fn a_candidate_is_read_with_its_place_and_within_bounds() {
        let candidate = |title: &str, headings: &[&str], text: &str| Candidate {
            text: text.into(),
            title: title.into(),
            heading_path: headings.iter().map(|&heading| heading.into()).collect(),
            ..Candidate::default()
        };
        assert_eq!(as_read(&candidate("Returns", &["Returns", "Shoes"], "No.")), "Returns > Shoes\nNo.");
        assert_eq!(as_read(&candidate("", &[], "No.")), "No.");
        let long = as_read(&candidate("Ü", &[], &"é".repeat(MOST_CHARACTERS)));
        assert_eq!(long.chars().count(), MOST_CHARACTERS);
    }

    #[test]
    fn a_part_is_bounded_in_candidates_and_bytes_and_never_empty() {
        let candidate = |length| Candidate { text: "x".repeat(length), ..Candidate::default() };
        assert_eq!(next_part(&[candidate(1), candidate(1), candidate(1)], 2).len(), 2);
        assert_eq!(next_part(&[candidate(BYTES_PER_CALL), candidate(1)], 2).len(), 1);
        assert_eq!(next_part(&[candidate(BYTES_PER_CALL * 2)], 0).len(), 1);
    }
}
