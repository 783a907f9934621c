//! `parlance admin …`: an operator's manual work on a store.

use clap::Subcommand;

use crate::{
    adapters::Adapters,
    config::{Flags, Settings},
    serve::block_on,
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Gives the store's history a new name, so that clients drop what they have cached of it
    #[command(
        after_help = "Run it after restoring the store from a backup, while no server is running, with the settings of `serve`. \
        A server reads the name only at startup. It prints the new name."
    )]
    RenewEpoch(Box<Flags>),
}

pub(crate) fn run(command: &Command, env: impl Fn(&str) -> Option<String>) -> anyhow::Result<()> {
    match command {
        Command::RenewEpoch(flags) => {
            let settings = Settings::load(flags, env)?;
            crate::print(&block_on(Adapters::renew_epoch(&settings))?)
        }
    }
}
