//! Real Redis servers for tests: on loopback, with nothing kept.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::free_port;

/// A `redis-server` of its own, which ends with this value.
pub struct RedisServer {
    process: Child,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    folder: PathBuf,
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl RedisServer {
    /// A server on a free port, with further arguments such as `--requirepass x`.
    ///
    /// # Panics
    /// When the program is not there, or does not start.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        Self::at(free_port(), arguments)
    }

    /// A server on a port that should be free.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    #[must_use]
    pub fn at(port: u16, arguments: &[&str]) -> Self {
        let folder = folder(port);
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        command.args(["--bind", "127.0.0.1", "--dir"]).arg(&folder).args(arguments);
        Self { process: ready(command), port, folder }
    }

    /// A server that speaks TLS alone, with the certificate and the key in PEM files, and further arguments.
    /// `authorities`, a PEM file as well, says by whom the certificates of clients have to be signed; without
    /// it they need none. [`RedisServer::say`] does not reach it.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    #[must_use]
    pub fn with_tls(certificate: &Path, key: &Path, authorities: Option<&Path>, arguments: &[&str]) -> Self {
        let port = free_port();
        let folder = folder(port);
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--tls-port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        command.args(["--bind", "127.0.0.1", "--dir"]).arg(&folder);
        command.arg("--tls-cert-file").arg(certificate).arg("--tls-key-file").arg(key);
        // It wants authorities even where nobody has to show a certificate.
        command.arg("--tls-ca-cert-file").arg(authorities.unwrap_or(certificate));
        command.args(["--tls-auth-clients", if authorities.is_some() { "yes" } else { "no" }]);
        command.args(arguments);
        Self { process: ready(command), port, folder }
    }

    /// A Sentinel that watches the master at `port` under the name `mymaster`, and takes it for lost after
    /// half a second.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    #[must_use]
    pub fn sentinel(master: u16) -> Self {
        let port = free_port();
        let folder = folder(port);
        let file = folder.join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 2000\n",
            folder.display()
        );
        std::fs::write(&file, text).expect("a file can be written");
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel");
        Self { process: ready(command), port, folder }
    }

    /// Three servers that are a Cluster, each with a third of the slots.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    #[must_use]
    pub fn cluster() -> [Self; 3] {
        let node = || {
            let bus = free_port();
            let server = Self::start(&["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()]);
            (server, bus)
        };
        let nodes = [node(), node(), node()];
        let slots = [(0, 5460), (5461, 10922), (10923, 16383)];
        for ((server, _), (first, last)) in nodes.iter().zip(slots) {
            server.say(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            for (other, bus) in &nodes {
                server.say(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", other.port));
            }
        }
        let servers = nodes.map(|(server, _)| server);
        for server in &servers {
            server.until("CLUSTER INFO", &["cluster_state:ok", "cluster_known_nodes:3"]);
        }
        servers
    }

    /// Its address, `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sends a command, its words with spaces between, on a connection of its own, and returns the answer
    /// in a form to look into.
    ///
    /// # Panics
    /// When the server is not there, or refuses.
    pub fn say(&self, command: &str) -> String {
        let client = redis::Client::open(format!("redis://{}", self.address())).expect("an address");
        let mut connection = client.get_connection().expect("the server listens");
        let mut words = command.split(' ');
        let mut call = redis::cmd(words.next().unwrap_or_default());
        for word in words {
            call.arg(word);
        }
        let answer: redis::Value = call.query(&mut connection).expect("the server answers");
        format!("{answer:?}")
    }

    /// Sends a command until the answer has all of `wanted`.
    ///
    /// # Panics
    /// When it has not after a minute.
    #[expect(clippy::disallowed_methods, reason = "a server of another make tells nobody when it is done")]
    pub fn until(&self, command: &str, wanted: &[&str]) {
        for _ in 0..3000 {
            let answer = self.say(command);
            if wanted.iter().all(|part| answer.contains(part)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{command} never said {wanted:?}: {}", self.say(command));
    }

    /// Stops it at once, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn folder(port: u16) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("switchboard-redis-{}-{port}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}

/// Starts a server and waits until it is ready.
fn ready(mut command: Command) -> Child {
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut process = spawned.unwrap_or_else(|error| {
        panic!(
            "redis-server cannot be started ({error}): `cargo xtask test` installs it (Debian: redis-server)"
        )
    });
    let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
    let mut said = String::new();
    loop {
        let Some(Ok(line)) = lines.next() else { panic!("redis-server ended: {said}") };
        said.push_str(&line);
        said.push('\n');
        if line.contains("Ready to accept connections") || line.contains("monitor master") {
            break;
        }
    }
    // It goes on to write, and somebody must read.
    std::thread::spawn(move || lines.for_each(drop));
    process
}
