//! A good client of two gateways: it asks the one that is well, and the other when one does not answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use http::Uri;
use switchboard_proto::conversation::v1::{
    Channel as Medium, ConverseRequest, Outcome, TurnReport,
    conversation_service_client::ConversationServiceClient, converse_response::Event,
};
use tokio::{task::JoinHandle, time::Instant};
use tonic::{
    Code, Request, Status,
    metadata::{AsciiMetadataValue, MetadataMap},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

/// The time that a turn is given. Far above any budget: reaching it means that the turn hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// What a call may take beyond its deadline before it is given up on this side.
const GRACE: Duration = Duration::from_secs(2);
/// Connections to each gateway: a client of many customers has more than one.
const CONNECTIONS: usize = 4;
/// How often a gateway is asked whether it is well, and the time that it has to say so.
const PROBE: Duration = Duration::from_millis(500);
/// The longest wait that a gateway may ask for and still be asked again in the same turn.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Voice,
    Chat,
    Batch,
}

impl Class {
    pub(crate) const ALL: [Self; 3] = [Self::Voice, Self::Chat, Self::Batch];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Voice => "voice",
            Self::Chat => "chat",
            Self::Batch => "batch",
        }
    }

    fn medium(self) -> Medium {
        match self {
            Self::Voice => Medium::Voice,
            Self::Chat | Self::Batch => Medium::Chat,
        }
    }

    /// The budget of its channel: to the first sentence, and to the end.
    pub(crate) fn budget(self) -> (Duration, Duration) {
        let millis = match self {
            Self::Voice => (800, 4_000),
            Self::Chat | Self::Batch => (2_000, 6_000),
        };
        (Duration::from_millis(millis.0), Duration::from_millis(millis.1))
    }
}

/// How a turn ended, for who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With its report: an answer, a question, a plain word that there is none, or a hand-off.
    Told(Outcome),
    /// With a status that says that it may be asked again, before anything was said.
    Refused(Code),
    /// In any other way.
    Lost(String),
}

/// One turn as its client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) class: Class,
    /// When it was due to be asked; delays on this side count.
    pub(crate) due: Instant,
    /// From then to the first sentence.
    pub(crate) first: Option<Duration>,
    /// From then to the end.
    pub(crate) took: Duration,
    pub(crate) end: End,
    /// Asked a second time, at the other gateway.
    pub(crate) again: bool,
    /// What the turn had to do without, by its report.
    pub(crate) degraded: Vec<String>,
    /// Conversation and number, if its report came: it is acknowledged.
    pub(crate) acknowledged: Option<(String, u32)>,
}

impl Turn {
    /// Whether it was answered in the time of its class.
    pub(crate) fn in_time(&self) -> bool {
        let (first, whole) = self.class.budget();
        matches!(self.end, End::Told(_)) && self.first.unwrap_or(self.took) <= first && self.took <= whole
    }
}

/// The client. Cheap to share.
pub(crate) struct Client {
    gateways: Vec<Gateway>,
    key: AsciiMetadataValue,
    next: AtomicUsize,
    probes: Vec<JoinHandle<()>>,
}

struct Gateway {
    channels: Vec<Channel>,
    well: Arc<AtomicBool>,
}

impl Drop for Client {
    fn drop(&mut self) {
        for probe in &self.probes {
            probe.abort();
        }
    }
}

impl Client {
    /// A client of `gateways`.
    pub(crate) fn new(gateways: &[Uri], key: &str) -> Result<Self> {
        let key = format!("Bearer {key}").parse().context("the key cannot be sent")?;
        let mut probes = Vec::new();
        let gateways = gateways
            .iter()
            .map(|uri| {
                let well = Arc::new(AtomicBool::new(true));
                probes.push(tokio::spawn(watch(connect(uri), Arc::clone(&well))));
                Gateway { channels: (0..CONNECTIONS).map(|_| connect(uri)).collect(), well }
            })
            .collect();
        Ok(Self { gateways, key, next: AtomicUsize::new(0), probes })
    }

    /// Asks, and follows the turn to its end.
    pub(crate) async fn turn(&self, text: &str, class: Class, due: Instant) -> Turn {
        let mut turn = Turn {
            class,
            due,
            first: None,
            took: Duration::ZERO,
            end: End::Lost("not asked".into()),
            again: false,
            degraded: Vec::new(),
            acknowledged: None,
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let first = self.choose(number);
        let work = async {
            if let Err((status, heard)) = self.ask(first, number, text, &mut turn).await {
                if let Some(wait) = retry(&status, heard) {
                    tokio::time::sleep(wait).await;
                    turn.again = true;
                    let other = (first + 1) % self.gateways.len();
                    if let Err((status, _)) = self.ask(other, number, text, &mut turn).await {
                        turn.end = ended(&status, turn.first.is_some());
                    }
                } else {
                    turn.end = ended(&status, turn.first.is_some());
                }
            }
        };
        if tokio::time::timeout_at(due + PATIENCE + GRACE, work).await.is_err() {
            turn.end = End::Lost("no end".into());
        }
        turn.took = due.elapsed();
        turn
    }

    /// The next gateway in turn, or another where that one is not well.
    fn choose(&self, number: usize) -> usize {
        let count = self.gateways.len();
        let well = |index: &usize| self.gateways[*index].well.load(Ordering::Relaxed);
        (0..count).map(|step| (number + step) % count).find(well).unwrap_or(number % count)
    }

    /// Asks one gateway. An error comes with whether something was heard before it.
    async fn ask(
        &self,
        gateway: usize,
        number: usize,
        text: &str,
        turn: &mut Turn,
    ) -> Result<(), (Status, bool)> {
        let channels = &self.gateways[gateway].channels;
        // Not by the same number as the gateway, or half of the connections would be idle.
        let channel = channels[number / self.gateways.len() % channels.len()].clone();
        let mut request = Request::new(ConverseRequest {
            text: text.to_owned(),
            channel: turn.class.medium().into(),
            ..ConverseRequest::default()
        });
        request.metadata_mut().insert("authorization", self.key.clone());
        request
            .metadata_mut()
            .insert("x-switchboard-class", AsciiMetadataValue::from_static(turn.class.name()));
        request.set_timeout((turn.due + PATIENCE).saturating_duration_since(Instant::now()));
        let mut client = ConversationServiceClient::new(channel);
        let mut events = client.converse(request).await.map_err(|status| (status, false))?.into_inner();
        let mut heard = false;
        loop {
            let event = events.message().await.map_err(|status| (status, heard))?;
            heard = true;
            match event.and_then(|event| event.event) {
                Some(Event::Started(_) | Event::HandOff(_)) => {}
                Some(Event::Sentence(_)) => turn.first = turn.first.or(Some(turn.due.elapsed())),
                Some(Event::Report(report)) => {
                    turn.told(report);
                    return Ok(());
                }
                None => return Err((Status::data_loss("the stream ended without a report"), heard)),
            }
        }
    }
}

impl Turn {
    fn told(&mut self, report: TurnReport) {
        self.end = End::Told(report.outcome());
        self.degraded = report.degraded;
        self.acknowledged = Some((report.conversation_id, report.turn));
    }
}

fn connect(uri: &Uri) -> Channel {
    Endpoint::from(uri.clone())
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
        .connect_lazy()
}

/// Asks a gateway for ever whether it is well.
async fn watch(channel: Channel, well: Arc<AtomicBool>) {
    let mut client = HealthClient::new(channel);
    loop {
        let check = client.check(HealthCheckRequest { service: String::new() });
        let answer = tokio::time::timeout(PROBE, check).await;
        let serving = matches!(answer, Ok(Ok(answer)) if answer.get_ref().status == 1);
        well.store(serving, Ordering::Relaxed);
        tokio::time::sleep(PROBE).await;
    }
}

/// Whether to ask the other gateway, and after how long: where this one could not be reached or says that
/// it cannot, nothing was heard yet, and it does not forbid it.
fn retry(status: &Status, heard: bool) -> Option<Duration> {
    if heard || code(status) != Code::Unavailable {
        return None;
    }
    let wait = match status.metadata().get("grpc-retry-pushback-ms") {
        Some(value) => Duration::from_millis(value.to_str().ok()?.parse().ok()?),
        None => status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default(),
    };
    (wait <= LONGEST_WAIT).then_some(wait)
}

/// What a turn that ended with `status` is to who asked.
fn ended(status: &Status, said: bool) -> End {
    let code = code(status);
    match code {
        Code::Unavailable | Code::ResourceExhausted if !said => End::Refused(code),
        _ => {
            let when = if said { " after a sentence" } else { "" };
            End::Lost(format!("{code:?}{when}: {}", status.message()))
        }
    }
}

/// The code of a status. A connection that breaks is UNAVAILABLE, as gRPC's libraries have it; this one
/// says something else.
fn code(status: &Status) -> Code {
    let broken = std::error::Error::source(status).is_some() && status.metadata().is_empty();
    match status.code() {
        Code::Unknown | Code::Internal | Code::Cancelled if broken => Code::Unavailable,
        code => code,
    }
}

/// Metadata of calls to a node's own port.
pub(crate) fn trusted(metadata: &mut MetadataMap) {
    metadata.insert("x-switchboard-tenant", AsciiMetadataValue::from_static("default"));
}
