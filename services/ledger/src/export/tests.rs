//! One suite for both kinds of place.

use std::net::TcpListener;

use mesh::{config::Secret, error::Fault as _, testing::S3Server};
use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::RowAccessor as _,
};
use switchboard_mesh as mesh;

use super::*;
use crate::{
    checkpoint::Signer,
    config::ExportConfig,
    plan::{
        Batch,
        tests::{draft, masters},
    },
    store::sqlite::Sqlite,
};

#[test]
fn dates_are_those_of_the_calendar() {
    for (day, expected) in
        [(0, "1970-01-01"), (-1, "1969-12-31"), (11_016, "2000-02-29"), (20_785, "2026-11-28")]
    {
        assert_eq!(date(day), expected);
    }
}

fn acme() -> Tenant {
    Tenant::try_new("acme").unwrap()
}

fn folder_config(folder: &std::path::Path) -> ExportConfig {
    ExportConfig { folder: folder.to_owned(), ..ExportConfig::default() }
}

fn bucket_config(server: &S3Server) -> ExportConfig {
    ExportConfig {
        url: "s3://records/lake/one".into(),
        endpoint: server.url.clone(),
        credentials: Secret::new(server.credentials.clone()),
        ..ExportConfig::default()
    }
}

async fn open(config: &ExportConfig) -> Result<Place, Error> {
    config.check().unwrap();
    Place::open(config).await
}

/// What every place promises.
async fn suite(config: &ExportConfig) -> ExportSummary {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path(), masters()).unwrap();
    let tenant = acme();
    let mut head = None;
    for number in 0..5u8 {
        let mut one = draft(u128::from(number));
        (one.subject, one.sealed) = ("s".into(), b"words of a customer".to_vec());
        let batch = Batch { tenant: tenant.clone(), drafts: vec![one] };
        let now = if number < 3 { DAY * 20_000 } else { DAY * 20_001 };
        let mut appended = store.append(vec![batch], now).await.unwrap();
        head = appended.moves.pop();
    }
    let place = open(config).await.unwrap();
    let none = export(&store, &place, &tenant, 0, &mut |_, _| ()).await;
    assert!(matches!(none, Err(Error::NotCovered { .. })));
    let signed = Signer::try_new(&[1; 32]).unwrap().sign("acme", &head.unwrap().head, 0);
    store.add_checkpoints(vec![signed]).await.unwrap();
    let mut told = Vec::new();
    let mut tell = |done, total| told.push((done, total));
    let summary = export(&store, &place, &tenant, 0, &mut tell).await.unwrap();
    assert_eq!(told, [(3, 5), (5, 5)]);
    assert_eq!((summary.records, summary.files.len(), summary.checkpoint_sequence), (5, 2, 5));
    assert_eq!(summary.files[0], "tenant=acme/day=2024-10-04/records-00000000000000000001.parquet");
    let bytes = place.get(&summary.files[1]).await;
    assert!(!bytes.windows(9).any(|part| part == b"customer "));
    let manifest: serde_json::Value = serde_json::from_slice(&place.get(&summary.manifest).await).unwrap();
    for (at, name) in summary.files.iter().enumerate() {
        let entry = &manifest["files"][at];
        assert_eq!(entry["path"].as_str(), Some(name.as_str()));
        assert_eq!(entry["sha256"], hex::encode(&sha256(&[&place.get(name).await])));
    }
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes.clone())).unwrap();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].get_long(0).unwrap(), 4);
    assert_eq!(rows[0].get_string(1).unwrap(), &draft(3).id.to_string());
    assert_eq!(rows[0].get_string(2).unwrap(), "route");
    assert_eq!(rows[0].get_string(14).unwrap(), r#"{"why":"cheapest"}"#);
    // The same records, the same files.
    let again = export(&store, &place, &tenant, 3, &mut |_, _| ()).await.unwrap();
    assert_eq!(again.files, summary.files);
    assert_eq!(place.get(&summary.files[1]).await, bytes);
    // Beyond a part, and not a whole number of them.
    let large: Vec<u8> = (0..20_000_000u32).map(|at| (at % 251) as u8).collect();
    place.put("large", large.clone()).await.unwrap();
    assert!(place.get("large").await == large);
    summary
}

#[tokio::test]
async fn a_folder_holds_days_and_the_open_part_alone() {
    let folder = tempfile::tempdir().unwrap();
    let summary = suite(&folder_config(&folder.path().join("export"))).await;
    assert!(folder.path().join("export").join(&summary.manifest).is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_holds_days_and_the_open_part_alone() {
    let mut server = S3Server::start(None);
    let summary = suite(&bucket_config(&server)).await;
    let held = server.objects();
    assert_eq!(held.len(), summary.files.len() + 2, "{held:?}");
    assert!(held.contains_key(&format!("lake/one/{}", summary.manifest)), "{held:?}");
    assert_eq!(
        (&held["lake/one/large"]["parts"], &held["lake/one/large"]["bytes"]),
        (&3.into(), &20_000_000.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_reached_over_tls_by_a_certificate_that_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut server = S3Server::start(Some([&certificate, &key]));
    let stranger = bucket_config(&server);
    let refused = open(&stranger).await.unwrap().put("a", vec![1]).await.unwrap_err();
    assert!(refused.to_string().contains("ledger.export.endpoint"), "{refused}");
    assert!(refused.to_string().contains("certificate"), "{refused}");
    let known = ExportConfig { certificates: certificate, ..stranger };
    open(&known).await.unwrap().put("a", vec![1]).await.unwrap();
    assert_eq!(server.objects()["lake/one/a"]["bytes"], 1);
    let none = ExportConfig { certificates: key, ..known };
    assert!(matches!(open(&none).await, Err(Error::Place { key: "ledger.export.certificates", .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_an_export_from_a_bucket_names_its_key_and_no_secret() {
    let server = S3Server::start(None);
    let good = bucket_config(&server);
    let told = async |config: &ExportConfig| open(config).await.unwrap().put("a", vec![1]).await.unwrap_err();
    let (id, secret) = server.credentials.split_once(':').unwrap();

    let missing = told(&ExportConfig { url: "s3://nowhere".into(), ..good.clone() }).await;
    assert_eq!(
        missing.to_string(),
        "the export cannot be written; ledger.export.url: there is no bucket \"nowhere\" (404 NoSuchBucket)"
    );
    for (credentials, code) in [
        (format!("{id}:{secret}x"), "SignatureDoesNotMatch"),
        (format!("nobody:{secret}"), "InvalidAccessKeyId"),
    ] {
        let denied = told(&ExportConfig { credentials: Secret::new(credentials), ..good.clone() }).await;
        let text = denied.to_string();
        assert!(text.contains("ledger.export.credentials") && text.contains(code), "{text}");
        assert!(!text.contains(secret) && !text.contains(id), "{text}");
    }
    // A port that nobody listens at.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = told(&ExportConfig { endpoint: format!("http://127.0.0.1:{port}"), ..good.clone() }).await;
    assert!(matches!(away, Error::PlaceAway { key: "ledger.export.endpoint", .. }), "{away}");
    assert!(away.retry_after().is_some() && away.to_string().contains("refused"), "{away}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let by_file =
        ExportConfig { credentials: Secret::new(String::new()), credentials_file: file.clone(), ..good };
    assert!(matches!(open(&by_file).await, Err(Error::File { .. })));
    std::fs::write(&file, "one").unwrap();
    assert!(matches!(open(&by_file).await, Err(Error::Place { key: "ledger.export.credentials", .. })));
    std::fs::write(&file, format!("{}\n", server.credentials)).unwrap();
    open(&by_file).await.unwrap().put("a", vec![1]).await.unwrap();
}
