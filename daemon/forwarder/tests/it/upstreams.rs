//! Upstreams: Debian's, and one of our own that misbehaves on demand.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::room::{Process, serve, within};

pub fn microsocks(port: u16, flags: &[&str]) -> Process {
    let mut command = Command::new("microsocks");
    command.args(["-i", "127.0.0.1", "-p", &port.to_string()]).args(flags).stdout(Stdio::null()).stderr(Stdio::null());
    listening(Process::start(&mut command), port)
}

pub fn danted(dir: &Path, port: u16) -> Process {
    let config = format!(
        "logoutput: {0}/danted.log\ninternal: 127.0.0.1 port = {port}\nexternal: lo\nsocksmethod: none\nclientmethod: none\n\
         user.privileged: root\nuser.unprivileged: root\n\
         client pass {{ from: 0/0 to: 0/0 }}\nclient pass {{ from: ::/0 to: ::/0 }}\nsocks pass {{ from: 0/0 to: 0/0 }}\nsocks pass {{ from: ::/0 to: ::/0 }}\n",
        dir.display()
    );
    std::fs::write(dir.join("danted.conf"), config).unwrap();
    let mut command = Command::new("/usr/sbin/danted");
    command.arg("-f").arg(dir.join("danted.conf")).arg("-p").arg(dir.join("danted.pid")).stdout(Stdio::null()).stderr(Stdio::null());
    listening(Process::start(&mut command), port)
}

pub fn tinyproxy(dir: &Path, port: u16) -> Process {
    std::fs::write(dir.join("tinyproxy.conf"), format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\n")).unwrap();
    let mut command = Command::new("tinyproxy");
    command.arg("-d").arg("-c").arg(dir.join("tinyproxy.conf")).stdout(Stdio::null()).stderr(Stdio::null());
    listening(Process::start(&mut command), port)
}

fn listening(process: Process, port: u16) -> Process {
    within(Duration::from_secs(10), "a proxy listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    process
}

/// SOCKS5 as it should be, until it is told otherwise.
#[derive(Clone, Default)]
pub struct Mock(Arc<AtomicU8>);

pub const GOOD: u8 = 0;
/// Takes connections and never says a word.
pub const SILENT: u8 = 1;
/// Answers, but the destination never does.
pub const WAITING: u8 = 2;
/// Says that the destination refused.
pub const REFUSING: u8 = 3;
/// Speaks something else.
pub const GARBLED: u8 = 4;
/// Closes at once.
pub const CLOSING: u8 = 5;

impl Mock {
    pub fn start(port: u16) -> Mock {
        let mock = Mock::default();
        let behaviour = mock.clone();
        serve(SocketAddr::from(([127, 0, 0, 1], port)), move |stream| behaviour.talk(stream));
        mock
    }

    pub fn behave(&self, how: u8) {
        self.0.store(how, Relaxed);
    }

    fn talk(&self, mut client: TcpStream) -> io::Result<()> {
        let how = self.0.load(Relaxed);
        let mut bytes = [0; 512];
        match how {
            CLOSING => return Ok(()),
            GARBLED => return client.write_all(b"220 mail.example ESMTP\r\n"),
            SILENT => {
                while client.read(&mut bytes)? > 0 {}
                return Ok(());
            }
            _ => {}
        }
        client.read_exact(&mut bytes[..2])?;
        let methods = usize::from(bytes[1]);
        client.read_exact(&mut bytes[..methods])?;
        client.write_all(&[5, 0])?;
        client.read_exact(&mut bytes[..4])?;
        let length = if bytes[3] == 1 { 4 } else { 16 };
        client.read_exact(&mut bytes[..length + 2])?;
        let port = u16::from_be_bytes([bytes[length], bytes[length + 1]]);
        let to: SocketAddr = match length {
            4 => (<[u8; 4]>::try_from(&bytes[..4]).unwrap(), port).into(),
            _ => (<[u8; 16]>::try_from(&bytes[..16]).unwrap(), port).into(),
        };
        match how {
            WAITING => {
                while client.read(&mut bytes)? > 0 {}
                return Ok(());
            }
            REFUSING => return client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]),
            _ => {}
        }
        let server = TcpStream::connect(to)?;
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
        let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || copy(from_client, to_server));
        copy(server, client)
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    to.shutdown(std::net::Shutdown::Write)
}
