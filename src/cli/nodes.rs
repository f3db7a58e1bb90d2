//! `switchboard nodes`: who is there, with what, how loaded, and how fresh that knowledge is.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use clap::Args;
use futures::{StreamExt as _, future::join_all, stream};
use humantime_serde::re::humantime;
use serde_json::{Value, json};
use switchboard_mesh::{
    Call, Channel, Deadline, Tenant,
    balance::Options,
    bootstrap::Wiring,
    discovery::{AboutModel, Discovery as _, Fixed, Member, Members, Source},
};
use switchboard_proto::inference::v1::{ProfileRequest, inference_service_client::InferenceServiceClient};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Global, client::DEFAULT_TENANT, show};
use crate::{
    node,
    roles::{self, Role},
};

/// How long to wait for what discovery has to tell.
const TOLD: Duration = Duration::from_secs(3);
/// How long a node may take to say how it is.
const ANSWER: Duration = Duration::from_secs(2);
/// Nodes that are asked side by side.
const AT_ONCE: usize = 64;

/// Flags of `nodes`.
#[derive(Args)]
pub(crate) struct NodesArgs {
    /// Show the nodes of this role only; may be repeated
    #[arg(long = "role", value_parser = role, value_name = "ROLE")]
    roles: Vec<Role>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

fn role(name: &str) -> Result<Role, String> {
    Role::parse(name).ok_or_else(|| format!("a role is one of {}", roles::names()))
}

/// A node of a role, as it is known and as it answers.
struct Seen {
    role: &'static str,
    member: Arc<Member>,
    source: &'static str,
    as_of: SystemTime,
    /// Whether it says that it serves the role; why not where it does not.
    state: String,
    /// How long it took to say so.
    took: Option<Duration>,
    models: BTreeMap<String, AboutModel>,
}

pub(crate) async fn nodes(global: &Global, args: NodesArgs) -> Result<ExitCode> {
    let config = global.load(&[])?;
    let wiring = node::wiring(&config, &[]).await?;
    let roles = if args.roles.is_empty() { Role::ALL.to_vec() } else { args.roles };
    let told = join_all(roles.iter().map(|role| told(&wiring, *role))).await;
    let asked = roles.iter().zip(&told).flat_map(|(role, members)| {
        members.nodes.iter().map(|member| ask(&wiring, role.name(), members, member))
    });
    let seen: Vec<Seen> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    if args.json {
        let nodes: Vec<Value> = seen.iter().map(Seen::json).collect();
        show::line(&serde_json::to_string_pretty(&nodes)?);
        return Ok(ExitCode::SUCCESS);
    }
    if seen.is_empty() {
        show::line(
            "No node is known. `[discovery]` names the registry that nodes are found in, `[peers]` nodes at \
             fixed addresses; `up` runs every role in its own process and needs neither.",
        );
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = seen.iter().map(Seen::row).collect();
    let header =
        ["role", "node", "address", "zone", "state", "answers in", "up for", "models", "waits", "known"];
    show::line(&show::table(&header, &rows));
    for (role, members) in roles.iter().zip(&told) {
        if members.nodes.is_empty() {
            show::line(&format!("nobody serves {}", role.name()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The members of a role, once discovery has heard of any.
async fn told(wiring: &Wiring, role: Role) -> Arc<Members> {
    let mut members = wiring.discovery.watch(role.name());
    // What an earlier process knew is shown only where there is nothing better.
    let heard = members.wait_for(|members| members.as_of > UNIX_EPOCH && members.source != Source::Snapshot);
    let _ = tokio::time::timeout(TOLD, heard).await;
    Arc::clone(&members.borrow())
}

/// Asks a node how it is, and for its models where nobody told.
async fn ask(wiring: &Wiring, role: &'static str, members: &Members, member: &Arc<Member>) -> Seen {
    let alone = Fixed::new(BTreeMap::from([(role.to_owned(), vec![member.uri.clone()])]));
    let options = Options { connect: wiring.identity.connector(), ..Options::default() };
    let channel = Channel::discovered(role, alone.watch(role), options);
    let began = Instant::now();
    // The empty name stands for the node as a whole.
    let request = HealthCheckRequest { service: String::new() };
    let checked = match call() {
        Some(call) => HealthClient::new(channel.clone()).check(call.request(request)).await,
        None => Err(tonic::Status::internal("no tenant")),
    };
    let (state, took) = match checked {
        Ok(reply) if reply.get_ref().status() == ServingStatus::Serving => {
            ("serving".to_owned(), Some(began.elapsed()))
        }
        Ok(_) => ("draining".to_owned(), Some(began.elapsed())),
        Err(status) => (show::plain(status.message()), None),
    };
    let mut models = member.about.models.clone();
    if models.is_empty() && took.is_some() && role == Role::Inference.name() {
        models = profile(channel).await.unwrap_or_default();
    }
    let source = members.source.as_str();
    Seen { role, member: Arc::clone(member), source, as_of: members.as_of, state, took, models }
}

fn call() -> Option<Call> {
    Some(Call::new(Tenant::try_new(DEFAULT_TENANT).ok()?, Deadline::after(ANSWER)))
}

async fn profile(channel: Channel) -> Option<BTreeMap<String, AboutModel>> {
    let request = call()?.request(ProfileRequest::default());
    let reply = InferenceServiceClient::new(channel).profile(request).await.ok()?.into_inner();
    let seconds = |backlog: prost_types::Duration| backlog.seconds as f64 + f64::from(backlog.nanos) / 1e9;
    let models = reply.models.into_iter().map(|model| {
        let backlog = model.backlog.map_or(0.0, seconds);
        (model.model, AboutModel { instances: model.instances, backlog, ..AboutModel::default() })
    });
    Some(models.collect())
}

impl Seen {
    fn backlog(&self) -> f64 {
        self.models.values().map(|model| model.backlog).sum()
    }

    fn row(&self) -> Vec<String> {
        let about = &self.member.about;
        let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let up = match about.started_at {
            0 => "-".to_owned(),
            at => age(UNIX_EPOCH.checked_add(Duration::from_secs(at)).unwrap_or(UNIX_EPOCH)),
        };
        let models: Vec<String> = self.models.keys().map(|name| show::plain(name)).collect();
        let known = match self.source {
            source @ ("fixed" | "dns") => source.to_owned(),
            source => format!("{source}, {} ago", age(self.as_of)),
        };
        vec![
            self.role.to_owned(),
            show::plain(&self.member.id),
            self.member.uri.authority().map_or_else(|| self.member.uri.to_string(), ToString::to_string),
            or_none(show::plain(&about.zone)),
            self.state.clone(),
            self.took.map_or_else(|| "-".to_owned(), |took| format!("{:.1} ms", took.as_secs_f64() * 1e3)),
            up,
            or_none(models.join(", ")),
            if self.models.is_empty() { "-".to_owned() } else { format!("{:.0} ms", self.backlog() * 1e3) },
            known,
        ]
    }

    fn json(&self) -> Value {
        let as_of = self.as_of.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        json!({
            "role": self.role, "node": self.member.id, "address": self.member.uri.to_string(),
            "about": { "zone": self.member.about.zone, "version": self.member.about.version,
                "started_at": self.member.about.started_at, "models": self.models },
            "state": self.state, "answers_in_seconds": self.took.map(|took| took.as_secs_f64()),
            "source": self.source, "as_of": as_of,
        })
    }
}

/// How long ago, to the second.
fn age(at: SystemTime) -> String {
    let past = SystemTime::now().duration_since(at).unwrap_or_default();
    humantime::format_duration(Duration::from_secs(past.as_secs())).to_string()
}
