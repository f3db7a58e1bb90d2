//! The section `[gateway]`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use mesh::config::{Invalid, within};
use serde::{Deserialize, Serialize};
use switchboard_mesh as mesh;

use crate::rate;

/// Where the gateway listens and how much a caller may ask for.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of HTTP; port 0 takes a free one. `/metrics` is among what it serves without a key.
    pub http: SocketAddr,
    /// Address of gRPC; port 0 takes a free one.
    pub grpc: SocketAddr,
    /// Bytes of one JSON body; 1,024 to 64 MiB.
    pub max_body_bytes: usize,
    /// Time to send a JSON body; 10 ms to 10 minutes.
    #[serde(with = "humantime_serde")]
    pub body_time: Duration,
    /// Bytes that one gRPC call may send, all messages together; 1,024 to 16 GiB.
    pub max_stream_bytes: u64,
    /// The most that a call may take, whatever the caller asks for; 100 ms to 1 hour. A turn with a
    /// longer budget is cut short, and a turn may ask for up to 10 minutes.
    #[serde(with = "humantime_serde")]
    pub request_time: Duration,
    /// The same for `KnowledgeService.Ingest`, whose documents have to be embedded; 100 ms to 1 hour.
    #[serde(with = "humantime_serde")]
    pub ingest_time: Duration,
    /// Calls at once, HTTP and gRPC together; 1 to 65,536. Further ones are refused.
    pub max_calls: usize,
    /// Calls of one tenant at once, so that none takes the places of all; 0 to 65,536, where 0 takes
    /// half of `max_calls`. Further ones are refused.
    pub max_calls_per_tenant: usize,
    /// Time that open calls have to finish once the node stops; at most 10 minutes.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// How often a tenant may call.
    pub rate: rate::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            grpc: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            max_body_bytes: 1024 * 1024,
            body_time: Duration::from_secs(10),
            max_stream_bytes: 64 * 1024 * 1024,
            // The longest budget that a turn may have, and time for it to end well.
            request_time: Duration::from_secs(11 * 60),
            ingest_time: Duration::from_secs(30 * 60),
            max_calls: 512,
            max_calls_per_tenant: 0,
            drain: Duration::from_secs(10),
            rate: rate::Config::default(),
        }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Invalid`], which names the key, its value and what is allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        let same = self.http.port() != 0 && self.http == self.grpc;
        if same {
            return Err(Invalid::new("gateway.grpc", self.grpc, "an address other than gateway.http"));
        }
        within("gateway.max_body_bytes", self.max_body_bytes, 1024..=64 << 20)?;
        within("gateway.max_stream_bytes", self.max_stream_bytes, 1024..=16 << 30)?;
        within("gateway.max_calls", self.max_calls, 1..=65_536)?;
        within("gateway.max_calls_per_tenant", self.max_calls_per_tenant, 0..=65_536)?;
        span("gateway.body_time", self.body_time, Duration::from_millis(10), Duration::from_secs(600))?;
        for (key, time) in
            [("gateway.request_time", self.request_time), ("gateway.ingest_time", self.ingest_time)]
        {
            span(key, time, Duration::from_millis(100), mesh::deadline::LONGEST)?;
        }
        span("gateway.drain", self.drain, Duration::ZERO, Duration::from_secs(600))?;
        self.rate.check()
    }

    /// Calls of one tenant at once.
    pub(crate) fn calls_per_tenant(&self) -> usize {
        match self.max_calls_per_tenant {
            0 => self.max_calls.div_ceil(2),
            calls => calls,
        }
    }
}

fn span(key: &str, value: Duration, least: Duration, most: Duration) -> Result<(), Invalid> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(Invalid::new(key, format!("{value:?}"), format!("from {least:?} to {most:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed() {
        Config::default().check().unwrap();
    }

    #[test]
    fn a_refused_value_is_named_with_its_key() {
        let both = SocketAddr::from((Ipv4Addr::LOCALHOST, 9000));
        let cases = [
            (Config { max_calls: 0, ..Config::default() }, "gateway.max_calls"),
            (Config { max_calls_per_tenant: 65_537, ..Config::default() }, "gateway.max_calls_per_tenant"),
            (Config { max_body_bytes: 1, ..Config::default() }, "gateway.max_body_bytes"),
            (Config { request_time: Duration::ZERO, ..Config::default() }, "gateway.request_time"),
            (Config { http: both, grpc: both, ..Config::default() }, "gateway.grpc"),
        ];
        for (config, key) in cases {
            assert_eq!(config.check().unwrap_err().key, key);
        }
    }
}
