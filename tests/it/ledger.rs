//! The ledger as a process: what it acknowledged survives SIGKILL, and its commands find what was tampered with.

use std::path::Path;

use kill::record;
use switchboard_mesh::testing::{S3Server, call, context, serve};
use switchboard_proto::ledger::v1::{
    AppendRequest, NewRecord, RecordKind, ledger_service_client::LedgerServiceClient,
};

use crate::binary::{folder, json, run, stderr, switchboard};

#[path = "../../benches/ledger/kill.rs"]
mod kill;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kills() {
    let folder = folder();
    let program = Path::new(env!("CARGO_BIN_EXE_switchboard"));
    let outcome = kill::kill(program, folder.path(), 5, 7).await.unwrap();
    assert!(
        outcome.acknowledged > 0 && outcome.stored >= outcome.acknowledged - outcome.known,
        "{outcome:?}"
    );
}

/// Appends ten records for the tenant of commands; their ids.
async fn fill(data: &Path) -> Vec<String> {
    append(data, (0..10).map(record).collect()).await
}

/// Appends records for the tenant of commands; their ids.
async fn append(data: &Path, records: Vec<NewRecord>) -> Vec<String> {
    let context = context(data);
    let mounted = switchboard_ledger::start(Default::default(), &context).await.unwrap();
    let mut client = LedgerServiceClient::new(serve(&mounted));
    let ids = records.iter().map(|record| record.record_id.clone()).collect();
    client.append(call("default").request(AppendRequest { records })).await.unwrap();
    drop((client, mounted));
    context.drain(std::time::Duration::from_secs(5)).await;
    ids
}

fn tamper(data: &Path, sql: &str) {
    rusqlite::Connection::open(data.join("ledger/ledger.db")).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_says_by_its_status_and_by_name_what_was_changed() {
    let data = folder();
    let ids = fill(data.path()).await;
    let good = run(data.path(), &["ledger", "verify", "--json"]);
    let told = json(&good);
    assert_eq!(
        (&told["intact"], &told["records"], &told["signed_to"]),
        (&true.into(), &10.into(), &10.into())
    );
    tamper(data.path(), "UPDATE ledger_records SET turn = 'x' WHERE sequence = 4");
    let bad = run(data.path(), &["ledger", "verify"]);
    let text = String::from_utf8_lossy(&bad.stdout).into_owned();
    assert_eq!(bad.status.code(), Some(1), "{text}");
    assert!(text.contains("NOT INTACT") && text.contains("sequence 4") && text.contains(&ids[3]), "{text}");
    let none = run(&data.path().join("none"), &["ledger", "verify"]);
    assert!(!none.status.success() && stderr(&none).contains("no ledger"), "{}", stderr(&none));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_checked_with_the_public_key_alone() {
    let data = folder();
    let ids = fill(data.path()).await;
    let listed =
        run(data.path(), &["ledger", "query", "--kind", "route", "--limit", "3", "--oldest-first", "--json"]);
    let lines = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert_eq!(lines.lines().count(), 3, "{}", stderr(&listed));
    assert!(lines.lines().next().unwrap().contains(&ids[0]), "{lines}");
    let proof = run(data.path(), &["ledger", "prove", &ids[5]]);
    assert!(proof.status.success(), "{}", stderr(&proof));
    let file = data.path().join("proof.json");
    std::fs::write(&file, &proof.stdout).unwrap();
    let public = std::fs::read_to_string(data.path().join("ledger/keys/signing.pub")).unwrap();
    let elsewhere = folder();
    let check = |file: &Path, key: &str| {
        run(elsewhere.path(), &["ledger", "check-proof", file.to_str().unwrap(), "--public-key", key])
    };
    let good = check(&file, public.trim());
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stdout));
    assert_eq!(check(&file, &"7".repeat(64)).status.code(), Some(1));
    let mut changed: serde_json::Value = serde_json::from_slice(&proof.stdout).unwrap();
    changed["sequence"] = 5.into();
    std::fs::write(&file, changed.to_string()).unwrap();
    assert_eq!(check(&file, public.trim()).status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_to_the_place_that_is_named() {
    let data = folder();
    fill(data.path()).await;
    let usual = json(&run(data.path(), &["ledger", "export", "--json"]));
    assert_eq!(usual["records"], 10);
    let manifest = usual["manifest"].as_str().unwrap();
    assert!(data.path().join("ledger/export").join(manifest).is_file());
    let lake = data.path().join("lake");
    let told = json(&run(data.path(), &["ledger", "export", "--json", "--to", lake.to_str().unwrap()]));
    assert_eq!(told, usual);
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(lake.join(manifest)).unwrap()).unwrap();

    let mut server = S3Server::start(None);
    let export = |to: &str| {
        let mut command = switchboard(data.path());
        command.args(["ledger", "export", "--json", "--to", to, "--set"]);
        command.arg(format!("ledger.export.endpoint={}", server.url));
        command.env("SWITCHBOARD__LEDGER__EXPORT__CREDENTIALS", &server.credentials).output().unwrap()
    };
    assert_eq!(json(&export("s3://records/lake")), usual);
    let missing = export("s3://nowhere/lake");
    assert!(
        !missing.status.success() && stderr(&missing).contains("ledger.export.url"),
        "{}",
        stderr(&missing)
    );
    let secret = server.credentials.split_once(':').unwrap().1;
    assert!(!stderr(&missing).contains(secret), "{}", stderr(&missing));
    let held = server.objects();
    assert_eq!(held.len(), written["files"].as_array().unwrap().len() + 1);
    assert!(held.contains_key(&format!("lake/{manifest}")), "{held:?}");
    for file in written["files"].as_array().unwrap() {
        let object = &held[&format!("lake/{}", file["path"].as_str().unwrap())];
        assert_eq!((&object["sha256"], &object["bytes"]), (&file["sha256"], &file["bytes"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_listed_with_how_they_stand() {
    let data = folder();
    let outcome = |state: &str| NewRecord {
        kind: RecordKind::Outcome.into(),
        attributes: [("state".to_owned(), state.to_owned()), ("why".to_owned(), "score 5".to_owned())].into(),
        ..record(0)
    };
    append(data.path(), vec![record(1), outcome("confirmed"), outcome("reopened")]).await;
    let listed = run(data.path(), &["ledger", "query", "--kind", "outcome"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(" outcome ")).collect();
    assert!(lines.len() == 2 && lines[0].contains("state=reopened"), "{text}");
    assert!(lines[1].contains("state=confirmed why=score 5"), "{text}");
}
