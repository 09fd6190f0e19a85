//! Clients that wait: for the first byte, for bulk, and for nothing.

use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, connect, recv, socket_with};

const PATIENCE: Duration = Duration::from_secs(20);

pub fn first(server: SocketAddr, count: usize) -> io::Result<()> {
    let mut seen = String::new();
    for _ in 0..count {
        let began = Instant::now();
        let mut stream = TcpStream::connect(server)?;
        ask(&mut stream)?;
        seen += &format!("{:.1}\n", began.elapsed().as_secs_f64() * 1e6);
    }
    io::stdout().write_all(seen.as_bytes())
}

/// One byte there and back.
fn ask(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])
}

pub fn bulk(server: SocketAddr, bytes: u64, flows: u64) -> io::Result<()> {
    let began = Instant::now();
    let threads: Vec<_> = (0..flows).map(|_| std::thread::spawn(move || fetch(server, bytes / flows))).collect();
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a flow panicked"))??;
    }
    println!("{:.4}", began.elapsed().as_secs_f64());
    Ok(())
}

fn fetch(server: SocketAddr, bytes: u64) -> io::Result<()> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("B{bytes}\n").as_bytes())?;
    let mut buffer = vec![0; 1 << 20];
    let mut got = 0;
    while got < bytes {
        // TRUNC: the bytes are counted and thrown away in the kernel, which costs this end no copy.
        match recv(&stream, &mut buffer, RecvFlags::TRUNC)? {
            (_, 0) => return Err(io::Error::other(format!("{got} bytes of {bytes}"))),
            (_, read) => got += read as u64,
        }
    }
    Ok(())
}

pub fn hold(server: SocketAddr, first: Ipv4Addr, sources: u32) -> io::Result<()> {
    let SocketAddr::V4(server) = server else { return Err(io::Error::other("an IPv4 server, please")) };
    let mut held: Vec<TcpStream> = vec![];
    for line in io::stdin().lock().lines() {
        let wanted: usize = line?.trim().parse().map_err(io::Error::other)?;
        held.truncate(wanted);
        while held.len() < wanted {
            let source = Ipv4Addr::from_bits(first.to_bits() + held.len() as u32 % sources);
            let mut stream = from(source, server)
                .map_err(|error| io::Error::new(error.kind(), format!("number {} from {source}: {error}", held.len() + 1)))?;
            // The server answers, so the connection is carried and not only accepted.
            ask(&mut stream).map_err(|error| io::Error::new(error.kind(), format!("number {} is not carried: {error}", held.len() + 1)))?;
            held.push(stream);
        }
        println!("{}", held.len());
    }
    Ok(())
}

fn from(source: Ipv4Addr, server: SocketAddrV4) -> io::Result<TcpStream> {
    let fd: OwnedFd = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&fd, &SocketAddrV4::new(source, 0))?;
    connect(&fd, &server)?;
    Ok(fd.into())
}
