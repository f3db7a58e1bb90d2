//! `switchboard policy explain`: what is asked, and how the answer is printed.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::ask;
use crate::cli::{Global, client::ServerArgs, show};

/// Flags of `policy explain`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  switchboard policy explain --bundle examples/policy/bank \"My card was stolen yesterday\"
  switchboard policy explain --bundle examples/policy/bank --direction output \\
      --product savings --jurisdiction US-CA \"The interest on savings is 4.1% APY.\"
  switchboard policy explain --bundle examples/policy/retail --action tool.call \\
      --fact tool=refund_order --fact effect=reversible --fact identity=verified --fact amount=20
  switchboard policy explain --server http://127.0.0.1:8081 \"Can I talk to a human?\"   # what a node says")]
pub(crate) struct ExplainArgs {
    /// The text, unless an action is asked about
    #[arg(required_unless_present = "action", conflicts_with = "action")]
    pub(super) text: Option<String>,
    /// The bundle's folder, over the base; the base alone without it
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    pub(super) bundle: Option<PathBuf>,
    /// A base in place of the one that is built in
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    pub(super) base: Option<PathBuf>,
    /// An action to decide on, such as tool.call, model.use or data.keep
    #[arg(long)]
    pub(super) action: Option<String>,
    /// A fact, as a string; may be repeated
    #[arg(long = "fact", value_name = "NAME=VALUE", value_parser = pair)]
    fact: Vec<(String, String)>,
    /// Facts as a JSON object, for numbers and lists
    #[arg(long, value_name = "JSON", value_parser = object)]
    facts: Option<Map<String, Value>>,
    /// Which way the text is going
    #[arg(long, value_enum, default_value_t = Way::Input)]
    pub(super) direction: Way,
    /// Who wrote it, where it comes in
    #[arg(long, value_enum, default_value_t = Writer::Customer)]
    pub(super) source: Writer,
    /// What it is about, in the rules' own words
    #[arg(long, default_value = "")]
    pub(super) product: String,
    /// Whose law applies, such as DE or US-CA
    #[arg(long, default_value = "")]
    pub(super) jurisdiction: String,
    /// Language of the customer, such as en
    #[arg(long, default_value = "")]
    pub(super) locale: String,
    /// The channel, such as chat or voice
    #[arg(long, default_value = "")]
    pub(super) channel: String,
    /// A passage that a draft rests on; may be repeated
    #[arg(long = "passage", value_name = "TEXT")]
    pub(super) passages: Vec<String>,
    /// The draft is quoted word for word
    #[arg(long)]
    pub(super) verbatim: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Which way a text is going.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Way {
    /// From a customer
    Input,
    /// To a customer
    Output,
}

/// Who wrote a text.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Writer {
    /// The customer
    Customer,
    /// A document
    Document,
    /// A tool
    Tool,
}

impl ExplainArgs {
    /// The facts of both flags as one object; a repeated name has its last value.
    pub(super) fn facts(&self) -> Map<String, Value> {
        let mut facts = self.facts.clone().unwrap_or_default();
        facts.extend(self.fact.iter().map(|(name, value)| (name.clone(), json!(value))));
        facts
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a name, `=` and a value are expected")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("a JSON object is expected: {error}"))
}

/// What came of it, wherever it was decided.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) verdict: String,
    pub(super) reason: String,
    pub(super) bundle: String,
    /// The text as it would go on; empty for an action.
    pub(super) text: String,
    pub(super) rules: Vec<Rule>,
    pub(super) findings: Vec<Finding>,
    /// Rule and sentence.
    pub(super) disclosures: Vec<(String, String)>,
    /// Names and values that rules read beside findings.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) keep_days: Option<f64>,
}

/// A rule that spoke.
pub(super) struct Rule {
    pub(super) name: String,
    /// Its bundle; empty where a node does not tell.
    pub(super) bundle: String,
    pub(super) verdict: String,
    pub(super) part: &'static str,
    pub(super) reason: String,
}

/// Something that was found.
pub(super) struct Finding {
    pub(super) kind: String,
    pub(super) score: f32,
    pub(super) detector: String,
    pub(super) place: (usize, usize),
    /// The words themselves.
    pub(super) words: String,
}

pub(super) async fn explain(global: &Global, args: ExplainArgs) -> Result<ExitCode> {
    let answer = match args.server.is_remote() {
        true => ask::server(global, &args).await?,
        false => ask::folder(&args).context("the bundle cannot be asked")?,
    };
    if args.json {
        show::line(&serde_json::to_string_pretty(&answer.json())?);
    } else {
        answer.print();
    }
    Ok(ExitCode::SUCCESS)
}

impl Answer {
    fn print(&self) {
        show::line(&format!("verdict   {}", show::styled(&self.verdict, "1")));
        if !self.reason.is_empty() {
            show::line(&format!("because   {}", show::plain(&self.reason)));
        }
        show::line(&format!("decided by {}", show::plain(&self.bundle)));
        if !self.text.is_empty() {
            show::line(&format!("text      {}", show::plain(&self.text)));
        }
        if let Some(days) = self.keep_days {
            show::line(&format!("kept for  {days} days"));
        }
        for (name, value) in &self.facts {
            show::line(&format!("{name:<9} {}", show::plain(value)));
        }
        for (rule, text) in &self.disclosures {
            show::line(&format!("to say    {} [{}]", show::plain(text), show::plain(rule)));
        }
        if !self.rules.is_empty() {
            let row = |rule: &Rule| {
                let Rule { name, bundle, verdict, part, reason } = rule;
                vec![
                    show::plain(name),
                    show::plain(bundle),
                    verdict.clone(),
                    (*part).to_owned(),
                    show::plain(reason),
                ]
            };
            let rows: Vec<_> = self.rules.iter().map(row).collect();
            show::line("");
            show::line(&show::table(&["rule", "bundle", "verdict", "part", "reason"], &rows));
        }
        if !self.findings.is_empty() {
            let row = |finding: &Finding| {
                let (start, end) = finding.place;
                let words = show::plain(&finding.words);
                let score = format!("{:.2}", finding.score);
                vec![finding.kind.clone(), score, finding.detector.clone(), format!("{start}-{end}"), words]
            };
            let rows: Vec<_> = self.findings.iter().map(row).collect();
            show::line("");
            show::line(&show::table(&["finding", "score", "detector", "characters", "words"], &rows));
        }
    }

    fn json(&self) -> Value {
        let rules = self.rules.iter().map(|rule| {
            json!({ "rule": rule.name, "bundle": rule.bundle, "verdict": rule.verdict, "part": rule.part,
                "reason": rule.reason })
        });
        let findings = self.findings.iter().map(|finding| {
            json!({ "kind": finding.kind, "score": finding.score, "detector": finding.detector,
                "start": finding.place.0, "end": finding.place.1 })
        });
        let said = self.disclosures.iter().map(|(rule, text)| json!({ "rule": rule, "text": text }));
        let facts: Map<String, Value> =
            self.facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        json!({
            "verdict": self.verdict, "reason": self.reason, "bundle": self.bundle, "text": self.text,
            "rules": rules.collect::<Vec<_>>(), "findings": findings.collect::<Vec<_>>(),
            "disclosures": said.collect::<Vec<_>>(), "facts": facts, "keep_days": self.keep_days,
        })
    }
}
