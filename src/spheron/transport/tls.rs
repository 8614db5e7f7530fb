//! Which servers are trusted: the bundled web roots, and what the user adds.
//!
//! It must never offer a way to trust everything (FAULTS 27).

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// A bundle of every public root is a quarter of this.
const CA_FILE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read the CA file {path}: {why}", path = path.display())]
    CaFile { path: PathBuf, why: String },
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// The bundled roots need no CA store on the machine; `ca_file` (PEM) adds to them.
pub fn config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        add_file(&mut roots, path).map_err(|why| TlsError::CaFile { path: path.to_owned(), why })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let mut pem = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(CA_FILE_BYTES_MAX + 1).read_to_end(&mut pem).map_err(|error| error.to_string())?;
    if pem.len() as u64 > CA_FILE_BYTES_MAX {
        return Err("it is larger than 1 MiB".to_owned());
    }
    let mut added = 0_u32;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| "it is not valid PEM")?;
        roots.add(certificate).map_err(|_| "it holds a certificate that cannot be a trust root")?;
        added += 1;
    }
    if added == 0 {
        return Err("it holds no PEM certificate".to_owned());
    }
    Ok(())
}
