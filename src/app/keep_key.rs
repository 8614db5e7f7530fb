//! The key that signs the links in notices: a file beside the database, made at the first start that needs it.
//!
//! It must never lie where others can read it, nor in the database, whose copies go around.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::AppError;
use crate::{
    config::Settings,
    serve::{KEY_BYTES, KeepKey, KeepLinks},
    spheron::key,
};

const FILE: &str = "keep.key";

/// `None` without `[serve] external_url`: there is no address to put into a link.
pub fn links(settings: &Settings) -> Result<Option<Arc<KeepLinks>>, AppError> {
    let Some(url) = settings.serve.external_url.clone() else { return Ok(None) };
    let key = find_or_make(&settings.store.path.with_file_name(FILE))?;
    Ok(Some(Arc::new(KeepLinks::new(key, url))))
}

fn find_or_make(path: &Path) -> Result<KeepKey, AppError> {
    if !path.try_exists().map_err(|error| unwritable(path, &error))? {
        make(path).map_err(|error| unwritable(path, &error))?;
    }
    let text = key::read_secret(path, None)?;
    KeepKey::from_hex(text.expose_secret()).ok_or_else(|| {
        AppError::Config(format!(
            "{} is not the key that was made there: remove it, and a new one is made; links that were sent then end",
            path.display()
        ))
    })
}

fn unwritable(path: &Path, error: &io::Error) -> AppError {
    AppError::Config(format!("the key of the links in notices cannot be made at {}: {error}", path.display()))
}

/// Under another name first, so that no half of one is ever found.
fn make(path: &Path) -> io::Result<()> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    File::open("/dev/urandom")?.read_exact(&mut *bytes)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = Zeroizing::new(text + "\n");
    let part = path.with_extension("key.new");
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::model::{ActionId, DeploymentId, Grant, Target, Time};

    #[test]
    fn the_key_is_made_once_for_its_owner_alone_and_refused_where_others_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let target = Target { id: DeploymentId::new("a"), created_at: Time::EPOCH };
        let grant = Grant { action: ActionId::from_text("act_1"), target, expires: Time::EPOCH };
        let first = find_or_make(&path).unwrap().token(&grant).unwrap();
        assert_eq!(find_or_make(&path).unwrap().token(&grant).unwrap(), first, "the same after a restart");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let exposed = find_or_make(&path).unwrap_err().to_string();
        assert!(exposed.contains("chmod 600"), "{exposed}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "hunter2\n").unwrap();
        let broken = find_or_make(&path).unwrap_err();
        assert!(broken.is_permanent() && !broken.to_string().contains("hunter2"), "{broken}");
        fs::remove_file(&path).unwrap();
        assert_ne!(find_or_make(&path).unwrap().token(&grant).unwrap(), first, "another by chance");
    }
}
