//! `switchboard models pull`.

use std::{
    fs,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    RepositoryArgs, check,
    choose::{self, ChoiceError},
    hub::{Entry, Fetched, Hub, HubError, Listing},
    import,
};
use crate::{
    cli::{Global, show},
    config::Process,
};

/// Attempts in a row that bring nothing, after which a transfer is given up.
const ATTEMPTS: u32 = 4;

/// Flags of `models pull`.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct PullArgs {
    /// The model's name at the hub, such as `sentence-transformers/all-MiniLM-L6-v2`; then, where it
    /// is not `main`, the branch, tag or commit
    #[arg(value_name = "NAME[@REVISION]", value_parser = wanted)]
    model: Wanted,
    /// Fetch these files in place of the usual graph, `onnx/model.onnx`; `*` stands for anything. May
    /// be repeated
    #[arg(long = "file", value_name = "PATTERN")]
    files: Vec<String>,
    /// Name of the folder to make; the last part of NAME when not given
    #[arg(long = "name", value_name = "NAME", value_parser = super::import::local_name)]
    local: Option<String>,
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Fetches the settings, the tokenizer and the ONNX graph (or, where there is none, the safetensors
weights, which are then imported), checks every file by its hash, and puts the model into the folder
of models once it is whole. A cut transfer goes on where it ended.

Examples:
  switchboard models pull sentence-transformers/all-MiniLM-L6-v2
  switchboard models pull cross-encoder/ms-marco-MiniLM-L6-v2 --file onnx/model_qint8_avx512.onnx
  HF_TOKEN=hf_yours switchboard models pull my-company/private-model@v2

HF_ENDPOINT or hub.endpoint names another hub, HF_TOKEN or hub.token_file an access token.";

/// A model of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    /// One or two parts of letters, digits, `.`, `-` and `_`.
    name: String,
    /// A branch, a tag or a commit.
    revision: String,
}

fn wanted(text: &str) -> Result<Wanted, String> {
    let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
    let mut parts = name.split('/');
    if parts.clone().count() > 2 || parts.any(|part| import::local_name(part).is_err()) {
        return Err("a name is OWNER/MODEL, such as intfloat/e5-small-v2".into());
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-/+".contains(c);
    if revision.is_empty() || revision.len() > 200 || !revision.chars().all(fine) || revision.contains("..") {
        return Err("what follows the @ is a branch, a tag or a commit".into());
    }
    Ok(Wanted { name: name.to_owned(), revision: revision.to_owned() })
}

/// A file that is in its place.
struct Arrived {
    path: String,
    fetched: Fetched,
    /// Whether it was there before.
    kept: bool,
}

pub(super) async fn pull(global: &Global, args: PullArgs) -> Result<ExitCode> {
    let config = args.repository.load(global)?;
    let repository = super::repository(&config)?;
    let local = args.local.clone().unwrap_or_else(|| last_part(&args.model.name).to_owned());
    let target = repository.join(&local);
    let hub = Arc::new(Hub::open(&config.hub, &Process)?);
    let listing = match list(&hub, &args).await {
        Ok(listing) => listing,
        Err(error @ HubError::Unreachable { .. }) => {
            return Err(error).with_context(|| by_hand(&args.model.name, &target));
        }
        Err(error) => return Err(error.into()),
    };
    for path in listing.refused.iter().take(10) {
        let path: String = show::plain(&path.replace('\n', " ")).chars().take(200).collect();
        eprintln!("left out: the hub lists a file under a path that is not safe: {path:?}");
    }
    let wanted =
        choose::choose(&listing.files, &args.files).map_err(|error| explain(&args.model.name, error))?;
    let graph = choose::has_graph(&wanted);
    if !graph && target.exists() {
        // What was made of the weights would have to be made anew, and somebody may be using it.
        bail!("{} is there already: remove it, or choose another --name", target.display());
    }
    // Hidden, so that no node takes a half for a model.
    let staging = repository.join(format!(".pull-{local}"));
    fs::create_dir_all(&staging).with_context(|| format!("{} cannot be made", staging.display()))?;
    let arrived = fetch_all(&hub, &args.model.name, &listing.commit, &wanted, &staging, &target).await?;
    if graph {
        let (staging, target) = (staging.clone(), target.clone());
        tokio::task::spawn_blocking(move || settle(&staging, &target, &wanted)).await??;
    } else {
        import::weights(&staging, &target, Default::default(), args.json).await.with_context(|| {
            format!(
                "the weights of {} are in {}, and no graph could be made of them",
                args.model.name,
                staging.display()
            )
        })?;
        fs::remove_dir_all(&staging).with_context(|| format!("{} cannot be removed", staging.display()))?;
    }
    let size: u64 = arrived.iter().map(|file| file.fetched.size).sum();
    if !args.json {
        let fetched = arrived.iter().filter(|file| !file.kept).count();
        show::line(&format!(
            "{} at commit {} of {}: {fetched} of {} files fetched, {} in all, in {}",
            args.model.name,
            listing.commit,
            hub.name(),
            arrived.len(),
            show::bytes(size),
            target.display()
        ));
        for file in arrived.iter().filter(|file| file.fetched.checksum.is_none()) {
            show::line(&format!("  {} could not be checked: the hub tells no hash of it", file.path));
        }
    }
    let checked = check::folder(&config, target.clone()).await?;
    if args.json {
        let files: Vec<_> = arrived.iter().map(Arrived::json).collect();
        let object = json!({
            "model": args.model.name, "hub": hub.name(), "commit": listing.commit, "folder": target, "files": files,
            "check": checked.json(),
        });
        show::line(&serde_json::to_string_pretty(&object)?);
    } else {
        show::line(&checked.text());
    }
    Ok(if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Arrived {
    fn json(&self) -> serde_json::Value {
        let checksum = self.fetched.checksum.as_ref().map(|checksum| {
            let (kind, digits) = checksum.parts();
            json!({ "kind": kind, "digits": digits })
        });
        json!({
            "path": self.path, "bytes": self.fetched.size, "checksum": checksum,
            "resumed_from": self.fetched.resumed, "kept": self.kept,
        })
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn by_hand(name: &str, target: &Path) -> String {
    format!(
        "{name} cannot be fetched. Without a way to a hub, put its files into {} yourself: config.json, \
         tokenizer.json and onnx/model.onnx; also modules.json and 1_Pooling/config.json where it has them. \
         `switchboard models check` then says whether they fit",
        target.display()
    )
}

fn explain(name: &str, error: ChoiceError) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("{name} cannot be fetched"))
}

async fn list(hub: &Arc<Hub>, args: &PullArgs) -> Result<Listing, HubError> {
    let (hub, name, revision) = (Arc::clone(hub), args.model.name.clone(), args.model.revision.clone());
    run(move || hub.list(&name, &revision)).await
}

/// Runs what blocks on the network off the async threads.
async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HubError> + Send + 'static,
) -> Result<T, HubError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(HubError::Answer { problem: error.to_string() }))
}

async fn fetch_all(
    hub: &Arc<Hub>,
    model: &str,
    commit: &str,
    wanted: &[Entry],
    staging: &Path,
    target: &Path,
) -> Result<Vec<Arrived>> {
    let bar = progress(wanted.iter().filter_map(|entry| entry.size).sum());
    let mut arrived = Vec::new();
    let mut done = 0;
    for entry in wanted {
        bar.set_message(entry.path.clone());
        let place = staging.join(&entry.path);
        let (candidates, checked) = ([target.join(&entry.path), place.clone()], entry.clone());
        let kept = run(move || Ok(candidates.iter().find_map(|path| same(path, &checked)))).await?;
        let (fetched, kept) = match kept {
            Some(fetched) => (fetched, true),
            None => (fetch(hub, model, commit, entry, &place, (&bar, done)).await?, false),
        };
        done += fetched.size;
        bar.set_position(done);
        arrived.push(Arrived { path: entry.path.clone(), fetched, kept });
    }
    bar.finish_and_clear();
    Ok(arrived)
}

/// What is at `path` already, if it is what `entry` says.
fn same(path: &Path, entry: &Entry) -> Option<Fetched> {
    let size = fs::metadata(path).ok().filter(|found| found.is_file())?.len();
    let checksum = entry.checksum.as_ref()?;
    let same = entry.size.is_none_or(|wanted| wanted == size) && checksum.is_of(path).unwrap_or(false);
    same.then(|| Fetched { size, checksum: Some(checksum.clone()), resumed: size })
}

/// Fetches a file, trying again while the tries bring it further.
async fn fetch(
    hub: &Arc<Hub>,
    model: &str,
    commit: &str,
    entry: &Entry,
    place: &Path,
    (bar, before): (&ProgressBar, u64),
) -> Result<Fetched> {
    let mut furthest = 0;
    let mut failures = 0;
    loop {
        let (hub, model, commit) = (Arc::clone(hub), model.to_owned(), commit.to_owned());
        let (entry, place, bar) = (entry.clone(), place.to_owned(), bar.clone());
        let attempt = run(move || {
            hub.fetch(&model, &commit, &entry, &place, &mut |got| bar.set_position(before + got))
        });
        let error = match attempt.await {
            Ok(fetched) => return Ok(fetched),
            Err(error) if error.passing() => error,
            Err(error) => return Err(error.into()),
        };
        if let HubError::Cut { got, .. } = error
            && got > furthest
        {
            (furthest, failures) = (got, 0);
        } else {
            failures += 1;
        }
        if failures >= ATTEMPTS {
            return Err(error).context("given up; the same command goes on where this one ended");
        }
        tokio::time::sleep(Duration::from_millis(250) * 2u32.pow(failures)).await;
    }
}

fn progress(total: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template =
        "{bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} (left: {eta})  {wide_msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style)
}

/// Puts what was fetched into its place: as a whole where there is nothing yet, else file by file, so
/// that what somebody added, such as a `model.toml`, stays.
fn settle(staging: &Path, target: &Path, wanted: &[Entry]) -> Result<()> {
    if !target.exists() {
        prune(staging, Path::new(""), wanted)?;
        return fs::rename(staging, target).with_context(|| format!("{} cannot be made", target.display()));
    }
    for entry in wanted {
        let (from, to) = (staging.join(&entry.path), target.join(&entry.path));
        if from.is_file() {
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
            }
            fs::rename(&from, &to).with_context(|| format!("{} cannot be written", to.display()))?;
        }
    }
    fs::remove_dir_all(staging).with_context(|| format!("{} cannot be removed", staging.display()))
}

/// Removes what an earlier pull of something else has left.
fn prune(root: &Path, below: &Path, wanted: &[Entry]) -> Result<()> {
    let unreadable = || format!("{} cannot be read", root.join(below).display());
    for found in fs::read_dir(root.join(below)).with_context(unreadable)? {
        let found = found.with_context(unreadable)?;
        let path: PathBuf = below.join(found.file_name());
        if found.file_type().with_context(unreadable)?.is_dir() {
            prune(root, &path, wanted)?;
            // Fails where something is left in it, as it should.
            let _ = fs::remove_dir(found.path());
        } else if !wanted.iter().any(|entry| Path::new(&entry.path) == path) {
            fs::remove_file(found.path())
                .with_context(|| format!("{} cannot be removed", found.path().display()))?;
        }
    }
    if below.as_os_str().is_empty() && !root.is_dir() {
        bail!("{} is gone", root.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_carry_a_revision() {
        let model = |name: &str, revision: &str| Ok(Wanted { name: name.into(), revision: revision.into() });
        assert_eq!(wanted("acme/small"), model("acme/small", "main"));
        assert_eq!(wanted("small@refs/pr/1"), model("small", "refs/pr/1"));
        for bad in
            ["", "/", "a/b/c", "a/..", "../b", "a b", "-/\n", "a@", "a@b@c", "a@../b", "a@b?c", "a@b#c"]
        {
            assert!(wanted(bad).is_err(), "{bad:?}");
        }
    }
}
