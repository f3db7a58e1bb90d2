//! `up --processes`: a process for each role.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use switchboard_mesh::testing::EtcdServer;

use crate::binary::{Up, documents, folder, json, run, stderr};

/// Longer than a process takes to be started again, on a busy machine.
const BACK: Duration = Duration::from_secs(30);

fn signal(id: u64, signal: &str) -> bool {
    let kill = Command::new("kill").args([signal, &id.to_string()]).output().unwrap();
    kill.status.success()
}

fn ids(ready: &Value) -> Vec<(String, u64)> {
    let id =
        |process: &Value| (process["role"].as_str().unwrap().to_owned(), process["pid"].as_u64().unwrap());
    ready["processes"].as_array().unwrap().iter().map(id).collect()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < BACK, "{what}: not within {BACK:?}");
    }
}

#[test]
fn a_mesh_of_processes_answers_and_one_that_is_killed_comes_back() {
    let data = folder();
    let mut up = Up::with(data.path(), &["--processes"]);
    let processes = ids(&up.ready);
    assert_eq!(processes.len(), 9, "eight roles and the gateway: {processes:?}");
    let docs = documents(3);
    let stored = json(&up.client(data.path(), &["ingest", docs.path().to_str().unwrap()]));
    assert_eq!(stored["created"], 3);
    let ask = || up.client(data.path(), &["ask", "From which hall is parcel 2 sent?"]);
    let turn = json(&ask());
    assert_eq!((&turn["outcome"], &turn["degraded"]), (&"answered".into(), &Value::Array(vec![])));

    let (_, generation) = processes.iter().find(|(role, _)| role == "generation").unwrap();
    assert!(signal(*generation, "-KILL"));
    eventually("the role answers again", || {
        let output = ask();
        output.status.success() && json(&output)["outcome"] == "answered"
    });

    up.signal("-TERM");
    assert_eq!(up.wait().code(), Some(0));
    for (role, id) in &processes {
        assert!(!signal(*id, "-0"), "{role} outlived `up`");
    }
}

#[test]
fn nobody_outlives_an_up_that_is_killed() {
    let data = folder();
    let mut up = Up::with(data.path(), &["--processes"]);
    let processes = ids(&up.ready);
    up.signal("-KILL");
    up.wait();
    eventually("every process drains", || processes.iter().all(|(_, id)| !signal(*id, "-0")));
}

#[test]
fn nodes_shows_who_is_there_and_who_is_not() {
    let data = folder();
    let up = Up::with(data.path(), &["--processes"]);
    // The certificate of the operator, and where everybody is.
    let operator = up.text("operator_config");
    let processes = up.ready["processes"].as_array().unwrap();
    let policy = processes.iter().find(|process| process["role"] == "policy").unwrap();
    // Nobody listens on the discard port of loopback.
    let peers = format!("peers.policy={},http://127.0.0.1:9", policy["grpc"].as_str().unwrap());
    let arguments = ["--config", operator, "nodes", "--set", &peers];
    let nodes = json(&run(data.path(), &[&arguments[..], &["--json"]].concat()));
    let of = |role: &'static str| nodes.as_array().unwrap().iter().filter(move |node| node["role"] == role);
    let model = of("inference").next().unwrap();
    assert_eq!((&model["state"], &model["source"]), (&"serving".into(), &"fixed".into()), "{model}");
    assert!(!model["about"]["models"].as_object().unwrap().is_empty(), "{model}");
    let states: Vec<bool> = of("policy").map(|node| node["state"] == "serving").collect();
    assert_eq!(states, [true, false], "{nodes}");
    // Without a certificate nobody is told anything.
    let plain = json(&run(data.path(), &["nodes", "--set", &peers, "--json"]));
    assert!(plain.as_array().unwrap().iter().all(|node| node["state"] != "serving"), "{plain}");
    let table = run(data.path(), &["nodes"]);
    let shown = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.status.success() && shown.contains("No node is known"), "{shown}{}", stderr(&table));
}

#[test]
fn processes_meet_in_a_registry_and_do_without_it() {
    let mut etcd = EtcdServer::start();
    let data = folder();
    let set = format!("discovery.etcd={}", etcd.url());
    let up = Up::with(data.path(), &["--processes", "--set", &set, "--set", "discovery.ttl=2s"]);
    let docs = documents(3);
    let ask = || json(&up.client(data.path(), &["ask", "From which hall is parcel 2 sent?"]));
    let stored = json(&up.client(data.path(), &["ingest", docs.path().to_str().unwrap()]));
    assert_eq!(stored["created"], 3);
    let turn = ask();
    assert_eq!((&turn["outcome"], &turn["degraded"]), (&"answered".into(), &Value::Array(vec![])));
    let arguments = ["--config", up.text("operator_config"), "nodes"];
    let nodes = json(&run(data.path(), &[&arguments[..], &["--json"]].concat()));
    let nodes = nodes.as_array().unwrap();
    assert_eq!(nodes.len(), 8, "{nodes:?}");
    assert!(nodes.iter().all(|node| node["state"] == "serving" && node["source"] == "registry"), "{nodes:?}");
    let shown = run(data.path(), &arguments);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("all-MiniLM-L6-v2"), "{shown:?}");

    // Without the registry, for longer than leases last, everybody is known as before.
    etcd.kill();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        let turn = ask();
        assert_eq!((&turn["outcome"], &turn["degraded"]), (&"answered".into(), &Value::Array(vec![])));
    }
}
