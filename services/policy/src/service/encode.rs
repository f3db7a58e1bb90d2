//! What was found and decided, as the contract has it.

use std::{sync::Arc, time::SystemTime};

use proto::policy::v1::{
    self as v1, DecideResponse, Disclosure, Finding, InspectResponse, Language, RedactResponse,
};
use switchboard_proto as proto;
use switchboard_text::{
    Span,
    redaction::{Redacted, Replaced},
};

use crate::{
    bundles::{Bundle, Decision, Verdict},
    detectors::{self, Heard},
    inspection,
    judge::{Inspected, Judged},
};

pub(super) fn inspected(redacted: Redacted, inspected: Inspected, heard: &Heard) -> InspectResponse {
    let Inspected { judged, instead, disclosures, facts, fall } = inspected;
    let mut reasons = vec![judged.reason, inspection::reason(&redacted.replaced)];
    reasons.retain(|reason| !reason.is_empty());
    // Whatever the rules say, a text that was changed is another text.
    let verdict = match redacted.replaced.is_empty() {
        true => judged.verdict,
        false => judged.verdict.max(Verdict::Rewrite),
    };
    InspectResponse {
        verdict: self::verdict(verdict).into(),
        text: instead.unwrap_or(redacted.text),
        findings: redacted.replaced.into_iter().map(replaced).collect(),
        reason: reasons.join("; "),
        language: facts
            .language
            .map(|language| Language { code: language.code.to_owned(), confidence: language.confidence }),
        sentiment: facts.sentiment,
        sentiment_fall: fall,
        signals: facts.findings.iter().map(signal).collect(),
        required_disclosures: disclosures.into_iter().map(disclosure).collect(),
        bundle: judged.bundle,
        rules: judged.rules,
        degraded: degraded(heard),
    }
}

pub(super) fn redacted(redacted: Redacted, heard: &Heard) -> RedactResponse {
    RedactResponse {
        findings: redacted.replaced.into_iter().map(replaced).collect(),
        text: redacted.text,
        degraded: degraded(heard),
    }
}

fn degraded(heard: &Heard) -> Vec<String> {
    heard.missing().map(str::to_owned).collect()
}

pub(super) fn decided(judged: Judged) -> DecideResponse {
    DecideResponse {
        verdict: verdict(judged.verdict).into(),
        reason: judged.reason,
        rules: judged.rules,
        keep: judged.keep.and_then(|keep| prost_types::Duration::try_from(keep).ok()),
        bundle: judged.bundle,
    }
}

pub(super) fn bundles(about: Vec<(Arc<Bundle>, Option<String>)>) -> Vec<v1::Bundle> {
    let about = about.into_iter().map(|(bundle, refused)| v1::Bundle {
        name: bundle.name.to_string(),
        version: bundle.version.clone(),
        hash: bundle.hash.clone(),
        loaded_at: Some(timestamp(bundle.loaded_at)),
        entry_points: bundle.entries.iter().map(|entry| entry.as_str().to_owned()).collect(),
        refused: refused.unwrap_or_default(),
    });
    about.collect()
}

fn timestamp(at: SystemTime) -> prost_types::Timestamp {
    at.into()
}

fn verdict(verdict: Verdict) -> v1::Verdict {
    match verdict {
        Verdict::Allow => v1::Verdict::Allow,
        Verdict::Disclose => v1::Verdict::Disclose,
        Verdict::Rewrite => v1::Verdict::Rewrite,
        Verdict::Ask => v1::Verdict::Ask,
        Verdict::Refuse => v1::Verdict::Refuse,
        Verdict::HandOff => v1::Verdict::HandOff,
    }
}

fn disclosure(decision: Decision) -> Disclosure {
    Disclosure { rule: decision.rule, text: decision.say }
}

fn replaced(replaced: Replaced) -> Finding {
    let Replaced { entity, placeholder } = replaced;
    finding(&entity.span, entity.kind.as_str(), entity.score, entity.detector, placeholder)
}

fn signal(signal: &detectors::Finding) -> Finding {
    finding(&signal.span, signal.kind, signal.score, signal.detector, String::new())
}

fn finding(span: &Span, kind: &str, score: f32, detector: &str, placeholder: String) -> Finding {
    // Offsets are below the 64,000 characters that a text may have.
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Finding {
        start: offset(span.chars.start),
        end: offset(span.chars.end),
        kind: kind.to_owned(),
        score,
        detector: detector.to_owned(),
        placeholder,
    }
}
