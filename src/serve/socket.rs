//! The control socket: the API on a Unix socket, where the file's mode says who may change something.
//!
//! It must never take the place of a socket that somebody answers, nor remove a file that is no socket of a dead process.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{Router, extract::Request, routing::any};
use tokio::{net::UnixListener, sync::watch};
use tokio_util::sync::CancellationToken;

use super::{
    ServeError, ServeOptions,
    api::{self, Api},
    listen, router,
};
use crate::{clock::Clock, model::View};

/// The owner and the group; a stranger gets `permission denied`.
const MODE: u32 = 0o660;
const FOLDER_MODE: u32 = 0o750;

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("{path}: another process answers there; end it, or set another `[serve] socket`")]
    InUse { path: PathBuf },
    #[error("{path} exists and is no socket; remove it, or set another `[serve] socket`")]
    NoSocket { path: PathBuf },
    #[error(
        "the control socket {path} cannot be made: {source}; set `[serve] socket` to where it can, or to \"off\""
    )]
    Io { path: PathBuf, source: io::Error },
}

/// A bound socket and its file, which goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    _file: File,
}

impl Socket {
    /// Made under another name and moved into place, so that nobody meets it before it has its mode.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(failed)?;
        }
        check_place(path)?;
        let part = part(path);
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&part).map_err(failed)?;
        fs::set_permissions(&part, Permissions::from_mode(MODE)).map_err(failed)?;
        let file = File::of(&part, path).map_err(failed)?;
        fs::rename(&part, path).map_err(failed)?;
        Ok(Self { listener, _file: file })
    }
}

fn part(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".new");
    part.into()
}

/// Free, or left behind by a process that is dead.
fn check_place(path: &Path) -> Result<(), SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(SocketError::NoSocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io(error)),
    }
}

/// Removed at the end if it is still the one that was made.
#[derive(Debug)]
struct File {
    path: PathBuf,
    identity: (u64, u64),
}

impl File {
    fn of(made: &Path, path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(made)? })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

impl Drop for File {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "the control socket is left behind");
        }
    }
}

/// Serves the API until `stop`. A file's mode guards it, so no Host header is asked for.
pub async fn serve_socket(
    socket: Socket,
    options: ServeOptions,
    views: watch::Receiver<Arc<View>>,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let api = Api::new(&options, views, clock, options.orders.clone());
    let routes =
        Router::new().fallback(any(move |request: Request| async move { api::answer(&api, request).await }));
    let router = router::bounded(routes, options.request_timeout);
    // The file lives as long as this does.
    let Socket { listener, _file } = socket;
    listen::run(listener, router, &options, stop).await
}
