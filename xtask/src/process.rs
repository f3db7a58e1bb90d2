//! Child processes, with errors that name the command.

use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

/// Runs a command on this terminal. An error when it cannot start or does not succeed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", describe(command)))?;
    ensure!(status.success(), "{} ended with {status}", describe(command));
    Ok(())
}

/// Runs a command and returns what it wrote on stdout; stderr stays on this terminal.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", describe(command)))?;
    ensure!(output.status.success(), "{} ended with {}", describe(command), output.status);
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} wrote something that is not UTF-8", describe(command)))
}

/// Runs a command like `output`, and ends it when `limit` has passed.
pub(crate) fn output_within(command: &mut Command, limit: Duration) -> anyhow::Result<Output> {
    let child = command.spawn().with_context(|| format!("cannot run {}", describe(command)))?;
    let id = child.id();
    let (tx, rx) = mpsc::channel();
    thread::spawn(move || tx.send(child.wait_with_output()));
    match rx.recv_timeout(limit) {
        Ok(output) => output.with_context(|| format!("lost {}", describe(command))),
        Err(_) => {
            // The child is not reaped yet, so the id is still its own.
            signal(id, "KILL");
            bail!("{} was not done after {} s", describe(command), limit.as_secs())
        }
    }
}

/// Waits for a child for `limit` and returns its exit code; `None` when it takes longer or was
/// ended by a signal.
pub(crate) fn wait_within(mut child: Child, limit: Duration) -> Option<i32> {
    let (tx, rx) = mpsc::channel();
    thread::spawn(move || tx.send(child.wait()));
    rx.recv_timeout(limit).ok()?.ok()?.code()
}

/// Whether a program is there and answers to `argument` with success.
pub(crate) fn answers(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Sends a signal to one process. The shell's `kill` is the way to do it without unsafe code.
fn signal(id: u32, name: &str) {
    answers("sh", &["-c", &format!("kill -{name} {id}")]);
}

/// The command as a person would type it, without the arguments' quotes.
fn describe(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    format!("`{}`", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_takes_too_long_is_ended_and_named() {
        let error = output_within(Command::new("sleep").arg("600"), Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.to_string(), "`sleep 600` was not done after 0 s");
    }

    #[test]
    fn a_failure_names_the_command_and_its_exit_code() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c exit 3` ended with exit status: 3");
        assert!(run(&mut Command::new("no-such-program")).is_err());
    }
}
