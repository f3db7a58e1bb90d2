//! Detectors that are models of the mesh's inference nodes: names of persons and places, and orders.
//!
//! [`Models::look`] asks them about a text, both at once, each within one deadline. What they find is added to
//! what patterns and rules find; where one is off, away, late or of another kind, patterns and rules decide
//! alone, and the [`Reading`] says so. A text is read in windows of whole sentences, as far as its size allows.
//!
//! A model has to see what a customer wrote, names and all. What was found by its form (cards, addresses of any
//! kind, numbers) it does not see: letters and figures of it are masked, one by one, so that places stay.

mod windows;

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use mesh::{Call, Channel, Deadline};
use proto::inference::v1::{
    Classification, ClassifyRequest, Label, inference_service_client::InferenceServiceClient,
};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use switchboard_text::redaction::{Entity, Kind};
use tonic::Code;

use self::windows::{Windows, Words};
use crate::{
    config::ModelsConfig,
    detectors::{Finding, Heard, INJECTION, Reading, Source},
    inspection::Direction,
    metrics,
};

/// The detectors of this node that are models.
pub(crate) struct Models {
    inference: InferenceServiceClient<Channel>,
    config: ModelsConfig,
    names: Option<Asked>,
    injection: Option<Asked>,
}

/// Which models are asked about a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asks {
    names: bool,
    injection: bool,
}

impl Asks {
    pub(crate) fn any(self) -> bool {
        self.names || self.injection
    }
}

/// A model that is asked.
struct Asked {
    /// The detector's name, in labels and rules.
    detector: &'static str,
    model: String,
    /// `model:NAME`, as findings have it.
    found_by: &'static str,
    /// Whether the last call that was not late failed, so that a change is told once.
    failing: AtomicBool,
    /// The fingerprint that it had last; empty before its first answer.
    fingerprint: Mutex<String>,
}

impl Asked {
    fn of(detector: &'static str, model: &str) -> Option<Self> {
        (!model.is_empty()).then(|| Self {
            detector,
            model: model.to_owned(),
            // Findings have names that live for as long as the process, and a process has one such model.
            found_by: Box::leak(format!("model:{model}").into_boxed_str()),
            failing: AtomicBool::new(false),
            fingerprint: Mutex::default(),
        })
    }
}

/// What a model says of a window.
struct Said<'a> {
    labels: &'a [Label],
    /// Where the window stands in the text, in characters.
    window: &'a Range<usize>,
    found_by: &'static str,
}

/// Why a model has read nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Miss {
    Late,
    Away,
    /// It is no model of the kind that is needed, or gives what cannot be.
    Unfit,
}

impl Miss {
    fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Away => "away",
            Self::Unfit => "unfit",
        }
    }
}

impl Models {
    pub(crate) fn new(inference: InferenceServiceClient<Channel>, config: ModelsConfig) -> Self {
        let names = Asked::of("names", &config.names);
        let injection = Asked::of("injection", &config.injection);
        Self { inference, config, names, injection }
    }

    /// Which models are to be asked about a text. A document's names are the company's matter unless the
    /// configuration says otherwise; a quotation has none of the customer's; only what comes in gives orders.
    pub(crate) fn asks(&self, direction: Direction, source: Source, verbatim: bool) -> Asks {
        let named = match direction {
            Direction::Input => source != Source::Document || self.config.names_in_documents,
            Direction::Output => !verbatim,
        };
        Asks {
            names: named && self.names.is_some(),
            injection: direction == Direction::Input && self.injection.is_some(),
        }
    }

    /// Those of a text that is redacted and not judged.
    pub(crate) fn asks_names(&self) -> Asks {
        Asks { names: self.names.is_some(), injection: false }
    }

    /// Which models there are, with the fingerprints that they had last: what was decided with others may be
    /// decided otherwise now.
    pub(crate) fn versions(&self) -> String {
        let mut versions = String::new();
        for asked in self.names.iter().chain(&self.injection) {
            let fingerprint = asked.fingerprint.lock().unwrap_or_else(PoisonError::into_inner);
            versions.extend([" ", &asked.model, "@", &fingerprint]);
        }
        versions
    }

    /// Asks models about a text in which `found` was found by its form. Takes no longer than the deadline of the
    /// configuration, and never fails.
    pub(crate) async fn look(&self, call: &Call, asks: Asks, text: &str, found: &[Entity]) -> Heard {
        if !asks.any() {
            return Heard::default();
        }
        let windows = Windows::of(text, found, self.config.window, self.config.characters);
        let call = call.until(Deadline::after(self.config.deadline));
        let names = self.names.as_ref().filter(|_| asks.names);
        let injection = self.injection.as_ref().filter(|_| asks.injection);
        let (mut of_names, mut of_orders) = (Words::new(text), Words::new(text));
        let (names, orders) = tokio::join!(
            self.ask(names, &call, &windows, |said| self.named(said, &mut of_names)),
            self.ask(injection, &call, &windows, |said| self.order(said, &mut of_orders)),
        );
        Heard { names: names.0, named: names.1, injection: orders.0, orders: orders.1 }
    }

    /// What one model says, as `read` has it of each window.
    async fn ask<T, I: IntoIterator<Item = T>>(
        &self,
        asked: Option<&Asked>,
        call: &Call,
        windows: &Windows,
        mut read: impl FnMut(&Said<'_>) -> Result<I, Miss>,
    ) -> (Reading, Vec<T>) {
        let Some(asked) = asked else { return (Reading::Off, Vec::new()) };
        if windows.texts.is_empty() {
            return (if windows.whole { Reading::Whole } else { Reading::Part }, Vec::new());
        }
        let began = Instant::now();
        let answer = self.classify(asked, call, windows).await;
        let answer = answer.and_then(|results| {
            let whole = windows.whole && !results.iter().any(|result| result.truncated);
            let mut found: Vec<T> = Vec::new();
            for (window, result) in windows.places.iter().zip(&results) {
                let said = Said { labels: &result.labels, window, found_by: asked.found_by };
                found.extend(read(&said)?);
            }
            Ok((whole, found))
        });
        let (reading, found, outcome) = match answer {
            Ok((true, found)) => (Reading::Whole, found, "ok"),
            Ok((false, found)) => (Reading::Part, found, "partial"),
            Err(miss) => (Reading::Unavailable, Vec::new(), miss.as_str()),
        };
        metrics::model(asked.detector, outcome, began.elapsed().as_secs_f64());
        let failing = matches!(outcome, "away" | "unfit");
        // One that is late neither fails nor answers again.
        if outcome != "late" && asked.failing.swap(failing, Ordering::Relaxed) != failing {
            let (detector, model) = (asked.detector, &asked.model);
            match failing {
                true => tracing::warn!(detector, model, outcome, "a model is not asked; rules decide alone"),
                false => tracing::info!(detector, model, "a model answers again"),
            }
        }
        (reading, found)
    }

    async fn classify(
        &self,
        asked: &Asked,
        call: &Call,
        windows: &Windows,
    ) -> Result<Vec<Classification>, Miss> {
        let message = ClassifyRequest {
            model: asked.model.clone(),
            texts: windows.texts.clone(),
            ..ClassifyRequest::default()
        };
        let request = call.request_for(&asked.model, message);
        let mut inference = self.inference.clone();
        let reply = match call.deadline.limit(inference.classify(request)).await {
            Some(Ok(reply)) => reply.into_inner(),
            None => return Err(Miss::Late),
            Some(Err(status)) => {
                return Err(match status.code() {
                    Code::DeadlineExceeded => Miss::Late,
                    // No node has it, or it is no classifier.
                    Code::NotFound | Code::FailedPrecondition => Miss::Unfit,
                    _ => Miss::Away,
                });
            }
        };
        if reply.results.len() != windows.texts.len() {
            return Err(Miss::Unfit);
        }
        let mut known = asked.fingerprint.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != reply.fingerprint {
            *known = reply.fingerprint;
        }
        Ok(reply.results)
    }

    /// Names of a window, as whole words.
    fn named(&self, said: &Said<'_>, words: &mut Words<'_>) -> Result<Vec<Entity>, Miss> {
        let mut named = Vec::new();
        for label in said.labels {
            let place = place(label, said.window).ok_or(Miss::Unfit)?;
            let kind = if self.config.persons.contains(&label.name) {
                Kind::Person
            } else if self.config.places.contains(&label.name) {
                Kind::Place
            } else {
                continue;
            };
            if f64::from(label.score) >= self.config.names_score {
                let (span, score) = (words.whole(place), label.score.min(1.0));
                named.push(Entity { span, kind, score, detector: said.found_by });
            }
        }
        Ok(named)
    }

    /// A window that gives orders.
    fn order(&self, said: &Said<'_>, words: &mut Words<'_>) -> Result<Option<Finding>, Miss> {
        let told = said.labels.iter().filter(|label| {
            (label.start, label.end) == (0, 0) && self.config.injection_labels.contains(&label.name)
        });
        // A classifier gives all of its labels each time: one without these is none of orders.
        let score = told.map(|label| label.score).reduce(f32::max).ok_or(Miss::Unfit)?;
        let found = || Finding {
            span: words.span(said.window.clone()),
            kind: INJECTION,
            score: score.min(1.0),
            detector: said.found_by,
        };
        Ok((f64::from(score) >= self.config.injection_score).then(found))
    }
}

/// Where a label of a window stands in the text, in characters; `None` where it cannot stand.
fn place(label: &Label, window: &Range<usize>) -> Option<Range<usize>> {
    let (start, end) = (label.start as usize, label.end as usize);
    (start < end && end <= window.len()).then(|| window.start + start..window.start + end)
}

#[cfg(test)]
mod tests;
