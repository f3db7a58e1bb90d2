//! What can be said of a bundle in a folder, for people.

use std::{path::Path, time::Duration};

use super::{Bundle, BundleError, Tested, check as tests, files};

/// A bundle that compiles, and how its tests went.
#[derive(Debug)]
pub struct Checked {
    /// The bundle, ready to be asked.
    pub bundle: Bundle,
    /// Files of rules.
    pub rules: usize,
    /// Its tests, in order of name.
    pub tests: Vec<Tested>,
}

/// Reads and compiles the bundle in a folder, and runs its tests; tests that fail are no error. Blocks.
///
/// # Errors
/// [`BundleError`], which names file and line.
pub fn check(folder: &Path, limit: Duration) -> Result<Checked, BundleError> {
    let sources = files::read(folder)?;
    let bundle = Bundle::compile(&sources, limit)?;
    Ok(Checked { bundle, rules: sources.rules.len(), tests: tests::run(&sources)? })
}
