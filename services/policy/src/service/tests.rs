use mesh::{Channel, testing};
use proto::policy::v1::policy_service_client::PolicyServiceClient;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;

async fn client() -> PolicyServiceClient<Channel> {
    let data = tempfile::tempdir().unwrap();
    let ctx = testing::context(data.path());
    let mounted = crate::start(crate::Config::default(), &ctx).await.unwrap();
    PolicyServiceClient::new(testing::serve(&mounted))
}

fn inspect(text: &str, direction: v1::Direction, conversation: &str) -> InspectRequest {
    InspectRequest {
        text: text.into(),
        direction: direction.into(),
        conversation_id: conversation.into(),
        locale: String::new(),
    }
}

fn restore(text: &str, conversation: &str, purpose: &str) -> RestoreRequest {
    RestoreRequest { text: text.into(), conversation_id: conversation.into(), purpose: purpose.into() }
}

#[tokio::test]
async fn a_question_is_rewritten_with_its_findings() {
    let mut client = client().await;
    let request = inspect("Größe? 4111 1111 1111 1111", v1::Direction::Input, "c1");
    let reply = client.inspect(testing::call("acme").request(request)).await.unwrap().into_inner();
    let finding = &reply.findings[0];
    assert_eq!((finding.start, finding.end, finding.kind.as_str()), (7, 26, "card"));
    assert!(finding.placeholder.starts_with("[card-") && finding.placeholder.ends_with(']'));
    let text = format!("Größe? {}", finding.placeholder);
    assert_eq!((reply.verdict(), reply.text), (Verdict::Rewrite, text));
    assert!(!reply.reason.is_empty());
}

#[tokio::test]
async fn a_plain_question_is_allowed_as_it_is() {
    let mut client = client().await;
    let request = inspect("Can I return shoes?", v1::Direction::Input, "");
    let reply = client.inspect(testing::call("acme").request(request)).await.unwrap().into_inner();
    assert_eq!((reply.verdict(), reply.text.as_str()), (Verdict::Allow, "Can I return shoes?"));
    assert!(reply.findings.is_empty() && reply.reason.is_empty());
}

#[tokio::test]
async fn a_tenant_restores_its_own_conversations_and_no_others() {
    let mut client = client().await;
    let request = RedactRequest { text: "I am jo@home.de".into(), conversation_id: "c1".into() };
    let redacted = client.redact(testing::call("acme").request(request)).await.unwrap().into_inner().text;
    assert!(redacted.starts_with("I am [email-"), "{redacted}");
    for (tenant, conversation, text, missing) in [
        ("acme", "c1", "I am jo@home.de", 0),
        ("acme", "c2", redacted.as_str(), 1),
        ("other", "c1", redacted.as_str(), 1),
    ] {
        let request = testing::call(tenant).request(restore(&redacted, conversation, "refund"));
        let reply = client.restore(request).await.unwrap().into_inner();
        assert_eq!((reply.text.as_str(), reply.missing), (text, missing), "{tenant} {conversation}");
    }
}

#[tokio::test]
async fn long_texts_are_redacted_and_longer_ones_refused() {
    let mut client = client().await;
    let long = format!("{}a@b.de", "ä".repeat(63_990) + " ");
    let request = inspect(&long, v1::Direction::Input, "c1");
    let reply = client.inspect(testing::call("acme").request(request)).await.unwrap().into_inner();
    assert!(reply.text.contains(" [email-") && !reply.text.contains('@'));
    let request = inspect(&"ä".repeat(64_001), v1::Direction::Input, "c1");
    let status = client.inspect(testing::call("acme").request(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, "text");
}

#[tokio::test]
async fn bad_fields_are_named() {
    let mut client = client().await;
    for (request, field) in [
        (restore("x", "c1", " "), "purpose"),
        (restore("x", "", "refund"), "conversation_id"),
        (restore("x", &"c".repeat(300), "refund"), "conversation_id"),
    ] {
        let status = client.restore(testing::call("acme").request(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, field);
    }
    let request = inspect("x", v1::Direction::Unspecified, "");
    let status = client.inspect(testing::call("acme").request(request)).await.unwrap_err();
    assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, "direction");
}

#[tokio::test]
async fn a_call_without_tenant_is_refused() {
    let mut client = client().await;
    let request = Request::new(inspect("x", v1::Direction::Input, ""));
    assert_eq!(client.inspect(request).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn decisions_wait_for_a_policy() {
    let mut client = client().await;
    let request = DecideRequest { action: "tool.call".into(), facts: std::collections::HashMap::new() };
    let status = client.decide(testing::call("acme").request(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn calls_of_one_conversation_at_once_agree_on_placeholders() {
    let client = client().await;
    let calls = (0..32).map(|at| {
        let mut client = client.clone();
        async move {
            let text = format!("a{}@b.de", at % 4);
            let request = RedactRequest { text, conversation_id: "c1".into() };
            let reply = client.redact(testing::call("acme").request(request)).await.unwrap().into_inner();
            (at % 4, reply.text)
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    calls.for_each(|call| {
        tasks.spawn(call);
    });
    let seen: std::collections::BTreeSet<(usize, String)> = tasks.join_all().await.into_iter().collect();
    assert_eq!(seen.len(), 4);
}
