//! Where the API key comes from, in the order that the manual states.
//!
//! It must never read a key that others can read too, and never put a byte of one into an error.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use secrecy::SecretString;
use zeroize::Zeroizing;

/// Read by the caller: this room asks neither the environment nor the password database.
#[derive(Clone, Copy, Default)]
pub struct KeySources<'a> {
    pub api_key_file: Option<&'a Path>,
    /// `$CREDENTIALS_DIRECTORY`.
    pub credentials_dir: Option<&'a Path>,
    /// `SPHERON_API_KEY`.
    pub env_key: Option<&'a str>,
    pub home: Option<&'a Path>,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(
        "no API key: set account.api_key_file, or the systemd credential api-key (LoadCredential=api-key:PATH), \
         or the variable SPHERON_API_KEY, or write the key to ~/.spheron/credentials (mode 0600)"
    )]
    NoneFound,
    #[error("cannot read the secret in {path}: {source}", path = path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} is not a regular file; point to one that holds the secret alone", path = path.display())]
    NotAFile { path: PathBuf },
    #[error("others can read the secret in {path} (mode {mode:04o}): run `chmod 600 {path}`", path = path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{place} must hold one line of text, not empty: the secret alone")]
    NotALine { place: String },
    #[error("{place} must hold the API key alone: one word on one line, 4 KiB at most")]
    NotAKey { place: String },
}

/// The first source that is there decides: one that is broken is an error, not a reason to take the next.
pub fn find(sources: &KeySources<'_>) -> Result<SecretString, KeyError> {
    let in_credentials = |path: &Path| sources.credentials_dir.is_some_and(|dir| is_directly_in(path, dir));
    if let Some(path) = sources.api_key_file {
        return read(path, in_credentials(path), token);
    }
    if let Some(path) = sources.credentials_dir.map(|dir| dir.join("api-key"))
        && path.exists()
    {
        return read(&path, true, token);
    }
    if let Some(text) = sources.env_key.filter(|text| !text.trim().is_empty()) {
        return token(text, "SPHERON_API_KEY");
    }
    if let Some(path) = sources.home.map(|home| home.join(".spheron/credentials"))
        && path.exists()
    {
        return read(&path, false, token);
    }
    Err(KeyError::NoneFound)
}

/// Any other secret of one line (a password, a URL), under the same rules.
pub fn read_secret(path: &Path, credentials_dir: Option<&Path>) -> Result<SecretString, KeyError> {
    read(path, credentials_dir.is_some_and(|dir| is_directly_in(path, dir)), one_line)
}

const KEY_BYTES_MAX: u64 = 4096;

/// Judges the text of a file; the second argument names the file in errors.
type Check = fn(&str, &str) -> Result<SecretString, KeyError>;

fn read(path: &Path, is_credential: bool, check: Check) -> Result<SecretString, KeyError> {
    let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
    let file = open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(KeyError::NotAFile { path: path.to_owned() });
    }
    // systemd grants its credentials by ACL, which shows as 0440; only root can put files there (FAULTS 55).
    let forbidden = if is_credential { 0o007 } else { 0o077 };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(4097));
    file.take(KEY_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let place = path.display().to_string();
    match std::str::from_utf8(&bytes) {
        Ok(text) if bytes.len() as u64 <= KEY_BYTES_MAX => check(text, &place),
        Ok(_) | Err(_) => Err(KeyError::NotAKey { place }),
    }
}

fn one_line(text: &str, place: &str) -> Result<SecretString, KeyError> {
    let line = text.trim_end_matches(['\r', '\n']);
    if line.trim().is_empty() || line.chars().any(char::is_control) {
        return Err(KeyError::NotALine { place: place.to_owned() });
    }
    Ok(SecretString::from(line))
}

/// Without blocking: a named pipe would wait for a writer for ever.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn token(text: &str, place: &str) -> Result<SecretString, KeyError> {
    let key = text.trim();
    if key.is_empty() || key.len() as u64 > KEY_BYTES_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(KeyError::NotAKey { place: place.to_owned() });
    }
    Ok(SecretString::from(key))
}

/// By resolved paths: `$CREDENTIALS_DIRECTORY/../x` is not inside it.
fn is_directly_in(path: &Path, dir: &Path) -> bool {
    let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
    parent.is_some() && parent == dir.canonicalize().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use secrecy::ExposeSecret;

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    fn key(sources: KeySources<'_>) -> Result<String, KeyError> {
        find(&sources).map(|key| key.expose_secret().to_owned())
    }

    #[test]
    fn the_first_source_that_is_there_decides() {
        let place = Place::new();
        let file = place.file("key", "from-file\n", 0o600);
        place.file("credentials/api-key", "from-credential", 0o440);
        place.file(".spheron/credentials", "  from-home  \r\n", 0o600);
        let credentials = place.0.path().join("credentials");
        let mut sources = KeySources {
            api_key_file: Some(&file),
            credentials_dir: Some(&credentials),
            env_key: Some("from-env"),
            home: Some(place.0.path()),
        };
        assert_eq!(key(sources).unwrap(), "from-file");
        sources.api_key_file = None;
        assert_eq!(key(sources).unwrap(), "from-credential");
        sources.credentials_dir = None;
        assert_eq!(key(sources).unwrap(), "from-env");
        sources.env_key = Some("");
        assert_eq!(key(sources).unwrap(), "from-home");
    }

    #[test]
    fn without_a_key_all_four_places_are_named() {
        let text = key(KeySources::default()).unwrap_err().to_string();
        for place in ["account.api_key_file", "LoadCredential=", "SPHERON_API_KEY", "~/.spheron/credentials"]
        {
            assert!(text.contains(place), "{text}");
        }
    }

    #[test]
    fn fault_55_a_key_that_others_can_read_is_refused_with_the_remedy() {
        let place = Place::new();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            let file = place.file("key", "sai_secret", mode);
            let text =
                key(KeySources { api_key_file: Some(&file), ..Default::default() }).unwrap_err().to_string();
            assert!(text.contains(&format!("chmod 600 {}", file.display())), "{text}");
            assert!(!text.contains("sai_secret"));
        }
        place.file(".spheron/credentials", "sai_secret", 0o644);
        assert!(key(KeySources { home: Some(place.0.path()), ..Default::default() }).is_err());
    }

    #[test]
    fn fault_55_a_systemd_credential_may_show_as_group_readable() {
        let place = Place::new();
        let inside = place.file("credentials/mine", "inside", 0o440);
        let outside = place.file("outside", "outside", 0o440);
        let credentials = place.0.path().join("credentials");
        let by_file = |path: &Path| {
            key(KeySources {
                api_key_file: Some(path),
                credentials_dir: Some(&credentials),
                ..Default::default()
            })
        };
        assert_eq!(by_file(&inside).unwrap(), "inside");
        assert!(by_file(&outside).is_err());
        assert!(by_file(&credentials.join("../outside")).is_err(), "the path is resolved first");
        place.file("credentials/mine", "inside", 0o444);
        assert!(by_file(&inside).is_err(), "the world is never let in");
    }

    #[test]
    fn fault_55_only_a_regular_file_is_read_and_a_pipe_does_not_block() {
        let place = Place::new();
        let directory = place.0.path().join("directory");
        fs::create_dir(&directory).unwrap();
        let pipe = place.0.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        for path in [&directory, &pipe] {
            let error = key(KeySources { api_key_file: Some(path), ..Default::default() }).unwrap_err();
            assert!(matches!(error, KeyError::NotAFile { .. }), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_a_key_is_refused_without_a_byte_of_it() {
        let place = Place::new();
        let long = "k".repeat(4097);
        for text in ["", " \n", "two words", "two\nlines", "nul\0", "ümlaut", &long] {
            let file = place.file("key", text, 0o600);
            let error = key(KeySources { api_key_file: Some(&file), ..Default::default() }).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "{} must hold the API key alone: one word on one line, 4 KiB at most",
                    file.display()
                )
            );
        }
    }
}
