//! The product's tests, rooms together: one binary, a module a subject.

#[cfg(test)]
mod contract;
