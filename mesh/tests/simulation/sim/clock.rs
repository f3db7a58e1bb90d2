//! The system's clocks, as a simulated process sees them.
//!
//! tokio's clock is turmoil's, but not all that is simulated asks tokio: h2 counts how long it remembers streams
//! that were reset by the standard library's clock, and what it forgets changes what is sent. Without this a seed
//! would not replay. The wall clock jumps about meanwhile, since nothing may be decided by it.

use std::{cell::Cell, time::Duration};

use super::random::Random;

/// How often the wall clock jumps.
const JUMP: Duration = Duration::from_secs(7);

#[derive(Clone, Copy)]
struct Times {
    monotonic: Duration,
    wall: Duration,
}

thread_local! {
    static TIMES: Cell<Option<Times>> = const { Cell::new(None) };
}

/// The clocks of a simulation in this thread, until dropped.
pub(crate) struct Clock {
    seed: u64,
}

impl Clock {
    pub(crate) fn start(seed: u64) -> Self {
        let clock = Self { seed };
        clock.set(Duration::ZERO);
        clock
    }

    /// Sets the time since the simulation began.
    pub(crate) fn set(&self, elapsed: Duration) {
        // Up to an hour early or late.
        let jumps = elapsed.as_secs() / JUMP.as_secs();
        let wrong = Random::new(self.seed, 1000 + jumps).time(Duration::ZERO, Duration::from_secs(7200));
        let monotonic = Duration::from_secs(1_000_000) + elapsed;
        let wall = Duration::from_secs(1_700_000_000) + elapsed + wrong;
        TIMES.set(Some(Times { monotonic, wall }));
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        TIMES.set(None);
    }
}

/// Takes the place of the C library's function, which the standard library calls, in this program.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "there is no other way to the clocks of the standard library")]
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, to: *mut libc::timespec) -> libc::c_int {
    let time = match (TIMES.try_with(Cell::get).ok().flatten(), clock) {
        (Some(times), libc::CLOCK_MONOTONIC) => times.monotonic,
        (Some(times), libc::CLOCK_REALTIME) => times.wall,
        _ => {
            // SAFETY: the caller's arguments are passed on as they are.
            return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, to) } as libc::c_int;
        }
    };
    let time = libc::timespec { tv_sec: time.as_secs() as libc::time_t, tv_nsec: time.subsec_nanos().into() };
    // SAFETY: by the contract of the function `to` points to a place for a time.
    unsafe { to.write(time) };
    0
}
