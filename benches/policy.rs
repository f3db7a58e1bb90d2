//! How long does a decision take?
//!
//! The example bundles are asked as a node asks them, one caller, each question with facts of its own, so that
//! nothing is remembered from the one before: whether a tool may be called, whether a model may be used, what
//! to do with a question and with a draft (detectors and checks of drafts included). The goal is a warm decision of the bank in at most 100 microseconds at p99.

#![expect(clippy::print_stdout, reason = "a benchmark's table is for people")]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use switchboard_mesh::Tenant;
use switchboard_policy::{
    Config, Direction,
    bundles::Bundles,
    detectors::{Heard, Source},
    judge::{About, Judge, Text},
};

/// Decisions that are measured, after a tenth as many that are not.
const ROUNDS: usize = 20_000;

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/policy");
    let names = ["retail", "bank", "clinic"];
    let config = Config {
        bundles: folder.clone(),
        tenants: names.map(|name| (name.to_owned(), name.to_owned())).into(),
        ..Config::default()
    };
    let began = Instant::now();
    let bundles = Arc::new(Bundles::open(&config).expect("the examples are sound"));
    println!("base and three bundles read, compiled and tested: {:?}", began.elapsed());
    let judge = Judge::new(bundles);
    println!("{:<44} {:>9} {:>9} {:>9} {:>9}", "microseconds", "p50", "p99", "p99.9", "a second");
    for name in ["default", "retail", "bank", "clinic"] {
        let tenant = Tenant::try_new(name).expect("a tenant's name");
        measure(&format!("{name}: may a tool be called"), |round| tool(&judge, &tenant, round));
    }
    let bank = Tenant::try_new("bank").expect("a tenant's name");
    measure("bank: may a model be used", |round| {
        let facts = [
            ("locality", "outside".to_owned()),
            ("redacted", "true".to_owned()),
            ("tokens", round.to_string()),
        ];
        std::hint::black_box(judge.decide(&bank, "model.use", object(facts)));
    });
    measure("bank: a question", |round| {
        let text = format!("What is the interest on {round} euros in a savings account?");
        inspect(&judge, &bank, &text, Direction::Input);
    });
    measure("bank: a draft with a disclosure", |round| {
        let text = format!("The interest on savings is 4.1% APY, on {round} dollars as well.");
        inspect(&judge, &bank, &text, Direction::Output);
    });
}

fn object<const N: usize>(facts: [(&str, String); N]) -> regorus::Value {
    let facts = facts.into_iter().map(|(name, value)| (name.into(), value.into()));
    regorus::Value::from(facts.collect::<std::collections::BTreeMap<regorus::Value, regorus::Value>>())
}

fn tool(judge: &Judge, tenant: &Tenant, round: usize) {
    let facts = [
        ("tool", "transfer_own_accounts".to_owned()),
        ("effect", "reversible".to_owned()),
        ("identity", "strong".to_owned()),
        ("amount", (round % 700).to_string()),
    ];
    std::hint::black_box(judge.decide(tenant, "tool.call", object(facts)));
}

fn inspect(judge: &Judge, tenant: &Tenant, text: &str, direction: Direction) {
    let about = About {
        conversation: "bench".to_owned(),
        product: "savings".to_owned(),
        jurisdiction: "US-CA".to_owned(),
        locale: "en".to_owned(),
        ..About::default()
    };
    let heard = Heard::default();
    let source = Source::Customer;
    let text = Text { written: text, redacted: text, direction, source, about: &about, heard: &heard };
    std::hint::black_box(judge.inspect(tenant, &text));
}

fn measure(what: &str, mut round: impl FnMut(usize)) {
    (0..ROUNDS / 10).for_each(&mut round);
    let mut times: Vec<Duration> = Vec::with_capacity(ROUNDS);
    let began = Instant::now();
    for at in 0..ROUNDS {
        let began = Instant::now();
        round(at);
        times.push(began.elapsed());
    }
    let rate = ROUNDS as f64 / began.elapsed().as_secs_f64();
    times.sort();
    let at = |part: f64| times[((ROUNDS - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    println!("{what:<44} {:>9.1} {:>9.1} {:>9.1} {rate:>9.0}", at(0.5), at(0.99), at(0.999));
}
