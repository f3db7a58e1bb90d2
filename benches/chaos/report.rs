//! What is printed and written: tables for people, and the same figures as JSON.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};
use switchboard_proto::conversation::v1::Outcome;

use crate::{
    client::{End, Turn},
    load::Turns,
    measure::percentile_within,
    reconcile::Kept,
};

/// A figure that is wanted.
pub(crate) struct Goal {
    what: &'static str,
    figure: f64,
    wanted: String,
    pub(crate) met: bool,
}

impl Goal {
    /// `figure` shall be at most `most`.
    pub(crate) fn most(what: &'static str, figure: f64, most: f64) -> Self {
        Self { what, figure, wanted: format!("at most {most}"), met: figure <= most }
    }

    /// `figure` shall be at least `least`.
    pub(crate) fn least(what: &'static str, figure: f64, least: f64) -> Self {
        Self { what, figure, wanted: format!("at least {least}"), met: figure >= least }
    }

    /// `figure` shall be above `than`.
    pub(crate) fn more(what: &'static str, figure: f64, than: f64) -> Self {
        Self { what, figure, wanted: format!("above {than}"), met: figure > than }
    }
}

/// What a fault did.
#[derive(Default)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) sent: usize,
    /// Reports came, with whatever outcome.
    pub(crate) told: usize,
    /// Of these, by how many the mesh had to do without something.
    pub(crate) degraded: usize,
    /// Of these, offered to a person.
    pub(crate) handed_off: usize,
    /// Asked twice by the client.
    pub(crate) again: usize,
    pub(crate) refused: usize,
    pub(crate) lost: usize,
    /// The p99 before, in seconds.
    pub(crate) quiet: f64,
    /// The p99 while it lasted, in seconds; infinite where more were not answered.
    pub(crate) p99: f64,
    /// Seconds until the p99 was back, infinite where that was not seen; none where it is not asked.
    pub(crate) back: Option<f64>,
    /// When the fault began, in seconds from the beginning of the load.
    pub(crate) at: f64,
    pub(crate) note: String,
}

impl Row {
    /// Counts turns.
    pub(crate) fn of<'a>(what: &str, turns: impl Iterator<Item = &'a Turn> + Clone, note: &str) -> Self {
        let count = |wanted: &dyn Fn(&Turn) -> bool| turns.clone().filter(|turn| wanted(turn)).count();
        Self {
            what: what.to_owned(),
            sent: count(&|_| true),
            told: count(&|turn| matches!(turn.end, End::Told(_))),
            degraded: count(&|turn| !turn.degraded.is_empty()),
            handed_off: count(&|turn| turn.end == End::Told(Outcome::HandedOff)),
            again: count(&|turn| turn.again),
            refused: count(&|turn| matches!(turn.end, End::Refused(_))),
            lost: count(&|turn| matches!(turn.end, End::Lost(_))),
            note: note.to_owned(),
            ..Self::default()
        }
    }
}

/// A part of the test.
pub(crate) struct Section {
    name: String,
    pub(crate) about: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) sent: usize,
    pub(crate) refused: usize,
    pub(crate) lost: usize,
    pub(crate) kept: Kept,
    pub(crate) goals: Vec<Goal>,
    /// How turns ended that were refused or lost, and what others had to do without, with how often.
    reasons: BTreeMap<String, usize>,
    /// Each second of the load.
    seconds: Vec<Second>,
}

/// A second of load.
struct Second {
    sent: usize,
    refused: usize,
    lost: usize,
    p50: f64,
    p99: f64,
}

impl Section {
    pub(crate) fn new(name: &str, rows: Vec<Row>, turns: &Turns) -> Self {
        let mut reasons = BTreeMap::new();
        for turn in &turns.all {
            match &turn.end {
                End::Told(_) => {}
                End::Refused(code) => *reasons.entry(format!("refused: {code:?}")).or_insert(0) += 1,
                End::Lost(why) => *reasons.entry(format!("lost: {why}")).or_insert(0) += 1,
            }
            for degraded in &turn.degraded {
                *reasons.entry(format!("went without: {degraded}")).or_insert(0) += 1;
            }
        }
        let all = Row::of("", turns.all.iter(), "");
        let points = turns.points();
        let last = points.last().map_or(0.0, |point| point.due) as usize;
        let second = |second: usize| {
            let (from, to) = (second as f64, second as f64 + 1.0);
            let Row { sent, refused, lost, .. } = Row::of("", turns.within(from, to), "");
            let [p50, p99] = [0.5, 0.99].map(|share| percentile_within(&points, from, to, share));
            Second { sent, refused, lost, p50, p99 }
        };
        let seconds = (0..=last).map(second).collect();
        Self {
            name: name.to_owned(),
            about: String::new(),
            rows,
            sent: all.sent,
            refused: all.refused,
            lost: all.lost,
            kept: Kept::default(),
            goals: Vec::new(),
            reasons,
            seconds,
        }
    }
}

/// Everything, in Markdown.
pub(crate) fn markdown(about: &str, sections: &[Section]) -> String {
    let mut text = format!("# Chaos\n\n{about}\n");
    for section in sections {
        let _ = write!(text, "\n## {}\n\n{}\n\n", section.name, section.about);
        text.push_str("| what | turns | told | degraded | handed off | asked again | refused | lost | p99 before / during, ms | p99 back after | |\n");
        text.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
        for row in &section.rows {
            let back = match row.back {
                Some(seconds) if seconds.is_finite() => format!("{seconds:.2} s"),
                Some(_) => "not seen".into(),
                None => "-".into(),
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} / {} | {back} | {} |",
                row.what,
                row.sent,
                row.told,
                row.degraded,
                row.handed_off,
                row.again,
                row.refused,
                row.lost,
                millis(row.quiet),
                millis(row.p99),
                row.note
            );
        }
        let Kept { acknowledged, kept, forgotten, missing } = section.kept;
        let _ = write!(
            text,
            "\nOf {acknowledged} acknowledged turns the mesh has {kept}; not kept (in memory) {forgotten}; missing {missing}.\n\n"
        );
        for goal in &section.goals {
            let verdict = if goal.met { "met" } else { "**missed**" };
            let _ = writeln!(text, "- {}: {:.2} ({}): {verdict}", goal.what, goal.figure, goal.wanted);
        }
        if !section.reasons.is_empty() {
            text.push_str("\nHow often, and what:\n\n");
            for (reason, count) in &section.reasons {
                let _ = writeln!(text, "- {count} x {reason}");
            }
        }
    }
    text
}

/// The same as JSON.
pub(crate) fn as_json(about: &str, sections: &[Section]) -> Value {
    let row = |row: &Row| {
        json!({
            "what": row.what, "turns": row.sent, "told": row.told, "degraded": row.degraded,
            "handed_off": row.handed_off, "asked_again": row.again, "refused": row.refused, "lost": row.lost,
            "p99_before": row.quiet, "p99": finite(row.p99), "back_after": row.back.and_then(finite), "at": row.at, "note": row.note,
        })
    };
    let goal = |goal: &Goal| json!({"what": goal.what, "figure": finite(goal.figure), "wanted": goal.wanted, "met": goal.met});
    let second = |second: &Second| {
        let Second { sent, refused, lost, p50, p99 } = second;
        json!({"turns": sent, "refused": refused, "lost": lost, "p50": finite(*p50), "p99": finite(*p99)})
    };
    let section = |section: &Section| {
        json!({
            "name": section.name, "about": section.about,
            "turns": section.sent, "refused": section.refused, "lost": section.lost,
            "rows": section.rows.iter().map(row).collect::<Vec<_>>(),
            "acknowledged": section.kept.acknowledged, "kept": section.kept.kept,
            "not_kept_in_memory": section.kept.forgotten, "missing": section.kept.missing,
            "goals": section.goals.iter().map(goal).collect::<Vec<_>>(),
            "reasons": section.reasons,
            "seconds": section.seconds.iter().map(second).collect::<Vec<_>>(),
        })
    };
    json!({"about": about, "parts": sections.iter().map(section).collect::<Vec<_>>()})
}

/// The goals that were missed, with their part.
pub(crate) fn missed(sections: &[Section]) -> Vec<String> {
    let of = |section: &Section| {
        let missed = section.goals.iter().filter(|goal| !goal.met);
        let word = |goal: &Goal| {
            format!("{}: {} is {:.2}, wanted {}", section.name, goal.what, goal.figure, goal.wanted)
        };
        missed.map(word).collect::<Vec<_>>()
    };
    sections.iter().flat_map(of).collect()
}

/// JSON has no infinity.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn millis(seconds: f64) -> String {
    match seconds {
        0.0 => "-".into(),
        seconds if seconds.is_finite() => format!("{:.0}", seconds * 1e3),
        _ => "not answered".into(),
    }
}
