//! A database of an older program is migrated, its history goes on, and clients ask for it from each rev.

use std::collections::BTreeMap;

use parlance_application::{
    Result,
    ports::store::{
        Change, ChannelUpdate, Commit, Committed, Draft, MessageChange, Principal, Write,
    },
};
use parlance_domain::{
    ClientMsgId, Emoji, Message, MessageId, MessageText, Rev, Seq, SessionId, Timestamp, Topic,
    UserId,
};
use proptest::prelude::*;
use rusqlite::params;
use uuid::Uuid;

use super::*;
use crate::{append, migrate};

const NOW: Timestamp = Timestamp::from_millis(1);
const ADA: UserId = UserId(Uuid::from_u128(1));
const HERE: ConversationId = ConversationId(Uuid::from_u128(10));
const THERE: ConversationId = ConversationId(Uuid::from_u128(11));
/// The steps of the program whose rows kept one rev per message, the last.
const OLDER: usize = 3;
const FIRST: &str = "as sent";

/// A message is sent, or something happens to one of those that were.
#[derive(Debug, Clone, Copy)]
enum Act {
    Send,
    Edit(u64, u8),
    Delete(u64),
    React(u64, bool),
    Topic(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let at = 0..1_000_u64;
    prop_oneof![
        4 => Just(Act::Send),
        3 => (at.clone(), any::<u8>()).prop_map(|(at, n)| Act::Edit(at, n)),
        1 => at.clone().prop_map(Act::Delete),
        2 => (at, any::<bool>()).prop_map(|(at, one)| Act::React(at, one)),
        1 => any::<u8>().prop_map(Act::Topic),
    ]
}

/// What a client that was told everything holds: each message's rev, by `seq`, and the head.
#[derive(Default)]
struct Client {
    revs: BTreeMap<u64, u64>,
    head: u64,
}

impl Client {
    fn subject(&self, at: u64) -> u64 {
        at % (self.revs.len() as u64).max(1) + 1
    }

    /// What the older program would have done, and its rows.
    fn older(acts: &[Act], conn: &Connection, id: ConversationId) -> Self {
        let mut client = Self::default();
        for act in acts {
            client.head += 1;
            let sent = client.revs.len() as u64;
            let seq = match act {
                Act::Send => sent + 1,
                Act::Edit(at, _) | Act::Delete(at) | Act::React(at, _) => client.subject(*at),
                Act::Topic(_) => continue,
            };
            if seq <= sent || matches!(act, Act::Send) {
                client.revs.insert(seq, client.head);
            }
        }
        conn.execute(
            "INSERT INTO conversations (id, workspace_id, kind, created_by, created_at, last_seq, rev) \
             VALUES (?1, ?2, 'channel', ?2, 1, ?3, ?4)",
            params![id.0, ADA.0, int(client.revs.len() as u64), int(client.head)],
        )
        .expect("inserts");
        for (&seq, &rev) in &client.revs {
            let [edited_at, deleted_at] = ended(Seq(seq));
            let (text, reactions) = match (edited_at, deleted_at) {
                (_, Some(_)) => ("", None),
                (Some(_), _) => ("edited", Some(format!(r#"[["z",1,["{}"]]]"#, ADA.0))),
                _ => (FIRST, Some(format!(r#"[["z",1,["{}"]]]"#, ADA.0))),
            };
            conn.execute(
                "INSERT INTO messages (id, conversation_id, seq, rev, author_id, client_msg_id, digest, text, reactions, created_at, \
                 edited_at, deleted_at, deleted_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?3, ?10, ?11, ?12)",
                params![
                    message_id(id, Seq(seq)).0, id.0, int(seq), int(rev), ADA.0, seq.to_string(), append::digest(FIRST), text, reactions,
                    edited_at, deleted_at, deleted_at.map(|_| ADA.0)
                ],
            )
            .expect("inserts");
            if reactions.is_some() {
                conn.execute(
                    "INSERT INTO reactions (message_id, emoji, user_id) VALUES (?1, 'z', ?2)",
                    params![message_id(id, Seq(seq)).0, ADA.0],
                )
                .expect("inserts");
            }
        }
        client
    }

    fn act(&mut self, act: Act, conn: &Connection, id: ConversationId) {
        let change = match act {
            Act::Send => send(id, Seq(self.revs.len() as u64 + 1), FIRST),
            Act::Edit(at, n) => Change::Message(
                message_id(id, Seq(self.subject(at))),
                MessageChange::Edit(MessageText::parse(&n.to_string()).expect("valid")),
            ),
            Act::Delete(at) => {
                Change::Message(message_id(id, Seq(self.subject(at))), MessageChange::Delete)
            }
            Act::React(at, one) => Change::Message(
                message_id(id, Seq(self.subject(at))),
                MessageChange::React(
                    Emoji::parse(if one { ":one:" } else { ":two:" }).expect("valid"),
                ),
            ),
            Act::Topic(n) => Change::UpdateChannel(ChannelUpdate {
                name: None,
                topic: Some(Topic::parse(&n.to_string()).expect("valid")),
            }),
        };
        // A missing or deleted message cannot be changed.
        let Ok(Commit { subject, change: Some((_, rev)), .. }) = run(conn, id, change) else {
            return;
        };
        self.head = rev.0;
        if let Committed::Message(message) = subject {
            assert_eq!(message.rev, rev);
            self.revs.insert(message.seq.0, rev.0);
        }
    }

    /// Asks from each rev, a few messages at a time.
    fn check(&self, conn: &Connection, id: ConversationId) {
        let weight = |from| weight(conn, id, from, usize::MAX).expect("reads");
        assert_eq!(weight(Rev(self.head)), 0);
        for from in 0..=self.head {
            let mut expected: Vec<_> = self.revs.iter().map(|(seq, rev)| (*rev, *seq)).collect();
            expected.retain(|(rev, _)| *rev > from);
            expected.sort_unstable();
            let (mut told, mut at) = (Vec::new(), from);
            loop {
                let seen = see(conn, None, id).expect("reads").expect("is there");
                let query = ReplayQuery { limit: 3, ..ReplayQuery::after(Rev(at)) };
                let page = page(conn, seen, query).expect("reads");
                told.extend(page.messages.iter().map(|message| (message.rev.0, message.seq.0)));
                at = page.to_rev.0;
                if page.complete {
                    break;
                }
            }
            assert_eq!((&told, at), (&expected, self.head), "from {from}");
            let begins = expected.first().is_some_and(|(rev, _)| *rev == from + 1);
            assert_eq!(weight(Rev(from)) > weight(Rev(from + 1)), begins, "from {from}");
        }
    }
}

/// When an older message was edited, or deleted.
fn ended(seq: Seq) -> [Option<i64>; 2] {
    let nth = |n| seq.0 % 3 == n;
    [nth(1).then_some(1_000 + int(seq)), nth(2).then_some(2_000 + int(seq))]
}

/// Whether a migrated message is what it was.
fn is_as_it_was(message: &Message) -> bool {
    let [edited_at, deleted_at] = ended(message.seq);
    let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
    let text = if deleted_at.is_some() {
        ""
    } else if edited_at.is_some() {
        "edited"
    } else {
        FIRST
    };
    let reactions = usize::from(deleted_at.is_none());
    let who: Vec<_> = message.reactions.iter().flat_map(|reaction| &reaction.user_ids).collect();
    (&*message.text, millis(message.edited_at), millis(message.deleted_at))
        == (text, edited_at, deleted_at)
        && message.deleted_by == deleted_at.map(|_| ADA)
        && who == vec![&ADA; reactions]
        && (message.author_id, message.created_at.as_millis()) == (Some(ADA), int(message.seq))
        && (message.id, &message.client_msg_id)
            == (message_id(message.conversation_id, message.seq), &message.seq.to_string())
}

fn message_id(id: ConversationId, seq: Seq) -> MessageId {
    MessageId(Uuid::from_u128(id.0.as_u128() << 64 | u128::from(seq.0)))
}

fn send(id: ConversationId, seq: Seq, text: &str) -> Change {
    Change::Send(Draft {
        id: message_id(id, seq),
        client_msg_id: ClientMsgId::parse(&seq.to_string()).expect("valid"),
        text: MessageText::parse(text).expect("valid"),
    })
}

fn run(conn: &Connection, id: ConversationId, change: Change) -> Result<Commit> {
    let write = Write { by: Principal { user: ADA, session: SessionId(ADA.0) }, at: NOW, change };
    append::run(conn, id, vec![write]).expect("commits").remove(0)
}

proptest! {
    #[test]
    fn whatever_happened_is_replayed_in_its_order(
        before in prop::collection::vec((any::<bool>(), act()), 0..40),
        after in prop::collection::vec((any::<bool>(), act()), 0..40),
    ) {
        let in_each = |acts: &[(bool, Act)], here| acts.iter().filter(|(at, _)| *at == here).map(|(_, act)| *act).collect::<Vec<_>>();
        let mut conn = Connection::open_in_memory().expect("opens");
        conn.execute_batch("PRAGMA foreign_keys = ON").expect("sets");
        migrate::run_first(&mut conn, OLDER).expect("migrates");
        conn.execute("INSERT INTO users VALUES (?1, 'a@x.org', 'Ada', '', 1)", [ADA.0]).expect("inserts");
        conn.execute("INSERT INTO sessions VALUES (?1, ?1, 1, 1, 9, NULL, 0, 1)", [ADA.0]).expect("inserts");
        conn.execute("INSERT INTO workspaces VALUES (?1, 'Team', 'code', 1, NULL)", [ADA.0]).expect("inserts");
        conn.execute("INSERT INTO workspace_members VALUES (?1, ?1, 'admin', 1)", [ADA.0]).expect("inserts");
        let mut clients = [(HERE, true), (THERE, false)].map(|(id, here)| {
            let client = Client::older(&in_each(&before, here), &conn, id);
            conn.execute("INSERT INTO conversation_members VALUES (?1, ?2, 0, 1)", params![id.0, ADA.0]).expect("inserts");
            (id, here, client)
        });

        let reactions = |conn: &Connection| -> i64 {
            conn.query_row("SELECT count(*) FROM reactions", [], |row| row.get(0)).expect("reads")
        };
        let had = reactions(&conn);

        migrate::run(&mut conn, NOW).expect("migrates");
        prop_assert_eq!(reactions(&conn), had);
        for (id, here, client) in &mut clients {
            client.check(&conn, *id);
            let seen = see(&conn, None, *id).expect("reads").expect("is there");
            let whole = page(&conn, seen, ReplayQuery::after(Rev(0))).expect("reads");
            prop_assert!(whole.messages.iter().all(is_as_it_was), "{:?}", whole.messages);
            if !client.revs.is_empty() {
                // An earlier send is recognised, by the text that it had then.
                prop_assert_eq!(run(&conn, *id, send(*id, Seq(1), FIRST)).expect("known").change, None);
                prop_assert!(run(&conn, *id, send(*id, Seq(1), "edited")).is_err());
            }
            for act in in_each(&after, *here) {
                client.act(act, &conn, *id);
            }
        }
        for (id, _, client) in &clients {
            client.check(&conn, *id);
        }
        let broken: i64 = conn.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0)).expect("reads");
        prop_assert_eq!(broken, 0);
    }
}
