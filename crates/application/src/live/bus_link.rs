//! A node's side of its bus, without I/O: the topics that it wants, who waits for them, and what the bus has lost.
//!
//! 1. Of the topics wanted or dropped since the last choice, those still needed are listened to, and those no longer
//!    needed are ignored (`what_is_needed_is_asked_for_and_the_rest_is_given_up`).
//! 2. A registration waits until the bus brings its user's topic, if that has just been requested or another one waits
//!    for it already (`a_registration_waits_for_the_bus`).
//! 3. Only one recovery from losses runs at a time, however often the bus loses something
//!    (`losses_are_made_up_for_once_at_a_time`).

use parlance_domain::UserId;
use rustc_hash::FxHashMap as HashMap;
use tokio::sync::oneshot;

use crate::ports::Topic;

#[derive(Default)]
pub(super) struct BusLink {
    /// Topics to listen to after the current input.
    wanted: Vec<Topic>,
    unwanted: Vec<Topic>,
    /// Registrations waiting for the bus to bring their user's topic.
    unconfirmed: HashMap<UserId, Vec<oneshot::Sender<()>>>,
    /// The bus has lost something of any conversation.
    lost: bool,
    /// The store is being asked for the heads of all conversations.
    making_up: bool,
}

/// What to tell the bus.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) listen: Vec<Topic>,
    pub(super) ignore: Vec<Topic>,
}

impl BusLink {
    pub(super) fn want(&mut self, topic: Topic) {
        self.wanted.push(topic);
    }

    /// Nobody needs a topic any more, unless somebody wants it again before the next [`BusLink::choose`].
    pub(super) fn unwant(&mut self, topic: Topic) {
        self.unwanted.push(topic);
    }

    /// What has changed since the last time.
    pub(super) fn choose(&mut self, is_needed: impl Fn(&Topic) -> bool) -> Choice {
        let mut listen = std::mem::take(&mut self.wanted);
        listen.retain(&is_needed);
        let mut ignore = std::mem::take(&mut self.unwanted);
        ignore.retain(|topic| !is_needed(topic));
        Choice { listen, ignore }
    }

    /// Lets a registration go on once the bus brings its user's events: at once, unless that has to be requested from a
    /// connected bus first.
    pub(super) fn confirm(&mut self, user: UserId, done: oneshot::Sender<()>, on_bus: bool) {
        let first = self.wanted.contains(&Topic::User(user));
        if self.unconfirmed.contains_key(&user) || (first && on_bus) {
            self.unconfirmed.entry(user).or_default().push(done);
        } else {
            let _ = done.send(());
        }
    }

    /// The bus brings a topic from now on.
    pub(super) fn listens(&mut self, topic: &Topic) {
        if let Topic::User(user) = topic {
            // Dropping the senders lets the registrations go on.
            self.unconfirmed.remove(user);
        }
    }

    /// Registrations do not wait for an unreachable bus.
    pub(super) fn confirm_all(&mut self) {
        self.unconfirmed.clear();
    }

    /// The bus has lost something of any conversation.
    pub(super) fn note_loss(&mut self) {
        self.lost = true;
    }

    /// Whether to ask the store now for the heads of all conversations. Answer with [`BusLink::made_up`].
    pub(super) fn begin_making_up(&mut self) -> bool {
        let begins = self.lost && !self.making_up;
        if begins {
            (self.lost, self.making_up) = (false, true);
        }
        begins
    }

    /// The store has answered, or failed to.
    pub(super) fn made_up(&mut self, answered: bool) {
        self.making_up = false;
        self.lost |= !answered;
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ADA: UserId = UserId(Uuid::from_u128(1));
    const TOPIC: Topic = Topic::User(ADA);

    #[test]
    fn what_is_needed_is_asked_for_and_the_rest_is_given_up() {
        let mut link = BusLink::default();
        link.want(TOPIC);
        link.unwant(TOPIC);
        let chosen = link.choose(|_| false);
        assert_eq!(
            chosen,
            Choice { listen: vec![], ignore: vec![TOPIC] },
            "somebody came and went"
        );
        link.unwant(TOPIC);
        link.want(TOPIC);
        let chosen = link.choose(|topic| *topic == TOPIC);
        assert_eq!(
            chosen,
            Choice { listen: vec![TOPIC], ignore: vec![] },
            "somebody went and came"
        );
        assert_eq!(link.choose(|_| false), Choice { listen: vec![], ignore: vec![] });
    }

    #[test]
    fn a_registration_waits_for_the_bus() {
        let mut link = BusLink::default();
        let register = |link: &mut BusLink, on_bus| {
            let (done, confirmed) = oneshot::channel();
            link.confirm(ADA, done, on_bus);
            confirmed
        };
        let goes_on = |confirmed: &mut oneshot::Receiver<()>| {
            !matches!(confirmed.try_recv(), Err(oneshot::error::TryRecvError::Empty))
        };
        assert!(goes_on(&mut register(&mut link, true)), "nothing new was asked for");
        link.want(TOPIC);
        assert!(goes_on(&mut register(&mut link, false)), "there is no bus");
        let mut first = register(&mut link, true);
        link.choose(|_| true);
        let mut second = register(&mut link, true);
        assert!(!goes_on(&mut first) && !goes_on(&mut second));
        link.listens(&TOPIC);
        assert!(goes_on(&mut first) && goes_on(&mut second));
        link.want(TOPIC);
        let mut third = register(&mut link, true);
        assert!(!goes_on(&mut third));
        link.confirm_all();
        assert!(goes_on(&mut third), "the bus is not waited for any longer");
    }

    #[test]
    fn losses_are_made_up_for_once_at_a_time() {
        let mut link = BusLink::default();
        assert!(!link.begin_making_up());
        link.note_loss();
        assert!(link.begin_making_up() && !link.begin_making_up());
        link.note_loss();
        assert!(!link.begin_making_up(), "the store is being asked");
        link.made_up(true);
        assert!(link.begin_making_up(), "something was lost since the question");
        link.made_up(false);
        assert!(link.begin_making_up(), "it was not answered");
        link.made_up(true);
        assert!(!link.begin_making_up());
    }
}
