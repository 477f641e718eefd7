//! A remote disk in a program on tokio: many reads at once, and a file copied to it and back.
//!
//! ```sh
//! nvmf serve --listen 127.0.0.1:4420 &
//! cargo run -p nvmf-host --features tokio --example tokio -- NQN 127.0.0.1:4420 FILE
//! ```

use std::error::Error;
use std::time::Duration;

use nvmf::host::HostOptions;
use nvmf::spec::Nqn;
use nvmf_host::Namespace;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader, copy_buf};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Each read and write of a copy is one operation, which the namespace cuts into commands.
const PIECE: usize = 1 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [nqn, path, file] = &arguments[..] else {
        return Err("usage: tokio NQN HOST:PORT FILE".into());
    };
    let host = HostOptions::from_system()?;
    let builder = Namespace::builder(Nqn::parse_strict(nqn)?, 1, host).path(path);
    // To connect is the one thing that blocks.
    let namespace = tokio::task::spawn_blocking(move || builder.connect()).await??;
    let disk = namespace.asynchronous();

    // The file goes to the disk.
    let mut cursor = disk.cursor();
    let mut from = BufReader::with_capacity(PIECE, File::open(file).await?);
    let copied = copy_buf(&mut from, &mut cursor).await?;
    cursor.shutdown().await?;
    println!("copied {copied} bytes to the disk");

    // Many tasks read at once; what takes too long is given up by dropping it.
    let mut reads = JoinSet::new();
    for number in 0..64 {
        let disk = disk.clone();
        reads.spawn(async move {
            let read = disk.read_bytes_at(number * 4096, 4096);
            timeout(Duration::from_secs(5), read).await
        });
    }
    let mut total = 0;
    while let Some(read) = reads.join_next().await {
        total += read???.len();
    }
    println!("read {total} bytes by 64 tasks");

    // The disk goes to another file, as far as it was written.
    cursor.rewind().await?;
    let mut from = BufReader::with_capacity(PIECE, cursor.take(copied));
    let mut to = File::create(format!("{file}.copy")).await?;
    let copied = copy_buf(&mut from, &mut to).await?;
    to.shutdown().await?;
    println!("copied {copied} bytes from the disk");

    // Closing blocks, too.
    tokio::task::spawn_blocking(move || namespace.close()).await?;
    Ok(())
}
