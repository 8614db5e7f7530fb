//! Changes: sent to the running daemon, which commits them before it says so.
//!
//! It must never change anything by itself, nor say that something is done which the daemon has not said.

use std::path::Path;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    client::{Client, ClientError},
    source::SourceError,
};
use crate::{
    config::{self, Env},
    serve::api::SCHEMA,
};

/// Who is asked for a change; without one there is none.
#[derive(Debug)]
pub struct Daemon(Client);

impl Daemon {
    pub fn new(config: Option<&Path>, env: &Env) -> Result<Self, SourceError> {
        let settings = config::load(config, env)?;
        Ok(Self(Client::new(settings.serve.socket.as_deref())?))
    }

    /// What is read to be changed, as the daemon sees it now.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, SourceError> {
        read(&self.0.get(path)?)
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, SourceError> {
        let body = serde_json::to_string(body).map_err(SourceError::Foreign)?;
        read(&self.0.send("POST", path, &body)?)
    }

    pub fn delete(&self, path: &str) -> Result<(), SourceError> {
        self.0.send("DELETE", path, "")?;
        Ok(())
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, SourceError> {
    serde_json::from_str(text).map_err(SourceError::Foreign)
}

impl From<ClientError> for SourceError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(problem) => Self::Refused(problem),
            ClientError::NoDaemon { .. }
            | ClientError::Denied { .. }
            | ClientError::Broken { .. }
            | ClientError::Off => Self::Unanswered(error),
        }
    }
}

/// What a change made, as a document of its own.
#[derive(Debug, Serialize, Deserialize)]
pub struct Made<T> {
    schema: u32,
    #[serde(flatten)]
    made: T,
}

impl<T> Made<T> {
    pub fn new(made: T) -> Self {
        Self { schema: SCHEMA, made }
    }
}

/// Who says so, unless it is said.
pub fn user(env: &Env) -> String {
    env.var("USER").or_else(|| env.var("LOGNAME")).unwrap_or_default().to_owned()
}
