//! What rules say, and what follows where several of them speak.
//!
//! An entry point is a set of objects, a [`Decision`] each. [`overlay`] lays a tenant's over the base's:
//! the strictest verdict holds, and a tenant's rule takes back one of the base only where the base says
//! that it may be (`overridable`) and the tenant's names it (`waives`).

use std::time::Duration;

use regorus::Value;

use super::{Entry, Failure};

/// The most decisions of one entry point, and the most bytes of their words: what goes out is bounded.
const MOST_DECISIONS: usize = 256;
pub(crate) const MOST_WORDS: usize = 2_000;
const MOST_NAME: usize = 128;
/// The longest time that a rule can have data kept, in days: a hundred years.
const MOST_DAYS: f64 = 36_525.0;

/// What is to be done, from the mildest to the strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Go on.
    Allow,
    /// Go on, and say what must be disclosed.
    Disclose,
    /// Go on with another text.
    Rewrite,
    /// Ask the customer first.
    Ask,
    /// Do not go on.
    Refuse,
    /// Offer the conversation to a person.
    HandOff,
}

impl Verdict {
    /// Every verdict, from the mildest.
    pub const ALL: [Self; 6] =
        [Self::Allow, Self::Disclose, Self::Rewrite, Self::Ask, Self::Refuse, Self::HandOff];

    /// The name in rules and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Disclose => "disclose",
            Self::Rewrite => "rewrite",
            Self::Ask => "ask",
            Self::Refuse => "refuse",
            Self::HandOff => "hand_off",
        }
    }

    /// The verdict of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == name)
    }
}

/// What one rule says.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The bundle that the rule belongs to.
    pub bundle: std::sync::Arc<str>,
    /// The rule's name.
    pub rule: String,
    /// What is to be done.
    pub verdict: Verdict,
    /// Why, in words for a person.
    pub reason: String,
    /// For `disclosures` the sentence to be said; for a rewrite the text to go on with.
    pub say: String,
    /// How long data may be kept; for `retention`.
    pub keep: Option<Duration>,
    /// Whether a tenant may take it back; counts in the base alone.
    pub overridable: bool,
    /// Rules of the base that it takes back.
    pub waives: Vec<String>,
}

/// Reads what an entry point gave.
///
/// # Errors
/// [`Failure::Shape`], which says what is wrong and in which rule.
pub(super) fn read(
    entry: Entry,
    bundle: &std::sync::Arc<str>,
    value: &Value,
) -> Result<Vec<Decision>, Failure> {
    let wrong = |what: String| Failure::Shape { entry, what };
    let set = match value {
        Value::Undefined => return Ok(Vec::new()),
        Value::Set(set) => set,
        _ => return Err(wrong("it is no set: write `contains`".to_owned())),
    };
    if set.len() > MOST_DECISIONS {
        return Err(wrong(format!("it has more than {MOST_DECISIONS} decisions")));
    }
    let decisions = set.iter().map(|value| one(entry, bundle, value).map_err(wrong));
    decisions.collect()
}

fn one(entry: Entry, bundle: &std::sync::Arc<str>, value: &Value) -> Result<Decision, String> {
    let Value::Object(object) = value else { return Err("a decision is an object".to_owned()) };
    let mut decision = Decision {
        bundle: std::sync::Arc::clone(bundle),
        rule: String::new(),
        // What asks for a disclosure or says how long data is kept need not say so again.
        verdict: if entry == Entry::Disclosures { Verdict::Disclose } else { Verdict::Allow },
        reason: String::new(),
        say: String::new(),
        keep: None,
        overridable: false,
        waives: Vec::new(),
    };
    let mut judged = matches!(entry, Entry::Disclosures | Entry::Retention);
    for (key, value) in object.iter() {
        let key = key.as_string().map_err(|_| "its fields have names".to_owned())?;
        match &**key {
            "rule" => decision.rule = name(value)?,
            "reason" => decision.reason = words(key, value, MOST_WORDS)?,
            "say" => decision.say = words(key, value, MOST_WORDS)?,
            "verdict" => {
                let name = words(key, value, MOST_NAME)?;
                decision.verdict = Verdict::parse(&name).ok_or_else(|| {
                    let known = Verdict::ALL.map(Verdict::as_str).join(", ");
                    format!("`verdict` is one of {known}")
                })?;
                judged = true;
            }
            "keep_days" if entry == Entry::Retention => {
                let days = value.as_f64().ok().filter(|days| (0.0..=MOST_DAYS).contains(days));
                let days = days.ok_or_else(|| format!("`keep_days` is a number from 0 to {MOST_DAYS}"))?;
                decision.keep = Some(Duration::from_secs_f64(days * 86_400.0));
            }
            "overridable" => {
                let set = value.as_bool().map_err(|_| "`overridable` is true or false".to_owned())?;
                decision.overridable = *set;
            }
            "waives" => decision.waives = names(value)?,
            _ => {
                return Err(
                    "its fields are rule, verdict, reason, say, overridable, waives, and keep_days in retention"
                        .to_owned(),
                );
            }
        }
    }
    if decision.rule.is_empty() {
        return Err("`rule` is missing: the name by which the decision is known".to_owned());
    }
    let rule = &decision.rule;
    if !judged {
        return Err(format!("{rule}: `verdict` is missing"));
    }
    // A disclosure may say nothing but that another one is taken back; a rewrite has its text in any case.
    let tells = entry == Entry::Disclosures && decision.waives.is_empty();
    if (tells || decision.verdict == Verdict::Rewrite) && decision.say.is_empty() {
        return Err(format!("{rule}: `say` is missing: the text itself"));
    }
    if entry == Entry::Disclosures && decision.verdict != Verdict::Disclose {
        return Err(format!("{rule}: a disclosure has no other verdict; what stops a draft is in `inspect`"));
    }
    if entry == Entry::Retention && decision.verdict == Verdict::Allow && decision.keep.is_none() {
        return Err(format!("{rule}: `keep_days` is missing"));
    }
    Ok(decision)
}

fn words(key: &str, value: &Value, most: usize) -> Result<String, String> {
    match value.as_string() {
        Ok(text) if text.len() <= most => Ok(text.to_string()),
        _ => Err(format!("`{key}` is a string of at most {most} bytes")),
    }
}

/// Whether this can be a rule's name, which goes into logs: none can be made of what a customer wrote.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MOST_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn name(value: &Value) -> Result<String, String> {
    match value.as_string() {
        Ok(name) if is_name(name) => Ok(name.to_string()),
        _ => Err("`rule` is 1 to 128 characters out of a-z, A-Z, 0-9, `.`, `_` and `-`".to_owned()),
    }
}

fn names(value: &Value) -> Result<Vec<String>, String> {
    let allowed = || "`waives` is the name of a rule of the base, or a list of them".to_owned();
    match value {
        Value::String(name) => Ok(vec![name.to_string()]),
        Value::Array(list) => list
            .iter()
            .map(|name| name.as_string().map(|name| name.to_string()).map_err(|_| allowed()))
            .collect(),
        _ => Err(allowed()),
    }
}

/// What holds of several decisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The decisions that hold, the strictest first, then by name.
    pub decisions: Vec<Decision>,
    /// Decisions of the base that the tenant took back.
    pub waived: Vec<Decision>,
    /// Rules of the base that the tenant names in `waives` and must not take back.
    pub kept: Vec<String>,
}

impl Outcome {
    /// The strictest verdict; `None` where no rule spoke.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        self.decisions.first().map(|decision| decision.verdict)
    }

    /// The decisions that made the verdict.
    pub fn deciding(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().take_while(|decision| Some(decision.verdict) == self.verdict())
    }
}

/// Lays a tenant's decisions over the base's.
#[must_use]
pub fn overlay(base: Vec<Decision>, own: Vec<Decision>) -> Outcome {
    let mut outcome = Outcome::default();
    for decision in base {
        let named = own.iter().any(|own| own.waives.contains(&decision.rule));
        match (named, decision.overridable) {
            (true, true) => outcome.waived.push(decision),
            (true, false) => {
                outcome.kept.push(decision.rule.clone());
                outcome.decisions.push(decision);
            }
            (false, _) => outcome.decisions.push(decision),
        }
    }
    outcome.decisions.extend(own);
    outcome.decisions.sort_by(|a, b| b.verdict.cmp(&a.verdict).then_with(|| a.rule.cmp(&b.rule)));
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(rule: &str, verdict: Verdict) -> Decision {
        let value = format!(r#"[{{"rule": "{rule}", "verdict": "{}", "say": "x"}}]"#, verdict.as_str());
        let Value::Array(list) = Value::from_json_str(&value).unwrap() else { panic!() };
        let set = Value::from(list.iter().cloned().collect::<std::collections::BTreeSet<_>>());
        read(Entry::Inspect, &"test".into(), &set).unwrap().remove(0)
    }

    fn fault(entry: Entry, json: &str) -> String {
        let set = std::collections::BTreeSet::from([Value::from_json_str(json).unwrap()]);
        read(entry, &"test".into(), &Value::from(set)).unwrap_err().to_string()
    }

    #[test]
    fn the_strictest_verdict_holds_whichever_layer_it_is_of() {
        for (base, own, expected) in [
            (Verdict::Refuse, Verdict::Allow, Verdict::Refuse),
            (Verdict::Allow, Verdict::HandOff, Verdict::HandOff),
            (Verdict::HandOff, Verdict::Refuse, Verdict::HandOff),
        ] {
            let outcome = overlay(vec![decision("a", base)], vec![decision("b", own)]);
            assert_eq!(outcome.verdict(), Some(expected));
        }
        assert_eq!(overlay(vec![], vec![]).verdict(), None);
    }

    #[test]
    fn a_tenant_takes_back_only_what_the_base_lets_it() {
        let waiver = || Decision { waives: vec!["a".into()], ..decision("w", Verdict::Allow) };
        let firm = overlay(vec![decision("a", Verdict::Refuse)], vec![waiver()]);
        assert_eq!((firm.verdict(), firm.kept), (Some(Verdict::Refuse), vec!["a".to_owned()]));
        let loose = Decision { overridable: true, ..decision("a", Verdict::Refuse) };
        let outcome = overlay(vec![loose.clone()], vec![waiver()]);
        assert_eq!((outcome.verdict(), outcome.waived), (Some(Verdict::Allow), vec![loose.clone()]));
        // Nor can a tenant mark its own rule, and so take back another of its own.
        let own = overlay(vec![], vec![loose, waiver()]);
        assert_eq!(own.verdict(), Some(Verdict::Refuse));
    }

    #[test]
    fn a_decision_of_another_shape_says_what_is_wrong() {
        for (entry, json, told) in [
            (Entry::Inspect, r#"{"verdict": "allow"}"#, "`rule` is missing"),
            (Entry::Inspect, r#"{"rule": "a"}"#, "`verdict` is missing"),
            (Entry::Inspect, r#"{"rule": "a", "verdict": "maybe"}"#, "one of allow"),
            (Entry::Inspect, r#"{"rule": "a", "verdict": "allow", "overidable": true}"#, "its fields are"),
            (Entry::Inspect, r#"{"rule": "a", "verdict": "rewrite"}"#, "`say` is missing"),
            (Entry::Inspect, r#"{"rule": "a", "verdict": "rewrite", "waives": "b"}"#, "`say` is missing"),
            (Entry::Tool, r#"{"rule": "a", "verdict": "allow", "keep_days": 3}"#, "its fields are"),
            (Entry::Retention, r#"{"rule": "a"}"#, "`keep_days` is missing"),
            (Entry::Retention, r#"{"rule": "a", "keep_days": -1}"#, "`keep_days` is a number"),
            (Entry::Disclosures, r#"{"rule": "a"}"#, "`say` is missing"),
            (Entry::Disclosures, r#"{"rule": "a", "verdict": "refuse", "say": "b"}"#, "no other verdict"),
            (Entry::Decide, r#""allow""#, "is an object"),
        ] {
            let message = fault(entry, json);
            assert!(message.contains(told) && message.contains(entry.as_str()), "{json}: {message}");
        }
        assert!(read(Entry::Tool, &"test".into(), &Value::from(true)).is_err());
    }
}
