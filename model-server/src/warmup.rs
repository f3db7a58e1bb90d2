//! What is measured of a model while it is loaded: which instances and threads suit it, and how long its
//! batches take.

use std::time::{Duration, Instant};

use crate::{
    backend::{Backend, BackendError, Batch, Reading, Row},
    error::Error,
    profile::{Profile, grid},
};

/// The part of the time that goes into choosing instances and threads.
const CHOOSING: f64 = 0.4;
/// The short batch whose throughput decides.
const SHORT: (usize, usize) = (8, 16);
/// A session on all cores is kept for lone texts where it takes no more than this part of the time of
/// an instance's.
const WORTHWHILE: f64 = 0.85;
/// Bytes of weights that layouts which nobody set may hold, all sessions together.
const MOST_WEIGHTS: u64 = 2 << 30;
/// Throughput must be better by this factor for more sessions to be worth their memory.
const BETTER: f64 = 1.02;

/// How a model uses the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Batches that are computed side by side.
    pub(crate) instances: usize,
    /// Threads that compute one of them.
    pub(crate) threads: usize,
}

/// A session on more cores than an instance has. When nothing else is there to do, a lone text is sooner
/// done on all of them.
pub(crate) struct Wide {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) threads: usize,
    /// Its time for a lone text, as a part of what an instance takes.
    pub(crate) ratio: f64,
}

/// A model to measure.
pub(crate) struct Subject<'a> {
    /// Makes a backend whose batches so many threads compute.
    pub(crate) make: &'a dyn Fn(usize) -> Result<Box<dyn Backend>, Error>,
    /// A row of the longest length, whose beginnings are rows as well.
    pub(crate) row: &'a Row,
    pub(crate) reading: Reading,
    pub(crate) pad: u32,
    pub(crate) max_batch_tokens: usize,
    /// Bytes of its weights, which every session holds.
    pub(crate) bytes: u64,
}

/// What was found.
pub(crate) struct Warm {
    pub(crate) backends: Vec<Box<dyn Backend>>,
    /// For lone texts, where it pays.
    pub(crate) wide: Option<Wide>,
    pub(crate) layout: Layout,
    pub(crate) profile: Profile,
}

/// The layouts worth trying where none is set: one batch on all cores, and one on each core; on many
/// cores those between as well. Every instance holds the model's `bytes`: as many as memory may be spent
/// on.
pub(crate) fn layouts(cores: usize, instances: usize, threads: usize, bytes: u64) -> Vec<Layout> {
    let most = usize::try_from(MOST_WEIGHTS / bytes.max(1)).unwrap_or(usize::MAX).clamp(1, cores.max(1));
    match (instances, threads) {
        (0, 0) => {
            let fewer = std::iter::successors(Some(1), |n| Some(n * 4)).take_while(|&n| n < most);
            fewer.chain([most]).map(|n| Layout { instances: n, threads: cores / n }).collect()
        }
        (0, threads) => vec![Layout { instances: (cores / threads).clamp(1, most), threads }],
        (instances, 0) => vec![Layout { instances, threads: (cores / instances).max(1) }],
        (instances, threads) => vec![Layout { instances, threads }],
    }
}

/// Chooses among `layouts` and measures the table, within about `time`; the first layout is taken as it is
/// when there is no time.
///
/// # Errors
/// When a backend cannot be made, or does not run.
pub(crate) fn warm_up(
    subject: &Subject<'_>,
    layouts: &[Layout],
    time: Duration,
) -> Result<Warm, WarmUpError> {
    let began = Instant::now();
    let mut best: Option<(Warm, f64, f64)> = None;
    for layout in layouts {
        let mut backends = Vec::with_capacity(layout.instances);
        for _ in 0..layout.instances {
            backends.push((subject.make)(layout.threads)?);
        }
        // Each must run, also at its longest, before it is given work.
        for backend in &mut backends {
            subject.run(backend.as_mut(), 1, subject.row.ids.len().min(8))?;
        }
        subject.run(backends[0].as_mut(), 1, subject.row.ids.len())?;
        let part = time.mul_f64(CHOOSING / layouts.len() as f64);
        let warm = |backends| Warm { backends, wide: None, layout: *layout, profile: Profile::new(1, &[]) };
        if layouts.len() == 1 || time.is_zero() {
            best = Some((warm(backends), 0.0, 0.0));
            break;
        }
        let alone = subject.seconds(backends[0].as_mut(), 1, SHORT.1)?;
        let speed = subject.throughput(&mut backends, part)?;
        let wins = best.as_ref().is_none_or(|(.., fast)| speed > fast * BETTER);
        let (instances, threads) = (layout.instances, layout.threads);
        tracing::debug!(instances, threads, alone, speed, wins, "layout measured");
        if wins {
            let before = best.replace((warm(backends), alone, speed));
            if let (Some((warm, ..)), Some((before, lone, _))) = (&mut best, before) {
                warm.wide = subject.wide(before, lone / alone, layout);
            }
        }
    }
    let Some((mut warm, ..)) = best else { return Err(WarmUpError::Nothing) };
    let mut measured = Vec::new();
    if !time.is_zero() {
        for (batch, tokens) in grid(subject.row.ids.len(), subject.max_batch_tokens) {
            // The first two always, so that there is something to tell others from.
            if measured.len() >= 2 && began.elapsed() >= time {
                break;
            }
            match subject.seconds(warm.backends[0].as_mut(), batch, tokens) {
                Ok(seconds) => measured.push(((batch, tokens), seconds)),
                // It runs smaller ones: batches this large are halved when they come.
                Err(BackendError::OutOfMemory(_)) if !measured.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    warm.profile = Profile::new(subject.row.ids.len(), &measured);
    Ok(warm)
}

/// Why a model cannot be warmed up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WarmUpError {
    /// A backend cannot be made.
    #[error(transparent)]
    Make(#[from] Error),
    /// It does not run.
    #[error(transparent)]
    Run(#[from] BackendError),
    /// There was no layout to try.
    #[error("no instances")]
    Nothing,
}

impl Subject<'_> {
    /// What is left of a layout that was beaten by `layout`: its session on more cores, where a lone text
    /// takes no more than `ratio` of the time there and memory may be spent on it.
    fn wide(&self, beaten: Warm, ratio: f64, layout: &Layout) -> Option<Wide> {
        let Warm { mut backends, wide, layout: Layout { threads, .. }, .. } = beaten;
        if let Some(wide) = wide {
            // Of a third layout: the ratio is to the instances that have been beaten as well.
            let ratio = wide.ratio * ratio;
            return (ratio <= WORTHWHILE).then_some(Wide { ratio, ..wide });
        }
        let fits = self.bytes.saturating_mul(layout.instances as u64 + 1) <= MOST_WEIGHTS;
        let wanted = fits && threads > layout.threads && ratio <= WORTHWHILE;
        backends.pop().filter(|_| wanted).map(|backend| Wide { backend, threads, ratio })
    }

    fn batch(&self, rows: usize, tokens: usize) -> Batch {
        let mut row = self.row.clone();
        row.ids.truncate(tokens);
        (row.second, row.attended) = (row.second.min(row.ids.len()), row.attended.min(row.ids.len()));
        let rows = vec![row; rows];
        Batch::new(rows.iter(), self.pad)
    }

    fn run(&self, backend: &mut dyn Backend, rows: usize, tokens: usize) -> Result<(), BackendError> {
        let batch = self.batch(rows, tokens);
        self.reading.rows(&backend.run(&batch)?, &batch).map(drop)
    }

    /// The seconds of a batch: of two tries the quicker, where that takes little.
    fn seconds(&self, backend: &mut dyn Backend, rows: usize, tokens: usize) -> Result<f64, BackendError> {
        let batch = self.batch(rows, tokens);
        let mut best = f64::INFINITY;
        for _ in 0..2 {
            let began = Instant::now();
            self.reading.rows(&backend.run(&batch)?, &batch)?;
            best = best.min(began.elapsed().as_secs_f64());
            if best > 0.03 {
                break;
            }
        }
        Ok(best)
    }

    /// Rows a second of short batches, with all instances at work for about `time`.
    fn throughput(&self, backends: &mut [Box<dyn Backend>], time: Duration) -> Result<f64, BackendError> {
        let rows = SHORT.0.min((self.max_batch_tokens / SHORT.1).max(1));
        let batch = self.batch(rows, SHORT.1);
        let began = Instant::now();
        let worker = |backend: &mut Box<dyn Backend>| -> Result<usize, BackendError> {
            let mut runs = 0;
            while runs == 0 || began.elapsed() < time {
                backend.run(&batch)?;
                runs += 1;
            }
            Ok(runs)
        };
        let worker = &worker;
        let runs: Result<Vec<usize>, BackendError> = std::thread::scope(|scope| {
            let threads: Vec<_> = backends.iter_mut().map(|one| scope.spawn(move || worker(one))).collect();
            let crashed = || BackendError::Failed("the backend panicked".into());
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(crashed()))).collect()
        });
        let runs: usize = runs?.into_iter().sum();
        Ok((runs * rows) as f64 / began.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Output;

    #[test]
    fn layouts_use_all_cores_and_keep_what_is_set() {
        let of = |cores, instances, threads, bytes| -> Vec<(usize, usize)> {
            layouts(cores, instances, threads, bytes).iter().map(|l| (l.instances, l.threads)).collect()
        };
        let pairs = |cores, instances, threads| of(cores, instances, threads, 90 << 20);
        assert_eq!(pairs(1, 0, 0), [(1, 1)]);
        assert_eq!(pairs(2, 0, 0), [(1, 2), (2, 1)]);
        assert_eq!(pairs(8, 0, 0), [(1, 8), (4, 2), (8, 1)]);
        assert_eq!(pairs(8, 0, 2), [(4, 2)]);
        assert_eq!(pairs(8, 3, 0), [(3, 2)]);
        assert_eq!(pairs(8, 3, 5), [(3, 5)]);
        assert_eq!(pairs(64, 0, 0), [(1, 64), (4, 16), (16, 4), (22, 2)]);
        assert_eq!(of(64, 0, 0, 3 << 30), [(1, 64)], "one at least");
        assert_eq!(of(64, 0, 2, 1 << 30), [(2, 2)]);
        assert_eq!(of(64, 8, 0, 3 << 30), [(8, 8)], "what is set is kept");
    }

    struct Broken;

    impl Backend for Broken {
        fn run(&mut self, batch: &Batch) -> Result<Output, BackendError> {
            Ok(Output { values: vec![f32::NAN; batch.rows], width: 1, each_token: false })
        }
    }

    /// Memory for so many tokens.
    struct Small(usize);

    impl Backend for Small {
        fn run(&mut self, batch: &Batch) -> Result<Output, BackendError> {
            if batch.tokens() > self.0 {
                return Err(BackendError::OutOfMemory("no more".into()));
            }
            Ok(Output { values: vec![1.0; batch.rows], width: 1, each_token: false })
        }
    }

    #[test]
    fn batches_that_memory_does_not_suffice_for_end_the_measuring_and_not_the_model() {
        let subject = Subject {
            make: &|_| Ok(Box::new(Small(64))),
            row: &Row::single(vec![1; 16]),
            reading: Reading::Rows,
            pad: 0,
            max_batch_tokens: 512,
            bytes: 1,
        };
        let warm = warm_up(&subject, &layouts(1, 1, 1, 1), Duration::from_secs(60)).unwrap();
        let largest = warm.profile.cells().map(|cell| cell.batch * cell.tokens).max();
        assert_eq!(largest, Some(64));
    }

    /// Takes a millisecond for each row, on so many threads side by side.
    struct Scaling(usize);

    impl Backend for Scaling {
        #[expect(clippy::disallowed_methods, reason = "stands for computing")]
        fn run(&mut self, batch: &Batch) -> Result<Output, BackendError> {
            // All of its threads for one row; no gain from them for many.
            let time = if batch.rows == 1 { 4.0 / self.0 as f64 } else { batch.rows as f64 };
            std::thread::sleep(Duration::from_secs_f64(time * 1e-3));
            Ok(Output { values: vec![1.0; batch.rows], width: 1, each_token: false })
        }
    }

    #[test]
    fn of_a_layout_that_is_beaten_the_session_on_all_cores_is_kept_for_lone_texts() {
        let warm = |bytes| {
            let subject = Subject {
                make: &|threads| Ok(Box::new(Scaling(threads))),
                row: &Row::single(vec![1; 16]),
                reading: Reading::Rows,
                pad: 0,
                max_batch_tokens: 512,
                bytes,
            };
            warm_up(&subject, &layouts(4, 0, 0, bytes), Duration::from_millis(100)).unwrap()
        };
        let small = warm(1 << 20);
        assert_eq!(small.layout, Layout { instances: 4, threads: 1 });
        let wide = small.wide.expect("a session on all cores");
        assert!(wide.threads == 4 && wide.ratio < 1.0, "{} {}", wide.threads, wide.ratio);
        let large = warm(MOST_WEIGHTS / 4);
        assert_eq!(large.layout, Layout { instances: 4, threads: 1 });
        assert!(large.wide.is_none(), "memory is not spent on it");
    }

    #[test]
    fn a_model_that_gives_no_numbers_is_found_out() {
        let subject = Subject {
            make: &|_| Ok(Box::new(Broken)),
            row: &Row::single(vec![1; 16]),
            reading: Reading::Rows,
            pad: 0,
            max_batch_tokens: 64,
            bytes: 1,
        };
        let error = warm_up(&subject, &layouts(2, 1, 1, 1), Duration::ZERO).err().unwrap().to_string();
        assert!(error.contains("not finite"), "{error}");
    }
}
