//! A path that can be disturbed: connections go through here.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    /// Bytes that come stay here.
    stalled: AtomicBool,
    /// Nobody gets in.
    shut: AtomicBool,
    over: AtomicBool,
    open: Mutex<Vec<Arc<Link>>>,
}

/// A connection through here.
struct Link {
    near: TcpStream,
    far: TcpStream,
    /// It is being ended from here: nothing more goes to the target, and the host does not know yet.
    ending: AtomicBool,
    /// The target has ended it.
    far_ended: AtomicBool,
}

impl Proxy {
    pub(crate) fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            to,
            stalled: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            over: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if for_thread.over.load(Ordering::SeqCst) {
                    return;
                }
                for_thread.join(stream);
            }
        });
        Self { address, shared }
    }

    /// Keeps what comes, and goes on later.
    pub(crate) fn stall(&self, stalled: bool) {
        self.shared.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        for link in self.shared.open.lock().unwrap().drain(..) {
            link.shutdown();
        }
    }

    /// Ends all connections, first at the target: the host knows when nothing can arrive any more.
    pub(crate) fn cut_in_order(&self) {
        let links: Vec<_> = self.shared.open.lock().unwrap().drain(..).collect();
        for link in &links {
            link.ending.store(true, Ordering::SeqCst);
            let _ = link.far.shutdown(Shutdown::Write);
        }
        let patience = Instant::now() + Duration::from_secs(5);
        while !links.iter().all(|link| link.far_ended.load(Ordering::SeqCst)) {
            assert!(Instant::now() < patience, "the target does not hang up");
            thread::sleep(Duration::from_millis(1));
        }
        links.iter().for_each(|link| link.shutdown());
    }

    /// Ends all connections, and takes no more until it is opened again.
    pub(crate) fn shut(&self, shut: bool) {
        self.shared.shut.store(shut, Ordering::SeqCst);
        if shut {
            self.cut();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn join(self: &Arc<Self>, near: TcpStream) {
        if self.shut.load(Ordering::SeqCst) {
            return;
        }
        let Ok(far) = TcpStream::connect(self.to) else { return };
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let (ending, far_ended) = (AtomicBool::new(false), AtomicBool::new(false));
        let link = Arc::new(Link { near, far, ending, far_ended });
        for outwards in [true, false] {
            let (shared, link) = (Arc::clone(self), Arc::clone(&link));
            thread::spawn(move || {
                shared.carry(&link, outwards);
                link.far_ended.fetch_or(!outwards, Ordering::SeqCst);
                if !link.ending.load(Ordering::SeqCst) {
                    link.shutdown();
                }
            });
        }
        let mut open = self.open.lock().unwrap();
        open.retain(|link| !link.far_ended.load(Ordering::SeqCst));
        open.push(link);
    }

    fn carry(&self, link: &Link, outwards: bool) {
        let Link { near, far, ending, .. } = link;
        let (mut from, mut to) = if outwards { (near, far) } else { (far, near) };
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let ends = || ending.load(Ordering::SeqCst);
            let over = || ends() || self.over.load(Ordering::SeqCst);
            while self.stalled.load(Ordering::SeqCst) && !over() {
                thread::sleep(Duration::from_millis(1));
            }
            let given_up = outwards && ends();
            if !given_up && to.write_all(&buffer[..n]).is_err() && !ends() {
                break;
            }
        }
    }
}

impl Link {
    fn shutdown(&self) {
        for stream in [&self.near, &self.far] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
