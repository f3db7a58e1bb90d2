//! Real PostgreSQL servers for tests: on loopback, in a folder that ends with it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use super::free_port;

/// Where Debian keeps the programs of each version, which are not on the path.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A `postgres` of its own, which ends with this value. Its user `postgres` needs no password.
pub struct PostgresServer {
    process: Option<Child>,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    folder: PathBuf,
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl PostgresServer {
    /// A server on a free port, with an empty database `postgres`, that answers.
    ///
    /// # Panics
    /// When the programs are not there, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("switchboard-postgres-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        if is_root() {
            // The server refuses to run as root; its package made a user for it.
            let owned = Command::new("chown").arg("postgres").arg(&folder).status();
            assert!(owned.is_ok_and(|status| status.success()), "{}", missing("the user postgres"));
        }
        let mut server = Self { process: None, port, folder };
        let data = server.data();
        let made = output(
            program("initdb")
                .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"])
                .arg("--no-sync")
                .arg("--pgdata")
                .arg(data),
        );
        assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        server.restart();
        server
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Its address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Stops it at once, without a checkpoint, as a crash of the server would. Its data stays.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // SIGQUIT takes its children along, which SIGKILL would leave in the shared memory.
            let _ = Command::new("kill").args(["-QUIT", &process.id().to_string()]).status();
            let _ = process.wait();
        }
    }

    /// Starts it again, at the same port and over the data that it had, and waits until it answers.
    ///
    /// # Panics
    /// As [`PostgresServer::start`].
    pub fn restart(&mut self) {
        self.kill();
        let log = std::fs::File::create(self.folder.join("log")).expect("a file can be made");
        let port = self.port.to_string();
        let mut command = program("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &port, "-c", "listen_addresses=127.0.0.1"]);
        command.arg("-c").arg(format!("unix_socket_directories={}", self.folder.display()));
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.process = Some(spawned.unwrap_or_else(|error| panic!("{}", missing(&error.to_string()))));
        self.until_well();
    }

    #[expect(clippy::disallowed_methods, reason = "a server of another make tells nobody when it is ready")]
    fn until_well(&mut self) {
        for _ in 0..1500 {
            let port = self.port.to_string();
            let asked = output(program("pg_isready").args(["-q", "-h", "127.0.0.1", "-p", &port]));
            if asked.status.success() {
                return;
            }
            let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            assert!(ended.is_none(), "postgres ended: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("postgres never answered: {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

fn missing(why: &str) -> String {
    format!("postgres cannot be started ({why}): `cargo xtask test` installs it (Debian: postgresql)")
}

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{}", missing(&error.to_string())))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| String::from_utf8_lossy(&id.stdout).trim() == "0")
}

/// A program of PostgreSQL, as its own user where this one is root.
fn program(name: &str) -> Command {
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.is_file()).collect();
    found.sort();
    let path = found.pop().unwrap_or_else(|| Path::new(name).to_owned());
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(path);
    command
}
