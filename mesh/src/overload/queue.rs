//! Who waits, and who goes next: the highest class first, within a class the tenant that has fewest calls
//! under way, and among those each in turn.
//!
//! The first rule is for calls that take long: a tenant that came early and holds every place gives them up
//! one by one, as its calls end, until the others hold as many. The second is start-time fair queueing with
//! equal weights: a call's turn comes one unit of virtual time after that of the tenant's call before it,
//! and never earlier than now. A tenant that sends a thousand calls has turns far in the future, and
//! whoever sends one goes next.
//!
//! # Source
//! Goyal, Vin and Cheng 1997, "Start-time fair queueing".

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry};

use crate::{Class, Tenant};

/// The classes, by their number.
pub(super) const CLASSES: [Class; 3] = [Class::Batch, Class::Chat, Class::Voice];

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    class: Class,
    turn: u64,
    number: u64,
}

impl Ticket {
    pub(super) fn class(self) -> Class {
        self.class
    }
}

/// Waiting calls, at most so many.
pub(super) struct Queue<T> {
    lines: [Line<T>; 3],
    /// Calls under way, of all classes; tenants without any are absent.
    under_way: HashMap<Option<Tenant>, u32>,
    most: usize,
    next: u64,
}

/// The calls of one class.
struct Line<T> {
    waiting: BTreeMap<Ticket, Waiting<T>>,
    tenants: HashMap<Option<Tenant>, Share>,
    /// The turn that was called last.
    now: u64,
}

struct Waiting<T> {
    tenant: Option<Tenant>,
    item: T,
}

struct Share {
    /// The turn of the tenant's next call.
    next: u64,
    waiting: BTreeSet<Ticket>,
}

impl<T> Queue<T> {
    pub(super) fn new(most: u32) -> Self {
        let lines =
            std::array::from_fn(|_| Line { waiting: BTreeMap::new(), tenants: HashMap::new(), now: 0 });
        Self { lines, under_way: HashMap::new(), most: most as usize, next: 0 }
    }

    /// Adds a call at its turn. In a full queue it takes the place of one of a lower class, or of one of
    /// its own class whose tenant has at least two more waiting; that one is returned.
    ///
    /// # Errors
    /// The item, when the queue is full of calls that are as good.
    pub(super) fn push(
        &mut self,
        class: Class,
        tenant: Option<&Tenant>,
        item: T,
    ) -> Result<(Ticket, Option<(Class, T)>), T> {
        let mut out = None;
        if self.len() >= self.most {
            let Some(lowest) = CLASSES.into_iter().find(|class| self.waiting(*class) > 0) else {
                return Err(item);
            };
            let fewer = match lowest.cmp(&class) {
                std::cmp::Ordering::Less => 0,
                std::cmp::Ordering::Equal => self.line(class).waiting_of(tenant) + 2,
                std::cmp::Ordering::Greater => return Err(item),
            };
            match self.line(lowest).push_out(fewer) {
                Some(pushed_out) => out = Some((lowest, pushed_out)),
                None => return Err(item),
            }
        }
        self.next += 1;
        let (number, most) = (self.next, self.most);
        let line = self.line(class);
        // Those who have none waiting only lose what they had too much of.
        if line.tenants.len() > 2 * most {
            line.tenants.retain(|_, share| !share.waiting.is_empty());
        }
        let now = line.now;
        let share =
            line.tenants.entry(tenant.cloned()).or_insert(Share { next: now, waiting: BTreeSet::new() });
        let turn = share.next.max(now);
        share.next = turn + 1;
        let ticket = Ticket { class, turn, number };
        share.waiting.insert(ticket);
        line.waiting.insert(ticket, Waiting { tenant: tenant.cloned(), item });
        Ok((ticket, out))
    }

    /// Takes out whose turn it is among the classes that `may` allows, and its tenant.
    pub(super) fn pop(&mut self, may: impl Fn(Class) -> bool) -> Option<(Class, Option<Tenant>, T)> {
        let class = CLASSES.into_iter().rev().find(|class| self.waiting(*class) > 0 && may(*class))?;
        let under_way = &self.under_way;
        let line = &mut self.lines[class as usize];
        let firsts = line.tenants.iter().filter_map(|(tenant, share)| {
            Some((under_way.get(tenant).copied().unwrap_or_default(), *share.waiting.first()?))
        });
        let (_, ticket) = firsts.min()?;
        let waiting = line.waiting.remove(&ticket)?;
        line.now = line.now.max(ticket.turn);
        line.left(&waiting.tenant, ticket);
        Some((class, waiting.tenant, waiting.item))
    }

    /// Notes that a call of `tenant` is under way.
    pub(super) fn began(&mut self, tenant: Option<&Tenant>) {
        *self.under_way.entry(tenant.cloned()).or_default() += 1;
    }

    /// Notes that a call of `tenant` which was under way has ended.
    pub(super) fn ended(&mut self, tenant: Option<Tenant>) {
        if let Entry::Occupied(mut calls) = self.under_way.entry(tenant) {
            *calls.get_mut() -= 1;
            if *calls.get() == 0 {
                calls.remove();
            }
        }
    }

    /// Takes out a call that does not wait any longer; none when it is out already.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        self.line(ticket.class).remove(ticket)
    }

    /// Calls of `class` that wait.
    pub(super) fn waiting(&self, class: Class) -> usize {
        self.lines[class as usize].waiting.len()
    }

    /// All calls that wait.
    pub(super) fn len(&self) -> usize {
        self.lines.iter().map(|line| line.waiting.len()).sum()
    }

    fn line(&mut self, class: Class) -> &mut Line<T> {
        &mut self.lines[class as usize]
    }
}

impl<T> Line<T> {
    fn waiting_of(&self, tenant: Option<&Tenant>) -> usize {
        self.tenants.get(&tenant.cloned()).map_or(0, |share| share.waiting.len())
    }

    /// Takes out the last call of the tenant that has most, if it has `at_least` so many.
    fn push_out(&mut self, at_least: usize) -> Option<T> {
        let most = self.waiting.values().map(|waiting| &waiting.tenant).max_by_key(|tenant| {
            let share = self.tenants.get(tenant);
            share.map_or(0, |share| share.waiting.len())
        })?;
        if self.waiting_of(most.as_ref()) < at_least {
            return None;
        }
        let (last, _) = self.waiting.iter().rev().find(|(_, waiting)| waiting.tenant == *most)?;
        self.remove(*last)
    }

    fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let waiting = self.waiting.remove(&ticket)?;
        if let Some(share) = self.tenants.get_mut(&waiting.tenant)
            && share.next == ticket.turn + 1
        {
            // Nobody had this turn.
            share.next = ticket.turn;
        }
        self.left(&waiting.tenant, ticket);
        Some(waiting.item)
    }

    fn left(&mut self, tenant: &Option<Tenant>, ticket: Ticket) {
        if let Some(share) = self.tenants.get_mut(tenant) {
            share.waiting.remove(&ticket);
        }
        if self.waiting.is_empty() {
            self.tenants.clear();
            self.now = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::try_new(name).unwrap()
    }

    fn all(queue: &mut Queue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop(|_| true).map(|(.., item)| item)).collect()
    }

    #[test]
    fn the_highest_class_goes_first() {
        let mut queue = Queue::new(10);
        let acme = tenant("acme");
        for (class, item) in
            [(Class::Batch, "batch"), (Class::Chat, "chat"), (Class::Voice, "voice"), (Class::Chat, "chat 2")]
        {
            queue.push(class, Some(&acme), item).unwrap();
        }
        assert_eq!(all(&mut queue), ["voice", "chat", "chat 2", "batch"]);
    }

    #[test]
    fn tenants_take_turns() {
        let (acme, beta) = (tenant("acme"), tenant("beta"));
        let mut queue = Queue::new(10);
        for item in ["a1", "a2", "a3"] {
            queue.push(Class::Chat, Some(&acme), item).unwrap();
        }
        assert_eq!(queue.pop(|_| true).unwrap().2, "a1");
        for item in ["b1", "b2"] {
            queue.push(Class::Chat, Some(&beta), item).unwrap();
        }
        assert_eq!(all(&mut queue), ["b1", "a2", "b2", "a3"]);
    }

    #[test]
    fn a_full_queue_puts_out_the_lowest_class() {
        let acme = tenant("acme");
        let mut queue = Queue::new(2);
        queue.push(Class::Batch, Some(&acme), "batch 1").unwrap();
        queue.push(Class::Batch, Some(&acme), "batch 2").unwrap();
        assert_eq!(queue.push(Class::Batch, Some(&acme), "batch 3").unwrap_err(), "batch 3");
        assert_eq!(queue.push(Class::Chat, Some(&acme), "chat").unwrap().1, Some((Class::Batch, "batch 2")));
        assert_eq!(queue.push(Class::Voice, Some(&acme), "v").unwrap().1, Some((Class::Batch, "batch 1")));
        assert_eq!(queue.push(Class::Batch, Some(&acme), "batch 4").unwrap_err(), "batch 4");
        assert_eq!(all(&mut queue), ["v", "chat"]);
    }

    #[test]
    fn one_tenant_cannot_keep_a_full_queue_from_another() {
        let (acme, beta) = (tenant("acme"), tenant("beta"));
        let mut queue = Queue::new(3);
        for item in ["a1", "a2", "a3"] {
            queue.push(Class::Chat, Some(&acme), item).unwrap();
        }
        assert_eq!(queue.push(Class::Chat, Some(&beta), "b1").unwrap().1, Some((Class::Chat, "a3")));
        assert!(queue.push(Class::Chat, Some(&beta), "b2").is_err(), "two against one is no better");
        assert_eq!(all(&mut queue), ["a1", "b1", "a2"]);
    }

    #[test]
    fn who_holds_less_goes_first() {
        let (acme, beta) = (tenant("acme"), tenant("beta"));
        let mut queue = Queue::new(10);
        for _ in 0..4 {
            queue.began(Some(&acme));
        }
        for (tenant, item) in [(&acme, "a1"), (&acme, "a2"), (&beta, "b1"), (&beta, "b2"), (&beta, "b3")] {
            queue.push(Class::Chat, Some(tenant), item).unwrap();
        }
        // Each that ends is one of acme's, and each that goes is under way from then on.
        let mut gone = Vec::new();
        for _ in 0..3 {
            queue.ended(Some(acme.clone()));
            let (_, tenant, item) = queue.pop(|_| true).unwrap();
            queue.began(tenant.as_ref());
            gone.push(item);
        }
        assert_eq!(gone, ["b1", "b2", "a1"], "beta until it has as many, which takes two");
        for ended in [&acme, &acme, &beta, &beta] {
            queue.ended(Some(ended.clone()));
        }
        assert!(queue.under_way.is_empty());
    }

    #[test]
    fn without_places_nobody_waits() {
        assert!(Queue::new(0).push(Class::Voice, None, ()).is_err());
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_loses_nobody(
            steps in prop::collection::vec((0_usize..3, 0_u8..6, 0_u8..5), 1..300),
            most in 0_u32..12,
        ) {
            let mut queue = Queue::new(most);
            let mut inside: HashMap<usize, Ticket> = HashMap::new();
            for (number, (class, name, action)) in steps.into_iter().enumerate() {
                match action {
                    0 => {
                        let popped = queue.pop(|_| true).map(|(.., item)| item);
                        prop_assert_eq!(popped.is_none(), inside.is_empty());
                        if let Some(item) = popped {
                            let highest = inside.values().map(|ticket| ticket.class).max();
                            prop_assert_eq!(inside.remove(&item).map(|ticket| ticket.class), highest);
                        }
                    }
                    1 => if let Some((&item, &ticket)) = inside.iter().next() {
                        prop_assert_eq!(queue.remove(ticket), Some(item));
                        prop_assert_eq!(queue.remove(ticket), None);
                        inside.remove(&item);
                    },
                    _ => if let Ok((ticket, out)) =
                        queue.push(CLASSES[class], Some(&tenant(&format!("t{name}"))), number)
                    {
                        if let Some((lower, out)) = out {
                            prop_assert!(lower <= CLASSES[class]);
                            prop_assert!(inside.remove(&out).is_some());
                        }
                        inside.insert(number, ticket);
                    },
                }
                prop_assert_eq!(queue.len(), inside.len());
                prop_assert!(queue.len() <= most as usize);
                let tenants: usize = queue.lines.iter().map(|line| line.tenants.len()).sum();
                prop_assert!(tenants <= 3 * (2 * most as usize + 1));
            }
        }

        #[test]
        fn while_tenants_wait_none_gets_ahead_by_more_than_one(
            first in 1_usize..40, second in 1_usize..40, third in 1_usize..40,
        ) {
            let mut queue = Queue::new(200);
            let mut left = HashMap::from([("a", first), ("b", second), ("c", third)]);
            for (name, count) in &left {
                for _ in 0..*count {
                    queue.push(Class::Chat, Some(&tenant(name)), *name).unwrap();
                }
            }
            let mut served: HashMap<&str, usize> = HashMap::new();
            while let Some((.., name)) = queue.pop(|_| true) {
                *served.entry(name).or_default() += 1;
                *left.get_mut(name).unwrap() -= 1;
                let waiting: Vec<usize> = left
                    .iter()
                    .filter(|(_, left)| **left > 0)
                    .map(|(name, _)| served.get(name).copied().unwrap_or_default())
                    .collect();
                if let (Some(least), Some(most)) = (waiting.iter().min(), waiting.iter().max()) {
                    prop_assert!(most - least <= 1, "{served:?}");
                }
            }
        }
    }
}
