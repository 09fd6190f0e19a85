//! The front's certificate: self-signed, made once, kept until someone puts their own in its place.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use crate::site::Settings;

/// HAProxy runs in this group, and so does control: it may hand files over.
const FRONT_GROUP: &str = "portcullis-front";

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("no certificate could be made: openssl said {0}")]
    Openssl(String),
    #[error("{0} cannot be written or read")]
    File(PathBuf, #[source] io::Error),
}

/// Puts `front.pem` (certificate and key) where the front reads it. The kept one lies in the state folder and survives a restart.
pub fn provide(settings: &Settings) -> Result<(), CertificateError> {
    let kept = settings.state_dir.join("front.pem");
    if !kept.exists() {
        let pem = make()?;
        write(&kept, &pem, 0o600)?;
        tracing::info!(file = %kept.display(), "made a self-signed certificate for the pages");
    }
    let pem = fs::read_to_string(&kept).map_err(|error| CertificateError::File(kept, error))?;
    let given = settings.run_dir.join("front.pem");
    write(&given, &pem, 0o640)?;
    share(&given);
    Ok(())
}

/// The front may connect to control's socket, and nobody else.
pub fn share_socket(socket: &Path) {
    share(socket);
}

/// Best effort: where the group does not exist (a developer's machine) the owner's rights must do.
fn share(path: &Path) {
    let Ok(Some(group)) = nix::unistd::Group::from_name(FRONT_GROUP) else { return };
    if let Err(error) = chown(path, None, Some(group.gid.as_raw())) {
        tracing::warn!(path = %path.display(), %error, "could not be handed to the group {FRONT_GROUP}: the front will not get at it");
    }
}

/// P-256, ten years: browsers accept no longer-lived one from a public authority, but this one is trusted by hand.
fn make() -> Result<String, CertificateError> {
    let failed = |error: io::Error| CertificateError::Openssl(error.to_string());
    let arguments = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "3650",
        "-sha256",
        "-subj",
        "/CN=portcullis",
        "-addext",
        "subjectAltName=DNS:portcullis,DNS:portcullis.local",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-addext",
        "extendedKeyUsage=serverAuth",
        "-keyout",
        "-",
        "-out",
        "-",
    ];
    let output = Command::new("openssl").args(arguments).output().map_err(failed)?;
    let pem = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() && pem.contains("PRIVATE KEY") && pem.contains("BEGIN CERTIFICATE") {
        return Ok(pem);
    }
    Err(CertificateError::Openssl(String::from_utf8_lossy(&output.stderr).chars().take(400).collect()))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertificateError> {
    let failed = |error| CertificateError::File(path.to_owned(), error);
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).map_err(failed)?;
    io::Write::write_all(&mut file, text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}
