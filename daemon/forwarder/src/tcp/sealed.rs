//! A socket to an upstream that is spoken to over TLS: the copying path, with records between socket and tunnel.

use super::pump::{End, Side, Trouble};
use crate::dial::tls::{Plain, Tls};

pub struct Sealed {
    pub side: Side,
    tls: Tls,
    /// Ciphertext that TLS did not take before what it had was read.
    left: Vec<u8>,
    /// TLS may have plaintext that nobody has asked for yet.
    unread: bool,
}

const RECORD: usize = 16 << 10;

impl Sealed {
    pub fn new(side: Side, tls: Tls) -> Sealed {
        Sealed { side, tls, left: vec![], unread: false }
    }

    /// Sends records that wait, as far as the socket takes them.
    pub fn flush(&mut self) -> Result<(), Trouble> {
        while self.side.writable && !self.tls.to_send().is_empty() {
            let sent = self.side.write(self.tls.to_send())?;
            self.tls.sent(sent);
        }
        Ok(())
    }

    fn feed(&mut self, cipher: &[u8]) -> Result<(), Trouble> {
        let taken = self.tls.received(cipher);
        // Also after an error: the alert that says why.
        let flushed = self.flush();
        self.left = cipher.get(taken?..).unwrap_or_default().to_vec();
        flushed
    }
}

impl End for Sealed {
    fn is_readable(&self) -> bool {
        self.unread || self.side.readable
    }

    fn is_writable(&self) -> bool {
        self.side.writable && self.tls.to_send().is_empty() && !self.tls.handshaking()
    }

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Trouble> {
        loop {
            match self.tls.read(into)? {
                Plain::Bytes(read) => {
                    self.unread = true;
                    return Ok(Some(read));
                }
                Plain::End => return Ok(Some(0)),
                Plain::Nothing => self.unread = false,
            }
            if !self.left.is_empty() {
                let left = std::mem::take(&mut self.left);
                self.feed(&left)?;
                continue;
            }
            if !self.side.readable {
                return Ok(None);
            }
            let mut cipher = [0; RECORD];
            match self.side.read(&mut cipher)? {
                None => {}
                Some(0) => self.tls.ended(),
                Some(read) => self.feed(&cipher[..read])?,
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Trouble> {
        self.flush()?;
        if !self.is_writable() {
            return Ok(0);
        }
        let taken = self.tls.write(bytes);
        self.flush()?;
        Ok(taken)
    }

    fn finish(&mut self) {
        self.tls.finish();
        // What does not go out now goes out with the next edge.
        _ = self.flush();
    }

    fn bare(&mut self) -> Option<&mut Side> {
        None
    }
}
