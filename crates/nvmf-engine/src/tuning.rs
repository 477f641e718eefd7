//! What is set on every connection.

use std::io;
use std::net::TcpStream;

/// Sends what there is at once, and within this machine without pacing.
pub(crate) fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    if socket.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback()) {
        not_paced(socket);
    }
    Ok(())
}

/// Where the machine's congestion control is BBR, it measures and paces what goes to another process
/// of the same machine too: 128 KiB reads were 0.9 of what they are where the machine's is reno, which
/// does neither, and which every process may choose.
#[cfg(target_os = "linux")]
fn not_paced(socket: &TcpStream) {
    if let Err(error) = rustix::net::sockopt::set_tcp_congestion(socket, "reno") {
        tracing::debug!(%error, "the congestion control stays as it is");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use rustix::net::sockopt::tcp_congestion;

    use super::*;

    #[test]
    fn what_stays_on_the_machine_is_neither_delayed_nor_paced() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        tune(&socket).unwrap();
        assert!(socket.nodelay().unwrap());
        assert_eq!(tcp_congestion(&socket).unwrap(), "reno");
    }
}
