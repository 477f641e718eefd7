//! Unix sockets that have a name, and the file that is left of one.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketType};

/// The mode of the socket.
const OWNER: u32 = 0o600;

/// Why there is no socket of a name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketFileError {
    /// Somebody listens there.
    #[error("somebody listens on {} already", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("cannot make the socket {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The file of a Unix socket that is listened on. It is taken away when this is dropped, which had
/// better be before the socket is closed: what nobody listens on any more, others replace.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl SocketFile {
    /// Listens at `path`, where a socket that nobody listens on may be left from before. Nobody but
    /// its owner can connect, in Linux from the first moment.
    ///
    /// # Errors
    ///
    /// [`SocketFileError`]. A file that is no socket is left alone.
    pub fn listen(path: &Path) -> Result<(UnixListener, Self), SocketFileError> {
        let failed = |source| SocketFileError::Io { path: path.to_owned(), source };
        let listener = match bound(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let is_socket = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
                if !is_socket {
                    return Err(failed(io::Error::other("there is another file of this name")));
                }
                if UnixStream::connect(path).is_ok() {
                    return Err(SocketFileError::InUse { path: path.to_owned() });
                }
                fs::remove_file(path).map_err(failed)?;
                bound(path).map_err(failed)?
            }
            result => result.map_err(failed)?,
        };
        let file = Self(path.to_owned());
        fs::set_permissions(path, fs::Permissions::from_mode(OWNER)).map_err(failed)?;
        Ok((listener, file))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A socket of this name, which nobody but its owner can connect to from the first moment: the mode
/// of a socket without a name is, in Linux, what its name gets. Elsewhere it is set afterwards.
fn bound(path: &Path) -> io::Result<UnixListener> {
    const WAITING: i32 = 128;
    let address = SocketAddrUnix::new(path)?;
    let socket = net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    #[cfg(target_os = "linux")]
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(OWNER))?;
    net::bind(&socket, &address)?;
    net::listen(&socket, WAITING)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_socket_is_never_anybody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let _listener = bound(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o177, 0, "{mode:o}");
    }

    #[test]
    fn only_what_nobody_listens_on_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (listener, file) = SocketFile::listen(&path).unwrap();
        let error = SocketFile::listen(&path).unwrap_err();
        assert!(matches!(error, SocketFileError::InUse { .. }), "{error}");
        assert!(UnixStream::connect(&path).is_ok(), "it is left alone");
        std::mem::forget(file);
        drop(listener);
        assert!(path.exists(), "left, as by a crash");
        let (listener, file) = SocketFile::listen(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop((file, listener));
        assert!(!path.exists());

        fs::write(&path, "a file").unwrap();
        let error = SocketFile::listen(&path).unwrap_err().to_string();
        assert!(error.contains("another file") && error.contains("/s:"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"a file");
    }
}
