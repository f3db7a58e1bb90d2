//! A real S3-like store for tests, of another make (moto): on loopback, in memory.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// A store with one bucket, `records`, that checks signatures; it ends with this value.
pub struct S3Server {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Its address as a URL.
    pub url: String,
    /// Who may write there: `access-key-id:secret-access-key`.
    pub credentials: String,
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

impl S3Server {
    /// A store on a free port, over TLS where there are files of a certificate and its key.
    ///
    /// # Panics
    /// When Python or its packages are not there, or it does not start.
    #[must_use]
    pub fn start(tls: Option<[&Path; 2]>) -> Self {
        let packages = Path::new(CRATE).join("../.cache/python");
        let mut process = Command::new("python3")
            .arg(Path::new(CRATE).join("src/testing/s3.py"))
            .args(tls.into_iter().flatten())
            .env("PYTHONPATH", &packages)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // A proxy of the machine's has no part in what stays on it.
            .env("NO_PROXY", "*")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{} ({error})", missing(&packages)));
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut server = Self { process, input, output, url: String::new(), credentials: String::new() };
        let Some(ready) = server.line() else { panic!("{}", missing(&packages)) };
        let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
        (server.url, server.credentials) = (text("url"), text("credentials"));
        server
    }

    /// What the bucket holds: of each name its `bytes`, `sha256`, and the `parts` that it came in.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn objects(&mut self) -> serde_json::Map<String, Value> {
        let input = self.input.as_mut().expect("it runs");
        input.write_all(b"\n").expect("it reads");
        match self.line() {
            Some(Value::Object(objects)) => objects,
            other => panic!("{other:?}"),
        }
    }

    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }
}

fn missing(packages: &Path) -> String {
    format!("moto cannot be started with {}: `cargo xtask test` installs it", packages.display())
}
