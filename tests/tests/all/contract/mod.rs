//! What a log promises, whatever store it lies on: each case runs over every kind of store.

/// Makes a test of each case for each store; a case is `async fn case(lake: Lake)`.
macro_rules! over_every_store {
    ($($case:ident),* $(,)?) => {
        over_every_store!(@store memory: $($case),*);
        over_every_store!(@store local: $($case),*);
        over_every_store!(@store s3: $($case),*);
    };
    (@store $store:ident: $($case:ident),*) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(lakebed_tests::lake::Lake::$store()).await;
                }
            )*
        }
    };
}

mod appending;
mod bucket;
mod columns;
pub(crate) mod faults;
mod foreign;
mod lanes;
mod receipts;
mod units;
mod upkeep;
mod versions;
