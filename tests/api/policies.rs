//! Policies, actions and keeps as the API shows them, and how people change what they do: over the socket alone.
//!
//! It must never take a wish for done that the loop refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use spheron_watch::{
    app::Archive,
    clock::Clock,
    model::{
        Action, ActionId, Answer, ArmError, Arming, Cancel, CancelError, Candidate, Condition, Ends, Glob,
        Hold, Keep, MatchKey, Matcher, Policies, Policy, PolicyAnswer, PolicyReasons, PolicyVerdict, Preview,
        Proof, Reasons, Shift, Silence, Slot, Snapshot, Stage, StageName, Status, StepRecord, Tally, Target,
        Time, Tracked, Usd, View, Why, Withheld,
    },
    serve::{
        SelfMetrics, ServeOptions, Socket,
        api::{self, Asking, Look, Orders, Problem, Records, Sending, Source},
        serve, serve_socket,
    },
    store::Db,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::{Got, HOUR, START, ask, fleet, over_socket};

const NOW: Time = Time::from_secs(1_790_003_600);
const MINUTE: Duration = Duration::from_secs(60);

fn policy(name: &str, glob: &str, when: Vec<Condition>) -> Policy {
    Policy {
        name: name.into(),
        matching: Matcher { globs: [(MatchKey::Name, vec![Glob::new(glob)])].into() },
        when,
        grace: MINUTE * 30,
        require_volume: false,
        receivers: vec!["ops".into()],
    }
}

fn of(n: usize) -> Tracked {
    let (team, status) = if n == 3 { (2, Status::Deploying) } else { (1, Status::Running) };
    fleet::tracked(n, team, status, START)
}

pub fn action(policy: &str, n: usize, marked: Time, stage: Stage) -> Action {
    let deployment = of(n).deployment;
    let target = Target::of(&deployment);
    Action {
        id: ActionId::derive(policy, &target, marked),
        policy: policy.into(),
        target,
        name: deployment.name,
        team: deployment.team,
        rate: deployment.hourly_rate,
        marked,
        fingerprint: "f".into(),
        seq: 1,
        requests: Vec::new(),
        stage,
    }
}

fn announced() -> Action {
    let slot = Slot { told: NOW.minus(MINUTE * 5), at: NOW.plus(MINUTE * 25), reminded: false };
    action("idle", 1, NOW.minus(MINUTE * 6), Stage::Announced { slot, next: slot.at })
}

pub fn gone() -> Action {
    let at = NOW.minus(MINUTE * 20);
    action("idle", 2, NOW.minus(HOUR), Stage::Gone { at, saved_until: at.plus(HOUR * 24) })
}

fn withheld() -> Action {
    action("night", 3, NOW.minus(MINUTE), Stage::Withheld { told: NOW, by: Withheld::DryRun })
}

pub fn verifying() -> Action {
    let proof = Proof { requested: NOW, ended: 0, asked: None, next: NOW.plus(MINUTE), late: false };
    action("idle", 4, NOW.minus(MINUTE * 40), Stage::Verifying { proof })
}

/// Over for longer than the view remembers.
fn old(n: usize) -> Action {
    let at = NOW.minus(HOUR * 30);
    action("idle", n, at.minus(HOUR), Stage::Cancelled { at, slot: None, rest: None })
}

fn arming(policy: &str, fingerprint: &str) -> (Arc<str>, Arc<Arming>) {
    let arming = Arming {
        policy: policy.into(),
        fingerprint: fingerprint.into(),
        armed_at: START,
        by: "ann".into(),
        acknowledged: BTreeSet::new(),
    };
    (policy.into(), Arc::new(arming))
}

/// The small account under three policies: one armed, one changed since, one a dry run.
pub fn view() -> View {
    let mut view = crate::view();
    let policies = Policies {
        policies: vec![
            policy("idle", "train-*", vec![Condition::IdleFor(HOUR * 2)]),
            policy(
                "night",
                "*",
                vec![Condition::RunningFor(HOUR * 12), Condition::SpendAbove(Usd::from_cents(100))],
            ),
            policy("none", "prod-*", vec![Condition::RunningFor(HOUR)]),
        ],
        ..Policies::default()
    };
    let mut snapshot = Snapshot::clone(&view.snapshot);
    let fingerprint = policies.fingerprint(&policies.policies[0]);
    let fourth = of(4);
    snapshot.deployments.insert(fourth.deployment.id.clone(), Arc::new(fourth));
    snapshot.armings =
        [arming("idle", &fingerprint), arming("night", "other"), arming("removed", "f")].into();
    let keep = Keep::new(Target::of(&of(3).deployment), None, "ann", "a demo", START).unwrap();
    snapshot.keeps = BTreeMap::from([(keep.id.clone(), Arc::new(keep))]);
    view.snapshot = Arc::new(snapshot);
    view.policies = Arc::new(policies);
    view.actions = Arc::new(vec![announced(), gone(), withheld(), verifying()]);
    let ends = Ends { count: 1, saved: gone().saved(NOW), ..Ends::default() };
    view.tallies = [("idle".into(), Tally { ends, ..Tally::default() })].into();
    view
}

fn candidate(n: usize) -> Candidate {
    let deployment = of(n).deployment;
    Candidate {
        target: Target::of(&deployment),
        name: deployment.name,
        team: deployment.team,
        rate: deployment.hourly_rate,
    }
}

fn verdict(policy: &str, n: usize, action: Option<StageName>, holds: Vec<Hold>) -> PolicyVerdict {
    PolicyVerdict {
        policy: policy.into(),
        target: Target::of(&of(n).deployment),
        armed: policy == "idle",
        action: action.map(|stage| (announced().id, stage)),
        inputs: vec![("idle for 2h".to_owned(), "idle for 3h".to_owned())],
        holds,
        next: Some((NOW.plus(MINUTE * 25), "the final read, if every gate is open then")),
        stops: vec!["`spheron-watch keep` for it"],
    }
}

fn policy_reasons() -> PolicyReasons {
    let preview = |name: &str, would_end, waiting| Preview {
        policy: name.into(),
        fingerprint: "f".into(),
        armed: name == "idle",
        would_end,
        waiting,
        code: "c0de1234".into(),
    };
    let until = NOW.plus(HOUR);
    PolicyReasons {
        previews: vec![
            preview(
                "idle",
                vec![(candidate(1), "idle for 3h".to_owned()), (candidate(4), "idle for 2h".to_owned())],
                vec![(candidate(3), Hold::Deploying)],
            ),
            preview("night", Vec::new(), vec![(candidate(1), Hold::NotRunningLong { until })]),
        ],
        verdicts: vec![
            verdict(
                "idle",
                1,
                Some(StageName::Announced),
                vec![Hold::Grace { until: NOW.plus(MINUTE * 25) }],
            ),
            verdict(
                "night",
                1,
                Some(StageName::Announced),
                vec![Hold::NotArmed, Hold::NotRunningLong { until }, Hold::Claimed { policy: "idle".into() }],
            ),
            verdict("none", 1, None, vec![Hold::NotArmed, Hold::NotMatched]),
        ],
    }
}

/// What the database has: two that the view forgot, and older states of what it has.
#[derive(Debug, Default)]
struct Stored {
    closed: bool,
}

impl Records for Stored {
    fn costs(
        &self,
        _: Time,
        _: Time,
        _: spheron_watch::model::CostBy,
    ) -> Result<Vec<spheron_watch::model::Cost>, Problem> {
        Ok(Vec::new())
    }

    fn deliveries(
        &self,
        _: &spheron_watch::model::DeliveriesAsk,
    ) -> Result<Vec<spheron_watch::model::Dispatch>, Problem> {
        Ok(Vec::new())
    }

    fn actions(&self, prefix: &str) -> Result<Vec<Action>, Problem> {
        if self.closed {
            return Err(Problem::new(503, "the database cannot be read now"));
        }
        let stale = Action { stage: Stage::Withheld { told: NOW, by: Withheld::DryRun }, ..announced() };
        let all = vec![old(1), old(2), stale];
        Ok(all.into_iter().filter(|action| action.id.as_str().starts_with(prefix)).collect())
    }

    fn shifts(&self, action: &ActionId) -> Result<Vec<Shift>, Problem> {
        let shift = |from, to, reason| Shift { action: action.clone(), at: START, from, to, reason };
        let told = Why::Told { receiver: "ops".into() };
        Ok(vec![
            shift(None, StageName::Marked, Why::Qualifies { because: "idle for 3h".into() }),
            shift(Some(StageName::Marked), StageName::Announced, told),
        ])
    }
}

fn look<'a>(view: &'a View, reasons: &'a PolicyReasons, records: &'a Stored) -> Look<'a> {
    let source = Source::Daemon;
    Look { view, held: &[], policies: Some(reasons), records: Some(records), now: NOW, source }
}

fn get_of(view: &View, path: &str, query: &str) -> Result<Value, Problem> {
    let (reasons, records) = (policy_reasons(), Stored::default());
    api::get(look(view, &reasons, &records), path, query).map(|text| serde_json::from_str(&text).unwrap())
}

fn get(path: &str, query: &str) -> Result<Value, Problem> {
    get_of(&view(), path, query)
}

fn document(path: &str, query: &str) -> String {
    serde_json::to_string_pretty(&get(path, query).unwrap()).unwrap()
}

#[test]
fn the_policies() {
    insta::assert_snapshot!(document("/policies", ""));
}

#[test]
fn a_policy_with_what_it_would_end_and_what_is_lost() {
    insta::assert_snapshot!(document("/policies/idle", ""));
}

#[test]
fn the_actions() {
    insta::assert_snapshot!(document("/actions", ""));
}

#[test]
fn the_keeps() {
    insta::assert_snapshot!(document("/keeps", ""));
}

#[test]
fn an_action_with_every_step() {
    insta::assert_snapshot!(document(&format!("/actions/{}", announced().id), ""));
}

#[test]
fn why_a_deployment_is_not_ended_now() {
    let why = get("/why/train-1", "").unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&why["policies"]).unwrap());
    let next = &why["deployment"]["next"];
    assert_eq!(next["what"], "policy idle ends it, if every gate is open then");
    assert_eq!(next["at"], NOW.plus(MINUTE * 25).to_string());
    let ended = get("/why/train-2", "").unwrap();
    assert_eq!(ended["policies"][0]["verdict"], "unjudged");
    assert!(ended["policies"][0]["reasons"][0].as_str().unwrap().contains("does not run"));
}

#[test]
fn a_verdict_in_a_word_is_its_strongest_reason() {
    let until = NOW.plus(HOUR);
    let kept = Hold::Kept { id: "kp_1".into(), by: "ann".into(), until: None };
    for (holds, word) in [
        (vec![], "due"),
        (vec![Hold::NotArmed], "dry_run"),
        (vec![Hold::NotArmed, Hold::OneAtATime], "held"),
        (vec![Hold::Unmeasured, Hold::OneAtATime], "not_met"),
        (vec![Hold::NotIdleLong { until }, kept.clone()], "kept"),
        (vec![kept.clone(), Hold::Protected { key: "name".into() }], "protected"),
        (vec![kept, Hold::Protected { key: "name".into() }, Hold::NotMatched], "not_matched"),
    ] {
        let reasons = PolicyReasons { verdicts: vec![verdict("idle", 4, None, holds)], ..policy_reasons() };
        let (view, records) = (view(), Stored::default());
        let why = api::get(look(&view, &reasons, &records), "/why/train-4", "").unwrap();
        let why: Value = serde_json::from_str(&why).unwrap();
        assert_eq!(why["policies"][0]["verdict"], word);
    }
}

#[test]
fn without_a_daemon_there_is_no_code_and_a_policy_that_changed_just_now_is_asked_for_again() {
    let (view, reasons, records) = (view(), policy_reasons(), Stored::default());
    let from_database = Look { source: Source::Database, ..look(&view, &reasons, &records) };
    let preview: Value =
        serde_json::from_str(&api::get(from_database, "/policies/idle", "").unwrap()).unwrap();
    assert_eq!((&preview["code"], &preview["source"]), (&json!(""), &json!("database")));
    assert_eq!(get("/policies/idle", "").unwrap()["code"], "c0de1234");
    assert_eq!(get("/policies/none", "").unwrap_err().status, 503, "no preview of it");
    let unasked = Look { policies: None, ..look(&view, &reasons, &records) };
    assert_eq!(api::get(unasked, "/policies/idle", "").unwrap_err().status, 503);
    let mut moved = view.clone();
    Arc::make_mut(&mut moved.snapshot).deployments.remove(&of(4).deployment.id);
    assert_eq!(get_of(&moved, "/policies/idle", "").unwrap_err().status, 503, "what is lost is not guessed");
    let unknown = get("/policies/idl", "").unwrap_err();
    assert!(unknown.status == 404 && unknown.detail.contains("policy list"), "{unknown}");
}

#[test]
fn where_nobody_read_the_volumes_none_is_said_to_be_missing() {
    let mut view = view();
    assert!(
        get_of(&view, "/policies/idle", "").unwrap()["would_end"][1]["lost"]
            .as_str()
            .unwrap()
            .contains("everything on it is lost")
    );
    Arc::make_mut(&mut view.snapshot).volumes.clear();
    let lost = get_of(&view, "/policies/idle", "").unwrap()["would_end"][0]["lost"].clone();
    assert!(lost.as_str().unwrap().contains("has not been read"), "{lost}");
}

#[test]
fn old_actions_are_listed_on_demand_and_what_the_daemon_knows_is_newer() {
    let ids = |value: &Value| -> Vec<String> {
        value["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let some = get("/actions", "").unwrap();
    let newest_first = [withheld().id, announced().id, verifying().id, gone().id].map(|id| id.to_string());
    assert_eq!(ids(&some), newest_first);
    let all = get("/actions", "all=true").unwrap();
    assert_eq!((&all["total"], &all["items"][1]["state"]), (&json!(6), &json!("announced")));
    let (first, rest) =
        (get("/actions", "all=true&limit=4").unwrap(), get("/actions", "all=true&offset=4").unwrap());
    assert_eq!((&first["next_offset"], &rest["next_offset"]), (&json!(4), &Value::Null));
    assert_eq!([ids(&first), ids(&rest)].concat(), ids(&all));
    let mut view = view();
    view.actions = Arc::new(vec![old(1)]);
    assert_eq!(get_of(&view, "/actions", "").unwrap()["total"], 0, "over for more than a day");
    let closed = Stored { closed: true };
    let reasons = policy_reasons();
    let look = look(&view, &reasons, &closed);
    assert!(api::get(look, "/actions", "").is_ok(), "the view is enough");
    for (path, query) in [("/actions", "all=true"), ("/actions/act_1", "")] {
        assert_eq!(api::get(look, path, query).unwrap_err().status, 503, "{path}");
        let without = Look { records: None, ..look };
        assert_eq!(api::get(without, path, query).unwrap_err().status, 503, "{path}");
    }
}

#[test]
fn an_action_is_found_by_the_beginning_of_its_id_and_never_guessed() {
    let id = announced().id.to_string();
    let found = |text: &str| {
        get(&format!("/actions/{}", api::encode(text)), "")
            .map(|found| found["action"]["id"].as_str().unwrap().to_owned())
            .map_err(|problem| (problem.status, problem.candidates.len()))
    };
    assert_eq!(found(&id), Ok(id.clone()));
    assert_eq!(found(&id[..12]), Ok(id.clone()));
    assert_eq!(found(&id[4..12]), Ok(id.clone()), "without act_");
    assert_eq!(found(old(2).id.as_str()), Ok(old(2).id.to_string()), "only the database has it");
    for text in ["act_", "act_zz", "*", "%", "act_%"] {
        assert_eq!(found(text), Err((404, 0)), "{text:?}");
    }
    let mut view = view();
    let twin = Action { id: ActionId::from_text(format!("{}0", &id[..19])), ..gone() };
    view.actions = Arc::new(vec![announced(), twin]);
    let both = get_of(&view, &format!("/actions/{}", &id[..10]), "").unwrap_err();
    assert_eq!((both.status, both.candidates.len()), (409, 2));
    assert!(both.candidates.iter().any(|one| one.name == "train-1" && one.status == "announced"));
}

#[test]
fn actions_and_steps_come_from_the_database_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.db");
    let (mut db, _) = Db::open(&path).unwrap();
    let shift = |from, to, reason| Shift { action: old(1).id, at: START, from, to, reason };
    let shifts = vec![
        shift(None, StageName::Marked, Why::Qualifies { because: "idle".into() }),
        shift(Some(StageName::Marked), StageName::Cancelled, Why::CancelledBy { by: "ann".into() }),
    ];
    let actions = vec![old(1), announced()];
    db.commit(&StepRecord { at: START, actions, shifts: shifts.clone(), ..StepRecord::default() }).unwrap();
    let archive = Archive::new(path, Clock::system());
    assert_eq!(archive.actions("").unwrap(), [announced(), old(1)], "open ones first");
    assert_eq!(archive.actions(&old(1).id.as_str()[..12]).unwrap(), [old(1)]);
    assert_eq!(archive.actions("act_%").unwrap(), []);
    assert_eq!(archive.shifts(&old(1).id).unwrap(), shifts);
    assert_eq!(archive.shifts(&announced().id).unwrap(), []);
}

/// A loop that does what it is told to at once, and remembers who said so.
#[derive(Debug)]
pub struct Loop {
    pub views: watch::Sender<Arc<View>>,
    pub asked: Mutex<Vec<String>>,
    /// There are too many keeps.
    pub full: bool,
    /// What the actions are once a keep is committed.
    pub meanwhile: Mutex<Option<Arc<Vec<Action>>>>,
}

impl Loop {
    fn say<T: Send + 'static>(&self, text: String, answer: Option<T>) -> Asking<'_, T> {
        self.asked.lock().unwrap().push(text);
        Box::pin(std::future::ready(answer))
    }

    fn change(&self, change: impl FnOnce(&mut View)) {
        let mut view = View::clone(&self.views.borrow());
        change(&mut view);
        self.views.send_replace(Arc::new(view));
    }
}

impl Orders for Loop {
    fn silence(&self, _: Silence) -> Sending<'_> {
        Box::pin(std::future::ready(false))
    }

    fn end_silence(&self, _: Arc<str>) -> Sending<'_> {
        Box::pin(std::future::ready(false))
    }

    fn keep(&self, keep: Keep) -> Asking<'_, bool> {
        let text = format!("{} keeps {}: {}", keep.by, keep.target.id, keep.reason);
        self.change(|view| {
            Arc::make_mut(&mut view.snapshot).keeps.insert(keep.id.clone(), Arc::new(keep));
            view.actions = self.meanwhile.lock().unwrap().clone().unwrap_or(view.actions.clone());
        });
        self.say(text, Some(!self.full))
    }

    fn end_keep(&self, id: Arc<str>, by: Arc<str>) -> Asking<'_, bool> {
        let known = self.views.borrow().snapshot.keeps.contains_key(&id);
        self.say(format!("{by} ends {id}"), Some(known))
    }

    fn cancel(&self, action: ActionId, cancel: Cancel) -> Asking<'_, Result<(), CancelError>> {
        let stage = self.views.borrow().actions.iter().find(|known| known.id == action).unwrap().stage.name();
        self.say(format!("{} cancels {action}", cancel.by), Some(stage.cancellable()))
    }

    fn arm(&self, policy: Arc<str>, code: Arc<str>, by: Arc<str>) -> Asking<'_, Result<Arming, ArmError>> {
        let armed = match (&*policy, &*code) {
            ("none", _) => Err(ArmError::NoReceiver),
            ("night", "c0de1234") => Ok(Arming::clone(&arming("night", "f").1)),
            ("night", _) => Err(ArmError::WrongCode),
            _ => Err(ArmError::NoSuchPolicy),
        };
        self.say(format!("{by} arms {policy}"), Some(armed))
    }

    fn disarm(&self, policy: Arc<str>, by: Arc<str>) -> Asking<'_, bool> {
        let was_armed = self.views.borrow().snapshot.armings.contains_key(&policy);
        self.say(format!("{by} disarms {policy}"), Some(was_armed))
    }
}

struct Served {
    looped: Arc<Loop>,
    dir: tempfile::TempDir,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), spheron_watch::serve::ServeError>>,
}

impl Served {
    fn new(full: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (views, receiver) = watch::channel(Arc::new(view()));
        let looped = Arc::new(Loop { views, asked: Mutex::default(), full, meanwhile: Mutex::default() });
        let orders: Arc<dyn Orders> = looped.clone();
        let options = ServeOptions { orders: Some(orders), ..ServeOptions::default() };
        let stop = CancellationToken::new();
        let socket = Socket::bind(&dir.path().join("control.sock")).unwrap();
        let task = tokio::spawn(serve_socket(socket, options, receiver, Clock::system(), stop.clone()));
        Self { looped, dir, stop, task }
    }

    async fn send(&self, request: &str, body: &Value) -> Got {
        let path: PathBuf = self.dir.path().join("control.sock");
        let (method, path_of) = request.split_once(' ').unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        over_socket(&path, &format!("{method} /api/v1/{path_of}"), &body).await
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.looped.asked.lock().unwrap())
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_keep_says_until_when_and_what_it_comes_too_late_for() {
    let served = Served::new(false);
    let kept = served
        .send(
            "POST keeps",
            &json!({"deployment": "train-1", "for_secs": 60, "by": "ann", "reason": "a demo"}),
        )
        .await;
    let document = kept.json();
    assert_eq!(
        (kept.status, &document["state"], &document["warning"]),
        (201, &json!("active"), &Value::Null)
    );
    assert!(document["id"].as_str().unwrap().starts_with("kp_"));
    let kept = served.send("POST keeps", &json!({"deployment": "train-4", "forever": true})).await;
    let document = kept.json();
    assert_eq!((kept.status, &document["until"]), (201, &Value::Null));
    assert!(document["warning"].as_str().unwrap().contains("too late: its end was accepted"), "{document}");
    let id = |n| of(n).deployment.id;
    assert_eq!(
        served.asked(),
        [
            format!("ann keeps {}: a demo", id(1)),
            format!("somebody with access to the socket keeps {}: ", id(4))
        ]
    );
    let listed = served.send("GET keeps", &Value::Null).await.json();
    assert_eq!(listed["total"], 3);
    let ended =
        served.send(&format!("DELETE keeps/{}", document["id"].as_str().unwrap()), &Value::Null).await;
    assert_eq!((ended.status, &*ended.body), (204, ""));
    served.end().await;
}

#[tokio::test]
async fn a_keep_that_cannot_be_meant_is_refused_with_words_and_never_ordered() {
    let served = Served::new(false);
    let later = Clock::system().now().plus(HOUR).to_string();
    let one = "exactly one of `until`";
    for (body, status, says) in [
        (json!({"deployment": "train-1"}), 400, one),
        (json!({"deployment": "train-1", "forever": false}), 400, one),
        (json!({"deployment": "train-1", "forever": true, "for_secs": 1}), 400, one),
        (json!({"deployment": "train-1", "until": later, "for_secs": 1}), 400, one),
        (json!({"deployment": "train-1", "until": START.to_string()}), 400, "past"),
        (json!({"deployment": "train-1", "for_secs": 0}), 400, "past"),
        (json!({"deployment": "train-1", "for_secs": u64::MAX}), 400, "a hundred years"),
        (json!({"deployment": "train-1", "for_secs": -1}), 400, "the body is no keep"),
        (json!({"deployment": "train-1", "until": "tomorrow"}), 400, "RFC 3339"),
        (json!({"deployment": "train-1", "forever": true, "by": "a\nb"}), 400, "control character"),
        (json!({"deployment": "train-1", "forever": true, "reason": "x".repeat(3_000)}), 400, "2048 bytes"),
        (json!({"deployment": "train-1", "forever": true, "force": true}), 400, "unknown field"),
        (json!({"deployment": "train-2", "forever": true}), 409, "it has ended"),
        (json!({"deployment": "train-", "forever": true}), 409, "may be meant"),
        (json!({"deployment": "other", "forever": true}), 404, "no deployment"),
        (json!({"deployment": "", "forever": true}), 404, "no deployment"),
        (Value::Null, 400, one),
    ] {
        let got = served.send("POST keeps", &body).await;
        assert!(got.status == status && got.body.contains(says), "{body}: {got:?}");
        assert!(got.head.contains("application/problem+json"), "{got:?}");
    }
    let ended = served.send("DELETE keeps/kp_0?by=bob", &Value::Null).await;
    assert!(ended.status == 404 && ended.body.contains("no keep that holds"), "{ended:?}");
    assert_eq!(served.asked(), ["bob ends kp_0"]);
    served.end().await;
    let full = Served::new(true);
    let got = full.send("POST keeps", &json!({"deployment": "train-1", "forever": true})).await;
    assert!(got.status == 409 && got.body.contains("too many keeps"), "{got:?}");
    full.end().await;
}

#[tokio::test]
async fn arming_disarming_and_cancelling_are_answered_as_the_loop_decides() {
    let served = Served::new(false);
    let arm = async |name: &str, body: Value| served.send(&format!("POST policies/{name}/arm"), &body).await;
    let armed = arm("night", json!({"code": "c0de1234", "by": "ann"})).await;
    assert_eq!((armed.status, &armed.json()["name"]), (200, &json!("night")));
    for (name, body, status, says) in [
        ("night", json!({"code": "c0de0000"}), 409, "the code is not that"),
        ("night", Value::Null, 409, "the code is not that"),
        ("none", json!({"code": "c0de1234"}), 409, "test-notify"),
        ("other", json!({"code": "c0de1234"}), 404, "policy list"),
        ("night", json!({"code": 7}), 400, "the body is no confirmation"),
        ("night", json!({"code": "x", "by": "\u{7}"}), 400, "control character"),
    ] {
        let got = arm(name, body).await;
        assert!(got.status == status && got.body.contains(says), "{name}: {got:?}");
    }
    served.asked();
    let disarm =
        async |name: &str| served.send(&format!("POST policies/{name}/disarm"), &json!({"by": "ann"})).await;
    for (name, was_armed) in [("idle", true), ("none", false), ("removed", true)] {
        let got = disarm(name).await;
        assert_eq!((got.status, got.json()), (200, json!({"policy": name, "was_armed": was_armed})));
    }
    assert_eq!(disarm("other").await.status, 404);
    assert_eq!(served.asked(), ["idle", "none", "removed"].map(|name| format!("ann disarms {name}")));

    let cancel = async |id: &str| served.send(&format!("POST actions/{id}/cancel"), &Value::Null).await;
    let cancelled = cancel(&announced().id.as_str()[..12]).await;
    assert_eq!((cancelled.status, &cancelled.json()["policy"]), (200, &json!("idle")));
    for (id, status, says) in [
        (verifying().id.as_str(), 409, "too late: its end was accepted"),
        (gone().id.as_str(), 409, "too late: it is gone"),
        (withheld().id.as_str(), 409, "nothing is announced"),
        (old(1).id.as_str(), 404, "no action has this id"),
        ("", 404, "no action has this id"),
    ] {
        let got = cancel(id).await;
        assert!(got.status == status && got.body.contains(says), "{id}: {got:?}");
    }
    assert_eq!(served.asked()[0], format!("somebody with access to the socket cancels {}", announced().id));
    served.end().await;
}

#[derive(Debug, Default)]
struct Core {
    asked: std::sync::atomic::AtomicUsize,
}

impl Reasons for Core {
    fn held(&self) -> Answer<'_> {
        Box::pin(std::future::ready(Some(Arc::default())))
    }

    fn policies(&self) -> PolicyAnswer<'_> {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Box::pin(std::future::ready(Some(Arc::new(policy_reasons()))))
    }
}

#[tokio::test]
async fn over_tcp_policies_are_read_and_nothing_about_them_is_changed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (views, receiver) = watch::channel(Arc::new(view()));
    let looped = Arc::new(Loop { views, asked: Mutex::default(), full: false, meanwhile: Mutex::default() });
    let core = Arc::new(Core::default());
    let options = ServeOptions {
        orders: Some(looped.clone()),
        reasons: Some(core.clone()),
        records: Some(Arc::new(Stored::default())),
        ..ServeOptions::default()
    };
    let (metrics, stop) = (Arc::new(SelfMetrics::new().unwrap()), CancellationToken::new());
    let task = tokio::spawn(serve(listener, options, receiver, metrics, Clock::system(), stop.clone()));
    let body = r#"{"deployment": "train-1", "forever": true}"#;
    for (request, status, says) in [
        ("GET /api/v1/policies", 200, "\"state\":\"armed\""),
        ("GET /api/v1/actions?all=true", 200, "\"total\":6"),
        ("GET /api/v1/keeps", 200, "kp_"),
        ("POST /api/v1/keeps", 403, "control socket"),
        ("DELETE /api/v1/keeps/kp_1", 403, "control socket"),
        ("POST /api/v1/policies/idle/arm", 403, "control socket"),
        ("POST /api/v1/policies/idle/disarm", 403, "control socket"),
        ("POST /api/v1/actions/act_1/cancel", 403, "control socket"),
    ] {
        let stream = TcpStream::connect(address).await.unwrap();
        let got = ask(stream, request, "Host: localhost\r\n", body).await;
        assert!(got.status == status && got.body.contains(says), "{request}: {got:?}");
    }
    assert_eq!(core.asked.load(std::sync::atomic::Ordering::SeqCst), 0, "reasons that nobody reads");
    for request in ["GET /api/v1/policies/idle", "GET /api/v1/why/train-1"] {
        let stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(stream, request, "Host: localhost\r\n", "").await.status, 200, "{request}");
    }
    assert_eq!(core.asked.load(std::sync::atomic::Ordering::SeqCst), 2);
    assert!(looped.asked.lock().unwrap().is_empty());
    stop.cancel();
    task.await.unwrap().unwrap();
}
