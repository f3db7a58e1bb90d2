//! The turn's promises, over all roles in one process.

use std::time::Duration;

use switchboard_mesh::{Call, Deadline, Tenant};
use switchboard_proto::conversation::v1::{
    Budget, ConverseRequest, Feedback, GetConversationRequest, HandOffReason, ListConversationsRequest,
    Outcome, Rating, StageStatus, SubmitFeedbackRequest,
    conversation_service_client::ConversationServiceClient,
};
use tonic::Code;

use crate::mesh::{ALL, Mesh, assert_code, call, question, shop};

fn budget(whole: Duration) -> Option<Budget> {
    Some(Budget { first_sentence: None, whole: prost_types::Duration::try_from(whole).ok() })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cites_the_span_it_rests_on() {
    let mesh = Mesh::whole().await;
    shop(&mesh).await;
    let reply = mesh.ask("Can I send back shoes I have worn outside?").await;
    assert_eq!(reply.outcome(), Outcome::Answered, "{reply:?}");
    assert!(reply.text.contains("worn outside cannot be returned"), "{}", reply.text);
    let citation = reply.report.citations[0].citation.clone().unwrap();
    assert_eq!(citation.document_id, "returns.md");
    assert_eq!(citation.heading_path.last().map(String::as_str), Some("Shoes"));
    assert!(citation.quote.contains("worn outside"), "{citation:?}");
    assert!(citation.end > citation.start);
    assert!(reply.report.degraded.is_empty(), "{:?}", reply.report.degraded);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_documents_do_not_say_is_not_answered() {
    let mesh = Mesh::whole().await;
    shop(&mesh).await;
    let reply = mesh.ask("Who wrote the opera Carmen?").await;
    assert_eq!(reply.outcome(), Outcome::HandedOff, "{reply:?}");
    assert_eq!(reply.hand_off.as_ref().unwrap().reason(), HandOffReason::TooLittleEvidence);
    assert!(reply.report.citations.is_empty());
    assert!(!reply.text.trim().is_empty(), "no silence");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_up_is_understood_with_the_turn_before_it() {
    let mesh = Mesh::whole().await;
    shop(&mesh).await;
    let first = mesh.ask("Within how many days can I return a jacket?").await;
    assert!(first.text.contains("30 days"), "{}", first.text);
    let conversation_id = first.report.conversation_id;
    let request = ConverseRequest { conversation_id, ..question("and for shoes?") };
    let second = mesh.converse(&call("acme"), request).await.unwrap();
    assert_eq!(second.outcome(), Outcome::Answered, "{second:?}");
    assert!(second.text.to_lowercase().contains("shoes"), "{}", second.text);
    assert_eq!(second.report.turn, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_number_never_leaves_policy() {
    let mesh = Mesh::whole().await;
    shop(&mesh).await;
    let reply = mesh.ask("I paid with 4111 1111 1111 1111, do you refund a jacket to my card?").await;
    assert_eq!(reply.outcome(), Outcome::Answered, "{reply:?}");
    assert_eq!(reply.report.redacted_kinds, ["card"]);
    assert!(!format!("{reply:?}").contains("4111"), "{reply:?}");
    let mut client = ConversationServiceClient::new(mesh.ctx.channel("conversation"));
    let request = GetConversationRequest { conversation_id: reply.report.conversation_id };
    let stored = client.get_conversation(call("acme").request(request)).await.unwrap().into_inner();
    assert!(!format!("{stored:?}").contains("4111"), "{stored:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_budget_ends_well_and_a_spent_deadline_does_not() {
    // Nobody listens behind this address for long: it takes calls and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote =
        [("knowledge".to_owned(), vec![format!("http://{}", silent.local_addr().unwrap()).parse().unwrap()])];
    let roles = ["conversation", "embeddings", "generation", "inference", "policy"];
    let mesh = Mesh::of(&roles, remote.into()).await;
    let request = |whole| ConverseRequest {
        budget: budget(Duration::from_millis(whole)),
        ..question("How long is delivery?")
    };

    let began = std::time::Instant::now();
    let reply = mesh.converse(&call("acme"), request(400)).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    assert_eq!(reply.outcome(), Outcome::Unanswered);
    assert!(!reply.text.trim().is_empty(), "no silence");
    let stage = reply.report.stages.iter().find(|stage| stage.name == "retrieve").unwrap();
    assert_eq!(stage.status(), StageStatus::TimedOut, "{stage:?}");

    let late = Call::new(Tenant::try_new("acme").unwrap(), Deadline::after(Duration::ZERO));
    assert_code(mesh.converse(&late, request(5_000)).await, Code::DeadlineExceeded);
    // A deadline before the budget is what the turn works to: it ends well just before it.
    let soon = Call::new(Tenant::try_new("acme").unwrap(), Deadline::after(Duration::from_millis(400)));
    let reply = mesh.converse(&soon, request(60_000)).await.unwrap();
    assert_eq!(reply.outcome(), Outcome::Unanswered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_a_millisecond_still_ends_in_words() {
    let mesh = Mesh::whole().await;
    shop(&mesh).await;
    let request =
        ConverseRequest { budget: budget(Duration::from_millis(1)), ..question("How long is delivery?") };
    let reply = mesh.converse(&call("acme"), request).await.unwrap();
    assert!(!reply.text.trim().is_empty(), "no silence");
    assert!(!reply.report.degraded.is_empty(), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_policy_hides_is_not_quoted_either() {
    let mesh = Mesh::whole().await;
    let text =
        "# Donations\n\nPlease send donations to the account DE89 3704 0044 0532 0130 00 of the shelter.\n";
    mesh.ingest("acme", "donations.md", text).await;
    let reply = mesh.ask("To which account can I send donations?").await;
    assert_eq!(reply.outcome(), Outcome::Answered, "{reply:?}");
    assert!(reply.text.contains("[iban"), "{}", reply.text);
    assert!(!format!("{reply:?}").contains("3704"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_out_of_range_is_named() {
    let mesh = Mesh::of(&["conversation", "policy"], Default::default()).await;
    for whole in [Duration::ZERO, Duration::from_secs(31_536_000)] {
        let request = ConverseRequest { budget: budget(whole), ..question("hello") };
        let status = assert_code(mesh.converse(&call("acme"), request).await, Code::InvalidArgument);
        assert!(status.message().contains("budget.whole"), "{}", status.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_questions_are_refused_with_the_field() {
    let mesh = Mesh::of(&["conversation", "policy"], Default::default()).await;
    for text in ["", "\u{1}\u{2}", "🙂🙂🙂", &"x".repeat(1_000_000)] {
        let status = assert_code(mesh.converse(&call("acme"), question(text)).await, Code::InvalidArgument);
        assert!(status.message().starts_with("text"), "{}", status.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_left_question_runs_like_any_other() {
    let mesh = Mesh::whole().await;
    shop(&mesh).await;
    let reply = mesh.ask("هل يمكنني إرجاع الأحذية؟").await;
    assert!(!reply.text.trim().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_embeddings_words_alone_still_answer_and_the_report_says_so() {
    let whole = Mesh::whole().await;
    shop(&whole).await;
    // A second node that has every role but embeddings, over the first one's knowledge.
    let address = whole.listen().await;
    let remote = [("knowledge".to_owned(), vec![format!("http://{address}").parse().unwrap()])].into();
    let mesh = Mesh::of(&["conversation", "generation", "policy"], remote).await;
    let reply = mesh.ask("Can shoes that were worn outside be returned?").await;
    assert_eq!(reply.outcome(), Outcome::Answered, "{reply:?}");
    assert!(reply.text.contains("worn outside cannot be returned"), "{}", reply.text);
    assert!(
        reply.report.degraded.iter().any(|lack| lack.starts_with("embed_query")),
        "{:?}",
        reply.report.degraded
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_knowledge_nothing_is_claimed() {
    let mesh =
        Mesh::of(&["conversation", "embeddings", "generation", "inference", "policy"], Default::default())
            .await;
    let reply = mesh.ask("Can I return shoes?").await;
    assert_eq!(reply.outcome(), Outcome::HandedOff);
    assert_eq!(reply.hand_off.as_ref().unwrap().reason(), HandOffReason::Failed);
    assert!(reply.report.citations.is_empty());
    assert!(
        reply.report.degraded.iter().any(|lack| lack.starts_with("retrieve")),
        "{:?}",
        reply.report.degraded
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_policy_a_turn_fails_closed() {
    let roles: Vec<&str> = ALL.into_iter().filter(|role| *role != "policy").collect();
    let mesh = Mesh::of(&roles, Default::default()).await;
    shop(&mesh).await;
    let reply = mesh.ask("Can I return shoes?").await;
    assert_eq!(reply.outcome(), Outcome::HandedOff, "{reply:?}");
    let stages: Vec<_> = reply.report.stages.iter().map(|s| (s.name.as_str(), s.status())).collect();
    assert!(stages.contains(&("inspect_input", StageStatus::Failed)), "{stages:?}");
    assert!(
        !stages.iter().any(|(name, _)| *name == "embed_query"),
        "nothing is embedded unchecked: {stages:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_never_meet() {
    let mesh = Mesh::whole().await;
    shop(&mesh).await;
    let own = mesh.ask("How much does delivery cost?").await;
    let stranger = mesh.converse(&call("other"), question("How much does delivery cost?")).await.unwrap();
    assert_eq!(own.outcome(), Outcome::Answered, "{own:?}");
    assert_eq!(stranger.outcome(), Outcome::HandedOff, "{stranger:?}");
    let conversation_id = own.report.conversation_id;
    let request = ConverseRequest { conversation_id, ..question("and abroad?") };
    assert_code(mesh.converse(&call("other"), request).await, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_accounts_for_every_stage() {
    let mesh = Mesh::whole().await;
    shop(&mesh).await;
    let report = mesh.ask("How long does the warranty on tents last?").await.report;
    let names: Vec<_> = report.stages.iter().map(|stage| stage.name.as_str()).collect();
    for name in ["inspect_input", "load_context", "embed_query", "retrieve", "generate", "inspect_output"] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    let nanos = |time: Option<prost_types::Duration>| Duration::try_from(time.unwrap()).unwrap();
    for stage in &report.stages {
        assert!(nanos(stage.spent) <= nanos(report.spent), "{stage:?}");
        assert!(nanos(stage.share) <= Duration::from_secs(6), "{stage:?}");
    }
    assert_eq!(report.route.unwrap().model, "extractive");
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_listed_and_rated() {
    let mesh = Mesh::whole().await;
    shop(&mesh).await;
    let first = mesh.ask("How long does delivery take?").await.report;
    let second = mesh.ask("Can I return a jacket?").await.report;
    let mut client = ConversationServiceClient::new(mesh.ctx.channel("conversation"));
    let page = ListConversationsRequest { page_size: 1, ..Default::default() };
    let listed = client.list_conversations(call("acme").request(page)).await.unwrap().into_inner();
    assert_eq!(listed.conversations[0].conversation_id, second.conversation_id, "latest first");
    let page = ListConversationsRequest { page_size: 1, page_token: listed.next_page_token };
    let listed = client.list_conversations(call("acme").request(page)).await.unwrap().into_inner();
    assert_eq!(listed.conversations[0].conversation_id, first.conversation_id);
    assert!(listed.next_page_token.is_empty());

    let rate = |turn, comment: &str| SubmitFeedbackRequest {
        conversation_id: first.conversation_id.clone(),
        turn,
        feedback: Some(Feedback {
            rating: Rating::Helpful.into(),
            comment: comment.into(),
            ..Default::default()
        }),
    };
    client.submit_feedback(call("acme").request(rate(1, "thanks, jane@example.com"))).await.unwrap();
    assert_code(client.submit_feedback(call("acme").request(rate(9, ""))).await, Code::NotFound);
    let request = GetConversationRequest { conversation_id: first.conversation_id.clone() };
    let stored = client.get_conversation(call("acme").request(request)).await.unwrap().into_inner();
    let feedback = stored.conversation.unwrap().turns[0].feedback.clone().unwrap();
    assert_eq!(feedback.rating(), Rating::Helpful);
    assert!(!feedback.comment.contains("jane@example.com"), "{feedback:?}");
}
