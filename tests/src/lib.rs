//! What the product's tests share: the lakes they run on, batches to append, rows read back, and a Python for clients.

pub mod batches;
pub mod lake;
pub mod lossy;
pub mod python;
pub mod rows;
