//! Faults between a node and the store.

use async_trait::async_trait;
use parlance_application::Result;

/// Faults and delays of a handle's calls, on their way to the store and back. Methods are named as in the port:
/// `"append"`.
///
/// A method may wait, fail, or never return. The store's lock is not held meanwhile.
#[async_trait]
pub trait Weather: Send + Sync {
    /// Before the call. On an error nothing is done.
    async fn before(&self, method: &'static str) -> Result<()> {
        let _ = method;
        Ok(())
    }

    /// After the call, which has taken effect. On an error the caller does not learn of it.
    async fn after(&self, method: &'static str) -> Result<()> {
        let _ = method;
        Ok(())
    }
}

/// Lets everything through at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calm;

impl Weather for Calm {}
