//! From the configuration to a connection.

use std::time::Duration;

use redis::{
    Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Pipeline,
    RedisConnectionInfo, RedisFuture, RedisResult, TlsCertificates, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::sync::Mutex;

use super::config::{self, Config, Mode};
use crate::config::Invalid;

/// What connections are made from.
pub(super) enum Source {
    Single(Client),
    Sentinel(Mutex<SentinelClient>),
    Cluster(ClusterClient),
}

/// A connection that many calls share.
#[derive(Clone)]
pub(super) enum Link {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Source {
    /// `None` where no address is given.
    pub(super) fn new(config: &Config) -> Result<Option<Self>, Invalid> {
        let nodes: Vec<(String, u16)> =
            config.nodes.iter().map(|node| config::address(node)).collect::<Result<_, _>>()?;
        let Some((host, port)) = nodes.first().cloned() else { return Ok(None) };
        let unusable = |error: redis::RedisError| {
            Invalid::new(
                "redis.nodes",
                config.nodes.join(", "),
                format!("a deployment that can be used ({error})"),
            )
        };
        let (password, certificates) = (config.secret()?, certificates(config)?);
        let (user, password) = (config.user.as_str(), password.expose());
        let source = match config.mode {
            Mode::Single => {
                let mut settings = RedisConnectionInfo::default().set_db(config.database);
                if !user.is_empty() {
                    settings = settings.set_username(user);
                }
                if !password.is_empty() {
                    settings = settings.set_password(password);
                }
                let address = server(host, port, config.tls);
                let info: ConnectionInfo = address.into_connection_info().map_err(unusable)?;
                let info = info.set_redis_settings(settings);
                let client = match certificates {
                    Some(certificates) => Client::build_with_tls(info, certificates),
                    None => Client::open(info),
                };
                Self::Single(client.map_err(unusable)?)
            }
            Mode::Sentinel => {
                let addresses = nodes.into_iter().map(|(host, port)| server(host, port, config.tls));
                let builder =
                    SentinelClientBuilder::new(addresses, &config.master, SentinelServerType::Master);
                let mut builder = builder.map_err(unusable)?.set_client_to_redis_db(config.database);
                if !user.is_empty() {
                    builder = builder.set_client_to_redis_username(user);
                }
                if !password.is_empty() {
                    builder = builder.set_client_to_redis_password(password);
                }
                if config.tls {
                    builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
                    if let Some(certificates) = certificates {
                        builder = builder
                            .set_client_to_redis_certificates(certificates.clone())
                            .set_client_to_sentinel_certificates(certificates);
                    }
                }
                Self::Sentinel(Mutex::new(builder.build().map_err(unusable)?))
            }
            Mode::Cluster => {
                let addresses = nodes.into_iter().map(|(host, port)| server(host, port, config.tls));
                let mut builder = ClusterClient::builder(addresses)
                    .connection_timeout(config.connect_timeout)
                    // Whoever calls has a deadline of its own.
                    .response_timeout(Duration::from_secs(60))
                    // A node that is away costs the calls for its slots no time. Nor does it connect to
                    // it the later: that goes on besides all calls.
                    .retries(0);
                if !user.is_empty() {
                    builder = builder.username(user);
                }
                if !password.is_empty() {
                    builder = builder.password(password);
                }
                if config.tls {
                    builder = builder.tls(TlsMode::Secure);
                }
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates);
                }
                Self::Cluster(builder.build().map_err(unusable)?)
            }
        };
        Ok(Some(source))
    }

    pub(super) async fn connect(&self) -> RedisResult<Link> {
        // The caller bounds both times.
        let config =
            redis::AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        match self {
            Self::Single(client) => {
                client.get_multiplexed_async_connection_with_config(&config).await.map(Link::Server)
            }
            Self::Sentinel(client) => {
                client.lock().await.get_async_connection_with_config(&config).await.map(Link::Server)
            }
            Self::Cluster(client) => client.get_async_connection().await.map(Link::Cluster),
        }
    }
}

fn server(host: String, port: u16, tls: bool) -> ConnectionAddr {
    match tls {
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host, port),
    }
}

/// The certificates that are configured, read.
fn certificates(config: &Config) -> Result<Option<TlsCertificates>, Invalid> {
    let read = |key: &str, path: &std::path::PathBuf| {
        if path.as_os_str().is_empty() { Ok(None) } else { config::file(key, path).map(Some) }
    };
    let root_cert = read("redis.authorities", &config.authorities)?;
    let own = (read("redis.certificate", &config.certificate)?, read("redis.key", &config.key)?);
    let client_tls = match own {
        (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig { client_cert, client_key }),
        _ => None,
    };
    Ok((root_cert.is_some() || client_tls.is_some()).then_some(TlsCertificates { client_tls, root_cert }))
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(link) => link.req_packed_command(command),
            Self::Cluster(link) => link.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(link) => link.req_packed_commands(commands, offset, count),
            Self::Cluster(link) => link.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(link) => link.get_db(),
            Self::Cluster(link) => link.get_db(),
        }
    }
}
