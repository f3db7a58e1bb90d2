//! `switchboard policy` over the built binary: the example bundles, and ones that are not sound.

use std::{fs, path::Path, process::Output};

use serde_json::Value;

use crate::binary::{folder, json, run};

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/policy").join(name).display().to_string()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn explain(arguments: &[&str]) -> Value {
    let data = folder();
    json(&run(data.path(), &[&["policy", "explain", "--json"], arguments].concat()))
}

#[test]
fn the_examples_are_sound_and_their_tests_pass() {
    let data = folder();
    let bundles = ["base", "retail", "bank", "clinic"].map(example);
    let bundles: Vec<&str> = bundles.iter().map(String::as_str).collect();
    let checked = json(&run(data.path(), &[&["policy", "check", "--json"], &bundles[..]].concat()));
    assert_eq!(checked.as_array().unwrap().len(), 4);
    let tests = json(&run(data.path(), &[&["policy", "test", "--json"], &bundles[..]].concat()));
    let tests = tests.as_array().unwrap();
    assert!(tests.len() > 30 && tests.iter().all(|test| test["passed"] == true), "{tests:?}");
}

#[test]
fn what_is_wrong_is_told_with_file_and_line_and_fails() {
    let data = folder();
    let own = data.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("bundle.toml"), "version = \"1\"").unwrap();
    fs::write(own.join("own.rego"), "package switchboard\n\ntool contains {\"rule\": \"a\"\n").unwrap();
    let path = own.display().to_string();
    let checked = run(data.path(), &["policy", "check", &path]);
    assert!(!checked.status.success() && stdout(&checked).contains("own/own.rego:"), "{}", stdout(&checked));
    let rules = "package switchboard\n\ntool contains {\"rule\": \"a\", \"verdict\": \"refuse\"}\n";
    fs::write(own.join("own.rego"), rules).unwrap();
    let test = "package switchboard_test\n\ntest_it if {\n\tcount(data.switchboard.tool) == 7\n}\n";
    fs::write(own.join("own_test.rego"), test).unwrap();
    let tested = run(data.path(), &["policy", "test", &path]);
    assert!(
        !tested.status.success() && stdout(&tested).contains("own/own_test.rego:3"),
        "{}",
        stdout(&tested)
    );
    assert!(stdout(&tested).contains("0 of 1 tests pass"));
}

#[test]
fn a_text_is_explained_with_the_rules_that_decided() {
    let bank = example("bank");
    let urgent = explain(&["--bundle", &bank, "My card was stolen, it is 4111 1111 1111 1111"]);
    assert_eq!(
        (&urgent["verdict"], &urgent["rules"][0]["rule"]),
        (&"hand_off".into(), &"card.urgent".into())
    );
    assert!(urgent["findings"].as_array().unwrap().iter().any(|found| found["kind"] == "card"), "{urgent}");
    assert!(!urgent.to_string().contains("4111"), "{urgent}");
    let draft = ["--direction", "output", "--product", "savings", "--jurisdiction", "GB", "The rate is 4%."];
    let draft = explain(&[&["--bundle", &bank], &draft[..]].concat());
    assert!(draft["disclosures"][0]["text"].as_str().unwrap().contains("FSCS"), "{draft}");
    // The base alone: nobody has forbidden to speak of rates.
    let base = explain(&["--direction", "output", "The rate is 4%."]);
    assert_eq!((&base["verdict"], base["rules"].as_array().unwrap().len()), (&"allow".into(), 0));
}

#[test]
fn an_action_is_explained_with_what_was_taken_back() {
    let facts = r#"{"tool": "refund_order", "effect": "reversible", "identity": "verified", "amount": 20}"#;
    let retail = example("retail");
    let refund = explain(&["--bundle", &retail, "--action", "tool.call", "--facts", facts]);
    assert_eq!(refund["verdict"], "allow", "{refund}");
    let parts: Vec<(&str, &str)> = refund["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (rule["rule"].as_str().unwrap(), rule["part"].as_str().unwrap()))
        .collect();
    assert_eq!(parts, [("refund.small", "decides"), ("tool.amount", "taken back by the tenant")]);
    let more =
        explain(&["--bundle", &retail, "--action", "tool.call", "--facts", facts, "--fact", "amount=5000"]);
    assert_eq!(more["verdict"], "hand_off");
    let keep =
        explain(&["--bundle", &example("clinic"), "--action", "data.keep", "--fact", "data=conversation"]);
    assert_eq!(keep["keep_days"], 7.0);
    let data = folder();
    let text = stdout(&run(data.path(), &["policy", "explain", "--action", "no.such"]));
    assert!(text.contains("no rule allows it") && text.contains("refuse"), "{text}");
}
