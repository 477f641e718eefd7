//! A liar: an honest target behind somebody in the middle who changes what it says.
//!
//! So each lie stands alone, everything else is right, and the blocks are the same ones that an
//! honest path leads to.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nvmf::spec::fabrics::{Connect, PropertyGet, PropertySet};
use nvmf::spec::log::GetLogPage;
use nvmf::spec::opcode::{admin, nvm};
use nvmf::spec::pdu::{flags, kind};
use nvmf::spec::{Sqe, Status};
use zerocopy::FromBytes;

/// A PDU on its way, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Connections are numbered from 0.
    pub(crate) connection: usize,
    /// The queue, once its Connect was seen.
    pub(crate) qid: Option<u16>,
    pub(crate) to_host: bool,
    pub(crate) kind: u8,
    /// The command that this is, or belongs to.
    pub(crate) sqe: Option<Sqe>,
}

/// What becomes of a PDU.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    /// This goes on in its place.
    On(Vec<u8>),
    /// It does not go on; this goes back to who sent it.
    Back(Vec<u8>),
    /// It goes on so much later.
    Late(Duration, Vec<u8>),
    /// The connection ends.
    Close,
}

pub(crate) type Lie = Arc<dyn Fn(&Seen, Vec<u8>) -> Then + Send + Sync>;

pub(crate) fn lie(lie: impl Fn(&Seen, Vec<u8>) -> Then + Send + Sync + 'static) -> Lie {
    Arc::new(lie)
}

/// Lies in the PDUs to the host for which `when` holds.
pub(crate) fn instead(
    when: impl Fn(&Seen) -> bool + Send + Sync + 'static,
    told: impl Fn(&Seen, Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
) -> Lie {
    lie(move |seen, pdu| Then::On(if seen.to_host && when(seen) { told(seen, pdu) } else { pdu }))
}

/// Says nothing where `when` holds.
pub(crate) fn silence(when: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Lie {
    instead(when, |_, _| Vec::new())
}

/// Changes the data of an answer.
pub(crate) fn data(
    when: impl Fn(&Seen) -> bool + Send + Sync + 'static,
    change: impl Fn(&mut [u8]) + Send + Sync + 'static,
) -> Lie {
    let of_data = move |seen: &Seen| seen.kind == kind::C2H_DATA && when(seen);
    instead(of_data, move |_, mut pdu| {
        change(&mut pdu[24..]);
        pdu
    })
}

/// Changes the sixteen bytes of a completion.
pub(crate) fn completion(
    when: impl Fn(&Seen) -> bool + Send + Sync + 'static,
    change: impl Fn(&mut [u8]) + Send + Sync + 'static,
) -> Lie {
    let of_response = move |seen: &Seen| seen.kind == kind::CAPSULE_RESP && when(seen);
    instead(of_response, move |_, mut pdu| {
        change(&mut pdu[8..24]);
        pdu
    })
}

/// Answers commands with this status, whatever they do.
pub(crate) fn status(when: impl Fn(&Seen) -> bool + Send + Sync + 'static, status: Status) -> Lie {
    instead(when, move |seen, _| response(seen.cid(), status))
}

/// A response capsule.
pub(crate) fn response(cid: u16, status: Status) -> Vec<u8> {
    let mut pdu = vec![0; 24];
    (pdu[0], pdu[2], pdu[4]) = (kind::CAPSULE_RESP, 24, 24);
    pdu[20..22].copy_from_slice(&cid.to_le_bytes());
    pdu[22..24].copy_from_slice(&status.to_wire().to_le_bytes());
    pdu
}

/// The controller's last words: an unspecified sequence error.
pub(crate) fn term_req() -> Vec<u8> {
    let mut pdu = vec![0; 24];
    (pdu[0], pdu[2], pdu[4], pdu[8]) = (kind::C2H_TERM_REQ, 24, 24, 2);
    pdu
}

impl Seen {
    pub(crate) fn cid(&self) -> u16 {
        self.sqe.map_or(0, |sqe| sqe.cid.get())
    }

    pub(crate) fn connect(&self) -> Option<u16> {
        Connect::from_sqe(&self.sqe?).map(|connect| connect.qid.get())
    }

    pub(crate) fn get(&self, offset: u32) -> bool {
        self.sqe.is_some_and(|sqe| {
            PropertyGet::from_sqe(&sqe).is_some_and(|get| get.ofst.get() == offset)
        })
    }

    pub(crate) fn set(&self, offset: u32) -> bool {
        self.sqe.is_some_and(|sqe| {
            PropertySet::from_sqe(&sqe).is_some_and(|set| set.ofst.get() == offset)
        })
    }

    pub(crate) fn admin(&self, opcode: u8) -> bool {
        self.qid == Some(0) && self.sqe.is_some_and(|sqe| !sqe.is_fabrics() && sqe.opcode == opcode)
    }

    pub(crate) fn identify(&self, cns: u8) -> bool {
        self.admin(admin::IDENTIFY)
            && self.sqe.is_some_and(|sqe| sqe.cdw(10) & 0xff == u32::from(cns))
    }

    pub(crate) fn feature(&self, fid: u8) -> bool {
        self.admin(admin::SET_FEATURES)
            && self.sqe.is_some_and(|sqe| sqe.cdw(10) & 0xff == u32::from(fid))
    }

    pub(crate) fn log(&self, lid: u8) -> bool {
        self.admin(admin::GET_LOG_PAGE)
            && self.sqe.is_some_and(|sqe| GetLogPage::from_sqe(&sqe).lid == lid)
    }

    pub(crate) fn io(&self, opcode: u8) -> bool {
        self.qid.is_some_and(|qid| qid > 0)
            && self.sqe.is_some_and(|sqe| !sqe.is_fabrics() && sqe.opcode == opcode)
    }

    pub(crate) fn read(&self) -> bool {
        self.io(nvm::READ)
    }

    pub(crate) fn write(&self) -> bool {
        self.io(nvm::WRITE)
    }
}

/// Somebody in the middle.
pub(crate) struct Liar {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    lie: Lie,
    connections: AtomicUsize,
    /// PDUs that did not go on as they came.
    lies: AtomicUsize,
    over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Liar {
    pub(crate) fn start(to: SocketAddr, lie: Lie) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            to,
            lie,
            connections: AtomicUsize::new(0),
            lies: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if serving.over.load(Ordering::SeqCst) {
                    return;
                }
                serving.join(near);
            }
        });
        Self { address, shared }
    }

    /// Whether there was a lie at all.
    pub(crate) fn has_lied(&self) -> bool {
        self.shared.lies.load(Ordering::SeqCst) > 0
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn join(self: &Arc<Self>, near: TcpStream) {
        let Ok(far) = TcpStream::connect(self.to) else { return };
        for stream in [&near, &far] {
            stream.set_nodelay(true).unwrap();
            self.open.lock().unwrap().push(stream.try_clone().unwrap());
        }
        let ends = |one: &TcpStream| Mutex::new(one.try_clone().unwrap());
        let connection = Arc::new(Connection {
            shared: Arc::clone(self),
            number: self.connections.fetch_add(1, Ordering::SeqCst),
            host: ends(&near),
            target: ends(&far),
            known: Mutex::default(),
        });
        for (from, to_host) in [(far, true), (near, false)] {
            let connection = Arc::clone(&connection);
            thread::spawn(move || connection.carry(from, to_host));
        }
    }
}

struct Connection {
    shared: Arc<Shared>,
    number: usize,
    /// Where PDUs are written to.
    host: Mutex<TcpStream>,
    target: Mutex<TcpStream>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    qid: Option<u16>,
    commands: HashMap<u16, Sqe>,
}

impl Connection {
    fn carry(&self, mut from: TcpStream, to_host: bool) {
        let (on, back) =
            if to_host { (&self.host, &self.target) } else { (&self.target, &self.host) };
        while let Some(pdu) = pdu(&mut from) {
            let seen = self.look(&pdu, to_host);
            let then = (self.shared.lie)(&seen, pdu.clone());
            if !matches!(&then, Then::On(same) if *same == pdu) {
                self.shared.lies.fetch_add(1, Ordering::SeqCst);
            }
            let (to, bytes) = match then {
                Then::On(bytes) => (on, bytes),
                Then::Back(bytes) => (back, bytes),
                Then::Late(time, bytes) => {
                    thread::sleep(time);
                    (on, bytes)
                }
                Then::Close => break,
            };
            if to.lock().unwrap().write_all(&bytes).is_err() {
                break;
            }
        }
        for end in [&self.host, &self.target] {
            let _ = end.lock().unwrap().shutdown(Shutdown::Both);
        }
    }

    fn look(&self, pdu: &[u8], to_host: bool) -> Seen {
        let mut known = self.known.lock().unwrap();
        let at = |from: usize| u16::from_le_bytes([pdu[from], pdu[from + 1]]);
        let cid = match pdu[0] {
            kind::CAPSULE_CMD => {
                let sqe = Sqe::read_from_bytes(&pdu[8..72]).unwrap();
                if let Some(connect) = Connect::from_sqe(&sqe) {
                    known.qid = Some(connect.qid.get());
                }
                known.commands.insert(sqe.cid.get(), sqe);
                Some(sqe.cid.get())
            }
            kind::CAPSULE_RESP => Some(at(20)),
            kind::C2H_DATA | kind::H2C_DATA | kind::R2T => Some(at(8)),
            _ => None,
        };
        let sqe = cid.and_then(|cid| known.commands.get(&cid).copied());
        Seen { connection: self.number, qid: known.qid, to_host, kind: pdu[0], sqe }
    }
}

/// The next PDU; nothing once there is none.
fn pdu(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut pdu = vec![0; 8];
    from.read_exact(&mut pdu).ok()?;
    let length = u32::from_le_bytes([pdu[4], pdu[5], pdu[6], pdu[7]]) as usize;
    assert!((8..4 << 20).contains(&length), "an honest PDU of {length} bytes");
    pdu.resize(length, 0);
    from.read_exact(&mut pdu[8..]).ok()?;
    Some(pdu)
}

/// The same data PDU with so many bytes less, which stands for as many.
pub(crate) fn shortened(mut pdu: Vec<u8>, by: usize) -> Vec<u8> {
    let length = u32::try_from(pdu.len() - by).unwrap();
    pdu.truncate(pdu.len() - by);
    pdu[4..8].copy_from_slice(&length.to_le_bytes());
    pdu[16..20].copy_from_slice(&(length - 24).to_le_bytes());
    pdu[1] |= flags::LAST | flags::SUCCESS;
    pdu
}
