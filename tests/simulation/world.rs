//! One run: nodes, clients and faults from one seed, and the outcome.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parlance_application::{Caller, NewMessage, Signup};
use parlance_domain::{
    ChannelName, ConversationId, DisplayName, JoinCode, Topic, UserId, Workspace, WorkspaceName,
};
use parlance_embedded::EmbeddedStore;
use parlance_testkit::{TestAmbient, email, password};
use tokio::{
    runtime::Builder,
    time::{sleep, timeout},
};

use crate::{
    bus::SimBus,
    chance::Chance,
    client::{Client, Cluster, Mind},
    judge::{Judge, head},
    node::{Ground, Node, StoreLink},
};

/// Except in every fourth run, whose node is alone with a store of its own.
const NODES: usize = 3;
const PEOPLE: usize = 5;
/// How long things go wrong.
const STORM: Duration = Duration::from_secs(12);
/// How long everything may take to recover after it.
const CALM: Duration = Duration::from_secs(90);

/// What happened, and what went wrong.
pub(crate) struct Outcome {
    pub(crate) trace: Vec<String>,
    pub(crate) broken: Vec<String>,
    pub(crate) messages: usize,
}

/// Plays a run through. The same seed is the same run.
pub(crate) fn run(seed: u64) -> Outcome {
    let runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async { World::new(seed).await.play().await })
}

struct World {
    ground: Ground,
    cluster: Cluster,
    people: Vec<Person>,
    workspace: Workspace,
    channels: Vec<ConversationId>,
    dm: ConversationId,
    quiet: Arc<AtomicBool>,
}

struct Person {
    caller: Arc<Mutex<Caller>>,
    mind: Mind,
}

impl Person {
    fn caller(&self) -> Caller {
        self.caller.lock().expect("no panic").clone()
    }
}

impl World {
    async fn new(seed: u64) -> Self {
        let chance = Chance::of(seed);
        let climate = chance.climate();
        let store = EmbeddedStore::in_memory(Arc::new(StoreLink::good(&chance))).expect("a store");
        let alone = seed.is_multiple_of(4);
        let ground = Ground {
            alone,
            chance: chance.clone(),
            climate,
            ambient: TestAmbient::seeded(seed ^ 0x5eed),
            bus: SimBus::new(chance, climate),
            judge: Judge::new(store.clone()),
            store,
            serials: Arc::default(),
        };
        ground.judge.note(format!("seed {seed}: {climate:?}"));
        let (people, workspace, channels, dm) = Self::people(&ground).await;
        let nodes =
            (0..if alone { 1 } else { NODES }).map(|_| Some(Node::start(&ground))).collect();
        let cluster = Arc::new(Mutex::new(nodes));
        Self { ground, cluster, people, workspace, channels, dm, quiet: Arc::default() }
    }

    /// Five people, of whom the first is the admin, in `general`, a public, a private channel and a DM; on a node of
    /// its own that nothing happens to.
    async fn people(
        ground: &Ground,
    ) -> (Vec<Person>, Workspace, Vec<ConversationId>, ConversationId) {
        let node = Node::start(&ground.in_good_weather());
        let app = &node.app;
        let mut people = Vec::new();
        for n in 0..PEOPLE {
            let name = format!("p{n}");
            let signup = Signup {
                email: email(&name),
                password: password("correct horse"),
                display_name: DisplayName::parse(&name).expect("a name"),
            };
            let signed_in = app.accounts.sign_up(signup).await.expect("signs up");
            let caller = app.accounts.authenticate(&signed_in.access.0).await.expect("is let in");
            people.push(Person { caller: Arc::new(Mutex::new(caller)), mind: Mind::default() });
        }
        let admin = &people[0].caller();
        let name = WorkspaceName::parse("Acme").expect("a name");
        let workspace = app.workspaces.create(admin, name).await.expect("is created");
        let code = workspace.join_code.clone().expect("an admin sees it");
        for person in &people[1..] {
            let code = JoinCode::parse(&code).expect("a code");
            app.workspaces.join(&person.caller(), code).await.expect("joins");
        }
        let mut channels = Vec::new();
        for (name, private) in [("open", false), ("closed", true)] {
            let name = ChannelName::parse(name).expect("a name");
            let topic = Topic::parse("").expect("a topic");
            let made = app.channels.create(admin, workspace.id, name, topic, private).await;
            let id = made.expect("is created").conversation.id;
            for person in &people[1..] {
                app.channels.add_member(admin, id, person.caller().id()).await.expect("is added");
            }
            channels.push(id);
        }
        let peer = people[1].caller().id();
        let dm = app.channels.open_dm(admin, workspace.id, peer).await.expect("is opened");
        node.crash(&ground.bus);
        (people, workspace, channels, dm.into_inner().conversation.id)
    }

    async fn play(self) -> Outcome {
        for (n, person) in self.people.iter().enumerate() {
            // Some have two devices.
            for device in 0..=u64::from(n == 2) {
                let mind = if device == 0 { person.mind.clone() } else { Mind::default() };
                let client = Client {
                    name: format!("{}/{device}", person.caller().account.display_name),
                    caller: person.caller.clone(),
                    judge: self.ground.judge.clone(),
                    chance: self.ground.chance.clone(),
                    climate: self.ground.climate,
                    cluster: self.cluster.clone(),
                    quiet: self.quiet.clone(),
                    mind,
                };
                tokio::spawn(client.run());
            }
        }
        let storm = timeout(STORM, self.storm());
        let _ = storm.await;
        self.ground.judge.note("the storm is over");
        self.quiet.store(true, Ordering::Relaxed);
        self.mend();
        // The end of the storm may have come between somebody's removal and their return.
        sleep(Duration::from_secs(5)).await;
        for person in &self.people[1..] {
            self.returning(person.caller.clone()).await;
        }
        let rested = timeout(CALM, self.rest()).await.is_ok();
        if rested {
            if self.ground.alone {
                self.write_between_connections().await;
            }
            self.compare().await;
        } else {
            self.ground.judge.break_off(format!("no rest: {}", self.unrest().join("; ")));
        }
        let (trace, broken) = self.ground.judge.verdict();
        let of = |id: ConversationId| self.ground.store.messages(id).expect("reads").len();
        let messages = self.conversations().into_iter().map(of).sum();
        Outcome { trace, broken, messages }
    }

    async fn storm(&self) {
        loop {
            sleep(Duration::from_millis(50) + self.ground.chance.millis(self.ground.climate.calm))
                .await;
            self.fault().await;
        }
    }

    async fn fault(&self) {
        let Ground { chance, judge, bus, .. } = &self.ground;
        let at = chance.index(self.nodes());
        let node = self.cluster.lock().expect("no panic")[at].clone();
        match (chance.below(15), node) {
            (0 | 1, Some(node)) => {
                judge.note(format!("node {at} crashes"));
                self.cluster.lock().expect("no panic")[at] = None;
                node.crash(bus);
                self.restart(at, chance.millis(3_000));
            }
            (2, Some(node)) => {
                judge.note(format!("node {at} is told to go"));
                self.cluster.lock().expect("no panic")[at] = None;
                node.drain(bus).await;
                self.restart(at, chance.millis(500));
            }
            (3 | 4, Some(node)) => {
                judge.note(format!("node {at} is cut off the bus"));
                bus.cut(node.id, true);
                let (bus, after) = (bus.clone(), chance.millis(6_000));
                tokio::spawn(async move {
                    sleep(after).await;
                    bus.cut(node.id, false);
                });
            }
            (5, Some(node)) => {
                judge.note(format!("node {at} is cut off the store"));
                node.store_link.cut.store(true, Ordering::Relaxed);
                let after = chance.millis(4_000);
                tokio::spawn(async move {
                    sleep(after).await;
                    node.store_link.cut.store(false, Ordering::Relaxed);
                });
            }
            (6, Some(node)) => {
                judge.note(format!("node {at} loses its connections"));
                node.lose_connections(chance, 50);
            }
            (7, _) => {
                let ahead = Duration::from_secs(chance.below(600));
                let now = parlance_application::ports::Ambient::now(&self.ground.ambient);
                self.ground.ambient.set(if chance.percent(50) {
                    now + ahead
                } else {
                    parlance_domain::Timestamp::from_millis(
                        now.as_millis() - i64::try_from(ahead.as_millis()).expect("a short time"),
                    )
                });
                judge.note("the wall clock jumps");
            }
            (8..=10, Some(node)) => self.change_access(&node).await,
            (11, Some(node)) => self.sign_out(&node).await,
            (12, Some(node)) => self.expel(&node).await,
            (13 | 14, Some(node)) => self.rename(&node).await,
            _ => {}
        }
    }

    /// Somebody loses their place in a channel, or gets it back.
    async fn change_access(&self, node: &Node) {
        let Ground { chance, judge, store, .. } = &self.ground;
        let admin = &self.people[0].caller();
        let whom = self.people[1 + chance.index(PEOPLE - 1)].caller().id();
        let channel = self.channels[chance.index(self.channels.len())];
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
        let Ground { chance, judge, .. } = &self.ground;
        let (admin, id) = (self.people[0].caller(), self.workspace.id);
        let whom = self.people[1 + chance.index(PEOPLE - 1)].caller.clone();
        let user = whom.lock().expect("no panic").id();
        let outcome = node.app.workspaces.remove_member(&admin, id, user).await;
        judge.note(format!("{user} is removed from the workspace: {:?}", outcome.as_ref().err()));
        if outcome.is_ok() {
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

    /// Somebody comes back into all of the workspace.
    fn returning(&self, whom: Arc<Mutex<Caller>>) -> impl Future<Output = ()> + use<> {
        let (ground, admin) = (self.ground.clone(), self.people[0].caller());
        let (channels, all) = (self.channels.clone(), self.conversations());
        let cluster = self.cluster.clone();
        let code = self.workspace.join_code.as_deref().and_then(|code| JoinCode::parse(code).ok());
        async move {
            let whom = whom.lock().expect("no panic").clone();
            let (judge, user) = (&ground.judge, whom.id());
            judge.returns(user);
            for conversation in all {
                judge.readmitted(user, conversation);
            }
            let code = code.expect("a code");
            if ground.alone {
                // Nobody else may write, and here things fail.
                let back = || async {
                    let door = cluster.lock().expect("no panic")[0].clone()?;
                    door.app.workspaces.join(&whom, code.clone()).await.ok()?;
                    for channel in &channels {
                        // Who was brought back by an earlier try may have been removed again since.
                        judge.readmitted(user, *channel);
                        door.app.channels.add_member(&admin, *channel, user).await.ok()?;
                    }
                    Some(())
                };
                while back().await.is_none() {
                    sleep(Duration::from_millis(100)).await;
                }
                return judge.note(format!("{user} is back in all of the workspace"));
            }
            let door = Node::start(&ground.in_good_weather());
            // The trace of this return has a stamp of its own.
            ground.ambient.tick();
            let back = door.app.workspaces.join(&whom, code).await;
            judge.note(format!("{user} is back in the workspace: {:?}", back.err()));
            for channel in channels {
                let added = door.app.channels.add_member(&admin, channel, user).await;
                judge.note(format!("{user} is back in {channel}: {:?}", added.err()));
            }
            door.crash(&ground.bus);
        }
    }

    fn nodes(&self) -> usize {
        self.cluster.lock().expect("no panic").len()
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

    /// Everybody loses their connections, and while they come back something is written without a socket, to which
    /// nobody may be listening yet: nothing comes after it from which they could see that they have missed it.
    async fn write_between_connections(&self) {
        let Ground { chance, judge, .. } = &self.ground;
        let writer = self.people[0].caller();
        for n in 0..10 {
            let Some(node) = self.cluster.lock().expect("no panic")[0].clone() else { return };
            node.lose_connections(chance, 100);
            sleep(Duration::from_millis(50) + chance.millis(400)).await;
            let (key, text) = (format!("between {n}"), "is anybody there?");
            let new = NewMessage { client_msg_id: &key, text, thread_root_id: None };
            if let Ok(sent) = node.app.messages.send(&writer, self.dm, new).await {
                judge.acknowledged(&serde_json::to_value(sent.message).expect("encodes"));
            }
            if timeout(Duration::from_secs(5), self.rest()).await.is_err() {
                return judge.break_off(format!("no rest: {}", self.unrest().join("; ")));
            }
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

    /// All links are whole, all nodes are up.
    fn mend(&self) {
        let mut cluster = self.cluster.lock().expect("no panic");
        for place in cluster.iter_mut() {
            let node = place.get_or_insert_with(|| Node::start(&self.ground));
            self.ground.bus.cut(node.id, false);
            node.store_link.cut.store(false, Ordering::Relaxed);
        }
    }

    async fn rest(&self) {
        // A change by a node that died is told by the next look, so that it is looked at again.
        while !self.unrest().is_empty() {
            sleep(Duration::from_millis(250)).await;
        }
    }

    /// Who does not hold everything yet.
    fn unrest(&self) -> Vec<String> {
        let mut unrest = Vec::new();
        for person in &self.people {
            let caller = person.caller();
            let (name, mind) = (&caller.account.display_name, person.mind.look());
            if !mind.at_rest() {
                unrest.push(format!("{name} is busy"));
                continue;
            }
            let (believed, named) =
                (mind.name_of(self.workspace.id), self.ground.store.name(self.workspace.id));
            if believed != named.expect("reads") {
                unrest.push(format!("{name} takes the workspace for {believed:?}"));
            }
            let cursors = mind.held();
            for id in self.conversations() {
                let member = self.ground.store.members(id).expect("reads").contains(&caller.id());
                let rev = head(&self.ground.store, id);
                let has = cursors.get(&id).map(|held| held.cursor);
                if has != member.then_some(rev) {
                    unrest.push(format!("{name} is at {has:?} of {id}, which is at {rev}"));
                }
            }
        }
        unrest
    }

    fn conversations(&self) -> Vec<ConversationId> {
        self.ground
            .store
            .all_heads()
            .expect("reads")
            .iter()
            .map(|head| head.conversation_id)
            .collect()
    }

    async fn compare(&self) {
        let clients: Vec<(String, UserId, _)> = self
            .people
            .iter()
            .map(|person| {
                let caller = person.caller();
                (caller.account.display_name.clone(), caller.id(), person.mind.look().held())
            })
            .collect();
        self.ground.judge.compare(&clients);
        let node = Node::start(&self.ground.in_good_weather());
        for (person, (_, user, held)) in self.people.iter().zip(&clients) {
            for id in held.keys() {
                match node.app.channels.get(&person.caller(), *id).await {
                    Ok(summary) => self.ground.judge.check_read(*user, &summary),
                    Err(error) => {
                        self.ground.judge.break_off(format!("{id} cannot be read: {error}"));
                    }
                }
            }
        }
    }
}
