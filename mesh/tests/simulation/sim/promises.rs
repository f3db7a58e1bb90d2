//! What was promised, compared with what happened.

use std::{collections::BTreeMap, time::Duration};

use switchboard_mesh::Class;
use tonic::Code;

use super::{
    history::{CallRecord, End, Execution, Kind, Records, Wish},
    plan::{CALM, Fault, Plan},
    world::{FAR, LATENCY, TICK},
};

/// A promise that was broken.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) promise: &'static str,
    pub(crate) at: Duration,
    pub(crate) what: String,
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) ok: u64,
    pub(crate) unavailable: u64,
    pub(crate) exhausted: u64,
    pub(crate) late: u64,
    pub(crate) gone: u64,
    pub(crate) executions: u64,
    /// Executions beyond the first one of a call.
    pub(crate) again: u64,
    pub(crate) refusals: u64,
    pub(crate) episodes: u64,
    /// Calls that had to succeed since nothing was wrong, or not much.
    pub(crate) had_to_succeed: u64,
    /// Executions whose caller was watched go.
    pub(crate) had_to_stop: u64,
    /// Refusals of class voice that no call of class batch may have passed.
    pub(crate) had_to_go_first: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.ok += other.ok;
        self.unavailable += other.unavailable;
        self.exhausted += other.exhausted;
        self.late += other.late;
        self.gone += other.gone;
        self.executions += other.executions;
        self.again += other.again;
        self.refusals += other.refusals;
        self.episodes += other.episodes;
        self.had_to_succeed += other.had_to_succeed;
        self.had_to_stop += other.had_to_stop;
        self.had_to_go_first += other.had_to_go_first;
    }
}

/// How exact timers are inside a host: tokio's wheel has milliseconds.
const SLACK: Duration = Duration::from_millis(5);
/// How long a trouble may last before calls have learnt to avoid it, and how long after the last one all is as
/// before, as far as whether calls succeed is concerned.
pub(crate) const LEARNT: Duration = Duration::from_secs(12);
/// How long after the last trouble calls are as fast as before.
pub(crate) const RECOVERED: Duration = Duration::from_secs(45);
/// What a patient caller waits at least. Calls with less may fail for that alone.
const PATIENT: Duration = Duration::from_secs(2);
/// How long a connection of which the other side knows nothing may live on.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Checks all promises.
pub(crate) fn check(plan: &Plan, records: &Records) -> (Vec<Broken>, Counts) {
    let mut check =
        Check { plan, records, by_id: BTreeMap::new(), broken: Vec::new(), counts: Counts::default() };
    for execution in &records.executions {
        check.by_id.entry(execution.id).or_default().push(execution);
    }
    check.count();
    check.deadlines();
    check.once();
    check.budgets();
    check.success();
    check.stops();
    check.order();
    check.recovery();
    check.broken.sort_by_key(|broken| broken.at);
    (check.broken, check.counts)
}

struct Check<'a> {
    plan: &'a Plan,
    records: &'a Records,
    by_id: BTreeMap<u64, Vec<&'a Execution>>,
    broken: Vec<Broken>,
    counts: Counts,
}

impl Check<'_> {
    fn broken(&mut self, promise: &'static str, at: Duration, what: String) {
        self.broken.push(Broken { promise, at, what });
    }

    fn tell(&self, call: &CallRecord) -> String {
        let executions = self.by_id.get(&call.wish.id);
        format!("{call:?}, worked on: {executions:?}")
    }

    fn count(&mut self) {
        self.counts.calls = self.records.calls.len() as u64;
        self.counts.executions = self.records.executions.len() as u64;
        self.counts.again = self.by_id.values().map(|all| all.len() as u64 - 1).sum();
        self.counts.refusals = self.records.refusals.len() as u64;
        self.counts.episodes = self.plan.episodes.len() as u64;
        for call in &self.records.calls {
            match call.end {
                Some((_, End::Code(Code::Ok))) => self.counts.ok += 1,
                Some((_, End::Code(Code::Unavailable))) => self.counts.unavailable += 1,
                Some((_, End::Code(Code::ResourceExhausted))) => self.counts.exhausted += 1,
                Some((_, End::Code(Code::DeadlineExceeded))) => self.counts.late += 1,
                Some((_, End::Gone)) => self.counts.gone += 1,
                _ => {}
            }
        }
    }

    /// No call outlives its deadline, and one that meets it says so.
    fn deadlines(&mut self) {
        for call in &self.records.calls {
            let until = call.begun + call.wish.limit;
            let over = match call.end {
                Some((at, End::Hung)) => Some(at),
                Some((at, _)) if at > until + SLACK => Some(at),
                None if self.plan.length > until + SLACK => Some(self.plan.length),
                _ => None,
            };
            if let Some(at) = over {
                self.broken("no call outlives its deadline", at, self.tell(call));
            }
            use Code::{DeadlineExceeded, Ok, ResourceExhausted, Unavailable};
            if let Some((at, End::Code(code))) = call.end
                && !matches!(code, Ok | DeadlineExceeded | ResourceExhausted | Unavailable)
            {
                let promise = "a call that fails says whether it was late, or may be tried again";
                self.broken(promise, at, self.tell(call));
            }
            if let Some((at, End::Code(Ok))) = call.end
                && call.messages != call.wish.messages.max(1)
            {
                self.broken("an answer that ends well is whole", at, self.tell(call));
            }
        }
    }

    /// What may change something is worked on once; the rest only before its first message.
    fn once(&mut self) {
        for call in &self.records.calls {
            let Some(executions) = self.by_id.get(&call.wish.id).cloned() else { continue };
            if call.wish.kind == Kind::One && executions.len() > 1 {
                let at = executions[1].begun;
                self.broken("what may change something is done at most once", at, self.tell(call));
            }
            let Some(first) = call.first_message else { continue };
            let late = executions.iter().find(|execution| {
                let arrives = FAR + TICK * 2;
                // What was held up on its way may arrive at any time.
                let prompt = self.plan.is_well(execution.node, call.begun, execution.begun);
                prompt && execution.begun > first + arrives
            });
            if let Some(late) = late {
                self.broken("nothing is sent again after a first message", late.begun, self.tell(call));
            }
        }
    }

    /// What is sent again stays within its budget.
    fn budgets(&mut self) {
        let ended = |call: &&CallRecord| call.wish.kind != Kind::One && call.end.is_some();
        let answered = self.records.calls.iter().filter(ended).count() as u64;
        let hedged = self.records.calls.iter().filter(|call| call.wish.kind == Kind::Hedged).count() as u64;
        // One in ten that succeeds, and of those that may be hedged one in twenty, each time that one is asked.
        let budget = u64::from(self.plan.retries) + answered / 10 + 3 * hedged / 20 + 1;
        if self.counts.again > budget {
            let what = format!("{} executions beyond the first, {budget} allowed", self.counts.again);
            self.broken("what is sent again stays within its budget", self.plan.length, what);
        }
        for call in &self.records.calls {
            let executions = self.by_id.get(&call.wish.id).map_or(0, Vec::len);
            let most = if call.wish.kind == Kind::Hedged { 4 } else { 3 };
            if executions > most {
                self.broken("a call is sent three times at most", call.begun, self.tell(call));
            }
        }
    }

    /// Calls succeed where nothing is wrong, and where any node may answer also while some are not well.
    fn success(&mut self) {
        for call in &self.records.calls {
            // A node that is there had time to say so, or was there before.
            if call.known == 0 && self.plan.announced(call.begun) > 0 {
                self.broken("nodes are not forgotten for want of a registry", call.begun, self.tell(call));
            }
            let Wish { kind, limit, gone_after, .. } = call.wish;
            let Some((ended, end)) = call.end else { continue };
            if limit < PATIENT || gone_after.is_some() || end == End::Code(Code::Ok) {
                self.counts.had_to_succeed += u64::from(limit >= PATIENT && gone_after.is_none());
                continue;
            }
            let since = call.begun.saturating_sub(LEARNT);
            if self.plan.is_calm(since, ended) {
                self.broken("calls succeed when nothing is wrong", ended, self.tell(call));
            } else if kind != Kind::One && self.bearable(since, ended) {
                self.broken("calls go to nodes that are well", ended, self.tell(call));
            }
        }
    }

    /// Whether troubles are known by now, and so few that what is tried three times finds a node that is well.
    fn bearable(&self, since: Duration, until: Duration) -> bool {
        let now = self.plan.troubles(since, until);
        let steady = now.iter().all(|episode| episode.from < since && episode.until > until);
        let rush = now.iter().any(|episode| episode.fault == Fault::Rush);
        // What fails at once is tried again while there is a budget for it.
        let fails = now.iter().any(|episode| matches!(episode.fault, Fault::Failing(_)));
        let affordable = !fails || (self.plan.retries > 10 && self.saved_up(since));
        // A connection that turmoil makes takes no answer: a node that is mute is found out by a call each time.
        let mute = now.iter().any(|episode| matches!(episode.fault, Fault::Mute(_)));
        steady && !mute && affordable && !rush && now.len() <= 2 && now.len() < self.plan.nodes
    }

    /// Whether the budget for what is tried again is full at a time: a rush uses it up, and then it takes ten
    /// answers to earn one try.
    fn saved_up(&self, at: Duration) -> bool {
        let rushes =
            self.plan.episodes.iter().filter(|episode| episode.fault == Fault::Rush && episode.from < at);
        let since = rushes.map(|episode| episode.until).max();
        let earned = |since: Duration| {
            let answered = self.records.calls.iter().filter(|call| {
                let well =
                    |end: &(Duration, End)| end.0 > since && end.0 < at && end.1 == End::Code(Code::Ok);
                call.wish.kind != Kind::One && call.end.as_ref().is_some_and(well)
            });
            answered.count() as u64 / 10
        };
        since.is_none_or(|since| earned(since) >= u64::from(self.plan.retries) * 2)
    }

    /// Work stops when its caller goes.
    fn stops(&mut self) {
        for execution in &self.records.executions {
            let ended = execution.ended.unwrap_or(self.plan.length);
            if ended > execution.begun + execution.left + SLACK {
                self.broken("work ends by its deadline", ended, format!("{execution:?}"));
            }
            let Some(call) = self.records.calls.get(execution.id as usize) else { continue };
            let Some((left, end)) = call.end else { continue };
            if end == End::Code(Code::Ok) && execution.ended.is_some_and(|ended| ended <= left) {
                continue;
            }
            let heard = left + LATENCY + TICK * 3 + SLACK;
            if heard > self.plan.length
                || !self.plan.is_well(execution.node, left.saturating_sub(FORGOTTEN), heard)
            {
                continue;
            }
            self.counts.had_to_stop += 1;
            if ended > heard.max(execution.begun + TICK * 3) {
                self.broken("work stops when its caller goes", ended, self.tell(call));
            }
        }
    }

    /// While a call of class voice waits and is refused in the end, none of class batch is let in.
    fn order(&mut self) {
        for refusal in self.records.refusals.iter().filter(|refusal| refusal.class == Class::Voice) {
            // Until a start has answered once, it does not know which calls belong together.
            let before = |all: &[(Duration, usize)], at| {
                all.iter().filter(|(time, node)| *node == refusal.node && *time <= at).count()
            };
            let starts = before(&self.records.starts, refusal.arrived);
            let settled = refusal.arrived.saturating_sub(Duration::from_secs(2));
            if before(&self.records.first_answers, settled) < starts {
                continue;
            }
            self.counts.had_to_go_first += 1;
            let passed = self.records.executions.iter().find(|execution| {
                execution.node == refusal.node
                    && execution.class == Class::Batch
                    && execution.begun > refusal.arrived
                    && execution.begun < refusal.refused
            });
            if let Some(passed) = passed {
                let what = format!("call {} ({refusal:?}) was passed by {passed:?}", refusal.id);
                self.broken.push(Broken { promise: "voice goes before batch", at: passed.begun, what });
            }
        }
    }

    /// A while after the last trouble calls are as fast as before the first.
    fn recovery(&mut self) {
        let second = Duration::from_secs(1);
        let before = self.overheads(|call| call.begun > second && call.begun < CALM - second * 5);
        let plan = self.plan;
        let after = self.overheads(|call| {
            let since = call.begun.saturating_sub(RECOVERED);
            since > CALM && plan.is_calm(since, call.begun + second * 5)
        });
        let (Some(before), Some(after)) = (percentile(before), percentile(after)) else { return };
        if after > before * 2 + Duration::from_millis(100) {
            let what = format!("the 99th percentile beyond the work itself is {after:?}, and was {before:?}");
            self.broken("calls are as fast as before when all is over", self.plan.length, what);
        }
    }

    fn overheads(&self, of: impl Fn(&CallRecord) -> bool) -> Vec<Duration> {
        let calls = self.records.calls.iter().filter(|call| call.wish.limit >= PATIENT && of(call));
        let overhead = |call: &CallRecord| match call.end {
            Some((ended, End::Code(Code::Ok))) => Some((ended - call.begun).saturating_sub(call.wish.work)),
            _ => None,
        };
        calls.filter_map(overhead).collect()
    }
}

fn percentile(mut all: Vec<Duration>) -> Option<Duration> {
    all.sort();
    // Of few, it says nothing.
    (all.len() >= 20).then(|| all[(all.len() - 1) * 99 / 100])
}
