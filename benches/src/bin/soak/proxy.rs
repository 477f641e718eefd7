//! A proxy that kills the connections through it at random.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A running proxy; it ends with the program.
pub(crate) struct Proxy {
    port: u16,
    kills: Arc<AtomicU64>,
}

/// The two sockets of each connection.
type Pairs = Arc<Mutex<Vec<(TcpStream, TcpStream)>>>;

impl Proxy {
    /// Forwards to `port` of this machine, and kills a connection after `every` on the average.
    pub(crate) fn start(port: u16, seed: u64, every: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let proxy = Self { port: listener.local_addr()?.port(), kills: Arc::default() };
        let pairs: Pairs = Arc::default();
        let accepted = Arc::clone(&pairs);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client whose connection cannot be forwarded finds it closed.
                let _ = forward(client, port, &accepted);
            }
        });
        let kills = Arc::clone(&proxy.kills);
        thread::spawn(move || kill(&pairs, &kills, seed, every));
        Ok(proxy)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many connections it has killed.
    pub(crate) fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }
}

fn forward(client: TcpStream, port: u16, pairs: &Pairs) -> io::Result<()> {
    let target = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    client.set_nodelay(true)?;
    target.set_nodelay(true)?;
    let pair = (client.try_clone()?, target.try_clone()?);
    pairs.lock().unwrap_or_else(PoisonError::into_inner).push(pair);
    for (from, to) in
        [(client.try_clone()?, target.try_clone()?), (target.try_clone()?, client.try_clone()?)]
    {
        thread::spawn(move || copy(from, to));
    }
    Ok(())
}

/// Copies until one side ends, then ends the other.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut room = vec![0; 64 << 10];
    while let Ok(n) = from.read(&mut room)
        && n > 0
        && to.write_all(&room[..n]).is_ok()
    {}
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Kills connections at random, by an end or by a reset, for ever.
fn kill(pairs: &Pairs, kills: &AtomicU64, seed: u64, every: Duration) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    loop {
        let most = u64::try_from(every.as_micros()).unwrap_or(u64::MAX / 4).max(1) * 2;
        thread::sleep(Duration::from_micros(random() % most));
        let mut pairs = pairs.lock().unwrap_or_else(PoisonError::into_inner);
        pairs.retain(|(client, _)| client.peer_addr().is_ok() && client.take_error().is_ok());
        let Some(index) = usize::try_from(random()).ok().and_then(|n| n.checked_rem(pairs.len()))
        else {
            continue;
        };
        let (client, target) = pairs.swap_remove(index);
        if random() % 2 == 0 {
            for socket in [&client, &target] {
                // One that is gone needs not be reset.
                let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = target.shutdown(Shutdown::Both);
        kills.fetch_add(1, Ordering::Relaxed);
    }
}
