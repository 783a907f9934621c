//! What happens to a connection's user between registration and attachment, without I/O. State events, which no rev
//! can recover, are held; once the snapshot says what the user is in, they are replayed in order.
//!
//! 1. Nothing is told of a conversation or workspace before the user joined it, or after they left
//!    (`what_is_told_lies_between_the_way_in_and_the_way_out`, `a_workspace_is_told_of_while_its_member_is_in_it`).
//! 2. A change of access is not told if the snapshot shows it or a later one supersedes it
//!    (`what_the_snapshot_shows_is_not_told`, `what_a_later_change_of_access_has_overtaken_is_not_told`).
//! 3. A read mark is told if it goes beyond what the snapshot or the join shows, in whatever order they came
//!    (`a_read_mark_is_told_that_goes_beyond_what_was_shown`).
//! 4. The user's leaving a workspace is told only if no join came after it, because it makes the client forget the
//!    workspace. An answer of a shared store may be older than the snapshot: then the store is asked again
//!    (`who_is_back_in_a_workspace_is_not_told_that_they_left_it`, `whose_membership_is_in_doubt_is_told_on`).
//! 5. It holds at most [`HELD`] events, and [`NAMED`] each of deleted conversations, workspaces in doubt and
//!    conversations the user may be in: beyond that, the connection has to start over
//!    (`more_than_is_held_begins_anew`).
//! 6. A deletion that the snapshot does not show is told, and nothing else of what was deleted
//!    (`of_what_was_deleted_nothing_else_is_told`).

use parlance_domain::{AccessRev, ConversationId, Seq, WorkspaceId};
use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use super::{Attachment, Frame};
use crate::ports::store::Head;

/// The most state events held for a connection.
const HELD: usize = 1_024;
/// The most ids of each kind. Those of deleted conversations are held for every connection, because only the snapshot
/// says whom they concern, and deleting a workspace may delete thousands of conversations.
const NAMED: usize = 16_384;

/// What a held event concerns, and what it changes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope {
    /// The user joins a conversation: its head, their read mark, and its workspace.
    Joined(Head, Seq, Option<WorkspaceId>),
    /// They leave it, with the `access_rev` of that change.
    Left(ConversationId, AccessRev),
    Conversation(ConversationId),
    /// The user's read mark.
    Read(ConversationId, Seq),
    WorkspaceJoined(WorkspaceId),
    WorkspaceLeft(WorkspaceId),
    WorkspaceDeleted(WorkspaceId),
    Workspace(WorkspaceId),
}

#[derive(Default)]
pub(super) struct Attaching {
    held: Vec<(Scope, Option<Frame>)>,
    deleted: HashSet<ConversationId>,
    doubted: HashSet<WorkspaceId>,
    admitted: HashSet<ConversationId>,
    overflowed: bool,
}

/// The result: what a connection is in once all that was held has been replayed.
#[derive(Default)]
pub(super) struct Attached {
    /// What to tell it first.
    pub(super) told: Vec<Frame>,
    pub(super) workspaces: HashSet<WorkspaceId>,
    /// Workspaces that the user has left, with the frames that say so.
    pub(super) left: HashMap<WorkspaceId, Option<Frame>>,
    /// Workspaces that they may no longer be in.
    pub(super) doubted: HashSet<WorkspaceId>,
    /// Conversations that they may be in by now.
    pub(super) admitted: HashSet<ConversationId>,
    /// Each conversation's workspace.
    pub(super) homes: Vec<(ConversationId, WorkspaceId)>,
    pub(super) joined: Vec<Head>,
    /// What it joins after a replay.
    pub(super) pending: Vec<Head>,
    /// The read marks that it has been told.
    pub(super) read: HashMap<ConversationId, Seq>,
}

impl Attaching {
    /// Holds what may concern the connection. Without a frame, nothing is told.
    pub(super) fn hold(&mut self, scope: Scope, frame: Option<&Frame>) {
        if self.held.len() < HELD {
            self.held.push((scope, frame.cloned()));
        } else {
            self.overflowed = true;
        }
    }

    /// Holds that a conversation is gone.
    pub(super) fn deleted(&mut self, conversation: ConversationId) {
        self.overflowed |= !named(&mut self.deleted, conversation);
    }

    /// Holds that the user is out of a workspace, or was before the snapshot.
    pub(super) fn doubt(&mut self, workspace: WorkspaceId) {
        self.overflowed |= !named(&mut self.doubted, workspace);
    }

    /// Holds that the user has been let into a conversation, maybe since the snapshot.
    pub(super) fn admit(&mut self, conversation: ConversationId) {
        self.overflowed |= !named(&mut self.admitted, conversation);
    }

    /// Replays what was held, starting from what the snapshot shows. None if more came than can be held.
    pub(super) fn attach(self, to: Attachment) -> Option<Attached> {
        if self.overflowed {
            return None;
        }
        let Attachment { workspaces, mut conversations, mut pending, read, homes } = to;
        let mut this = Attached { admitted: self.admitted, ..Attached::default() };
        this.workspaces.extend(workspaces);
        this.read.extend(read);
        this.homes = homes;
        let shown = || conversations.iter().chain(&pending);
        // The latest known change of access of each.
        let mut access: HashMap<_, _> =
            shown().map(|head| (head.conversation_id, head.access_rev)).collect();
        // What the user is in, and from which head on if they joined since.
        let mut inside: HashMap<ConversationId, Option<Head>> =
            shown().map(|head| (head.conversation_id, None)).collect();
        for id in &self.deleted {
            if inside.remove(id).is_some() {
                this.told.push(Frame::deleted(*id));
            }
        }
        let mut is_later = |id, access_rev| {
            let later = !self.deleted.contains(&id)
                && access.get(&id).is_none_or(|known| *known < access_rev);
            if later {
                access.insert(id, access_rev);
            }
            later
        };
        let mut marks = Vec::new();
        for (scope, frame) in self.held {
            let concerns = match scope {
                Scope::Joined(head, read_seq, home) => {
                    let id = head.conversation_id;
                    let later = is_later(id, head.access_rev);
                    if later {
                        inside.insert(id, Some(head));
                        this.read.insert(id, read_seq);
                        this.homes.extend(home.map(|home| (id, home)));
                    }
                    later
                }
                Scope::Left(id, access_rev) => {
                    is_later(id, access_rev) && inside.remove(&id).is_some()
                }
                Scope::Conversation(id) => inside.contains_key(&id),
                Scope::Read(id, seq) => {
                    marks.push((id, seq, frame));
                    continue;
                }
                Scope::WorkspaceJoined(id) => {
                    this.left.remove(&id);
                    this.workspaces.insert(id);
                    true
                }
                Scope::WorkspaceLeft(id) => {
                    if this.workspaces.remove(&id) {
                        this.left.insert(id, frame);
                    }
                    continue;
                }
                Scope::WorkspaceDeleted(id) => {
                    this.left.remove(&id).is_some() | this.workspaces.remove(&id)
                }
                Scope::Workspace(id) => this.workspaces.contains(&id),
            };
            if concerns {
                this.told.extend(frame);
            }
        }
        for (id, seq, frame) in marks {
            let shown = this.read.entry(id).or_default();
            if inside.contains_key(&id) && *shown < seq {
                *shown = seq;
                this.told.extend(frame);
            }
        }
        let as_shown = |head: &Head| inside.get(&head.conversation_id) == Some(&None);
        conversations.retain(as_shown);
        pending.retain(as_shown);
        conversations.extend(inside.values().flatten());
        this.doubted.extend(self.doubted.into_iter().filter(|id| this.workspaces.contains(id)));
        Some(Attached { joined: conversations, pending, ..this })
    }
}

/// False if there is no room.
fn named<T: Eq + std::hash::Hash>(names: &mut HashSet<T>, name: T) -> bool {
    let room = names.len() < NAMED;
    if room {
        names.insert(name);
    }
    room
}

#[cfg(test)]
mod tests {
    use parlance_domain::Rev;
    use uuid::Uuid;

    use super::*;

    const HERE: ConversationId = ConversationId(Uuid::nil());
    const TEAM: WorkspaceId = WorkspaceId(Uuid::nil());

    fn head(access_rev: u64) -> Head {
        Head { conversation_id: HERE, rev: Rev(7), access_rev: AccessRev(access_rev) }
    }

    /// The numbers of the events told, and what is joined, given a snapshot that shows these heads, all read up to the
    /// fifth message.
    fn attach(held: &[Scope], conversations: Vec<Head>) -> (Vec<usize>, Vec<Head>) {
        let mut attaching = Attaching::default();
        for (number, scope) in held.iter().enumerate() {
            attaching.hold(*scope, Some(&Frame::encode(&number)));
        }
        let read = conversations.iter().map(|head| (head.conversation_id, Seq(5))).collect();
        let attachment = Attachment { conversations, read, ..Attachment::default() };
        let attached = attaching.attach(attachment).expect("few are held");
        let number = |frame: &Frame| serde_json::from_slice(frame.bytes()).expect("a number");
        let left = attached.left.values().flatten();
        (attached.told.iter().chain(left).map(number).collect(), attached.joined)
    }

    #[test]
    fn what_is_told_lies_between_the_way_in_and_the_way_out() {
        let (of, left, joined) = (
            Scope::Conversation(HERE),
            Scope::Left(HERE, AccessRev(2)),
            Scope::Joined(head(3), Seq(7), None),
        );
        assert_eq!(attach(&[of, left, of], vec![head(1)]), (vec![0, 1], vec![]));
        assert_eq!(attach(&[of, joined, of], vec![]), (vec![1, 2], vec![head(3)]));
        let both = [left, of, joined, of];
        assert_eq!(attach(&both, vec![head(1)]), (vec![0, 2, 3], vec![head(3)]));
        assert_eq!(attach(&[left], vec![]), (vec![], vec![]), "it was not shown");
    }

    #[test]
    fn a_workspace_is_told_of_while_its_member_is_in_it() {
        let of = Scope::Workspace(TEAM);
        let (joined, left) = (Scope::WorkspaceJoined(TEAM), Scope::WorkspaceLeft(TEAM));
        let told = [of, left, joined, of, left, of];
        assert_eq!(attach(&told, vec![]).0, [2, 3, 4]);
        let told = [joined, left, Scope::WorkspaceDeleted(TEAM), of];
        assert_eq!(attach(&told, vec![]).0, [0, 2]);
    }

    #[test]
    fn who_is_back_in_a_workspace_is_not_told_that_they_left_it() {
        let (joined, left) = (Scope::WorkspaceJoined(TEAM), Scope::WorkspaceLeft(TEAM));
        assert!(attach(&[left], vec![]).0.is_empty(), "they were not in it");
        assert_eq!(attach(&[joined, left], vec![]).0, [0, 1]);
        assert_eq!(attach(&[joined, left, joined], vec![]).0, [0, 2]);
    }

    #[test]
    fn whose_membership_is_in_doubt_is_told_on() {
        for (before, doubts) in [(Scope::WorkspaceJoined(TEAM), 1), (Scope::Read(HERE, Seq(1)), 0)]
        {
            let mut attaching = Attaching::default();
            attaching.hold(before, None);
            attaching.doubt(TEAM);
            attaching.hold(Scope::Workspace(TEAM), Some(&Frame::encode(&1)));
            let attached = attaching.attach(Attachment::default()).expect("few are held");
            assert_eq!((attached.doubted.len(), attached.told.len()), (doubts, doubts));
        }
    }

    #[test]
    fn what_the_snapshot_shows_is_not_told() {
        let (left, joined) =
            (Scope::Left(HERE, AccessRev(2)), Scope::Joined(head(3), Seq(7), None));
        assert_eq!(attach(&[left, joined], vec![head(3)]), (vec![], vec![head(3)]));
    }

    #[test]
    fn what_a_later_change_of_access_has_overtaken_is_not_told() {
        let (left, joined) =
            (Scope::Left(HERE, AccessRev(2)), Scope::Joined(head(3), Seq(7), None));
        assert_eq!(attach(&[joined, left], vec![]), (vec![0], vec![head(3)]));
    }

    #[test]
    fn of_what_was_deleted_nothing_else_is_told() {
        let joined = Scope::Joined(head(3), Seq(7), None);
        for (shown, told) in [(vec![head(1)], vec![Frame::deleted(HERE)]), (vec![], vec![])] {
            let mut attaching = Attaching::default();
            for scope in [joined, Scope::Conversation(HERE), Scope::Read(HERE, Seq(9))] {
                attaching.hold(scope, Some(&Frame::encode(&1)));
                attaching.deleted(HERE);
            }
            let attachment = Attachment { conversations: shown, ..Attachment::default() };
            let attached = attaching.attach(attachment).expect("few are held");
            assert_eq!((attached.told, attached.joined), (told, vec![]));
        }
    }

    #[test]
    fn a_read_mark_is_told_that_goes_beyond_what_was_shown() {
        let read = |seq| Scope::Read(HERE, Seq(seq));
        let (left, joined) =
            (Scope::Left(HERE, AccessRev(2)), Scope::Joined(head(3), Seq(7), None));
        assert_eq!(attach(&[read(4), read(5), read(6)], vec![head(1)]).0, [2]);
        assert_eq!(attach(&[read(6), read(8), left, joined], vec![head(1)]).0, [2, 3, 1]);
        assert_eq!(attach(&[joined, read(7), read(9)], vec![]).0, [0, 2]);
        assert_eq!(attach(&[read(6), left], vec![head(1)]).0, [1], "they are out");
    }

    #[test]
    fn more_than_is_held_begins_anew() {
        let mut attaching = Attaching::default();
        for _ in 0..=HELD {
            attaching.hold(Scope::Read(HERE, Seq(1)), None);
        }
        assert!(attaching.attach(Attachment::default()).is_none());
        let id = |number: usize| Uuid::from_u128(number as u128);
        let names: [fn(&mut Attaching, Uuid); 3] = [
            |attaching, id| attaching.deleted(ConversationId(id)),
            |attaching, id| attaching.admit(ConversationId(id)),
            |attaching, id| attaching.doubt(WorkspaceId(id)),
        ];
        for (name, (more, fits)) in
            names.into_iter().flat_map(|name| [(0, true), (1, false)].map(|case| (name, case)))
        {
            let mut attaching = Attaching::default();
            (0..NAMED + more).for_each(|number| name(&mut attaching, id(number)));
            assert_eq!(attaching.attach(Attachment::default()).is_some(), fits);
        }
    }
}
