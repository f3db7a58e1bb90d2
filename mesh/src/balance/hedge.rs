//! A second node for a call that the first is slow with.

use std::{
    pin::{Pin, pin},
    sync::Arc,
};

use futures::future::{Either, select};
use tokio::time::Instant;

use super::{
    Balancer,
    asking::{Answered, Asked, Tally},
    outcome::Refused,
    percentile::Kind,
};

type Outcome = Result<Answered, Box<Refused>>;

impl Balancer {
    /// Asks the node at `index`, and a second one if the request may be hedged and the first is slow. The
    /// first answer wins and the other call is dropped, which stops its work. What refuses is noted.
    pub(super) async fn ask(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        index: usize,
        tally: &mut Tally,
    ) -> Option<Answered> {
        let model = asked.marks.model.as_ref();
        tally.tried.push(index);
        let limit = self.patience(asked.set, &tally.tried);
        let began = Instant::now();
        let endpoint = &asked.set.nodes[index].endpoint;
        let first = self.attempt(endpoint, limit, asked.call, model, asked.request());
        let kind = match asked.marks.hedged {
            true => self.latencies.of(asked.parts.uri.path(), model.map(AsRef::as_ref)),
            false => None,
        };
        let Some(kind) = kind else {
            return first.await.map_err(|refused| tally.note(refused)).ok();
        };
        self.hedges.earn();
        let mut first = pin!(first);
        if let Some(slow) = kind.slow() {
            if let Ok(outcome) = tokio::time::timeout(slow, &mut first).await {
                return self.take(outcome, &kind, tally);
            }
            if let Some(second) = self.second(asked, tally) {
                tally.tried.push(second);
                let endpoint = &asked.set.nodes[second].endpoint;
                let other = self.attempt(endpoint, limit, asked.call, model, asked.request());
                return self.race(first, pin!(other), (&kind, began), tally).await;
            }
        }
        let outcome = first.await;
        self.take(outcome, &kind, tally)
    }

    /// A node besides those tried, if a hedge can be paid for.
    fn second(self: &Arc<Self>, asked: &Asked<'_>, tally: &Tally) -> Option<usize> {
        if asked.set.nodes.len() <= tally.tried.len() || !self.retries.plenty() || !self.hedges.spend() {
            return None;
        }
        let second = self.pick(asked.set, asked.marks.model.as_deref(), &tally.tried)?;
        self.metrics.hedge_sent();
        Some(second)
    }

    async fn race<F, S>(
        &self,
        first: Pin<&mut F>,
        second: Pin<&mut S>,
        (kind, began): (&Kind, Instant),
        tally: &mut Tally,
    ) -> Option<Answered>
    where
        F: Future<Output = Outcome>,
        S: Future<Output = Outcome>,
    {
        match select(first, second).await {
            Either::Left((Ok(answered), _)) => self.take(Ok(answered), kind, tally),
            Either::Left((Err(refused), second)) => {
                tally.note(refused);
                self.won(second.await, tally)
            }
            Either::Right((Ok(answered), _)) => {
                // The first would have taken at least as long.
                kind.record(began.elapsed());
                self.won(Ok(answered), tally)
            }
            Either::Right((Err(refused), first)) => {
                tally.note(refused);
                let outcome = first.await;
                self.take(outcome, kind, tally)
            }
        }
    }

    fn take(&self, outcome: Outcome, kind: &Kind, tally: &mut Tally) -> Option<Answered> {
        match outcome {
            Ok((response, flight)) => {
                kind.record(flight.took());
                Some((response, flight))
            }
            Err(refused) => {
                tally.note(refused);
                None
            }
        }
    }

    fn won(&self, outcome: Outcome, tally: &mut Tally) -> Option<Answered> {
        let answered = outcome.map_err(|refused| tally.note(refused)).ok()?;
        self.metrics.hedge_won();
        Some(answered)
    }
}
