//! kill −9 at any moment, under load: what was committed stays, and every alert arrives.
//!
//! `KILLS=200 cargo test --test daemon kill -- --nocapture` makes it longer, and prints the figures.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rusqlite::Connection;
use spheron_watch::sim::Event;

use crate::lab::{Hook, Lab, fleet, stopwatch, until};

/// What anybody could read in the database, and so must find there for ever.
#[derive(Debug, Default)]
struct Committed {
    /// The poll log, in order: step, feed, outcome, items.
    polls: Vec<[i64; 4]>,
    /// Each notice and its body.
    notices: BTreeMap<String, String>,
    /// Which of the hook's rows ended.
    delivered: BTreeSet<String>,
}

impl Committed {
    fn read(conn: &mut Connection) -> Self {
        let transaction = conn.transaction().unwrap();
        let polls = transaction
            .prepare("SELECT step, feed, outcome, items FROM poll ORDER BY seq")
            .unwrap()
            .query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let pairs = |sql: &str| -> Vec<(String, String)> {
            let mut select = transaction.prepare(sql).unwrap();
            let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            rows.collect::<Result<_, _>>().unwrap()
        };
        let notices = pairs("SELECT event, body FROM notice").into_iter().collect();
        let ended = "SELECT event, receiver FROM outbox JOIN notice ON pk = notice WHERE receiver = 'hook' AND state = 2";
        let delivered = pairs(ended).into_iter().map(|(event, _)| event).collect();
        Self { polls, notices, delivered }
    }

    fn assert_holds_all_of(&self, earlier: &Self, when: &str) {
        assert!(self.polls.starts_with(&earlier.polls), "{when}: polls vanished or changed");
        for (event, body) in &earlier.notices {
            assert_eq!(self.notices.get(event), Some(body), "{when}: notice {event}");
        }
        assert!(self.delivered.is_superset(&earlier.delivered), "{when}: a receipt vanished");
    }
}

fn kills() -> usize {
    std::env::var("KILLS").ok().map_or(25, |text| text.parse().expect("KILLS is a number"))
}

#[test]
fn fault_31_killed_again_and_again_it_loses_no_committed_fact_and_no_alert() {
    let kills = kills();
    let mut spots = Vec::new();
    let lab = Lab::new(|world, now| spots = fleet(world, now, 2 * kills).1);
    // Slow enough to be killed amid a send; now and then it fails the first attempt.
    let refusals = Arc::new(AtomicUsize::new(0));
    let counted = refusals.clone();
    let hook = Hook::answering(move |nth, again| {
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..40)));
        if again > 0 || nth % 9 != 4 {
            return 200;
        }
        counted.fetch_add(1, Ordering::Relaxed);
        503
    });
    lab.config(&[("hook", &hook)], "[serve]\nlisten = \"off\"\n");
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    daemon.kill();

    let began = stopwatch();
    for (kill, reclaimed) in spots.chunks(2).enumerate() {
        for spot in reclaimed {
            lab.happens(Event::Reclaim(spot.clone()));
        }
        let mut daemon = lab.start();
        until("started", || daemon.log().contains("started").then_some(()));
        let life = stopwatch();
        let length = Duration::from_millis(fastrand::u64(0..500));
        while life() < length {
            daemon.reload();
            std::thread::sleep(Duration::from_millis(fastrand::u64(1..40)));
        }
        let seen = Committed::read(&mut lab.reader());
        assert!(daemon.is_alive(), "kill {kill}: it ended by itself: {}", daemon.log());
        daemon.kill();
        Committed::read(&mut lab.reader()).assert_holds_all_of(&seen, &format!("kill {kill}"));
    }
    let took = began();

    let mut daemon = lab.start();
    until("every row to be delivered", || {
        let open = "SELECT count(*) FROM outbox WHERE state < 2";
        let open: i64 = lab.reader().query_row(open, [], |row| row.get(0)).unwrap();
        let reclaims = "SELECT count(*) FROM notice WHERE body LIKE '%\"spot_interrupted\"%'";
        let reclaims: i64 = lab.reader().query_row(reclaims, [], |row| row.get(0)).unwrap();
        (open == 0 && usize::try_from(reclaims).unwrap() == spots.len()).then_some(())
    });
    assert_eq!(daemon.terminate().code(), Some(0));

    let end = Committed::read(&mut lab.reader());
    let check: String = lab.reader().query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let sent = hook.sent();
    let mut arrived: BTreeMap<String, Vec<&serde_json::Value>> = BTreeMap::new();
    for one in &sent {
        arrived.entry(one.id.clone()).or_default().push(&one.body);
    }
    assert_eq!(
        arrived.keys().collect::<Vec<_>>(),
        end.notices.keys().collect::<Vec<_>>(),
        "what arrived is what was committed"
    );
    for (id, bodies) in &arrived {
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{id}: a duplicate says the same");
    }
    let told: BTreeMap<&str, BTreeSet<&str>> =
        sent.iter().filter(|one| one.rule() == "spot-interrupted").fold(BTreeMap::new(), |mut told, one| {
            told.entry(one.subject()).or_default().insert(&one.id);
            told
        });
    for spot in &spots {
        assert_eq!(told.get(spot.as_str()).map(BTreeSet::len), Some(1), "{spot}: one event, one id");
    }
    let (repeats, refused) = (sent.len() - arrived.len(), refusals.load(Ordering::Relaxed));
    println!(
        "{kills} kills in {took:.1?}: {} polls and {} alerts committed, 0 lost; {} sends, of which {refused} were refused \
         with 503 and {} repeated after a kill",
        end.polls.len(),
        end.notices.len(),
        sent.len(),
        repeats.saturating_sub(refused)
    );
}
