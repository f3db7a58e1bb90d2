//! A turn's time: what is left of the budget, each stage's share of it, and what each one took.

use std::{future::Future, time::Duration};

use switchboard_mesh::{Call, Deadline};
use switchboard_proto::conversation::v1::{Stage, StageStatus};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::{metrics, record::word};

/// The stages, with the weight of each in what is left of the time; what is not among them has all of it. A stage that is quick leaves its
/// rest to the ones that follow.
const WEIGHTS: [(&str, u32); 7] = [
    ("inspect_input", 20),
    ("load_context", 20),
    ("embed_query", 30),
    ("retrieve", 40),
    ("rerank", 30),
    ("inspect_evidence", 20),
    ("generate", 60),
];

/// Stages that a turn can do without. These alone are cut for the sake of the first sentence; the
/// others would end the turn with nothing while there is time for an answer.
const OPTIONAL: [&str; 2] = ["embed_query", "rerank"];

/// The budget of a turn, and its accounts.
pub(crate) struct Clock {
    started: Instant,
    first_sentence: Instant,
    whole: Instant,
    stages: Vec<Stage>,
}

/// Why a stage brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Its share of the budget ran out.
    TimedOut,
    /// It failed with this code.
    Failed(Code),
}

impl Lost {
    /// The reason in a word, for the report; never a message, which could hold customer text.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::TimedOut => "timed out",
            Self::Failed(Code::Unavailable) => "unavailable",
            Self::Failed(Code::ResourceExhausted) => "overloaded",
            Self::Failed(Code::InvalidArgument | Code::FailedPrecondition) => "refused",
            Self::Failed(Code::NotFound) => "not found",
            Self::Failed(_) => "failed",
        }
    }
}

impl Clock {
    /// Starts the clock of a turn.
    pub(crate) fn start(started: Instant, first_sentence: Duration, whole: Duration) -> Self {
        Self { started, first_sentence: started + first_sentence, whole: started + whole, stages: Vec::new() }
    }

    /// When the turn should be over.
    pub(crate) fn end(&self) -> Deadline {
        Deadline::at(self.whole)
    }

    /// Whether the budget has run out.
    pub(crate) fn over(&self) -> bool {
        Instant::now() >= self.whole
    }

    /// What the turn has taken so far.
    pub(crate) fn spent(&self) -> Duration {
        self.started.elapsed()
    }

    /// The time that the stage `name` may take if it begins now.
    pub(crate) fn share(&self, name: &str) -> Duration {
        let now = Instant::now();
        let hurries = OPTIONAL.contains(&name) && now < self.first_sentence;
        let until = if hurries { self.first_sentence } else { self.whole };
        let left = until.saturating_duration_since(now);
        let position = WEIGHTS.iter().position(|(stage, _)| *stage == name).unwrap_or(WEIGHTS.len() - 1);
        let rest: u32 = WEIGHTS[position..].iter().map(|(_, weight)| weight).sum();
        left * WEIGHTS[position].1 / rest.max(1)
    }

    /// Runs the stage `name` within its share; `describe` says what it found, for the report.
    pub(crate) async fn run<T, F>(
        &mut self,
        name: &'static str,
        call: &Call,
        work: impl FnOnce(Call) -> F,
        describe: impl FnOnce(&T) -> String,
    ) -> Result<T, Lost>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let timing = self.begin(name);
        let outcome = timing.limit(call, work).await;
        self.close(&timing, &outcome, timing.began.elapsed(), describe);
        outcome
    }

    /// Begins a stage that runs beside others; end it with [`Clock::close`].
    pub(crate) fn begin(&self, name: &'static str) -> Timing {
        Timing { name, began: Instant::now(), share: self.share(name) }
    }

    /// Enters a stage that has ended, after `spent`, into the accounts.
    pub(crate) fn close<T>(
        &mut self,
        timing: &Timing,
        outcome: &Result<T, Lost>,
        spent: Duration,
        describe: impl FnOnce(&T) -> String,
    ) {
        let (status, detail) = match outcome {
            Ok(value) => (StageStatus::Ok, describe(value)),
            Err(Lost::TimedOut) => (StageStatus::TimedOut, "its share of the budget ran out".to_owned()),
            Err(lost) => (StageStatus::Failed, lost.word().to_owned()),
        };
        self.enter(timing, status, spent, detail);
    }

    /// Enters a stage whose time was measured elsewhere, such as the sum over a reply's sentences.
    pub(crate) fn enter(&mut self, timing: &Timing, status: StageStatus, spent: Duration, detail: String) {
        metrics::stage(timing.name, status, spent);
        self.stages.push(Stage {
            name: timing.name.into(),
            status: status.into(),
            started_after: proto_duration(timing.began.saturating_duration_since(self.started)),
            share: proto_duration(timing.share),
            spent: proto_duration(spent),
            detail,
        });
    }

    /// Enters a stage that was not run.
    pub(crate) fn skip(&mut self, name: &'static str, why: &str) {
        let timing = Timing { name, began: Instant::now(), share: Duration::ZERO };
        self.enter(&timing, StageStatus::Skipped, Duration::ZERO, why.to_owned());
    }

    /// The accounts in one line: each stage with how it ended and its milliseconds.
    pub(crate) fn summary(&self) -> String {
        let stages = self.stages.iter().map(|stage| {
            let status = word(stage.status().as_str_name(), "STAGE_STATUS_");
            let spent = stage.spent.map_or(0.0, |d| d.seconds as f64 * 1e3 + f64::from(d.nanos) / 1e6);
            format!("{} {status} {spent:.2}", stage.name)
        });
        stages.collect::<Vec<_>>().join(", ")
    }

    /// The accounts, in the order in which the stages began.
    pub(crate) fn into_stages(mut self) -> Vec<Stage> {
        self.stages.sort_by_key(|stage| stage.started_after.map_or((0, 0), |d| (d.seconds, d.nanos)));
        self.stages
    }
}

/// A stage that is running.
pub(crate) struct Timing {
    pub(crate) name: &'static str,
    pub(crate) began: Instant,
    pub(crate) share: Duration,
}

impl Timing {
    /// A stage that begins now and may take until `deadline`.
    pub(crate) fn now(name: &'static str, deadline: Deadline) -> Self {
        Self { name, began: Instant::now(), share: deadline.left() }
    }

    /// Runs `work` within the stage's share, telling it so through its call.
    pub(crate) async fn limit<T, F>(&self, call: &Call, work: impl FnOnce(Call) -> F) -> Result<T, Lost>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let deadline = Deadline::at(self.began + self.share);
        if self.share.is_zero() {
            return Err(Lost::TimedOut);
        }
        match deadline.limit(work(call.until(deadline))).await {
            None => Err(Lost::TimedOut),
            Some(Err(status)) if status.code() == Code::DeadlineExceeded => Err(Lost::TimedOut),
            Some(Err(status)) => {
                tracing::debug!(stage = self.name, code = ?status.code(), "stage failed");
                Err(Lost::Failed(status.code()))
            }
            Some(Ok(value)) => Ok(value),
        }
    }
}

/// A duration on the wire. Durations of a turn are far below the type's limits.
pub(crate) fn proto_duration(time: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(time).ok()
}

#[cfg(test)]
mod tests {
    use switchboard_mesh::testing;

    use super::*;

    fn clock() -> Clock {
        Clock::start(Instant::now(), Duration::from_secs(2), Duration::from_secs(6))
    }

    #[tokio::test(start_paused = true)]
    async fn the_shares_never_add_up_to_more_than_the_budget() {
        let mut clock = clock();
        for (name, _) in WEIGHTS {
            let share = clock.share(name);
            let timing = clock.begin(name);
            tokio::time::advance(share).await;
            clock.close(&timing, &Ok(()), share, |()| String::new());
        }
        assert!(clock.spent() <= Duration::from_secs(6), "{:?}", clock.spent());
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_a_stage_leaves_goes_to_the_ones_after_it() {
        let clock = clock();
        assert_eq!(clock.share("generate"), Duration::from_secs(6));
        assert!(clock.share("embed_query") < Duration::from_secs(1), "it must not delay the first sentence");
        tokio::time::advance(Duration::from_millis(1900)).await;
        assert_eq!(clock.share("generate"), Duration::from_millis(4100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_that_hangs_is_cut_at_its_share() {
        let mut clock = clock();
        let share = clock.share("retrieve");
        let call = testing::call("acme");
        let outcome: Result<(), Lost> =
            clock.run("retrieve", &call, |_| std::future::pending(), |()| String::new()).await;
        assert_eq!(outcome, Err(Lost::TimedOut));
        assert!(clock.spent() <= share + Duration::from_millis(1));
        assert_eq!(clock.into_stages()[0].status(), StageStatus::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn without_time_no_stage_begins() {
        let mut clock = Clock::start(Instant::now(), Duration::ZERO, Duration::ZERO);
        let call = testing::call("acme");
        let outcome: Result<(), Lost> =
            clock.run("retrieve", &call, |_| async { panic!("it must not run") }, |()| String::new()).await;
        assert_eq!(outcome, Err(Lost::TimedOut));
    }
}
