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

use super::{Answered, End, Mode, Shared, Side, Way};

const CHUNK: usize = 16 * 1024;
/// How often a slow link lets something through.
const BREATH: Duration = Duration::from_millis(50);

/// Runs until one of its ends, or a command, ends it.
pub(crate) async fn carry(
    (client, target): (TcpStream, TcpStream),
    (up, down): (watch::Receiver<Mode>, watch::Receiver<Mode>),
    ended: &mut watch::Receiver<Option<End>>,
    shared: &Shared,
) {
    let _ = (client.set_nodelay(true), target.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_target, to_target) = target.into_split();
    let asked = watch::Sender::new(None);
    let (mut up, mut down) = (
        Pump { from: from_client, to: to_target, mode: up, shared, asked: &asked, way: Way::Up },
        Pump {
            from: from_target,
            to: to_client,
            mode: down,
            shared,
            asked: &asked,
            way: Way::Down,
        },
    );
    let end = tokio::select! {
        // If either fails, both end.
        done = async { tokio::try_join!(up.run(), down.run()) } => done.err().map(|_| End::Cut),
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
struct Pump<'a> {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    mode: watch::Receiver<Mode>,
    way: Way,
    shared: &'a Shared,
    /// A request that a test waits for, from when it was passed on until its answer comes.
    asked: &'a watch::Sender<Option<Answered>>,
}

impl Pump<'_> {
    /// Runs until the sender ends, and passes that on.
    async fn run(&mut self) -> io::Result<()> {
        let dice = &self.shared.dice;
        let mut chunk = vec![0; CHUNK];
        loop {
            let mode = *self.mode.borrow_and_update();
            let limit = match mode {
                Mode::Stall => {
                    let Self { from, mode, way, asked, .. } = self;
                    tokio::select! {
                        // The other end of the channel lives as long as the link.
                        _ = mode.changed() => {}
                        () = answer(from, asked), if *way == Way::Down => {}
                    }
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
            match self.way {
                // Before it is passed on: the answer could be faster.
                Way::Up => {
                    if let Some(answered) = self.shared.asks(&chunk[..read]) {
                        self.asked.send_replace(Some(answered));
                    }
                }
                _ => tell(self.asked),
            }
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

/// Reports that the answer to the request is here, once it has been made.
async fn answer(from: &OwnedReadHalf, asked: &watch::Sender<Option<Answered>>) {
    let _ = asked.subscribe().wait_for(Option::is_some).await;
    if from.readable().await.is_ok() {
        tell(asked);
    }
}

fn tell(asked: &watch::Sender<Option<Answered>>) {
    if let Some(answered) = asked.send_replace(None) {
        answered.send_replace(true);
    }
}
