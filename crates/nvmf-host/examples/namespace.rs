//! A remote disk as an object: bytes are written and read whatever happens to the paths to it.
//!
//! ```sh
//! nvmf serve --listen 127.0.0.1:4420 --listen 127.0.0.1:4421 &
//! cargo run -p nvmf-host --example namespace -- NQN 127.0.0.1:4420 127.0.0.1:4421
//! ```

use std::error::Error;
use std::io::{Read, Seek, SeekFrom, Write};
use std::thread;
use std::time::Duration;

use nvmf::host::HostOptions;
use nvmf::spec::Nqn;
use nvmf_host::{IoOptions, Namespace};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let nqn = arguments.next().ok_or("usage: namespace NQN HOST:PORT...")?;
    let mut disk = Namespace::builder(Nqn::parse_strict(&nqn)?, 1, HostOptions::from_system()?);
    for path in arguments {
        disk = disk.path(path);
    }
    let disk = disk.keep_alive(Duration::from_secs(2)).connect()?;

    // What happens to the paths, until the namespace is closed.
    let events = disk.events();
    let printer = thread::spawn(move || events.iter().for_each(|event| println!("event: {event}")));

    println!("{} bytes in blocks of {}", disk.size(), disk.block_size());
    disk.write_at(b"anywhere, of any length", 1000)?;
    let mut text = [0; 23];
    disk.read_at(&mut text, 1000)?;
    println!("read: {}", String::from_utf8_lossy(&text));

    // Durable when it returns, and given up after a second.
    let options = IoOptions::new().force_unit_access().deadline(Duration::from_secs(1));
    disk.write_bytes_with(vec![7; 4096].into(), 8192, options)?;
    disk.write_zeroes(8192, 4096, true)?;

    // Whatever wants a file may have a cursor.
    let mut file = disk.cursor();
    file.seek(SeekFrom::Start(1 << 20))?;
    writeln!(file, "a line")?;
    file.flush()?;
    file.seek(SeekFrom::Start(1 << 20))?;
    let mut line = [0; 7];
    file.read_exact(&mut line)?;
    println!("read: {}", String::from_utf8_lossy(&line).trim_end());

    for path in disk.paths() {
        println!("path: {} {:?}", path.path, path.state);
    }
    drop(file);
    disk.close();
    printer.join().map_err(|_| "the printer has panicked")?;
    Ok(())
}
