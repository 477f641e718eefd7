//! Files that are whole at any time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces a small file as a whole, or makes it: after a crash it is the old one or the new one, and
/// once this returns it is the new one. Meanwhile there is a file of the same name and `.new` beside
/// it.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let state = folder.path().join("state");
/// nvmf_storage::replace_file(&state, b"before")?;
/// nvmf_storage::replace_file(&state, b"after")?;
/// assert_eq!(std::fs::read(&state)?, b"after");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// Those of the system: the file is the old one then, unless only its folder could not be synced.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let mut file = File::create(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    sync_folder(path)
}

/// Makes durable that a file is there.
///
/// # Errors
///
/// Those of the system.
pub fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
