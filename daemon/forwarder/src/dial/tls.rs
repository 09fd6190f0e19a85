//! TLS to an upstream (or, inside a tunnel, to a server of DNS over HTTPS), by rustls, without a socket.
//!
//! ```text
//!   socket ──received──▶ Tls ──read──▶ plain        socket ◀──to_send, sent── Tls ◀──write── plain
//! ```
//!
//! There is no switch that turns verification off.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use policy::plan::proxy::{Upstream, UpstreamKind};

use super::{Refused, printable};

/// One connection.
pub struct Tls {
    connection: ClientConnection,
    out: Vec<u8>,
    sent: usize,
}

/// What [`Tls::read`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    Bytes(usize),
    /// Nothing now; more must be received first.
    Nothing,
    /// The other side said that it sends no more.
    End,
}

/// Ciphertext waiting to be sent, above which no more plaintext is taken.
const OUT_MAX: usize = 64 << 10;
/// Authorities whose configuration is kept. There is one per authority that the policy names, and the machine's.
const CONFIGS_MAX: usize = 300;

impl Tls {
    /// None: the upstream is spoken to without TLS.
    pub fn client(upstream: &Upstream) -> Result<Option<Tls>, Refused> {
        match upstream.kind {
            UpstreamKind::Socks5 | UpstreamKind::HttpConnect => Ok(None),
            UpstreamKind::Socks5Tls | UpstreamKind::HttpsConnect => {
                let name = server_name(upstream.server_name.as_deref(), upstream.address)?;
                Tls::to(name, upstream.authority.as_deref()).map(Some)
            }
        }
    }

    /// To a server by its name, or by its address where the name is one. `authority` is PEM; None is the machine's own.
    pub fn to_server(name: &str, authority: Option<&str>) -> Result<Tls, Refused> {
        let name =
            ServerName::try_from(name.to_owned()).map_err(|_| Refused::upstream("its name is not one that a certificate can carry"))?;
        Tls::to(name, authority)
    }

    fn to(name: ServerName<'static>, authority: Option<&str>) -> Result<Tls, Refused> {
        let mut connection = ClientConnection::new(config(authority)?, name).map_err(|error| refused(&error))?;
        connection.set_buffer_limit(Some(OUT_MAX));
        let mut tls = Tls { connection, out: Vec::new(), sent: 0 };
        tls.collect();
        Ok(tls)
    }

    /// Ciphertext from the socket. Returns how much of it was taken: what is left is offered again after the plaintext was read.
    /// After an error there may still be an alert to send, and nothing else.
    pub fn received(&mut self, bytes: &[u8]) -> Result<usize, Refused> {
        let mut rest = bytes;
        let mut waiting = self.waiting();
        while !rest.is_empty() && !waiting {
            match self.connection.read_tls(&mut rest) {
                // It has said its farewell; what comes after means nothing.
                Ok(0) => return Ok(bytes.len()),
                Ok(_) => {}
                Err(error) => return Err(Refused::upstream(format!("TLS: {error}"))),
            }
            let state = self.connection.process_new_packets();
            self.collect();
            waiting = state.map_err(|error| refused(&error))?.plaintext_bytes_to_read() > 0;
        }
        Ok(bytes.len() - rest.len())
    }

    /// The socket ended. An end without a farewell is not an end of the data: somebody may have cut it.
    pub fn ended(&mut self) {
        // An empty read is how rustls is told.
        let _ = self.connection.read_tls(&mut std::io::empty());
    }

    pub fn read(&mut self, plain: &mut [u8]) -> Result<Plain, Refused> {
        match self.connection.reader().read(plain) {
            Ok(0) if plain.is_empty() => Ok(Plain::Nothing),
            Ok(0) => Ok(Plain::End),
            Ok(bytes) => Ok(Plain::Bytes(bytes)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Plain::Nothing),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(Refused::upstream("it cut the TLS connection off")),
            Err(error) => Err(Refused::upstream(format!("TLS: {error}"))),
        }
    }

    /// Plaintext for the other side. Returns how much of it was taken; 0 when what is to be sent must be sent first.
    pub fn write(&mut self, plain: &[u8]) -> usize {
        if self.to_send().len() >= OUT_MAX {
            return 0;
        }
        let taken = self.connection.writer().write(plain).unwrap_or(0);
        self.collect();
        taken
    }

    /// Says that we send no more.
    pub fn finish(&mut self) {
        self.connection.send_close_notify();
        self.collect();
    }

    pub fn to_send(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    pub fn sent(&mut self, bytes: usize) {
        self.sent = self.out.len().min(self.sent + bytes);
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
            self.collect();
        }
    }

    pub fn handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    fn waiting(&mut self) -> bool {
        self.connection.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
    }

    fn collect(&mut self) {
        while self.connection.wants_write() && self.to_send().len() < 2 * OUT_MAX {
            // Into memory: it cannot fail.
            if self.connection.write_tls(&mut self.out).is_err() {
                break;
            }
        }
    }
}

fn server_name(name: Option<&str>, address: IpAddr) -> Result<ServerName<'static>, Refused> {
    match name {
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|_| Refused::upstream("its serverName is not a name that a certificate can carry")),
        None => Ok(ServerName::from(address)),
    }
}

/// Reading the machine's authorities takes milliseconds, so they are read once; and sharing a configuration lets later connections
/// to the same server resume its session.
fn config(authority: Option<&str>) -> Result<Arc<ClientConfig>, Refused> {
    static CONFIGS: Mutex<BTreeMap<Option<String>, Arc<ClientConfig>>> = Mutex::new(BTreeMap::new());
    let mut configs = CONFIGS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = authority.map(str::to_owned);
    if let Some(config) = configs.get(&key) {
        return Ok(config.clone());
    }
    let config = Arc::new(build(authority)?);
    if configs.len() >= CONFIGS_MAX {
        configs.clear();
    }
    configs.insert(key, config.clone());
    Ok(config)
}

fn build(authority: Option<&str>) -> Result<ClientConfig, Refused> {
    let mut roots = RootCertStore::empty();
    match authority {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| Refused::upstream(format!("its authority is not PEM: {error}")))?;
                roots.add(certificate).map_err(|error| Refused::upstream(format!("its authority is no certificate: {error}")))?;
            }
        }
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    }
    if roots.is_empty() {
        let whose =
            if authority.is_some() { "its authority holds no certificate" } else { "this machine has no authorities (ca-certificates)" };
        return Err(Refused::upstream(whose));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| refused(&error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn refused(error: &rustls::Error) -> Refused {
    use rustls::{CertificateError, Error};
    match error {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Refused::upstream("TLS: its certificate has expired")
        }
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            Refused::upstream("TLS: its certificate is not valid yet; is the clock right?")
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => Refused::upstream("TLS: its certificate is of an unknown authority"),
        Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            Refused::upstream("TLS: its certificate is for another name")
        }
        Error::InvalidMessage(_) => Refused::upstream("it does not speak TLS"),
        other => Refused::upstream(format!("TLS: {}", printable(other.to_string().as_bytes(), 120))),
    }
}
