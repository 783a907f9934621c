//! One run: nodes, clients and faults from one seed, and the outcome.

mod faults;

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

pub(crate) use self::faults::Faults;
use crate::{
    bus::SimBus,
    chance::Chance,
    client::{Client, Cluster, Mind},
    judge::{Judge, head},
    node::{Ground, Node, StoreLink},
};

/// Except in every fourth run, which has a single node with a store of its own.
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

    /// Five people, the first an admin, in `general`, a public and a private channel and a DM; on a node of its own
    /// that nothing happens to.
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
        // By then, whoever has left the workspace is back, unless the storm ended between the two.
        sleep(Duration::from_secs(5)).await;
        // First, those who are out must learn of it: a return would hide that they were never told.
        let mut rested = timeout(CALM, self.rest()).await.is_ok();
        if rested {
            for person in &self.people[1..] {
                self.returning(person.caller.clone()).await;
            }
            rested = timeout(CALM, self.rest()).await.is_ok();
        }
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

    /// Somebody comes back into all of the workspace.
    fn returning(&self, whom: Arc<Mutex<Caller>>) -> impl Future<Output = ()> + use<> {
        let (ground, admin) = (self.ground.clone(), self.people[0].caller.clone());
        let (channels, all) = (self.channels.clone(), self.conversations());
        let cluster = self.cluster.clone();
        let code = self.workspace.join_code.as_deref().and_then(|code| JoinCode::parse(code).ok());
        async move {
            // Both may have come back with another session since an earlier try.
            let now = |who: &Mutex<Caller>| who.lock().expect("no panic").clone();
            let (judge, user) = (&ground.judge, now(&whom).id());
            let code = code.expect("a code");
            // Whoever an earlier try brought back may have been removed again since.
            let lets_in = || {
                judge.returns(user);
                for conversation in &all {
                    judge.readmitted(user, *conversation);
                }
            };
            if ground.alone {
                // Nobody else may write, and here things fail.
                let back = || async {
                    let door = cluster.lock().expect("no panic")[0].clone()?;
                    lets_in();
                    door.app.workspaces.join(&now(&whom), code.clone()).await.ok()?;
                    for channel in &channels {
                        judge.readmitted(user, *channel);
                        door.app.channels.add_member(&now(&admin), *channel, user).await.ok()?;
                    }
                    Some(())
                };
                while back().await.is_none() {
                    sleep(Duration::from_millis(100)).await;
                }
                return judge.note(format!("{user} is back in all of the workspace"));
            }
            lets_in();
            let door = Node::start(&ground.in_good_weather());
            // Gives the trace of this return a stamp of its own.
            ground.ambient.tick();
            let back = door.app.workspaces.join(&now(&whom), code).await;
            judge.note(format!("{user} is back in the workspace: {:?}", back.err()));
            for channel in channels {
                let added = door.app.channels.add_member(&now(&admin), channel, user).await;
                judge.note(format!("{user} is back in {channel}: {:?}", added.err()));
            }
            door.crash(&ground.bus);
        }
    }

    fn nodes(&self) -> usize {
        self.cluster.lock().expect("no panic").len()
    }

    /// Everybody loses their connections, and while they reconnect something is written without a socket, when perhaps
    /// nobody is listening to it yet: nothing comes after it from which they could see that they missed it.
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
        // A dead node's change is found by the next look, hence the repeated checks.
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
            let (store, home) = (&self.ground.store, self.workspace.id);
            let inside = store.is_in(home, caller.id()).expect("reads");
            let named = store.name(home).expect("reads").filter(|_| inside);
            let believed = mind.name_of(home);
            if believed != named {
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
