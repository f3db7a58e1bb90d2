//! The service as its callers see it, in process.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use mesh::{Channel, testing::call};
use proto::ledger::v1::{
    Fault, NewRecord, Order, Record, RecordKind, Seal, Verdict, export_response,
    ledger_service_client::LedgerServiceClient, verify_response,
};
use ring::signature::{ED25519, UnparsedPublicKey};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use tonic::Code;
use uuid::Uuid;

use super::*;
use crate::{Config, chain::sha256, config::CheckpointConfig, merkle, start};

struct Bench {
    client: LedgerServiceClient<Channel>,
    context: mesh::Context,
    folder: tempfile::TempDir,
}

/// Signs as soon as there is anything.
static EAGER: LazyLock<Config> = LazyLock::new(|| Config {
    checkpoint: CheckpointConfig { records: 1, every: Duration::from_secs(60) },
    ..Config::default()
});

impl Bench {
    async fn new(config: Config) -> Self {
        Self::over(config, tempfile::tempdir().unwrap()).await
    }

    async fn over(config: Config, folder: tempfile::TempDir) -> Self {
        let context = mesh::testing::context(folder.path());
        let mounted = start(config, &context).await.unwrap();
        let client = LedgerServiceClient::new(mesh::testing::serve(&mounted));
        Self { client, context, folder }
    }

    /// Stops it; the folder stays.
    async fn stop(self) -> tempfile::TempDir {
        let Self { client, context, folder } = self;
        drop(client);
        context.drain(Duration::from_secs(5)).await;
        drop(context);
        folder
    }

    async fn append(&mut self, tenant: &str, records: Vec<NewRecord>) -> Result<Vec<v1::Receipt>, Status> {
        let request = call(tenant).request(AppendRequest { records });
        self.client.append(request).await.map(|answer| answer.into_inner().receipts)
    }

    async fn query(&mut self, tenant: &str, request: QueryRequest) -> Result<QueryResponse, Status> {
        self.client.query(call(tenant).request(request)).await.map(Response::into_inner)
    }

    async fn verify(&mut self, tenant: &str) -> Verdict {
        let mut parts =
            self.client.verify(call(tenant).request(VerifyRequest::default())).await.unwrap().into_inner();
        let mut last = None;
        while let Some(part) = parts.message().await.unwrap() {
            last = part.part;
        }
        match last {
            Some(verify_response::Part::Verdict(verdict)) => verdict,
            other => panic!("the last message is the verdict, not {other:?}"),
        }
    }
}

fn record(kind: RecordKind) -> NewRecord {
    NewRecord {
        record_id: Uuid::now_v7().to_string(),
        kind: kind.into(),
        conversation_id: "c1".into(),
        turn_id: "t1".into(),
        time: Some(draft::timestamp(1_700_000_000_000_001)),
        attributes: HashMap::from([("why".into(), "it was best".into())]),
        ..NewRecord::default()
    }
}

fn sealed(subject: &str, bytes: &[u8]) -> NewRecord {
    NewRecord { subject: subject.into(), sealed: bytes.to_vec(), ..record(RecordKind::ToolEffect) }
}

#[tokio::test]
async fn what_is_appended_is_there_after_a_restart() {
    let mut bench = Bench::new(Config::default()).await;
    let first = record(RecordKind::Turn);
    let feedback = NewRecord { refers_to: first.record_id.clone(), ..record(RecordKind::Feedback) };
    let receipts = bench.append("acme", vec![first.clone(), feedback.clone()]).await.unwrap();
    assert_eq!(receipts.iter().map(|receipt| receipt.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((receipts[0].tenant.as_str(), receipts[0].hash.len()), ("acme", 32));
    let folder = bench.stop().await;
    let mut bench = Bench::over(Config::default(), folder).await;
    let again = bench.append("acme", vec![first.clone()]).await.unwrap();
    assert!(again[0].repeated && again[0].hash == receipts[0].hash);
    let joined = QueryRequest { refers_to: first.record_id.clone(), ..QueryRequest::default() };
    let found = bench.query("acme", joined).await.unwrap().records;
    assert_eq!((found.len(), &found[0].record_id), (1, &feedback.record_id));
    assert_eq!(found[0].previous_hash, receipts[0].hash);
    let verdict = bench.verify("acme").await;
    assert!(verdict.intact && verdict.records == 2, "{verdict:?}");
    assert_eq!(verdict.signed_to, 2, "it was signed when it stopped");
}

#[tokio::test]
async fn other_content_under_an_id_is_refused() {
    let mut bench = Bench::new(Config::default()).await;
    let one = record(RecordKind::Route);
    bench.append("acme", vec![one.clone()]).await.unwrap();
    let other = NewRecord { stage: "other".into(), ..one };
    let status = bench.append("acme", vec![record(RecordKind::Turn), other.clone()]).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains(&other.record_id), "{status:?}");
    assert_eq!(bench.query("acme", QueryRequest::default()).await.unwrap().records.len(), 1);
    let bad = NewRecord { record_id: "1".into(), ..record(RecordKind::Turn) };
    let status = bench.append("acme", vec![bad]).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message().starts_with("records[0].record_id")),
        (Code::InvalidArgument, true)
    );
}

#[tokio::test]
async fn pages_go_through_all_records_either_way() {
    let mut bench = Bench::new(Config::default()).await;
    let records: Vec<_> = (0..25).map(|_| record(RecordKind::Route)).collect();
    bench.append("acme", records).await.unwrap();
    for (order, expected) in
        [(Order::OldestFirst, (1..=25).collect::<Vec<u64>>()), (Order::NewestFirst, (1..=25).rev().collect())]
    {
        let (mut seen, mut token) = (vec![], String::new());
        loop {
            let request = QueryRequest {
                order: order.into(),
                page_size: 10,
                page_token: token,
                ..QueryRequest::default()
            };
            let page = bench.query("acme", request).await.unwrap();
            seen.extend(page.records.iter().map(|record| record.sequence));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, expected);
    }
    for bad in [
        QueryRequest { page_size: 501, ..QueryRequest::default() },
        QueryRequest { page_token: "x".into(), ..QueryRequest::default() },
        QueryRequest { kinds: vec![77], ..QueryRequest::default() },
    ] {
        assert_eq!(bench.query("acme", bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn another_tenant_finds_nothing() {
    let mut bench = Bench::new(EAGER.clone()).await;
    let one = sealed("s", b"words");
    bench.append("acme", vec![one.clone()]).await.unwrap();
    let (id, globex) = (one.record_id.clone(), call("globex"));
    assert!(bench.query("globex", QueryRequest::default()).await.unwrap().records.is_empty());
    let get = GetRequest { record_id: id.clone(), sequence: 0 };
    assert_eq!(bench.client.get(globex.request(get)).await.unwrap_err().code(), Code::NotFound);
    let get = GetRequest { record_id: String::new(), sequence: 1 };
    assert_eq!(bench.client.get(globex.request(get)).await.unwrap_err().code(), Code::NotFound);
    let unseal = UnsealRequest { record_id: id.clone(), purpose: "look".into() };
    assert_eq!(bench.client.unseal(globex.request(unseal)).await.unwrap_err().code(), Code::NotFound);
    let prove = ProveRequest { record_id: id, checkpoint_sequence: 0 };
    assert_eq!(bench.client.prove(globex.request(prove)).await.unwrap_err().code(), Code::NotFound);
    let checkpoints = bench.client.checkpoints(globex.request(CheckpointsRequest::default())).await.unwrap();
    assert_eq!((checkpoints.get_ref().sequence, checkpoints.get_ref().checkpoints.len()), (0, 0));
    let verdict = bench.verify("globex").await;
    assert_eq!((verdict.intact, verdict.records), (true, 0));
    let erase = EraseSubjectRequest {
        subject: "s".into(),
        record_id: Uuid::now_v7().to_string(),
        reason: "asked".into(),
    };
    assert_eq!(bench.client.erase_subject(globex.request(erase)).await.unwrap().get_ref().records, 0);
    let unseal = UnsealRequest { record_id: one.record_id, purpose: "look".into() };
    let again = bench.client.unseal(call("acme").request(unseal)).await;
    assert_eq!(again.unwrap().into_inner().sealed, b"words");
}

#[tokio::test]
async fn an_erased_subject_cannot_be_read_and_the_chain_is_whole() {
    let mut bench = Bench::new(Config::default()).await;
    let (one, other) = (sealed("s", b"words"), sealed("t", b"others"));
    bench.append("acme", vec![one.clone(), other.clone()]).await.unwrap();
    let unseal = |id: &str| {
        call("acme").request(UnsealRequest { record_id: id.into(), purpose: "the customer asks".into() })
    };
    assert_eq!(bench.client.unseal(unseal(&one.record_id)).await.unwrap().into_inner().sealed, b"words");
    let erase = EraseSubjectRequest {
        subject: "s".into(),
        record_id: Uuid::now_v7().to_string(),
        reason: "the customer asked".into(),
    };
    let erased = bench.client.erase_subject(call("acme").request(erase.clone())).await.unwrap().into_inner();
    assert_eq!((erased.records, erased.receipt.as_ref().unwrap().sequence), (1, 3));
    let again = bench.client.erase_subject(call("acme").request(erase)).await.unwrap().into_inner();
    assert!(again.receipt.unwrap().repeated);
    let status = bench.client.unseal(unseal(&one.record_id)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(bench.client.unseal(unseal(&other.record_id)).await.unwrap().into_inner().sealed, b"others");
    let records = bench.query("acme", QueryRequest::default()).await.unwrap().records;
    let seals: Vec<_> = records.iter().map(Record::seal).collect();
    assert_eq!(seals, [Seal::None, Seal::Kept, Seal::Erased]);
    assert_eq!((records[0].kind(), records[0].subject.as_str()), (RecordKind::Erasure, "s"));
    assert!(bench.verify("acme").await.intact);
    let plain = record(RecordKind::Turn);
    bench.append("acme", vec![plain.clone()]).await.unwrap();
    let status = bench.client.unseal(unseal(&plain.record_id)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "it has no sealed bytes");
}

/// Checks a proof with nothing but the contract and the public key.
#[tokio::test]
async fn a_proof_holds_without_the_service() {
    let mut bench = Bench::new(EAGER.clone()).await;
    let records: Vec<_> = (0..13).map(|_| record(RecordKind::PolicyDecision)).collect();
    bench.append("acme", records.clone()).await.unwrap();
    // Signed by the task between transactions: the next transaction is after it.
    bench.append("acme", vec![record(RecordKind::Turn)]).await.unwrap();
    let public = std::fs::read_to_string(bench.folder.path().join("ledger/keys/signing.pub")).unwrap();
    let public = crate::hex::decode::<32>(public.trim()).unwrap();
    for one in &records {
        let request = ProveRequest { record_id: one.record_id.clone(), checkpoint_sequence: 13 };
        let proof = bench.client.prove(call("acme").request(request)).await.unwrap().into_inner();
        let (record, checkpoint) = (proof.record.unwrap(), proof.checkpoint.unwrap());
        let hash = sha256(&[b"switchboard.ledger.record.v1\0", &record.previous_hash, &record.content]);
        assert_eq!(hash[..], record.hash[..]);
        let path: Vec<[u8; 32]> = proof.path.iter().map(|hash| hash[..].try_into().unwrap()).collect();
        let root: [u8; 32] = checkpoint.root[..].try_into().unwrap();
        assert!(merkle::verify(&hash, record.sequence - 1, checkpoint.sequence, &path, &root));
        let time = checkpoint.time.unwrap();
        let micros = time.seconds * 1_000_000 + i64::from(time.nanos / 1000);
        let mut signed = b"switchboard.ledger.checkpoint.v1\0".to_vec();
        for part in [
            checkpoint.tenant.as_bytes(),
            &checkpoint.sequence.to_be_bytes(),
            &checkpoint.head,
            &checkpoint.root,
            &micros.to_be_bytes(),
            checkpoint.key_id.as_bytes(),
        ] {
            signed.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
            signed.extend_from_slice(part);
        }
        UnparsedPublicKey::new(&ED25519, public).verify(&signed, &checkpoint.signature).unwrap();
    }
}

#[tokio::test]
async fn tampering_while_it_ran_and_while_it_did_not_is_told() {
    let mut bench = Bench::new(Config::default()).await;
    let records: Vec<_> = (0..5).map(|_| record(RecordKind::Route)).collect();
    bench.append("acme", records.clone()).await.unwrap();
    let database = bench.folder.path().join("ledger/ledger.db");
    let tamper = |sql: &str| rusqlite::Connection::open(&database).unwrap().execute_batch(sql).unwrap();
    tamper("UPDATE ledger_records SET turn = 't2' WHERE sequence = 4");
    let verdict = bench.verify("acme").await;
    assert_eq!((verdict.intact, verdict.fault(), verdict.sequence), (false, Fault::Edited, 4));
    assert_eq!(verdict.record_id, records[3].record_id);
    tamper("UPDATE ledger_records SET turn = 't1' WHERE sequence = 4");
    let folder = bench.stop().await;
    // Everything is taken away: only the signed heads know that there was something.
    tamper("DELETE FROM ledger_records; DELETE FROM ledger_heads; DELETE FROM ledger_checkpoints");
    let mut bench = Bench::over(Config::default(), folder).await;
    let verdict = bench.verify("acme").await;
    assert_eq!((verdict.fault(), verdict.sequence, verdict.last_sequence), (Fault::Cut, 1, 5));
    // New records do not cover it up.
    bench.append("acme", vec![record(RecordKind::Route)]).await.unwrap();
    let folder = bench.stop().await;
    let mut bench = Bench::over(Config::default(), folder).await;
    let records: Vec<_> = (0..9).map(|_| record(RecordKind::Route)).collect();
    bench.append("acme", records).await.unwrap();
    assert!(!bench.verify("acme").await.intact);
    let offline = crate::offline::Folder::open(bench.folder.path(), &Config::default(), &[]).unwrap();
    let tenants = offline.tenants().await.unwrap();
    assert_eq!(tenants.iter().map(Tenant::as_str).collect::<Vec<_>>(), ["acme"]);
    assert!(!offline.verify(&tenants[0], 1, &mut |_, _| ()).await.unwrap().intact);
}

#[tokio::test]
async fn an_export_is_told_of_as_it_goes() {
    let mut bench = Bench::new(EAGER.clone()).await;
    let refused = bench
        .client
        .export(call("acme").request(ExportRequest::default()))
        .await
        .unwrap()
        .into_inner()
        .message()
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    bench.append("acme", vec![sealed("s", b"words")]).await.unwrap();
    bench.append("acme", vec![record(RecordKind::Turn)]).await.unwrap();
    let mut parts =
        bench.client.export(call("acme").request(ExportRequest::default())).await.unwrap().into_inner();
    let mut last = None;
    while let Some(part) = parts.message().await.unwrap() {
        last = part.part;
    }
    let Some(export_response::Part::Summary(summary)) = last else { panic!("{last:?}") };
    assert!(summary.records >= 1 && summary.checkpoint_sequence == summary.records);
    assert!(bench.folder.path().join("ledger/export").join(&summary.files[0]).is_file());
}

#[tokio::test]
async fn a_folder_has_one_process_and_a_bad_key_says_so() {
    let bench = Bench::new(Config::default()).await;
    let second = start(Config::default(), &mesh::testing::context(bench.folder.path())).await.err().unwrap();
    assert!(second.source.to_string().contains("in use"), "{}", second.source);
    let folder = bench.stop().await;
    std::fs::write(folder.path().join("ledger/keys/master.keys"), "first:00").unwrap();
    let bad = start(Config::default(), &mesh::testing::context(folder.path())).await.err().unwrap();
    assert!(bad.source.to_string().starts_with("ledger.master_keys"), "{}", bad.source);
}

/// A new master key would open nothing of what the lost one wraps.
#[tokio::test]
async fn a_lost_master_key_is_not_made_anew() {
    let mut bench = Bench::new(Config::default()).await;
    bench.append("acme", vec![sealed("s", b"words")]).await.unwrap();
    let folder = bench.stop().await;
    let (file, copy) = (folder.path().join("ledger/keys/master.keys"), folder.path().join("copy"));
    std::fs::rename(&file, &copy).unwrap();
    for _ in 0..2 {
        let lost = start(Config::default(), &mesh::testing::context(folder.path())).await.err().unwrap();
        assert!(lost.source.to_string().contains("put a copy of it back"), "{}", lost.source);
        assert!(!file.exists());
    }
    std::fs::rename(&copy, &file).unwrap();
    assert!(Bench::over(Config::default(), folder).await.verify("acme").await.intact);
}
