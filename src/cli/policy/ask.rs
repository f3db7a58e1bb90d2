//! Asking the rules: those in a folder, in this process, or those of a running node.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use switchboard_mesh::Tenant;
use switchboard_policy::{
    Config, Direction,
    bundles::{Bundles, Decision, Outcome},
    detectors,
    judge::{About, Inspected, Judge, Judged, Text},
};
use switchboard_proto::policy::v1::{
    self as v1, DecideRequest, InspectRequest, Verdict, policy_service_client::PolicyServiceClient,
};
use switchboard_text::redaction::{self, Pseudonyms};

use super::{
    EVALUATION,
    explain::{Answer, ExplainArgs, Finding, Rule, Way, Writer},
};
use crate::{
    cli::{Global, client, client::Client},
    roles::Role,
};

/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Asks the bundle in a folder.
pub(super) fn folder(args: &ExplainArgs) -> Result<Answer> {
    let mut config = Config { evaluation: EVALUATION, ..Config::default() };
    // Both are folders by name in one folder, as on a node.
    for (path, name) in [(&args.bundle, &mut config.bundle), (&args.base, &mut config.base)] {
        let Some(path) = path else { continue };
        let (parent, own) = split(path)?;
        anyhow::ensure!(
            config.bundles.as_os_str().is_empty() || config.bundles == parent,
            "--bundle and --base are beside each other in one folder"
        );
        (config.bundles, *name) = (parent.to_owned(), own);
    }
    config.check()?;
    let judge = Judge::new(Arc::new(Bundles::open(&config)?));
    let tenant = Tenant::try_new(client::DEFAULT_TENANT).map_err(anyhow::Error::msg)?;
    let facts = regorus::Value::from_json_str(&Value::from(args.facts()).to_string())
        .map_err(|error| anyhow::anyhow!("the facts: {error}"))?;
    let Some(text) = &args.text else {
        let action = args.action.as_deref().unwrap_or_default();
        return Ok(judged(&judge.decide(&tenant, action, facts)));
    };
    let about = About {
        locale: args.locale.clone(),
        channel: args.channel.clone(),
        product: args.product.clone(),
        jurisdiction: args.jurisdiction.clone(),
        passages: args.passages.clone(),
        verbatim: args.verbatim,
        facts,
        ..About::default()
    };
    let direction = match args.direction {
        Way::Input => Direction::Input,
        Way::Output => Direction::Output,
    };
    let source = match args.source {
        Writer::Customer => detectors::Source::Customer,
        Writer::Document => detectors::Source::Document,
        Writer::Tool => detectors::Source::Tool,
    };
    let redacted = redaction::redact(text, &mut Pseudonyms::default());
    // Here are no models.
    let heard = detectors::Heard::default();
    let asked =
        Text { written: text, redacted: &redacted.text, direction, source, about: &about, heard: &heard };
    let Inspected { judged: said, instead, disclosures, facts, fall: _ } = judge.inspect(&tenant, &asked);
    let mut answer = judged(&said);
    let words = |start: usize, end: usize| text.chars().skip(start).take(end - start).collect::<String>();
    for replaced in &redacted.replaced {
        let place = (replaced.entity.span.chars.start, replaced.entity.span.chars.end);
        let (kind, detector) =
            (replaced.entity.kind.as_str().to_owned(), replaced.entity.detector.to_owned());
        // Even here nothing that was replaced is printed again.
        answer.findings.push(Finding {
            kind,
            score: replaced.entity.score,
            detector,
            place,
            words: replaced.placeholder.clone(),
        });
    }
    for finding in &facts.findings {
        let place = (finding.span.chars.start, finding.span.chars.end);
        let (kind, detector) = (finding.kind.to_owned(), finding.detector.to_owned());
        answer.findings.push(Finding {
            kind,
            score: finding.score,
            detector,
            place,
            words: words(place.0, place.1),
        });
    }
    answer.disclosures = disclosures.into_iter().map(|said| (said.rule, said.say)).collect();
    answer.text = instead.unwrap_or_else(|| redacted.text.clone());
    if direction == Direction::Input {
        let language = facts.language.map_or_else(
            || "unknown".to_owned(),
            |language| format!("{} ({:.2})", language.code, language.confidence),
        );
        answer.facts = vec![("language", language), ("sentiment", format!("{:.2}", facts.sentiment))];
    }
    Ok(answer)
}

/// The folder above a bundle, and the bundle's name.
fn split(path: &Path) -> Result<(std::path::PathBuf, String)> {
    let whole = path.canonicalize().with_context(|| path.display().to_string())?;
    let name =
        whole.file_name().and_then(|name| name.to_str()).context("a bundle is a folder with a name")?;
    let parent = whole.parent().context("a bundle is a folder in a folder")?;
    Ok((parent.to_owned(), name.to_owned()))
}

fn judged(judged: &Judged) -> Answer {
    let Outcome { decisions, waived, kept } = &judged.outcome;
    let deciding = judged.outcome.deciding().count();
    let rule = |decision: &Decision, part: &'static str| Rule {
        name: decision.rule.clone(),
        bundle: decision.bundle.to_string(),
        verdict: decision.verdict.as_str().to_owned(),
        part,
        reason: decision.reason.clone(),
    };
    let mut rules: Vec<Rule> = Vec::new();
    for (at, decision) in decisions.iter().enumerate() {
        let part = match (at < deciding, kept.contains(&decision.rule)) {
            (true, false) => "decides",
            (true, true) => "decides; no tenant takes it back",
            (false, _) => "outweighed",
        };
        rules.push(rule(decision, part));
    }
    rules.extend(waived.iter().map(|decision| rule(decision, "taken back by the tenant")));
    Answer {
        verdict: judged.verdict.as_str().to_owned(),
        reason: judged.reason.clone(),
        bundle: judged.bundle.clone(),
        rules,
        keep_days: judged.keep.map(|keep| keep.as_secs_f64() / 86_400.0),
        ..Answer::default()
    }
}

/// Asks a running node, which tells the rules that decided and no others.
pub(super) async fn server(global: &Global, args: &ExplainArgs) -> Result<Answer> {
    let client = Client::open(global, &args.server, &[]).await?;
    let mut policy = PolicyServiceClient::new(client.channel(Role::Policy));
    let facts = structure(args.facts());
    let decided = |verdict: Verdict, rules: Vec<String>| {
        let verdict = verdict.as_str_name().trim_start_matches("VERDICT_").to_lowercase();
        let rule = |name: String| Rule {
            name,
            bundle: String::new(),
            verdict: verdict.clone(),
            part: "decides",
            reason: String::new(),
        };
        (rules.into_iter().map(rule).collect::<Vec<_>>(), verdict.clone())
    };
    if let Some(action) = &args.action {
        let request =
            DecideRequest { action: action.clone(), details: Some(facts), ..DecideRequest::default() };
        let reply = policy.decide(client.request(request, ANSWER)?).await;
        let reply = reply.map_err(|status| client::explain(&status))?.into_inner();
        let (rules, verdict) = decided(reply.verdict(), reply.rules);
        let keep_days = reply.keep.map(|keep| keep.seconds as f64 / 86_400.0);
        return Ok(Answer {
            verdict,
            rules,
            reason: reply.reason,
            bundle: reply.bundle,
            keep_days,
            ..Answer::default()
        });
    }
    let text = args.text.clone().unwrap_or_default();
    let direction = match args.direction {
        Way::Input => v1::Direction::Input,
        Way::Output => v1::Direction::Output,
    };
    let source = match args.source {
        Writer::Customer => v1::Source::Customer,
        Writer::Document => v1::Source::Document,
        Writer::Tool => v1::Source::Tool,
    };
    let request = InspectRequest {
        text: text.clone(),
        direction: direction.into(),
        source: source.into(),
        locale: args.locale.clone(),
        channel: args.channel.clone(),
        product: args.product.clone(),
        jurisdiction: args.jurisdiction.clone(),
        passages: args.passages.clone(),
        verbatim: args.verbatim,
        facts: Some(facts),
        ..InspectRequest::default()
    };
    let reply = policy.inspect(client.request(request, ANSWER)?).await;
    let reply = reply.map_err(|status| client::explain(&status))?.into_inner();
    let (rules, verdict) = decided(reply.verdict(), reply.rules.clone());
    let finding = |found: v1::Finding| {
        let place = (found.start as usize, found.end as usize);
        let words = match found.placeholder.is_empty() {
            true => text.chars().skip(place.0).take(place.1.saturating_sub(place.0)).collect(),
            false => found.placeholder,
        };
        Finding { kind: found.kind, score: found.score, detector: found.detector, place, words }
    };
    let language = reply.language.as_ref().map_or_else(
        || "unknown".to_owned(),
        |language| format!("{} ({:.2})", language.code, language.confidence),
    );
    let mut facts = match args.direction {
        Way::Input => vec![("language", language), ("sentiment", format!("{:.2}", reply.sentiment))],
        Way::Output => Vec::new(),
    };
    if !reply.degraded.is_empty() {
        facts.push(("without", reply.degraded.join(", ")));
    }
    Ok(Answer {
        verdict,
        rules,
        reason: reply.reason,
        bundle: reply.bundle,
        text: reply.text,
        findings: reply.findings.into_iter().chain(reply.signals).map(finding).collect(),
        disclosures: reply.required_disclosures.into_iter().map(|said| (said.rule, said.text)).collect(),
        facts,
        keep_days: None,
    })
}

fn structure(object: Map<String, Value>) -> prost_types::Struct {
    prost_types::Struct { fields: object.into_iter().map(|(name, value)| (name, wire(value))).collect() }
}

fn wire(value: Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(set) => Kind::BoolValue(set),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(list) => {
            Kind::ListValue(prost_types::ListValue { values: list.into_iter().map(wire).collect() })
        }
        Value::Object(object) => Kind::StructValue(structure(object)),
    };
    prost_types::Value { kind: Some(kind) }
}
