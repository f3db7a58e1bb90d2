//! One suite for every store: what is written, found, verified, and found to be tampered with.

use std::{path::Path, sync::Arc};

use mesh::{Tenant, testing::PostgresServer};
use sqlx::{AssertSqlSafe, PgPool};
use switchboard_mesh as mesh;
use switchboard_proto::ledger::v1::{Fault, RecordKind};
use tokio::task::JoinSet;

use super::{Filter, Store, Which, postgres::Postgres, sqlite::Sqlite};
use crate::{
    chain::{self, Content},
    checkpoint::{Signer, Trusted},
    error::Error,
    heads::Heads,
    hex, merkle,
    plan::{
        Batch, Head, Receipt,
        tests::{draft, masters},
    },
    prove,
    seal::Masters,
    verify::{self, Bad, Verdict},
};

/// A store and a way around it.
struct Bench {
    store: Arc<dyn Store>,
    back: Back,
    folder: tempfile::TempDir,
    signer: Signer,
}

/// How somebody who has the database changes it.
enum Back {
    Sqlite(std::path::PathBuf),
    Postgres(PgPool),
}

impl Bench {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open(folder.path(), masters()).unwrap());
        let back = Back::Sqlite(folder.path().join(super::sqlite::FILE));
        Self { store, back, folder, signer: Signer::try_new(&[1; 32]).unwrap() }
    }

    async fn postgres(server: &PostgresServer) -> Self {
        let store = Arc::new(Postgres::open(&server.url(), 4, masters()).await.unwrap());
        let back = Back::Postgres(PgPool::connect(&server.url()).await.unwrap());
        Self { store, back, folder: tempfile::tempdir().unwrap(), signer: Signer::try_new(&[1; 32]).unwrap() }
    }

    fn heads(&self) -> std::path::PathBuf {
        self.folder.path().join("heads")
    }

    /// Runs statements past the store.
    async fn tamper(&self, sql: &str) {
        match &self.back {
            Back::Sqlite(path) => rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap(),
            Back::Postgres(pool) => {
                sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.unwrap();
            }
        }
    }

    /// Bytes in a statement.
    fn bytes(&self, bytes: &[u8]) -> String {
        match self.back {
            Back::Sqlite(_) => format!("x'{}'", hex::encode(bytes)),
            Back::Postgres(_) => format!("'\\x{}'::bytea", hex::encode(bytes)),
        }
    }

    async fn append(&self, tenant: &str, numbers: std::ops::Range<u128>) -> Vec<Receipt> {
        let drafts = numbers.map(draft).collect();
        let mut appended =
            self.store.append(vec![Batch { tenant: name(tenant), drafts }], 1_000).await.unwrap();
        appended.outcomes.pop().unwrap().unwrap()
    }

    /// Signs what is there, in the store and outside.
    async fn sign(&self, tenant: &str) {
        let head = self.store.head(&name(tenant)).await.unwrap();
        let checkpoint = self.signer.sign(tenant, &head, 0);
        Heads::open(&self.heads()).unwrap().append(std::slice::from_ref(&checkpoint)).unwrap();
        self.store.add_checkpoints(vec![checkpoint]).await.unwrap();
    }

    async fn verify(&self, tenant: &str) -> Verdict {
        self.verify_with(tenant, &self.heads(), &Trusted::new([self.signer.public()])).await
    }

    async fn verify_with(&self, tenant: &str, heads: &Path, trusted: &Trusted) -> Verdict {
        verify::verify(&*self.store, heads, trusted, &name(tenant), 1, &mut |_, _| ()).await.unwrap()
    }

    async fn bad(&self, tenant: &str) -> Bad {
        self.verify(tenant).await.bad.expect("tampering is found")
    }
}

fn name(tenant: &str) -> Tenant {
    Tenant::try_new(tenant).unwrap()
}

#[tokio::test]
async fn sqlite_keeps_the_promises_of_a_store() {
    suite(&Bench::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_promises_of_a_store() {
    let server = PostgresServer::start();
    let bench = Bench::postgres(&server).await;
    suite(&bench).await;
    two_nodes_keep_one_chain(&server, &bench).await;
    a_server_that_comes_back_goes_on(server, &bench).await;
}

/// Each case has a tenant of its own.
async fn suite(bench: &Bench) {
    records_are_found_again(bench).await;
    a_repeat_changes_nothing(bench).await;
    a_filter_takes_what_it_says(bench).await;
    tenants_never_meet(bench).await;
    an_erasure_leaves_the_chain_whole(bench).await;
    a_master_key_can_be_changed(bench).await;
    every_record_is_proved(bench).await;
    an_edit_is_named(bench).await;
    a_swap_is_named(bench).await;
    a_gap_is_named(bench).await;
    a_cut_is_named(bench).await;
    a_chain_made_again_is_named(bench).await;
    a_bad_checkpoint_is_named(bench).await;
    a_row_outside_the_chain_is_named(bench).await;
    a_key_that_is_gone_without_an_erasure_is_named(bench).await;
    a_damaged_tenant_does_not_stop_others(bench).await;
    a_scan_is_bounded_by_its_bytes(bench).await;
}

async fn records_are_found_again(bench: &Bench) {
    let tenant = name("found");
    let first = bench.append("found", 0..3).await;
    let second = bench.append("found", 3..4).await;
    assert_eq!(first.iter().chain(&second).map(|receipt| receipt.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let rows = bench.store.scan(&tenant, 2, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), [2, 3, 4]);
    let by_id = bench.store.find(&tenant, Which::Id(draft(2).id)).await.unwrap().unwrap();
    let by_place = bench.store.find(&tenant, Which::Sequence(3)).await.unwrap().unwrap();
    assert_eq!((by_id.sequence, &by_id.content), (3, &by_place.content));
    assert_eq!(by_id.hash().unwrap(), first[2].hash);
    assert!(bench.store.find(&tenant, Which::Sequence(5)).await.unwrap().is_none());
    let hashes = bench.store.hashes(&tenant, 1, 2).await.unwrap();
    assert_eq!(hashes, [first[0].hash, first[1].hash]);
    assert!(bench.store.tenants().await.unwrap().contains(&tenant));
    // A clock that was set back orders nothing.
    let late = Batch { tenant: tenant.clone(), drafts: vec![draft(4)] };
    let appended = bench.store.append(vec![late], -5).await.unwrap();
    assert_eq!(appended.outcomes[0].as_ref().unwrap()[0].sequence, 5);
    assert_eq!(bench.verify("found").await.bad, None);
}

async fn a_repeat_changes_nothing(bench: &Bench) {
    let tenant = name("repeat");
    let first = bench.append("repeat", 0..2).await;
    let again = bench.append("repeat", 0..3).await;
    assert_eq!(again.iter().map(|receipt| receipt.repeated).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!((again[1].sequence, again[1].hash), (first[1].sequence, first[1].hash));
    let mut other = draft(1);
    other.stage = "other".into();
    let batch = |drafts| Batch { tenant: tenant.clone(), drafts };
    let batches = vec![batch(vec![draft(7)]), batch(vec![draft(8), other]), batch(vec![draft(7), draft(9)])];
    let outcomes = bench.store.append(batches, 5).await.unwrap().outcomes;
    assert_eq!(outcomes[0].as_ref().unwrap()[0].sequence, 4);
    assert!(matches!(outcomes[1], Err(Error::Conflict { id }) if id == draft(1).id));
    let last = outcomes[2].as_ref().unwrap();
    assert_eq!((last[0].repeated, last[0].sequence, last[1].sequence), (true, 4, 5));
    assert!(bench.store.find(&tenant, Which::Id(draft(8).id)).await.unwrap().is_none());
    assert_eq!(bench.verify("repeat").await.bad, None);
}

async fn a_filter_takes_what_it_says(bench: &Bench) {
    let tenant = name("filter");
    for number in 0..20u8 {
        let mut one = draft(u128::from(number));
        one.kind = if number % 2 == 0 { RecordKind::Turn } else { RecordKind::Feedback };
        one.refers_to = (number == 7).then(|| draft(0).id);
        one.subject = format!("s{}", number % 3);
        let batch = Batch { tenant: tenant.clone(), drafts: vec![one] };
        bench.store.append(vec![batch], i64::from(number)).await.unwrap();
    }
    let ask = async |filter: Filter, limit: usize| -> Vec<u64> {
        let rows = bench.store.query(&tenant, filter, limit).await.unwrap();
        rows.iter().map(|row| row.sequence).collect()
    };
    let any = Filter::default;
    assert_eq!(ask(any(), 3).await, [20, 19, 18]);
    assert_eq!(ask(Filter { after: Some(18), ..any() }, 2).await, [17, 16]);
    let oldest = Filter { oldest_first: true, after: Some(2), ..any() };
    assert_eq!(ask(oldest, 2).await, [3, 4]);
    assert_eq!(ask(Filter { kinds: vec![RecordKind::Feedback], ..any() }, 2).await, [20, 18]);
    let two = vec![RecordKind::Feedback, RecordKind::Turn];
    assert_eq!(ask(Filter { kinds: two, ..any() }, 2).await, [20, 19]);
    assert_eq!(ask(Filter { conversation: "c3".into(), ..any() }, 9).await, [18, 11, 4]);
    assert_eq!(ask(Filter { turn: "t5".into(), ..any() }, 9).await, [6]);
    assert_eq!(ask(Filter { subject: "s1".into(), ..any() }, 2).await, [20, 17]);
    assert_eq!(ask(Filter { refers_to: Some(draft(0).id), ..any() }, 9).await, [8]);
    assert_eq!(ask(Filter { since: Some(5), until: Some(7), ..any() }, 9).await, [7, 6]);
    let all = Filter { conversation: "c3".into(), turn: "t10".into(), since: Some(1), ..any() };
    assert_eq!(ask(all, 9).await, [11]);
    // What a caller says is no part of a statement.
    assert!(ask(Filter { turn: "' OR '1'='1".into(), ..any() }, 9).await.is_empty());
}

async fn tenants_never_meet(bench: &Bench) {
    bench.append("one", 0..2).await;
    bench.append("two", 2..4).await;
    let (one, two) = (name("one"), name("two"));
    assert!(bench.store.find(&one, Which::Id(draft(2).id)).await.unwrap().is_none());
    assert_eq!(bench.store.query(&one, Filter::default(), 9).await.unwrap().len(), 2);
    assert_eq!(bench.store.scan(&two, 1, 9).await.unwrap().len(), 2);
    // The same id is another record for another tenant.
    let receipts = bench.append("two", 0..1).await;
    assert!(!receipts[0].repeated);
    // A record that was moved to another tenant is found there.
    bench.tamper("UPDATE ledger_records SET tenant = 'moved' WHERE tenant = 'two' AND sequence = 1").await;
    bench.tamper("INSERT INTO ledger_heads SELECT 'moved', sequence, hash, frontier FROM ledger_heads WHERE tenant = 'one'").await;
    assert_eq!(bench.bad("two").await.fault, Fault::Missing);
    let bad = bench.bad("moved").await;
    assert_eq!((bad.fault, bad.sequence), (Fault::Edited, 1));
    assert!(bad.reason.contains("another tenant"), "{bad:?}");
}

fn secret(number: u128) -> crate::plan::Draft {
    let mut one = draft(number);
    (one.subject, one.sealed) = ("who".into(), format!("secret {number}").into_bytes());
    one
}

async fn open(bench: &Bench, tenant: &Tenant, number: u128, masters: &Masters) -> Option<Vec<u8>> {
    let row = bench.store.find(tenant, Which::Id(draft(number).id)).await.unwrap().unwrap();
    let content = row.content().unwrap();
    let kept = bench.store.key(tenant, content.seal.unwrap().key).await.unwrap()?;
    let key = masters.unwrap(&kept).unwrap();
    Some(key.open(tenant.as_str(), content.id, content.subject, &row.sealed.as_ref().unwrap().bytes).unwrap())
}

fn erasure(tenant: &Tenant, number: u128) -> Batch {
    let mut one = draft(number);
    (one.kind, one.subject) = (RecordKind::Erasure, "who".into());
    Batch { tenant: tenant.clone(), drafts: vec![one] }
}

async fn an_erasure_leaves_the_chain_whole(bench: &Bench) {
    let tenant = name("erase");
    let batch = |drafts| Batch { tenant: tenant.clone(), drafts };
    bench.store.append(vec![batch(vec![secret(0), draft(1), secret(2)])], 1).await.unwrap();
    assert_eq!(open(bench, &tenant, 0, &masters()).await.unwrap(), b"secret 0");
    bench.sign("erase").await;
    let erased = bench.store.erase(erasure(&tenant, 3), "who".into(), 2).await.unwrap();
    assert_eq!((erased.records, erased.receipt.sequence, erased.moved.head.sequence), (2, 4, 4));
    assert_eq!(open(bench, &tenant, 0, &masters()).await, None);
    let row = bench.store.find(&tenant, Which::Sequence(1)).await.unwrap().unwrap();
    assert!(!row.sealed.unwrap().key_lives);
    assert_eq!(bench.verify("erase").await.bad, None);
    // What comes later has another key, which a repeat of the erasure leaves alone.
    bench.store.append(vec![batch(vec![secret(5)])], 3).await.unwrap();
    let again = bench.store.erase(erasure(&tenant, 3), "who".into(), 4).await.unwrap();
    assert!(again.receipt.repeated && again.records == 0);
    assert_eq!(open(bench, &tenant, 5, &masters()).await.unwrap(), b"secret 5");
    assert_eq!(open(bench, &tenant, 2, &masters()).await, None);
    // A repeat of a record whose key is gone is that record.
    let outcomes = bench.store.append(vec![batch(vec![secret(2)])], 5).await.unwrap().outcomes;
    assert!(outcomes[0].as_ref().unwrap()[0].repeated);
    assert_eq!(bench.verify("erase").await.bad, None);
}

async fn a_master_key_can_be_changed(bench: &Bench) {
    let tenant = name("rewrap");
    let batch = Batch { tenant: tenant.clone(), drafts: vec![secret(0)] };
    bench.store.append(vec![batch], 1).await.unwrap();
    let text = format!("two:{},one:{}", hex::encode(&[2; 32]), hex::encode(&[1; 32]));
    let both = Masters::try_new("test", &text).unwrap();
    crate::rewrap(&*bench.store, &both, "two").await.unwrap();
    assert!(bench.store.wrapped_by_others("two", 9).await.unwrap().is_empty());
    let alone = Masters::try_new("test", &format!("two:{}", hex::encode(&[2; 32]))).unwrap();
    assert_eq!(open(bench, &tenant, 0, &alone).await.unwrap(), b"secret 0");
    // Back, so that what this bench's store has in memory still opens them.
    let back =
        Masters::try_new("test", &format!("one:{},two:{}", hex::encode(&[1; 32]), hex::encode(&[2; 32])));
    crate::rewrap(&*bench.store, &back.unwrap(), "one").await.unwrap();
}

async fn every_record_is_proved(bench: &Bench) {
    let tenant = name("prove");
    let receipts = bench.append("prove", 0..21).await;
    let uncovered = prove::prove(&*bench.store, &tenant, draft(0).id, 0).await;
    assert!(matches!(uncovered, Err(Error::NotCovered { .. })));
    bench.sign("prove").await;
    bench.append("prove", 21..23).await;
    bench.sign("prove").await;
    for receipt in &receipts {
        for (against, size) in [(0, 23), (21, 21)] {
            let proof = prove::prove(&*bench.store, &tenant, receipt.id, against).await.unwrap();
            let root = proof.checkpoint.root;
            assert!(merkle::verify(&receipt.hash, receipt.sequence - 1, size, &proof.path, &root));
        }
    }
    assert!(matches!(
        prove::prove(&*bench.store, &tenant, draft(22).id, 21).await,
        Err(Error::NotCovered { .. })
    ));
    assert!(matches!(prove::prove(&*bench.store, &tenant, draft(99).id, 0).await, Err(Error::Gone)));
    let newest = bench.store.checkpoints_below(&tenant, u64::MAX, 9).await.unwrap();
    let oldest = bench.store.checkpoints_from(&tenant, 0, 1).await.unwrap();
    assert_eq!(newest.iter().map(|one| one.sequence).collect::<Vec<_>>(), [23, 21]);
    assert_eq!(oldest[0].sequence, 21);
    bench
        .tamper(&format!(
            "UPDATE ledger_records SET hash = {} WHERE tenant = 'prove' AND sequence = 3",
            bench.bytes(&[0; 32])
        ))
        .await;
    assert!(matches!(prove::prove(&*bench.store, &tenant, draft(0).id, 0).await, Err(Error::Damaged { .. })));
}

/// A changed bit in whatever a record has, or in its sealed bytes, is found, and the record is named.
async fn an_edit_is_named(bench: &Bench) {
    let tenant = name("edit");
    let mut one = secret(1);
    one.refers_to = Some(draft(0).id);
    let drafts = vec![draft(0), one, draft(2)];
    bench.store.append(vec![Batch { tenant: tenant.clone(), drafts }], 1).await.unwrap();
    bench.sign("edit").await;
    assert_eq!(bench.verify("edit").await.checkpoints, 2);
    let row = bench.store.find(&tenant, Which::Sequence(2)).await.unwrap().unwrap();
    let sealed = row.sealed.clone().unwrap();
    let blobs: [(&str, &str, &[u8]); 6] = [
        ("ledger_records", "id", &row.columns.id),
        ("ledger_records", "refers_to", row.columns.refers_to.as_ref().unwrap()),
        ("ledger_records", "content", &row.content),
        ("ledger_records", "hash", &row.hash),
        ("ledger_sealed", "key", &sealed.key),
        ("ledger_sealed", "bytes", &sealed.bytes),
    ];
    for (table, column, whole) in blobs {
        for at in 0..whole.len() {
            let mut changed = whole.to_vec();
            changed[at] ^= 1 << (at % 8);
            let set = |bytes: &[u8]| {
                format!(
                    "UPDATE {table} SET {column} = {} WHERE tenant = 'edit' AND sequence = 2",
                    bench.bytes(bytes)
                )
            };
            bench.tamper(&set(&changed)).await;
            let bad = bench.bad("edit").await;
            let named = matches!(bad.fault, Fault::Edited | Fault::Reordered) && bad.sequence == 2;
            assert!(named, "{column}, byte {at}: {bad:?}");
            bench.tamper(&set(whole)).await;
        }
    }
    for (column, other, back) in [
        ("kind", "3", row.columns.kind.to_string()),
        ("ledger_time", "7", row.columns.ledger_time.to_string()),
        ("conversation", "'x'", format!("'{}'", String::from_utf8_lossy(&row.columns.conversation))),
        ("turn", "''", format!("'{}'", String::from_utf8_lossy(&row.columns.turn))),
        ("subject", "'whom'", "'who'".into()),
    ] {
        let set = |value: &str| {
            format!("UPDATE ledger_records SET {column} = {value} WHERE tenant = 'edit' AND sequence = 2")
        };
        bench.tamper(&set(other)).await;
        let bad = bench.bad("edit").await;
        assert_eq!((bad.fault, bad.sequence, bad.id), (Fault::Edited, 2, Some(draft(1).id)), "{column}");
        assert!(bad.reason.contains(column), "{bad:?}");
        bench.tamper(&set(&back)).await;
    }
    bench.tamper("DELETE FROM ledger_sealed WHERE tenant = 'edit'").await;
    assert!(bench.bad("edit").await.reason.contains("sealed bytes are not there"));
}

async fn a_swap_is_named(bench: &Bench) {
    bench.append("swap", 0..5).await;
    for (from, to) in [(2, -1), (3, 2), (-1, 3)] {
        bench
            .tamper(&format!(
                "UPDATE ledger_records SET sequence = {to} WHERE tenant = 'swap' AND sequence = {from}"
            ))
            .await;
    }
    let bad = bench.bad("swap").await;
    assert_eq!((bad.fault, bad.sequence, bad.id), (Fault::Reordered, 2, Some(draft(2).id)));
}

async fn a_gap_is_named(bench: &Bench) {
    bench.append("gap", 0..6).await;
    bench.tamper("DELETE FROM ledger_records WHERE tenant = 'gap' AND sequence IN (3, 4)").await;
    let bad = bench.bad("gap").await;
    assert_eq!((bad.fault, bad.sequence, bad.last_sequence), (Fault::Missing, 3, 4));
    bench.append("whole", 0..3).await;
    bench.tamper("DELETE FROM ledger_records WHERE tenant = 'whole' AND sequence = 1").await;
    assert_eq!(bench.bad("whole").await.sequence, 1);
}

/// Records were taken from the end, and the head was put right; what was signed knows better.
async fn a_cut_is_named(bench: &Bench) {
    let tenant = name("cut");
    bench.append("cut", 0..3).await;
    let kept = bench.store.head(&tenant).await.unwrap();
    bench.append("cut", 3..5).await;
    bench.tamper("DELETE FROM ledger_records WHERE tenant = 'cut' AND sequence > 3").await;
    let bad = bench.bad("cut").await;
    assert_eq!((bad.fault, bad.sequence, bad.last_sequence), (Fault::Cut, 4, 5), "by the head in the store");
    let put = |tenant: &str, head: &Head| {
        format!(
            "UPDATE ledger_heads SET sequence = {}, hash = {}, frontier = {} WHERE tenant = '{tenant}'",
            head.sequence,
            bench.bytes(&head.hash),
            bench.bytes(&head.tree.to_bytes())
        )
    };
    let last = bench.store.head(&tenant).await.unwrap();
    bench.tamper(&put("cut", &kept)).await;
    assert_eq!(bench.verify("cut").await.bad, None, "nothing was signed of what is gone");
    Heads::open(&bench.heads()).unwrap().latest(&bench.signer.sign("cut", &last, 0)).unwrap();
    let bad = bench.bad("cut").await;
    assert_eq!((bad.fault, bad.sequence, bad.last_sequence), (Fault::Cut, 4, 5), "by the signed head");
    // All of it, with the head.
    bench
        .tamper(
            "DELETE FROM ledger_records WHERE tenant = 'cut'; DELETE FROM ledger_heads WHERE tenant = 'cut'",
        )
        .await;
    assert_eq!((bench.bad("cut").await.fault, bench.bad("cut").await.sequence), (Fault::Cut, 1));
    // A head that goes on where the chain does not.
    bench.append("head", 0..2).await;
    let mut wrong = bench.store.head(&name("head")).await.unwrap();
    wrong.hash[0] ^= 1;
    bench.tamper(&put("head", &wrong)).await;
    assert_eq!(bench.bad("head").await.fault, Fault::Edited);
    bench.tamper("UPDATE ledger_heads SET sequence = 9 WHERE tenant = 'head'").await;
    assert!(bench.verify("head").await.bad.is_some());
}

/// Somebody with the database but without the key changes a record and makes every later hash, the head and
/// all else in the store again.
async fn a_chain_made_again_is_named(bench: &Bench) {
    let tenant = name("again");
    bench.append("again", 0..4).await;
    bench.sign("again").await;
    bench.append("again", 4..8).await;
    bench.sign("again").await;
    let rows = bench.store.scan(&tenant, 1, 99).await.unwrap();
    let mut head = Head::of("again");
    for row in &rows {
        let mut content = row.content().unwrap();
        if row.sequence == 6 {
            content = Content { model: "large", ..content };
        }
        let encoded = content.encode();
        let hash = chain::hash(&head.hash, &encoded);
        head.push(hash);
        bench
            .tamper(&format!(
                "UPDATE ledger_records SET content = {}, hash = {} WHERE tenant = 'again' AND sequence = {}",
                bench.bytes(&encoded),
                bench.bytes(&hash),
                row.sequence
            ))
            .await;
    }
    bench
        .tamper(&format!(
            "UPDATE ledger_heads SET hash = {}, frontier = {} WHERE tenant = 'again'",
            bench.bytes(&head.hash),
            bench.bytes(&head.tree.to_bytes())
        ))
        .await;
    let bad = bench.bad("again").await;
    assert_eq!((bad.fault, bad.sequence, bad.last_sequence), (Fault::Rewritten, 5, 8), "{bad:?}");
    // Without the checkpoints of the store, those outside of it tell.
    bench.tamper("DELETE FROM ledger_checkpoints WHERE tenant = 'again'").await;
    assert_eq!(bench.bad("again").await.fault, Fault::Rewritten);
    // With checkpoints that another key signed, that key tells.
    let forged = Signer::try_new(&[9; 32]).unwrap().sign("again", &head, 0);
    bench.store.add_checkpoints(vec![forged]).await.unwrap();
    let nowhere = bench.folder.path().join("none");
    let trusted = Trusted::new([bench.signer.public()]);
    let verdict = bench.verify_with("again", &nowhere, &trusted).await;
    let bad = verdict.bad.unwrap();
    assert_eq!((bad.fault, bad.sequence), (Fault::Checkpoint, 8));
    assert!(bad.reason.contains("not trusted"), "{bad:?}");
}

async fn a_bad_checkpoint_is_named(bench: &Bench) {
    bench.append("bad", 0..2).await;
    bench.sign("bad").await;
    bench.append("bad", 2..4).await;
    bench.sign("bad").await;
    assert_eq!(bench.verify("bad").await.signed_to, 4);
    let other = bench.verify_with("bad", &bench.heads(), &Trusted::new([[7; 32]])).await.bad.unwrap();
    assert_eq!((other.fault, other.sequence), (Fault::Checkpoint, 2), "signed with a key that is not known");
    bench.tamper("UPDATE ledger_checkpoints SET line = '{}' WHERE tenant = 'bad' AND sequence = 4").await;
    let bad = bench.bad("bad").await;
    assert_eq!((bad.fault, bad.sequence), (Fault::Checkpoint, 4));
    let trusted = Trusted::new([bench.signer.public()]);
    let later =
        verify::verify(&*bench.store, &bench.heads(), &trusted, &name("bad"), 3, &mut |_, _| ()).await;
    assert_eq!(later.unwrap().bad.unwrap().sequence, 4, "from the middle on");
}

/// Rows before the first record and after the head are found, and are nobody's records.
async fn a_row_outside_the_chain_is_named(bench: &Bench) {
    let tenant = name("stray");
    bench.append("stray", 0..3).await;
    for place in [0, -1, 4] {
        bench
            .tamper(&format!(
                "INSERT INTO ledger_records SELECT tenant, {place}, {}, kind, conversation, turn, subject, refers_to, \
                 ledger_time, content, hash FROM ledger_records WHERE tenant = 'stray' AND sequence = 3",
                bench.bytes(draft(9).id.as_bytes())
            ))
            .await;
        let bad = bench.bad("stray").await;
        assert_eq!((bad.fault, bad.sequence), (Fault::Edited, u64::try_from(place).unwrap_or(0)), "{bad:?}");
        assert_eq!(bench.store.query(&tenant, Filter::default(), 9).await.unwrap().len(), 3);
        assert!(bench.store.find(&tenant, Which::Id(draft(9).id)).await.unwrap().is_none());
        let at = Which::Sequence(u64::try_from(place).unwrap_or(0));
        assert!(bench.store.find(&tenant, at).await.unwrap().is_none());
        let batch = Batch { tenant: tenant.clone(), drafts: vec![draft(9)] };
        let outcomes = bench.store.append(vec![batch], 1).await.unwrap().outcomes;
        assert!(matches!(outcomes[0], Err(Error::Damaged { .. })), "it is not taken for a repeat");
        let sql = format!("DELETE FROM ledger_records WHERE tenant = 'stray' AND sequence = {place}");
        bench.tamper(&sql).await;
    }
    assert_eq!(bench.verify("stray").await.bad, None);
}

async fn a_key_that_is_gone_without_an_erasure_is_named(bench: &Bench) {
    let tenant = name("killed");
    let batch = |drafts| Batch { tenant: tenant.clone(), drafts };
    bench.store.append(vec![batch(vec![secret(0)])], 1).await.unwrap();
    bench.store.erase(erasure(&tenant, 1), "who".into(), 2).await.unwrap();
    bench.store.append(vec![batch(vec![draft(2), secret(3)])], 3).await.unwrap();
    assert_eq!(bench.verify("killed").await.bad, None);
    // The erasure before is not that of the second key.
    bench.tamper("DELETE FROM ledger_keys WHERE tenant = 'killed'").await;
    let bad = bench.bad("killed").await;
    assert_eq!((bad.fault, bad.sequence, bad.id), (Fault::Edited, 4, Some(draft(3).id)), "{bad:?}");
    bench.store.erase(erasure(&tenant, 4), "who".into(), 5).await.unwrap();
    assert_eq!(bench.verify("killed").await.bad, None);
}

async fn a_scan_is_bounded_by_its_bytes(bench: &Bench) {
    let tenant = name("large");
    let large = |number: u128| crate::plan::Draft { sealed: vec![7; 3 << 20], ..secret(number) };
    let batch = Batch { tenant: tenant.clone(), drafts: (0..5).map(large).collect() };
    bench.store.append(vec![batch], 1).await.unwrap();
    assert_eq!(bench.store.scan(&tenant, 1, 9).await.unwrap().len(), 3);
    assert_eq!(bench.store.scan(&tenant, 4, 9).await.unwrap().len(), 2);
    let verdict = bench.verify("large").await;
    assert_eq!((verdict.bad, verdict.records), (None, 5));
}

/// What is wrong with one tenant's rows is its own outcome, whether it is found or the database says so.
async fn a_damaged_tenant_does_not_stop_others(bench: &Bench) {
    for tenant in ["hurt-head", "hurt-hash", "hurt-row", "sound"] {
        bench.append(tenant, 0..2).await;
    }
    let short = bench.bytes(&[1]);
    bench.tamper(&format!("UPDATE ledger_heads SET hash = {short} WHERE tenant = 'hurt-head'")).await;
    bench.tamper(&format!("UPDATE ledger_records SET hash = {short} WHERE tenant = 'hurt-hash'")).await;
    bench.tamper("UPDATE ledger_records SET sequence = 3 WHERE tenant = 'hurt-row' AND sequence = 2").await;
    let batch = |tenant: &str| Batch { tenant: name(tenant), drafts: vec![draft(0), draft(5)] };
    let batches = ["hurt-head", "hurt-hash", "hurt-row", "sound"].map(batch).into();
    let appended = bench.store.append(batches, 1).await.unwrap();
    let fates: Vec<bool> = appended.outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(fates, [false, false, false, true]);
    assert_eq!(appended.moves.len(), 1);
    assert_eq!(bench.verify("sound").await.bad, None);
    assert_eq!(bench.verify("sound").await.records, 3);
    assert_eq!(bench.store.head(&name("hurt-row")).await.unwrap().sequence, 2, "nothing of it was written");
}

/// Two nodes write for one tenant at once; neither forks the chain.
async fn two_nodes_keep_one_chain(server: &PostgresServer, bench: &Bench) {
    let other: Arc<dyn Store> = Arc::new(Postgres::open(&server.url(), 4, masters()).await.unwrap());
    let mut tasks = JoinSet::new();
    for (node, store) in [(0u128, Arc::clone(&bench.store)), (1, other)] {
        tasks.spawn(async move {
            for number in 0..60 {
                let batch =
                    |tenant: &str| Batch { tenant: name(tenant), drafts: vec![draft(node * 1000 + number)] };
                // Two tenants a transaction, so that locks could be taken crosswise.
                let batches = if node == 0 {
                    vec![batch("left"), batch("right")]
                } else {
                    vec![batch("right"), batch("left")]
                };
                let appended = store.append(batches, 1).await.unwrap();
                assert!(appended.outcomes.iter().all(Result::is_ok));
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for tenant in ["left", "right"] {
        let verdict = bench.verify(tenant).await;
        assert_eq!((verdict.bad, verdict.records), (None, 120));
    }
}

async fn a_server_that_comes_back_goes_on(mut server: PostgresServer, bench: &Bench) {
    bench.append("back", 0..2).await;
    server.kill();
    let batch = || Batch { tenant: name("back"), drafts: vec![draft(2)] };
    let away = bench.store.append(vec![batch()], 1).await.err().unwrap();
    assert!(matches!(away, Error::Away { .. }), "{away}");
    server.restart();
    let receipts = bench.append("back", 2..3).await;
    assert_eq!(receipts[0].sequence, 3);
    assert_eq!(bench.verify("back").await.bad, None);
}

/// A disk that is full takes nothing, and what was there stays; when there is room it goes on.
#[tokio::test]
async fn a_full_disk_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path(), masters()).unwrap();
    let tenant = name("full");
    let batch = |numbers: std::ops::Range<u128>| Batch {
        tenant: tenant.clone(),
        drafts: numbers.map(draft).collect(),
    };
    store.append(vec![batch(0..10)], 1).await.unwrap();
    store.bound_pages(Some(0));
    let full = store.append(vec![batch(10..400)], 1).await.err().unwrap();
    assert!(matches!(full, Error::Full), "{full}");
    let trusted = Trusted::default();
    let verify =
        async || verify::verify(&store, folder.path(), &trusted, &tenant, 1, &mut |_, _| ()).await.unwrap();
    let verdict = verify().await;
    assert_eq!((verdict.bad, verdict.records), (None, 10));
    store.bound_pages(None);
    let appended = store.append(vec![batch(10..400)], 1).await.unwrap();
    assert_eq!(appended.moves[0].head.sequence, 400);
    assert_eq!(verify().await.bad, None);
}

/// A destroyed key is in none of the database's files.
#[tokio::test]
async fn a_destroyed_key_is_nowhere_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path(), masters()).unwrap();
    let tenant = name("acme");
    let batch = Batch { tenant: tenant.clone(), drafts: vec![secret(0)] };
    store.append(vec![batch], 1).await.unwrap();
    let row = store.find(&tenant, Which::Sequence(1)).await.unwrap().unwrap();
    let kept = store.key(&tenant, row.content().unwrap().seal.unwrap().key).await.unwrap().unwrap();
    let holds = || {
        std::fs::read_dir(folder.path()).unwrap().flatten().any(|entry| {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            bytes.windows(kept.wrapped.len()).any(|part| part == kept.wrapped)
        })
    };
    assert!(holds());
    store.erase(erasure(&tenant, 1), "who".into(), 2).await.unwrap();
    assert!(!holds());
}

/// The log that a crash left, which may have a destroyed key, is emptied when the database is opened.
#[tokio::test]
async fn a_log_that_a_crash_left_is_emptied() {
    let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Sqlite::open(folder.path(), masters()).unwrap();
    let batch = Batch { tenant: name("acme"), drafts: vec![draft(0)] };
    store.append(vec![batch], 1).await.unwrap();
    let log = "ledger.db-wal";
    for file in [super::sqlite::FILE, log] {
        std::fs::copy(folder.path().join(file), crashed.path().join(file)).unwrap();
    }
    let length = || std::fs::metadata(crashed.path().join(log)).unwrap().len();
    assert!(length() > 0);
    let again = Sqlite::open(crashed.path(), masters()).unwrap();
    assert_eq!(length(), 0);
    assert_eq!(again.head(&name("acme")).await.unwrap().sequence, 1);
}
