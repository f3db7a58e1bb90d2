use std::{sync::mpsc as sync, time::Duration};

use proptest::prelude::*;
use switchboard_mesh::{Deadline, testing::call};

use super::*;
use crate::backend::{Backend, BackendError, Batch, Output, Reading};

/// Says which rows it got, waits to be let go, and answers each row with its first token.
struct Gated {
    seen: sync::Sender<Vec<i64>>,
    go: sync::Receiver<()>,
    /// Rows that memory suffices for.
    room: usize,
}

impl Backend for Gated {
    fn run(&mut self, batch: &Batch) -> Result<Output, BackendError> {
        let first: Vec<i64> = batch.ids.chunks(batch.length).map(|row| row[0]).collect();
        let _ = self.seen.send(first.clone());
        let _ = self.go.recv();
        assert!(!first.contains(&555), "a defect of the engine");
        if first.contains(&666) {
            return Err(BackendError::Failed("broken".into()));
        }
        if batch.rows > self.room {
            return Err(BackendError::OutOfMemory("too many rows".into()));
        }
        let missing = usize::from(first.contains(&777));
        let values = first.iter().skip(missing).map(|&id| id as f32).collect();
        Ok(Output { values, width: 1, each_token: false })
    }
}

struct Rig {
    queue: Queue,
    seen: sync::Receiver<Vec<i64>>,
    go: sync::Sender<()>,
    /// Of its own, where it shares none.
    device: Option<Device>,
}

const MANY: usize = 1000;

fn engine(backends: Vec<Box<dyn Backend>>, profile: Profile, limits: Limits) -> Engine {
    Engine { name: "test".into(), backends, wide: None, threads: 1, reading: Reading::Rows, profile, limits }
}

fn device(slots: usize) -> Device {
    Device::new("test", slots, [0.05, 0.2], || {}).unwrap()
}

impl Rig {
    fn new(queue: usize, batch_tokens: usize) -> Self {
        Self::alone(queue, batch_tokens, &[], MANY)
    }

    fn alone(queue: usize, batch_tokens: usize, measured: &[((usize, usize), f64)], room: usize) -> Self {
        let device = device(1);
        let rig = Self::on(&device, queue, batch_tokens, measured, room);
        Self { device: Some(device), ..rig }
    }

    fn on(
        device: &Device,
        queue: usize,
        batch_tokens: usize,
        measured: &[((usize, usize), f64)],
        room: usize,
    ) -> Self {
        let ((seen_tx, seen), (go, go_rx)) = (sync::channel(), sync::channel());
        let limits = Limits { queue, batch_tokens, pad: 0 };
        let backends: Vec<Box<dyn Backend>> = vec![Box::new(Gated { seen: seen_tx, go: go_rx, room })];
        let queue = device.open(engine(backends, Profile::new(64, measured), limits));
        Self { queue, seen, go, device: None }
    }

    fn try_submit(&self, rows: &[&[u32]], call: &Call) -> Result<Ticket, Error> {
        let places = self.queue.admit(rows.len(), call.class)?;
        self.queue.submit(places, rows.iter().map(|row| Row::single(row.to_vec())).collect(), call)
    }

    fn submit(&self, rows: &[&[u32]], call: &Call) -> Ticket {
        self.try_submit(rows, call).unwrap()
    }

    /// The batch that the model works on next.
    fn next(&self) -> Vec<i64> {
        let mut batch = self.seen.recv_timeout(Duration::from_secs(10)).expect("a batch");
        batch.sort_unstable();
        batch
    }

    fn go(&self) {
        self.go.send(()).unwrap();
    }

    fn let_go(&self, batches: usize) {
        (0..batches).for_each(|_| self.go());
    }
}

fn outcome(ticket: Ticket) -> Result<Done, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(ticket.answer())
}

fn answered(ticket: Ticket) -> Vec<Vec<f32>> {
    outcome(ticket).expect("an answer").rows
}

fn of_class(class: Class) -> Call {
    call("t").with_class(class)
}

#[test]
fn an_idle_model_starts_with_what_is_there() {
    let rig = Rig::new(16, 64);
    let ticket = rig.submit(&[&[1, 1]], &call("t"));
    assert_eq!(rig.next(), [1]);
    rig.go();
    assert_eq!(answered(ticket), [[1.0]]);
}

#[test]
fn what_waits_is_put_together() {
    let rig = Rig::new(16, 64);
    let first = rig.submit(&[&[1, 1]], &call("t"));
    assert_eq!(rig.next(), [1]);
    let second = rig.submit(&[&[2, 2]], &call("t"));
    let third = rig.submit(&[&[3, 3], &[4]], &call("t"));
    rig.let_go(2);
    assert_eq!(rig.next(), [2, 3, 4]);
    assert_eq!(answered(first), [[1.0]]);
    assert_eq!(answered(second), [[2.0]]);
    assert_eq!(answered(third), [[3.0], [4.0]]);
}

#[test]
fn a_request_whose_caller_left_costs_nothing_and_gives_its_places_back_at_once() {
    let rig = Rig::new(4, 64);
    let first = rig.submit(&[&[1]], &call("t"));
    assert_eq!(rig.next(), [1]);
    let second = rig.submit(&[&[2], &[2], &[2]], &call("t"));
    assert!(matches!(rig.queue.admit(1, Class::Chat), Err(Error::Overloaded { .. })));
    drop(second);
    // The first batch is still running.
    let third = rig.submit(&[&[3], &[3], &[3]], &call("t"));
    rig.let_go(2);
    assert_eq!(rig.next(), [3, 3, 3]);
    answered(first);
    answered(third);
}

#[test]
fn a_large_request_whose_caller_leaves_is_not_finished() {
    let rig = Rig::new(16, 1);
    let first = rig.submit(&[&[1], &[2], &[3]], &call("t"));
    assert_eq!(rig.next(), [1]);
    drop(first);
    let second = rig.submit(&[&[9]], &call("t"));
    rig.let_go(2);
    assert_eq!(rig.next(), [9]);
    answered(second);
}

#[test]
fn a_request_past_its_deadline_is_refused_wherever_it_is() {
    let rig = Rig::new(16, 64);
    let late = call("t").until(Deadline::after(Duration::ZERO));
    assert!(matches!(rig.try_submit(&[&[1]], &late), Err(Error::Deadline)));
    let first = rig.submit(&[&[2]], &call("t"));
    assert_eq!(rig.next(), [2]);
    let soon = call("t").until(Deadline::after(Duration::from_millis(20)));
    let waiting = rig.submit(&[&[3]], &soon);
    assert!(matches!(outcome(waiting), Err(Error::Deadline)), "it waits no longer than it may");
    let fourth = rig.submit(&[&[4]], &call("t"));
    rig.let_go(2);
    assert_eq!(rig.next(), [4]);
    answered(first);
    answered(fourth);
}

#[test]
fn what_cannot_be_on_time_is_refused_before_it_costs_anything() {
    // A second for any batch of one.
    let rig = Rig::alone(16, 64, &[((1, 8), 1.0)], MANY);
    let soon = call("t").until(Deadline::after(Duration::from_millis(500)));
    assert!(matches!(rig.try_submit(&[&[1; 8]], &soon), Err(Error::Deadline)));
    let first = rig.submit(&[&[2; 8]], &call("t"));
    assert_eq!(rig.next(), [2]);
    // In time alone, but not behind what waits.
    let more: Vec<_> = (0..8).map(|_| rig.submit(&[&[3; 8]], &call("t"))).collect();
    let next = call("t").until(Deadline::after(Duration::from_millis(1500)));
    assert!(matches!(rig.try_submit(&[&[4; 8]], &next), Err(Error::Deadline)));
    // Who goes before the others waits for none of them.
    let voice = rig.submit(&[&[5; 8]], &next.with_class(Class::Voice));
    rig.let_go(10);
    assert_eq!(rig.next(), [5]);
    answered(first);
    answered(voice);
    more.into_iter().for_each(|ticket| drop(answered(ticket)));
}

#[test]
fn a_full_queue_refuses_and_class_batch_first() {
    let rig = Rig::new(4, 64);
    let first = rig.submit(&[&[1], &[1]], &call("t"));
    rig.next();
    assert!(matches!(rig.queue.admit(2, Class::Batch), Err(Error::Overloaded { .. })));
    let second = rig.submit(&[&[2], &[2]], &call("t"));
    let Err(Error::Overloaded { retry_after }) = rig.queue.admit(1, Class::Voice) else {
        panic!("it was let in");
    };
    assert!(retry_after > Duration::ZERO);
    rig.let_go(2);
    answered(first);
    answered(second);
    assert!(rig.queue.admit(3, Class::Batch).is_ok());
}

#[test]
fn voice_goes_before_chat_before_batch() {
    let rig = Rig::new(16, 1);
    let classes = [Class::Chat, Class::Batch, Class::Chat, Class::Voice];
    let tickets: Vec<_> = (1..)
        .zip(classes)
        .map(|(id, class)| {
            let ticket = rig.submit(&[&[id]], &of_class(class));
            if id == 1 {
                assert_eq!(rig.next(), [1]);
            }
            ticket
        })
        .collect();
    rig.let_go(4);
    tickets.into_iter().for_each(|ticket| drop(answered(ticket)));
    assert_eq!([rig.next(), rig.next(), rig.next()], [[4], [3], [2]]);
}

#[test]
fn within_a_class_who_is_in_a_hurry_goes_first_and_then_who_came_first() {
    let rig = Rig::new(16, 1);
    let first = rig.submit(&[&[1]], &call("t"));
    assert_eq!(rig.next(), [1]);
    let early = rig.submit(&[&[2]], &call("t"));
    let later = rig.submit(&[&[3]], &call("t"));
    let hurry = rig.submit(&[&[4]], &call("t").until(Deadline::after(Duration::from_millis(400))));
    rig.let_go(4);
    assert_eq!([rig.next(), rig.next(), rig.next()], [[4], [2], [3]]);
    [first, early, later, hurry].into_iter().for_each(|ticket| drop(answered(ticket)));
}

#[test]
fn class_batch_is_not_starved_by_the_others() {
    let rig = Rig::alone(4096, 8, &[((1, 8), 0.001)], MANY);
    let first = rig.submit(&[&[1; 8]], &call("t"));
    assert_eq!(rig.next(), [1]);
    let ingest = rig.submit(&[&[2; 8]], &of_class(Class::Batch));
    let chats: Vec<_> = (0..200).map(|_| rig.submit(&[&[3; 8]], &call("t"))).collect();
    rig.let_go(202);
    answered(first);
    answered(ingest);
    chats.into_iter().for_each(|ticket| drop(answered(ticket)));
    let order: Vec<Vec<i64>> = rig.seen.try_iter().collect();
    let place = order.iter().position(|batch| batch == &[2]).unwrap();
    assert!((1..100).contains(&place), "{place} of {}", order.len());
}

#[test]
fn a_large_request_does_not_have_its_class_for_itself() {
    let limits = Limits { queue: 4096, batch_tokens: 1, pad: 0 };
    let mut lane = lane::Lane::new(engine(Vec::new(), Profile::new(8, &[]), limits), 1, Arc::default());
    let now = tokio::time::Instant::now();
    let mut insert = |id: u64, rows: usize, due| {
        let rows = vec![Row::single(vec![1]); rows];
        let (mut job, _) = job::Job::new(rows, &call("t"), &lane);
        job.due = due;
        lane.insert(id, job);
    };
    insert(1, 2000, now - Duration::from_secs(1));
    // Both are due; the large one goes first, and with what is left of it behind the small one.
    insert(2, 1, now);
    let mut led = || lane.pick(number(Class::Chat), 1).first().map(|picked| picked.job);
    assert_eq!([led(), led(), led()], [Some(1), Some(2), Some(1)]);
}

#[test]
fn who_was_just_answered_is_waited_for_a_moment_and_what_is_spoken_is_not_held_up() {
    let limits = Limits { queue: 64, batch_tokens: 64, pad: 0 };
    let new = || lane::Lane::new(engine(Vec::new(), Profile::new(8, &[]), limits), 1, Arc::default());
    let insert = |lane: &mut lane::Lane, id: u64, class: Class| {
        let (job, _) = job::Job::new(vec![Row::single(vec![1])], &of_class(class), lane);
        lane.insert(id, job);
    };
    let now = tokio::time::Instant::now();
    let mut lane = new();
    lane.answered(1, Duration::from_secs(1));
    assert_eq!(lane.gathers_until(now), None, "a lone caller has nobody to share with");
    lane.answered(2, Duration::from_secs(1));
    insert(&mut lane, 1, Class::Chat);
    let until = lane.gathers_until(now).expect("to wait for the second");
    assert!(until - now < Duration::from_secs(1));
    assert_eq!(lane.gathers_until(until), None, "it did not come");
    lane.answered(2, Duration::from_secs(1));
    insert(&mut lane, 2, Class::Chat);
    assert_eq!(lane.gathers_until(now), None, "both are back");
    let mut lane = new();
    lane.answered(2, Duration::from_secs(1));
    insert(&mut lane, 1, Class::Voice);
    assert_eq!(lane.gathers_until(now), None);
}

#[test]
fn instances_share_what_waits() {
    let device = device(2);
    let (go, gate) = sync::channel();
    let ((seen_tx, seen), (second_go, second_gate)) = (sync::channel(), sync::channel());
    let gated =
        |gate| -> Box<dyn Backend> { Box::new(Gated { seen: seen_tx.clone(), go: gate, room: MANY }) };
    let backends = vec![gated(gate), gated(second_gate)];
    let limits = Limits { queue: 64, batch_tokens: 64, pad: 0 };
    let queue = device.open(engine(backends, Profile::new(8, &[]), limits));
    let rig = Rig { queue, seen, go, device: None };
    let ticket = rig.submit(&[&[1], &[1], &[1], &[1], &[1], &[1], &[1], &[1]], &call("t"));
    assert_eq!([rig.next().len(), rig.next().len()], [4, 4]);
    rig.go();
    second_go.send(()).unwrap();
    assert_eq!(answered(ticket).len(), 8);
}

#[test]
fn a_lone_row_has_all_cores_and_several_share_them() {
    let device = device(2);
    let (seen_tx, seen) = sync::channel();
    let gated = |id: i64| -> (Box<dyn Backend>, sync::Sender<()>) {
        let (go, gate) = sync::channel();
        let (told, tells) = (seen_tx.clone(), sync::channel());
        thread::spawn(move || {
            tells.1.iter().for_each(|rows: Vec<i64>| told.send([vec![id], rows].concat()).unwrap())
        });
        (Box::new(Gated { seen: tells.0, go: gate, room: MANY }), go)
    };
    let ((wide, wide_go), (one, one_go), (two, two_go)) = (gated(-9), gated(-1), gated(-2));
    let limits = Limits { queue: 64, batch_tokens: 64, pad: 0 };
    let wide = Some(crate::warmup::Wide { backend: wide, threads: 2, ratio: 0.5 });
    let engine = Engine { wide, ..engine(vec![one, two], Profile::new(8, &[]), limits) };
    let rig = Rig { queue: device.open(engine), seen, go: wide_go, device: None };
    let lone = rig.submit(&[&[1]], &call("t"));
    assert_eq!(rig.next(), [-9, 1]);
    // All cores are taken.
    let pair = rig.submit(&[&[2], &[3]], &call("t"));
    assert!(rig.seen.try_recv().is_err());
    rig.go();
    let mut sessions: Vec<i64> = [rig.next(), rig.next()].iter().map(|batch| batch[0]).collect();
    sessions.sort_unstable();
    assert_eq!(sessions, [-2, -1]);
    one_go.send(()).unwrap();
    two_go.send(()).unwrap();
    assert_eq!(answered(lone), [[1.0]]);
    assert_eq!(answered(pair), [[2.0], [3.0]]);
}

#[test]
fn less_urgent_rows_never_lengthen_a_batch() {
    let rig = Rig::new(16, 64);
    let first = rig.submit(&[&[1]], &call("t"));
    assert_eq!(rig.next(), [1]);
    let ingest = rig.submit(&[&[2], &[3]], &of_class(Class::Batch));
    let voice = rig.submit(&[&[4]], &of_class(Class::Voice));
    let chat = rig.submit(&[&[5], &[6]], &call("t"));
    rig.let_go(4);
    assert_eq!(rig.next(), [4]);
    assert_eq!(rig.next(), [5, 6]);
    assert_eq!(rig.next(), [2, 3]);
    [first, ingest, voice, chat].into_iter().for_each(|ticket| drop(answered(ticket)));
}

#[test]
fn models_share_a_device_and_the_more_urgent_request_goes_first() {
    let device = device(1);
    let (one, other) = (Rig::on(&device, 16, 64, &[], MANY), Rig::on(&device, 16, 64, &[], MANY));
    let first = one.submit(&[&[1]], &call("t"));
    assert_eq!(one.next(), [1]);
    let ingest = one.submit(&[&[2]], &of_class(Class::Batch));
    let chat = other.submit(&[&[3]], &call("t"));
    assert!(other.seen.try_recv().is_err(), "the device is taken");
    one.go();
    assert_eq!(other.next(), [3]);
    assert!(one.seen.try_recv().is_err(), "the device is taken");
    other.go();
    assert_eq!(one.next(), [2]);
    one.go();
    [first, ingest, chat].into_iter().for_each(|ticket| drop(answered(ticket)));
}

#[test]
fn models_compute_side_by_side_where_there_are_cores() {
    let device = device(2);
    let (one, other) = (Rig::on(&device, 16, 64, &[], MANY), Rig::on(&device, 16, 64, &[], MANY));
    let first = one.submit(&[&[1]], &call("t"));
    let second = other.submit(&[&[2]], &call("t"));
    assert_eq!((one.next(), other.next()), (vec![1], vec![2]));
    one.go();
    other.go();
    answered(first);
    answered(second);
}

#[test]
fn a_model_that_is_let_go_of_finishes_what_it_has_begun() {
    let device = device(1);
    let (one, other) = (Rig::on(&device, 16, 64, &[], MANY), Rig::on(&device, 16, 64, &[], MANY));
    let ticket = one.submit(&[&[1]], &call("t"));
    let Rig { queue, seen, go, .. } = one;
    assert_eq!(seen.recv_timeout(Duration::from_secs(10)).unwrap(), [1]);
    drop(queue);
    go.send(()).unwrap();
    assert_eq!(answered(ticket), [[1.0]]);
    // Its instances have ended: nobody holds the other end any more.
    assert!(matches!(seen.recv_timeout(Duration::from_secs(10)), Err(sync::RecvTimeoutError::Disconnected)));
    let ticket = other.submit(&[&[2]], &call("t"));
    other.go();
    answered(ticket);
}

#[test]
fn a_device_that_ends_lets_go_of_who_waits() {
    let mut rig = Rig::new(16, 64);
    let first = rig.submit(&[&[1]], &call("t"));
    assert_eq!(rig.next(), [1]);
    let second = rig.submit(&[&[2]], &call("t"));
    rig.device = None;
    assert!(matches!(outcome(second), Err(Error::Stopped)));
    assert!(matches!(rig.try_submit(&[&[3]], &call("t")), Err(Error::Stopped)));
    rig.go();
    assert_eq!(answered(first), [[1.0]]);
}

#[test]
fn a_request_that_breaks_a_batch_fails_alone() {
    let rig = Rig::new(16, 64);
    let first = rig.submit(&[&[1]], &call("t"));
    assert_eq!(rig.next(), [1]);
    let before = rig.submit(&[&[5], &[6]], &call("t"));
    let bad = rig.submit(&[&[666]], &call("t"));
    let after = rig.submit(&[&[7]], &call("t"));
    rig.let_go(5);
    assert_eq!(rig.next(), [5, 6, 7, 666]);
    answered(first);
    assert!(matches!(outcome(bad), Err(Error::Backend(_))));
    assert_eq!(answered(before), [[5.0], [6.0]]);
    assert_eq!(answered(after), [[7.0]]);
}

#[test]
fn a_batch_that_needs_too_much_memory_is_halved() {
    let rig = Rig::alone(16, 64, &[], 2);
    let first = rig.submit(&[&[1]], &call("t"));
    assert_eq!(rig.next(), [1]);
    let large = rig.submit(&[&[2], &[3], &[4], &[5]], &call("t"));
    rig.let_go(4);
    assert_eq!([rig.next().len(), rig.next().len(), rig.next().len()], [4, 2, 2]);
    answered(first);
    assert_eq!(answered(large), [[2.0], [3.0], [4.0], [5.0]]);
}

#[test]
fn a_row_that_alone_needs_too_much_memory_is_refused_with_a_time_to_try_again() {
    let rig = Rig::alone(16, 64, &[], 0);
    let ticket = rig.submit(&[&[1]], &call("t"));
    rig.go();
    assert!(matches!(outcome(ticket), Err(Error::Overloaded { retry_after }) if !retry_after.is_zero()));
}

#[test]
fn a_panic_in_the_backend_fails_its_request_and_the_thread_lives_on() {
    let rig = Rig::new(16, 64);
    let bad = rig.submit(&[&[555]], &call("t"));
    rig.go();
    assert!(matches!(outcome(bad), Err(Error::Backend(_))));
    let good = rig.submit(&[&[5]], &call("t"));
    rig.go();
    assert_eq!(answered(good), [[5.0]]);
}

#[test]
fn the_loss_of_a_thread_is_told() {
    /// Its panic is outside of what is caught: it comes with its end.
    struct Last(sync::Receiver<()>);
    impl Backend for Last {
        fn run(&mut self, batch: &Batch) -> Result<Output, BackendError> {
            let _ = self.0.recv();
            Ok(Output { values: vec![0.0; batch.rows], width: 1, each_token: false })
        }
    }
    impl Drop for Last {
        fn drop(&mut self) {
            panic!("a defect outside of a batch");
        }
    }
    let ((tell, told), (go, gate)) = (sync::channel(), sync::channel());
    let device = Device::new("test", 1, [0.0, 0.0], move || tell.send(()).unwrap()).unwrap();
    let limits = Limits { queue: 4, batch_tokens: 4, pad: 0 };
    let backend: Vec<Box<dyn Backend>> = vec![Box::new(Last(gate))];
    let queue = device.open(engine(backend, Profile::new(8, &[]), limits));
    let places = queue.admit(1, Class::Chat).unwrap();
    let ticket = queue.submit(places, vec![Row::single(vec![1])], &call("t")).unwrap();
    go.send(()).unwrap();
    answered(ticket);
    let places = queue.admit(1, Class::Chat).unwrap();
    let ticket = queue.submit(places, vec![Row::single(vec![1])], &call("t")).unwrap();
    while queue.profile().1 > Duration::ZERO {
        thread::yield_now();
    }
    drop(queue);
    drop(ticket);
    go.send(()).unwrap();
    told.recv_timeout(Duration::from_secs(10)).expect("to be told");
}

#[test]
fn a_failed_batch_fails_its_requests_and_no_others() {
    let rig = Rig::new(16, 2);
    let first = rig.submit(&[&[1]], &call("t"));
    assert_eq!(rig.next(), [1]);
    let bad = rig.submit(&[&[666], &[7]], &call("t"));
    let short = rig.submit(&[&[777], &[7]], &call("t"));
    let good = rig.submit(&[&[5]], &call("t"));
    rig.let_go(4);
    answered(first);
    assert!(matches!(outcome(bad), Err(Error::Backend(_))));
    assert!(matches!(outcome(short), Err(Error::Backend(_))));
    assert_eq!(answered(good), [[5.0]]);
}

proptest! {
    #[test]
    fn batches_hold_every_row_once_within_their_tokens(
        requests in prop::collection::vec(prop::collection::vec(1_usize..40, 1..12), 1..8),
        batch_tokens in 40_usize..160,
    ) {
        let rig = Rig::new(1024, batch_tokens);
        let all: usize = requests.iter().map(Vec::len).sum();
        let mut id = 0;
        let tickets: Vec<_> = requests
            .iter()
            .map(|lengths| {
                let rows = lengths.iter().zip(id + 1..).map(|(&length, id)| vec![id; length]);
                let rows: Vec<Vec<u32>> = rows.collect();
                id += lengths.len() as u32;
                let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
                rig.submit(&rows, &call("t"))
            })
            .collect();
        rig.let_go(all);
        let mut expected = 0;
        for (ticket, lengths) in tickets.into_iter().zip(&requests) {
            let vectors = answered(ticket);
            prop_assert_eq!(vectors.len(), lengths.len());
            for vector in vectors {
                expected += 1;
                prop_assert_eq!(vector, vec![expected as f32]);
            }
        }
        let lengths: Vec<usize> = requests.concat();
        let mut seen = Vec::new();
        for batch in rig.seen.try_iter() {
            let longest = batch.iter().map(|&id| lengths[id as usize - 1]).max().unwrap();
            prop_assert!(batch.len() * longest <= batch_tokens);
            seen.extend(batch);
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, (1..=all as i64).collect::<Vec<_>>());
    }
}

/// Waits until somebody of a class waits for a turn.
fn until_asked(device: &Device, class: Class) {
    while device.shared.lock().asking.first(number(class)).is_none() {
        thread::yield_now();
    }
}

#[test]
fn while_somebody_has_a_turn_nothing_else_computes_and_the_most_urgent_is_next() {
    let device = device(1);
    let rig = Rig::on(&device, 16, 64, &[], MANY);
    let turns = device.turns(8);
    let now = tokio::time::Instant::now();
    let turn = turns.wait(Class::Batch, now).unwrap();
    let ticket = rig.submit(&[&[1, 1]], &of_class(Class::Chat));
    let (given, taken) = sync::channel();
    thread::scope(|scope| {
        scope.spawn(|| given.send(turns.wait(Class::Voice, now).unwrap()).unwrap());
        until_asked(&device, Class::Voice);
        turns.end(turn);
        let voice = taken.recv().unwrap();
        assert!(rig.seen.try_recv().is_err(), "the batch waits");
        turns.end(voice);
    });
    assert_eq!(rig.next(), [1]);
    rig.go();
    assert_eq!(answered(ticket), [[1.0]]);
    assert_eq!(device.shared.lock().busy, 0);
}

#[test]
fn in_a_class_a_turn_goes_before_a_batch_that_is_due_later() {
    let device = device(1);
    let rig = Rig::on(&device, 16, 64, &[], MANY);
    let turns = device.turns(1);
    let now = tokio::time::Instant::now();
    let turn = turns.wait(Class::Chat, now).unwrap();
    let ticket = rig.submit(&[&[1, 1]], &of_class(Class::Chat));
    let (given, taken) = sync::channel();
    thread::scope(|scope| {
        scope.spawn(|| given.send(turns.wait(Class::Chat, now).unwrap()).unwrap());
        until_asked(&device, Class::Chat);
        turns.end(turn);
        let second = taken.recv().unwrap();
        assert!(rig.seen.try_recv().is_err(), "the batch is due half a second later");
        drop(second);
    });
    assert_eq!(rig.next(), [1]);
    rig.go();
    answered(ticket);
}

#[test]
fn who_waits_for_a_turn_learns_that_the_device_is_gone() {
    let device = device(1);
    let turns = device.turns(1);
    let now = tokio::time::Instant::now();
    let turn = turns.wait(Class::Chat, now).unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| turns.wait(Class::Chat, now).map(drop));
        until_asked(&device, Class::Chat);
        drop(device);
        assert!(matches!(waits.join().unwrap(), Err(Error::Stopped)));
    });
    drop(turn);
    assert!(matches!(turns.wait(Class::Chat, now), Err(Error::Stopped)));
}
