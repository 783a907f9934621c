//! Which appends share a transaction, and when it begins.
//!
//! 1. An append that finds nothing in progress begins at once; so one that is alone waits for nobody.
//! 2. What comes while a group is in progress is in the next one, all of it that fits.
//! 3. After a group the next waits for those who have just been answered, [`GATHER`] at most and only where that pays: they
//!    often write again at once, and the fewer groups there are, the less each message costs.
//! 4. A group that takes long is not waited for: the next begins beside it, but no third beside two that do.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use parlance_application::{Gathering, Result};
use tokio::{sync::oneshot, time::timeout};

use crate::{append::Answers, group::Append};

/// Most writes of a group.
const MOST: usize = 256;
/// How long those who have just been answered are waited for: each conversation's lane waits for its own before.
const GATHER: Duration = Duration::from_millis(2);
/// Most groups that take long, before all have to wait for one.
const SLOW: usize = 2;

/// The appends that wait.
#[derive(Default)]
pub(crate) struct Queue(Mutex<State>);

pub(crate) struct Waiting {
    pub(crate) append: Append,
    pub(crate) reply: oneshot::Sender<Result<Answers>>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Of those that wait.
    writes: usize,
    /// Whether there is somebody who takes what waits as soon as it may be taken.
    tended: bool,
    /// Groups in progress that take long.
    slow: usize,
    gathering: Gathering,
    /// To be told when so many writes wait.
    wanted: Option<(usize, oneshot::Sender<()>)>,
}

impl Queue {
    /// Whether somebody has to begin with what waits.
    pub(crate) fn push(&self, waiting: Waiting) -> bool {
        let mut state = self.lock();
        state.writes += waiting.append.1.len();
        state.waiting.push_back(waiting);
        let writes = state.writes;
        if let Some((_, enough)) = state.wanted.take_if(|(wanted, _)| writes >= *wanted) {
            let _ = enough.send(());
        }
        state.tend()
    }

    /// What is to be tried together, oldest first; nothing if nothing waits, and then there is nobody who takes it.
    pub(crate) fn take(&self) -> Vec<Waiting> {
        let mut state = self.lock();
        let (mut room, mut group, mut there) = (MOST, Vec::new(), HashSet::new());
        for _ in 0..state.waiting.len() {
            let Some(next) = state.waiting.pop_front() else { break };
            let (conversation, writes) = &next.append;
            let fits = group.is_empty() || writes.len() <= room;
            if fits && there.insert(*conversation) {
                room = room.saturating_sub(writes.len());
                group.push(next);
            } else {
                state.waiting.push_back(next);
            }
        }
        state.writes -= writes(&group);
        state.tended = !group.is_empty();
        group
    }

    /// Waits for those who were answered, where that pays.
    pub(crate) async fn gather(&self, answered: usize) {
        let (wanted, gathered) = {
            let mut state = self.lock();
            let waiting = state.writes;
            let Some(wanted) = state.gathering.wanted(answered, waiting) else { return };
            if waiting >= MOST {
                return;
            }
            let (wanted, (enough, gathered)) = (wanted.min(MOST), oneshot::channel());
            state.wanted = Some((wanted, enough));
            (wanted, gathered)
        };
        let _ = timeout(GATHER, gathered).await;
        let mut state = self.lock();
        state.wanted = None;
        // Each conversation has a pace of its own: nearly never all are back at once.
        let paid = state.writes * 2 >= wanted;
        state.gathering.ended(paid);
    }

    /// Who took the last group waits for its end only. Says whether somebody else has to begin with what waits.
    pub(crate) fn leave(&self) -> bool {
        let mut state = self.lock();
        state.slow += 1;
        state.tended = false;
        !state.waiting.is_empty() && state.tend()
    }

    /// A group that took long has ended. Says whether who took it has to go on with what waits.
    pub(crate) fn come_back(&self) -> bool {
        let mut state = self.lock();
        state.slow -= 1;
        !state.waiting.is_empty() && state.tend()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether whoever asks is the one who takes what waits from now on.
    const fn tend(&mut self) -> bool {
        let begin = !self.tended && self.slow < SLOW;
        self.tended |= begin;
        begin
    }
}

/// How many writes these are.
pub(crate) fn writes(group: &[Waiting]) -> usize {
    group.iter().map(|waiting| waiting.append.1.len()).sum()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use parlance_application::ports::store::{Change, Draft, Write};
    use parlance_domain::{ClientMsgId, ConversationId, MessageId, MessageText, Timestamp, UserId};
    use uuid::Uuid;

    use super::*;

    fn waiting(conversation: u128, writes: usize) -> Waiting {
        let draft = Draft {
            id: MessageId(Uuid::nil()),
            client_msg_id: ClientMsgId::parse("1").expect("valid"),
            text: MessageText::parse("hello").expect("valid"),
        };
        let (actor, at) = (UserId(Uuid::nil()), Timestamp::from_millis(0));
        let write = Write { actor, session: None, at, change: Change::Send(draft) };
        let append = (ConversationId(Uuid::from_u128(conversation)), vec![write; writes]);
        Waiting { append, reply: oneshot::channel().0 }
    }

    fn taken(queue: &Queue) -> Vec<(u128, usize)> {
        let group = queue.take().into_iter();
        group.map(|next| (next.append.0.0.as_u128(), next.append.1.len())).collect()
    }

    #[test]
    fn who_comes_alone_begins_and_the_rest_shares() {
        let queue = Queue::default();
        assert!(queue.push(waiting(1, 1)));
        assert_eq!(taken(&queue), [(1, 1)]);
        assert!(!queue.push(waiting(10, 1)), "one is in progress");
        assert!(!queue.push(waiting(11, 2)));
        assert_eq!(taken(&queue), [(10, 1), (11, 2)]);
        assert!(taken(&queue).is_empty());
        assert!(queue.push(waiting(12, 1)), "none is in progress");
    }

    #[test]
    fn what_takes_long_is_not_waited_for_but_two_of_them_are() {
        let queue = Queue::default();
        assert!(queue.push(waiting(1, 1)));
        taken(&queue);
        assert!(!queue.leave(), "nothing waits");
        assert!(queue.push(waiting(2, 1)), "the first is not waited for");
        taken(&queue);
        assert!(!queue.push(waiting(3, 1)));
        assert!(!queue.leave(), "two that take long are enough");
        assert!(!queue.push(waiting(4, 1)));
        assert!(queue.come_back(), "what waits goes on as soon as one of them ends");
        assert_eq!(taken(&queue), [(3, 1), (4, 1)]);
        assert!(!queue.come_back(), "there is somebody who goes on");
        assert!(!queue.push(waiting(5, 1)));
        assert!(queue.leave());
        assert_eq!(taken(&queue), [(5, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_were_answered_are_waited_for_while_they_come_again() {
        let queue = Queue::default();
        queue.push(waiting(1, 1));
        taken(&queue);
        {
            let mut gather = std::pin::pin!(queue.gather(3));
            assert!((&mut gather).now_or_never().is_none(), "waits");
            queue.push(waiting(1, 1));
            assert!((&mut gather).now_or_never().is_none(), "waits for the other two");
            queue.push(waiting(2, 2));
            assert!((&mut gather).now_or_never().is_some(), "all are there");
        }
        assert_eq!(taken(&queue), [(1, 1), (2, 2)]);
        let begun = tokio::time::Instant::now();
        queue.push(waiting(1, 2));
        queue.gather(2).await;
        assert!((GATHER..GATHER * 2).contains(&begun.elapsed()));
        assert_eq!(taken(&queue), [(1, 2)], "half of them came, which was worth it");
        queue.gather(3).await;
        assert!((GATHER * 2..GATHER * 3).contains(&begun.elapsed()), "nobody comes");
        assert!(queue.gather(3).now_or_never().is_some(), "and is not waited for again");
        assert!(queue.gather(1).now_or_never().is_some(), "who writes alone waits for nobody");
    }

    #[test]
    fn a_group_has_each_conversation_once_and_no_more_than_fits() {
        let queue = Queue::default();
        for (conversation, writes) in [(1, 200), (2, 40), (1, 5), (3, 30), (4, 16), (5, 300)] {
            queue.push(waiting(conversation, writes));
        }
        assert_eq!(taken(&queue), [(1, 200), (2, 40), (4, 16)]);
        assert_eq!(taken(&queue), [(1, 5), (3, 30)]);
        assert_eq!(taken(&queue), [(5, 300)], "alone, however many");
        assert!(taken(&queue).is_empty());
    }
}
