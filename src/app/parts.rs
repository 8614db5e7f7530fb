//! Settings → parts: secrets are read here, and each effect gets its own options.
//!
//! It must never keep a secret longer than it takes to hand it over, nor put one into an error.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret as _, SecretString};

use super::AppError;
use crate::{
    activity::{self, ProberOptions, Reach, Source},
    clock::Clock,
    config::{self, ActivityKind, Env, ReceiverKind, Settings, WebhookFormat},
    drive::{Cadence, Deliver, LOG, Member, Outward},
    model::{ActivitySource, Policies},
    notify::{self, Alertmanager, Chat, DeadMan, Format, ReceiverSpec, SmtpSpec, SmtpTls},
    spheron::{HttpOptions, key},
};

impl From<key::KeyError> for AppError {
    fn from(error: key::KeyError) -> Self {
        Self::Config(error.to_string())
    }
}

impl From<notify::BuildError> for AppError {
    fn from(error: notify::BuildError) -> Self {
        Self::Config(error.to_string())
    }
}

/// The API key, from the first source that is there.
pub fn find_key(settings: &Settings, env: &Env) -> Result<SecretString, AppError> {
    Ok(key::find(&key::KeySources {
        api_key_file: settings.account.api_key_file.as_deref(),
        credentials_dir: credentials(env),
        env_key: env.var("SPHERON_API_KEY"),
        home: env.home.as_deref(),
    })?)
}

pub fn transport_options(settings: &Settings, api_key: SecretString, clock: Clock) -> HttpOptions {
    HttpOptions {
        base_url: settings.account.base_url.clone(),
        api_key,
        ca_file: settings.account.ca_file.clone(),
        timeout: settings.collect.timeout,
        clock,
    }
}

pub fn cadence(settings: &Settings) -> Cadence {
    let collect = &settings.collect;
    Cadence {
        zone: collect.timezone.clone(),
        balance: collect.balance.clone(),
        deployments: collect.deployments.clone(),
        inventory: collect.inventory.clone(),
        volumes: collect.volumes.clone(),
        offers: collect.offers.clone(),
    }
}

/// Every receiver of the configuration, and the log, which always exists.
pub fn receivers(settings: &Settings, env: &Env, clock: &Clock) -> Result<Vec<Arc<dyn Deliver>>, AppError> {
    let smtp = settings.smtp.as_ref().map(|smtp| smtp_spec(smtp, env)).transpose()?.map(Arc::new);
    let mut receivers: Vec<Arc<dyn Deliver>> = Vec::new();
    for receiver in &settings.receivers {
        let kind = match &receiver.kind {
            ReceiverKind::Email { to } => {
                let Some(smtp) = smtp.clone() else {
                    return Err(AppError::Config(format!(
                        "receiver {}: email needs an [smtp] section",
                        receiver.name
                    )));
                };
                notify::ReceiverKind::Email { to: to.clone(), smtp }
            }
            ReceiverKind::Webhook { url_file, format } => {
                let url = key::read_secret(url_file, credentials(env))?;
                notify::ReceiverKind::Webhook { url, format: webhook_format(format, env)? }
            }
        };
        let spec = ReceiverSpec { name: receiver.name.clone(), kind };
        receivers.push(Arc::new(notify::Receiver::build(spec, clock.clone())?));
    }
    let log = ReceiverSpec { name: LOG.into(), kind: notify::ReceiverKind::Log };
    receivers.push(Arc::new(notify::Receiver::build(log, clock.clone())?));
    Ok(receivers)
}

/// Who hears of us beside the receivers.
pub fn outward(settings: &Settings, env: &Env) -> Result<Outward, AppError> {
    let member = |base: &String| Ok::<_, AppError>(Arc::new(Member::new(Alertmanager::new(base)?)));
    let dead_man = |path: &PathBuf| {
        let url = key::read_secret(path, credentials(env))?;
        Ok::<_, AppError>(Arc::new(DeadMan::new(&url)?))
    };
    Ok(Outward {
        alertmanagers: settings.alertmanagers.iter().map(member).collect::<Result<_, _>>()?,
        dead_man: settings.heartbeat_url_file.as_ref().map(dead_man).transpose()?,
    })
}

/// Host keys of instances are state: they lie beside the database.
pub fn prober_options(store: &Path) -> ProberOptions {
    ProberOptions::new(store.with_file_name("known_hosts"))
}

/// A secret that can be guessed signs nothing.
const HEARTBEAT_SECRET_BYTES_MIN: usize = 16;

/// Every source of the configuration, with what it signs by.
pub fn activity_sources(settings: &Settings, env: &Env) -> Result<Vec<Source>, AppError> {
    let source = |given: &config::Activity| {
        let kind = match given.kind.clone() {
            ActivityKind::Prometheus { url, metric, busy_above } => {
                activity::Kind::Prometheus { url, metric, busy_above }
            }
            ActivityKind::Ssh { identity_file, command, busy_above } => {
                activity::Kind::Ssh { identity_file, command, busy_above }
            }
            ActivityKind::Promql { url, query, busy_above } => {
                activity::Kind::Promql { url, query, busy_above }
            }
            ActivityKind::Heartbeat { secret_file, busy_above } => {
                let secret = key::read_secret(&secret_file, credentials(env))?;
                if secret.expose_secret().len() < HEARTBEAT_SECRET_BYTES_MIN {
                    return Err(AppError::Config(format!(
                        "the heartbeat secret in {} has less than {HEARTBEAT_SECRET_BYTES_MIN} characters; make one with \
                         `openssl rand -hex 32`",
                        secret_file.display()
                    )));
                }
                activity::Kind::Heartbeat { secret, busy_above }
            }
            ActivityKind::VolumeGrowth => activity::Kind::VolumeGrowth,
        };
        let watch = watch(given);
        Ok(Source { watch, kind, reach: if given.allow_private { Reach::Private } else { Reach::Public } })
    };
    settings.activity.iter().map(source).collect()
}

fn watch(given: &config::Activity) -> ActivitySource {
    ActivitySource {
        name: given.name.clone(),
        every: given.every,
        matcher: given.matcher.clone(),
        only_busy: given.kind == ActivityKind::VolumeGrowth,
        settings: format!("{given:?}").into(),
    }
}

/// As [`policies`], with the sources that the daemon has: for those who look without one.
pub fn whole_policies(settings: &Settings) -> Policies {
    Policies { sources: settings.activity.iter().map(watch).collect(), ..policies(settings) }
}

/// All that the configuration says of ending deployments, but for the sources: those that speak are the loop's.
pub fn policies(settings: &Settings) -> Policies {
    Policies {
        policies: settings.policies.clone(),
        safety: settings.safety.clone(),
        zone: settings.collect.timezone.clone(),
        sources: Vec::new(),
    }
}

fn webhook_format(format: &WebhookFormat, env: &Env) -> Result<Format, AppError> {
    let read = |path: &Path| key::read_secret(path, credentials(env));
    let read_if_given = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
    Ok(match format {
        WebhookFormat::Standard { secret_file } => Format::Standard { secret: read_if_given(secret_file)? },
        WebhookFormat::Alertmanager { token_file } => {
            Format::Alertmanager { token: read_if_given(token_file)? }
        }
        WebhookFormat::Slack => Format::Slack,
        WebhookFormat::Discord => Format::Discord,
        WebhookFormat::Teams => Format::Teams,
        WebhookFormat::Pagerduty { routing_key_file } => {
            Format::Pagerduty { routing_key: read(routing_key_file)? }
        }
        WebhookFormat::Ntfy { token_file } => Format::Ntfy { token: read_if_given(token_file)? },
        WebhookFormat::Telegram { chat } => Format::Telegram {
            chat: match chat {
                config::Chat::Id(id) => Chat::Id(*id),
                config::Chat::Name(name) => Chat::Name(name.clone()),
            },
        },
    })
}

fn smtp_spec(smtp: &config::Smtp, env: &Env) -> Result<SmtpSpec, AppError> {
    Ok(SmtpSpec {
        host: smtp.smarthost.host.clone(),
        port: smtp.smarthost.port,
        tls: match smtp.tls {
            config::SmtpTls::Starttls => SmtpTls::StartTls,
            config::SmtpTls::Implicit => SmtpTls::Implicit,
            config::SmtpTls::None => SmtpTls::None,
        },
        from: smtp.from.clone(),
        username: smtp.username.clone(),
        password: smtp_password(smtp, env)?,
        ca_file: smtp.ca_file.clone(),
    })
}

/// `password_file`, else the systemd credential `smtp-password`, else SPHERON_WATCH_SMTP_PASSWORD; only where there is a user.
fn smtp_password(smtp: &config::Smtp, env: &Env) -> Result<Option<SecretString>, AppError> {
    if smtp.username.is_none() {
        return Ok(None);
    }
    if let Some(path) = &smtp.password_file {
        return Ok(Some(key::read_secret(path, credentials(env))?));
    }
    if let Some(path) = credentials(env).map(|dir| dir.join("smtp-password"))
        && path.exists()
    {
        return Ok(Some(key::read_secret(&path, credentials(env))?));
    }
    match env.var("SPHERON_WATCH_SMTP_PASSWORD") {
        Some(password) => Ok(Some(SecretString::from(password))),
        None => Err(AppError::Config(
            "[smtp] has a username and no password: set password_file, the systemd credential smtp-password, or \
             SPHERON_WATCH_SMTP_PASSWORD"
                .to_owned(),
        )),
    }
}

fn credentials(env: &Env) -> Option<&Path> {
    env.var("CREDENTIALS_DIRECTORY").map(Path::new)
}
