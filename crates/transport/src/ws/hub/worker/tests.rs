use std::{net, thread};

use parlance_application::{
    live::Frame,
    ports::{Delivery, Fanout as _},
};
use parlance_testkit::PATIENCE;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;
use crate::ws::{
    hub::{FEW, Hub, INBOX_BYTES},
    wire::text_frame,
};

/// Sockets of the worker, and their other sides.
async fn sockets(worker: &Worker, count: usize) -> Vec<(Socket, Outbound, net::TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let mut sockets = Vec::new();
    for _ in 0..count {
        let (theirs, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let writing = accepted.expect("accepts").0.into_split().1;
        let outbound = Outbound::new(writing, worker.flusher());
        let theirs = theirs.expect("connects").into_std().expect("a socket");
        sockets.push((worker.insert(outbound.clone()), outbound, theirs));
    }
    sockets
}

/// Delivers more than any queue has room for, and watches the queues.
async fn all_have_room(together: bool) {
    let hub = Hub::new(1);
    let worker = hub.add_worker();
    let sockets = sockets(&worker, 300).await;
    let to = all(&sockets);
    let frames = vec![Frame::from_encoded(Bytes::from(vec![b'x'; 4_000])); 100];
    let mut telling = pin!(async {
        if together {
            hub.deliver_all(vec![Delivery { to, frames }]).await;
        } else {
            for frame in frames {
                hub.deliver(to.clone(), frame, Urgency::Reliable).await;
            }
        }
        worker.flush().await;
    });
    while futures::poll!(telling.as_mut()).is_pending() {
        assert!(sockets.iter().all(|(_, outbound, _)| outbound.has_room()));
        yield_now().await;
    }
    assert!(sockets.iter().all(|(_, outbound, _)| outbound.has_room()));
}

/// What is taken in over many rounds would not fit into anybody's queue.
#[actix_web::test]
async fn nobody_is_given_more_than_has_room_before_their_turn() {
    all_have_room(false).await;
}

#[actix_web::test]
async fn nor_is_it_given_to_them_at_once_because_it_came_about_together() {
    all_have_room(true).await;
}

/// Senders wait for receivers, but what is for a single one waits for nobody.
#[actix_web::test]
async fn what_goes_to_several_waits_until_there_is_room() {
    let hub = Hub::new(1);
    let worker = hub.add_worker();
    let sockets = sockets(&worker, 2).await;
    let (both, one) = (all(&sockets), all(&sockets[..1]));
    let tell = |to: &Arc<[_]>| hub.deliver(to.clone(), large(), Urgency::Reliable);
    assert!(futures::poll!(tell(&both)).is_ready());
    let mut second = pin!(tell(&both));
    assert!(futures::poll!(second.as_mut()).is_pending());
    assert!(futures::poll!(tell(&one)).is_ready());
    timeout(PATIENCE, second).await.expect("the worker has taken the first in");
}

#[actix_web::test]
async fn a_worker_without_room_holds_no_other_up() {
    let hub = Hub::new(2);
    let (stuck, _never_read) = Inbox::new();
    let to = Arc::new([0, 1].map(|number| ConnectionId { worker: 0, number }));
    let full = Piece { to, bytes: large().bytes().clone() };
    stuck.send(Command::Deliver(full, Urgency::Reliable)).await;
    hub.0.workers.write().expect("not poisoned").push(stuck);
    let worker = hub.add_worker();
    let sockets = sockets(&worker, FEW + 1).await;
    let (many, few) = (all(&sockets), all(&sockets[..FEW]));
    let tell = |to: &Arc<[_]>| hub.deliver(to.clone(), large(), Urgency::Reliable);
    let mut to_many = pin!(tell(&many));
    while !sockets.iter().all(|(.., theirs)| has_heard(theirs)) {
        assert!(futures::poll!(to_many.as_mut()).is_pending(), "any of many may be on either");
        yield_now().await;
    }
    timeout(PATIENCE, tell(&few)).await.expect("it goes only where they are");
}

fn large() -> Frame {
    Frame::from_encoded(Bytes::from(vec![b'x'; INBOX_BYTES]))
}

fn all(sockets: &[(Socket, Outbound, net::TcpStream)]) -> Arc<[ConnectionId]> {
    sockets.iter().map(|(socket, ..)| socket.id).collect()
}

fn has_heard(theirs: &net::TcpStream) -> bool {
    theirs.peek(&mut [0]).is_ok()
}

#[actix_web::test]
async fn the_first_worker_begins_with_the_guest() {
    let hub = Hub::new(1);
    let (tell, told) = std::sync::mpsc::channel();
    hub.host(move || {
        drop(actix_web::rt::spawn(async {}));
        let _ = tell.send(thread::current().id());
    });
    assert!(told.try_recv().is_err(), "there is no worker yet");
    let _workers = [(); 2].map(|()| hub.add_worker());
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [thread::current().id()]);
}

#[actix_web::test]
async fn a_worker_that_is_gone_is_followed_by_the_next() {
    let hub = Hub::new(1);
    let gone = Inbox::new().0;
    hub.0.workers.write().expect("not poisoned").push(gone);
    let worker = hub.add_worker();
    let sockets = sockets(&worker, 2).await;
    hub.deliver(all(&sockets), Frame::from_encoded(Bytes::from_static(b"{}")), Urgency::Reliable)
        .await;
    while !sockets.iter().all(|(.., theirs)| has_heard(theirs)) {
        yield_now().await;
    }
}

#[actix_web::test]
#[expect(clippy::await_holding_refcell_ref, reason = "the worker is to stumble over it")]
async fn a_worker_that_panics_is_told_of() {
    let hub = Hub::new(1);
    let worker = hub.add_worker();
    let sockets = sockets(&worker, 1).await;
    let mut failed = pin!(hub.failed());
    assert!(futures::poll!(failed.as_mut()).is_pending());
    let held = worker.sockets.borrow_mut();
    hub.close(sockets[0].0.id, Close::Draining).await;
    timeout(PATIENCE, failed).await.expect("in time");
    drop(held);
}

#[actix_web::test]
async fn numbers_that_begin_anew_pass_over_those_that_are_in_use() {
    let worker = Hub::new(1).add_worker();
    let before = sockets(&worker, 2).await;
    worker.next.set(u32::MAX);
    let after = sockets(&worker, 2).await;
    let numbers = before.iter().chain(&after).map(|(socket, ..)| socket.id.number);
    assert_eq!(numbers.collect::<Vec<_>>(), [0, 1, u32::MAX, 2]);
}

/// Delivers a frame of this length to sockets; returns how many have been told when the worker first yields.
async fn told_at_first(
    hub: &Hub,
    sockets: &[(Socket, Outbound, net::TcpStream)],
    len: usize,
) -> usize {
    let frame = Frame::from_encoded(Bytes::from(vec![b'x'; len]));
    hub.deliver(all(sockets), frame, Urgency::Reliable).await;
    let waiting = || sockets.iter().filter(|(_, outbound, _)| outbound.has_queued()).count();
    while waiting() == 0 {
        yield_now().await;
    }
    sockets.len() - waiting()
}

/// A client that has just been answered may send the next message while others are still being told of the last.
#[actix_web::test]
async fn an_answer_does_not_wait_until_all_are_told() {
    let hub = Hub::new(1);
    let worker = hub.add_worker();
    let sockets = sockets(&worker, 300).await;
    let told = || sockets.iter().filter(|(.., theirs)| has_heard(theirs)).count();
    assert_eq!(told_at_first(&hub, &sockets, 2).await, 300 / 8, "it looks up after a part of them");
    let (_, last, theirs) = sockets.last().expect("a socket");
    last.answer(text_frame(b"{}"));
    while !has_heard(theirs) {
        yield_now().await;
    }
    assert!(told() < 299, "it is answered before the others are told");
    while told() < 300 {
        yield_now().await;
    }
}

/// Sockets are told a few per round, since more may come meanwhile; large writes are not worth that wait.
#[actix_web::test]
async fn a_round_is_longer_where_much_has_come() {
    let hub = Hub::new(1);
    let worker = hub.add_worker();
    let sockets = sockets(&worker, 100).await;
    assert_eq!(told_at_first(&hub, &sockets, 2).await, 16);
    while sockets.iter().any(|(_, outbound, _)| outbound.has_queued()) {
        yield_now().await;
    }
    assert_eq!(told_at_first(&hub, &sockets, 50 * 1024).await, 50);
}
