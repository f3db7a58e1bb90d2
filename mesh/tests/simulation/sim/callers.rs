//! Those who call: many, of all classes, patient and hasty.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::uri::PathAndQuery;
use switchboard_mesh::{Call, Channel, Class, Deadline, Tenant, call};
use tonic::{Code, Request, Status, client::Grpc};
use tonic_prost::ProstCodec;

use super::{
    history::{CallRecord, End, History, Kind, Wish},
    random::Random,
    toy::{ASK, AskRequest, AskResponse, ID, LISTEN},
};

/// The mean time between two calls.
const GAP: Duration = Duration::from_millis(160);
/// After its deadline a call is given this long before it counts as hanging.
const HANGS: Duration = Duration::from_secs(2);

/// How many times as many calls as usual there are, which the simulation changes.
pub(crate) type Rush = Arc<AtomicU32>;

/// Calls until the end of the simulation.
pub(crate) async fn call(channel: Channel, seed: u64, rush: Rush, history: History) {
    let mut random = Random::new(seed, 2);
    for id in 0.. {
        let gap = random.time(Duration::ZERO, GAP * 2) / rush.load(Ordering::Relaxed);
        tokio::time::sleep(gap).await;
        let wish = wish(id, &mut random);
        let tenant = Tenant::try_new(random.one(&["acme", "bolt", "cord"])).expect("a name");
        let known = channel.snapshot().map_or(0, |snapshot| snapshot.nodes.len());
        let begun = history.now();
        history.records().calls.push(CallRecord {
            wish: wish.clone(),
            begun,
            known,
            first_message: None,
            messages: 0,
            end: None,
            told: String::new(),
        });
        let caller = Caller { channel: channel.clone(), history: history.clone(), wish };
        tokio::spawn(caller.call(tenant));
    }
}

fn wish(id: u64, random: &mut Random) -> Wish {
    let millis = Duration::from_millis;
    let kind = random.one(&[Kind::One, Kind::Any, Kind::Any, Kind::Hedged]);
    let streams = kind != Kind::Hedged && random.chance(40);
    let limit = random.spread(millis(50), millis(5000));
    Wish {
        id,
        class: random.one(&[Class::Voice, Class::Chat, Class::Chat, Class::Batch]),
        kind,
        messages: if streams { 1 + random.below(6) as u32 } else { 0 },
        work: random.time(millis(2), millis(100)),
        limit,
        gone_after: random.chance(5).then(|| random.time(Duration::ZERO, limit)),
    }
}

struct Caller {
    channel: Channel,
    history: History,
    wish: Wish,
}

impl Caller {
    async fn call(self, tenant: Tenant) {
        let Wish { limit, gone_after, .. } = self.wish;
        let waits = gone_after.unwrap_or(limit + HANGS);
        let end = match tokio::time::timeout(waits, self.exchange(tenant)).await {
            Ok(Ok(())) => End::Code(Code::Ok),
            Ok(Err(status)) => {
                self.record(|record| record.told = status.message().to_owned());
                End::Code(status.code())
            }
            Err(_) if gone_after.is_some() => End::Gone,
            Err(_) => End::Hung,
        };
        let now = self.history.now();
        self.record(|record| record.end = Some((now, end)));
    }

    async fn exchange(&self, tenant: Tenant) -> Result<(), Status> {
        let Wish { id, class, kind, messages, work, limit, .. } = self.wish;
        let call = Call::new(tenant, Deadline::after(limit)).with_class(class);
        let ask = AskRequest { id, work_ms: work.as_millis() as u64, messages };
        let mut request: Request<AskRequest> = match kind {
            Kind::One => call.request(ask),
            Kind::Any => call.request_to_any(ask),
            Kind::Hedged => call::hedged(call.request(ask)),
        };
        request.metadata_mut().insert(ID, id.into());
        let mut grpc = Grpc::new(self.channel.clone());
        let Ok(()) = grpc.ready().await;
        let codec = ProstCodec::<AskRequest, AskResponse>::default();
        if messages == 0 {
            grpc.unary(request, PathAndQuery::from_static(ASK), codec).await?;
            self.message();
            return Ok(());
        }
        let path = PathAndQuery::from_static(LISTEN);
        let mut answers = grpc.server_streaming(request, path, codec).await?.into_inner();
        while answers.message().await?.is_some() {
            self.message();
        }
        Ok(())
    }

    fn message(&self) {
        let now = self.history.now();
        self.record(|record| {
            record.first_message.get_or_insert(now);
            record.messages += 1;
        });
    }

    fn record(&self, change: impl FnOnce(&mut CallRecord)) {
        change(&mut self.history.records().calls[self.wish.id as usize]);
    }
}
