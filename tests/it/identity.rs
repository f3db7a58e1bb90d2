//! Nodes that know each other by certificates, as `switchboard certs dev` makes them.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use serde_json::Value;
use switchboard_mesh::identity::{Config, Identity, permissions};
use switchboard_proto::policy::v1::{
    RedactRequest, RestoreRequest, policy_service_client::PolicyServiceClient,
};
use tonic::Code;

use crate::{
    binary::{json, run, stderr},
    mesh::{Mesh, call},
};

/// The paths of every method in a descriptor set.
fn methods(descriptors: &[u8]) -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(descriptors).unwrap().file;
    let services = files.iter().flat_map(|file| file.service.iter().map(move |s| (file.package(), s)));
    let paths = services.flat_map(|(package, service)| {
        service.method.iter().map(move |m| format!("/{package}.{}/{}", service.name(), m.name()))
    });
    paths.collect()
}

#[test]
fn every_method_says_which_roles_may_call_it() {
    let builtin = [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let exist: BTreeSet<String> =
        [switchboard_proto::DESCRIPTORS].into_iter().chain(builtin).flat_map(methods).collect();
    let mut declared = BTreeSet::new();
    for (path, _) in permissions::methods() {
        assert!(declared.insert(path.clone()), "{path} is declared twice");
    }
    let undeclared: Vec<_> = exist.difference(&declared).collect();
    assert!(undeclared.is_empty(), "declare in identity/permissions.rs who may call {undeclared:?}");
    let unknown: Vec<_> = declared.difference(&exist).collect();
    assert!(unknown.is_empty(), "there is no such method: {unknown:?}");
}

fn dev(folder: &Path, arguments: &[&str]) -> Value {
    let out = folder.join("certs");
    let mut all = vec!["certs", "dev", "--json", "--out", out.to_str().unwrap()];
    all.extend(arguments);
    json(&run(folder, &all))
}

fn identity(folder: &Path, name: &str) -> Identity {
    let at = |file: String| folder.join("certs").join(file);
    Identity::load(&Config {
        certificate: at(format!("{name}.pem")),
        key: at(format!("{name}.key")),
        authorities: at("ca.pem".into()),
        ..Config::default()
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_certificates_call_each_other_by_their_roles() {
    let folder = tempfile::tempdir().unwrap();
    dev(folder.path(), &[]);
    let policy = Mesh::secured(&["policy"], BTreeMap::new(), identity(folder.path(), "policy")).await;
    let at: http::Uri = format!("http://{}", policy.listen().await).parse().unwrap();
    for (role, redact) in
        [("conversation", Code::Ok), ("gateway", Code::Ok), ("knowledge", Code::PermissionDenied)]
    {
        let remote = [("policy".to_owned(), vec![at.clone()])].into();
        let node = Mesh::secured(&[], remote, identity(folder.path(), role)).await;
        let mut client = PolicyServiceClient::new(node.ctx.channel("policy"));
        let request = RedactRequest { text: "Mail to anna@example.org".into(), ..Default::default() };
        let redacted = client.redact(call("acme").request(request)).await;
        assert_eq!(redacted.as_ref().map_or_else(tonic::Status::code, |_| Code::Ok), redact, "{role}");
        if let Ok(redacted) = redacted {
            assert!(!redacted.into_inner().text.contains("anna"));
        }
        let status = client.restore(call("acme").request(RestoreRequest::default())).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
        assert!(status.message().contains(role) && status.message().contains("Restore"), "{status:?}");
    }
    // Who comes in plain text hears nothing but why. A client to whom that comes before it has sent anything
    // takes it for the end of a connection that it never used; so it asks again.
    let ask = async || {
        let stranger = Mesh::of(&[], [("policy".to_owned(), vec![at.clone()])].into()).await;
        let mut client = PolicyServiceClient::new(stranger.ctx.channel("policy"));
        client.redact(call("acme").request(RedactRequest::default())).await.unwrap_err()
    };
    let mut status = ask().await;
    for _ in 0..20 {
        if status.code() == Code::Unavailable {
            status = ask().await;
        }
    }
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(status.message().contains("TLS only"), "{status:?}");
}

#[test]
fn a_certificate_of_another_role_is_refused_before_the_role_starts() {
    let folder = tempfile::tempdir().unwrap();
    dev(folder.path(), &["--role", "policy"]);
    let file = |name: &str| folder.path().join("certs").join(name).display().to_string();
    let settings = [
        format!("identity.certificate={}", file("policy.pem")),
        format!("identity.key={}", file("policy.key")),
        format!("identity.authorities={}", file("ca.pem")),
        // A role that started would complain of this first.
        "inference.repository=/nowhere/models".to_owned(),
    ];
    let mut arguments = vec!["serve", "--role", "inference", "--listen", "127.0.0.1:0"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let output = run(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert!(
        told.contains("identity.certificate is for policy") && told.contains("serves inference"),
        "{told}"
    );
}

#[test]
fn an_authority_that_is_there_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = dev(folder.path(), &["--role", "knowledge"]);
    assert_eq!(first["authority_made"], true);
    assert_eq!(first["certificates"].as_array().unwrap().len(), 1);
    let authority = folder.path().join("certs/ca.pem");
    let before = std::fs::read(&authority).unwrap();
    let old = identity(folder.path(), "knowledge");
    assert!(old.own().unwrap().has("knowledge"));

    let second = dev(folder.path(), &["--role", "knowledge,policy", "--days", "3"]);
    assert_eq!(second["authority_made"], false);
    assert_eq!(std::fs::read(&authority).unwrap(), before);
    let both = identity(folder.path(), "knowledge-policy").own().unwrap();
    assert!(both.has("knowledge") && both.has("policy"));

    assert_eq!(dev(folder.path(), &["--force"])["authority_made"], true);
    assert_ne!(std::fs::read(&authority).unwrap(), before);

    std::fs::remove_file(folder.path().join("certs/ca.key")).unwrap();
    let out = folder.path().join("certs");
    let output = run(folder.path(), &["certs", "dev", "--out", out.to_str().unwrap()]);
    assert!(!output.status.success() && stderr(&output).contains("--force"), "{}", stderr(&output));
}

#[test]
fn keys_are_for_their_owner_alone_and_the_table_names_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("certs");
    let output = run(folder.path(), &["certs", "dev", "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut keys = 0;
    for entry in std::fs::read_dir(&out).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(text.contains(name) || name == "ca.key", "{name} is missing in:\n{text}");
        if path.extension().unwrap() == "key" {
            keys += 1;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
    }
    assert_eq!(keys, crate::mesh::ALL.len() + 3, "each role, the gateway, the operator and the authority");
    let unknown = run(folder.path(), &["certs", "dev", "--role", "polizei"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("policy") && stderr(&unknown).contains("operator"));
}
