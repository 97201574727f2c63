//! What the product's tests share: the lakes they run on, batches to append, rows read back, and a Python for clients.

pub mod batches;
pub mod foreign;
pub mod lake;
pub mod lambda;
pub mod postgres;
pub mod python;
pub mod rows;
pub mod s3;
pub mod states;
pub mod storm;

/// Whether the long suites run: with `LAKEBED_TEST_LONG=1` in the environment.
pub fn long() -> bool {
    std::env::var("LAKEBED_TEST_LONG").is_ok_and(|value| value == "1")
}
