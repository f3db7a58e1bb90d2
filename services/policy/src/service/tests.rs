use mesh::{Channel, testing};
use proto::policy::v1::{self as v1, Verdict, policy_service_client::PolicyServiceClient};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;

async fn client() -> PolicyServiceClient<Channel> {
    with(crate::Config::default()).await
}

async fn with(config: crate::Config) -> PolicyServiceClient<Channel> {
    let data = tempfile::tempdir().unwrap();
    let ctx = testing::context(data.path());
    let mounted = crate::start(config, &ctx).await.unwrap();
    PolicyServiceClient::new(testing::serve(&mounted))
}

/// The example bundles, one for a tenant of its name.
async fn examples() -> PolicyServiceClient<Channel> {
    let bundles = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/policy");
    let tenants = ["retail", "bank", "clinic"].map(|name| (name.to_owned(), name.to_owned())).into();
    // The time is for a machine under load; what is cut off has tests of its own.
    let evaluation = std::time::Duration::from_secs(1);
    with(crate::Config { bundles, tenants, evaluation, ..crate::Config::default() }).await
}

fn decide(action: &str, facts: &[(&str, &str)]) -> DecideRequest {
    let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    DecideRequest { action: action.into(), facts, details: None }
}

fn inspect(text: &str, direction: v1::Direction, conversation: &str) -> InspectRequest {
    InspectRequest {
        text: text.into(),
        direction: direction.into(),
        conversation_id: conversation.into(),
        ..InspectRequest::default()
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
async fn an_action_is_decided_by_the_tenants_rules_over_the_base() {
    let mut client = examples().await;
    let refund =
        [("tool", "refund_order"), ("effect", "reversible"), ("amount", "20"), ("identity", "verified")];
    for (tenant, action, facts, verdict, rule) in [
        ("other", "tool.call", refund.as_slice(), Verdict::HandOff, "tool.amount"),
        ("retail", "tool.call", &refund, Verdict::Allow, "refund.small"),
        ("retail", "tool.call", &refund[..3], Verdict::Ask, "tool.identity"),
        ("bank", "tool.call", &refund, Verdict::HandOff, "tool.amount"),
        ("clinic", "tool.call", &refund, Verdict::HandOff, "tool.amount"),
        (
            "clinic",
            "model.use",
            &[("locality", "outside"), ("redacted", "true")],
            Verdict::Refuse,
            "locality.inside",
        ),
        (
            "bank",
            "model.use",
            &[("locality", "outside"), ("redacted", "true")],
            Verdict::Allow,
            "model.outside",
        ),
        (
            "bank",
            "tool.call",
            &[("tool", "transfer_own_accounts"), ("effect", "reversible"), ("identity", "strong")],
            Verdict::Refuse,
            "tool.no_amount",
        ),
        (
            "bank",
            "tool.call",
            &[
                ("tool", "transfer_own_accounts"),
                ("effect", "reversible"),
                ("identity", "verified"),
                ("amount", "0"),
            ],
            Verdict::Ask,
            "tool.strength",
        ),
        ("bank", "model.use", &[("locality", "outside")], Verdict::Refuse, "model.raw"),
        ("bank", "model.use", &[], Verdict::Refuse, "policy.silent"),
        ("bank", "no.such_action", &[], Verdict::Refuse, "policy.silent"),
        ("other", "handoff.offer", &[], Verdict::Allow, "handoff.offer"),
    ] {
        let reply = client.decide(testing::call(tenant).request(decide(action, facts))).await.unwrap();
        let reply = reply.into_inner();
        assert_eq!(reply.verdict(), verdict, "{tenant} {action} {reply:?}");
        assert!(reply.rules.contains(&rule.to_owned()) && !reply.reason.is_empty(), "{tenant} {reply:?}");
        assert!(reply.bundle.starts_with("base 1.0.0 ("), "{reply:?}");
    }
}

#[tokio::test]
async fn the_shortest_time_to_keep_data_holds_unless_the_base_lets_go() {
    let mut client = examples().await;
    for (tenant, days) in [("other", 30), ("retail", 14), ("clinic", 7), ("bank", 1825)] {
        let request = decide("data.keep", &[("data", "conversation")]);
        let reply = client.decide(testing::call(tenant).request(request)).await.unwrap().into_inner();
        assert_eq!(
            (reply.verdict(), reply.keep.unwrap().seconds),
            (Verdict::Allow, days * 86_400),
            "{tenant}"
        );
    }
    let reply =
        client.decide(testing::call("bank").request(decide("data.keep", &[("data", "dreams")]))).await;
    let reply = reply.unwrap().into_inner();
    assert_eq!((reply.verdict(), reply.keep), (Verdict::Refuse, None));
}

#[tokio::test]
async fn facts_may_be_numbers_and_are_bounded() {
    use prost_types::{Struct, Value, value::Kind};
    let mut client = examples().await;
    let details = |kind: Kind| Struct { fields: [("amount".to_owned(), Value { kind: Some(kind) })].into() };
    let with = |kind: Kind| {
        let facts = [("tool", "refund_order"), ("effect", "reversible"), ("identity", "verified")];
        DecideRequest { details: Some(details(kind)), ..decide("tool.call", &facts) }
    };
    for (kind, verdict) in [
        (Kind::NumberValue(20.0), Verdict::Allow),
        (Kind::NumberValue(2000.0), Verdict::HandOff),
        (Kind::NumberValue(-20.0), Verdict::Refuse),
        (Kind::BoolValue(true), Verdict::Refuse),
        (Kind::BoolValue(false), Verdict::Refuse),
    ] {
        let request = testing::call("retail").request(with(kind.clone()));
        let reply = client.decide(request).await.unwrap().into_inner();
        if verdict == Verdict::Refuse {
            assert_ne!(reply.verdict(), Verdict::Allow, "{kind:?}: {reply:?}");
        } else {
            assert_eq!(reply.verdict(), verdict, "{kind:?}: {reply:?}");
        }
    }
    for (request, field) in [
        (with(Kind::NumberValue(f64::INFINITY)), "details"),
        (with(Kind::StringValue("x".repeat(70_000))), "details"),
        (decide("Tool Call", &[]), "action"),
        (decide("", &[]), "action"),
    ] {
        let status = client.decide(testing::call("retail").request(request)).await.unwrap_err();
        assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, field);
    }
}

#[tokio::test]
async fn a_draft_comes_back_with_what_must_be_said() {
    let mut client = examples().await;
    let draft = InspectRequest {
        product: "savings".into(),
        jurisdiction: "US-CA".into(),
        ..inspect("The interest is 4.1% APY.", v1::Direction::Output, "c1")
    };
    let reply = client.inspect(testing::call("bank").request(draft.clone())).await.unwrap().into_inner();
    assert_eq!(reply.verdict(), Verdict::Disclose, "{reply:?}");
    assert!(reply.required_disclosures[0].text.contains("FDIC"));
    assert_eq!(reply.text, draft.text);
    let advice = InspectRequest { text: "You should buy this fund.".into(), ..draft };
    let reply = client.inspect(testing::call("bank").request(advice.clone())).await.unwrap().into_inner();
    assert_eq!((reply.verdict(), reply.rules), (Verdict::Refuse, vec!["draft.advice".to_owned()]));
    let reply = client.inspect(testing::call("retail").request(advice)).await.unwrap().into_inner();
    assert_eq!(reply.verdict(), Verdict::Allow, "{reply:?}");
}

#[tokio::test]
async fn rules_read_redacted_text_and_decide_on_it() {
    let mut client = examples().await;
    let request = inspect("My card was stolen, 4111 1111 1111 1111", v1::Direction::Input, "c1");
    let reply = client.inspect(testing::call("bank").request(request)).await.unwrap().into_inner();
    assert_eq!((reply.verdict(), reply.rules[0].as_str()), (Verdict::HandOff, "card.urgent"));
    assert!(reply.text.contains("[card-") && reply.reason.contains("wrong hands"), "{}", reply.reason);
}

/// A bundle of one tenant, `acme`, whose rules fail when they are asked.
fn failing(rule: &str) -> (tempfile::TempDir, crate::Config) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("bundle.toml"), "version = \"1\"").unwrap();
    let rules = ["inspect", "tool"].map(|entry| format!("{entry} contains {rule}\n\n")).concat();
    std::fs::write(path.join("own.rego"), format!("package switchboard\n\n{rules}")).unwrap();
    let tenants = [("acme".to_owned(), "own".to_owned())].into();
    let config = crate::Config { bundles: folder.path().to_owned(), tenants, ..crate::Config::default() };
    (folder, config)
}

#[tokio::test]
async fn where_rules_give_no_answer_nothing_goes_on() {
    let endless = "{\"rule\": \"a\", \"verdict\": \"allow\"} if {\n\tinput.action\n\
                   \tn := numbers.range(1, 5000)\n\tsome a in n\n\tsome b in n\n\ta + b == 0\n}";
    for rule in ["{\"rule\": \"a\", \"verdict\": input.action}", "{\"rule\": \"a\"} if input.action", endless]
    {
        let (_folder, config) = failing(rule);
        let config = crate::Config { evaluation: std::time::Duration::from_millis(20), ..config };
        let mut client = with(config).await;
        for (direction, verdict) in
            [(v1::Direction::Input, Verdict::HandOff), (v1::Direction::Output, Verdict::Refuse)]
        {
            let request = inspect("Can I return shoes?", direction, "c1");
            let reply = client.inspect(testing::call("acme").request(request)).await.unwrap().into_inner();
            assert_eq!((reply.verdict(), reply.rules), (verdict, vec!["policy.failed".to_owned()]));
            assert!(!reply.reason.is_empty());
        }
        let request = decide("tool.call", &[("effect", "none")]);
        let reply = client.decide(testing::call("acme").request(request)).await.unwrap().into_inner();
        assert_eq!(reply.verdict(), Verdict::Refuse);
    }
}

#[tokio::test]
async fn a_changed_bundle_is_in_use_after_a_reload_and_a_bad_one_is_told_of() {
    let (folder, config) = failing("{\"rule\": \"a\", \"verdict\": \"refuse\"}");
    let mut client = with(config).await;
    let call = testing::call("acme");
    let before = client.get_bundle(call.request(GetBundleRequest {})).await.unwrap().into_inner().bundles;
    assert_eq!(before.iter().map(|bundle| bundle.name.as_str()).collect::<Vec<_>>(), ["base", "own"]);
    assert!(before.iter().all(|bundle| bundle.refused.is_empty() && bundle.hash.len() == 64));
    let path = folder.path().join("own").join("own.rego");
    std::fs::write(&path, "package switchboard\n\ntool contains {").unwrap();
    let reload = async |client: &mut PolicyServiceClient<Channel>| {
        client.reload_bundles(call.request(ReloadBundlesRequest {})).await.unwrap().into_inner().bundles
    };
    let bad = reload(&mut client).await;
    assert!(bad[1].refused.contains("own/own.rego:3") && bad[1].hash == before[1].hash, "{bad:?}");
    let good = "package switchboard\n\ntool contains {\"rule\": \"b\", \"verdict\": \"hand_off\"}\n";
    std::fs::write(&path, good).unwrap();
    let good = reload(&mut client).await;
    assert!(good[1].refused.is_empty() && good[1].hash != before[1].hash, "{good:?}");
    let reply = client.decide(call.request(decide("tool.call", &[]))).await.unwrap().into_inner();
    assert_eq!((reply.verdict(), reply.rules), (Verdict::HandOff, vec!["b".to_owned()]));
    assert_eq!(
        client
            .get_bundle(testing::call("other").request(GetBundleRequest {}))
            .await
            .unwrap()
            .into_inner()
            .bundles
            .len(),
        1,
        "no tenant sees another's"
    );
}

#[tokio::test]
async fn a_change_of_the_files_is_taken_up_by_itself() {
    let (folder, config) = failing("{\"rule\": \"a\", \"verdict\": \"refuse\"}");
    let mut client = with(config).await;
    let good = "package switchboard\n\ntool contains {\"rule\": \"b\", \"verdict\": \"refuse\"}\n";
    std::fs::write(folder.path().join("own").join("own.rego"), good).unwrap();
    testing::eventually(async || {
        let request = testing::call("acme").request(decide("tool.call", &[]));
        let rules = client.decide(request).await.unwrap().into_inner().rules;
        if rules == ["b"] { Ok(()) } else { Err(rules) }
    })
    .await;
}

#[tokio::test]
async fn what_is_stored_outlives_the_node_and_what_is_forgotten_does_not() {
    let data = tempfile::tempdir().unwrap();
    let keys = mesh::config::Secret::new(format!("a:{}", "07".repeat(32)));
    let vault = crate::VaultConfig { keys, ..crate::VaultConfig::default() };
    let config = crate::Config { vault, ..crate::Config::default() };
    let start = async || {
        let mounted = crate::start(config.clone(), &testing::context(data.path())).await.unwrap();
        PolicyServiceClient::new(testing::serve(&mounted))
    };
    let call = testing::call("acme");
    let request = inspect("I am jo@home.de", v1::Direction::Input, "c1");
    let told = start().await.inspect(call.request(request)).await.unwrap().into_inner().text;
    let mut client = start().await;
    let restored = client.restore(call.request(restore(&told, "c1", "refund"))).await.unwrap().into_inner();
    assert_eq!((restored.text.as_str(), restored.missing), ("I am jo@home.de", 0));
    let forget = |conversation_id: &str, value: &str| ForgetRequest {
        conversation_id: conversation_id.into(),
        value: value.into(),
    };
    let forgotten =
        client.forget(testing::call("other").request(forget("c1", ""))).await.unwrap().into_inner();
    assert_eq!(forgotten.values, 0, "another tenant's");
    let forgotten = client.forget(call.request(forget("", "jo@home.de"))).await.unwrap().into_inner();
    assert_eq!(forgotten.values, 1);
    for mut client in [client, start().await] {
        let restored =
            client.restore(call.request(restore(&told, "c1", "refund"))).await.unwrap().into_inner();
        assert_eq!((restored.text, restored.missing), (told.clone(), 1));
        for (conversation, value) in [("", ""), ("c1", "jo@home.de")] {
            let status = client.forget(call.request(forget(conversation, value))).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
        }
    }
}

/// A draft for a customer who reads English.
fn draft(text: &str) -> InspectRequest {
    InspectRequest { locale: "en".into(), ..inspect(text, v1::Direction::Output, "") }
}

#[tokio::test]
async fn a_bundle_says_what_becomes_of_a_draft_by_its_form() {
    let mut client = examples().await;
    let german = draft("Die Filiale hat an allen Werktagen von neun bis achtzehn Uhr für Sie geöffnet.");
    let hard = "Notwithstanding aforementioned contractual stipulations, reimbursement applicability remains \
                contingent upon administrative authorization.";
    let spelt = "We offer click  &  collect.";
    let quoted = InspectRequest { verbatim: true, ..draft(spelt) };
    for (tenant, request, verdict, rule) in [
        ("other", german.clone(), Verdict::Allow, "draft.language"),
        ("bank", german.clone(), Verdict::HandOff, "draft.language"),
        ("bank", InspectRequest { locale: "de-AT".into(), ..german }, Verdict::Allow, ""),
        ("retail", draft(hard), Verdict::Allow, "draft.reading"),
        ("clinic", draft(hard), Verdict::Refuse, "draft.reading"),
        ("retail", draft(spelt), Verdict::Rewrite, "draft.spelling"),
        ("retail", quoted, Verdict::Allow, "draft.spelling"),
    ] {
        let reply = client.inspect(testing::call(tenant).request(request)).await.unwrap().into_inner();
        // What the clinic wants said with it is no rule that decides.
        assert_eq!((reply.verdict(), reply.rules.join(" ").as_str()), (verdict, rule), "{tenant}: {reply:?}");
        let expected = if verdict == Verdict::Rewrite { "We offer Click & Collect." } else { &reply.text };
        assert_eq!(reply.text, expected);
    }
}

#[tokio::test]
async fn what_a_bundle_wants_said_is_told_where_it_applies_until_it_is_said() {
    let mut client = examples().await;
    let call =
        |text: &str| InspectRequest { channel: "voice".into(), jurisdiction: "DE-BY".into(), ..draft(text) };
    for (request, expected) in [
        (call("Our branch opens at nine."), vec!["bank.recorded"]),
        (call("Hello! THIS call is  recorded."), vec![]),
        (InspectRequest { channel: "chat".into(), ..call("Our branch opens at nine.") }, vec![]),
        (InspectRequest { jurisdiction: "US".into(), ..call("Our branch opens at nine.") }, vec![]),
    ] {
        let reply = client.inspect(testing::call("bank").request(request)).await.unwrap().into_inner();
        let told: Vec<&str> = reply.required_disclosures.iter().map(|told| told.rule.as_str()).collect();
        assert_eq!(told, expected, "{reply:?}");
        assert_eq!(reply.verdict() == Verdict::Disclose, !expected.is_empty());
    }
}

/// What comes of a text that arrives in chunks: the pieces, and the status that ended it.
async fn streamed(
    client: &mut PolicyServiceClient<Channel>,
    tenant: &str,
    start: InspectRequest,
    chunks: Vec<String>,
) -> (Vec<InspectResponse>, Option<Status>) {
    use v1::inspect_stream_request::Part;
    let parts = std::iter::once(Part::Start(start)).chain(chunks.into_iter().map(Part::Chunk));
    let messages: Vec<_> = parts.map(|part| InspectStreamRequest { part: Some(part) }).collect();
    let request = testing::call(tenant).request(futures::stream::iter(messages));
    let mut replies = client.inspect_stream(request).await.unwrap().into_inner();
    let mut pieces = Vec::new();
    loop {
        match replies.message().await {
            Ok(Some(reply)) => pieces.push(reply.piece.unwrap()),
            Ok(None) => return (pieces, None),
            Err(status) => return (pieces, Some(status)),
        }
    }
}

#[tokio::test]
async fn a_text_that_arrives_in_chunks_is_redacted_as_a_whole_one_is() {
    let mut client = client().await;
    let sentence = "Please write to jo@home.de or pay with 4111 1111 1111 1111. Größe is fine. I was born on \
                    12 March 1984, my number is four one five, double five five, two six seven one, and I live at \
                    12 Main Street, Springfield. Thank you for all the help with this order, which came in time \
                    and looks very good so far. ";
    let text = sentence.repeat(12);
    let whole = RedactRequest { text: text.clone(), conversation_id: "c1".into() };
    let whole = client.redact(testing::call("acme").request(whole)).await.unwrap().into_inner();
    for size in [1, 7, 50, 333, 5000] {
        let characters: Vec<char> = text.chars().collect();
        let chunks = characters.chunks(size).map(|chunk| chunk.iter().collect()).collect();
        let start = inspect("", v1::Direction::Input, "c1");
        let (pieces, status) = streamed(&mut client, "acme", start, chunks).await;
        assert!(status.is_none(), "{status:?}");
        let joined: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(joined, whole.text, "in chunks of {size}");
        let places = |findings: &[v1::Finding]| -> Vec<(u32, u32)> {
            findings.iter().map(|finding| (finding.start, finding.end)).collect()
        };
        let found: Vec<v1::Finding> = pieces.iter().flat_map(|piece| piece.findings.clone()).collect();
        assert_eq!(places(&found), places(&whole.findings), "in chunks of {size}");
        // What is quiet lets it go on: words in which no number can be are decided.
        assert!(size > 300 || pieces.len() > 2, "it goes on while more comes: {}", pieces.len());
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_first_refusal_and_says_what_is_wrong_with_its_form() {
    let mut client = examples().await;
    let filler = "Our branch opens at nine. ".repeat(40);
    let start = || inspect("", v1::Direction::Output, "c1");
    let chunks = vec![filler.clone(), "You should buy this fund. ".into(), filler.clone(), filler.clone()];
    let (pieces, status) = streamed(&mut client, "bank", start(), chunks).await;
    assert!(status.is_none());
    assert_eq!(pieces.last().unwrap().verdict(), Verdict::Refuse);
    assert!(pieces[..pieces.len() - 1].iter().all(|piece| piece.verdict() == Verdict::Allow));
    let long = vec!["ä".repeat(40_000), "ä".repeat(40_000)];
    for (start, chunks, field) in [
        (inspect("x", v1::Direction::Output, ""), vec![], "start.text"),
        (inspect("", v1::Direction::Unspecified, ""), vec![], "direction"),
        (start(), long, "chunk"),
    ] {
        let (_, status) = streamed(&mut client, "bank", start, chunks).await;
        let details = status.unwrap().get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
    let nothing = futures::stream::iter(Vec::<InspectStreamRequest>::new());
    let mut reply = client.inspect_stream(testing::call("bank").request(nothing)).await.unwrap().into_inner();
    assert_eq!(reply.message().await.unwrap_err().code(), Code::InvalidArgument);
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
