//! One SMTP connection, kept between mails, driven command by command so that each failure is known by its stage.
//!
//! It must never send a password or a mail over a line that should be encrypted and is not. lettre's own pool is not
//! used: it puts a connection back whose mail was given up half-way, and the next mail would read the last one's replies.

use std::{net::IpAddr, sync::Arc, time::Duration};

use lettre::{
    Address,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        commands::{Data, Mail, Rcpt, Rset},
        extension::ClientId,
        response::{Code, Response, Severity},
    },
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::{BuildError, SmtpSpec, SmtpTls, redact::Redactor, sanitize, stream::Guarded};

/// Per address, so that a dead IPv6 route falls back in time (FAULTS 29).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a kept connection may take to show that it lives.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Wrong passwords are not hammered: servers lock accounts out.
const AUTH_PAUSE: Duration = Duration::from_secs(300);
const REPLY_MAX: usize = 200;

const CONNECT_FAILED: &str = "could not connect; check [smtp] smarthost and tls";
const ENCRYPT_FAILED: &str = "could not encrypt the connection, so nothing was sent; check the server's certificate and \
                              [smtp] ca_file";
const NO_STARTTLS: &str = "the mail server does not offer STARTTLS, or someone on the way hides it: nothing was sent; \
                           check [smtp] smarthost, or use tls = \"implicit\" with port 465";

/// Why a mail did not go out to a recipient.
#[derive(Debug)]
pub(super) enum Problem {
    /// 5yz: this recipient's copy will never be taken.
    Refused(String),
    /// 4yz: this recipient later.
    Later(String),
    /// The server or the way to it: no use trying the next recipient now.
    Server { why: String, after: Option<Duration> },
}

pub(super) struct Smtp {
    spec: Arc<SmtpSpec>,
    tls: Option<TlsParameters>,
    login: Option<(String, SecretString)>,
    redactor: Option<Redactor>,
    idle: Mutex<Option<AsyncSmtpConnection>>,
}

impl Smtp {
    pub(super) fn new(spec: Arc<SmtpSpec>) -> Result<Self, BuildError> {
        let fail = |why: String| BuildError::Smtp { why };
        let login = match (&spec.username, &spec.password) {
            (Some(username), Some(password)) => Some((username.clone(), password.clone())),
            (None, None) => None,
            (Some(_), None) => return Err(fail("`username` needs `password_file`".to_owned())),
            (None, Some(_)) => return Err(fail("`password_file` needs `username`".to_owned())),
        };
        let tls = match spec.tls {
            SmtpTls::StartTls | SmtpTls::Implicit => Some(tls_parameters(&spec).map_err(fail)?),
            SmtpTls::None if is_loopback(&spec.host) => None,
            SmtpTls::None => {
                return Err(fail(
                    "tls = \"none\" is for loopback hosts alone: use \"starttls\" or \"implicit\"".to_owned(),
                ));
            }
        };
        let redactor = login.as_ref().map(|(user, pass)| Redactor::for_login(user, pass.expose_secret()));
        Ok(Self { spec, tls, login, redactor, idle: Mutex::new(None) })
    }

    /// One envelope. The caller bounds the time; a call that is given up half-way takes its connection with it.
    pub(super) async fn send(&self, from: &Address, to: &Address, mail: &[u8]) -> Result<(), Problem> {
        let mut idle = self.idle.lock().await;
        let mut connection = match idle.take() {
            Some(connection) => match alive(connection).await {
                Some(connection) => connection,
                None => self.open().await?,
            },
            None => self.open().await?,
        };
        match transact(&mut connection, from, to, mail).await {
            Ok(()) => {
                *idle = Some(connection);
                Ok(())
            }
            Err((stage, failure)) => {
                let problem = self.classify(stage, &failure);
                // After a plain reply the connection is in order; RSET clears it before the next mail.
                if let Problem::Refused(_) | Problem::Later(_) = problem {
                    *idle = Some(connection);
                }
                Err(problem)
            }
        }
    }

    async fn open(&self) -> Result<AsyncSmtpConnection, Problem> {
        let mut connection = match (self.spec.tls, &self.tls) {
            (SmtpTls::Implicit, tls) => self.open_implicit(tls.clone()).await?,
            (SmtpTls::StartTls, Some(tls)) => self.open_starttls(tls.clone()).await?,
            (SmtpTls::StartTls | SmtpTls::None, _) => self.open_clear().await?,
        };
        if let Some((username, password)) = &self.login {
            let credentials = Credentials::new(username.clone(), password.expose_secret().to_owned());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(|e| self.auth_failed(&e))?;
        }
        Ok(connection)
    }

    async fn open_implicit(&self, tls: Option<TlsParameters>) -> Result<AsyncSmtpConnection, Problem> {
        let (server, hello) = ((self.spec.host.as_str(), self.spec.port), ClientId::default());
        AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT_TIMEOUT), &hello, tls, None)
            .await
            .map_err(|e| self.server(CONNECT_FAILED, &e.to_string()))
    }

    async fn open_clear(&self) -> Result<AsyncSmtpConnection, Problem> {
        let stream = Guarded::connect(&self.spec.host, self.spec.port, CONNECT_TIMEOUT)
            .await
            .map_err(|e| self.server(CONNECT_FAILED, &e.to_string()))?;
        AsyncSmtpConnection::connect_with_transport(Box::new(stream), &ClientId::default())
            .await
            .map_err(|e| self.server(CONNECT_FAILED, &e.to_string()))
    }

    async fn open_starttls(&self, tls: TlsParameters) -> Result<AsyncSmtpConnection, Problem> {
        let mut connection = self.open_clear().await?;
        if !connection.can_starttls() {
            return Err(Problem::Server { why: NO_STARTTLS.to_owned(), after: None });
        }
        connection
            .starttls(tls, &ClientId::default())
            .await
            .map_err(|e| self.server(ENCRYPT_FAILED, &e.to_string()))?;
        Ok(connection)
    }

    fn classify(&self, stage: Stage, failure: &Failure) -> Problem {
        let what = stage.what();
        match failure {
            Failure::Unexpected(code) => Problem::Server {
                why: format!(
                    "{what}: the mail server answered {code} out of turn; the connection was closed"
                ),
                after: None,
            },
            Failure::Smtp(error) => match error.status().map(u16::from) {
                Some(530 | 534 | 535 | 538) => self.auth_failed(error),
                Some(421) | None => self.server(what, &error.to_string()),
                Some(code) if code >= 500 => {
                    Problem::Refused(format!("{what}: {}", self.text(&error.to_string())))
                }
                Some(_) => Problem::Later(format!(
                    "{what}: {}; it will be tried again",
                    self.text(&error.to_string())
                )),
            },
        }
    }

    fn server(&self, what: &str, error: &str) -> Problem {
        Problem::Server { why: format!("mail server: {what} ({})", self.text(error)), after: None }
    }

    /// The reply's text is left out: it may echo what was sent.
    fn auth_failed(&self, error: &Error) -> Problem {
        let Some(code) = error.status().map(u16::from) else {
            return self.server("could not log in", &error.to_string());
        };
        if self.login.is_none() {
            let why =
                format!("the mail server wants a login ({code}); set [smtp] username and password_file");
            return Problem::Server { why, after: Some(AUTH_PAUSE) };
        }
        let why =
            format!("the mail server refused the login ({code}); check [smtp] username and password_file");
        Problem::Server { why, after: Some(AUTH_PAUSE) }
    }

    fn text(&self, text: &str) -> String {
        match &self.redactor {
            Some(redactor) => redactor.clean(text, REPLY_MAX),
            None => sanitize::line(text, REPLY_MAX),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Mail,
    Rcpt,
    Data,
    Content,
}

impl Stage {
    fn what(self) -> &'static str {
        match self {
            Self::Mail => "the sender was not accepted; check [smtp] from",
            Self::Rcpt => "the recipient was not accepted; check the receiver's `to`",
            Self::Data => "the mail was not accepted",
            Self::Content => "the mail's content was not accepted",
        }
    }
}

enum Failure {
    Smtp(Error),
    /// Not the kind of reply that the command has: replies and commands are out of step.
    Unexpected(u16),
}

/// Each reply must be of the exact kind that its command calls for: one stray reply would otherwise shift all that follow, and
/// make a refused mail look accepted.
async fn transact(
    connection: &mut AsyncSmtpConnection,
    from: &Address,
    to: &Address,
    mail: &[u8],
) -> Result<(), (Stage, Failure)> {
    let reply = connection.command(Mail::new(Some(from.clone()), Vec::new())).await;
    expect(Stage::Mail, reply, Severity::PositiveCompletion)?;
    let reply = connection.command(Rcpt::new(to.clone(), Vec::new())).await;
    expect(Stage::Rcpt, reply, Severity::PositiveCompletion)?;
    let reply = connection.command(Data).await;
    expect(Stage::Data, reply, Severity::PositiveIntermediate)?;
    let reply = connection.message(mail).await;
    expect(Stage::Content, reply, Severity::PositiveCompletion)
}

fn expect(stage: Stage, reply: Result<Response, Error>, wanted: Severity) -> Result<(), (Stage, Failure)> {
    let code: Code = reply.map_err(|error| (stage, Failure::Smtp(error)))?.code();
    if code.severity == wanted { Ok(()) } else { Err((stage, Failure::Unexpected(code.into()))) }
}

async fn alive(mut connection: AsyncSmtpConnection) -> Option<AsyncSmtpConnection> {
    match tokio::time::timeout(PROBE_TIMEOUT, connection.command(Rset)).await {
        Ok(Ok(_)) => Some(connection),
        Ok(Err(_)) | Err(_) => None,
    }
}

fn tls_parameters(spec: &SmtpSpec) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(spec.host.clone());
    if let Some(path) = &spec.ca_file {
        let pem =
            std::fs::read(path).map_err(|e| format!("ca_file {}: cannot be read: {e}", path.display()))?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).flatten().collect();
        if certificates.is_empty() {
            return Err(format!("ca_file {}: holds no certificate in PEM form", path.display()));
        }
        for der in certificates {
            let certificate = Certificate::from_der(der.to_vec()).map_err(|e| {
                format!("ca_file {}: holds a certificate that cannot be used: {e}", path.display())
            })?;
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|e| format!("TLS could not be set up: {e}"))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}
