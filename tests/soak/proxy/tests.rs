//! The proxy does what it says: what the scenarios blame on the server is not its fault.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use super::{Mode, Proxy, Side, Way};

const SOON: Duration = Duration::from_secs(10);
/// Long enough for bytes that are in flight after all.
const A_WHILE: Duration = Duration::from_millis(150);

struct Ends {
    proxy: Proxy,
    listener: TcpListener,
    client: TcpStream,
    target: TcpStream,
}

async fn ends() -> Ends {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = Proxy::start(listener.local_addr().expect("an address"), 7).await;
    let (mut client, mut target) = link(proxy.address(), &listener).await;
    // The system accepts before the proxy knows of it.
    assert!(carries(&mut client, &mut target, b"open").await);
    Ends { proxy, listener, client, target }
}

async fn link(proxy: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(proxy).await.expect("the proxy");
    let (target, _) = timeout(SOON, listener.accept()).await.expect("in time").expect("a link");
    (client, target)
}

async fn carries(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) -> bool {
    from.write_all(bytes).await.expect("written");
    let mut heard = vec![0; bytes.len()];
    timeout(SOON, to.read_exact(&mut heard)).await.expect("in time").expect("read");
    heard == bytes
}

/// Neither bytes nor an end.
async fn silent(stream: &mut TcpStream) -> bool {
    timeout(A_WHILE, stream.read(&mut [0; 64])).await.is_err()
}

/// How the stream ended: orderly, or by a reset.
async fn end(stream: &mut TcpStream) -> Result<(), std::io::ErrorKind> {
    let read = timeout(SOON, stream.read(&mut [0; 64])).await.expect("an end");
    read.map(|bytes| assert_eq!(bytes, 0, "bytes, and no end")).map_err(|error| error.kind())
}

#[tokio::test]
async fn bytes_pass_both_ways_and_an_end_is_passed_on() {
    let Ends { proxy, mut client, mut target, .. } = ends().await;
    assert!(carries(&mut client, &mut target, b"there").await);
    assert!(carries(&mut target, &mut client, b"and back").await);
    client.shutdown().await.expect("shut down");
    assert_eq!(end(&mut target).await, Ok(()));
    assert!(carries(&mut target, &mut client, b"still this way").await);
    drop(target);
    assert_eq!(end(&mut client).await, Ok(()));
    crate::support::until("the link is forgotten", async || proxy.open_links() == 0).await;
}

#[tokio::test]
async fn a_cut_resets_both_sides() {
    let Ends { proxy, mut client, mut target, .. } = ends().await;
    proxy.cut();
    assert_eq!(end(&mut client).await, Err(std::io::ErrorKind::ConnectionReset));
    assert_eq!(end(&mut target).await, Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_stall_takes_bytes_and_forwards_them_when_it_ends() {
    let Ends { proxy, mut client, mut target, .. } = ends().await;
    proxy.set(Way::Up, Mode::Stall);
    client.write_all(b"later").await.expect("taken");
    assert!(silent(&mut target).await);
    assert!(carries(&mut target, &mut client, b"the other way goes on").await);
    proxy.set(Way::Up, Mode::Pass);
    let mut heard = [0; 5];
    timeout(SOON, target.read_exact(&mut heard)).await.expect("in time").expect("read");
    assert_eq!(&heard, b"later");
}

#[tokio::test]
async fn an_answer_is_held_back_from_its_question_on() {
    let Ends { proxy, mut client, mut target, .. } = ends().await;
    let answer = proxy.stalled_answer_to(&[b"the", b"question"]);
    assert!(carries(&mut client, &mut target, b"one question").await);
    assert!(carries(&mut target, &mut client, b"are answered").await);
    assert!(carries(&mut client, &mut target, b"the question").await);
    target.write_all(b"answer").await.expect("taken");
    answer.await;
    assert!(silent(&mut client).await);
    proxy.set(Way::Down, Mode::Pass);
    let mut heard = [0; 6];
    timeout(SOON, client.read_exact(&mut heard)).await.expect("in time").expect("read");
    assert_eq!(&heard, b"answer");
    assert!(carries(&mut client, &mut target, b"the question again").await);
    assert!(carries(&mut target, &mut client, b"is answered").await, "it stalls once");
}

#[tokio::test]
async fn open_links_and_those_to_come_are_told_apart() {
    let Ends { proxy, listener, mut client, mut target } = ends().await;
    proxy.set_new(Way::Both, Mode::Stall);
    let (mut new, mut its_target) = link(proxy.address(), &listener).await;
    new.write_all(b"held").await.expect("taken");
    assert!(silent(&mut its_target).await);
    assert!(carries(&mut client, &mut target, b"an open one goes on").await);
    proxy.set_open(Way::Both, Mode::Stall);
    client.write_all(b"held").await.expect("taken");
    assert!(silent(&mut target).await);
}

#[tokio::test]
async fn a_slow_link_takes_its_time() {
    let Ends { proxy, mut client, mut target, .. } = ends().await;
    proxy.set(Way::Down, Mode::Slow(10_000));
    let begun = Instant::now();
    assert!(carries(&mut target, &mut client, &[7; 3_000]).await);
    let slow = begun.elapsed();
    // 3,000 bytes less the first breath's share, at 10,000 a second.
    assert!(slow >= Duration::from_millis(240), "{slow:?}");
    // On a busy machine a round trip the other way may take as long, but not every time.
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        assert!(carries(&mut client, &mut target, &[7; 3_000]).await);
        quickest = quickest.min(begun.elapsed());
    }
    assert!(2 * quickest < slow, "{quickest:?}, and the slow way {slow:?}");
}

#[tokio::test]
async fn one_side_is_dropped_and_the_other_hears_nothing_of_it() {
    for side in [Side::Client, Side::Target] {
        let Ends { proxy, mut client, mut target, .. } = ends().await;
        let (kept, dropped) = match side {
            Side::Client => (&mut client, &mut target),
            Side::Target => (&mut target, &mut client),
        };
        proxy.keep_only(side);
        assert_eq!(end(dropped).await, Ok(()));
        kept.write_all(b"anybody there?").await.expect("taken");
        assert!(silent(kept).await);
        proxy.cut();
        assert_eq!(end(kept).await, Err(std::io::ErrorKind::ConnectionReset));
    }
}

#[tokio::test]
async fn garbage_comes_between_the_right_bytes() {
    let Ends { proxy, mut client, mut target, .. } = ends().await;
    proxy.set(Way::Up, Mode::Garbage(1));
    client.write_all(&[0; 100]).await.expect("written");
    client.shutdown().await.expect("shut down");
    let mut heard = vec![];
    timeout(SOON, target.read_to_end(&mut heard)).await.expect("in time").expect("read");
    assert!((101..=116).contains(&heard.len()), "{} bytes", heard.len());
    heard.retain(|byte| *byte == 0);
    assert!(heard.len() >= 100, "the right ones are all there");
    assert!(carries(&mut target, &mut client, &[0; 100]).await, "the other way is clean");
}

#[tokio::test]
async fn new_links_are_refused_and_open_ones_kept() {
    let Ends { proxy, listener, mut client, mut target } = ends().await;
    proxy.refuse(true);
    let mut refused = TcpStream::connect(proxy.address()).await.expect("the proxy");
    assert_eq!(end(&mut refused).await, Err(std::io::ErrorKind::ConnectionReset));
    assert!(carries(&mut client, &mut target, b"kept").await);
    proxy.refuse(false);
    let (mut new, mut its_target) = link(proxy.address(), &listener).await;
    assert!(carries(&mut new, &mut its_target, b"again").await);
}

#[tokio::test]
async fn new_links_go_where_it_is_aimed() {
    let Ends { proxy, mut client, mut target, .. } = ends().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    proxy.aim(elsewhere.local_addr().expect("an address"));
    let (mut new, mut its_target) = link(proxy.address(), &elsewhere).await;
    assert!(carries(&mut new, &mut its_target, b"there").await);
    assert!(carries(&mut client, &mut target, b"here").await);
    drop(elsewhere);
    let mut nobody = TcpStream::connect(proxy.address()).await.expect("the proxy");
    assert!(end(&mut nobody).await.is_err());
}
