//! A Merkle tree over the hashes of a tenant's records, as RFC 6962 has it.
//!
//! A [`Frontier`] is all that a growing tree needs: the roots of its complete subtrees, from the largest on.
//! [`Prover`] makes the audit path of one leaf, and [`verify`] checks one, which needs no tree.
//!
//! # Source
//! RFC 6962, sections 2.1 and 2.1.1; the check is RFC 9162, section 2.1.3.2.

use crate::chain::{Hash, sha256};

/// The hash of a leaf, whose data is a record's hash.
pub(crate) fn leaf(record: &Hash) -> Hash {
    sha256(&[&[0], record])
}

/// The hash of an inner node.
fn node(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// The right edge of a tree that grows: roots of its complete subtrees, largest first. The binary digits of
/// the number of leaves say how large they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frontier {
    leaves: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// The edge of a tree with this many leaves, as [`Frontier::to_bytes`] wrote it.
    pub(crate) fn from_bytes(leaves: u64, bytes: &[u8]) -> Option<Self> {
        let (roots, rest) = bytes.as_chunks::<32>();
        let fits = rest.is_empty() && roots.len() == leaves.count_ones() as usize;
        fits.then(|| Self { leaves, roots: roots.to_vec() })
    }

    /// The roots, one after the other.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.roots.concat()
    }

    /// Adds the next record.
    pub(crate) fn push(&mut self, record: &Hash) {
        let mut root = leaf(record);
        for _ in 0..self.leaves.trailing_ones() {
            let Some(left) = self.roots.pop() else { break };
            root = node(&left, &root);
        }
        self.roots.push(root);
        self.leaves += 1;
    }

    /// The root of the tree; of an empty one SHA-256 over nothing.
    pub(crate) fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(last) = roots.next() else { return sha256(&[]) };
        roots.fold(*last, |right, left| node(left, &right))
    }
}

/// Makes the audit path of one leaf while the tree's records go by, without keeping them.
///
/// Each sibling on the way from the leaf to the root is the root of a range of leaves; every range has a
/// frontier that takes the records in it.
pub(crate) struct Prover {
    /// Ranges of leaves, from the leaf's sibling up, with what was seen of them.
    siblings: Vec<(std::ops::Range<u64>, Frontier)>,
    next: u64,
}

impl Prover {
    /// A proof for leaf `index`, from 0, of a tree with `size` leaves; `None` where there is no such leaf.
    pub(crate) fn new(index: u64, size: u64) -> Option<Self> {
        if index >= size {
            return None;
        }
        let (mut from, mut to) = (0, size);
        let mut siblings = Vec::new();
        while to - from > 1 {
            // The largest power of two below the number of leaves.
            let middle = from + (1 << (u64::BITS - 1 - (to - from - 1).leading_zeros()));
            if index < middle {
                siblings.push((middle..to, Frontier::default()));
                to = middle;
            } else {
                siblings.push((from..middle, Frontier::default()));
                from = middle;
            }
        }
        siblings.reverse();
        Some(Self { siblings, next: 0 })
    }

    /// Takes the next record of the tree, from the first on.
    pub(crate) fn push(&mut self, record: &Hash) {
        let at = self.next;
        self.next += 1;
        if let Some((_, range)) = self.siblings.iter_mut().find(|(range, _)| range.contains(&at)) {
            range.push(record);
        }
    }

    /// The audit path, once all records of the tree went by.
    pub(crate) fn path(self) -> Vec<Hash> {
        self.siblings.into_iter().map(|(_, range)| range.root()).collect()
    }
}

/// Whether `path` leads from the record at `index`, from 0, to the root of a tree with `size` leaves.
pub(crate) fn verify(record: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = leaf(record);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tree as RFC 6962, section 2.1, defines it.
    fn defined(records: &[Hash]) -> Hash {
        match records {
            [] => sha256(&[]),
            [one] => leaf(one),
            more => {
                let middle = more.len().next_power_of_two() / 2;
                node(&defined(&more[..middle]), &defined(&more[middle..]))
            }
        }
    }

    fn records(count: u64) -> Vec<Hash> {
        (0..count).map(|number| sha256(&[&number.to_be_bytes()])).collect()
    }

    fn path(records: &[Hash], index: u64) -> Vec<Hash> {
        let mut prover = Prover::new(index, records.len() as u64).unwrap();
        records.iter().for_each(|record| prover.push(record));
        prover.path()
    }

    #[test]
    fn every_leaf_of_every_tree_is_proved_and_no_other() {
        let all = records(100);
        let mut frontier = Frontier::default();
        for size in 1..=100u64 {
            frontier.push(&all[size as usize - 1]);
            let tree = &all[..size as usize];
            let root = defined(tree);
            assert_eq!(frontier.root(), root, "{size} leaves");
            let stored = Frontier::from_bytes(size, &frontier.to_bytes()).unwrap();
            assert_eq!(stored, frontier);
            for index in 0..size {
                let path = path(tree, index);
                assert!(verify(&tree[index as usize], index, size, &path, &root), "{index} of {size}");
                let wrong = sha256(&[b"wrong"]);
                assert!(!verify(&wrong, index, size, &path, &root), "another record at {index} of {size}");
                assert!(size == 1 || !verify(&tree[index as usize], (index + 1) % size, size, &path, &root));
                assert!(!verify(&tree[index as usize], index, size, &path, &wrong));
                assert!(path.is_empty() || !verify(&tree[index as usize], index, size, &path[1..], &root));
            }
        }
    }

    #[test]
    fn an_empty_tree_has_the_root_that_the_rfc_says() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(crate::hex::encode(&Frontier::default().root()), empty);
        assert!(Prover::new(0, 0).is_none());
        assert!(Frontier::from_bytes(3, &[0; 32]).is_none() && Frontier::from_bytes(1, &[0; 33]).is_none());
    }

    proptest! {
        #[test]
        fn a_changed_bit_anywhere_proves_nothing(size in 2u64..300, index: u64, at: usize, bit in 0u8..8) {
            let all = records(size);
            let index = index % size;
            let mut path = path(&all, index);
            let at = at % (path.len() * 32);
            path[at / 32][at % 32] ^= 1 << bit;
            prop_assert!(!verify(&all[index as usize], index, size, &path, &defined(&all)));
        }
    }
}
