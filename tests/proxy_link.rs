//! One link of the proxy: a pump for each direction.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::sleep,
};

use crate::{
    dice::Dice,
    proxy::{End, Mode, Side},
};

const CHUNK: usize = 16 * 1024;
/// How often a slow link lets something through.
const BREATH: Duration = Duration::from_millis(50);

/// Until one of the ends, or somebody else, ends it.
pub(crate) async fn carry(
    (client, target): (TcpStream, TcpStream),
    (up, down): (watch::Receiver<Mode>, watch::Receiver<Mode>),
    ended: &mut watch::Receiver<Option<End>>,
    dice: &Dice,
) {
    let _ = (client.set_nodelay(true), target.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_target, to_target) = target.into_split();
    let (mut up, mut down) = (
        Pump { from: from_client, to: to_target, mode: up },
        Pump { from: from_target, to: to_client, mode: down },
    );
    let end = tokio::select! {
        // Whichever fails ends both.
        done = async { tokio::try_join!(up.run(dice), down.run(dice)) } => done.err().map(|_| End::Cut),
        end = ended.wait_for(Option::is_some) => end.ok().and_then(|end| *end),
    };
    let (client, target) = (joined(up.from, down.to), joined(down.from, up.to));
    match end {
        Some(End::Keep(side)) => {
            let (kept, dropped) =
                if side == Side::Client { (client, target) } else { (target, client) };
            drop(dropped);
            let _ = ended.wait_for(|end| *end == Some(End::Cut)).await;
            reset(&kept);
        }
        Some(End::Cut) => {
            reset(&client);
            reset(&target);
        }
        None => {}
    }
}

fn joined(read: OwnedReadHalf, write: OwnedWriteHalf) -> TcpStream {
    read.reunite(write).expect("halves of one stream")
}

/// A reset, not an orderly end, when it is dropped.
pub(crate) fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// One direction of a link.
struct Pump {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    mode: watch::Receiver<Mode>,
}

impl Pump {
    /// Until the sender's end, which is passed on.
    async fn run(&mut self, dice: &Dice) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let mode = *self.mode.borrow_and_update();
            let limit = match mode {
                Mode::Stall => {
                    // The other end of the channel lives as long as the link.
                    let _ = self.mode.changed().await;
                    continue;
                }
                Mode::Slow(rate) => (rate / 20).clamp(1, CHUNK),
                Mode::Pass | Mode::Garbage(_) => CHUNK,
            };
            let read = tokio::select! {
                read = self.from.read(&mut chunk[..limit]) => read?,
                _ = self.mode.changed() => continue,
            };
            if read == 0 {
                return self.to.shutdown().await;
            }
            // The link stalled while these came.
            let _ = self.mode.wait_for(|mode| *mode != Mode::Stall).await;
            match mode {
                Mode::Garbage(one_of) if dice.roll(one_of) == 0 => {
                    let at = dice.below(read);
                    self.to.write_all(&chunk[..at]).await?;
                    self.to.write_all(&dice.bytes(1 + dice.below(16))).await?;
                    self.to.write_all(&chunk[at..read]).await?;
                }
                _ => self.to.write_all(&chunk[..read]).await?,
            }
            if let Mode::Slow(_) = mode {
                sleep(BREATH).await;
            }
        }
    }
}
