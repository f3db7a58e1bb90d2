//! The nearest-neighbour graph over vectors, by `usearch`.
//!
//! usearch is C++, so it is behind a feature of its name, which the developer commands turn on. A
//! build without it says so once and compares every vector, however many there are.

/// What went wrong, in usearch's words.
pub(crate) type Failure = String;

#[cfg(feature = "usearch")]
mod built {
    use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

    use super::Failure;

    /// Threads that may use the graph at once: one more than `knowledge.searches` may be.
    const THREADS: usize = 257;

    /// A graph over numbered vectors, compared by dot product.
    pub(crate) struct Graph(Index);

    impl Graph {
        pub(crate) fn try_new(dimensions: usize) -> Result<Self, Failure> {
            let options = IndexOptions {
                dimensions,
                metric: MetricKind::IP,
                // Half precision halves the memory; hits are scored again from the table.
                quantization: ScalarKind::F16,
                ..IndexOptions::default()
            };
            Index::new(&options).map(Self).map_err(|error| error.to_string())
        }

        /// Makes room for `more` vectors.
        pub(crate) fn make_room(&self, more: usize) -> Result<(), Failure> {
            let needed = self.0.size() + more;
            if needed <= self.0.capacity() {
                return Ok(());
            }
            let capacity = needed.next_power_of_two().max(1024);
            self.0.reserve_capacity_and_threads(capacity, THREADS).map_err(|error| error.to_string())
        }

        pub(crate) fn add(&self, row: u64, vector: &[f32]) -> Result<(), Failure> {
            self.0.add(row, vector).map_err(|error| error.to_string())
        }

        pub(crate) fn remove(&self, row: u64) -> Result<(), Failure> {
            self.0.remove(row).map(drop).map_err(|error| error.to_string())
        }

        /// About the `count` nearest rows of those that pass.
        pub(crate) fn nearest(
            &self,
            query: &[f32],
            count: usize,
            passes: impl Fn(u64) -> bool,
        ) -> Result<Vec<u64>, Failure> {
            let found = self.0.filtered_search(query, count, passes);
            found.map(|matches| matches.keys).map_err(|error| error.to_string())
        }
    }
}

#[cfg(not(feature = "usearch"))]
mod built {
    use super::Failure;

    /// No graph: there is none in this build.
    pub(crate) enum Graph {}

    impl Graph {
        pub(crate) fn try_new(_: usize) -> Result<Self, Failure> {
            Err("this build is without the feature `usearch`".to_owned())
        }

        pub(crate) fn make_room(&self, _: usize) -> Result<(), Failure> {
            match *self {}
        }

        pub(crate) fn add(&self, _: u64, _: &[f32]) -> Result<(), Failure> {
            match *self {}
        }

        pub(crate) fn remove(&self, _: u64) -> Result<(), Failure> {
            match *self {}
        }

        pub(crate) fn nearest(
            &self,
            _: &[f32],
            _: usize,
            _: impl Fn(u64) -> bool,
        ) -> Result<Vec<u64>, Failure> {
            match *self {}
        }
    }
}

pub(crate) use built::Graph;
