//! What rows come from while a query runs: each row carries one number, and a graph beside the query says which events it stands for.
//!
//! A number that is not negative is an event's offset. A negative one is a node of the graph: the numbers of the rows that it was made
//! of. So a row takes eight bytes more, whatever it comes from: a group of a million rows is one node, and so is a partition whose
//! rows all come from all of it. Which offsets a node stands for is found for the rows that are asked about, and for no other.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roaring::RoaringTreemap;

/// What rows of one query come from. Cheap to clone; two are the same if they share their graph.
#[derive(Clone, Default)]
pub(super) struct Origins(Arc<Mutex<Graph>>);

/// The nodes, one behind the other.
#[derive(Default)]
pub(super) struct Graph {
    /// Where in `of` each node ends.
    ends: Vec<usize>,
    of: Vec<i64>,
}

impl Origins {
    /// The graph, to add nodes to.
    pub(super) fn graph(&self) -> MutexGuard<'_, Graph> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The offsets of the events that some rows come from.
    pub(super) fn offsets(&self, rows: impl IntoIterator<Item = i64>) -> RoaringTreemap {
        let graph = self.graph();
        let (mut offsets, mut seen) = (RoaringTreemap::new(), vec![false; graph.ends.len()]);
        let mut waiting: Vec<i64> = rows.into_iter().collect();
        while let Some(origin) = waiting.pop() {
            match u64::try_from(origin) {
                Ok(offset) => _ = offsets.insert(offset),
                Err(_) => {
                    let node = place(origin);
                    if seen.get(node) == Some(&false) {
                        seen[node] = true;
                        waiting.extend(graph.of_node(node));
                    }
                }
            }
        }
        offsets
    }
}

/// Where a node is that has this number.
fn place(origin: i64) -> usize {
    usize::try_from(-(origin + 1)).unwrap_or(usize::MAX)
}

impl Graph {
    fn of_node(&self, node: usize) -> &[i64] {
        let begin = node.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.of[begin..self.ends[node]]
    }

    /// What stands for rows of all these origins: nothing for none of them, and of one that one itself.
    pub(super) fn together(&mut self, of: &[i64]) -> Option<i64> {
        match of {
            [] => None,
            [first, others @ ..] if others.iter().all(|other| other == first) => Some(*first),
            _ => Some(self.node(of)),
        }
    }

    /// A node of its own, which no other row has.
    pub(super) fn node(&mut self, of: &[i64]) -> i64 {
        self.of.extend_from_slice(of);
        self.ends.push(self.of.len());
        -i64::try_from(self.ends.len()).unwrap_or(i64::MAX)
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Origins")
    }
}

impl PartialEq for Origins {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Origins {}

impl Hash for Origins {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_from_what_its_nodes_are_of() {
        let origins = Origins::default();
        let (pair, more, alone) = {
            let mut graph = origins.graph();
            let pair = graph.together(&[3, 5]).unwrap();
            let more = graph.together(&[pair, 9, pair]).unwrap();
            assert_eq!((graph.together(&[]), graph.together(&[7, 7])), (None, Some(7)));
            let alone = graph.node(&[7]);
            assert_ne!(alone, graph.node(&[7]));
            (pair, more, alone)
        };
        assert_eq!(origins.offsets([pair]).iter().collect::<Vec<_>>(), [3, 5]);
        assert_eq!(origins.offsets([more, alone, 1]).iter().collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
        let empty = origins.graph().node(&[]);
        assert!(origins.offsets([empty]).is_empty());
    }
}
