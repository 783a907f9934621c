//! RFC 6455, sections 5.1 to 5.6 and 7.1, from the receiving side.

use actix_http::ws::{OpCode, Parser};
use futures::StreamExt as _;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use super::*;

/// A client's end, and the messages that come in at the other end.
async fn pair(early: &[u8]) -> (TcpStream, Inbound) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    // Dropping the writing half would end the connection.
    let (reading, writing) = server.into_split();
    writing.forget();
    (client, Inbound::new(BytesMut::from(early), reading))
}

fn frame(opcode: OpCode, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    Parser::write_message(&mut bytes, payload, opcode, last, true);
    bytes.to_vec()
}

/// What comes out in the end, in words.
async fn said(inbound: Inbound) -> Vec<String> {
    let word = |message| match message {
        Ok(AggregatedMessage::Text(text)) if text.len() > 99 => format!("text of {}", text.len()),
        Ok(AggregatedMessage::Text(text)) => format!("text {text}"),
        Ok(AggregatedMessage::Binary(bytes)) => format!("binary {bytes:?}"),
        Ok(AggregatedMessage::Ping(bytes)) => format!("ping {bytes:?}"),
        Ok(AggregatedMessage::Pong(bytes)) => format!("pong {bytes:?}"),
        Ok(AggregatedMessage::Close(_)) => "close".to_owned(),
        Err(error) => format!("error {error}"),
    };
    inbound.map(word).collect().await
}

#[tokio::test]
async fn frames_become_whole_messages_however_they_come() {
    use OpCode::{Binary, Close, Continue, Ping, Pong, Text};
    let most = vec![b'x'; INBOUND_LIMIT];
    let f = frame;
    let cases: [(Vec<Vec<u8>>, &[&str]); 14] = [
        (vec![f(Text, true, b"one"), f(Text, true, b"two")], &["text one", "text two"]),
        (vec![f(Text, true, b"")], &["text "]),
        (vec![f(Binary, true, b"\x01"), f(Pong, true, b"")], &["binary b\"\\x01\"", "pong b\"\""]),
        // A control frame may come between fragments, and the first of them may be empty.
        (
            vec![
                f(Text, false, b""),
                f(Continue, false, b"a"),
                f(Ping, true, b"?"),
                f(Continue, true, b"b"),
                f(Text, true, b"c"),
            ],
            &["ping b\"?\"", "text ab", "text c"],
        ),
        // Fragments may split a character, the end of a message may not.
        (vec![f(Text, false, b"\xc3"), f(Continue, true, b"\xa4")], &["text ä"]),
        (vec![f(Text, true, b"\xc3"), f(Text, true, b"\xa4")], &["error"]),
        (vec![f(Text, true, &most), f(Text, true, b"more")], &["text of 65536", "text more"]),
        (vec![f(Text, true, &[&most[..], b"x"].concat())], &["error"]),
        (
            vec![f(Text, false, &most[1..]), f(Continue, false, b"x"), f(Continue, true, b"x")],
            &["error"],
        ),
        (vec![f(Continue, true, b"x")], &["error"]),
        (vec![f(Text, false, b"x"), f(Text, true, b"x")], &["error"]),
        // Clients must mask frames; and nothing counts that comes after an error or the end.
        (vec![vec![0x81, 1, b'x'], f(Text, true, b"x")], &["error"]),
        (vec![f(Close, true, b""), f(Text, true, b"x")], &["close"]),
        // The end of the stream in the middle of a frame is no message.
        (vec![f(Text, true, b"x"), f(Text, true, b"half")[..7].to_vec()], &["text x"]),
    ];
    assert_eq!(most.len(), 65_536);
    for (frames, expected) in cases {
        let bytes = frames.concat();
        for (early, way) in [(0, bytes.len()), (bytes.len(), bytes.len()), (3, 1)] {
            // Byte by byte, the longest would take minutes, and show no more than the others.
            if way == 1 && bytes.len() > 999 {
                continue;
            }
            let (early, late) = bytes.split_at(early.min(bytes.len()));
            let (mut client, inbound) = pair(early).await;
            let write = async {
                for piece in late.chunks(way) {
                    // The other side may have had enough.
                    if client.write_all(piece).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                drop(client);
            };
            let (said, ()) = tokio::join!(said(inbound), write);
            let said: Vec<_> = said
                .iter()
                .map(|word| if word.starts_with("error") { "error" } else { word })
                .collect();
            assert_eq!(said, expected, "{} early of {}, by {way}", early.len(), bytes.len());
        }
    }
}

#[tokio::test]
async fn a_silent_connection_keeps_no_bytes() {
    let (mut client, mut inbound) = pair(&frame(OpCode::Text, true, b"hello")).await;
    assert!(matches!(inbound.next().await, Some(Ok(AggregatedMessage::Text(_)))));
    client.write_all(&frame(OpCode::Text, true, &[b'x'; 1000])).await.unwrap();
    assert!(matches!(inbound.next().await, Some(Ok(AggregatedMessage::Text(_)))));
    assert!(futures::poll!(inbound.next()).is_pending());
    // Not even the capacity of a used-up buffer.
    assert!(!inbound.unread.try_reclaim(1));
}

/// A client that sends endlessly does not starve the worker's other connections.
#[tokio::test]
async fn a_flood_is_interrupted_at_every_chunk() {
    let (mut client, mut inbound) = pair(b"").await;
    let flood = frame(OpCode::Continue, false, &[b'x'; 1000]).repeat(60);
    client.write_all(&frame(OpCode::Text, false, b"x")).await.unwrap();
    client.write_all(&flood).await.unwrap();
    let mut turns = 0;
    let turned = std::future::poll_fn(|cx| {
        turns += 1;
        assert!(inbound.poll_next_unpin(cx).is_pending());
        let taken = inbound.fragments.as_ref().map_or(0, |fragments| fragments.payload.len());
        if taken == 60_001 { Poll::Ready(()) } else { Poll::Pending }
    });
    turned.await;
    assert!(turns > 3, "{turns}");
}

/// A client that announces more than a message may hold is not waited for.
#[tokio::test]
async fn a_frame_that_is_too_long_is_refused_by_its_head() {
    let most = (INBOUND_LIMIT as u64).to_be_bytes();
    let more = (INBOUND_LIMIT as u64 + 1).to_be_bytes();
    let head = |length: [u8; 8]| [&[0x81, 0xff][..], &length].concat();
    for length in [more, [0, 0, 0, 0, 0x40, 0, 0, 0], [0x7f; 8]] {
        let (_client, mut inbound) = pair(&head(length)).await;
        assert!(matches!(inbound.next().await, Some(Err(ProtocolError::Overflow))), "{length:?}");
    }
    let (mut client, mut inbound) = pair(&head(most)).await;
    client.write_all(&[0; 4]).await.unwrap();
    client.write_all(&vec![b'x'; INBOUND_LIMIT]).await.unwrap();
    assert!(matches!(inbound.next().await, Some(Ok(AggregatedMessage::Text(_)))));
}

/// Otherwise the system would reset the connection, and the peer not see why it was closed.
#[tokio::test]
async fn what_comes_behind_a_broken_frame_is_read_and_thrown_away() {
    let (mut client, mut inbound) = pair(b"").await;
    let oversize = frame(OpCode::Text, true, &vec![b'x'; 8 * INBOUND_LIMIT]);
    let all = tokio::spawn(async move {
        client.write_all(&oversize).await.unwrap();
        client
    });
    assert!(matches!(inbound.next().await, Some(Err(ProtocolError::Overflow))));
    let rest = tokio::spawn(async move {
        let rest = inbound.next().await;
        (rest.is_none(), inbound.unread.capacity())
    });
    // More than the system buffers for a reader that does not read.
    let mut client = all.await.unwrap();
    client.write_all(&vec![0; 16 * 1024 * 1024]).await.unwrap();
    drop(client);
    assert_eq!(rest.await.unwrap(), (true, 0));
}
