//! Programs that come with the system: installed when this is root on Debian, asked for otherwise.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::process::{answers, output, run};

/// Makes sure that a program answers to `arguments`, installing Debian packages for it if need be.
///
/// `use_` says what it is for. An error names the program and the packages when this cannot install.
pub(crate) fn require(
    program: &str,
    arguments: &[&str],
    packages: &[&str],
    use_: &str,
) -> anyhow::Result<()> {
    if answers(program, arguments) {
        return Ok(());
    }
    let call = [&[program], arguments].concat().join(" ");
    install(packages).with_context(|| format!("`{call}` does not work here; it is needed {use_}"))?;
    ensure!(
        answers(program, arguments),
        "`{call}` does not work, even with {} installed",
        packages.join(" ")
    );
    Ok(())
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let list = packages.join(" ");
    let debian = Path::new("/etc/debian_version").exists() && answers("apt-get", &["--version"]);
    if !debian || output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("install it (on Debian or Ubuntu: `sudo apt-get install {list}`), then run this again");
    }
    println!("setup: installing Debian packages: {list}");
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        command
    };
    run(apt().arg("update"))?;
    run(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}
