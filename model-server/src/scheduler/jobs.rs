//! The requests of one class in one model's queue.

use std::{
    collections::{BTreeSet, HashMap},
    iter::Sum,
    ops::{Add, AddAssign, SubAssign},
};

use tokio::time::Instant;

use super::job::Job;
use crate::backend::Row;

/// When a job is due, and its number: who goes first in its class.
type Key = (Instant, u64);

/// Rows, and their tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) rows: usize,
    pub(super) tokens: usize,
}

impl Load {
    /// The load of `rows`.
    pub(super) fn of(rows: &[Row]) -> Self {
        Self { rows: rows.len(), tokens: rows.iter().map(|row| row.ids.len()).sum() }
    }
}

impl Add for Load {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, tokens: self.tokens + other.tokens }
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, other: Self) {
        self.rows = self.rows.saturating_sub(other.rows);
        self.tokens = self.tokens.saturating_sub(other.tokens);
    }
}

impl Sum for Load {
    fn sum<I: Iterator<Item = Self>>(loads: I) -> Self {
        loads.fold(Self::default(), Add::add)
    }
}

/// The jobs of a class, by number; those with rows waiting also in the order in which they go.
#[derive(Default)]
pub(super) struct Jobs {
    all: HashMap<u64, Job>,
    order: BTreeSet<Key>,
    load: Load,
}

impl Jobs {
    pub(super) fn insert(&mut self, id: u64, job: Job) {
        self.load += job.load;
        self.order.insert((job.due, id));
        self.all.insert(id, job);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Job> {
        let job = self.all.remove(&id)?;
        self.order.remove(&(job.due, id));
        self.load -= job.load;
        Some(job)
    }

    pub(super) fn get(&mut self, id: u64) -> Option<&mut Job> {
        self.all.get_mut(&id)
    }

    /// All that has rows waiting, who goes first before the others.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (u64, &Job)> {
        self.order.iter().filter_map(|&(_, id)| Some((id, self.all.get(&id)?)))
    }

    /// The job that goes next.
    pub(super) fn lead(&self) -> Option<(u64, &Job)> {
        self.waiting().next()
    }

    /// Takes a waiting row out of a job, with its place in the request.
    pub(super) fn take(&mut self, id: u64, place: usize) -> Option<(usize, Row)> {
        let job = self.all.get_mut(&id)?;
        if place >= job.waiting.len() {
            return None;
        }
        let (index, row) = job.waiting.remove(place);
        let taken = Load { rows: 1, tokens: row.ids.len() };
        self.load -= taken;
        job.load -= taken;
        if job.waiting.is_empty() {
            self.order.remove(&(job.due, id));
        }
        Some((index, row))
    }

    /// Makes a job that has rows waiting due at another time.
    pub(super) fn postpone(&mut self, id: u64, due: Instant) {
        if let Some(job) = self.all.get_mut(&id)
            && self.order.remove(&(job.due, id))
        {
            job.due = due;
            self.order.insert((due, id));
        }
    }

    /// What waits.
    pub(super) fn load(&self) -> Load {
        self.load
    }

    /// What goes before a job that comes now and is due then.
    pub(super) fn ahead(&self, due: Instant) -> Load {
        let before = self.order.range(..=(due, u64::MAX));
        before.filter_map(|(_, id)| self.all.get(id)).map(|job| job.load).sum()
    }

    /// Takes out all that has rows waiting.
    pub(super) fn give_up(&mut self) -> Vec<Job> {
        self.load = Load::default();
        let order = std::mem::take(&mut self.order);
        order.into_iter().filter_map(|(_, id)| self.all.remove(&id)).collect()
    }
}
