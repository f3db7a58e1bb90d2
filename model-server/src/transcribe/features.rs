//! Log-mel spectrograms, as transformers' `WhisperFeatureExtractor` makes them.
//!
//! [`LogMel`] is made once for a model, from its `preprocessor_config.json`; [`LogMel::extract`] makes the
//! [`Spectrogram`] of an utterance, out of which windows are cut.

use std::{path::Path, sync::Arc};

use realfft::{RealFftPlanner, RealToComplex};
use serde::Deserialize;

use crate::{
    error::Error,
    repository::{json, problem},
};

/// Samples a second of what is transcribed.
pub(crate) const RATE: usize = 16_000;
/// The highest frequency of the filters, whatever the rate: it is fixed in the published extractor.
const HIGHEST: f64 = 8000.0;
/// The least power, and its logarithm: what silence is.
const LEAST: f32 = 1e-10;
const SILENCE: f32 = -10.0;
/// How far below the loudest value of an utterance values are cut off, in powers of ten.
const RANGE: f32 = 8.0;

/// The part of `preprocessor_config.json` that matters here; its defaults are the published ones.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Parameters {
    /// Mel bands: 80, or 128 of the newest models.
    feature_size: usize,
    sampling_rate: usize,
    /// Samples from one frame to the next.
    hop_length: usize,
    /// Seconds of a window.
    chunk_length: usize,
    /// Samples of a frame.
    n_fft: usize,
    padding_value: f32,
    dither: f32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            feature_size: 80,
            sampling_rate: RATE,
            hop_length: 160,
            chunk_length: 30,
            n_fft: 400,
            padding_value: 0.0,
            dither: 0.0,
        }
    }
}

impl Parameters {
    /// The published ones, with so many bands.
    pub(crate) fn with_bands(feature_size: usize) -> Self {
        Self { feature_size, ..Self::default() }
    }

    /// Reads a `preprocessor_config.json`.
    ///
    /// # Errors
    /// Names the file, the key, and what is allowed.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let found: Self = json(path)?;
        let within = |key: &str, value: usize, least: usize, most: usize| match value {
            value if (least..=most).contains(&value) => Ok(()),
            value => Err(problem(path, format!("has {key} = {value}; {least} to {most} is allowed"))),
        };
        within("feature_size", found.feature_size, 1, 512)?;
        within("sampling_rate", found.sampling_rate, RATE, RATE)?;
        within("n_fft", found.n_fft, 16, 4096)?;
        within("hop_length", found.hop_length, 1, found.n_fft)?;
        within("chunk_length", found.chunk_length, 1, 60)?;
        for (key, value) in [("padding_value", found.padding_value), ("dither", found.dither)] {
            if value != 0.0 {
                return Err(problem(path, format!("has {key} = {value}; 0 is allowed")));
            }
        }
        Ok(found)
    }

    /// Mel bands.
    pub(crate) fn mels(&self) -> usize {
        self.feature_size
    }

    /// Frames of a whole window.
    pub(crate) fn frames(&self) -> usize {
        self.chunk_length * self.sampling_rate / self.hop_length
    }

    /// Samples from one frame to the next.
    pub(crate) fn hop(&self) -> usize {
        self.hop_length
    }
}

/// A mel band: the weights of neighbouring frequencies, from `first` on. All others weigh nothing.
struct Band {
    first: usize,
    weights: Vec<f32>,
}

/// Makes spectrograms. Shared by all threads: what one needs for itself, it makes for each utterance.
pub(crate) struct LogMel {
    parameters: Parameters,
    plan: Arc<dyn RealToComplex<f32>>,
    /// Hann's, periodic.
    window: Vec<f32>,
    bands: Vec<Band>,
}

impl LogMel {
    pub(crate) fn new(parameters: Parameters) -> Self {
        let n = parameters.n_fft;
        let angle = |at: usize| 2.0 * std::f64::consts::PI * at as f64 / n as f64;
        Self {
            plan: RealFftPlanner::new().plan_fft_forward(n),
            window: (0..n).map(|at| (0.5 - 0.5 * angle(at).cos()) as f32).collect(),
            bands: bands(parameters.feature_size, n / 2 + 1, parameters.sampling_rate),
            parameters,
        }
    }

    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The spectrogram of mono samples at 16 kHz, of any length. A minute takes some 20 ms.
    ///
    /// Up to a window's length it is what the extractor makes of samples that it fills up with silence to a
    /// window. Longer samples have silence after them without end, as in OpenAI's reference.
    pub(crate) fn extract(&self, samples: &[f32]) -> Spectrogram {
        let Parameters { n_fft, hop_length: hop, feature_size: mels, .. } = self.parameters;
        let window = self.parameters.frames();
        let content = samples.len().div_ceil(hop);
        // Where the padded signal ends and is mirrored.
        let end = if content <= window { window * hop } else { usize::MAX };
        // Frames that some sample has a part in; the rest is silence, whose value is known.
        let heard = (samples.len() + n_fft / 2).div_ceil(hop);
        let heard = if content <= window { heard.min(window) } else { heard };
        let mut frame = self.plan.make_input_vec();
        let mut spectrum = self.plan.make_output_vec();
        let mut scratch = self.plan.make_scratch_vec();
        let mut power = vec![0.0_f32; spectrum.len()];
        let mut values = vec![SILENCE; heard * mels];
        let mut loudest = SILENCE;
        for (number, row) in values.chunks_exact_mut(mels).enumerate() {
            if !cut(samples, number * hop, n_fft / 2, end, &mut frame) {
                continue;
            }
            frame.iter_mut().zip(&self.window).for_each(|(sample, weight)| *sample *= weight);
            // It fails for lengths that do not fit alone, and these are its own.
            let done = self.plan.process_with_scratch(&mut frame, &mut spectrum, &mut scratch);
            debug_assert!(done.is_ok(), "{done:?}");
            power.iter_mut().zip(&spectrum).for_each(|(power, bin)| *power = bin.norm_sqr());
            for (value, band) in row.iter_mut().zip(&self.bands) {
                let under = &power[band.first..band.first + band.weights.len()];
                let sum: f32 = under.iter().zip(&band.weights).map(|(power, weight)| power * weight).sum();
                *value = sum.max(LEAST).log10();
                loudest = loudest.max(*value);
            }
        }
        Spectrogram { mels, content, values, least: loudest - RANGE }
    }
}

/// Puts the samples around `centre` into `frame`: `half` before it, the rest from it on. The signal is
/// mirrored at its beginning and at `end`, and silent from the last sample to there. Whether there is
/// anything but silence.
fn cut(samples: &[f32], centre: usize, half: usize, end: usize, frame: &mut [f32]) -> bool {
    if let Some(first) = centre.checked_sub(half)
        && let Some(whole) = samples.get(first..first + frame.len())
    {
        frame.copy_from_slice(whole);
    } else {
        for (offset, sample) in frame.iter_mut().enumerate() {
            let at = (centre + offset).abs_diff(half);
            let at = if at < end { at } else { (2 * (end - 1)).saturating_sub(at) };
            *sample = samples.get(at).copied().unwrap_or(0.0);
        }
    }
    frame.iter().any(|sample| *sample != 0.0)
}

/// The filters of Slaney's Auditory Toolbox (1998): triangles on a scale that is linear below 1 kHz and
/// logarithmic above, each of the same area.
fn bands(count: usize, frequencies: usize, rate: usize) -> Vec<Band> {
    const KNEE: f64 = 1000.0;
    const LINEAR: f64 = 200.0 / 3.0;
    let step = 6.4_f64.ln() / 27.0;
    let mel = |hertz: f64| match hertz < KNEE {
        true => hertz / LINEAR,
        false => KNEE / LINEAR + (hertz / KNEE).ln() / step,
    };
    let hertz = |mel: f64| match mel < KNEE / LINEAR {
        true => mel * LINEAR,
        false => KNEE * (step * (mel - KNEE / LINEAR)).exp(),
    };
    let corner = |number: usize| hertz(mel(HIGHEST) * number as f64 / (count + 1) as f64);
    let frequency = |bin: usize| rate as f64 / 2.0 * bin as f64 / (frequencies - 1) as f64;
    let band = |number: usize| {
        let [low, middle, high] = [number, number + 1, number + 2].map(corner);
        let weight = |bin: usize| {
            let at = frequency(bin);
            let slope = ((at - low) / (middle - low)).min((high - at) / (high - middle));
            (slope.max(0.0) * 2.0 / (high - low)) as f32
        };
        let within = (0..frequencies).filter(|bin| weight(*bin) > 0.0);
        let (first, last) = within.fold((frequencies, 0), |(first, _), bin| (first.min(bin), bin + 1));
        let first = first.min(last);
        Band { first, weights: (first..last).map(weight).collect() }
    };
    (0..count).map(band).collect()
}

/// The spectrogram of an utterance.
pub(crate) struct Spectrogram {
    mels: usize,
    /// Frames that begin before the samples end.
    content: usize,
    /// Logarithms to base ten, `[frames, mels]`; behind them is silence.
    values: Vec<f32>,
    /// What smaller values are raised to.
    least: f32,
}

impl Spectrogram {
    /// Frames of the utterance, silence behind it left out.
    pub(crate) fn content(&self) -> usize {
        self.content
    }

    /// Fills `window`, `[mels, frames]`, with the frames from `first` on, as the model reads them.
    pub(crate) fn window(&self, first: usize, window: &mut [f32]) {
        let scale = |value: f32| (value.max(self.least) + 4.0) / 4.0;
        let frames = window.len() / self.mels;
        let there = (self.values.len() / self.mels).saturating_sub(first).min(frames);
        window.fill(scale(SILENCE));
        let values = self.values.chunks_exact(self.mels).skip(first).take(there);
        for (number, row) in values.enumerate() {
            for (band, value) in row.iter().enumerate() {
                window[band * frames + number] = scale(*value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::transcribe::tests::{Sound, fixture};

    #[derive(Deserialize)]
    struct Golden {
        rows: Vec<Row>,
    }

    /// A sound, and what the extractor makes of it: frames by their numbers, with 80 and with 128 bands.
    #[derive(Deserialize)]
    struct Row {
        name: String,
        sound: Sound,
        mels_80: BTreeMap<usize, Vec<f32>>,
        mels_128: BTreeMap<usize, Vec<f32>>,
    }

    #[test]
    fn features_are_those_of_the_reference() {
        let golden: Golden = json(&fixture("goldens/log-mel.json")).unwrap();
        for Row { name, sound, mels_80, mels_128 } in golden.rows {
            for (feature_size, wanted) in [(80, mels_80), (128, mels_128)] {
                let extractor = LogMel::new(Parameters::with_bands(feature_size));
                let mut window = vec![0.0; feature_size * 3000];
                extractor.extract(&sound.samples()).window(0, &mut window);
                for (frame, values) in wanted {
                    let own = window.chunks_exact(3000).map(|band| band[frame]);
                    let off = own.zip(values).map(|(own, value)| (own - value).abs()).fold(0.0, f32::max);
                    assert!(off <= 1e-4, "{name}, {feature_size} bands, frame {frame}: {off}");
                }
            }
        }
    }

    #[test]
    fn silence_has_one_value_wherever_it_is() {
        let extractor = LogMel::new(Parameters::default());
        let spectrogram = extractor.extract(&[0.0; 8000]);
        assert_eq!(spectrogram.content(), 50);
        let mut window = vec![7.0; 80 * 3000];
        spectrogram.window(0, &mut window);
        assert!(window.iter().all(|value| *value == -1.5));
        extractor.extract(&[]).window(10_000, &mut window);
        assert!(window.iter().all(|value| *value == -1.5));
    }

    #[test]
    fn a_window_further_on_is_the_same_frames() {
        let extractor = LogMel::new(Parameters { chunk_length: 1, ..Parameters::default() });
        let samples: Vec<f32> = (0..40_000).map(|at| ((at * at) as f32 * 1e-5).sin() * 0.3).collect();
        let spectrogram = extractor.extract(&samples);
        let [mut first, mut second] = [vec![0.0; 80 * 100], vec![0.0; 80 * 100]];
        spectrogram.window(0, &mut first);
        spectrogram.window(60, &mut second);
        for band in 0..80 {
            assert_eq!(first[band * 100 + 60..(band + 1) * 100], second[band * 100..band * 100 + 40]);
        }
    }

    #[test]
    fn settings_that_are_not_allowed_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("preprocessor_config.json");
        for (text, key) in [
            (r#"{"sampling_rate": 8000}"#, "sampling_rate = 8000"),
            (r#"{"feature_size": 0}"#, "feature_size = 0"),
            (r#"{"n_fft": 400, "hop_length": 500}"#, "hop_length = 500"),
            (r#"{"dither": 0.5}"#, "dither = 0.5"),
            (r#"{"chunk_length": 1000000}"#, "chunk_length = 1000000"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Parameters::read(&path).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("is allowed"), "{error}");
        }
    }
}
