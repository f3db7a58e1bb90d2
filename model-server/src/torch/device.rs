//! What all that Torch runs has in common: a device, threads, and how its errors read.

use tch::{Cuda, Device, Kind, NoGradGuard, TchError};

use crate::{
    Provider,
    backend::BackendError,
    placement::{Placement, Precision},
};

/// Characters of an engine's words that are kept: it adds the stack, and may quote all of a script.
const LONGEST: usize = 600;

/// Where a model is computed, and by how many threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) device: Device,
    threads: i32,
}

impl Place {
    /// The place that is configured.
    ///
    /// # Errors
    /// When there is no such device.
    pub(super) fn try_new(placement: Placement, threads: usize) -> Result<Self, String> {
        let gpu = placement.gpu;
        let device = match placement.provider {
            Provider::Cpu => Device::Cpu,
            Provider::Cuda | Provider::TensorRt if !Cuda::is_available() => {
                return Err("inference.provider asks for a GPU, and Torch finds none here: either there is \
                            none, or the program was built with a libtorch for CPUs"
                    .into());
            }
            Provider::Cuda | Provider::TensorRt if i64::from(gpu) >= Cuda::device_count() => {
                return Err(format!("inference.gpu = {gpu}; there are {} GPUs", Cuda::device_count()));
            }
            Provider::Cuda | Provider::TensorRt => Device::Cuda(gpu as usize),
        };
        Ok(Self { device, threads: i32::try_from(threads.max(1)).unwrap_or(i32::MAX) })
    }

    /// The type of numbers to compute with.
    pub(super) fn kind(self, precision: Option<Precision>) -> Kind {
        match precision {
            Some(Precision::Float32) => Kind::Float,
            Some(Precision::Bfloat16) => Kind::BFloat16,
            None if self.device.is_cuda() => Kind::BFloat16,
            None => Kind::Float,
        }
    }

    /// Readies this thread for computing, until what is returned is dropped.
    pub(super) fn enter(self) -> NoGradGuard {
        // OpenMP keeps the number for each thread that begins work. Asked for first: that is when a thread
        // that is new to Torch takes the number which another one set last.
        if tch::get_num_threads() != self.threads {
            tch::set_num_threads(self.threads);
        }
        // Otherwise a script is compiled anew for the shapes that it sees, and batches have all shapes.
        tch::jit::set_graph_executor_optimize(false);
        tch::no_grad_guard()
    }
}

/// An error of the engine.
#[expect(clippy::needless_pass_by_value, reason = "fits `map_err`")]
pub(super) fn failed(error: TchError) -> BackendError {
    let all = error.to_string();
    // There is no code for it: these are its allocators' words, on CPU and on CUDA.
    let memory = ["can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc"];
    match memory.iter().any(|sign| all.contains(sign)) {
        true => BackendError::OutOfMemory(words(&all)),
        false => BackendError::Failed(words(&all)),
    }
}

/// What an error says, in one line, without stacks.
pub(super) fn words(error: &str) -> String {
    let error = error.strip_prefix("Internal torch error: ").unwrap_or(error);
    let error = error.split("\nException raised from").next().unwrap_or(error);
    // A script's own stack comes first.
    let error = error.rsplit_once("RuntimeError: ").map_or(error, |(_, cause)| cause);
    let line = error.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_in_one_line_without_stacks() {
        let raw = "Internal torch error: The following operation failed in the TorchScript interpreter.\n\
                   Traceback of TorchScript, serialized code (most recent call last):\n  File \"code\", line 3\n\
                   RuntimeError: The size of tensor a (2)\nmust match\nException raised from f at g.cpp:1\nframe #0";
        assert_eq!(words(raw), "The size of tensor a (2) must match");
        assert_eq!(words(&"é".repeat(601)), format!("{}...", "é".repeat(600)));
    }

    #[test]
    fn what_asks_for_too_much_memory_is_told_from_what_fails() {
        let failure = |text: &str| failed(TchError::Torch(text.into()));
        for text in [
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
            "CUDA out of memory. Tried to allocate 2.00 GiB",
            "std::bad_alloc",
        ] {
            assert!(matches!(failure(text), BackendError::OutOfMemory(_)), "{text}");
        }
        assert!(matches!(failure("mat1 and mat2 shapes cannot be multiplied"), BackendError::Failed(_)));
    }
}
