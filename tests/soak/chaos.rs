//! (a): the network between clients, nodes and services misbehaves, and nothing is lost by it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    NO_LIMITS,
    crew::Crew,
    dice::Dice,
    judge::judge,
    proxy::{Mode, Proxy, Side, Way},
    seed, size,
    stage::Stage,
    support::home::On,
};

/// How long a fault lasts, more or less, in a short run, and in a long one.
const FAULT: [Duration; 2] = [Duration::from_millis(1_200), Duration::from_secs(5)];
const CALM: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_links_misbehave() {
    let size = size((12, 12, 15.0), (100, 60.0));
    let stage = Stage::set(On::Services, 2, seed(), &[NO_LIMITS]).await;
    let crew = Crew::gather(&stage, size).await;
    let fault_time = (size.load / 10).clamp(FAULT[0], FAULT[1]);
    let (dice, mut notes) = (Dice::new(stage.seed + 1), vec![]);
    let misbehaving = async {
        let begun = Instant::now();
        while begun.elapsed() < size.load {
            sleep(dice.around(CALM)).await;
            let node = dice.below(stage.nodes.len());
            let (name, proxy) = {
                let node = &stage.nodes[node];
                let links = [
                    ("store", node.store.as_ref()),
                    ("bus", node.bus.as_ref()),
                    ("front", Some(&node.front)),
                ];
                *dice.of(&links)
            };
            let proxy = proxy.expect("a node on services");
            let fault = misbehave(name, proxy, &dice);
            notes
                .push(format!("{:>6} ms node {node} {name}: {fault}", begun.elapsed().as_millis()));
            sleep(dice.around(fault_time)).await;
            proxy.heal();
        }
    };
    // Whoever is removed in the middle of it hears nothing more.
    let removing = async {
        sleep(size.load / 2).await;
        let asked = Instant::now();
        crew.remove(&stage, crew.members.last().expect("somebody")).await;
        asked.elapsed()
    };
    let ((), (), removed) = tokio::join!(crew.work(&stage, size), misbehaving, removing);
    notes.push(format!("the removal took {} ms", removed.as_millis()));
    stage.heal().await;
    judge("all links misbehave", &stage, &crew, &notes).await;
}

/// Does one thing to a link, and says what.
fn misbehave(name: &str, proxy: &Proxy, dice: &Dice) -> String {
    let way = *dice.of(&[Way::Up, Way::Down, Way::Both]);
    let side = *dice.of(&[Side::Client, Side::Target]);
    match dice.roll(7) {
        0 => {
            proxy.cut();
            "cut".to_owned()
        }
        1 => {
            proxy.refuse(true);
            proxy.cut();
            "cut, new ones refused".to_owned()
        }
        2 => {
            proxy.set(way, Mode::Stall);
            format!("stall {way:?}")
        }
        3 => {
            proxy.set_new(Way::Both, Mode::Stall);
            proxy.cut();
            "cut, new ones stall".to_owned()
        }
        4 => {
            proxy.set(way, Mode::Slow(8_000));
            format!("slow {way:?}")
        }
        5 => {
            proxy.keep_only(side);
            format!("only the {side:?} side is kept")
        }
        _ => {
            // The stand-in for MongoDB is not under test here; and a client that sends a node garbage is told not to
            // come back.
            let way = if name == "bus" { way } else { Way::Down };
            proxy.set(way, Mode::Garbage(4));
            format!("garbage {way:?}")
        }
    }
}
