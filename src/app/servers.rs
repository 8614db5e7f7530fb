//! The HTTP servers of one daemon, TCP and socket, and the way from the API to the loop.
//!
//! It must never let one of them end in silence: a server that ends by itself takes the daemon along, to be restarted whole.

use std::{path::Path, sync::Arc};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::AppError;
use crate::{
    clock::Clock,
    drive::Control,
    model::{Silence, View},
    serve::{
        self, ServeError, ServeOptions, Socket,
        api::{Orders, Sending},
    },
};

/// Hands what the API is asked to change to the loop.
#[derive(Debug)]
pub struct Switchboard(pub mpsc::Sender<Control>);

impl Orders for Switchboard {
    fn silence(&self, silence: Silence) -> Sending<'_> {
        Box::pin(async move { self.0.send(Control::Silence(silence)).await.is_ok() })
    }

    fn end_silence(&self, id: Arc<str>) -> Sending<'_> {
        Box::pin(async move { self.0.send(Control::EndSilence(id)).await.is_ok() })
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
