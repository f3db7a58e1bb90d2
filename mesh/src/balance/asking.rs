//! One call, from node to node until it is answered.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::{BodyExt as _, Full};
use tonic::{Status, body::Body};
use tower::ServiceExt as _;

use super::{
    Balancer, Flight,
    endpoint::{CONNECT, Endpoint},
    flight::is_late,
    lent::Lent,
    marks::Marks,
    members::Set,
    outcome::{self, Pushback, Refusal, Refused, Reply},
};
use crate::{
    Call, Class, deadline,
    error::{self, Fault, Kind},
    telemetry,
};

/// How long a call waits for the connection to a node while there are others.
const HURRY: Duration = Duration::from_millis(250);
/// The longest wait before the same nodes are asked again the first time; twice as long each further
/// time, and a random part of it each time.
const BACKOFF: Duration = Duration::from_millis(50);

/// An answer, and the flight that ends with its stream.
pub(super) type Answered = (Response<Body>, Flight);

/// What a call has heard so far.
#[derive(Default)]
pub(super) struct Tally {
    /// Nodes that were asked in this round.
    pub(super) tried: Vec<usize>,
    /// The refusal that the caller hears if there is no answer.
    kept: Option<Box<Refused>>,
    /// What the last node said.
    last: Option<(Refusal, Pushback)>,
    /// Refusals of this round that do not rule out that the same node answers later.
    passing: usize,
    /// Refusals of this round.
    refused: usize,
    /// A node asked not to be asked again.
    stopped: bool,
    /// Times that the request was sent and came to nothing.
    sent: u32,
}

impl Tally {
    pub(super) fn note(&mut self, refused: Box<Refused>) {
        self.refused += 1;
        self.passing += usize::from(match refused.refusal {
            Refusal::Unsent | Refusal::Away { .. } => true,
            // Whoever is full wants to be left alone, unless it says until when.
            Refusal::Full => matches!(refused.pushback, Pushback::After(_)),
            Refusal::Lacks => false,
        });
        self.stopped |= refused.pushback == Pushback::Never;
        self.sent += u32::from(matches!(refused.refusal, Refusal::Away { .. } | Refusal::Full));
        self.last = Some((refused.refusal, refused.pushback));
        let weight = |refused: &Refused| refused.refusal.weight();
        if self.kept.as_ref().is_none_or(|kept| weight(&refused) > weight(kept)) {
            self.kept = Some(refused);
        }
    }
}

impl Balancer {
    /// Sends a request to a node, and to further ones as its marks allow.
    ///
    /// # Errors
    /// UNAVAILABLE when no connection can be had, the one in use breaks, or the role is down.
    pub(crate) async fn send(
        self: &Arc<Self>,
        request: Request<Body>,
        call: &Call,
    ) -> Result<(Response<Body>, Option<Flight>), Status> {
        let set = self.current();
        if set.nodes.is_empty() {
            return Err(error::of_kind(Kind::Unavailable, format!("{} has no address", self.role)));
        }
        let pass = self.breaker.enter().map_err(|again| {
            error::status(Down { role: self.role.to_string(), again: again.max(Duration::from_millis(10)) })
        })?;
        let mut marks = Marks::of(request.extensions());
        // What nobody waits for is not worth the work of two nodes.
        marks.hedged &= call.class != Class::Batch;
        let outcome = match marks.any {
            // On the heap, so that calls of the other kind are not as large as these.
            true => Box::pin(self.ask_any(set, request, call, &marks)).await?,
            false => self.ask_one(&set, request, call, marks.model.as_ref()).await,
        };
        match outcome {
            Ok((response, flight)) => {
                // What comes late says nothing of the role; its flight knows how long it was silent.
                if !telemetry::code_of(&response).is_some_and(is_late) {
                    pass.succeeded();
                }
                Ok((response, Some(flight)))
            }
            Err(refused) => {
                if refused.refusal.answered() {
                    pass.succeeded();
                } else if self.none_is_up() {
                    pass.failed();
                }
                refused.reply.map(|response| (response, None))
            }
        }
    }

    /// Sends what may change something: to another node only if none of it left.
    async fn ask_one(
        self: &Arc<Self>,
        set: &Set,
        request: Request<Body>,
        call: &Call,
        model: Option<&Arc<str>>,
    ) -> Result<Answered, Box<Refused>> {
        if let [node] = set.nodes.as_slice() {
            return self.attempt(&node.endpoint, CONNECT, call, model, request).await;
        }
        let (parts, mut body) = request.into_parts();
        let mut tally = Tally::default();
        while let Some(index) = self.pick(set, model.map(AsRef::as_ref), &tally.tried) {
            tally.tried.push(index);
            let (lent, back) = Lent::new(body);
            let request = Request::from_parts(parts.clone(), Body::new(lent));
            let limit = self.patience(set, &tally.tried);
            let refused = match self.attempt(&set.nodes[index].endpoint, limit, call, model, request).await {
                Ok(answered) => return Ok(answered),
                Err(refused) => refused,
            };
            match back.take() {
                Some(whole) if refused.refusal == Refusal::Unsent => body = whole,
                _ => return Err(refused),
            }
            self.metrics.retried(Refusal::Unsent);
            tally.note(refused);
        }
        Err(self.nothing(tally))
    }

    /// Sends what any node may answer, to one after the other until one does.
    async fn ask_any(
        self: &Arc<Self>,
        mut set: Arc<Set>,
        request: Request<Body>,
        call: &Call,
        marks: &Marks,
    ) -> Result<Result<Answered, Box<Refused>>, Status> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let mut tally = Tally::default();
        let mut round = 0;
        loop {
            while let Some(index) = self.pick(&set, marks.model.as_deref(), &tally.tried) {
                if let Some((refusal, _)) = tally.last {
                    self.metrics.retried(refusal);
                }
                let asked = Asked { set: &set, parts: &parts, body: &body, call, marks };
                if let Some(answered) = self.ask(&asked, index, &mut tally).await {
                    if outcome::is_ok(&answered.0) {
                        self.retries.earn();
                    }
                    return Ok(Ok(answered));
                }
                if !self.goes_on(&tally) {
                    return Ok(Err(self.nothing(tally)));
                }
            }
            // All were asked. The same ones are asked again only if each may answer yet.
            round += 1;
            let wait = match tally.last {
                Some((_, Pushback::After(wait))) => wait,
                _ => BACKOFF.saturating_mul(1 << round.min(10)).mul_f64(self.random.fraction() / 2.0),
            };
            let worth_it =
                tally.passing == tally.refused && tally.refused > 0 && round < self.config.attempts;
            if !worth_it || wait >= call.deadline.left() || !self.retries.plenty() {
                return Ok(Err(self.nothing(tally)));
            }
            tokio::time::sleep(wait).await;
            set = self.current();
            tally = Tally { kept: tally.kept, sent: tally.sent, last: tally.last, ..Tally::default() };
        }
    }

    /// Whether another node may be asked after the last refusal; it is paid for if so.
    fn goes_on(&self, tally: &Tally) -> bool {
        let Some((refusal, _)) = tally.last else { return true };
        let paid = match refusal {
            // Costs nobody anything.
            Refusal::Lacks | Refusal::Unsent => true,
            Refusal::Away { .. } | Refusal::Full => self.retries.spend(),
        };
        paid && !tally.stopped && tally.sent < self.config.attempts
    }

    /// Carries a request to one node, and takes into account how that went.
    pub(super) async fn attempt(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        limit: Duration,
        call: &Call,
        model: Option<&Arc<str>>,
        mut request: Request<Body>,
    ) -> Result<Answered, Box<Refused>> {
        // Whoever waits for a connection is under way already, or a crowd would wait for one node.
        let mut flight = Flight::begin(self, endpoint, model, call.deadline);
        let channel = match endpoint.channel(self.connect.as_ref(), &self.role, limit).await {
            Ok(channel) => channel,
            Err(reason) => {
                flight.unreachable();
                return Err(Box::new(Refused::unsent(&self.role, reason.as_ref())));
            }
        };
        // Not earlier: the connection took its time, and so did the nodes before.
        call.write(request.headers_mut());
        let request = request.map(|body| flight.sent(channel.clone(), body));
        match outcome::read(channel.oneshot(request).await, &self.role) {
            Reply::Answer(response, code) => {
                flight.answered(code);
                Ok((response, flight))
            }
            Reply::Late => Ok((deadline::exceeded().into_http(), flight)),
            Reply::Refused(refused) => {
                match refused.refusal {
                    Refusal::Unsent => flight.unreachable(),
                    Refusal::Away { answered: true } => flight.failed(refused.avoid),
                    Refusal::Away { answered: false } => flight.broke(),
                    Refusal::Full => flight.full(refused.avoid),
                    Refusal::Lacks => flight.lacks(model),
                }
                tracing::debug!(role = %self.role, node = %endpoint.uri, "a node did not take the call");
                Err(refused)
            }
        }
    }

    /// How long to wait for a connection: not for long while another node can be asked.
    pub(super) fn patience(&self, set: &Set, tried: &[usize]) -> Duration {
        if tried.len() < set.nodes.len() { HURRY } else { CONNECT }
    }

    fn nothing(&self, tally: Tally) -> Box<Refused> {
        let none = || Box::new(Refused::unsent(&self.role, &NoNode));
        tally.kept.unwrap_or_else(none)
    }
}

/// What is asked of node after node.
pub(super) struct Asked<'a> {
    pub(super) set: &'a Set,
    pub(super) parts: &'a Parts,
    pub(super) body: &'a Bytes,
    pub(super) call: &'a Call,
    pub(super) marks: &'a Marks,
}

impl Asked<'_> {
    pub(super) fn method(&self) -> &str {
        self.parts.uri.path()
    }

    pub(super) fn model(&self) -> Option<&str> {
        self.marks.model.as_deref()
    }

    pub(super) fn request(&self) -> Request<Body> {
        Request::from_parts(self.parts.clone(), Body::new(Full::new(self.body.clone())))
    }
}

/// A role whose nodes all failed a moment ago.
#[derive(Debug, thiserror::Error)]
#[error("{role} is down; it is tried again soon")]
struct Down {
    role: String,
    again: Duration,
}

impl Fault for Down {
    fn kind(&self) -> Kind {
        Kind::Unavailable
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(self.again)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no node can take the call")]
struct NoNode;
