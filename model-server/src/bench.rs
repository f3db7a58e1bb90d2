//! How fast a model is on this machine: batches through its instances, without tokenizer, queue and
//! network.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    Config, Error,
    backend::{Backend, BackendError, Batch, Row},
    generate::Feed,
    library, model,
    onnx::Runtime,
    placement::Placement,
    repository::{self, Description, Language, Task, problem},
    transcribe::{LogMel, Parameters},
    warmup,
};

/// The lengths that are measured where none are given.
pub const TOKENS: [usize; 3] = [16, 64, 128];

/// What to measure: every combination.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model's folder.
    pub model: PathBuf,
    /// Texts in a batch.
    pub batches: Vec<usize>,
    /// Tokens of each text, special ones included; [`TOKENS`], as far as the model reads as many, when
    /// absent.
    pub tokens: Option<Vec<usize>>,
    /// Batches that are computed side by side; what `model.toml` or the configuration says when absent.
    pub instances: Option<Vec<usize>>,
    /// Threads that compute one batch; what `model.toml` or the configuration says when absent.
    pub threads: Option<Vec<usize>>,
    /// Seconds to measure each combination for.
    pub seconds: f64,
}

/// What was measured of a combination.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Batches that were computed side by side.
    pub instances: usize,
    /// Threads that computed one batch.
    pub threads: usize,
    /// Texts in a batch.
    pub batch: usize,
    /// Tokens of each text.
    pub tokens: usize,
    /// The median time of a batch.
    pub p50: Duration,
    /// The 99th percentile of it.
    pub p99: Duration,
    /// Texts a second over all instances; of a model that writes, tokens a second over all rows.
    pub per_second: f64,
    /// Of a model that writes, the median time to the first token after a prompt of `tokens`; the other times are
    /// then those of one token in each row.
    pub first_token: Option<Duration>,
}

/// What makes Whisper's features of mono samples at 16 kHz, as `[bands, frames]` of a window of 30 s.
pub fn log_mel(bands: usize) -> impl Fn(&[f32]) -> Vec<f32> {
    let extractor = LogMel::new(Parameters::with_bands(bands));
    move |samples| {
        let mut window = vec![0.0; bands * extractor.parameters().frames()];
        extractor.extract(samples).window(0, &mut window);
        window
    }
}

/// Measures; `on_cell` is told of each combination when it is done.
///
/// # Errors
/// When the model cannot be loaded, or does not run with as many tokens.
pub fn run(config: &Config, request: &Request, mut on_cell: impl FnMut(&Cell)) -> Result<Vec<Cell>, Error> {
    let runtime = Runtime::load(&library::find(&config.runtime)?)?;
    let description = repository::describe(&request.model)?;
    let bytes = description.inspect()?.weight_bytes;
    let most = description.max_tokens.unwrap_or(usize::MAX);
    let lengths = match &request.tokens {
        Some(lengths) => lengths.clone(),
        None if most < TOKENS[0] => vec![most],
        None => TOKENS.into_iter().filter(|&length| length <= most).collect(),
    };
    if let Some(longer) = lengths.iter().find(|&&length| length > most) {
        return Err(problem(&request.model, format!("reads at most {most} tokens, not {longer}")));
    }
    if let Task::Generate(language) = &description.task {
        let language = *language;
        return writing(config, request, (description, language), &runtime, &lengths, on_cell);
    }
    let mut cells = Vec::new();
    let own = &description.settings;
    let (instances, threads) =
        ([own.instances.unwrap_or(config.instances)], [own.threads.unwrap_or(config.threads)]);
    for &instances in request.instances.as_deref().unwrap_or(&instances) {
        for &threads in request.threads.as_deref().unwrap_or(&threads) {
            let layouts = warmup::layouts(config.shared_cores(), instances, threads, bytes);
            // Where nothing is set, one batch on all cores.
            let Some(layout) = layouts.first().copied() else { continue };
            let mut models = Vec::new();
            for _ in 0..layout.instances {
                let placement = Placement::of(config, description.backend);
                models.push(placement.load(&runtime, &description, layout.threads)?);
            }
            for &batch in &request.batches {
                for &tokens in &lengths {
                    // Any tokens do: what they are changes no time.
                    let vocabulary = description.vocabulary.unwrap_or(100).max(1);
                    let ids = (0..tokens).map(|at| (at * 7919 % vocabulary) as u32);
                    let rows = vec![Row::single(ids.collect()); batch];
                    let rows = Batch::new(rows.iter(), description.pad);
                    let times = measure(&mut models, &rows, request.seconds)
                        .map_err(|error| problem(&description.graph, format!("does not run: {error}")))?;
                    let cell = Cell { batch, tokens, ..times.cell(layout, batch) };
                    on_cell(&cell);
                    cells.push(cell);
                }
            }
        }
    }
    Ok(cells)
}

/// Tokens that are written after a prompt before it is read anew.
const WRITTEN: usize = 32;

/// Measures a model that writes: a prompt read by itself, and tokens written in several rows behind it.
fn writing(
    config: &Config,
    request: &Request,
    (mut description, language): (Description, Language),
    runtime: &Runtime,
    lengths: &[usize],
    mut on_cell: impl FnMut(&Cell),
) -> Result<Vec<Cell>, Error> {
    let graph = description.graph.clone();
    let failed = |error: BackendError| problem(&graph, format!("does not run: {error}"));
    let own = description.settings.threads.unwrap_or(config.threads);
    let longest = lengths.iter().max().copied().unwrap_or(0);
    let mut cells = Vec::new();
    for &threads in request.threads.as_deref().unwrap_or(&[own]) {
        let mut config = Config { threads, ..config.clone() };
        config.generation.context = longest + WRITTEN + 1;
        config.generation.slots = request.batches.iter().max().copied().unwrap_or(1);
        let settings = &mut description.settings;
        (settings.threads, settings.context, settings.slots) = (None, None, None);
        let in_place = description.inspect()?.in_place;
        let (mut decoder, threads) = model::decoder(&description, &language, &config, runtime, in_place)?;
        let shape = decoder.shape();
        let longest_prompt = shape.context.saturating_sub(WRITTEN + 1);
        for &batch in request.batches.iter().filter(|batch| **batch <= shape.slots) {
            for &tokens in lengths.iter().filter(|tokens| **tokens <= longest_prompt) {
                let ids: Vec<u32> =
                    (0..tokens).map(|at| (at * 7919 % shape.vocabulary.min(1000)) as u32).collect();
                let (mut firsts, mut each, mut whole) = (Vec::new(), Vec::new(), Duration::ZERO);
                let began = Instant::now();
                while firsts.len() < 2 || began.elapsed().as_secs_f64() < request.seconds {
                    for slot in 0..batch {
                        let start = Instant::now();
                        decoder.step(&[Feed { slot, past: 0, tokens: &ids }]).map_err(failed)?;
                        firsts.push(start.elapsed());
                    }
                    for past in tokens..tokens + WRITTEN {
                        let feeds: Vec<Feed<'_>> =
                            (0..batch).map(|slot| Feed { slot, past, tokens: &ids[..1] }).collect();
                        let start = Instant::now();
                        decoder.step(&feeds).map_err(failed)?;
                        each.push(start.elapsed());
                        whole += start.elapsed();
                    }
                }
                firsts.sort();
                each.sort();
                let layout = warmup::Layout { instances: 1, threads };
                let first_token = firsts.get(firsts.len() / 2).copied();
                let cell = Cell { tokens, first_token, ..Times { each, whole }.cell(layout, batch) };
                on_cell(&cell);
                cells.push(cell);
            }
        }
    }
    Ok(cells)
}

/// The times of batches, the shortest first, and how long all took.
struct Times {
    each: Vec<Duration>,
    whole: Duration,
}

impl Times {
    fn cell(&self, layout: warmup::Layout, batch: usize) -> Cell {
        let at = |share: f64| self.each[((self.each.len() - 1) as f64 * share).round() as usize];
        Cell {
            instances: layout.instances,
            threads: layout.threads,
            batch,
            tokens: 0,
            p50: at(0.5),
            p99: at(0.99),
            per_second: (self.each.len() * batch) as f64 / self.whole.as_secs_f64(),
            first_token: None,
        }
    }
}

fn measure(
    models: &mut [Box<dyn Backend>],
    batch: &Batch,
    seconds: f64,
) -> Result<Times, crate::backend::BackendError> {
    for model in &mut *models {
        model.run(batch)?;
    }
    let began = Instant::now();
    let worker = |model: &mut Box<dyn Backend>| {
        let mut times = Vec::new();
        while times.is_empty() || began.elapsed().as_secs_f64() < seconds {
            let start = Instant::now();
            model.run(batch)?;
            times.push(start.elapsed());
        }
        Ok(times)
    };
    let worker = &worker;
    let times: Result<Vec<Vec<Duration>>, crate::backend::BackendError> = std::thread::scope(|scope| {
        let threads: Vec<_> = models.iter_mut().map(|model| scope.spawn(move || worker(model))).collect();
        let crashed = || Err(crate::backend::BackendError::Failed("the backend panicked".into()));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| crashed())).collect()
    });
    let whole = began.elapsed();
    let mut each: Vec<Duration> = times?.into_iter().flatten().collect();
    each.sort();
    Ok(Times { each, whole })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup;

    #[test]
    fn what_is_not_asked_for_is_as_the_models_folder_says() {
        let repository = setup::repository();
        let model = repository.path().join("all-MiniLM-L6-v2");
        std::fs::write(model.join("model.toml"), "instances = 2\nthreads = 1").unwrap();
        let config = Config { runtime: setup::runtime(), instances: 1, threads: 2, ..Config::default() };
        let measured = |instances| {
            let (batches, tokens) = (vec![1], Some(vec![8]));
            let model = model.clone();
            let request = Request { model, batches, tokens, instances, threads: None, seconds: 0.0 };
            let cells = run(&config, &request, |_| ()).unwrap();
            cells.iter().map(|cell| (cell.instances, cell.threads)).collect::<Vec<_>>()
        };
        assert_eq!(measured(None), [(2, 1)]);
        assert_eq!(measured(Some(vec![1])), [(1, 1)]);
    }
}
