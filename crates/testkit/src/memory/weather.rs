//! What can go wrong between a node and the store.

use async_trait::async_trait;
use parlance_application::Result;

/// What a handle's calls meet on their way to the store and back. A method's name is that of the port's: `"append"`.
///
/// It may wait, fail, or never come back. The store's lock is held in neither.
#[async_trait]
pub trait Weather: Send + Sync {
    /// On the way there. An error means that nothing was done.
    async fn before(&self, method: &'static str) -> Result<()> {
        let _ = method;
        Ok(())
    }

    /// On the way back. Whatever was to be done has been done; with an error, nobody is told.
    async fn after(&self, method: &'static str) -> Result<()> {
        let _ = method;
        Ok(())
    }
}

/// Lets everything through at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calm;

impl Weather for Calm {}
