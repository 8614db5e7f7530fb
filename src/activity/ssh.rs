//! One command on the instance by the system's `ssh`, most often `nvidia-smi`.
//!
//! It must never let a text from the API become an option, a second command or a configuration (FAULTS 78): user, port and id
//! match strict patterns or nothing is run, every argument is our own, and no environment is inherited.

use std::{
    ffi::OsString,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
};

use super::{Reach, address};
use crate::model::{Access, Deployment};

const CONNECT_TIMEOUT_SECS: u64 = 10;
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// A line for each of a thousand GPUs takes less.
const STDOUT_BYTES_MAX: u64 = 16 * 1024;
const STDERR_BYTES_MAX: u64 = 4 * 1024;
const USER_CHARS_MAX: usize = 32;
const ID_CHARS_MAX: usize = 64;

pub(super) struct Ssh {
    pub(super) program: PathBuf,
    pub(super) known_hosts: PathBuf,
    pub(super) deadline: Duration,
}

/// Where to log in; every part was judged.
struct Login {
    ip: IpAddr,
    user: String,
    port: u16,
    /// Under what its host key is kept: addresses are used again by other instances, which have other keys.
    alias: String,
}

impl Ssh {
    /// The number on each line of what the command says; NaN where there is none.
    pub(super) async fn ask(
        &self,
        reach: Reach,
        identity_file: &Path,
        command: &str,
        deployment: &Deployment,
    ) -> Result<Vec<f64>, String> {
        let login = login(reach, deployment)?;
        let (status, out, errors) = self.run(&self.arguments(identity_file, command, &login)).await?;
        if out.len() as u64 >= STDOUT_BYTES_MAX {
            return Err("the command says more than 16 KiB".to_owned());
        }
        if !status.success() {
            return Err(failure(status, &errors));
        }
        values(&out)
    }

    fn arguments(&self, identity_file: &Path, command: &str, login: &Login) -> Vec<OsString> {
        let mut known_hosts = OsString::from("UserKnownHostsFile=");
        // ssh reads the value as a list of files, and expands % in it.
        known_hosts.push(format!("\"{}\"", self.known_hosts.to_string_lossy().replace('%', "%%")));
        let mut arguments: Vec<OsString> = vec!["-F".into(), "none".into(), "-T".into(), "-n".into()];
        let options = [
            "BatchMode=yes",
            "StrictHostKeyChecking=accept-new",
            "GlobalKnownHostsFile=/dev/null",
            "UpdateHostKeys=no",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "PreferredAuthentications=publickey",
            "ClearAllForwardings=yes",
            "ForwardAgent=no",
            "ControlPath=none",
            "LogLevel=ERROR",
        ];
        for option in options.map(OsString::from).into_iter().chain([
            known_hosts,
            format!("HostKeyAlias={}", login.alias).into(),
            format!("ConnectTimeout={CONNECT_TIMEOUT_SECS}").into(),
        ]) {
            arguments.extend(["-o".into(), option]);
        }
        arguments.extend(["-i".into(), identity_file.into(), "-p".into(), login.port.to_string().into()]);
        arguments.extend(["--".into(), format!("{}@{}", login.user, login.ip).into(), command.into()]);
        arguments
    }

    /// Ended by its own id at the deadline, and when nobody waits any more.
    async fn run(&self, arguments: &[OsString]) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), String> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("ssh cannot be run: {error}; install openssh-client"))?;
        let (out, errors) = (child.stdout.take(), child.stderr.take());
        let finished = async {
            let (out, errors) = tokio::join!(head(out, STDOUT_BYTES_MAX), head(errors, STDERR_BYTES_MAX));
            (child.wait().await, out, errors)
        };
        match tokio::time::timeout(self.deadline, finished).await {
            Ok((Ok(status), out, errors)) => Ok((status, out, errors)),
            Ok((Err(error), _, _)) => Err(format!("ssh cannot be waited for: {error}")),
            Err(_) => {
                // It may have ended just now; either way it is gone afterwards.
                let _ = child.kill().await;
                Err(format!("ssh did not end within {}s and was ended", self.deadline.as_secs_f32()))
            }
        }
    }
}

/// The beginning of what it writes. The pipe is closed behind it: who writes more is told so.
async fn head(pipe: Option<impl AsyncRead + Unpin>, bytes_max: u64) -> Vec<u8> {
    let mut read = Vec::new();
    if let Some(pipe) = pipe {
        // What was read until it broke is all there is.
        let _ = pipe.take(bytes_max).read_to_end(&mut read).await;
    }
    read
}

fn login(reach: Reach, deployment: &Deployment) -> Result<Login, String> {
    let Access { ip, user, ssh_port } = &deployment.access;
    let ip = address(ip.as_deref(), reach)?;
    let user = user.as_deref().ok_or("the API gives no user to log in as")?;
    let refused = |what: &str| Err(format!("the API gives {what}: no ssh is run"));
    if !is_user(user) {
        return refused("a user that is no plain user name");
    }
    let Some(port) = port(ssh_port.as_deref()) else { return refused("an SSH port that is no port") };
    let id = deployment.id.as_str();
    if !is_word(id, ID_CHARS_MAX) {
        return refused("an id that is no plain word");
    }
    let alias = format!("{id}.{}", deployment.created_at.secs());
    Ok(Login { ip, user: user.to_owned(), port, alias })
}

/// `^[A-Za-z_][A-Za-z0-9_.-]*$`, 32 characters at most.
fn is_user(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.len() <= USER_CHARS_MAX
        && text.chars().all(plain)
}

/// 1 to 65535 in plain digits; 22 where the API gives none, as it does for some providers.
fn port(text: Option<&str>) -> Option<u16> {
    let Some(text) = text else { return Some(22) };
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|port| plain && *port > 0)
}

fn is_word(text: &str, chars_max: usize) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    !text.is_empty() && !text.starts_with('-') && text.len() <= chars_max && text.chars().all(plain)
}

fn values(out: &[u8]) -> Result<Vec<f64>, String> {
    let text = String::from_utf8_lossy(out);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let values: Vec<f64> = lines.map(|line| line.parse().unwrap_or(f64::NAN)).collect();
    if values.is_empty() { Err("the command says nothing".to_owned()) } else { Ok(values) }
}

/// Its words are the instance's as well as ssh's, and may name the address: only what is known to be one of ssh's is told.
fn failure(status: ExitStatus, errors: &[u8]) -> String {
    const KNOWN: [(&str, &str); 9] = [
        ("UNPROTECTED PRIVATE KEY", "others can read identity_file; run `chmod 600` on it"),
        ("bad permissions", "others can read identity_file; run `chmod 600` on it"),
        ("not accessible", "identity_file cannot be read"),
        ("Permission denied", "the instance refuses the key; put the public half of identity_file there"),
        ("Host key verification failed", "its host key is not the one that was first seen"),
        ("Connection refused", "it refuses SSH connections"),
        ("timed out", "no SSH connection can be made in time"),
        ("No route to host", "there is no route to it"),
        ("command not found", "the command is not there"),
    ];
    let errors = String::from_utf8_lossy(errors);
    let known = KNOWN.iter().find(|(words, _)| errors.contains(words)).map(|(_, told)| *told);
    match (status.code(), known) {
        (_, Some(told)) => told.to_owned(),
        (Some(255), None) => "no SSH connection can be made".to_owned(),
        (Some(code), None) => format!("the command ends with exit code {code}"),
        (None, None) => "ssh was ended by a signal".to_owned(),
    }
}

#[cfg(test)]
mod tests;
