//! The verdict on a text or an action: facts are gathered, the rules are asked, and where they give no answer
//! nothing goes on.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use lru::LruCache;
use regorus::Value;
use switchboard_mesh::Tenant;

use crate::{
    bundles::{Bundles, Decision, Entry, Failure, Layers, MOST_WORDS, Outcome, Verdict},
    detectors::{Detectors, Facts, Heard, Source, Trend},
    draft::{self, Draft, FORM, SPELLING, Wording},
    facts::{named, number},
    inspection::Direction,
    metrics,
};

/// Conversations whose sentiment is remembered, some 100 bytes each; of one that is not, no fall is known.
const TRENDS: NonZeroUsize = NonZeroUsize::new(50_000).expect("is above 0");
/// Stands for the rules where they gave no answer.
const FAILED: &str = "policy.failed";
/// Stands for the rules where none of them speaks of an action.
const SILENT: &str = "policy.silent";

/// A text to judge. Not printed, as it has what the customer wrote; nor is what follows from it.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    /// As it was written; detectors read it, rules do not.
    pub written: &'a str,
    /// Without personal data, as rules read it.
    pub redacted: &'a str,
    /// Which way it is going.
    pub direction: Direction,
    /// Who wrote it, where it comes in.
    pub source: Source,
    /// What else is known of it.
    pub about: &'a About,
    /// What models said of it.
    pub heard: &'a Heard,
}

/// What is known of a text beside its words.
#[derive(Clone)]
pub struct About {
    /// The conversation; empty for none.
    pub conversation: String,
    /// BCP 47 tag; empty when unknown.
    pub locale: String,
    /// The channel; empty when unknown.
    pub channel: String,
    /// What it is about; empty when unknown.
    pub product: String,
    /// Whose law applies; empty when unknown.
    pub jurisdiction: String,
    /// What a draft rests on; none leaves it unchecked.
    pub passages: Vec<String>,
    /// Whether a draft is quoted word for word.
    pub verbatim: bool,
    /// More facts, an object.
    pub facts: Value,
}

impl Default for About {
    fn default() -> Self {
        Self {
            conversation: String::new(),
            locale: String::new(),
            channel: String::new(),
            product: String::new(),
            jurisdiction: String::new(),
            passages: Vec::new(),
            verbatim: false,
            facts: Value::new_object(),
        }
    }
}

/// What is to be done, and why.
#[derive(Clone)]
pub struct Judged {
    /// What is to be done.
    pub verdict: Verdict,
    /// Why, in words for a person; empty where nothing was said.
    pub reason: String,
    /// The rules that decided.
    pub rules: Vec<String>,
    /// Everything that the rules said; empty where they failed.
    pub outcome: Outcome,
    /// The bundles that decided, base first.
    pub bundle: String,
    /// How long data may be kept, for `data.keep`.
    pub keep: Option<Duration>,
}

impl Judged {
    /// Whether this stands for rules that gave no answer.
    pub(crate) fn failed(&self) -> bool {
        self.rules.iter().any(|rule| rule == FAILED)
    }
}

/// A judged text.
#[derive(Clone)]
pub struct Inspected {
    /// The verdict.
    pub judged: Judged,
    /// The text to go on with where the rules put another in its place.
    pub instead: Option<String>,
    /// What must be said with it.
    pub disclosures: Vec<Decision>,
    /// Language, sentiment and what detectors found.
    pub facts: Facts,
    /// How far the sentiment has fallen in the conversation.
    pub fall: f32,
}

/// Asks detectors and rules.
pub struct Judge {
    bundles: Arc<Bundles>,
    detectors: Detectors,
    trends: Mutex<LruCache<(Tenant, String), Trend>>,
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").field("bundles", &self.bundles).finish_non_exhaustive()
    }
}

impl Judge {
    /// A judge by these bundles. Making the detectors takes some milliseconds.
    #[must_use]
    pub fn new(bundles: Arc<Bundles>) -> Self {
        Self { bundles, detectors: Detectors::new(), trends: Mutex::new(LruCache::new(TRENDS)) }
    }

    /// Judges a text. Takes time linear in it, and what the rules are given.
    #[must_use]
    pub fn inspect(&self, tenant: &Tenant, text: &Text<'_>) -> Inspected {
        let layers = self.bundles.of(tenant);
        let (facts, fall) = match text.direction {
            Direction::Input => self.detect(tenant, text),
            Direction::Output => (check_draft(text, &layers), 0.0),
        };
        let mut input = text_input(tenant, text, &facts, fall);
        if text.direction == Direction::Output {
            input.extend([("voice", voice(text, &facts, &layers))]);
        }
        let input = named(input);
        let began = Instant::now();
        let answer = match text.direction {
            Direction::Input => layers.ask([Entry::Inspect], &input).map(|[said]| (said, Outcome::default())),
            Direction::Output => {
                layers.ask([Entry::Inspect, Entry::Disclosures], &input).map(|[said, tell]| (said, tell))
            }
        };
        let (mut judged, disclosures) = match answer {
            Ok((said, disclosures)) => {
                let judged = judged(said, Verdict::Allow, &layers);
                metrics::decided(
                    Entry::Inspect.as_str(),
                    judged.verdict.as_str(),
                    began.elapsed().as_secs_f64(),
                );
                (judged, disclosures.decisions)
            }
            Err(failure) => {
                let closed = match text.direction {
                    Direction::Input => Verdict::HandOff,
                    Direction::Output => Verdict::Refuse,
                };
                (failed(Entry::Inspect, &failure, closed, &layers), Vec::new())
            }
        };
        // A decision that only takes something back says nothing.
        let disclosures: Vec<Decision> =
            disclosures.into_iter().filter(|told| !told.say.is_empty()).collect();
        if judged.verdict == Verdict::Allow && !disclosures.is_empty() {
            judged.verdict = Verdict::Disclose;
            judged.rules = disclosures.iter().map(|told| told.rule.clone()).collect();
            judged.reason = "something must be said with it".to_owned();
        }
        let instead = match judged.verdict {
            Verdict::Rewrite => {
                judged.outcome.deciding().map(|rule| rule.say.clone()).find(|say| !say.is_empty())
            }
            _ => None,
        };
        Inspected { judged, instead, disclosures, facts, fall }
    }

    /// Decides on an action; `facts` is an object.
    #[must_use]
    pub fn decide(&self, tenant: &Tenant, action: &str, facts: Value) -> Judged {
        let layers = self.bundles.of(tenant);
        let entry = Entry::of_action(action);
        let input = named([
            ("action", Value::from(action)),
            ("tenant", Value::from(tenant.as_str())),
            ("facts", facts),
        ]);
        let began = Instant::now();
        match layers.ask([entry], &input) {
            Ok([said]) => {
                let mut judged = judged(said, Verdict::Refuse, &layers);
                if entry == Entry::Retention && judged.verdict == Verdict::Allow {
                    // What is laid over what is as strict as either: the shortest time.
                    judged.keep = judged.outcome.decisions.iter().filter_map(|said| said.keep).min();
                }
                metrics::decided(entry.as_str(), judged.verdict.as_str(), began.elapsed().as_secs_f64());
                judged
            }
            Err(failure) => failed(entry, &failure, Verdict::Refuse, &layers),
        }
    }

    fn detect(&self, tenant: &Tenant, text: &Text<'_>) -> (Facts, f32) {
        let facts = self.detectors.find_beside(text.written, text.source, &text.heard.orders);
        let conversation = &text.about.conversation;
        if text.source != Source::Customer || conversation.is_empty() {
            return (facts, 0.0);
        }
        let mut trends = self.trends.lock().unwrap_or_else(PoisonError::into_inner);
        let trend = trends.get_or_insert_mut((tenant.clone(), conversation.clone()), Trend::default);
        trend.push(facts.sentiment);
        let fall = trend.falling();
        (facts, fall)
    }

    /// Forgets how a conversation felt.
    pub(crate) fn forget(&self, tenant: &Tenant, conversation: &str) {
        let mut trends = self.trends.lock().unwrap_or_else(PoisonError::into_inner);
        trends.pop(&(tenant.clone(), conversation.to_owned()));
    }
}

fn check_draft(text: &Text<'_>, layers: &Layers) -> Facts {
    let passages: Vec<&str> = text.about.passages.iter().map(String::as_str).collect();
    let draft = Draft {
        sentence: text.redacted,
        passages: &passages,
        // Without passages there is nothing to hold it against.
        verbatim: text.about.verbatim || passages.is_empty(),
        language: Some(text.about.locale.as_str()).filter(|locale| !locale.is_empty()),
    };
    Facts { findings: draft::check(&draft, layers.voices()), ..Facts::default() }
}

/// How the company wants to speak, as rules see it: what becomes of a draft by its form, how it is spelt where a
/// name is spelt otherwise, and the sentences that it lacks.
fn voice(text: &Text<'_>, facts: &Facts, layers: &Layers) -> Value {
    let About { channel, product, jurisdiction, verbatim, .. } = text.about;
    let otherwise = facts.findings.iter().any(|finding| finding.kind == SPELLING);
    // A quotation stays as it is, and what is too long is said by no rule.
    let spelt = (otherwise && !verbatim)
        .then(|| draft::spelt(text.redacted, layers.voices()))
        .filter(|spelt| spelt.len() <= MOST_WORDS);
    let verdicts = FORM.map(|kind| {
        let verdict = draft::verdict(layers.voices(), kind);
        let verdict = verdict.filter(|verdict| *verdict != Verdict::Rewrite || spelt.is_some());
        (kind, Value::from(verdict.unwrap_or(Verdict::Allow).as_str()))
    });
    let lacks =
        |wording: &&Wording| wording.applies(product, jurisdiction, channel) && !wording.is_in(text.redacted);
    let said = layers.voices().flat_map(|voice| &voice.said).filter(lacks).map(|wording| {
        named([("rule", Value::from(wording.rule.as_str())), ("say", Value::from(wording.say.as_str()))])
    });
    named([
        ("verdicts", named(verdicts)),
        ("said", Value::from(said.collect::<Vec<_>>())),
        ("spelt", spelt.map_or(Value::Null, |spelt| Value::from(spelt.as_str()))),
    ])
}

/// What rules see of a text, as `input`.
fn text_input(tenant: &Tenant, text: &Text<'_>, facts: &Facts, fall: f32) -> Vec<(&'static str, Value)> {
    let About { locale, channel, product, jurisdiction, .. } = text.about;
    let findings = facts.findings.iter().map(|finding| {
        named([
            ("kind", Value::from(finding.kind)),
            ("score", decimal(finding.score)),
            ("detector", Value::from(finding.detector)),
        ])
    });
    let language = facts.language.map_or(Value::Null, |language| {
        named([("code", Value::from(language.code)), ("confidence", decimal(language.confidence))])
    });
    let source = match text.source {
        Source::Customer => "customer",
        Source::Document => "document",
        Source::Tool => "tool",
    };
    let detectors = text.heard.readings().map(|(name, reading)| (name, Value::from(reading.as_str())));
    vec![
        ("action", Value::from("turn.inspect")),
        ("tenant", Value::from(tenant.as_str())),
        ("direction", Value::from(text.direction.as_str())),
        ("source", Value::from(source)),
        ("text", Value::from(text.redacted)),
        ("locale", Value::from(locale.as_str())),
        ("channel", Value::from(channel.as_str())),
        ("product", Value::from(product.as_str())),
        ("jurisdiction", Value::from(jurisdiction.as_str())),
        ("verbatim", Value::from(text.about.verbatim)),
        ("language", language),
        ("sentiment", decimal(facts.sentiment)),
        ("sentiment_fall", decimal(fall)),
        ("detectors", named(detectors)),
        ("findings", Value::from(findings.collect::<Vec<_>>())),
        ("facts", text.about.facts.clone()),
    ]
}

fn decimal(value: f32) -> Value {
    number(f64::from(value)).unwrap_or(Value::Null)
}

/// What follows of what the rules said; `silence` where they said nothing.
fn judged(outcome: Outcome, silence: Verdict, layers: &Layers) -> Judged {
    let verdict = outcome.verdict();
    let mut rules: Vec<String> = outcome.deciding().map(|decision| decision.rule.clone()).collect();
    let mut reasons: Vec<&str> = outcome.deciding().map(|decision| decision.reason.as_str()).collect();
    reasons.retain(|reason| !reason.is_empty());
    reasons.dedup();
    let mut reason = reasons.join("; ");
    if verdict.is_none() && silence != Verdict::Allow {
        rules.push(SILENT.to_owned());
        "no rule allows it".clone_into(&mut reason);
    }
    let verdict = verdict.unwrap_or(silence);
    Judged { verdict, reason, rules, outcome, bundle: layers.to_string(), keep: None }
}

fn failed(entry: Entry, failure: &Failure, verdict: Verdict, layers: &Layers) -> Judged {
    tracing::error!(%failure, bundle = %layers, "the rules gave no answer; nothing goes on");
    metrics::failed(entry.as_str(), failure.as_str());
    metrics::decided(entry.as_str(), verdict.as_str(), 0.0);
    Judged {
        verdict,
        reason: format!("the policy could not be asked: {failure}"),
        rules: vec![FAILED.to_owned()],
        outcome: Outcome::default(),
        bundle: layers.to_string(),
        keep: None,
    }
}
