//! A service that is asked for twice what it can do, in simulated time: the clock is tokio's, paused, and
//! nothing is drawn at random, so that each run is the same.

use std::{cell::RefCell, rc::Rc};

use tokio::{sync::Semaphore, task::LocalSet, time::Instant};

use super::*;
use crate::Tenant;

/// Calls that the service works on at once, and how long each takes.
const CAPACITY: u32 = 20;
const TAKES: Duration = Duration::from_millis(50);
/// What the service can do in a second.
const KNEE: f64 = 400.0;
/// Callers allow no more.
const PATIENCE: Duration = Duration::from_secs(1);

/// What became of the calls of one class.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    offered: u32,
    /// Answered before their deadline.
    good: u32,
    refused: u32,
    late: u32,
    slowest: Duration,
    took: Duration,
}

impl Tally {
    /// The mean time of those that were answered.
    fn mean(&self) -> Duration {
        self.took / self.good.max(1)
    }
}

struct Simulation {
    overload: Overload,
    workers: Semaphore,
    /// By class and, for chat, by tenant.
    tallies: RefCell<HashMap<(Class, &'static str), Tally>>,
}

impl Simulation {
    async fn call(self: Rc<Self>, class: Class, tenant: &'static str, counted: bool) {
        let call = Call::new(Tenant::try_new(tenant).unwrap(), Deadline::after(PATIENCE)).with_class(class);
        let began = Instant::now();
        let admitted = self.overload.admit(&call, ECHO, None).await;
        let place = match admitted {
            Ok(place) => place.unwrap(),
            Err(_) => return self.tell(class, tenant, counted, |tally| tally.refused += 1),
        };
        let work = async {
            // First come, first served, as a service is that knows no classes.
            let _worker = self.workers.acquire().await.unwrap();
            tokio::time::sleep(TAKES).await;
        };
        let done = call.deadline.limit(work).await;
        place.end(if done.is_some() { Code::Ok } else { Code::DeadlineExceeded });
        self.tell(class, tenant, counted, |tally| {
            tally.slowest = tally.slowest.max(began.elapsed());
            match done {
                Some(()) => {
                    tally.good += 1;
                    tally.took += began.elapsed();
                }
                None => tally.late += 1,
            }
        });
    }

    fn tell(&self, class: Class, tenant: &'static str, counted: bool, tell: impl Fn(&mut Tally)) {
        if counted {
            let mut tallies = self.tallies.borrow_mut();
            let tally = tallies.entry((class, tenant)).or_default();
            tally.offered += 1;
            tell(tally);
        }
    }
}

/// Offers so many times the knee for a minute, after ten seconds at half of it and twenty to settle.
async fn run(config: Config, times: f64) -> HashMap<(Class, &'static str), Tally> {
    let simulation = Rc::new(Simulation {
        overload: Overload::new(config),
        workers: Semaphore::new(CAPACITY as usize),
        tallies: RefCell::default(),
    });
    let local = LocalSet::new();
    let made = Rc::clone(&simulation);
    local.spawn_local(async move {
        let begun = Instant::now();
        let mut next = begun;
        // A tenth each is voice, a half chat, of which one tenant sends four fifths, the rest batch.
        let mix = [
            (Class::Voice, "small"),
            (Class::Chat, "large"),
            (Class::Chat, "large"),
            (Class::Batch, "large"),
            (Class::Chat, "large"),
            (Class::Batch, "small"),
            (Class::Chat, "large"),
            (Class::Batch, "large"),
            (Class::Chat, "small"),
            (Class::Batch, "small"),
        ];
        for (class, tenant) in mix.into_iter().cycle() {
            let since = begun.elapsed();
            if since > Duration::from_secs(90) {
                break;
            }
            let factor = if since < Duration::from_secs(10) { 0.5 } else { times };
            let counted = since > Duration::from_secs(30);
            tokio::task::spawn_local(Rc::clone(&made).call(class, tenant, counted));
            next += Duration::from_secs_f64(1.0 / (KNEE * factor));
            tokio::time::sleep_until(next).await;
        }
    });
    local.await;
    simulation.tallies.take()
}

fn sum(tallies: &HashMap<(Class, &'static str), Tally>, of: impl Fn(&Tally) -> u32) -> f64 {
    f64::from(tallies.values().map(of).sum::<u32>())
}

#[tokio::test(start_paused = true)]
async fn at_twice_the_knee_goodput_holds_and_voice_waits_least() {
    let tallies = run(Config::default(), 2.0).await;
    let good = sum(&tallies, |tally| tally.good) / 60.0;
    assert!(good >= 0.9 * KNEE, "{good} a second: {tallies:?}");
    let voice = tallies[&(Class::Voice, "small")];
    assert!(f64::from(voice.good) >= 0.99 * f64::from(voice.offered), "{voice:?}");
    let [large, small] = ["large", "small"].map(|tenant| tallies[&(Class::Chat, tenant)]);
    assert!(voice.mean() < small.mean() && small.mean() < large.mean(), "{tallies:?}");
    assert!(voice.slowest <= TAKES * 4, "{voice:?}");
    // Chat is more than what is left; the tenant that asks for less than its share gets it all.
    assert!(f64::from(small.good) >= 0.99 * f64::from(small.offered), "{small:?}");
    assert!(large.good > 2 * small.good, "{tallies:?}");
    let batch = tallies.iter().filter(|((class, _), _)| *class == Class::Batch);
    let (refused, offered) = batch
        .fold((0, 0), |(refused, offered), (_, tally)| (refused + tally.refused, offered + tally.offered));
    assert!(f64::from(refused) >= 0.9 * f64::from(offered), "batch is refused first: {tallies:?}");
}

#[tokio::test(start_paused = true)]
async fn without_limits_the_same_load_is_answered_too_late() {
    // Ten times as much as anybody needs, to be sure that the simulation can tell.
    let config = Config { initial: 10_000, floor: 10_000, ceiling: 10_000, ..Config::default() };
    let tallies = run(config, 2.0).await;
    let good = sum(&tallies, |tally| tally.good) / 60.0;
    assert!(good < 0.5 * KNEE, "{good} a second: {tallies:?}");
    assert!(sum(&tallies, |tally| tally.late) > 0.0);
}

#[tokio::test(start_paused = true)]
async fn below_the_knee_nobody_is_refused() {
    let tallies = run(Config::default(), 0.8).await;
    assert!(sum(&tallies, |tally| tally.offered) > 0.79 * KNEE * 60.0);
    assert_eq!(sum(&tallies, |tally| tally.refused + tally.late), 0.0, "{tallies:?}");
}
