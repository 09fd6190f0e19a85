//! TLS against a server of rustls' own, and against garbage.

use std::io::{Read, Write};
use std::sync::Arc;

use policy::plan::proxy::{Upstream, UpstreamKind};
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};

use super::upstream;
use crate::dial::Refused;
use crate::dial::tls::{Plain, Tls};

/// A server whose certificate is for `names`, and the PEM of the authority that signed it.
pub fn server(names: &[&str]) -> (Arc<ServerConfig>, String) {
    server_until(names, 2100)
}

fn server_until(names: &[&str], year: i32) -> (Arc<ServerConfig>, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut server = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    server.not_after = rcgen::date_time_ymd(year, 1, 1);
    let certificate = server.signed_by(&key, &authority).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    (Arc::new(config), authority.pem())
}

/// Carries bytes between the two until neither has any, in pieces; the server echoes what it reads.
fn talk(client: &mut Tls, server: &mut ServerConnection, piece: usize) -> Result<Vec<u8>, Refused> {
    let mut heard = Vec::new();
    loop {
        let to_server = client.to_send().to_vec();
        client.sent(to_server.len());
        let mut rest = &to_server[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            if server.process_new_packets().is_err() {
                return Ok(heard);
            }
            let mut plain = vec![0; 70_000];
            if let Ok(read) = server.reader().read(&mut plain) {
                server.writer().write_all(&plain[..read]).unwrap();
            }
        }
        let mut to_client = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut to_client).unwrap();
        }
        if to_client.is_empty() && client.to_send().is_empty() {
            return Ok(heard);
        }
        for chunk in to_client.chunks(piece) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let taken = client.received(rest)?;
                rest = &rest[taken..];
                let mut plain = [0; 1000];
                while let Plain::Bytes(read) = client.read(&mut plain)? {
                    heard.extend(&plain[..read]);
                }
            }
        }
    }
}

fn secure(authority: &str, server_name: Option<&str>) -> Upstream {
    Upstream { authority: Some(authority.to_owned()), server_name: server_name.map(str::to_owned), ..upstream(UpstreamKind::Socks5Tls) }
}

fn meet(server: &Arc<ServerConfig>, upstream: &Upstream) -> Result<(), Refused> {
    let mut client = Tls::client(upstream)?.unwrap();
    talk(&mut client, &mut ServerConnection::new(server.clone()).unwrap(), 1400)?;
    assert!(!client.handshaking());
    Ok(())
}

#[test]
fn what_goes_in_comes_back_in_pieces_of_any_size() {
    let (config, authority) = server(&["proxy.example"]);
    for piece in [1, 7, 100_000] {
        let mut client = Tls::client(&secure(&authority, Some("proxy.example"))).unwrap().unwrap();
        let mut server = ServerConnection::new(config.clone()).unwrap();
        server.set_buffer_limit(None);
        talk(&mut client, &mut server, piece).unwrap();
        let text: Vec<u8> = (0..200_000u32).map(|number| number as u8).collect();
        let (mut rest, mut heard) = (&text[..], Vec::new());
        while !rest.is_empty() {
            let taken = client.write(rest);
            assert!(taken > 0 && client.to_send().len() < 200_000);
            rest = &rest[taken..];
            heard.extend(talk(&mut client, &mut server, piece).unwrap());
        }
        assert!(heard == text, "pieces of {piece}");
    }
}

#[test]
fn plaintext_is_bounded_while_nothing_is_sent() {
    let (config, authority) = server(&["proxy.example"]);
    let mut client = Tls::client(&secure(&authority, Some("proxy.example"))).unwrap().unwrap();
    talk(&mut client, &mut ServerConnection::new(config).unwrap(), 1400).unwrap();
    let taken: usize = std::iter::repeat_with(|| client.write(&[0; 10_000])).take_while(|taken| *taken > 0).sum();
    assert!((64 << 10..256 << 10).contains(&taken), "{taken}");
}

#[test]
fn the_certificate_must_carry_the_name_or_the_address() {
    let (config, authority) = server(&["proxy.example", "127.0.0.1"]);
    assert_eq!(meet(&config, &secure(&authority, Some("proxy.example"))), Ok(()));
    assert_eq!(meet(&config, &secure(&authority, None)), Ok(()), "the address is in it");
    let other = meet(&config, &secure(&authority, Some("other.example")));
    assert_eq!(other, Err(Refused::upstream("TLS: its certificate is for another name")));
    let (config, authority) = server(&["proxy.example"]);
    assert!(meet(&config, &secure(&authority, None)).is_err());
}

#[test]
fn an_unknown_authority_and_a_certificate_out_of_time_are_named() {
    let (config, _) = server(&["proxy.example"]);
    let (_, other) = server(&["proxy.example"]);
    assert_eq!(
        meet(&config, &secure(&other, Some("proxy.example"))),
        Err(Refused::upstream("TLS: its certificate is of an unknown authority"))
    );
    let (config, authority) = server_until(&["proxy.example"], 2020);
    assert_eq!(meet(&config, &secure(&authority, Some("proxy.example"))), Err(Refused::upstream("TLS: its certificate has expired")));
}

#[test]
fn an_authority_that_is_none_is_refused() {
    assert!(Tls::client(&secure("", Some("proxy.example"))).is_err());
    assert!(Tls::client(&secure("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None)).is_err());
    assert!(Tls::client(&secure("", Some("no name"))).is_err());
}

#[test]
fn an_end_without_farewell_is_no_end() {
    let (config, authority) = server(&["proxy.example"]);
    let mut client = Tls::client(&secure(&authority, Some("proxy.example"))).unwrap().unwrap();
    let mut server = ServerConnection::new(config).unwrap();
    talk(&mut client, &mut server, 1400).unwrap();
    client.ended();
    assert_eq!(client.read(&mut [0; 10]), Err(Refused::upstream("it cut the TLS connection off")));

    let (config, authority) = self::server(&["proxy.example"]);
    let mut client = Tls::client(&secure(&authority, Some("proxy.example"))).unwrap().unwrap();
    let mut server = ServerConnection::new(config).unwrap();
    talk(&mut client, &mut server, 1400).unwrap();
    server.send_close_notify();
    talk(&mut client, &mut server, 1400).unwrap();
    assert_eq!(client.read(&mut [0; 10]), Ok(Plain::End));
    assert_eq!(client.received(&[1; 100]), Ok(100), "what comes after the farewell means nothing");
}

#[test]
fn what_is_not_tls_is_told() {
    let (_, authority) = server(&["proxy.example"]);
    let mut client = Tls::client(&secure(&authority, Some("proxy.example"))).unwrap().unwrap();
    let refused = client.received(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap_err();
    assert!(refused.upstream_at_fault && refused.why.contains("TLS"), "{}", refused.why);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_for_tls_ends_or_waits(bytes in prop::collection::vec(any::<u8>(), 0..5000), piece in 1usize..600) {
        let mut client = Tls::to_server("proxy.example", None).or_else(|_| Tls::client(&secure(&server(&["a"]).1, None)).map(Option::unwrap)).unwrap();
        for piece in bytes.chunks(piece) {
            match client.received(piece) {
                Ok(taken) => prop_assert_eq!(taken, piece.len()),
                Err(refused) => {
                    prop_assert!(!refused.why.contains(char::is_control));
                    break;
                }
            }
        }
    }
}
