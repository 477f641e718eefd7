//! The file system that nvmet is set up through.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// What can be done there. Paths are below nvmet's directory, without a slash at either end; the
/// empty one is that directory.
pub(super) trait Configfs: fmt::Debug + Send + Sync {
    /// The names of the directories in a directory.
    fn directories(&self, path: &str) -> io::Result<Vec<String>>;

    /// The links in a directory: their names, and the names of what they are to.
    fn links(&self, path: &str) -> io::Result<Vec<(String, String)>>;

    /// What stands in a file, without the line's end.
    fn read(&self, path: &str) -> io::Result<String>;

    /// Writes a file that is there, all at once.
    fn write(&self, path: &str, value: &str) -> io::Result<()>;

    fn make_directory(&self, path: &str) -> io::Result<()>;

    fn remove_directory(&self, path: &str) -> io::Result<()>;

    fn make_link(&self, path: &str, to: &str) -> io::Result<()>;

    fn remove_link(&self, path: &str) -> io::Result<()>;
}

/// The real one.
#[derive(Debug)]
pub(super) struct Mounted {
    /// Absolute: the kernel looks for what a link is to from the working directory.
    root: PathBuf,
}

/// The most that a file of configfs has.
const LONGEST: u64 = 4096;

impl Mounted {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, path: &str) -> PathBuf {
        match path {
            "" => self.root.clone(),
            path => self.root.join(path),
        }
    }
}

impl Configfs for Mounted {
    fn directories(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(path))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.push(name(&entry.file_name())?);
            }
        }
        Ok(names)
    }

    fn links(&self, path: &str) -> io::Result<Vec<(String, String)>> {
        let mut links = Vec::new();
        for entry in fs::read_dir(self.path(path))? {
            let entry = entry?;
            if entry.file_type()?.is_symlink() {
                let to = fs::read_link(entry.path())?;
                let to = to.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
                links.push((name(&entry.file_name())?, name(to)?));
            }
        }
        Ok(links)
    }

    fn read(&self, path: &str) -> io::Result<String> {
        let mut text = String::new();
        fs::File::open(self.path(path))?.take(LONGEST).read_to_string(&mut text)?;
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(text)
    }

    fn write(&self, path: &str, value: &str) -> io::Result<()> {
        // Each call of write is a value of its own: what is left of one that was cut must not be sent
        // after it. Nor is there a line's end, which some files would take for a second value.
        let written =
            OpenOptions::new().write(true).open(self.path(path))?.write(value.as_bytes())?;
        match written == value.len() {
            true => Ok(()),
            false => Err(io::Error::from(rustix::io::Errno::MSGSIZE)),
        }
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        fs::create_dir(self.path(path))
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        fs::remove_dir(self.path(path))
    }

    fn make_link(&self, path: &str, to: &str) -> io::Result<()> {
        symlink(self.path(to), self.path(path))
    }

    fn remove_link(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }
}

fn name(name: &std::ffi::OsStr) -> io::Result<String> {
    name.to_str().map(str::to_owned).ok_or_else(|| {
        io::Error::other(format!("the name {} is no text", Path::new(name).display()))
    })
}
