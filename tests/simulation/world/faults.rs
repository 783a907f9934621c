//! What goes wrong in a run, and what people do to each other meanwhile.

use std::{sync::atomic::Ordering, time::Duration};

use parlance_application::ports::Ambient as _;
use parlance_domain::{ConversationId, UserId, WorkspaceName};
use parlance_testkit::{email, password};
use tokio::time::sleep;

use super::{PEOPLE, World};
use crate::{
    chance::Chance,
    node::{Ground, Node},
};

#[derive(Debug, Clone, Copy)]
enum Fault {
    Crash,
    Goodbye,
    BusCut,
    StoreCut,
    ConnectionsLost,
    ClockJump,
    Access,
    ComingAndGoing,
    Expulsion,
    SignOut,
    Rename,
}

/// And how often each of them occurs relative to the others.
const ALL: [(Fault, u64); 11] = [
    (Fault::Crash, 2),
    (Fault::Goodbye, 1),
    (Fault::BusCut, 2),
    (Fault::StoreCut, 1),
    (Fault::ConnectionsLost, 1),
    (Fault::ClockJump, 1),
    (Fault::Access, 3),
    (Fault::ComingAndGoing, 1),
    (Fault::Expulsion, 1),
    (Fault::SignOut, 1),
    (Fault::Rename, 2),
];

/// How often each of [`ALL`] occurs in one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults([u64; ALL.len()]);

impl Faults {
    pub(crate) const NONE: Self = Self([0; ALL.len()]);

    /// All, or a random half of them: faults that seldom coincide among all the others do so again and again where most
    /// of those are missing (Groce et al., "Swarm Testing", 2012).
    pub(crate) fn some(chance: &Chance) -> Self {
        let all = chance.percent(50);
        Self(ALL.map(|(_, often)| if all { often } else { often * chance.below(2) }))
    }

    fn draw(&self, chance: &Chance) -> Option<Fault> {
        let of_each = ALL.iter().zip(self.0);
        let some: Vec<_> = of_each.flat_map(|((it, _), often)| (0..often).map(|_| *it)).collect();
        chance.pick(&some).copied()
    }
}

impl World {
    /// Runs forever.
    pub(super) async fn storm(&self) {
        let Ground { chance, climate, .. } = &self.ground;
        loop {
            sleep(Duration::from_millis(50) + chance.millis(climate.calm)).await;
            if let Some(fault) = climate.faults.draw(chance) {
                self.strike(fault).await;
            }
        }
    }

    async fn strike(&self, fault: Fault) {
        let Ground { chance, judge, bus, .. } = &self.ground;
        let at = chance.index(self.nodes());
        let node = self.cluster.lock().expect("no panic")[at].clone();
        match (fault, node) {
            (Fault::Crash, Some(node)) => {
                judge.note(format!("node {at} crashes"));
                self.cluster.lock().expect("no panic")[at] = None;
                node.crash(bus);
                self.restart(at, chance.millis(3_000));
            }
            (Fault::Goodbye, Some(node)) => {
                judge.note(format!("node {at} is told to go"));
                self.cluster.lock().expect("no panic")[at] = None;
                node.drain(bus).await;
                self.restart(at, chance.millis(500));
            }
            (Fault::BusCut, Some(node)) => {
                judge.note(format!("node {at} is cut off the bus"));
                bus.cut(node.id, true);
                let (bus, after) = (bus.clone(), chance.millis(6_000));
                tokio::spawn(async move {
                    sleep(after).await;
                    bus.cut(node.id, false);
                });
            }
            (Fault::StoreCut, Some(node)) => {
                judge.note(format!("node {at} is cut off the store"));
                node.store_link.cut.store(true, Ordering::Relaxed);
                let after = chance.millis(4_000);
                tokio::spawn(async move {
                    sleep(after).await;
                    node.store_link.cut.store(false, Ordering::Relaxed);
                });
            }
            (Fault::ConnectionsLost, Some(node)) => {
                judge.note(format!("node {at} loses its connections"));
                node.lose_connections(chance, 50);
            }
            (Fault::ClockJump, _) => {
                let ahead = Duration::from_secs(chance.below(600));
                let now = self.ground.ambient.now();
                self.ground.ambient.set(if chance.percent(50) { now + ahead } else { now - ahead });
                judge.note("the wall clock jumps");
            }
            (Fault::Access, Some(node)) => {
                let (whom, channel) = self.somebody_somewhere();
                self.change_access(&node, whom, channel).await;
            }
            (Fault::ComingAndGoing, Some(node)) => self.come_and_go(&node).await,
            (Fault::SignOut, Some(node)) => self.sign_out(&node).await,
            (Fault::Expulsion, Some(node)) => self.expel(&node).await,
            (Fault::Rename, Some(node)) => self.rename(&node).await,
            (_, None) => {}
        }
    }

    /// Anybody but the admin, and a channel.
    fn somebody_somewhere(&self) -> (UserId, ConversationId) {
        let chance = &self.ground.chance;
        let whom = self.people[1 + chance.index(PEOPLE - 1)].caller().id();
        (whom, self.channels[chance.index(self.channels.len())])
    }

    /// Somebody loses their connections and, while they come back and are told what they have missed, their place in a
    /// channel, which they soon get back.
    async fn come_and_go(&self, node: &Node) {
        let chance = &self.ground.chance;
        let (whom, channel) = self.somebody_somewhere();
        self.ground.judge.note(format!("{whom} comes and goes"));
        let nodes: Vec<_> =
            self.cluster.lock().expect("no panic").iter().flatten().cloned().collect();
        for node in nodes {
            node.lose_connections_of(whom);
        }
        sleep(Duration::from_millis(50) + chance.millis(450)).await;
        self.change_access(node, whom, channel).await;
        chance.pause(1_000).await;
        self.change_access(node, whom, channel).await;
    }

    /// Somebody loses their place in a channel, or gets it back.
    async fn change_access(&self, node: &Node, whom: UserId, channel: ConversationId) {
        let Ground { judge, store, .. } = &self.ground;
        let admin = &self.people[0].caller();
        if store.members(channel).expect("reads").contains(&whom) {
            let outcome = node.app.channels.remove_member(admin, channel, whom).await;
            judge.note(format!("{whom} is removed from {channel}: {:?}", outcome.as_ref().err()));
            // A return in good weather may have come between the removal's commit and its acknowledgement.
            if outcome.is_ok() && !store.members(channel).expect("reads").contains(&whom) {
                judge.removed(&[whom], channel);
            }
        } else {
            judge.readmitted(whom, channel);
            let outcome = node.app.channels.add_member(admin, channel, whom).await;
            judge.note(format!("{whom} is added to {channel}: {:?}", outcome.err()));
        }
    }

    /// Somebody loses their place in the workspace, and is back in all of it a little later.
    async fn expel(&self, node: &Node) {
        let Ground { chance, judge, store, .. } = &self.ground;
        let (admin, id) = (self.people[0].caller(), self.workspace.id);
        let whom = self.people[1 + chance.index(PEOPLE - 1)].caller.clone();
        let user = whom.lock().expect("no panic").id();
        let outcome = node.app.workspaces.remove_member(&admin, id, user).await;
        judge.note(format!("{user} is removed from the workspace: {:?}", outcome.as_ref().err()));
        // A return may have come between the removal's commit and its acknowledgement.
        if outcome.is_ok() && !store.is_in(id, user).expect("reads") {
            judge.expelled(user);
            for conversation in self.conversations() {
                judge.removed(&[user], conversation);
            }
            self.rename_elsewhere().await;
        }
        let (returning, after) = (self.returning(whom), chance.millis(3_000));
        tokio::spawn(async move {
            sleep(after).await;
            returning.await;
        });
    }

    /// The workspace gets a name that it never had.
    async fn rename(&self, node: &Node) {
        let Ground { judge, serials, .. } = &self.ground;
        let name = format!("Acme {}", serials.fetch_add(1, Ordering::Relaxed));
        judge.renames(&name);
        let parsed = WorkspaceName::parse(&name).expect("a name");
        let admin = self.people[0].caller();
        let outcome = node.app.workspaces.rename(&admin, self.workspace.id, parsed).await;
        judge.note(format!("the workspace is now {name}: {:?}", outcome.err()));
    }

    /// Somebody's session ends, and they come back with another one.
    async fn sign_out(&self, node: &Node) {
        let Ground { chance, judge, .. } = &self.ground;
        let person = &self.people[chance.index(PEOPLE)];
        let old = person.caller();
        let name = &old.account.display_name;
        // First, so that the end of the storm leaves nobody without a session.
        let door = Node::start(&self.ground.in_good_weather());
        let signed_in =
            door.app.accounts.sign_in(None, email(name).as_str(), password("correct horse")).await;
        let token = signed_in.expect("signs in").access.0;
        let new = door.app.accounts.authenticate(&token).await.expect("is let in");
        door.crash(&self.ground.bus);
        *person.caller.lock().expect("no panic") = new;
        let outcome = node.app.accounts.revoke_session(&old, old.session_id).await;
        judge.note(format!("{name} signs out: {:?}", outcome.as_ref().err()));
        if outcome.is_ok() {
            judge.signed_out(old.session_id, &self.conversations());
            self.rename_elsewhere().await;
        }
    }

    /// Renames right after an end was acknowledged, at any node.
    async fn rename_elsewhere(&self) {
        let at = self.ground.chance.index(self.nodes());
        let node = self.cluster.lock().expect("no panic")[at].clone();
        if let Some(node) = node {
            self.rename(&node).await;
        }
    }

    fn restart(&self, at: usize, after: Duration) {
        let (ground, cluster) = (self.ground.clone(), self.cluster.clone());
        tokio::spawn(async move {
            sleep(after).await;
            let mut cluster = cluster.lock().expect("no panic");
            if cluster[at].is_none() {
                ground.judge.note(format!("node {at} is back"));
                cluster[at] = Some(Node::start(&ground));
            }
        });
    }
}
