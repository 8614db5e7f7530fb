//! kill −9 at any moment while the receivers fail half of the time and one is dead: everybody who lives is told everything,
//! under one id, and nobody twice but for the kill that took the receipt.
//!
//! `KILLS=200 cargo test --test daemon killed_amid -- --nocapture` makes it longer, and prints the figures.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use spheron_watch::{clock::Clock, sim::Event};

use crate::{
    fickle::{Fickle, Got, Said},
    lab::{Lab, fleet, own_address, stopwatch, until},
};

const SEED: u64 = 20_260_921;
const HOOKS: u64 = 3;
/// So many in each life.
const ALERTS: usize = 3;
/// One life of so many goes on until no answer is outstanding, even of those that never come.
const LONG_EVERY: usize = 50;
const LONG_LIFE: Duration = Duration::from_secs(40);
const ROUNDS_MAX: usize = 200;

fn kills() -> usize {
    std::env::var("KILLS").ok().map_or(12, |text| text.parse().expect("KILLS is a number"))
}

/// Hours pass between two lives: what waits for its next attempt is due.
fn hours_pass(lab: &Lab) {
    lab.tamper("UPDATE outbox SET next_at = 0 WHERE state < 2");
}

fn count(lab: &Lab, sql: &str) -> usize {
    lab.reader().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap()
}

/// What the living ones have not taken yet.
const OPEN: &str = "SELECT count(*) FROM outbox WHERE state < 2 AND receiver <> 'dead'";
const INTERRUPTED: &str = "SELECT count(*) FROM notice WHERE body LIKE '%\"spot_interrupted\"%'";

/// Whether every living one was sent what was due, and its answer entered or its time over.
fn all_tried(lab: &Lab, alerts: usize) -> bool {
    let now = Clock::system().now().millis();
    count(lab, INTERRUPTED) >= alerts
        && count(lab, &format!("{OPEN} AND (state = 1 OR next_at <= {now})")) == 0
}

/// A daemon that is killed at the end of its life. It is not reloaded: then a receiver has one send under way, and each kill can
/// take one receipt.
fn live(lab: &Lab, most: Duration, done: impl Fn() -> bool) {
    let mut daemon = lab.start();
    until("started", || daemon.log().contains("started").then_some(()));
    let life = stopwatch();
    while life() < most && !done() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(daemon.is_alive(), "it ended by itself: {}", daemon.log());
    daemon.kill();
}

/// How often a receiver was sent what it had taken. Only the last notice of a life may come again, once for the kill: its receipt
/// may not have been written.
fn repeats(hook: usize, got: &[Got]) -> usize {
    let mut taken = BTreeMap::new();
    let mut repeats = 0;
    for (nth, one) in got.iter().enumerate() {
        if let Some(last) = taken.get(&one.id) {
            let last: &usize = last;
            let cut_off = got.get(last + 1).is_some_and(|next| next.life > got[*last].life);
            assert!(cut_off, "hook {hook}: {} again in life {}, with its receipt entered", one.id, one.life);
            repeats += 1;
        }
        if one.said == Said::Taken {
            taken.insert(&one.id, nth);
        }
    }
    repeats
}

#[test]
fn fault_59_killed_amid_failing_receivers_each_is_told_everything_and_nothing_again_that_it_confirmed() {
    let kills = kills();
    let mut chance = Rng::with_seed(SEED);
    let mut spots = Vec::new();
    let lab = Lab::new(|world, now| spots = fleet(world, now, ALERTS * kills).1);
    let life = Arc::new(AtomicUsize::new(0));
    let hooks: Vec<Fickle> =
        (0..HOOKS).map(|nth| Fickle::new(&lab.runtime, SEED + nth, life.clone())).collect();
    let mut config = format!("[notify]\nreceivers = {:?}\n", ["hook-0", "dead", "hook-1", "hook-2"]);
    let urls = hooks.iter().enumerate().map(|(nth, hook)| (format!("hook-{nth}"), hook.url()));
    // Nobody listens there.
    for (name, url) in urls.chain([("dead".to_owned(), format!("http://{}/", own_address()))]) {
        let file = lab.file(&format!("{name}.url"), &url);
        config += &format!("[[receiver]]\nname = {name:?}\nwebhook = {{ url_file = {file:?} }}\n");
    }
    lab.file("config.toml", &config);
    let mut first = lab.start();
    first.wait_until_ready();
    first.kill();

    let began = stopwatch();
    let next_life = |lab: &Lab| {
        // Behind all that the dead one sent.
        hooks.iter().for_each(|hook| drop(hook.got()));
        life.fetch_add(1, Ordering::SeqCst);
        hours_pass(lab);
    };
    for (kill, reclaimed) in spots.chunks(ALERTS).enumerate() {
        reclaimed.iter().for_each(|spot| lab.happens(Event::Reclaim(spot.clone())));
        next_life(&lab);
        if kill % LONG_EVERY == LONG_EVERY - 1 {
            live(&lab, LONG_LIFE, || all_tried(&lab, (kill + 1) * ALERTS));
        } else {
            let most = Duration::from_millis(chance.u64(0..500));
            live(&lab, most, || false);
        }
    }
    let (took, mut rounds) = (began(), 0);
    let told = || count(&lab, OPEN) == 0 && count(&lab, INTERRUPTED) == spots.len();
    while !told() {
        rounds += 1;
        assert!(rounds <= ROUNDS_MAX, "still open: {}", count(&lab, OPEN));
        next_life(&lab);
        live(&lab, Duration::from_millis(500), told);
    }

    let alerts: BTreeSet<String> = {
        let conn = lab.reader();
        let mut select = conn.prepare("SELECT event FROM notice").unwrap();
        select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let mut bodies = BTreeMap::new();
    let (mut sends, mut again, mut answers) = (0, 0, BTreeMap::<Said, usize>::new());
    for (nth, hook) in hooks.iter().enumerate() {
        let got = hook.got();
        let taken: BTreeSet<String> =
            got.iter().filter(|one| one.said == Said::Taken).map(|one| one.id.clone()).collect();
        assert_eq!(taken, alerts, "hook {nth}: what it took is what was committed");
        for one in &got {
            let body = bodies.entry(one.id.clone()).or_insert_with(|| one.body.clone());
            assert_eq!(&one.body, body, "{}: the same to everybody, at every attempt", one.id);
            *answers.entry(one.said).or_default() += 1;
        }
        let repeats = repeats(nth, &got);
        assert!(repeats <= kills + rounds, "hook {nth}: {repeats}");
        (sends, again) = (sends + got.len(), again + repeats);
    }
    let dead = count(&lab, "SELECT count(*) FROM outbox WHERE receiver = 'dead' AND state = 3");
    let tried = "SELECT count(*) FROM attempt JOIN outbox AS o ON o.seq = outbox WHERE receiver = 'dead'";
    assert_eq!(count(&lab, "SELECT count(*) FROM outbox WHERE state = 3 AND receiver <> 'dead'"), 0);
    assert_eq!(count(&lab, "SELECT count(*) FROM outbox WHERE receiver = 'dead' AND state = 2"), 0);
    let said =
        |what: &str| count(&lab, &format!("SELECT count(*) FROM attempt WHERE receipt LIKE '%{what}%'"));
    assert_eq!((said("127."), said("://")), (0, 0), "no address in what is kept of an attempt");
    println!(
        "{kills} kills in {took:.1?} and {rounds} more to the end: {} alerts, {HOOKS} living receivers told all, {sends} sends \
         ({answers:?}), {again} of them after a kill of what had been taken; {} timeouts entered; {} attempts at the dead one, {dead} dead letters",
        alerts.len(),
        said("did not answer within"),
        count(&lab, tried)
    );
}
