//! Who may do what: the permission matrix, as data.
//!
//! An adapter reads a person's [`Role`] or [`Standing`] inside the write's transaction and asks here. What depends on
//! the message (whose it is, whether it is a tombstone) is decided by the port's `MessageChange::takes_effect`; who may
//! see the job board, by its use case. The tests compare both tables with their checked-in snapshots.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ConversationKind, Invalid, UserId};

/// A member's role in a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Manages members, roles, the join code and channels.
    Admin,
    /// Sends, creates channels, leaves.
    Member,
}

/// Why something was refused. A caller learns no more than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The person may not even learn that it exists.
    #[error("not found")]
    Hidden,
    /// The person may read it, but not do that.
    #[error("forbidden")]
    Forbidden,
}

/// What can be done with a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum WorkspaceAction {
    Read,
    ReadJoinCode,
    RotateJoinCode,
    Update,
    Delete,
    Leave,
    ListMembers,
    AddMember,
    ChangeRole,
    RemoveMember,
    CreateChannel,
    OpenDm,
}

/// What can be done with a conversation and its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it, but for the two below")]
pub enum ConversationAction {
    Read,
    /// Send, edit and delete one's own, react, show that one is typing.
    Post,
    DeleteOthersMessage,
    MarkRead,
    Join,
    Leave,
    ListMembers,
    AddMember,
    RemoveMember,
    /// Change name or topic.
    Update,
    Delete,
}

impl WorkspaceAction {
    /// The action of `by` who ends the membership of `member`.
    pub fn removal(member: UserId, by: UserId) -> Self {
        if member == by { Self::Leave } else { Self::RemoveMember }
    }
}

impl ConversationAction {
    /// The action of `by` who ends the membership of `member`.
    pub fn removal(member: UserId, by: UserId) -> Self {
        if member == by { Self::Leave } else { Self::RemoveMember }
    }
}

/// A person's relation to a conversation: all inputs of a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not in the workspace.
    Outsider,
    /// A member, outside a public channel.
    PublicNonMember,
    /// An admin, outside a public channel.
    PublicNonMemberAdmin,
    /// A member, in a public channel.
    PublicMember,
    /// An admin, in a public channel.
    PublicAdmin,
    /// Anybody, outside a private channel.
    PrivateNonMember,
    /// A member, in a private channel.
    PrivateMember,
    /// A member, in a private channel that they created.
    PrivateCreator,
    /// An admin, in a private channel.
    PrivateAdmin,
    /// Anybody, outside a DM.
    DmNonMember,
    /// A member, in a DM whose other side is still in the workspace.
    DmMember,
    /// An admin, in such a DM.
    DmAdmin,
    /// Anybody, in a DM whose other side has left the workspace.
    DmAlone,
}

/// What an adapter has read about a person and a conversation.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The person's role in the workspace, if they are in it.
    pub role: Option<Role>,
    /// What the conversation is.
    pub kind: ConversationKind,
    /// Whether it is private.
    pub private: bool,
    /// Whether the person is in it.
    pub joined: bool,
    /// Whether the person created it.
    pub creator: bool,
    /// In a DM: whether the other person is still in the workspace. Ignored for channels.
    pub peer_present: bool,
}

impl Standing {
    /// Every standing, in the order of the table's columns.
    pub const ALL: [Self; 13] = [
        Self::Outsider,
        Self::PublicNonMember,
        Self::PublicNonMemberAdmin,
        Self::PublicMember,
        Self::PublicAdmin,
        Self::PrivateNonMember,
        Self::PrivateMember,
        Self::PrivateCreator,
        Self::PrivateAdmin,
        Self::DmNonMember,
        Self::DmMember,
        Self::DmAdmin,
        Self::DmAlone,
    ];

    /// Whether somebody is in the conversation itself. Being allowed to read it does not imply that.
    #[must_use]
    pub const fn is_inside(self) -> bool {
        !matches!(
            self,
            Self::Outsider
                | Self::PublicNonMember
                | Self::PublicNonMemberAdmin
                | Self::PrivateNonMember
                | Self::DmNonMember
        )
    }

    /// The standing that follows from the facts.
    pub const fn of(facts: Facts) -> Self {
        let Some(role) = facts.role else { return Self::Outsider };
        match (facts.kind, facts.private, facts.joined, role) {
            (ConversationKind::Dm, _, false, _) => Self::DmNonMember,
            (ConversationKind::Dm, _, true, _) if !facts.peer_present => Self::DmAlone,
            (ConversationKind::Dm, _, true, Role::Admin) => Self::DmAdmin,
            (ConversationKind::Dm, _, true, Role::Member) => Self::DmMember,
            (ConversationKind::Channel, false, false, Role::Member) => Self::PublicNonMember,
            (ConversationKind::Channel, false, false, Role::Admin) => Self::PublicNonMemberAdmin,
            (ConversationKind::Channel, false, true, Role::Member) => Self::PublicMember,
            (ConversationKind::Channel, false, true, Role::Admin) => Self::PublicAdmin,
            (ConversationKind::Channel, true, false, _) => Self::PrivateNonMember,
            (ConversationKind::Channel, true, true, Role::Admin) => Self::PrivateAdmin,
            (ConversationKind::Channel, true, true, Role::Member) if facts.creator => {
                Self::PrivateCreator
            }
            (ConversationKind::Channel, true, true, Role::Member) => Self::PrivateMember,
        }
    }

    /// Whether the person may do it, and if not, how much to tell.
    pub fn permits(self, action: ConversationAction) -> Result<(), Denied> {
        CONVERSATION[action as usize].1[self as usize].into()
    }
}

#[derive(Clone, Copy)]
enum Cell {
    Yes,
    No,
    Hide,
}

impl Role {
    /// Reads [`Role::name`]; refuses anything else as `unknown`.
    pub fn parse(name: &str) -> Result<Self, Invalid> {
        [Self::Admin, Self::Member].into_iter().find(|role| role.name() == name).ok_or_else(|| {
            Invalid { code: "unknown", message: "must be admin or member".to_owned() }
        })
    }

    /// The role's name in the store and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }

    /// Whether a person with this role (or none) may do it, and if not, how much to tell.
    pub fn permits(role: Option<Self>, action: WorkspaceAction) -> Result<(), Denied> {
        let column = match role {
            None => 0,
            Some(Self::Member) => 1,
            Some(Self::Admin) => 2,
        };
        WORKSPACE[action as usize].1[column].into()
    }
}

impl From<Cell> for Result<(), Denied> {
    fn from(cell: Cell) -> Self {
        match cell {
            Cell::Yes => Ok(()),
            Cell::No => Err(Denied::Forbidden),
            Cell::Hide => Err(Denied::Hidden),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Hide => "·",
        })
    }
}

use Cell::{Hide, No, Yes};

/// Columns: outsider, member, admin.
const WORKSPACE: [(WorkspaceAction, [Cell; 3]); 12] = {
    use WorkspaceAction as A;
    [
        (A::Read, [Hide, Yes, Yes]),
        (A::ReadJoinCode, [Hide, No, Yes]),
        (A::RotateJoinCode, [Hide, No, Yes]),
        (A::Update, [Hide, No, Yes]),
        (A::Delete, [Hide, No, Yes]),
        (A::Leave, [Hide, Yes, Yes]),
        (A::ListMembers, [Hide, Yes, Yes]),
        (A::AddMember, [Hide, No, Yes]),
        (A::ChangeRole, [Hide, No, Yes]),
        (A::RemoveMember, [Hide, No, Yes]),
        (A::CreateChannel, [Hide, Yes, Yes]),
        (A::OpenDm, [Hide, Yes, Yes]),
    ]
};

/// Columns: [`Standing::ALL`].
#[rustfmt::skip]
const CONVERSATION: [(ConversationAction, [Cell; 13]); 11] = {
    use ConversationAction as A;
    [
        //                        outsider | public: outside, admin outside, member, admin | private: outside, member, creator, admin | dm: outside, member, admin, alone
        (A::Read,                [Hide,      Yes, Yes, Yes, Yes,                         Hide, Yes, Yes, Yes,                     Hide, Yes, Yes, Yes]),
        (A::Post,                [Hide,      No,  No,  Yes, Yes,                         Hide, Yes, Yes, Yes,                     Hide, Yes, Yes, No]),
        // A DM belongs to its two people alone.
        (A::DeleteOthersMessage, [Hide,      No,  Yes, No,  Yes,                         Hide, No,  No,  Yes,                     Hide, No,  No,  No]),
        (A::MarkRead,            [Hide,      No,  No,  Yes, Yes,                         Hide, Yes, Yes, Yes,                     Hide, Yes, Yes, Yes]),
        (A::Join,                [Hide,      Yes, Yes, Yes, Yes,                         Hide, Yes, Yes, Yes,                     Hide, No,  No,  No]),
        (A::Leave,               [Hide,      No,  No,  Yes, Yes,                         Hide, Yes, Yes, Yes,                     Hide, No,  No,  No]),
        // `Conversation::member_ids` names a DM's two people; only channels have a member list.
        (A::ListMembers,         [Hide,      Yes, Yes, Yes, Yes,                         Hide, Yes, Yes, Yes,                     Hide, Hide, Hide, Hide]),
        // The creator may add members: otherwise a plain member's private channel would stay empty forever.
        (A::AddMember,           [Hide,      No,  Yes, No,  Yes,                         Hide, No,  Yes, Yes,                     Hide, No,  No,  No]),
        (A::RemoveMember,        [Hide,      No,  Yes, No,  Yes,                         Hide, No,  No,  Yes,                     Hide, No,  No,  No]),
        (A::Update,              [Hide,      No,  Yes, No,  Yes,                         Hide, No,  No,  Yes,                     Hide, No,  No,  No]),
        (A::Delete,              [Hide,      No,  Yes, No,  Yes,                         Hide, No,  No,  Yes,                     Hide, No,  No,  No]),
    ]
};

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn rows_stand_at_their_actions_place() {
        assert!(WORKSPACE.iter().enumerate().all(|(i, (action, _))| *action as usize == i));
        assert!(CONVERSATION.iter().enumerate().all(|(i, (action, _))| *action as usize == i));
        assert!(Standing::ALL.iter().enumerate().all(|(i, standing)| *standing as usize == i));
    }

    #[test]
    fn the_matrix_is_the_one_in_the_picture() {
        let mut picture = String::from("\n");
        let _ = writeln!(
            picture,
            "{:<15} {:>8} {:>6} {:>5}",
            "workspace", "outsider", "member", "admin"
        );
        for (action, cells) in WORKSPACE {
            let _ = writeln!(
                picture,
                "{:<15} {:>8} {:>6} {:>5}",
                format!("{action:?}"),
                cells[0],
                cells[1],
                cells[2]
            );
        }
        for (action, cells) in CONVERSATION {
            let _ = writeln!(picture, "\n{action:?}");
            for (standing, cell) in Standing::ALL.iter().zip(cells) {
                let _ = writeln!(picture, "  {:<20} {cell}", format!("{standing:?}"));
            }
        }
        insta::assert_snapshot!(picture);
    }

    #[test]
    fn a_standing_sums_up_the_facts() {
        use ConversationKind::{Channel, Dm};
        let (member, admin) = (Some(Role::Member), Some(Role::Admin));
        // Role, kind, private, joined, creator, whether the other side is present.
        for (role, kind, private, joined, creator, peer_present, expected) in [
            (None, Channel, false, true, true, true, Standing::Outsider),
            (None, Channel, true, true, true, true, Standing::Outsider),
            (None, Dm, true, true, true, true, Standing::Outsider),
            (member, Channel, false, false, true, false, Standing::PublicNonMember),
            (admin, Channel, false, false, true, false, Standing::PublicNonMemberAdmin),
            (member, Channel, false, true, true, false, Standing::PublicMember),
            (admin, Channel, false, true, true, false, Standing::PublicAdmin),
            (member, Channel, true, false, true, false, Standing::PrivateNonMember),
            (admin, Channel, true, false, true, false, Standing::PrivateNonMember),
            (member, Channel, true, true, false, false, Standing::PrivateMember),
            (member, Channel, true, true, true, false, Standing::PrivateCreator),
            (admin, Channel, true, true, true, false, Standing::PrivateAdmin),
            (member, Dm, true, false, false, true, Standing::DmNonMember),
            (admin, Dm, true, false, false, true, Standing::DmNonMember),
            (member, Dm, true, true, true, true, Standing::DmMember),
            (admin, Dm, true, true, true, true, Standing::DmAdmin),
            (member, Dm, true, true, true, false, Standing::DmAlone),
            (admin, Dm, true, true, true, false, Standing::DmAlone),
        ] {
            let facts = Facts { role, kind, private, joined, creator, peer_present };
            assert_eq!(Standing::of(facts), expected, "{facts:?}");
        }
    }
}
