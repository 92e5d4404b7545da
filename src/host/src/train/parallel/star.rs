//! Sums over TCP: every process sends its values to the first, which adds them in the order of the ranks and sends the
//! sum back. Simple and deterministic; its cost is the first process's link.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{PeerError, Result, World};

/// Longest wait for the other processes to start.
const START: Duration = Duration::from_mins(5);

/// First bytes of a connection.
const HELLO: [u8; 8] = *b"inas-sum";

/// Connections of one process.
#[derive(Debug)]
pub struct Star {
    world: World,
    /// Of the first process: one to each other, by rank; of the others: one to the first.
    links: Mutex<Vec<TcpStream>>,
}

impl Star {
    pub(super) fn connect(world: &World) -> Result<Self> {
        let failed =
            |doing, source| PeerError::Connection { rank: world.rank, doing, address: world.address.clone(), source };
        let links = if world.rank == 0 { gather(world, failed)? } else { vec![join(world, failed)?] };
        for link in &links {
            link.set_nodelay(true).map_err(|e| failed("cannot set up", e))?;
        }
        Ok(Self { world: world.clone(), links: Mutex::new(links) })
    }

    pub(super) fn rank(&self) -> usize {
        self.world.rank
    }

    pub(super) fn size(&self) -> usize {
        self.world.size
    }

    /// Replaces values by their sums over all processes.
    pub(super) fn sum(&self, values: &mut [f32]) -> Result<()> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        if self.world.rank > 0 {
            self.send(&mut links[0], &bytes)?;
            self.receive(&mut links[0], 0, &mut bytes)?;
            for (value, chunk) in values.iter_mut().zip(bytes.chunks_exact(4)) {
                *value = f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
            }
            return Ok(());
        }
        for (i, link) in links.iter_mut().enumerate() {
            self.receive(link, i + 1, &mut bytes)?;
            for (value, chunk) in values.iter_mut().zip(bytes.chunks_exact(4)) {
                *value += f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
            }
        }
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        links.iter_mut().try_for_each(|link| self.send(link, &bytes))
    }

    /// Gives every process the first one's bytes.
    #[cfg(feature = "nccl")]
    pub(super) fn broadcast(&self, bytes: &mut [u8]) -> Result<()> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if self.world.rank > 0 {
            return self.receive(&mut links[0], 0, bytes);
        }
        links.iter_mut().try_for_each(|link| self.send(link, bytes))
    }

    fn lost(&self, doing: &'static str) -> impl Fn(std::io::Error) -> PeerError {
        let (rank, address) = (self.world.rank, self.world.address.clone());
        move |source| PeerError::Connection { rank, doing, address: address.clone(), source }
    }

    fn send(&self, link: &mut TcpStream, bytes: &[u8]) -> Result<()> {
        let failed = self.lost("lost the connection through");
        link.write_all(&(bytes.len() as u64).to_le_bytes()).map_err(&failed)?;
        link.write_all(bytes).map_err(failed)
    }

    fn receive(&self, link: &mut TcpStream, from: usize, bytes: &mut [u8]) -> Result<()> {
        let failed = self.lost("lost the connection through");
        let mut len = [0; 8];
        link.read_exact(&mut len).map_err(&failed)?;
        let len = u64::from_le_bytes(len);
        if len != bytes.len() as u64 {
            let reason = format!("sent {len} bytes, {} are expected: do all run the same settings?", bytes.len());
            return Err(PeerError::Mismatch { rank: from, reason });
        }
        link.read_exact(bytes).map_err(failed)
    }
}

/// Waits for all others.
fn gather(world: &World, failed: impl Fn(&'static str, std::io::Error) -> PeerError) -> Result<Vec<TcpStream>> {
    let listener = TcpListener::bind(&world.address).map_err(|e| failed("cannot listen on", e))?;
    listener.set_nonblocking(true).map_err(|e| failed("cannot listen on", e))?;
    let mut links: Vec<Option<TcpStream>> = (1..world.size).map(|_| None).collect();
    let start = Instant::now();
    while links.iter().any(Option::is_none) {
        let mut link = match listener.accept() {
            Ok((link, _)) => link,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && start.elapsed() < START => {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            Err(e) => return Err(failed("not all processes came to", e)),
        };
        let mut hello = [0; 16];
        let greeted = link
            .set_nonblocking(false)
            .and_then(|()| link.set_read_timeout(Some(Duration::from_secs(10))))
            .and_then(|()| link.read_exact(&mut hello))
            .and_then(|()| link.set_read_timeout(None));
        // A stranger at the port is left alone.
        if greeted.is_err() || hello[..8] != HELLO {
            continue;
        }
        let number = |at: usize| u32::from_le_bytes([hello[at], hello[at + 1], hello[at + 2], hello[at + 3]]) as usize;
        let (rank, size) = (number(8), number(12));
        if size != world.size {
            let reason = format!("believes in {size} processes, this one in {}", world.size);
            return Err(PeerError::Mismatch { rank, reason });
        }
        match rank.checked_sub(1).and_then(|i| links.get_mut(i)) {
            Some(free @ None) => *free = Some(link),
            _ => return Err(PeerError::Mismatch { rank, reason: "is there twice".into() }),
        }
    }
    Ok(links.into_iter().flatten().collect())
}

/// Connects to the first process, which may start later.
fn join(world: &World, failed: impl Fn(&'static str, std::io::Error) -> PeerError) -> Result<TcpStream> {
    let start = Instant::now();
    let mut link = loop {
        match TcpStream::connect(&world.address) {
            Ok(link) => break link,
            Err(e) if start.elapsed() >= START => return Err(failed("cannot reach", e)),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let mut hello = HELLO.to_vec();
    hello.extend((world.rank as u32).to_le_bytes());
    hello.extend((world.size as u32).to_le_bytes());
    link.write_all(&hello).map_err(|e| failed("cannot reach", e))?;
    Ok(link)
}
