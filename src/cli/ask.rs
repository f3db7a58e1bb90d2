//! `switchboard ask`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use switchboard_gateway::json::{self, Turn};
use switchboard_proto::conversation::v1::{
    Budget, Channel, ConverseRequest, conversation_service_client::ConversationServiceClient,
};

use super::{
    Global,
    client::{Client, ServerArgs, explain},
    show,
};
use crate::roles::Role;

/// Flags of `ask`.
#[derive(Args)]
pub(crate) struct AskArgs {
    /// The question; `-` reads it from standard input
    question: String,
    /// Conversation to go on with, as an earlier answer named it
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// Where the customer is; sets the default budget and the length of the reply
    #[arg(long, value_enum, default_value_t = ChannelArg::Chat)]
    channel: ChannelArg,
    /// Language, such as `en` or `de-AT`; answers only from documents in it
    #[arg(long, default_value = "")]
    locale: String,
    /// The customer's audience, such as a subscription tier; may be repeated
    #[arg(long = "audience", value_name = "NAME")]
    audiences: Vec<String>,
    /// What the question is about, in the words of the policy, such as `savings`
    #[arg(long, default_value = "", hide_default_value = true)]
    product: String,
    /// Whose law applies, such as `DE` or `US-CA`
    #[arg(long, default_value = "", hide_default_value = true)]
    jurisdiction: String,
    /// Time to aim for until the end of the reply, such as `500ms` or `2s`
    #[arg(long, value_name = "TIME", value_parser = time)]
    budget: Option<Duration>,
    /// Print the turn as one JSON object
    #[arg(long)]
    json: bool,
    /// Also write the turn as JSON to this file
    #[arg(long, value_name = "FILE")]
    json_file: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum ChannelArg {
    Chat,
    Voice,
    Email,
    Social,
}

impl From<ChannelArg> for Channel {
    fn from(channel: ChannelArg) -> Self {
        match channel {
            ChannelArg::Chat => Self::Chat,
            ChannelArg::Voice => Self::Voice,
            ChannelArg::Email => Self::Email,
            ChannelArg::Social => Self::Social,
        }
    }
}

fn time(text: &str) -> Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(text)
        .map_err(|error| format!("{error}; such as 500ms or 2s"))
}

/// Longer than any budget: the turn ends itself before this.
const LIMIT: Duration = Duration::from_secs(660);

pub(crate) async fn ask(global: &Global, args: AskArgs) -> Result<ExitCode> {
    let text = match args.question.as_str() {
        "-" => {
            std::io::read_to_string(std::io::stdin()).context("the question cannot be read as UTF-8 text")?
        }
        question => question.to_owned(),
    };
    let client = Client::open(global, &args.server, &Role::ALL).await?;
    let request = ConverseRequest {
        conversation_id: args.conversation.unwrap_or_default(),
        text,
        channel: Channel::from(args.channel).into(),
        locale: args.locale,
        audiences: args.audiences,
        product: args.product,
        jurisdiction: args.jurisdiction,
        budget: args
            .budget
            .map(|whole| Budget { first_sentence: None, whole: prost_types::Duration::try_from(whole).ok() }),
    };
    let outcome = converse(&client, request).await;
    client.close().await;
    let turn = outcome?;
    if let Some(path) = &args.json_file {
        let json = serde_json::to_vec_pretty(&turn)?;
        std::fs::write(path, json).with_context(|| format!("--json-file {path:?} cannot be written"))?;
    }
    if args.json {
        show::line(&serde_json::to_string(&turn)?);
    } else {
        print(&turn);
    }
    Ok(ExitCode::SUCCESS)
}

async fn converse(client: &Client, request: ConverseRequest) -> Result<Turn> {
    let mut service = ConversationServiceClient::new(client.channel(Role::Conversation));
    let started = service.converse(client.request(request, LIMIT)?).await;
    let mut stream = started.map_err(|status| explain(&status))?.into_inner();
    let mut events = Vec::new();
    while let Some(event) = stream.message().await.map_err(|status| explain(&status))? {
        events.push(event);
    }
    json::turn(&events).context("the turn ended without a report")
}

fn print(turn: &Turn) {
    for sentence in &turn.sentences {
        let marks: String = sentence.sources.iter().map(|n| format!("[{n}]")).collect();
        let marks = if marks.is_empty() { marks } else { format!(" {}", show::styled(&marks, "36")) };
        show::line(&format!("{}{marks}", show::plain(&sentence.text)));
    }
    if !turn.citations.is_empty() {
        show::line("");
        show::line(&show::styled("Sources", "1"));
    }
    for citation in &turn.citations {
        let mut place = vec![citation.title.clone()];
        place.extend(citation.heading_path.iter().filter(|heading| **heading != citation.title).cloned());
        let place = show::plain(&place.join(" › "));
        let document = show::plain(&citation.document_id);
        show::line(&format!("  [{}] {place}", citation.number));
        show::line(&show::styled(
            &format!("      {document}, characters {}-{}", citation.start, citation.end),
            "2",
        ));
    }
    if let Some(hand_off) = &turn.hand_off {
        show::line("");
        show::line(&show::styled("For the person who takes over", "1"));
        if let Some(briefing) = &hand_off.briefing {
            show::line(&format!("  {}", show::plain(&briefing.summary)));
            show::line(&format!("  question   {}", show::plain(&briefing.question)));
            for (name, values) in [("noticed", &briefing.concerns), ("looked at", &briefing.documents)] {
                if !values.is_empty() {
                    show::line(&format!("  {name:<10} {}", show::plain(&values.join(", "))));
                }
            }
        }
        show::line(&format!(
            "  reason     {} ({})",
            hand_off.reason,
            show::plain(&hand_off.rules.join(", "))
        ));
    }
    show::line("");
    let route = turn.route.as_ref().map_or("none", |route| route.model.as_str());
    let budget = turn.budget.and_then(|budget| budget.whole_ms).unwrap_or_default();
    show::line(&format!(
        "{} by {route} in {:.1} ms of {budget:.0} ms: {}",
        turn.outcome, turn.spent_ms, turn.reason
    ));
    // One bar for each stage, on one scale: where it began and how long it took.
    let scale =
        turn.stages.iter().map(|s| s.started_ms + s.spent_ms).fold(turn.spent_ms, f64::max).max(0.001);
    for stage in &turn.stages {
        let bar = bar(stage.started_ms / scale, stage.spent_ms / scale);
        let line = format!(
            "  {:<15} {bar} {:>8.2} ms  {:<9} {}",
            stage.name,
            stage.spent_ms,
            stage.status,
            show::plain(&stage.detail)
        );
        show::line(line.trim_end());
    }
    for lack in &turn.degraded {
        show::line(&show::styled(&format!("  without {}", show::plain(lack)), "33"));
    }
    if !turn.redacted_kinds.is_empty() {
        show::line(&format!("  redacted: {}", turn.redacted_kinds.join(", ")));
    }
    show::line(&show::styled(&format!("  conversation {}", turn.conversation_id), "2"));
}

const BAR: usize = 30;

/// A bar from `start` for `length`, both as shares of the whole width.
fn bar(start: f64, length: f64) -> String {
    let place = |share: f64| ((share.clamp(0.0, 1.0) * BAR as f64).round() as usize).min(BAR);
    let begin = place(start).min(BAR - 1);
    let end = place(start + length).max(begin + 1);
    format!("{}{}{}", "·".repeat(begin), "█".repeat(end - begin), "·".repeat(BAR - end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_always_have_the_same_width_and_show_something() {
        for (start, length) in [(0.0, 0.0), (0.5, 0.5), (1.0, 0.0), (0.99, 5.0), (f64::NAN, 0.1)] {
            let bar = bar(start, length);
            assert_eq!(bar.chars().count(), BAR);
            assert!(bar.contains('█'));
        }
    }
}
