//! Rules for the crates that are linked: licences on a list, one version where types must agree.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::process::output;
use crate::setup::host;
use crate::workspace::Workspace;

/// Crates whose types or global state cross crate borders: with two versions of one of them, a
/// service does not fit its client, or spans and metrics vanish without an error.
const ONE_VERSION: [&str; 4] = ["tonic", "prost", "tracing", "opentelemetry"];

/// SPDX names of the licences that fit an Apache-2.0 binary. MPL-2.0 is among them because it asks for
/// the source of its own files only, and those are used unchanged; CDLA-Permissive-2.0 is that of the
/// public authorities' certificates, which are data.
const LICENCES: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Checks everything that is resolved for this platform, with every feature, and development dependencies included.
pub(super) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let mut cargo = workspace.cargo("metadata");
    cargo.args(["--locked", "--all-features", "--format-version", "1", "--filter-platform", &host()?]);
    let metadata: Value =
        serde_json::from_str(&output(&mut cargo)?).context("cargo metadata wrote no JSON")?;
    let faults = faults(&metadata);
    if faults.is_empty() { Ok(()) } else { bail!("\n  {}", faults.join("\n  ")) }
}

/// What is wrong with the packages in the output of `cargo metadata`, one line each.
fn faults(metadata: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let (name, version, licence) = (text("name"), text("version"), text("license"));
        versions.entry(name).or_default().insert(version);
        // Our own crates are the ones without a source.
        if !package["source"].is_null() && !allowed(licence) {
            faults.push(format!("{name} {version}: the licence `{licence}` is not on the list"));
        }
    }
    for name in ONE_VERSION {
        if let Some(found) = versions.get(name).filter(|found| found.len() > 1) {
            let found: Vec<&str> = found.iter().copied().collect();
            faults.push(format!("{name}: one version is allowed, found {}", found.join(" and ")));
        }
    }
    faults
}

/// Whether an SPDX expression can be met with the licences on the list.
///
/// AND binds tighter than OR. `/` is read as OR, as cargo once had it. What is no such expression,
/// the empty one among it, is refused.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    any_of(&mut rest) == Some(true) && rest.is_empty()
}

/// One or more terms joined by OR, from the front of `rest`; `None` when there is no such thing.
fn any_of(rest: &mut &[&str]) -> Option<bool> {
    let mut met = all_of(rest)?;
    while take(rest, "OR") {
        met |= all_of(rest)?;
    }
    Some(met)
}

/// One or more licences or groups joined by AND.
fn all_of(rest: &mut &[&str]) -> Option<bool> {
    let mut met = licence(rest)?;
    while take(rest, "AND") {
        met &= licence(rest)?;
    }
    Some(met)
}

/// A licence, with its exception if it has one, or a group in parentheses.
fn licence(rest: &mut &[&str]) -> Option<bool> {
    if take(rest, "(") {
        let met = any_of(rest)?;
        return take(rest, ")").then_some(met);
    }
    let (name, after) = rest.split_first()?;
    *rest = after;
    if !take(rest, "WITH") {
        return Some(LICENCES.contains(name));
    }
    let (exception, after) = rest.split_first()?;
    *rest = after;
    Some(LICENCES.contains(&format!("{name} WITH {exception}").as_str()))
}

/// Takes `token` from the front of `rest` if it is there.
fn take(rest: &mut &[&str], token: &str) -> bool {
    match rest.split_first() {
        Some((first, after)) if *first == token => {
            *rest = after;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_licence_expression_is_met_by_one_of_its_alternatives() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "(MIT OR GPL-3.0-only) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-2.0-only AND MIT OR ISC",
        ] {
            assert!(allowed(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "MIT AND (GPL-3.0-only OR AGPL-3.0-only)",
            "Apache-2.0 WITH Other-exception",
            "MIT OR",
            "(MIT",
            "MIT ISC",
        ] {
            assert!(!allowed(bad), "{bad}");
        }
    }

    #[test]
    fn two_versions_and_unlisted_licences_are_reported_with_their_crates() {
        let package = |name: &str, version: &str, licence: &str, source: Option<&str>| json!({"name": name, "version": version, "license": licence, "source": source});
        let metadata = json!({"packages": [
            package("tonic", "0.13.0", "MIT", Some("registry")),
            package("tonic", "0.14.9", "MIT", Some("registry")),
            package("syn", "1.0.0", "MIT", Some("registry")),
            package("syn", "2.0.0", "MIT", Some("registry")),
            package("copyleft", "1.0.0", "AGPL-3.0-only", Some("registry")),
            package("ours", "0.1.0", "", None),
        ]});
        assert_eq!(
            faults(&metadata),
            [
                "copyleft 1.0.0: the licence `AGPL-3.0-only` is not on the list",
                "tonic: one version is allowed, found 0.13.0 and 0.14.9"
            ]
        );
    }
}
