use std::{
    collections::HashSet,
    sync::{Mutex, mpsc as sync},
    time::Duration,
};

use proptest::prelude::*;
use switchboard_mesh::{Call, Deadline, testing::call};

use super::*;
use crate::generate::sequence::{Chunks, Ending, Writer, Written};
use crate::scheduler::Device;

/// Tokens that the toy knows.
const VOCABULARY: usize = 32;
/// Its last token ends a text.
const END: u32 = 31;

/// Holds tokens in place of keys and values, and finds every next token by all that a slot holds: a slot that
/// holds something else shows.
struct Toy {
    shape: Shape,
    slots: Vec<Vec<u32>>,
    /// Is told of every step: slot, past and tokens of each row.
    seen: sync::Sender<Vec<(usize, usize, Vec<u32>)>>,
    /// Waited for before each step, where there is one.
    go: Option<sync::Receiver<()>>,
    /// Rows that memory suffices for.
    room: usize,
    /// A prompt with this token fails.
    poison: Option<u32>,
}

/// The token after those: by a hash of all of them, of which one in 16 is the end.
fn after(tokens: &[u32]) -> u32 {
    let hash = tokens.iter().fold(17u32, |hash, token| hash.wrapping_mul(31).wrapping_add(token + 1));
    match (hash >> 7) % 16 {
        0 => END,
        _ => (hash >> 11) % END,
    }
}

impl Decoder for Toy {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn step(&mut self, rows: &[Feed<'_>]) -> Result<Vec<f32>, BackendError> {
        let _ = self.seen.send(rows.iter().map(|row| (row.slot, row.past, row.tokens.to_vec())).collect());
        if let Some(go) = &self.go {
            let _ = go.recv();
        }
        let slots: HashSet<usize> = rows.iter().map(|row| row.slot).collect();
        assert_eq!(slots.len(), rows.len(), "a slot has one row");
        if rows.len() > self.room {
            return Err(BackendError::OutOfMemory("too many rows".into()));
        }
        let mut logits = Vec::new();
        for row in rows {
            if self.poison.is_some_and(|poison| row.tokens.contains(&poison)) {
                return Err(BackendError::Failed("broken".into()));
            }
            let slot = &mut self.slots[row.slot];
            assert!(row.past <= slot.len() && row.past + row.tokens.len() <= self.shape.context);
            slot.truncate(row.past);
            slot.extend(row.tokens);
            let mut own = vec![0.0; VOCABULARY];
            own[after(slot) as usize] = 1.0;
            logits.extend(own);
        }
        Ok(logits)
    }

    fn clear(&mut self, slot: usize) {
        self.slots[slot].clear();
    }
}

/// Takes the likeliest token, and writes it as a number.
struct Numbers;

impl Writer for Numbers {
    fn write(&mut self, logits: &mut [f32], _: &[u32]) -> Result<Written, Error> {
        let token = logits.iter().position(|logit| *logit == 1.0).ok_or(Error::Stopped)? as u32;
        Ok(Written { token, text: format!("{token} "), odds: None, ends: token == END })
    }

    fn flush(&mut self) -> String {
        "...".into()
    }
}

/// What a prompt is continued by when nobody else is there.
fn alone(prompt: &[u32], most: usize) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    while tokens.len() - prompt.len() < most && tokens[prompt.len()..].last() != Some(&END) {
        tokens.push(after(&tokens));
    }
    tokens.split_off(prompt.len())
}

struct Rig {
    queue: Queue,
    seen: sync::Receiver<Vec<(usize, usize, Vec<u32>)>>,
    go: Option<sync::Sender<()>>,
    device: Device,
}

struct Options {
    slots: usize,
    gated: bool,
    batches: bool,
    room: usize,
    poison: Option<u32>,
    most: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { slots: 4, gated: false, batches: true, room: 100, poison: None, most: 100 }
    }
}

impl Rig {
    fn new(options: Options) -> Self {
        let Options { slots, gated, batches, room, poison, most } = options;
        let (seen_tx, seen) = sync::channel();
        let (go, gate) = if gated { Some(sync::channel()).unzip() } else { (None, None) };
        let shape = Shape { slots, context: 1024, vocabulary: VOCABULARY, bytes_per_token: 8, batches };
        let toy = Toy { shape, slots: vec![Vec::new(); slots], seen: seen_tx, go: gate, room, poison };
        let device = Device::new("test", 1, [0.05, 0.2], || {}).unwrap();
        let queue =
            Batcher::start("toy".into(), Box::new(toy), Pace::new(slots, batches), most, device.turns(1))
                .unwrap();
        Self { queue, seen, go, device }
    }

    fn submit(&self, prompt: &[u32], most: usize, call: &Call) -> Result<Chunks, Error> {
        self.queue.submit(self.queue.admit(call)?, prompt.to_vec(), most, Box::new(Numbers), call)
    }

    fn next(&self) -> Vec<(usize, usize, Vec<u32>)> {
        self.seen.recv_timeout(Duration::from_secs(10)).expect("a step")
    }

    fn go(&self) {
        self.go.as_ref().unwrap().send(()).unwrap();
    }

    /// Slots of the next step that write, and tokens that it reads.
    fn step(&self) -> (Vec<usize>, usize) {
        let rows = self.next();
        self.go();
        match rows.as_slice() {
            [(_, _, tokens)] if tokens.len() > 1 => (vec![], tokens.len()),
            rows => (rows.iter().map(|row| row.0).collect(), 0),
        }
    }
}

/// All that comes: the tokens, and how it ended.
fn hear(chunks: &mut Chunks) -> (Vec<u32>, Result<Ending, Error>) {
    let mut tokens = Vec::new();
    loop {
        match chunks.blocking_recv() {
            Some(Ok(chunk)) => {
                tokens.push(chunk.token);
                assert_eq!(chunk.tokens, tokens.len());
                if let Some(ending) = chunk.ending {
                    return (tokens, Ok(ending));
                }
            }
            Some(Err(error)) => return (tokens, Err(error)),
            None => return (tokens, Err(Error::Stopped)),
        }
    }
}

fn of_class(class: Class) -> Call {
    call("t").with_class(class)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever else is there, whatever the slots, whether memory runs out: a prompt is continued as if alone.
    #[test]
    fn a_row_among_others_is_the_row_alone(
        prompts in prop::collection::vec((prop::collection::vec(0u32..31, 1..200), 1usize..40, 0usize..3), 1..12),
        slots in 1usize..5,
        room in 1usize..5,
        batches: bool,
    ) {
        let rig = Rig::new(Options { slots, room, batches, ..Options::default() });
        let classes = [Class::Batch, Class::Chat, Class::Voice];
        let heard: Vec<Chunks> = prompts
            .iter()
            .map(|(prompt, most, class)| rig.submit(prompt, *most, &of_class(classes[*class])).unwrap())
            .collect();
        for ((prompt, most, _), mut chunks) in prompts.iter().zip(heard) {
            let (tokens, ending) = hear(&mut chunks);
            prop_assert_eq!(&tokens, &alone(prompt, *most));
            let expected = if tokens.last() == Some(&END) { Ending::Stop } else { Ending::Length };
            prop_assert_eq!(ending.unwrap(), expected);
        }
    }
}

/// A prompt of so many tokens whose continuation is longer than that.
fn lasting(length: usize, most: usize) -> Vec<u32> {
    let found = (0..10_000u32).map(|seed| {
        (0..length as u32).map(|at| (seed.wrapping_mul(7) + at * (seed % 13 + 1)) % END).collect::<Vec<u32>>()
    });
    found
        .into_iter()
        .find(|prompt| alone(prompt, most).len() == most && !alone(prompt, most).contains(&END))
        .unwrap()
}

#[test]
fn who_joins_holds_up_the_others_for_one_part_at_most() {
    let rig = Rig::new(Options { gated: true, ..Options::default() });
    let _writes = rig.submit(&lasting(1, 30), 30, &call("t")).unwrap();
    assert_eq!(rig.step(), (vec![0], 0));
    // The next step has begun, or will, with the writer alone; after it the newcomer's turns begin.
    let _joins = rig.submit(&lasting(200, 5), 5, &call("t")).unwrap();
    let steps: Vec<_> = (0..10).map(|_| rig.step()).collect();
    let reads: Vec<usize> = steps.iter().map(|(_, read)| *read).filter(|read| *read > 0).collect();
    assert_eq!(reads.iter().sum::<usize>(), 200, "{steps:?}");
    assert!(reads.iter().all(|read| *read <= PART), "{steps:?}");
    assert!(!steps.windows(2).any(|pair| pair[0].1 > 0 && pair[1].1 > 0), "no two parts in a row: {steps:?}");
    assert_eq!(steps.last(), Some(&(vec![0, 1], 0)), "then both write in one step");
}

#[test]
fn who_leaves_is_gone_before_the_next_step() {
    let rig = Rig::new(Options { gated: true, slots: 1, ..Options::default() });
    let leaves = rig.submit(&lasting(1, 30), 30, &call("t")).unwrap();
    let waits = rig.submit(&[5], 1, &call("t")).unwrap();
    let gone_as_well = rig.submit(&[6], 1, &call("t")).unwrap();
    assert_eq!(rig.next(), [(0, 0, lasting(1, 30))]);
    drop((leaves, gone_as_well));
    rig.go();
    assert_eq!(rig.next(), [(0, 0, vec![5])], "its slot goes to who waits");
    rig.go();
    let mut waits = waits;
    assert_eq!(hear(&mut waits).0, alone(&[5], 1));
    // Places are given back.
    let held = || rig.queue.inbox.lock().held;
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while held() > 0 && std::time::Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(held(), 0);
}

#[test]
fn the_urgent_take_the_slot_of_who_can_wait() {
    let rig = Rig::new(Options { gated: true, slots: 1, ..Options::default() });
    let prompt = lasting(3, 12);
    let mut batch = rig.submit(&prompt, 12, &of_class(Class::Batch)).unwrap();
    assert_eq!(rig.step(), (vec![], 3));
    let first = rig.next();
    let mut voice = rig.submit(&[9], 1, &of_class(Class::Voice)).unwrap();
    rig.go();
    assert_eq!(rig.next(), [(0, 0, vec![9])], "between two steps of {first:?}");
    rig.go();
    assert_eq!(hear(&mut voice).0, alone(&[9], 1));
    // Who lost the slot reads again what it had, and goes on as if nothing had been.
    let (slot, past, tokens) = rig.next().remove(0);
    assert_eq!((slot, past, tokens.len()), (0, 0, 5));
    (0..20).for_each(|_| rig.go());
    assert_eq!(hear(&mut batch).0, alone(&prompt, 12));
}

#[test]
fn who_is_overdue_keeps_nobody_more_urgent_waiting() {
    let rig = Rig::new(Options { gated: true, slots: 2, ..Options::default() });
    let under_way: Vec<_> =
        (0..2).map(|_| rig.submit(&lasting(1, 30), 30, &of_class(Class::Batch)).unwrap()).collect();
    rig.step();
    rig.next();
    // One that waits since long ago, and who calls now.
    let _waits = rig.submit(&[4], 1, &of_class(Class::Batch)).unwrap();
    rig.queue.inbox.lock().age(Duration::from_secs(60));
    let mut voices: Vec<_> =
        [7, 8].into_iter().map(|token| rig.submit(&[token], 1, &of_class(Class::Voice)).unwrap()).collect();
    rig.go();
    assert_eq!(rig.step().0.len(), 2, "both take the slots at once");
    for (voice, token) in voices.iter_mut().zip([7, 8]) {
        assert_eq!(hear(voice).0, alone(&[token], 1));
    }
    drop(under_way);
}

#[test]
fn who_waits_and_has_gone_gives_back_the_place() {
    let rig = Rig::new(Options { gated: true, slots: 1, most: 3, ..Options::default() });
    let _writes = rig.submit(&lasting(1, 30), 30, &call("t")).unwrap();
    rig.next();
    let waits: Vec<_> = (0..2).map(|_| rig.submit(&[5], 1, &call("t")).unwrap()).collect();
    assert!(matches!(rig.submit(&[5], 1, &call("t")), Err(Error::Overloaded { .. })));
    drop(waits);
    rig.go();
    rig.next();
    assert!(rig.submit(&[5], 1, &call("t")).is_ok(), "the slot is still taken, the places are not");
}

#[test]
fn the_urgent_are_not_refused_for_what_they_need_not_wait_for() {
    let rig = Rig::new(Options { gated: true, slots: 1, ..Options::default() });
    let _writes = rig.submit(&lasting(1, 30), 30, &of_class(Class::Batch)).unwrap();
    rig.step();
    rig.next();
    let mut slow = Pace::new(1, true);
    slow.has_written(1, Duration::from_secs(1));
    rig.queue.inbox.lock().pace = slow;
    let soon = |class| {
        let deadline = Deadline::after(Duration::from_secs(5));
        Call::new(switchboard_mesh::Tenant::try_new("t").unwrap(), deadline).with_class(class)
    };
    assert!(matches!(rig.submit(&[1], 5, &soon(Class::Batch)), Err(Error::Deadline)));
    assert!(rig.submit(&[1], 5, &soon(Class::Voice)).is_ok());
}

#[test]
fn one_that_fails_fails_alone() {
    let rig = Rig::new(Options { poison: Some(30), ..Options::default() });
    let mut bad = rig.submit(&[1, 2, 30], 5, &call("t")).unwrap();
    let mut good: Vec<_> =
        (0..3).map(|token| (token, rig.submit(&[token], 20, &call("t")).unwrap())).collect();
    assert!(matches!(hear(&mut bad).1, Err(Error::Backend(_))));
    for (token, chunks) in &mut good {
        let expected: Vec<u32> = alone(&[*token], 20);
        // Whose text comes to the bad token fails there, and no earlier.
        let sound = expected.iter().position(|token| *token == 30).map_or(expected.len(), |at| at + 1);
        let (heard, ending) = hear(chunks);
        assert_eq!(heard, expected[..sound]);
        assert_eq!(ending.is_err(), sound < expected.len());
    }
}

#[test]
fn memory_that_runs_out_is_told_to_whom_it_concerns() {
    let rig = Rig::new(Options { room: 0, ..Options::default() });
    let mut chunks = rig.submit(&[1], 5, &call("t")).unwrap();
    assert!(matches!(hear(&mut chunks).1, Err(Error::Overloaded { .. })));
}

#[test]
fn a_deadline_ends_it_between_steps() {
    let rig = Rig::new(Options { gated: true, ..Options::default() });
    let soon = Call::new(
        switchboard_mesh::Tenant::try_new("t").unwrap(),
        Deadline::after(Duration::from_millis(50)),
    );
    let mut chunks = rig.submit(&lasting(1, 30), 30, &soon).unwrap();
    rig.next();
    while !soon.deadline.left().is_zero() {
        std::thread::yield_now();
    }
    rig.go();
    let (tokens, ending) = hear(&mut chunks);
    assert_eq!(tokens.len(), 1);
    assert!(matches!(ending, Err(Error::Deadline)));
}

#[test]
fn what_is_too_much_or_too_late_is_refused_at_once() {
    let rig = Rig::new(Options { gated: true, slots: 1, most: 4, ..Options::default() });
    let _kept: Vec<_> = (0..3).map(|_| rig.submit(&[1], 5, &of_class(Class::Batch)).unwrap()).collect();
    assert!(matches!(rig.submit(&[1], 5, &of_class(Class::Batch)), Err(Error::Overloaded { .. })));
    let _last = rig.submit(&[1], 5, &of_class(Class::Chat)).unwrap();
    assert!(matches!(rig.submit(&[1], 5, &of_class(Class::Voice)), Err(Error::Overloaded { .. })));

    let rig = Rig::new(Options { gated: true, ..Options::default() });
    rig.queue.inbox.lock().pace.has_read(10, Duration::from_secs(1));
    let soon =
        Call::new(switchboard_mesh::Tenant::try_new("t").unwrap(), Deadline::after(Duration::from_secs(1)));
    assert!(matches!(rig.submit(&[1; 100], 5, &soon), Err(Error::Deadline)));
    assert!(rig.submit(&[1; 5], 5, &soon).is_ok());
}

#[test]
fn when_the_device_closes_all_are_told() {
    let rig = Rig::new(Options { gated: true, slots: 1, ..Options::default() });
    let mut under_way = rig.submit(&lasting(1, 30), 30, &call("t")).unwrap();
    let mut waits = rig.submit(&[1], 5, &call("t")).unwrap();
    rig.next();
    let Rig { queue, go, device, .. } = rig;
    drop(device);
    drop(go);
    assert!(matches!(hear(&mut under_way).1, Err(Error::Stopped)));
    assert!(matches!(hear(&mut waits).1, Err(Error::Stopped)));
    assert!(matches!(queue.admit(&call("t")), Err(Error::Stopped)));
}

/// A writer that finds no token.
struct Stuck(Mutex<u32>);

impl Writer for Stuck {
    fn write(&mut self, _: &mut [f32], _: &[u32]) -> Result<Written, Error> {
        *self.0.lock().unwrap() += 1;
        Err(Error::Backend(BackendError::Failed("numbers that are not finite".into())))
    }

    fn flush(&mut self) -> String {
        String::new()
    }
}

#[test]
fn numbers_that_are_not_finite_end_that_text_alone() {
    let rig = Rig::new(Options::default());
    let mut bad = {
        let place = rig.queue.admit(&call("t")).unwrap();
        rig.queue.submit(place, vec![1, 2], 5, Box::new(Stuck(Mutex::new(0))), &call("t")).unwrap()
    };
    let mut good = rig.submit(&[3], 20, &call("t")).unwrap();
    assert!(matches!(hear(&mut bad).1, Err(Error::Backend(_))));
    assert_eq!(hear(&mut good).0, alone(&[3], 20));
}
