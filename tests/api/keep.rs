//! The page behind the signed link in a notice: who opens it changes nothing, who presses the button keeps the instance.
//!
//! It must never be enough to follow a link.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use spheron_watch::{
    clock::Clock,
    model::{
        Action, ActionId, Grant, Keep, Links as _, Safety, Slot, Snapshot, Stage, Status, Target, Time, View,
    },
    serve::{KEY_BYTES, KeepKey, KeepLinks, Keeper, SelfMetrics, ServeOptions, serve},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Got, HOUR, ask, fleet,
    policies::{Loop, action, gone, verifying},
};

const MINUTE: Duration = Duration::from_secs(60);

fn links() -> Arc<KeepLinks> {
    Arc::new(KeepLinks::new(KeepKey::new([7; KEY_BYTES]), "https://watch.example.org".to_owned()))
}

/// The view of the policies, where the first is announced in 25 minutes from now.
fn view(now: Time) -> View {
    let mut view = crate::policies::view();
    view.actions = Arc::new(vec![announced(now), verifying(), gone()]);
    view
}

fn announced(now: Time) -> Action {
    let slot = Slot { told: now.minus(MINUTE * 5), at: now.plus(MINUTE * 25), reminded: false };
    action("idle", 1, crate::START, Stage::Announced { slot, next: slot.at })
}

fn grant(action: &Action, expires: Time) -> Grant {
    Grant { action: action.id.clone(), target: action.target.clone(), expires }
}

fn path(grant: &Grant) -> String {
    let link = links().keep(grant).unwrap();
    link.strip_prefix("https://watch.example.org").unwrap().to_owned()
}

struct Served {
    address: SocketAddr,
    looped: Arc<Loop>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), spheron_watch::serve::ServeError>>,
}

impl Served {
    async fn new(view: View) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (views, receiver) = watch::channel(Arc::new(view));
        let looped =
            Arc::new(Loop { views, asked: Mutex::default(), full: false, meanwhile: Mutex::default() });
        let keeper = Keeper { links: links(), orders: looped.clone() };
        let options = ServeOptions {
            keeper: Some(keeper),
            hosts: vec!["watch.example.org".to_owned()],
            ..ServeOptions::default()
        };
        let (metrics, stop) = (Arc::new(SelfMetrics::new().unwrap()), CancellationToken::new());
        let task = tokio::spawn(serve(listener, options, receiver, metrics, Clock::system(), stop.clone()));
        Self { address, looped, stop, task }
    }

    async fn send(&self, request: &str, headers: &str, body: &str) -> Got {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let headers = if headers.contains("Host:") {
            headers.to_owned()
        } else {
            format!("Host: watch.example.org\r\n{headers}")
        };
        ask(stream, request, &headers, body).await
    }

    async fn get(&self, path: &str) -> Got {
        self.send(&format!("GET {path}"), "", "").await
    }

    async fn post(&self, path: &str, headers: &str, body: &str) -> Got {
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        self.send(&format!("POST {path}"), &format!("{form}{headers}"), body).await
    }

    fn keeps(&self) -> Vec<Keep> {
        let view = self.looped.views.borrow();
        let by_link = view.snapshot.keeps.values().filter(|keep| &*keep.by == "the link in the notice");
        by_link.map(|keep| Keep::clone(keep)).collect()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_link_shows_what_would_be_ended_and_only_its_button_keeps_it() {
    let now = Clock::system().now();
    let served = Served::new(view(now)).await;
    let path = path(&grant(&announced(now), now.plus(HOUR)));
    for method in ["GET", "HEAD", "GET", "GET"] {
        assert_eq!(served.send(&format!("{method} {path}?for=86400"), "", "for=86400").await.status, 200);
    }
    assert!(served.looped.asked.lock().unwrap().is_empty() && served.keeps().is_empty(), "a GET acted");
    let page = served.get(&path).await;
    for text in [
        "Keep train-1?",
        "policy idle: idle for 2h",
        "not before",
        "the volume that is attached stays",
        "$0.73",
        "research",
        "value=\"14400\" checked",
        "value=\"604800\"",
        "<form method=\"post\">",
    ] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    for header in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; style-src 'sha256-",
        "form-action 'self'",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "x-frame-options: deny",
        "x-content-type-options: nosniff",
    ] {
        assert!(page.head.contains(header), "{header}: {}", page.head);
    }
    assert!(!page.body.contains("<script") && !page.body.contains("://"), "{}", page.body);
    let before = Clock::system().now();
    let kept = served.post(&path, "Sec-Fetch-Site: same-origin\r\nOrigin: null\r\n", "for=86400").await;
    assert!(kept.status == 200 && kept.body.contains("Kept: train-1"), "{kept:?}");
    assert!(!kept.body.contains("<form"), "{kept:?}");
    let keeps = served.keeps();
    let until = keeps[0].until.unwrap();
    assert_eq!((keeps.len(), &keeps[0].target), (1, &announced(now).target));
    assert!(until >= before.plus(HOUR * 24) && until <= Clock::system().now().plus(HOUR * 24));
    let again = served.get(&path).await;
    assert!(again.status == 200 && again.body.contains("the link in the notice keeps it until"), "{again:?}");
    let twice = served.post(&path, "", "for=14400").await;
    assert!(twice.status == 409 && twice.body.contains("kept already"), "{twice:?}");
    assert_eq!(served.keeps(), keeps, "neither shortened nor doubled");
    served.end().await;
}

#[tokio::test]
async fn a_form_of_another_site_or_with_another_length_keeps_nothing() {
    let now = Clock::system().now();
    let mut view = view(now);
    let keep_max = HOUR * 24;
    Arc::make_mut(&mut view.policies).safety = Safety { keep_max, ..Safety::default() };
    let served = Served::new(view).await;
    let path = path(&grant(&announced(now), now.plus(HOUR)));
    let page = served.get(&path).await.body;
    assert!(
        page.contains("value=\"86400\"") && !page.contains("value=\"259200\""),
        "bounded by keep_max: {page}"
    );
    for (headers, body, status) in [
        ("Sec-Fetch-Site: cross-site\r\n", "for=14400", 403),
        ("Sec-Fetch-Site: same-site\r\n", "for=14400", 403),
        ("Origin: https://evil.example\r\n", "for=14400", 403),
        ("Sec-Fetch-Site: cross-site\r\nOrigin: null\r\n", "for=14400", 403),
        ("Host: evil.example\r\n", "for=14400", 421),
        ("", "for=86401", 400),
        ("", "for=259200", 400),
        ("", "for=0", 400),
        ("", "for=-1", 400),
        ("", "for=18446744073709551616", 400),
        ("", "for=14400&for=86400", 400),
        ("", "", 400),
        ("", &"x".repeat(5_000), 400),
        ("", &"x".repeat(70_000), 413),
    ] {
        let got = served.post(&path, headers, body).await;
        assert_eq!(got.status, status, "{headers}{}: {got:?}", body.get(..30).unwrap_or(body));
    }
    let text = served.send(&format!("POST {path}"), "Content-Type: text/plain\r\n", "for=14400").await;
    assert_eq!(text.status, 400, "no form: {text:?}");
    let put = served.send(&format!("PUT {path}"), "", "for=14400").await;
    assert!(put.status == 405 && put.head.contains("allow: get, head, post"), "{put:?}");
    assert!(served.keeps().is_empty());
    let own = served.post(&path, "Origin: https://watch.example.org\r\n", "for=86400").await;
    assert_eq!((own.status, served.keeps().len()), (200, 1), "{own:?}");
    served.end().await;
}

#[tokio::test]
async fn a_link_that_is_forged_expired_or_too_late_says_so_and_has_no_button() {
    let now = Clock::system().now();
    let mut view = view(now);
    let over = Action {
        stage: Stage::Cancelled { at: now, slot: None, rest: None },
        ..action("night", 1, now, Stage::Expired { at: now })
    };
    Arc::make_mut(&mut view.actions).push(over.clone());
    let served = Served::new(view).await;
    let later = now.plus(HOUR);
    let good = path(&grant(&announced(now), later));
    let other_key = KeepKey::new([8; KEY_BYTES]).token(&grant(&announced(now), later)).unwrap();
    let target = |created_at| Target { created_at, ..announced(now).target };
    let unknown = Grant { action: ActionId::from_text("act_0"), ..grant(&announced(now), later) };
    let reborn = Grant { target: target(now), ..grant(&announced(now), later) };
    for (path, status, says) in [
        (format!("{good}A"), 403, "Not a link of ours"),
        (good[..good.len() - 1].to_owned(), 403, "Not a link of ours"),
        (format!("/keep/{other_key}"), 403, "Not a link of ours"),
        (format!("/keep/{}", "A".repeat(5_000)), 403, "Not a link of ours"),
        ("/keep/..%2F".to_owned(), 403, "Not a link of ours"),
        (path(&grant(&announced(now), now)), 410, "has expired"),
        (path(&grant(&verifying(), later)), 409, "Too late: its end was accepted"),
        (path(&grant(&gone(), later)), 410, "Too late: it is gone"),
        (path(&grant(&over, later)), 410, "Nothing to keep now"),
        (path(&unknown), 410, "Nothing to keep now"),
        (path(&reborn), 410, "It has ended"),
    ] {
        for got in [served.get(&path).await, served.post(&path, "", "for=14400").await] {
            assert!(got.status == status && got.body.contains(says), "{path}: {got:?}");
            assert!(!got.body.contains("<form"), "a button: {}", got.body);
            assert!(!got.body.contains(&good[6..40]), "the token: {}", got.body);
        }
    }
    assert!(served.looped.asked.lock().unwrap().is_empty());
    served.end().await;
}

#[tokio::test]
async fn an_intent_that_is_committed_meanwhile_makes_the_button_too_late_and_the_keep_stays() {
    let now = Clock::system().now();
    let served = Served::new(view(now)).await;
    let path = path(&grant(&announced(now), now.plus(HOUR)));
    *served.looped.meanwhile.lock().unwrap() = Some(Arc::new(vec![Action {
        stage: Stage::Requested { slot: Slot { told: now, at: now, reminded: true }, asked: now },
        ..announced(now)
    }]));
    let late = served.post(&path, "", "for=14400").await;
    assert!(late.status == 409 && late.body.contains("its end was requested"), "{late:?}");
    assert_eq!(served.keeps().len(), 1, "it holds for whatever comes next");
    served.end().await;
}

#[tokio::test]
async fn hostile_names_are_shown_and_do_nothing_and_without_a_key_there_is_no_page() {
    let now = Clock::system().now();
    let mut view = view(now);
    let hostile = "<script>alert(1)</script>\"'>\u{202e}\r\nSet-Cookie: x";
    let mut snapshot = Snapshot::clone(&view.snapshot);
    let mut tracked = fleet::tracked(1, 1, Status::Running, crate::START);
    tracked.deployment.name = hostile.into();
    tracked.deployment.gpu_type = "<img src=x onerror=y>".into();
    snapshot.deployments.insert(tracked.deployment.id.clone(), Arc::new(tracked));
    view.snapshot = Arc::new(snapshot);
    let named = Action { name: hostile.into(), ..announced(now) };
    view.actions = Arc::new(vec![named.clone()]);
    let served = Served::new(view.clone()).await;
    let path = path(&grant(&named, now.plus(HOUR)));
    let pages = [served.get(&path).await, served.post(&path, "", "for=14400").await, served.get(&path).await];
    for page in pages {
        assert_eq!(page.status, 200, "{page:?}");
        assert!(!page.body.contains("<script") && !page.body.contains("<img"), "{}", page.body);
        assert!(!page.body.contains('\u{202e}') && !page.head.contains("set-cookie"), "{page:?}");
    }
    served.end().await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (metrics, stop) = (Arc::new(SelfMetrics::new().unwrap()), CancellationToken::new());
    let views = watch::channel(Arc::new(view)).1;
    let options = ServeOptions::default();
    let task = tokio::spawn(serve(listener, options, views, metrics, Clock::system(), stop.clone()));
    let stream = TcpStream::connect(address).await.unwrap();
    let got = ask(stream, &format!("GET {path}"), "Host: localhost\r\n", "").await;
    assert!(got.status == 404 && got.body.contains("no links"), "{got:?}");
    stop.cancel();
    task.await.unwrap().unwrap();
}
