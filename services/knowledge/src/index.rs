//! Vectors in memory: one long row-major table, searched exactly while it is small and through a
//! nearest-neighbour graph once it is not.
//!
//! A [`Matrix`] holds rows that each belong to an owner (a passage); a search gives the best row of
//! each owner. Rows beyond the exact limit enter the graph little by little
//! ([`Matrix::index_some`]); until they have, they are compared one by one, so that results are
//! complete at once and neither start nor ingest waits for the graph.

use std::collections::{HashMap, VecDeque};

use crate::graph::Graph;

/// Marks a row that belongs to nobody.
const FREE: u32 = u32::MAX;

/// Rows that the graph may return for each owner wanted: several rows can have the same owner.
const ROWS_PER_OWNER: usize = 4;

/// Vectors of one length, each with an owner.
pub(crate) struct Matrix {
    dimension: usize,
    data: Vec<f32>,
    owners: Vec<u32>,
    free: Vec<u32>,
    exact_limit: usize,
    graph: Option<Graph>,
    /// Rows that are not in the graph yet; some may have been freed since.
    waiting: VecDeque<u32>,
    in_graph: Vec<bool>,
}

impl Matrix {
    /// An empty table of vectors of length `dimension`.
    pub(crate) fn new(dimension: usize, exact_limit: usize) -> Self {
        Self {
            dimension,
            data: Vec::new(),
            owners: Vec::new(),
            free: Vec::new(),
            exact_limit,
            graph: None,
            waiting: VecDeque::new(),
            in_graph: Vec::new(),
        }
    }

    /// Adds a vector and returns its row.
    pub(crate) fn insert(&mut self, owner: u32, vector: &[f32]) -> u32 {
        debug_assert_eq!(vector.len(), self.dimension);
        let row = match self.free.pop() {
            Some(row) => {
                let at = row as usize * self.dimension;
                self.data[at..at + self.dimension].copy_from_slice(vector);
                self.owners[row as usize] = owner;
                row
            }
            None => {
                self.data.extend_from_slice(vector);
                self.owners.push(owner);
                self.in_graph.push(false);
                (self.owners.len() - 1) as u32
            }
        };
        if self.graph.is_some() {
            self.waiting.push_back(row);
        }
        row
    }

    /// Frees a row.
    pub(crate) fn remove(&mut self, row: u32) {
        self.owners[row as usize] = FREE;
        if self.in_graph[row as usize]
            && let Some(graph) = &self.graph
        {
            self.in_graph[row as usize] = false;
            if let Err(error) = graph.remove(u64::from(row)) {
                // The row's owner is gone, so a search drops it; its number must not be used again.
                tracing::warn!(%error, "a row could not be taken out of the vector graph");
                return;
            }
        }
        self.free.push(row);
    }

    /// The vector of a row.
    pub(crate) fn row(&self, row: u32) -> &[f32] {
        let at = row as usize * self.dimension;
        &self.data[at..at + self.dimension]
    }

    /// The length of the vectors.
    pub(crate) fn dimension(&self) -> usize {
        self.dimension
    }

    /// Vectors held.
    pub(crate) fn len(&self) -> usize {
        self.owners.len() - self.free.len()
    }

    /// Whether [`Self::index_some`] has something to do.
    pub(crate) fn wants_index(&self) -> bool {
        self.len() > self.exact_limit && (self.graph.is_none() || !self.waiting.is_empty())
    }

    /// Moves at most `rows` waiting rows into the graph, which is made when the table has outgrown
    /// the exact limit. Says whether more are waiting.
    pub(crate) fn index_some(&mut self, rows: usize) -> bool {
        if self.len() <= self.exact_limit {
            return false;
        }
        if self.graph.is_none() {
            match Graph::try_new(self.dimension) {
                Ok(graph) => self.graph = Some(graph),
                Err(error) => {
                    tracing::warn!(%error, "the vector graph cannot be made; search stays exact");
                    self.exact_limit = usize::MAX;
                    return false;
                }
            }
            self.waiting = (0..self.owners.len() as u32).collect();
        }
        let Some(graph) = &self.graph else { return false };
        if let Err(error) = graph.make_room(rows) {
            tracing::warn!(%error, "the vector graph cannot grow; search is exact for what it lacks");
            return false;
        }
        for _ in 0..rows {
            let Some(row) = self.waiting.pop_front() else { break };
            let at = row as usize;
            if self.owners[at] == FREE || self.in_graph[at] {
                continue;
            }
            let vector = &self.data[at * self.dimension..(at + 1) * self.dimension];
            if let Err(error) = graph.add(u64::from(row), vector) {
                tracing::warn!(%error, "a row could not enter the vector graph");
                self.waiting.push_back(row);
                return false;
            }
            self.in_graph[at] = true;
        }
        !self.waiting.is_empty()
    }

    /// The `count` owners nearest to `query` by dot product among those that `allowed` lets pass,
    /// best first, each with the score of its best row.
    pub(crate) fn search(
        &self,
        query: &[f32],
        count: usize,
        allowed: impl Fn(u32) -> bool,
    ) -> Vec<(u32, f32)> {
        let mut best: HashMap<u32, f32> = HashMap::new();
        let mut offer = |owner: u32, score: f32| {
            let held = best.entry(owner).or_insert(f32::MIN);
            *held = held.max(score);
        };
        let found = self.graph.as_ref().and_then(|graph| {
            let passes = |row: u64| {
                let owner = self.owners[row as usize];
                owner != FREE && allowed(owner)
            };
            graph
                .nearest(query, count.saturating_mul(ROWS_PER_OWNER), passes)
                .inspect_err(|error| tracing::warn!(%error, "the vector graph failed; this search is exact"))
                .ok()
        });
        match found {
            Some(matches) => {
                let near = matches.into_iter().map(|row| row as u32);
                let new = self.waiting.iter().copied().filter(|&row| !self.in_graph[row as usize]);
                for row in near.chain(new) {
                    let owner = self.owners[row as usize];
                    if owner != FREE && allowed(owner) {
                        offer(owner, dot(query, self.row(row)));
                    }
                }
            }
            None => {
                for (&owner, vector) in self.owners.iter().zip(self.data.chunks_exact(self.dimension)) {
                    if owner != FREE && allowed(owner) {
                        offer(owner, dot(query, vector));
                    }
                }
            }
        }
        let mut ranked: Vec<_> = best.into_iter().collect();
        ranked.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.truncate(count);
        ranked
    }
}

/// The dot product. Eight running sums let the compiler use vector registers, which one sum, added
/// up in order, would forbid.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = left.remainder().iter().zip(right.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in left.zip(right) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of length 1 that differ from each other, from a small generator.
    #[cfg(feature = "usearch")]
    fn vectors(count: usize, dimension: usize) -> Vec<Vec<f32>> {
        let mut state = 7_u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..count)
            .map(|_| {
                let vector: Vec<f32> = (0..dimension).map(|_| next()).collect();
                let length = dot(&vector, &vector).sqrt();
                vector.into_iter().map(|x| x / length).collect()
            })
            .collect()
    }

    #[test]
    fn the_best_row_counts_for_its_owner() {
        let mut matrix = Matrix::new(2, 100);
        matrix.insert(1, &[1.0, 0.0]);
        matrix.insert(2, &[0.6, 0.8]);
        matrix.insert(1, &[0.0, 1.0]);
        let found = matrix.search(&[0.0, 1.0], 5, |_| true);
        assert_eq!(found, [(1, 1.0), (2, 0.8)]);
        assert_eq!(matrix.search(&[0.0, 1.0], 5, |owner| owner == 2), [(2, 0.8)]);
    }

    #[test]
    fn a_removed_row_is_not_found_and_its_place_is_used_again() {
        let mut matrix = Matrix::new(2, 100);
        let row = matrix.insert(1, &[1.0, 0.0]);
        matrix.remove(row);
        assert!(matrix.search(&[1.0, 0.0], 5, |_| true).is_empty());
        assert_eq!(matrix.insert(2, &[0.0, 1.0]), row);
        assert_eq!(matrix.len(), 1);
    }

    #[cfg(feature = "usearch")]
    #[test]
    fn the_graph_finds_what_an_exact_search_finds() {
        let vectors = vectors(600, 32);
        let (mut exact, mut near) = (Matrix::new(32, usize::MAX), Matrix::new(32, 100));
        for (owner, vector) in vectors.iter().enumerate() {
            exact.insert(owner as u32, vector);
            near.insert(owner as u32, vector);
        }
        // Half of the rows are still waiting: results must be complete meanwhile.
        near.index_some(300);
        for round in 0..2 {
            let mut same = 0;
            for query in vectors.iter().step_by(12) {
                let truth = exact.search(query, 10, |owner| owner % 2 == 0);
                let found = near.search(query, 10, |owner| owner % 2 == 0);
                same += truth.iter().filter(|hit| found.iter().any(|other| other.0 == hit.0)).count();
                assert!(found.iter().all(|hit| hit.0 % 2 == 0));
            }
            assert!(same >= 475, "recall of 10 is {same} of 500 in round {round}");
            while near.index_some(64) {}
        }
    }

    #[cfg(feature = "usearch")]
    #[test]
    fn rows_leave_the_graph_too() {
        let vectors = vectors(200, 16);
        let mut matrix = Matrix::new(16, 10);
        let rows: Vec<u32> = vectors.iter().enumerate().map(|(i, v)| matrix.insert(i as u32, v)).collect();
        while matrix.index_some(64) {}
        matrix.remove(rows[5]);
        assert!(matrix.search(&vectors[5], 20, |_| true).iter().all(|hit| hit.0 != 5));
        matrix.insert(900, &vectors[5]);
        assert_eq!(matrix.search(&vectors[5], 1, |_| true)[0].0, 900);
        while matrix.index_some(64) {}
        assert_eq!(matrix.search(&vectors[5], 1, |_| true)[0].0, 900);
    }
}
