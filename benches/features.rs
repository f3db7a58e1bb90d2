//! How fast are log-mel features made?
//!
//! Milliseconds on one core for sounds that are filled up to a window of 30 s, the median of many rounds;
//! `benches/features.py` does the same with transformers' extractor.

#![expect(clippy::print_stdout, reason = "a bench prints its tables")]

use std::{hint::black_box, time::Instant};

use switchboard_model_server::bench::log_mel;

/// How often each sound is read; the median counts.
const ROUNDS: usize = 31;
const RATE: usize = 16_000;

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("\n{:<12}{:>12}{:>12}", "sound", "80 bands", "128 bands");
    for seconds in [1, 5, 30] {
        let [narrow, wide] = [80, 128].map(|bands| milliseconds(bands, seconds));
        println!("{:<12}{narrow:>9.2} ms{wide:>9.2} ms", format!("{seconds} s"));
    }
}

fn milliseconds(bands: usize, seconds: usize) -> f64 {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let samples: Vec<f32> = (0..seconds * RATE).map(|_| noise() * 0.1).collect();
    let features = log_mel(bands);
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            black_box(features(black_box(&samples)));
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}
