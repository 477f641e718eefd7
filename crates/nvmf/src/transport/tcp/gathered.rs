//! A gathered send that raises no SIGPIPE, in programs that do not ignore it either.

use std::io::{self, IoSlice};
use std::net::TcpStream;

/// To be called once for each socket. Apple's systems tell the socket; Windows knows no signals,
/// and all others tell each send.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    #[cfg(target_vendor = "apple")]
    rustix::net::sockopt::set_socket_nosigpipe(stream, true)?;
    let _ = stream;
    Ok(())
}

#[cfg(any(windows, target_vendor = "apple"))]
pub(super) fn send(mut stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    io::Write::write_vectored(&mut stream, slices)
}

#[cfg(not(any(windows, target_vendor = "apple")))]
pub(super) fn send(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

    let mut no_control = SendAncillaryBuffer::default();
    Ok(sendmsg(stream, slices, &mut no_control, SendFlags::NOSIGNAL)?)
}
