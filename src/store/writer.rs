//! The async handle to the one thread that writes.
//!
//! It must never leave a caller waiting: if the thread ends, by a panic too, every call answers `Stopped`.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::sync::{mpsc, oneshot};

use super::{Db, Intent, OpenError, Options, Recovered, StoreError};
use crate::model::{Heard, Notice, OutboxDepth, OutboxRow, Receipt, StepRecord, Time};

/// Callers beyond this many wait for their turn.
const QUEUE_DEPTH_MAX: usize = 64;

type Job = Box<dyn FnOnce(&mut Db) + Send>;

enum Message {
    Job(Job),
    Close(oneshot::Sender<()>),
}

/// Clones share the one writer, which ends with the last of them or with `close`.
#[derive(Debug, Clone)]
pub struct Store(mpsc::Sender<Message>);

impl Store {
    pub fn open(path: &Path) -> Result<(Self, Recovered), OpenError> {
        Self::open_with(path, &Options::default())
    }

    pub fn open_with(path: &Path, options: &Options) -> Result<(Self, Recovered), OpenError> {
        let (db, recovered) = Db::open_with(path, options)?;
        let (store, _thread) =
            Self::start(db).map_err(|source| OpenError::Io { path: path.into(), source })?;
        Ok((store, recovered))
    }

    fn start(db: Db) -> Result<(Self, JoinHandle<()>), std::io::Error> {
        let (sender, receiver) = mpsc::channel(QUEUE_DEPTH_MAX);
        let thread = thread::Builder::new().name("store".into()).spawn(move || run(db, receiver))?;
        Ok((Self(sender), thread))
    }

    pub async fn commit(&self, record: Arc<StepRecord>) -> Result<(), StoreError> {
        self.call(move |db| db.commit(&record)).await
    }

    /// A claim whose caller has gone away meanwhile is given back.
    pub async fn claim(&self, receiver: Arc<str>, now: Time) -> Result<Option<OutboxRow>, StoreError> {
        self.take(move |db| db.claim(&receiver, now)).await
    }

    pub async fn claim_older(
        &self,
        receiver: Arc<str>,
        than: Time,
        now: Time,
    ) -> Result<Option<OutboxRow>, StoreError> {
        self.take(move |db| db.claim_older(&receiver, than, now)).await
    }

    async fn take(
        &self,
        claim: impl FnOnce(&mut Db) -> Result<Option<OutboxRow>, StoreError> + Send + 'static,
    ) -> Result<Option<OutboxRow>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Job(Box::new(move |db| {
            if let Err(Ok(Some(row))) = reply.send(claim(db)) {
                // If this fails too, the claim is free again at the next start.
                let _ = db.release(row.seq);
            }
        })))
        .await?;
        answer.await.unwrap_or(Err(StoreError::Stopped))
    }

    pub async fn settle(&self, seq: i64, receipt: Receipt, now: Time) -> Result<(), StoreError> {
        self.call(move |db| db.settle(seq, &receipt, now)).await
    }

    pub async fn bury(
        &self,
        seq: i64,
        why: String,
        heirs: Vec<Arc<str>>,
        now: Time,
    ) -> Result<Option<Arc<str>>, StoreError> {
        self.call(move |db| db.bury(seq, why, &heirs, now)).await
    }

    pub async fn waiting(
        &self,
        receiver: Arc<str>,
        after: i64,
        max: u32,
    ) -> Result<Vec<(i64, Notice)>, StoreError> {
        self.call(move |db| db.waiting(&receiver, after, max)).await
    }

    pub async fn share(
        &self,
        seq: i64,
        others: Vec<Arc<str>>,
        now: Time,
    ) -> Result<Vec<Arc<str>>, StoreError> {
        self.call(move |db| db.share(seq, &others, now)).await
    }

    pub async fn spread(
        &self,
        seq: i64,
        receipt: Receipt,
        others: Vec<Arc<str>>,
        now: Time,
    ) -> Result<Vec<Arc<str>>, StoreError> {
        self.call(move |db| db.spread(seq, &receipt, &others, now)).await
    }

    pub async fn release(&self, seq: i64) -> Result<(), StoreError> {
        self.call(move |db| db.release(seq)).await
    }

    pub async fn next_due(&self, receiver: Arc<str>) -> Result<Option<Time>, StoreError> {
        self.call(move |db| db.next_due(&receiver)).await
    }

    pub async fn outbox(&self) -> Result<BTreeMap<Arc<str>, OutboxDepth>, StoreError> {
        self.call(|db| db.outbox()).await
    }

    pub async fn commit_intent(&self, intent: Intent, now: Time) -> Result<Result<(), Arc<str>>, StoreError> {
        self.call(move |db| db.commit_intent(&intent, now)).await
    }

    pub async fn heard(&self) -> Result<Heard, StoreError> {
        self.call(|db| db.heard()).await
    }

    pub async fn recover(&self) -> Result<Recovered, StoreError> {
        self.call(|db| db.recover()).await
    }

    pub async fn prune(&self, now: Time) -> Result<usize, StoreError> {
        self.call(move |db| db.prune(now)).await
    }

    pub async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.call(|db| Ok(db.free_bytes())).await
    }

    pub async fn size_bytes(&self) -> Result<u64, StoreError> {
        self.call(|db| Ok(db.size_bytes())).await
    }

    /// Does what was asked before, then closes the file and lets go of its lock. Other clones answer `Stopped` from then on.
    pub async fn close(self) {
        let (closed, done) = oneshot::channel();
        if self.send(Message::Close(closed)).await.is_ok() {
            // An error says that the thread ended otherwise: closed all the same.
            let _ = done.await;
        }
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Db) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Job(Box::new(move |db| {
            // A caller that has gone away needs no answer.
            let _ = reply.send(work(db));
        })))
        .await?;
        answer.await.unwrap_or(Err(StoreError::Stopped))
    }

    async fn send(&self, message: Message) -> Result<(), StoreError> {
        self.0.send(message).await.map_err(|_| StoreError::Stopped)
    }
}

fn run(mut db: Db, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.blocking_recv() {
        match message {
            Message::Job(job) => job(&mut db),
            Message::Close(closed) => {
                drop(db);
                let _ = closed.send(());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AlertKey, EventId, Notice, Severity, Subject, Transition};

    #[tokio::test]
    async fn a_panic_in_the_writer_answers_every_call_and_hangs_none() {
        let (store, thread) = Store::start(Db::in_memory().unwrap()).unwrap();
        assert_eq!(store.prune(Time::EPOCH).await, Ok(0));
        let broken = store.call::<()>(|_| panic!("planted")).await;
        assert_eq!(broken, Err(StoreError::Stopped));
        assert_eq!(store.commit(Arc::default()).await, Err(StoreError::Stopped));
        assert_eq!(store.size_bytes().await, Err(StoreError::Stopped));
        assert!(thread.join().is_err());
        store.close().await;
    }

    #[tokio::test]
    async fn calls_that_wait_behind_a_panic_are_answered_too() {
        let (store, _thread) = Store::start(Db::in_memory().unwrap()).unwrap();
        let (broken, behind) =
            tokio::join!(store.call::<()>(|_| panic!("planted")), store.prune(Time::EPOCH));
        assert_eq!((broken, behind), (Err(StoreError::Stopped), Err(StoreError::Stopped)));
    }

    #[tokio::test]
    async fn a_claim_whose_caller_has_gone_away_is_given_back() {
        let mut db = Db::in_memory().unwrap();
        db.commit(&StepRecord { notices: vec![notice()], ..StepRecord::default() }).unwrap();
        let (store, _thread) = Store::start(db).unwrap();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let busy = store.call(move |_| Ok(gate.recv()));
        let claim = store.claim("log".into(), Time::EPOCH);
        tokio::select! {
            biased;
            _ = busy => panic!("the gate is shut"),
            _ = claim => panic!("the writer is busy"),
            () = std::future::ready(()) => {}
        }
        open.send(()).unwrap();
        let row = store.claim("log".into(), Time::EPOCH).await.unwrap();
        assert_eq!(row.map(|row| row.attempts), Some(0));
    }

    fn notice() -> Notice {
        Notice {
            id: EventId::from_text("evt_1"),
            key: AlertKey { rule: "r".into(), subject: Subject::Account },
            kind: "blind".into(),
            transition: Transition::Firing,
            severity: Severity::Info,
            title: String::new(),
            reason: String::new(),
            advice: String::new(),
            details: Vec::new(),
            since: Time::EPOCH,
            at: Time::EPOCH,
            receivers: vec!["log".into()],
            bars: Vec::new(),
            together: Default::default(),
            grant: None,
            link: None,
        }
    }
}
