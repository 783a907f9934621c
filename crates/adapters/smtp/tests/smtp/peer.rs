//! A mail server that does what a test wants it to.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What the peer does at one point of a dialogue.
#[derive(Clone, Copy)]
pub(crate) enum Act {
    /// The reply of a server that accepts everything.
    Usual,
    Say(&'static str),
    Cut,
    Hang,
}

pub(crate) struct Peer {
    pub(crate) address: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// `act` is asked with the number of the connection, from 1, and what it has just heard: the first word of a line,
    /// `.` at the end of a mail, nothing at the start.
    pub(crate) async fn start(act: impl Fn(usize, &str) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let (act, log) = (Arc::new(act), Arc::clone(&heard));
        tokio::spawn(async move {
            for number in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (act, log) = (Arc::clone(&act), Arc::clone(&log));
                tokio::spawn(async move {
                    // The client may hang up whenever it likes.
                    let _ = talk(stream, &log, |word| act(number, word)).await;
                });
            }
        });
        Self { address, heard }
    }

    /// Does this at one point of every connection.
    pub(crate) async fn at(point: &'static str, act: Act) -> Self {
        Self::start(move |_, word| if word == point { act } else { Act::Usual }).await
    }

    pub(crate) fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// The lines of all connections, without the mails.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// The first words of those.
    pub(crate) fn words(&self) -> Vec<String> {
        self.heard().iter().map(|line| word(line).to_owned()).collect()
    }
}

fn word(line: &str) -> &str {
    line.split([' ', ':']).next().unwrap_or_default()
}

async fn talk(
    stream: TcpStream,
    log: &Mutex<Vec<String>>,
    act: impl Fn(&str) -> Act,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        let word = word(&line);
        let usual = match word {
            "" => "220 peer",
            "EHLO" => "250-peer\r\n250-AUTH PLAIN\r\n250 8BITMIME",
            "AUTH" => "235 welcome",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        let reply = match act(word) {
            Act::Usual => usual,
            Act::Say(reply) => reply,
            Act::Cut => return Ok(()),
            Act::Hang => std::future::pending().await,
        };
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        let in_mail = word == "DATA" && reply.starts_with("354");
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            line.truncate(line.trim_end().len());
            if !in_mail || line == "." {
                break;
            }
        }
        log.lock().unwrap().push(line.clone());
    }
}
