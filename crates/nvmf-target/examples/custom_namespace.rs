//! Serves a namespace whose blocks are computed: each 8 bytes of it are their own offset.
//!
//! ```text
//! cargo run -p nvmf-target --example custom_namespace -- 127.0.0.1:4420
//! cargo run -p nvmf-cli -- read nvme+tcp://127.0.0.1/nqn.2026-01.org.example:offsets --length 64
//! ```

use std::error::Error as StdError;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use nvme_spec::Nqn;
use nvmf_storage::{Backend, BlockSize, Durability, Error, Geometry, GeometryError, Zero};
use nvmf_target::{Subsystem, Target};

/// Bytes that follow from where they are.
#[derive(Debug)]
struct Offsets(Geometry);

impl Offsets {
    fn new(bytes: u64) -> Result<Self, GeometryError> {
        Ok(Self(Geometry::from_bytes(BlockSize::B4096, bytes)?.with_read_only(true)))
    }
}

impl Backend for Offsets {
    fn geometry(&self) -> Geometry {
        self.0
    }

    fn read(&self, offset: u64, into: &mut [IoSliceMut<'_>]) -> Result<(), Error> {
        let length: usize = into.iter().map(|slice| slice.len()).sum();
        self.0.check_range(offset, u64::try_from(length).unwrap_or(u64::MAX))?;
        // A block starts at a multiple of 8, so every 8 bytes are one number.
        let numbers = (offset..).step_by(8).flat_map(u64::to_le_bytes);
        for (to, from) in into.iter_mut().flat_map(|slice| slice.iter_mut()).zip(numbers) {
            *to = from;
        }
        Ok(())
    }

    fn write(&self, _: u64, _: &[IoSlice<'_>], _: Durability) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn write_zeroes(&self, _: u64, _: u64, _: Zero) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    fn deallocate(&self, _: u64, _: u64) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    fn volatile_write_cache(&self) -> bool {
        false
    }

    fn location(&self) -> String {
        "offsets".into()
    }
}

fn main() -> Result<(), Box<dyn StdError>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4420".into());
    let nqn = Nqn::parse_strict("nqn.2026-01.org.example:offsets")?;
    // A TiB that takes no space.
    let namespace = Arc::new(Offsets::new(1 << 40)?);
    let subsystem = Subsystem::builder(nqn).namespace(1, namespace).build()?;
    let target = Target::builder().subsystem(subsystem).listen(address.parse()?).bind()?;
    println!("serving at {}", target.local_addrs()[0]);
    target.run()?;
    Ok(())
}
