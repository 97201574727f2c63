//! The binary as people use it: one test binary, a module a subject.

#[cfg(test)]
mod capture;
#[cfg(test)]
mod console;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod diff;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod history;
#[cfg(test)]
mod inputs;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod lineage;
#[cfg(test)]
mod logins;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod models;
#[cfg(test)]
mod operating;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod posting;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod served;
#[cfg(test)]
mod serving;
#[cfg(test)]
mod shop;
#[cfg(test)]
mod syncs;
#[cfg(test)]
mod unit_tests;
#[cfg(test)]
mod upkeep;
#[cfg(test)]
mod why;
