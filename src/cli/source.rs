//! Who answers a reading command: the daemon, or without one what it left in the database, read-only.
//!
//! It must never mix the two in one answer, nor hide which of them spoke.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    client::{Client, ClientError},
    output,
};
use crate::{
    app::{Archive, whole_policies},
    clock::Clock,
    config::{self, Env, Settings},
    engine::{Engine, Money},
    model::{Held, Policy, PolicyReasons, Tally, Time, View, humanize},
    serve::api::{self, Look, Page, Problem},
    store::{Reader, Recovered},
};

/// How long a query of the database may take.
const QUERY_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{0}")]
    Config(#[from] config::ConfigErrors),
    #[error("{0}")]
    Refused(Problem),
    /// Nobody takes a change.
    #[error("{0}")]
    Unanswered(ClientError),
    #[error("{daemon}; and the database says nothing either: {database}")]
    Neither { daemon: ClientError, database: String },
    #[error("the daemon speaks another version of this API ({0}); restart it after an upgrade")]
    Foreign(serde_json::Error),
}

impl SourceError {
    /// Tells it, with what a text that was `asked` for may have meant; the exit code. What the daemon takes for no question
    /// at all was a wrong use.
    pub fn tell(&self, asked: &str) -> ExitCode {
        let Self::Refused(problem) = self else { return super::failed(&self.to_string()) };
        let mut text = output::clean(&problem.detail);
        if !asked.is_empty() {
            text = format!("{}: {text}", output::clean(asked));
        }
        if !problem.candidates.is_empty() {
            let rows = problem.candidates.iter().map(|c| [c.id.clone(), c.name.clone(), c.status.clone()]);
            text.push('\n');
            text.push_str(&output::table(["ID", "NAME", "STATUS"], rows));
        }
        output::message(&text);
        if problem.status == 400 { ExitCode::from(super::EXIT_USAGE) } else { ExitCode::FAILURE }
    }
}

/// What the database says.
struct Known {
    view: View,
    held: Vec<Held>,
    policies: PolicyReasons,
    archive: Archive,
}

/// One command's source: the first answer decides which it is.
pub struct Source {
    settings: Settings,
    clock: Clock,
    client: Result<Client, ClientError>,
    database: Option<Known>,
    /// What to tell on stderr, if it is the database.
    pub notice: Option<String>,
}

impl Source {
    pub fn new(config: Option<&Path>, env: &Env) -> Result<Self, SourceError> {
        let settings = config::load(config, env)?;
        let client = Client::new(settings.serve.socket.as_deref());
        Ok(Self { settings, clock: Clock::system(), client, database: None, notice: None })
    }

    /// A document, as its text and as its value.
    pub fn get<T: DeserializeOwned>(&mut self, path: &str, query: &str) -> Result<T, SourceError> {
        let text = match &self.database {
            Some(known) => self.ask_database(known, path, query)?,
            None => match self.ask_daemon(path, query) {
                Ok(text) => text,
                Err(ClientError::Refused(problem)) => return Err(SourceError::Refused(problem)),
                Err(daemon) => {
                    let known = self.open_database(daemon)?;
                    let text = self.ask_database(&known, path, query);
                    self.database = Some(known);
                    text?
                }
            },
        };
        serde_json::from_str(&text).map_err(SourceError::Foreign)
    }

    /// The whole list, page after page.
    pub fn all<T: DeserializeOwned>(&mut self, path: &str, query: &str) -> Result<Page<T>, SourceError> {
        let mut page: Page<T> = self.get(path, query)?;
        while let Some(offset) = page.next_offset {
            let next: Page<T> = self.get(path, &format!("{query}&offset={offset}"))?;
            page.next_offset = next.next_offset.filter(|next| *next > offset);
            page.total = next.total;
            page.items.extend(next.items);
        }
        page.limit = page.items.len();
        Ok(page)
    }

    /// Says on stderr who answered, if it was not the daemon.
    pub fn tell(&self) {
        self.notice.iter().for_each(|notice| output::message(notice));
    }

    fn ask_daemon(&self, path: &str, query: &str) -> Result<String, ClientError> {
        match &self.client {
            Ok(client) => client.get(&format!("{path}?{query}")),
            Err(_) => Err(ClientError::Off),
        }
    }

    fn ask_database(&self, known: &Known, path: &str, query: &str) -> Result<String, SourceError> {
        let Known { view, held, policies, archive } = known;
        let (now, source) = (self.clock.now(), api::Source::Database);
        let look = Look { view, held, policies: Some(policies), now, source, records: Some(archive) };
        api::get(look, path, query).map_err(SourceError::Refused)
    }

    fn open_database(&mut self, daemon: ClientError) -> Result<Known, SourceError> {
        let path = &self.settings.store.path;
        let recovered = match read(path, &self.clock) {
            Ok(recovered) => recovered,
            Err(database) => return Err(SourceError::Neither { daemon, database }),
        };
        let seen = recovered.snapshot.teams.values().filter_map(|team| team.balance_at).max();
        let age = seen.map_or("nothing was seen yet".to_owned(), |at| {
            format!("its data are {} old", humanize(self.clock.now().since(at)))
        });
        self.notice = Some(format!("{daemon}\nThis is from the database, {}: {age}.", path.display()));
        let archive = Archive::new(path.clone(), self.clock.clone());
        Ok(view(recovered, archive, &self.settings, self.clock.now()))
    }
}

fn read(path: &Path, clock: &Clock) -> Result<Recovered, String> {
    let mut reader = Reader::open(path, clock.clone(), QUERY_MAX).map_err(|error| error.to_string())?;
    reader.current().map_err(|error| error.to_string())
}

/// What the last commit left, as the daemon would have shown it; and why nothing was told, by the rules of now.
fn view(recovered: Recovered, archive: Archive, settings: &Settings, now: Time) -> Known {
    let money = Money::new(settings.collect.timezone.clone(), recovered.books);
    let mut engine =
        Engine::new(settings.rules.clone(), settings.account.teams.clone(), money, recovered.alerts)
            .resume(recovered.groups, recovered.polls);
    let held = engine.held(&recovered.snapshot, now);
    let (firing, latent) = (engine.firing(), engine.latent());
    // Forecasts come of a step; what else it decides is nobody's.
    drop(engine.step(&recovered.snapshot, now));
    let policies = whole_policies(settings);
    // After it, so that no action takes a step that no daemon took.
    let engine = engine.with_policies(policies.clone(), recovered.actions.clone());
    let preview = |policy: &Policy| engine.preview(&policy.name, &recovered.snapshot, now);
    let reasons = PolicyReasons {
        previews: policies.policies.iter().filter_map(preview).collect(),
        verdicts: engine.policy_verdicts(&recovered.snapshot, now),
    };
    let tallies = engine.ended(now).into_iter();
    let view = View {
        firing,
        latent,
        tallies: tallies.map(|(policy, ends)| (policy, Tally { ends, ..Tally::default() })).collect(),
        forecasts: engine.forecasts().clone(),
        snapshot: Arc::new(recovered.snapshot),
        rules: Arc::new(settings.rules.clone()),
        policies: Arc::new(policies),
        actions: Arc::new(recovered.actions),
        config_reload_ok: true,
        ..View::default()
    };
    Known { view, held, policies: reasons, archive }
}

/// A document for `-o json`: what the API gave, indented.
pub fn pretty(document: &(impl Serialize + for<'de> Deserialize<'de>)) -> String {
    let text = serde_json::to_string_pretty(document).unwrap_or_default();
    output::json(&text)
}
