use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde::Deserialize;
use switchboard_mesh::{Class, testing::call};
use tokio::time::Instant;

use super::*;
use crate::{
    config::Config,
    onnx::{Runtime, Silero},
    placement::Placement,
    repository::{BackendName, json},
    scheduler::Device,
    setup,
};

#[derive(Deserialize)]
struct Golden {
    rows: Vec<Row>,
}

/// A sound by formula, and what the package hears in it.
#[derive(Deserialize)]
struct Row {
    name: String,
    seconds: f64,
    noise: f64,
    vowels: Vec<Vowel>,
    #[serde(rename = "8000")]
    narrow: Heard,
    #[serde(rename = "16000")]
    wide: Heard,
}

#[derive(Deserialize)]
struct Vowel {
    from: f64,
    to: f64,
    formants: Vec<f64>,
    pitch: f64,
    glide: f64,
    level: f64,
}

#[derive(Deserialize)]
struct Heard {
    probabilities: Vec<f32>,
    usual: Vec<[usize; 2]>,
    strict: Vec<[usize; 2]>,
}

impl Row {
    fn heard(&self, rate: Rate) -> &Heard {
        if rate == Rate::Narrow { &self.narrow } else { &self.wide }
    }

    /// The formula is in `fixtures/make_vad.py`.
    fn samples(&self, rate: Rate) -> Vec<f32> {
        use std::f64::consts::PI;
        let mut state = 1_u64;
        let count = (self.seconds * f64::from(rate.hertz())).round() as usize;
        let sample = |n: usize| {
            let t = n as f64 / f64::from(rate.hertz());
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut sample = self.noise * ((state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0);
            for Vowel { from, to, formants, pitch, glide, level } in &self.vowels {
                let s = t - from;
                if t < *from || t >= *to {
                    continue;
                }
                let envelope = level * (PI * s / (to - from)).sin().abs().powf(0.6);
                for k in (1..).map(f64::from).take_while(|k| k * pitch < 3600.0) {
                    let near = |g: &f64| (-((k * pitch - g) / 130.0).powi(2)).exp();
                    let weight: f64 = formants.iter().map(near).sum();
                    let phase = 2.0 * PI * k * (pitch * s + glide * s * s / 2.0);
                    sample += envelope * weight * phase.sin() / 8.0;
                }
            }
            sample as f32
        };
        (0..count).map(sample).collect()
    }
}

const STRICT: Sensitivity = Sensitivity {
    threshold: 0.7,
    min_speech: Duration::from_millis(100),
    min_silence: Duration::from_millis(30),
    pad: Duration::from_millis(100),
};

fn golden() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/goldens/vad.json");
    json::<Golden>(&path).unwrap().rows
}

fn engine() -> Silero {
    let runtime = Runtime::load(&setup::runtime()).unwrap();
    let graph = setup::listener().join("onnx/model.onnx");
    Silero::load(&runtime, &graph, Placement::of(&Config::default(), BackendName::Onnx)).unwrap()
}

/// Listens to sounds together, each with its own sensitivity: probabilities, and stretches of speech.
fn listen(sounds: &[(Vec<f32>, Rate, Sensitivity)]) -> Vec<(Vec<f32>, Vec<[usize; 2]>)> {
    let mut engine = engine();
    let detector = |(samples, rate, sensitivity): &(Vec<f32>, Rate, Sensitivity)| {
        let mut detector = Detector::new(*rate, *sensitivity);
        // In pieces that fit no step.
        samples.chunks(777).for_each(|piece| detector.push(piece));
        detector.fill_up();
        detector
    };
    let mut detectors: Vec<Detector> = sounds.iter().map(detector).collect();
    let mut probabilities = vec![Vec::new(); sounds.len()];
    while detectors.iter().any(Detector::is_ready) {
        let mut streams: Vec<&mut Detector> = detectors.iter_mut().collect();
        for (all, found) in probabilities.iter_mut().zip(advance(&mut engine, &mut streams).unwrap()) {
            all.extend(found);
        }
    }
    let pairs =
        |((samples, rate, sensitivity), detector): (&(Vec<f32>, Rate, Sensitivity), &mut Detector)| {
            detector.end(samples.len());
            let found = speeches(detector.events(), samples.len(), *rate, *sensitivity);
            found.into_iter().map(|speech| [speech.start, speech.end]).collect()
        };
    let pairs = sounds.iter().zip(&mut detectors).map(pairs).collect::<Vec<_>>();
    probabilities.into_iter().zip(pairs).collect()
}

#[test]
fn many_streams_at_once_are_heard_as_the_package_hears_each_alone() {
    let golden = golden();
    let mut sounds = Vec::new();
    let mut wanted = Vec::new();
    for row in &golden {
        for rate in [Rate::Narrow, Rate::Wide] {
            for (sensitivity, strict) in [(Sensitivity::default(), false), (STRICT, true)] {
                sounds.push((row.samples(rate), rate, sensitivity));
                let heard = row.heard(rate);
                wanted.push((
                    row,
                    rate,
                    &heard.probabilities,
                    if strict { &heard.strict } else { &heard.usual },
                ));
            }
        }
    }
    for ((own, pairs), (row, rate, probabilities, speeches)) in listen(&sounds).into_iter().zip(wanted) {
        assert_eq!(own.len(), probabilities.len(), "{}", row.name);
        // What a batch changes in the last bits, the state carries on.
        let off = own.iter().zip(probabilities).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-3, "{} at {rate:?}: {off}", row.name);
        assert_eq!(&pairs, speeches, "{} at {rate:?}", row.name);
    }
}

/// What a segmenter notices of probabilities, at 16 kHz.
fn events(sensitivity: Sensitivity, probabilities: &[f32]) -> Vec<Event> {
    let mut segmenter = Segmenter::new(Rate::Wide, sensitivity);
    let mut events = VecDeque::new();
    probabilities.iter().for_each(|probability| segmenter.push(*probability, &mut events));
    segmenter.end(probabilities.len() * 512, &mut events);
    events.into()
}

#[test]
fn speech_goes_on_between_the_thresholds_and_over_short_pauses() {
    let sensitivity = Sensitivity {
        min_speech: Duration::from_millis(60),
        min_silence: Duration::from_millis(90),
        ..Sensitivity::default()
    };
    let [on, between, off] = [0.9, 0.4, 0.1];
    let found = events(sensitivity, &[off, on, on, between, between, off, off, on, off, off, off, off, off]);
    assert_eq!(found, [Event::Began(512), Event::Ended(8 * 512)]);
    assert!(events(sensitivity, &[off, on, off, off, off, off, off]).is_empty(), "too short");
    assert!(events(sensitivity, &[between; 9]).is_empty(), "never above the upper one");
    assert_eq!(events(sensitivity, &[off, on, on, on]), [Event::Began(512)], "to the end");
}

#[test]
fn speech_is_told_before_it_ends() {
    let mut segmenter = Segmenter::new(Rate::Wide, Sensitivity::default());
    let mut events = VecDeque::new();
    let told = (0..20).find(|_| {
        segmenter.push(0.9, &mut events);
        !events.is_empty()
    });
    // 250 ms are 7.8 steps.
    assert_eq!((told, events.front()), (Some(8), Some(&Event::Began(0))));
}

#[test]
fn padding_stays_inside_the_sound_and_shares_what_is_between() {
    let padded = |events: &[Event]| {
        let found = speeches(events.iter().copied(), 10_000, Rate::Wide, Sensitivity::default());
        found.into_iter().map(|speech| (speech.start, speech.end)).collect::<Vec<_>>()
    };
    use Event::{Began, Ended};
    assert_eq!(padded(&[Began(100), Ended(4000), Began(4500), Ended(9900)]), [(0, 4250), (4250, 10_000)]);
    assert_eq!(padded(&[Began(1000), Ended(4000), Began(6000)]), [(520, 4480), (5520, 10_000)]);
}

#[test]
fn rates_that_the_model_does_not_know_are_named() {
    let error = Rate::new(44_100).unwrap_err().to_string();
    assert_eq!(error, "sample_rate: 44100; 8000 and 16000 are allowed");
}

/// An engine that hears nothing, and counts its steps.
struct Deaf(Arc<AtomicUsize>);

impl Engine for Deaf {
    fn only_16_khz(&self) -> bool {
        true
    }

    fn run(&mut self, _: u32, rows: usize, _: &[f32], _: &mut Vec<f32>) -> Result<Vec<f32>, BackendError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(vec![0.0; rows])
    }
}

fn deaf(device: &Device) -> (Listener, Arc<AtomicUsize>) {
    let steps = Arc::<AtomicUsize>::default();
    let (engine, turns) = (Box::new(Deaf(Arc::clone(&steps))), device.turns(1));
    (Listener::start(Worker { name: "deaf".into(), engine, turns }).unwrap(), steps)
}

fn device() -> Device {
    Device::new("test", 1, [0.05, 0.2], || {}).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_whose_caller_has_gone_is_listened_to_for_one_turn_at_most() {
    let device = device();
    let (listener, steps) = deaf(&device);
    let turn = device.turns(1).wait(Class::Voice, Instant::now()).unwrap();
    let (call, long) = (call("t"), vec![0.0; 10 * super::serve::STEPS * Rate::Wide.step()]);
    let mut gone = Box::pin(listener.detect(&long, Rate::Wide, Sensitivity::default(), &call));
    assert!(futures::poll!(gone.as_mut()).is_pending());
    drop(gone);
    drop(turn);
    let short = &long[..Rate::Wide.step()];
    let found = listener.detect(short, Rate::Wide, Sensitivity::default(), &call).await.unwrap();
    assert!(found.is_empty());
    let taken = steps.load(Ordering::Relaxed);
    assert!(taken <= super::serve::STEPS + 1, "{taken}");
    assert_eq!(listener.statistics.counts().cancel.count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn class_batch_leaves_places_to_the_others() {
    let device = device();
    let (listener, _) = deaf(&device);
    // Nothing is worked off meanwhile.
    let turn = device.turns(1).wait(Class::Voice, Instant::now()).unwrap();
    let (batch, voice) = (call("t").with_class(Class::Batch), call("t").with_class(Class::Voice));
    let mut waiting = Vec::new();
    let full = loop {
        let mut asked = Box::pin(listener.detect(&[0.0], Rate::Wide, Sensitivity::default(), &batch));
        match futures::poll!(asked.as_mut()) {
            std::task::Poll::Pending => waiting.push(asked),
            std::task::Poll::Ready(answer) => break answer,
        }
    };
    assert!(matches!(full, Err(Error::Overloaded { .. })), "{full:?}");
    assert_eq!(listener.statistics.counts().fail.count, 1);
    let mut urgent = Box::pin(listener.detect(&[0.0], Rate::Wide, Sensitivity::default(), &voice));
    assert!(futures::poll!(urgent.as_mut()).is_pending(), "there are places for it");
    drop(turn);
    urgent.await.unwrap();
}
