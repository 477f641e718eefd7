//! NBD URIs, by which clients name an export
//! ([their document](https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md)).

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// What stands for something in URIs (RFC 3986, section 2.3), but for the slash.
const SPECIAL: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// An export over TCP.
///
/// ```
/// let uri = nvmf_nbd::uri::tcp("192.0.2.7:10809".parse()?, "my disk");
/// assert_eq!(uri, "nbd://192.0.2.7:10809/my%20disk");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub fn tcp(address: SocketAddr, name: &str) -> String {
    format!("nbd://{address}/{}", percent_encode(name.as_bytes(), SPECIAL))
}

/// An export over a Unix socket, whose path had better be absolute.
///
/// ```
/// let uri = nvmf_nbd::uri::unix("/run/disk.sock".as_ref(), "");
/// assert_eq!(uri, "nbd+unix:///?socket=/run/disk.sock");
/// ```
pub fn unix(socket: &Path, name: &str) -> String {
    let path = percent_encode(socket.as_os_str().as_bytes(), SPECIAL);
    format!("nbd+unix:///{}?socket={path}", percent_encode(name.as_bytes(), SPECIAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_uri_is_escaped() {
        let uri = unix(Path::new("/tmp/a b?&=%#ß.sock"), "nqn.2026-01.org.example:a/b+c");
        let socket = "/tmp/a%20b%3F%26%3D%25%23%C3%9F.sock";
        assert_eq!(uri, format!("nbd+unix:///nqn.2026-01.org.example%3Aa/b%2Bc?socket={socket}"));
        assert_eq!(tcp("[::1]:7".parse().unwrap(), ""), "nbd://[::1]:7/");
    }
}
