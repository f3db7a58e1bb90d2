use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::{
    super::{Config, load::Load, random::Random},
    *,
};

fn candidate(index: usize, cost: f64) -> Candidate {
    Candidate {
        index,
        cost,
        unknown: 0.0,
        latency: None,
        typical: None,
        share: 1.0,
        near: false,
        busy: false,
        standing: Standing::Up,
    }
}

/// How many of a thousand calls each candidate gets.
fn thousand(all: &[Candidate], zoned: bool) -> Vec<usize> {
    let random = Random::new(Some(7));
    let mut counts = vec![0; all.len()];
    for _ in 0..1000 {
        counts[choose(all, zoned, &mut || random.next()).unwrap().0] += 1;
    }
    counts
}

#[test]
fn the_cheaper_of_two_is_taken_and_a_tie_is_left_to_chance() {
    assert_eq!(thousand(&[candidate(0, 1.0), candidate(1, 2.0)], false), [1000, 0]);
    let counts = thousand(&[candidate(0, 1.0), candidate(1, 1.0)], false);
    assert!(counts.iter().all(|count| (400..600).contains(count)), "{counts:?}");
}

#[test]
fn a_node_that_has_not_answered_yet_is_taken_for_one_like_the_others() {
    let known = |index, seconds| Candidate { latency: Some(seconds), ..candidate(index, seconds) };
    let new = Candidate { unknown: 2.0, ..candidate(2, 0.5) };
    let mut all = [known(0, 1.0), known(1, 3.0), new];
    price(&mut all, 100.0);
    assert_eq!(all.map(|candidate| candidate.cost), [1.0, 3.0, 4.5]);
    let mut alone = [new];
    price(&mut alone, 100.0);
    assert!((alone[0].cost - 200.5).abs() < 1e-9);
}

#[test]
fn a_new_node_is_dear_at_first() {
    let new = Candidate { share: 0.1, ..candidate(1, 1.0) };
    assert_eq!(thousand(&[candidate(0, 9.0), new], false), [1000, 0]);
    assert_eq!(thousand(&[candidate(0, 11.0), new], false), [0, 1000]);
}

#[test]
fn of_two_nodes_the_one_that_is_out_gets_nothing() {
    let out = Candidate { standing: Standing::Ejected, ..candidate(0, 0.1) };
    assert_eq!(thousand(&[out, candidate(1, 100.0)], false), [0, 1000]);
}

#[test]
fn when_most_are_out_being_out_is_no_reason_but_being_away_is() {
    let with = |standing, index| Candidate { standing, ..candidate(index, 1.0) };
    let all = [with(Standing::Ejected, 0), with(Standing::Away, 1), with(Standing::Up, 2)];
    let counts = thousand(&all, false);
    assert!(counts[0] > 300 && counts[1] == 0 && counts[2] > 300, "{counts:?}");
    let away = [with(Standing::Away, 0), with(Standing::Away, 1)];
    assert!(thousand(&away, false).iter().all(|count| *count > 300));
}

#[test]
fn the_own_zone_is_preferred_while_it_has_enough() {
    let near = |index, cost| Candidate { near: true, ..candidate(index, cost) };
    let far = |index, cost| Candidate { typical: Some(1.0), ..candidate(index, cost) };
    assert_eq!(thousand(&[near(0, 2.0), far(1, 1.0)], true), [1000, 0], "a little dearer is no reason");
    assert_eq!(thousand(&[near(0, 4.0), far(1, 1.0)], true), [0, 1000], "much dearer is");
    assert_eq!(thousand(&[near(0, 4.0), far(1, 0.01)], true), [0, 1000]);
    // An estimate that faded tells nothing of how fast a node is.
    assert_eq!(thousand(&[near(0, 2.9), far(1, 0.0)], true), [1000, 0]);
    let busy = Candidate { busy: true, ..near(0, 1.0) };
    assert_eq!(thousand(&[busy, far(1, 1.0)], true), [0, 1000]);
    let out = |index| Candidate { standing: Standing::Ejected, ..near(index, 1.0) };
    let counts = thousand(&[near(0, 1.0), out(1), far(2, 1.0)], true);
    assert_eq!(counts[2], 0, "half a zone is enough");
    let counts = thousand(&[near(0, 1.0), out(1), out(2), far(3, 1.0), far(4, 1.0), far(5, 1.0)], true);
    assert!(counts[3] > 100, "a third is not: {counts:?}");
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![Just(Standing::Up), Just(Standing::Ejected), Just(Standing::Away)]
}

proptest! {
    #[test]
    fn a_pick_is_a_candidate_and_out_only_if_most_are(
        nodes in prop::collection::vec((0.0..10.0f64, standing(), any::<bool>(), any::<bool>()), 0..12),
        seed in any::<u64>(),
    ) {
        let all: Vec<Candidate> = nodes
            .iter()
            .enumerate()
            .map(|(index, (cost, standing, near, busy))| Candidate {
                standing: *standing, near: *near, busy: *busy, ..candidate(index, *cost)
            })
            .collect();
        let random = Random::new(Some(seed));
        let zoned = all.iter().any(|c| c.near);
        match choose(&all, zoned, &mut || random.next()) {
            None => prop_assert!(all.is_empty()),
            Some((index, why)) => {
                let up = all.iter().filter(|c| c.standing == Standing::Up).count();
                let chosen = all[index];
                if up * 2 >= all.len() {
                    prop_assert_eq!(chosen.standing, Standing::Up);
                }
                if chosen.standing == Standing::Away {
                    prop_assert_eq!(why, Why::Last);
                    prop_assert!(all.iter().all(|c| c.standing == Standing::Away));
                }
            }
        }
    }
}

/// A node that works on one call after the other.
struct Server {
    takes: Duration,
    fails: bool,
    free_at: Instant,
    load: Load,
    calls: usize,
}

/// Sends calls at a steady pace for `seconds`, and returns how many each node got.
fn simulate(takes: &[(u64, bool)], every: Duration, seconds: u64) -> Vec<usize> {
    let (config, random, began) = (Config::default(), Random::new(Some(1)), Instant::now());
    let mut servers: Vec<Server> = takes
        .iter()
        .map(|(micros, fails)| Server {
            takes: Duration::from_micros(*micros),
            fails: *fails,
            free_at: began,
            load: Load::default(),
            calls: 0,
        })
        .collect();
    // When each call under way ends, at which node, and when it began.
    let mut under_way: Vec<(Instant, usize, Instant)> = Vec::new();
    let mut now = began;
    while now < began + Duration::from_secs(seconds) {
        under_way.sort_by(|a, b| b.cmp(a));
        while let Some((ends, index, sent)) = under_way.last().copied().filter(|(ends, ..)| *ends <= now) {
            under_way.pop();
            let server = &mut servers[index];
            server.load.in_flight -= 1;
            if server.fails {
                server.load.penalise(config.penalty, ends);
            } else {
                server.load.observe(ends - sent, ends, config.decay);
            }
        }
        let all: Vec<Candidate> = servers
            .iter()
            .enumerate()
            .map(|(index, server)| {
                let each = server.load.latency(now, config.decay).unwrap_or(0.01) + server.load.penalty(now);
                candidate(index, each * f64::from(server.load.in_flight + 1))
            })
            .collect();
        let (index, _) = choose(&all, false, &mut || random.next()).unwrap();
        let server = &mut servers[index];
        server.calls += 1;
        server.load.in_flight += 1;
        server.free_at = server.free_at.max(now) + server.takes;
        under_way.push((server.free_at, index, now));
        now += every;
    }
    servers.into_iter().map(|server| server.calls).collect()
}

#[test]
fn a_node_that_fails_fast_gets_almost_nothing() {
    // It answers in a tenth of the others' time, and each answer is a failure.
    let counts = simulate(&[(10_000, false), (1_000, true), (10_000, false)], Duration::from_millis(6), 60);
    let all: usize = counts.iter().sum();
    assert!(counts[1] * 100 < all, "{counts:?}");
}

#[test]
fn load_is_spread_by_speed() {
    // 1,000, 500 and 100 calls a second can be done; 1,200 are asked for.
    let counts = simulate(&[(1_000, false), (2_000, false), (10_000, false)], Duration::from_micros(833), 60);
    let all: usize = counts.iter().sum();
    let share = |index: usize| counts[index] as f64 / all as f64;
    assert!((0.5..0.8).contains(&share(0)), "{counts:?}");
    assert!((0.2..0.42).contains(&share(1)), "{counts:?}");
    assert!(share(2) < 0.0834, "no more than it can do: {counts:?}");
}
