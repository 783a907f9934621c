//! After an end of access nothing more reaches the person, on any socket of any node: with the bus, and with the bus
//! lost just before the end, when only the store can inform the other node.

mod at_once;
mod deletions;
mod memberships;
mod scene;
mod sessions;

/// Turns each case into two tests.
macro_rules! with_and_without_the_bus {
    ($($case:ident)*) => {$(
        mod $case {
            use crate::security::scene::Bus;

            #[tokio::test]
            async fn with_the_bus() {
                super::$case(Bus::There).await;
            }

            #[tokio::test]
            async fn without_the_bus() {
                super::$case(Bus::Lost).await;
            }
        }
    )*};
}
use with_and_without_the_bus;
