//! Real etcd servers for tests: one member, on loopback, in a folder that ends with it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::free_port;

/// An `etcd` of its own, which ends with this value.
pub struct EtcdServer {
    process: Option<Child>,
    /// Where it listens for clients, on 127.0.0.1.
    pub port: u16,
    peers: u16,
    health: u16,
    /// Its certificate, the key of it, and the authorities of those who may call.
    tls: Option<[PathBuf; 3]>,
    folder: PathBuf,
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl EtcdServer {
    /// A server on free ports, without data, that answers.
    ///
    /// # Panics
    /// When the program is not there, or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::stopped().run()
    }

    /// A server with PEM files of its certificate, of its key, and of the authorities that callers need a
    /// certificate of.
    ///
    /// # Panics
    /// As [`EtcdServer::start`].
    #[must_use]
    pub fn start_with_tls(files: [PathBuf; 3]) -> Self {
        let mut server = Self::stopped();
        server.tls = Some(files);
        server.run()
    }

    /// A server that does not run yet.
    ///
    /// # Panics
    /// When there are no free ports.
    #[must_use]
    pub fn stopped() -> Self {
        let (port, peers, health) = (free_port(), free_port(), free_port());
        let folder = std::env::temp_dir().join(format!("switchboard-etcd-{}-{port}", std::process::id()));
        Self { process: None, port, peers, health, tls: None, folder }
    }

    fn run(mut self) -> Self {
        self.restart();
        self
    }

    /// Its address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Stops it at once, as a crash would. Its data stays.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Throws its data away; it must not run.
    ///
    /// # Panics
    /// When it runs.
    pub fn wipe(&mut self) {
        assert!(self.process.is_none(), "a server that runs keeps its data");
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// Starts it again, at the same port and over the data that it had, and waits until it answers.
    ///
    /// # Panics
    /// As [`EtcdServer::start`].
    pub fn restart(&mut self) {
        self.kill();
        std::fs::create_dir_all(&self.folder).expect("a folder can be made");
        let log = std::fs::File::create(self.folder.join("log")).expect("a file can be made");
        let (client, peer) = (self.url(), format!("http://127.0.0.1:{}", self.peers));
        let mut command = Command::new("etcd");
        command.args(["--name", "test", "--data-dir"]).arg(self.folder.join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("test={peer}")]);
        command.args(["--listen-metrics-urls", &format!("http://127.0.0.1:{}", self.health)]);
        if let Some([certificate, key, authorities]) = &self.tls {
            command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(authorities);
        }
        // Shorter than by default, so that leases may be short as well.
        command.args(["--heartbeat-interval", "50", "--election-timeout", "500"]);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.process = Some(spawned.unwrap_or_else(|error| {
            panic!("etcd cannot be started ({error}): `cargo xtask test` installs it (Debian: etcd-server)")
        }));
        self.until_well();
    }

    /// Freezes it: its connections stay open, and nothing answers.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on after [`EtcdServer::pause`].
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs");
        let sent = Command::new("kill").args([signal, &process.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the signal is sent");
    }

    #[expect(clippy::disallowed_methods, reason = "a server of another make tells nobody when it is ready")]
    fn until_well(&mut self) {
        for _ in 0..3000 {
            if self.is_well() {
                return;
            }
            let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            assert!(ended.is_none(), "etcd ended: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("etcd never answered: {}", self.log());
    }

    fn is_well(&self) -> bool {
        let asked = TcpStream::connect(("127.0.0.1", self.health)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: etcd\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        });
        asked.is_ok_and(|answer| answer.contains(r#""health":"true""#))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}
