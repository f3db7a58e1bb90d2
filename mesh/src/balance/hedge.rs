//! A second node for a call that the first is slow with.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures::future::{Either, select};
use tokio::time::Instant;

use super::{
    Balancer,
    asking::{Answered, Asked, Tally},
    outcome::{self, Refused},
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
        let attempt = |index: usize| {
            let endpoint = &asked.set.nodes[index].endpoint;
            self.attempt(endpoint, limit, asked.call, model, asked.request())
        };
        let first = attempt(index);
        if !asked.marks.hedged {
            return first.await.map_err(|refused| tally.note(refused)).ok();
        }
        self.hedges.earn();
        let mut first = pin!(first);
        if let Some(slow) = self.latencies.slow(asked.method(), asked.model()) {
            if let Ok(outcome) = tokio::time::timeout(slow, &mut first).await {
                return self.take(outcome, asked, tally);
            }
            if let Some(second) = self.second(asked, tally) {
                tally.tried.push(second);
                return self.race(first, pin!(attempt(second)), (asked, began), tally).await;
            }
        }
        let outcome = first.await;
        self.take(outcome, asked, tally)
    }

    /// A node besides those tried, if a hedge can be paid for.
    fn second(self: &Arc<Self>, asked: &Asked<'_>, tally: &Tally) -> Option<usize> {
        if asked.set.nodes.len() <= tally.tried.len() || !self.retries.plenty() || !self.hedges.spend() {
            return None;
        }
        let second = self.pick(asked.set, asked.model(), &tally.tried)?;
        self.metrics.hedge_sent();
        Some(second)
    }

    async fn race<F, S>(
        &self,
        first: Pin<&mut F>,
        second: Pin<&mut S>,
        (asked, began): (&Asked<'_>, Instant),
        tally: &mut Tally,
    ) -> Option<Answered>
    where
        F: Future<Output = Outcome>,
        S: Future<Output = Outcome>,
    {
        match select(first, second).await {
            Either::Left((Ok(answered), _)) => self.take(Ok(answered), asked, tally),
            Either::Left((Err(refused), second)) => {
                tally.note(refused);
                self.won(second.await, tally)
            }
            Either::Right((Ok(answered), _)) => {
                // The first would have taken at least as long.
                self.record(asked, &answered, began.elapsed());
                self.won(Ok(answered), tally)
            }
            Either::Right((Err(refused), first)) => {
                tally.note(refused);
                let outcome = first.await;
                self.take(outcome, asked, tally)
            }
        }
    }

    fn take(&self, outcome: Outcome, asked: &Asked<'_>, tally: &mut Tally) -> Option<Answered> {
        let answered = outcome.map_err(|refused| tally.note(refused)).ok()?;
        self.record(asked, &answered, answered.1.took());
        Some(answered)
    }

    /// Takes in how long an answer took. An error is fast, and says nothing of that; and what has been
    /// answered has a name that nobody made up.
    fn record(&self, asked: &Asked<'_>, (response, _): &Answered, took: Duration) {
        if outcome::is_ok(response) {
            self.latencies.record(asked.method(), asked.model(), took);
        }
    }

    fn won(&self, outcome: Outcome, tally: &mut Tally) -> Option<Answered> {
        let answered = outcome.map_err(|refused| tally.note(refused)).ok()?;
        self.metrics.hedge_won();
        Some(answered)
    }
}
