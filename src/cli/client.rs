//! How a command reaches the services: a running gateway, or the roles in this very process.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use switchboard_mesh::{Call, Channel, Deadline, Tenant, config::Secret};
use tonic::metadata::MetadataValue;

use super::Global;
use crate::{config::Config, node::Node, roles::Role};

/// The tenant of a machine that serves one company.
pub(crate) const DEFAULT_TENANT: &str = "default";

/// Flags of every command that calls services.
#[derive(Args)]
pub(crate) struct ServerArgs {
    /// gRPC address of a running Switchboard; without it the command works on the data folder itself
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<http::Uri>,
    /// API key for --server
    #[arg(long, value_name = "KEY", env = "SWITCHBOARD_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// Tenant, without --server (an API key says its own)
    #[arg(long, default_value = DEFAULT_TENANT)]
    pub(crate) tenant: String,
}

impl ServerArgs {
    /// Whether a running Switchboard is meant.
    pub(crate) fn is_remote(&self) -> bool {
        self.server.is_some()
    }
}

/// A way to call services.
pub(crate) struct Client {
    access: Access,
    tenant: Tenant,
}

enum Access {
    Remote { channel: Channel, key: Secret },
    Embedded(Box<Node>),
}

impl Client {
    /// Connects as the flags say; `roles` are started when it is in this process.
    ///
    /// # Errors
    /// A missing or malformed flag, or a role that cannot start.
    pub(crate) async fn open(global: &Global, args: &ServerArgs, roles: &[Role]) -> Result<Self> {
        let tenant =
            Tenant::try_new(&args.tenant).map_err(|allowed| anyhow::anyhow!("--tenant: {allowed}"))?;
        let access = match &args.server {
            Some(uri) => {
                anyhow::ensure!(
                    uri.scheme_str() == Some("http") && uri.authority().is_some(),
                    "--server: a URL such as http://127.0.0.1:8081 is allowed"
                );
                let key = args.api_key.clone().context(
                    "--server needs an API key: --api-key or SWITCHBOARD_API_KEY (`switchboard up` prints one)",
                )?;
                Access::Remote { channel: Channel::tcp("gateway", uri.clone()), key: Secret::new(key) }
            }
            None => {
                // People read the answer, not the log.
                let quiet = global.load(&[])?.telemetry.log;
                let log = if quiet == "info" { "warn".to_owned() } else { quiet };
                let config = global.load(&[("telemetry.log", log)])?;
                Access::Embedded(Box::new(Node::start(&config, roles, &[]).await?))
            }
        };
        Ok(Self { access, tenant })
    }

    /// The roles in this process over `config`, for measurements.
    ///
    /// # Errors
    /// A role that cannot start.
    pub(crate) async fn embedded(config: &Config, roles: &[Role]) -> Result<Self> {
        let tenant = Tenant::try_new(DEFAULT_TENANT).map_err(anyhow::Error::msg)?;
        Ok(Self { access: Access::Embedded(Box::new(Node::start(config, roles, &[]).await?)), tenant })
    }

    /// A channel to `role`, or to the gateway that stands for it.
    pub(crate) fn channel(&self, role: Role) -> Channel {
        match &self.access {
            Access::Remote { channel, .. } => channel.clone(),
            Access::Embedded(node) => node.ctx.channel(role.name()),
        }
    }

    /// A request that may take `limit`.
    ///
    /// # Errors
    /// A key that cannot be sent.
    pub(crate) fn request<T>(&self, message: T, limit: Duration) -> Result<tonic::Request<T>> {
        let call = Call::new(self.tenant.clone(), Deadline::after(limit));
        let mut request = call.request(message);
        if let Access::Remote { key, .. } = &self.access {
            let value = MetadataValue::try_from(format!("Bearer {}", key.expose()))
                .ok()
                .context("--api-key: an API key holds only letters, digits, - and _")?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }

    /// Stops what was started.
    pub(crate) async fn close(self) {
        if let Access::Embedded(node) = self.access {
            node.stop().await;
        }
    }
}

/// A status as an error for people: what happened and what to do.
pub(crate) fn explain(status: &tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{} ({:?})", status.message(), status.code())
}
