use bytes::Bytes;
use tokio::{sync::Notify, task::JoinHandle};

use super::*;
use crate::{
    model::{ActionId, DeploymentId, NoMeter, Target, Time},
    spheron::{Method, Request, Response, SendError},
};

/// Says when a request is under way, and answers when it may.
#[derive(Clone)]
struct Gate {
    clock: Clock,
    under_way: Arc<Notify>,
    open: Arc<Notify>,
}

impl Transport for Gate {
    fn now(&self) -> Time {
        self.clock.now()
    }

    async fn send(&self, request: Request) -> Result<Response, SendError> {
        self.under_way.notify_one();
        self.open.notified().await;
        let status = if request.method == Method::Delete { 200 } else { 404 };
        let headers = [(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"))];
        Ok(Response { status, headers: headers.into_iter().collect(), body: Bytes::from_static(b"{}") })
    }

    async fn pause(&self, _: Duration) {}
}

struct Rig {
    gate: Gate,
    acts: mpsc::Sender<Act>,
    receipts: mpsc::Receiver<ActReceipt>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn start() -> Self {
        Self::waiting(ENDING)
    }

    fn waiting(patience: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&dir.path().join("watch.db")).unwrap();
        let clock = Clock::system();
        let gate = Gate { clock: clock.clone(), under_way: Arc::default(), open: Arc::default() };
        let client = Arc::new(Client::seeded(gate.clone(), None, Arc::new(NoMeter), 1));
        let ((acts, receipts), task_ends) = ways();
        let stop = CancellationToken::new();
        let task = tokio::spawn(Actor { client, store, clock, patience }.run(task_ends, stop.clone()));
        Self { gate, acts, receipts, stop, task, _dir: dir }
    }

    async fn ask(&self, seq: u32, deed: Deed) {
        let target = Target { id: DeploymentId::new("a"), created_at: Time::EPOCH };
        self.acts.send(Act { action: ActionId::from_text("act_1"), seq, target, deed }).await.unwrap();
    }

    fn delete(&self) -> Deed {
        Deed::Delete { not_after: self.gate.clock.now().plus(Duration::from_secs(30)) }
    }

    /// All that came until the task ended.
    async fn rest(mut self) -> Vec<(u32, Came)> {
        drop(self.acts);
        let mut came = Vec::new();
        while let Some(receipt) = self.receipts.recv().await {
            came.push((receipt.seq, receipt.came));
        }
        self.task.await.unwrap();
        came
    }
}

#[tokio::test]
async fn acts_are_performed_in_their_order_and_each_brings_its_receipt() {
    let mut rig = Rig::start();
    rig.ask(1, Deed::FinalRead).await;
    rig.ask(2, Deed::Commit { policy: "p".into(), fingerprint: "f".into() }).await;
    rig.ask(3, rig.delete()).await;
    rig.gate.open.notify_one();
    let first = rig.receipts.recv().await.unwrap();
    assert_eq!((first.seq, first.came), (1, Came::Read(Ok(None))));
    let second = rig.receipts.recv().await.unwrap();
    assert!(matches!((second.seq, second.came), (2, Came::Commit(Err(_)))), "no such action is in the store");
    rig.gate.open.notify_one();
    assert_eq!(rig.receipts.recv().await.unwrap().came, Came::Delete(DeleteAnswer::Accepted));
}

#[tokio::test]
async fn fault_84_a_delete_under_way_at_the_stop_is_finished_and_one_that_waits_is_not_sent() {
    let rig = Rig::start();
    rig.ask(1, rig.delete()).await;
    rig.ask(2, Deed::Verify).await;
    rig.ask(3, rig.delete()).await;
    rig.gate.under_way.notified().await;
    rig.stop.cancel();
    rig.gate.open.notify_one();
    let came = rig.rest().await;
    assert_eq!(came[0], (1, Came::Delete(DeleteAnswer::Accepted)));
    assert!(matches!(&came[1], (3, Came::Delete(DeleteAnswer::NotSent { .. }))), "{came:?}");
    assert_eq!(came.len(), 2);
}

#[tokio::test]
async fn a_read_under_way_at_the_stop_is_dropped() {
    let rig = Rig::start();
    rig.ask(1, Deed::Verify).await;
    rig.gate.under_way.notified().await;
    rig.stop.cancel();
    assert_eq!(rig.rest().await, []);
}

#[tokio::test]
async fn fault_84_a_delete_that_is_not_answered_is_given_up_a_while_after_the_stop() {
    let rig = Rig::waiting(Duration::from_millis(200));
    rig.ask(1, rig.delete()).await;
    rig.ask(2, rig.delete()).await;
    rig.gate.under_way.notified().await;
    // However long it has been under way before.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!rig.task.is_finished());
    let clock = rig.gate.clock.clone();
    let stopped = clock.monotonic();
    rig.stop.cancel();
    let came = rig.rest().await;
    assert!(clock.monotonic().saturating_sub(stopped) >= Duration::from_millis(200));
    assert!(matches!(&came[..], [(2, Came::Delete(DeleteAnswer::NotSent { .. }))]), "{came:?}");
}
