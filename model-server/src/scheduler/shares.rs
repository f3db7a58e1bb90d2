//! Which class goes next.
//!
//! The highest one that waits, as a rule. But what a class waits while others compute earns it a share
//! of their time, and when that pays for its next batch, it goes first: so nobody starves, and a flood
//! of one class cannot shut out another. What is earned is lost when nothing waits any more.

use switchboard_mesh::Class;

/// The classes, the least urgent first, as they are numbered here.
pub(super) const CLASSES: [Class; 3] = [Class::Batch, Class::Chat, Class::Voice];

/// The number of a class.
pub(super) fn number(class: Class) -> usize {
    class as usize
}

/// What each class has earned.
#[derive(Debug)]
pub(super) struct Shares {
    /// Of the time of more urgent classes, the part that each class earns while it waits.
    rates: [f64; 3],
    /// Seconds.
    earned: [f64; 3],
}

impl Shares {
    /// `batch` and `chat` are what these classes are sure of, each in [0, 1].
    pub(super) fn new(batch: f64, chat: f64) -> Self {
        Self { rates: [batch, chat, 0.0], earned: [0.0; 3] }
    }

    /// The class that goes next, out of those that wait: for each the seconds of its next batch. `None`
    /// when none waits.
    pub(super) fn next(&self, waiting: [Option<f64>; 3]) -> Option<usize> {
        let first = (0..3).rev().find(|&class| waiting[class].is_some())?;
        let due = |class: &usize| {
            let cost = waiting[*class];
            self.rates[*class] > 0.0 && cost.is_some_and(|cost| self.earned[*class] >= cost.max(1e-9))
        };
        Some((0..first).rev().find(due).unwrap_or(first))
    }

    /// Takes in that a batch of `class` begins which should take so long, and which classes wait. Returns
    /// what the class pays for it: now, so that no second batch is begun on the same earnings; nothing
    /// where nobody more urgent waits. A batch may cost more than its class has earned; the class pays
    /// that off before it goes first again.
    pub(super) fn begin(&mut self, class: usize, seconds: f64, waiting: [bool; 3]) -> Option<f64> {
        let paid = waiting[class + 1..].contains(&true).then_some(seconds);
        self.earned[class] -= paid.unwrap_or_default();
        paid
    }

    /// Takes in how long it took, and which classes wait now.
    pub(super) fn end(&mut self, class: usize, paid: Option<f64>, seconds: f64, waiting: [bool; 3]) {
        self.earned[class] -= paid.map_or(0.0, |paid| seconds - paid);
        for (other, waits) in waiting.into_iter().enumerate() {
            if !waits {
                self.earned[other] = self.earned[other].min(0.0);
            } else if other < class {
                self.earned[other] += self.rates[other] * seconds;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Option<f64> = Some(0.01);

    /// How often each class goes when all of `waiting` wait all the time.
    fn turns(mut shares: Shares, waiting: [Option<f64>; 3]) -> [usize; 3] {
        let mut turns = [0; 3];
        for _ in 0..1000 {
            let class = shares.next(waiting).unwrap();
            turns[class] += 1;
            let waits = waiting.map(|cost| cost.is_some());
            let paid = shares.begin(class, 0.01, waits);
            shares.end(class, paid, 0.01, waits);
        }
        turns
    }

    #[test]
    fn the_numbers_are_in_order_of_urgency() {
        assert_eq!(CLASSES.map(number), [0, 1, 2]);
        assert!(CLASSES.is_sorted());
    }

    #[test]
    fn the_most_urgent_goes_first_and_nobody_starves() {
        let [batch, chat, voice] = turns(Shares::new(0.05, 0.2), [COST; 3]);
        assert!((130..=220).contains(&chat) && (30..=60).contains(&batch), "{batch} {chat}");
        assert!(voice > 700, "{voice}");
        let [batch, chat, _] = turns(Shares::new(0.05, 0.2), [COST, COST, None]);
        assert!((40..=50).contains(&batch) && chat >= 950, "{batch} {chat}");
    }

    #[test]
    fn a_batch_that_costs_more_than_a_row_is_paid_off() {
        let mut shares = Shares::new(0.1, 0.2);
        let (mut batch, mut chat) = (0.0, 0.0);
        for _ in 0..1000 {
            let class = shares.next([COST, COST, None]).unwrap();
            let seconds = if class == 0 { 0.09 } else { 0.01 };
            *(if class == 0 { &mut batch } else { &mut chat }) += seconds;
            // It is thought that all take as long.
            let paid = shares.begin(class, 0.01, [true, true, false]);
            shares.end(class, paid, seconds, [true, true, false]);
        }
        assert!((0.08..0.12).contains(&(batch / chat)), "{batch} {chat}");
    }

    #[test]
    fn nobody_has_more_than_a_share_on_many_cores_either() {
        // Sixteen batches at a time, each of which ends when the sixteenth after it begins.
        let mut shares = Shares::new(0.05, 0.2);
        let mut running = std::collections::VecDeque::new();
        let mut turns = [0; 3];
        for _ in 0..4000 {
            if running.len() == 16 {
                // It took twice as long as was thought.
                let (class, paid) = running.pop_front().unwrap();
                shares.end(class, paid, 0.02, [true, false, true]);
            }
            let class = shares.next([COST, None, COST]).unwrap();
            turns[class] += 1;
            running.push_back((class, shares.begin(class, 0.01, [true, false, true])));
        }
        assert!((150..=250).contains(&turns[0]), "{turns:?}");
    }

    #[test]
    fn a_class_without_a_share_waits_for_all_others() {
        assert_eq!(turns(Shares::new(0.0, 0.2), [COST, COST, None])[0], 0);
        assert_eq!(turns(Shares::new(0.0, 0.2), [COST, None, None])[0], 1000);
    }

    #[test]
    fn nothing_is_earned_without_waiting() {
        let mut shares = Shares::new(0.5, 0.5);
        shares.end(2, None, 100.0, [true, false, false]);
        assert_eq!(shares.next([COST, None, COST]), Some(0));
        shares.end(2, None, 1.0, [false; 3]);
        assert_eq!(shares.next([COST, None, COST]), Some(2));
        assert_eq!(shares.next([None; 3]), None);
    }
}
