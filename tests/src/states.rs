//! A model of a protocol, searched to its end: all states that its steps lead to, the nearest first.

#![allow(clippy::print_stdout, reason = "a test tells how a bad state came about")]

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::iter::successors;

/// A state of a model: `Display` is a line for whoever reads how a bad one came about.
pub trait State: Copy + Eq + Hash + fmt::Display {
    /// What is wrong with it, if anything is.
    fn wrong(&self) -> Option<&'static str>;
}

/// Goes through all states, from the first on; says what is wrong with the first bad one, and prints the way there, and how many
/// states there were. `after` adds all states that one step leads to.
pub fn search<S: State>(what: &str, first: S, mut after: impl FnMut(&S, &mut Vec<S>)) -> Option<&'static str> {
    // The states in the order met, each with the place of the one before it.
    let (mut states, mut met, mut next) = (vec![(first, 0_usize)], HashSet::from([first]), Vec::new());
    let (mut at, mut wrong) = (0, None);
    while wrong.is_none() && at < states.len() {
        wrong = states[at].0.wrong();
        after(&states[at].0, &mut next);
        states.extend(next.drain(..).filter(|new| met.insert(*new)).map(|new| (new, at)));
        at += 1;
    }
    println!("{what}: {} states", met.len());
    if wrong.is_some() {
        let way: Vec<_> = successors(Some(at - 1), |at| (*at > 0).then(|| states[*at].1)).collect();
        way.iter().rev().for_each(|at| println!("  {}", states[*at].0));
    }
    wrong
}
