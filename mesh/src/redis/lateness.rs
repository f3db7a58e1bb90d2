//! Whether a server that is connected still answers.

use std::time::Duration;

use tokio::time::Instant;

/// A server is away when so many more calls were late than were answered, and the first of them so long ago:
/// what is shorter is a pause, as it makes when it writes its memory to a disk.
const AWAY: (u32, Duration) = (3, Duration::from_millis(100));

/// Late calls, from each of which an answer takes one away.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lateness {
    calls: u32,
    since: Option<Instant>,
}

impl Lateness {
    /// A call got no answer in its time. `true` when the server is away by it.
    pub(super) fn late(&mut self, now: Instant) -> bool {
        // Many at once that were late in one pause weigh no more than these.
        self.calls = (self.calls + 1).min(AWAY.0);
        let since = *self.since.get_or_insert(now);
        self.calls >= AWAY.0 && now.saturating_duration_since(since) >= AWAY.1
    }

    /// A call was answered in time.
    pub(super) fn answered(&mut self) {
        self.calls = self.calls.saturating_sub(1);
        if self.calls == 0 {
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls, 30 ms from each other, until the server is away; none when it is not by the last.
    fn away_after(late: impl Fn(u32) -> bool) -> Option<u32> {
        let (mut lateness, begin) = (Lateness::default(), Instant::now());
        (1..=1000).find(|call| match late(*call) {
            true => lateness.late(begin + Duration::from_millis(30) * *call),
            false => {
                lateness.answered();
                false
            }
        })
    }

    #[test]
    fn a_server_that_does_not_answer_or_mostly_does_not_is_away() {
        assert_eq!(away_after(|_| true), Some(5), "after the time that a pause takes");
        assert!(away_after(|call| call % 3 != 0).is_some_and(|calls| calls < 20));
    }

    #[test]
    fn a_server_that_is_late_now_and_then_is_not_away() {
        assert_eq!(away_after(|_| false), None);
        assert_eq!(away_after(|call| call % 2 == 0), None);
        assert_eq!(away_after(|call| call % 5 < 2), None);
    }

    #[test]
    fn what_was_late_in_a_pause_is_forgotten_soon_after_it() {
        let (mut lateness, begin) = (Lateness::default(), Instant::now());
        for _ in 0..100 {
            assert!(!lateness.late(begin));
        }
        for _ in 0..AWAY.0 {
            lateness.answered();
        }
        assert!(!lateness.late(begin + AWAY.1 * 2));
    }
}
