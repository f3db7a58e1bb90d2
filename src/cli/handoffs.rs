//! `switchboard handoffs`: the conversations that were offered to a person, as the ledger tells of them.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Args, Subcommand};
use humantime_serde::re::humantime;
use serde_json::json;
use switchboard_proto::ledger::v1::{
    QueryRequest, Record, RecordKind, ledger_service_client::LedgerServiceClient,
};

use super::{
    Global,
    client::{Client, ServerArgs, explain},
    show,
};
use crate::roles::Role;

/// How long the ledger may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What to do with hand-offs.
#[derive(Subcommand)]
pub(crate) enum HandoffsCommand {
    /// List the conversations that were offered to a person, latest first
    List(ListArgs),
}

/// Flags of `handoffs list`.
#[derive(Args)]
pub(crate) struct ListArgs {
    /// How many to show, up to 500
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Only those of this conversation
    #[arg(long, default_value = "", value_name = "ID")]
    conversation: String,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn handoffs(global: &Global, command: HandoffsCommand) -> Result<ExitCode> {
    let HandoffsCommand::List(args) = command;
    let client = Client::open(global, &args.server, &[Role::Ledger]).await?;
    let request = QueryRequest {
        kinds: vec![RecordKind::HandOff.into()],
        conversation_id: args.conversation,
        page_size: args.limit,
        ..QueryRequest::default()
    };
    let mut ledger =
        LedgerServiceClient::new(client.channel(Role::Ledger)).max_decoding_message_size(8 << 20);
    let found = match client.request(request, LIMIT) {
        Ok(request) => ledger.query(request).await.map_err(|status| explain(&status)),
        Err(error) => Err(error),
    };
    client.close().await;
    let offers: Vec<Offer> = found?.into_inner().records.into_iter().map(Offer::of).collect();
    if args.json {
        show::line(&json!(offers.iter().map(Offer::json).collect::<Vec<_>>()).to_string());
    } else if offers.is_empty() {
        show::line("No conversation was offered to a person.");
    } else {
        let rows: Vec<_> = offers.iter().map(Offer::row).collect();
        let header = ["when", "channel", "reason", "because", "noticed", "conversation", "turn"];
        show::line(&show::table(&header, &rows));
    }
    Ok(ExitCode::SUCCESS)
}

/// A conversation that was offered to a person.
struct Offer {
    id: String,
    when: String,
    conversation: String,
    turn: String,
    state: String,
    channel: String,
    reason: String,
    explanation: String,
    concerns: String,
    rules: String,
}

impl Offer {
    fn of(mut record: Record) -> Self {
        let time = record.time.and_then(|time| std::time::SystemTime::try_from(time).ok());
        let mut fact = |name: &str| record.attributes.remove(name).unwrap_or_default();
        Self {
            when: time.map(|time| humantime::format_rfc3339_seconds(time).to_string()).unwrap_or_default(),
            state: fact("state"),
            channel: fact("channel"),
            reason: fact("reason"),
            explanation: fact("explanation"),
            concerns: fact("concerns"),
            rules: fact("rules"),
            id: record.record_id,
            conversation: record.conversation_id,
            turn: record.turn_id,
        }
    }

    fn row(&self) -> Vec<String> {
        let Self { when, channel, reason, explanation, concerns, conversation, turn, .. } = self;
        let shown = [when, channel, reason, explanation, concerns, conversation, turn];
        shown.map(|text| show::plain(text)).to_vec()
    }

    fn json(&self) -> serde_json::Value {
        let split = |list: &str| -> Vec<String> {
            list.split(", ").filter(|item| !item.is_empty()).map(String::from).collect()
        };
        json!({
            "hand_off_id": self.id, "time": self.when, "state": self.state, "channel": self.channel,
            "reason": self.reason, "explanation": self.explanation, "concerns": split(&self.concerns),
            "rules": split(&self.rules), "conversation_id": self.conversation, "turn": self.turn,
        })
    }
}
