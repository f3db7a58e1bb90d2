//! `switchboard keys` over the built binary, and with it over a running gateway.

use std::{path::Path, process::Output, sync::Arc, time::Duration};

use serde_json::Value;
use switchboard_gateway::{Dependencies, keys::Keys};
use switchboard_mesh::Context;
use switchboard_proto::conversation::v1::{
    ListConversationsRequest, conversation_service_client::ConversationServiceClient,
};
use tonic::{Code, Request, transport::Channel};

use crate::binary::{folder, json, run, stderr};

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn create(data: &Path, arguments: &[&str]) -> String {
    let text = stdout(&run(data, &[&["keys", "create"], arguments].concat()));
    text.strip_suffix('\n').unwrap().to_owned()
}

fn list(data: &Path) -> Vec<Value> {
    json(&run(data, &["keys", "list", "--json"])).as_array().unwrap().clone()
}

#[test]
fn a_key_is_printed_alone_listed_without_itself_and_revoked_by_its_id() {
    let data = folder();
    let arguments = ["--tenant", "acme", "--role", "agent", "--scope", "knowledge:read", "--scope", "policy"];
    let rest = ["--expires", "90d", "--label", "desk 4"];
    let key = create(data.path(), &[&arguments[..], &rest].concat());
    assert!(key.starts_with("sb_") && key.len() == 84, "{} bytes", key.len());
    create(data.path(), &["--role", "admin"]);

    let listed = list(data.path());
    let key_of = |tenant: &str| listed.iter().find(|key| key["tenant"] == tenant).unwrap();
    let (made, other) = (key_of("acme"), key_of("default"));
    assert_eq!((&made["role"], &made["label"]), (&"agent".into(), &"desk 4".into()));
    assert_eq!(made["scopes"], serde_json::json!(["knowledge:read", "policy"]));
    assert_eq!((&made["expired"], &other["expires_at"]), (&false.into(), &Value::Null));
    assert!(made["expires_at"].as_str().unwrap() > made["created_at"].as_str().unwrap());

    let table = stdout(&run(data.path(), &["keys", "list"]));
    let id = made["id"].as_str().unwrap();
    for word in ["expires", id, "agent", "knowledge:read policy", "never", "desk 4"] {
        assert!(table.contains(word), "{word} is missing in:\n{table}");
    }
    assert!(!table.contains(key.rsplit('_').next().unwrap()), "a list has no keys in it");

    assert_eq!(stdout(&run(data.path(), &["keys", "revoke", id])), format!("revoked {id}\n"));
    let again = run(data.path(), &["keys", "revoke", id]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains(id) && stderr(&again).contains("keys list"), "{}", stderr(&again));
    assert_eq!(list(data.path()).len(), 1);
}

#[test]
fn what_cannot_be_asked_of_a_key_says_what_can() {
    let data = folder();
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--role", "king"], &["--role", "customer-app, agent, admin, auditor"]),
        (&["--role", "admin", "--scope", "know"], &["--scope", "knowledge:read", "conversation"]),
        (&["--role", "customer-app", "--scope", "knowledge"], &["customer-app", "conversation:read"]),
        (&["--role", "admin", "--expires", "soon"], &["--expires", "90d"]),
        (&["--role", "admin", "--expires", "0s"], &["1 second", "3650 days"]),
        (&["--role", "admin", "--tenant", "A B"], &["--tenant", "a-z"]),
    ];
    for (arguments, words) in cases {
        let output = run(data.path(), &[&["keys", "create"], arguments].concat());
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        for word in words {
            assert!(stderr(&output).contains(word), "{word} is missing in {}", stderr(&output));
        }
    }
    assert!(list(data.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_takes_in_what_the_command_makes_and_revokes() {
    let data = folder();
    let ctx = Context::new(data.path().to_owned(), Default::default());
    let keys = Arc::new(Keys::open(Keys::file_in(data.path())).unwrap());
    let any = ([127, 0, 0, 1], 0).into();
    let config = switchboard_gateway::Config { http: any, grpc: any, ..Default::default() };
    let descriptors = switchboard_proto::DESCRIPTORS;
    let dependencies = Dependencies { keys, redis: None, scrape: String::new, descriptors };
    let doors = switchboard_gateway::start(config, &ctx, dependencies);
    let grpc = doors.await.unwrap().grpc;
    let channel = Channel::from_shared(format!("http://{grpc}")).unwrap().connect().await.unwrap();
    let becomes = async |key: &str, code: Code| {
        let call = async || {
            let mut request = Request::new(ListConversationsRequest::default());
            request.metadata_mut().insert("x-api-key", key.parse().unwrap());
            let mut client = ConversationServiceClient::new(channel.clone());
            client.list_conversations(request).await.unwrap_err().code()
        };
        let wait = async {
            while call().await != code {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(waited.is_ok(), "the gateway never came to {code:?}");
    };
    let key = create(data.path(), &["--role", "auditor"]);
    // Let in: there is no such role behind this gateway.
    becomes(&key, Code::Unavailable).await;
    let narrow = create(data.path(), &["--role", "customer-app"]);
    becomes(&narrow, Code::PermissionDenied).await;
    let id = key.split('_').nth(1).unwrap();
    stdout(&run(data.path(), &["keys", "revoke", id]));
    becomes(&key, Code::Unauthenticated).await;
    becomes(&narrow, Code::PermissionDenied).await;
    ctx.drain(Duration::from_secs(1)).await;
}
