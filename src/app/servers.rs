//! The HTTP servers of one daemon, TCP and socket, and the way from the API to the loop.
//!
//! It must never let one of them end in silence: a server that ends by itself takes the daemon along, to be restarted whole.

use std::{path::Path, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::AppError;
use crate::{
    clock::Clock,
    drive::Control,
    model::{ActionId, ArmError, Arming, Cancel, CancelError, Keep, Silence, View},
    serve::{
        self, ServeError, ServeOptions, Socket,
        api::{Asking, Orders, Sending},
    },
};

/// Hands what the API is asked to change to the loop.
#[derive(Debug)]
pub struct Switchboard(pub mpsc::Sender<Control>);

impl Switchboard {
    fn ask<T: Send + 'static>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Control) -> Asking<'_, T> {
        let (reply, answer) = oneshot::channel();
        let order = order(reply);
        Box::pin(async move {
            self.0.send(order).await.ok()?;
            answer.await.ok()
        })
    }
}

impl Orders for Switchboard {
    fn silence(&self, silence: Silence) -> Sending<'_> {
        Box::pin(async move { self.0.send(Control::Silence(silence)).await.is_ok() })
    }

    fn end_silence(&self, id: Arc<str>) -> Sending<'_> {
        Box::pin(async move { self.0.send(Control::EndSilence(id)).await.is_ok() })
    }

    fn keep(&self, keep: Keep) -> Asking<'_, bool> {
        self.ask(|reply| Control::Keep { keep, reply })
    }

    fn end_keep(&self, id: Arc<str>, by: Arc<str>) -> Asking<'_, bool> {
        self.ask(|reply| Control::EndKeep { id, by, reply })
    }

    fn cancel(&self, action: ActionId, cancel: Cancel) -> Asking<'_, Result<(), CancelError>> {
        self.ask(|reply| Control::Cancel { action, cancel, reply })
    }

    fn arm(&self, policy: Arc<str>, code: Arc<str>, by: Arc<str>) -> Asking<'_, Result<Arming, ArmError>> {
        self.ask(|reply| Control::Arm { policy, code, by, reply })
    }

    fn disarm(&self, policy: Arc<str>, by: Arc<str>) -> Asking<'_, bool> {
        self.ask(|reply| Control::Disarm { policy, by, reply })
    }
}

pub struct Servers {
    tasks: JoinSet<Result<(), ServeError>>,
    /// Ends them, after all that they show has been written.
    stop: CancellationToken,
    /// The daemon's.
    stop_all: CancellationToken,
}

impl Servers {
    pub fn new(stop_all: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), stop: CancellationToken::new(), stop_all }
    }

    /// For the server that is to be added.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    pub fn add(&mut self, server: impl Future<Output = Result<(), ServeError>> + Send + 'static) {
        let stop_all = self.stop_all.clone();
        self.tasks.spawn(async move {
            let result = server.await;
            stop_all.cancel();
            result
        });
    }

    pub fn add_socket(
        &mut self,
        path: &Path,
        options: ServeOptions,
        views: watch::Receiver<Arc<View>>,
        clock: Clock,
    ) -> Result<(), AppError> {
        let socket = Socket::bind(path)?;
        self.add(serve::serve_socket(socket, options, views, clock, self.stop()));
        Ok(())
    }

    /// Requests in flight are finished.
    pub async fn end(mut self) -> Result<(), AppError> {
        self.stop.cancel();
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let ended = ended
                .map_err(|_| AppError::Panicked("a task of the HTTP server"))
                .and_then(|result| Ok(result?));
            result = result.and(ended);
        }
        result
    }
}
