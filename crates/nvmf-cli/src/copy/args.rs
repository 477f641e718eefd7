//! The command line of `nvmf copy`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nvmf_storage::parse_size;

use crate::args::{AsHost, EngineOption, Output};
use crate::paths::PathOptions;

pub(crate) const HELP: &str = "\
SRC and DST are each a regular file, a block device, or a namespace of a target:
nvme+tcp://HOST[:PORT]/SUBNQN[/NSID], namespace 1 where NSID is left out.

Examples:
  nvmf copy nvme+tcp://192.0.2.7/SUBNQN backup.img --verify      a namespace into a sparse file
  nvmf copy disk.img nvme+tcp://192.0.2.7/SUBNQN/2               an image into a namespace
  nvmf copy nvme+tcp://HOST1/SUBNQN nvme+tcp://HOST2/SUBNQN --state move.state
  nvmf copy /dev/nvme0n1 disk.img --resume                       on, where it was stopped

A file becomes exactly what is copied, and is made if there is none; with --offset the rest of it
stays. Devices and namespaces have to be large enough. When nvmf ends with status 0, all of it is
there and durable.

What is done is noted once a second in DST.nvmf-copy, if DST is a file, or in the file of --state,
and that is gone when everything is done. After Ctrl-C, an error, a crash or a loss of power the
same command with --resume goes on from there, if source and destination are still the same.

Pipes and standard input have no offsets, and cannot be copied many chunks at a time: that is what
`nvmf read` and `nvmf write` are for.";

/// `nvmf copy`
#[derive(Args, Debug)]
pub(crate) struct Copy {
    /// What to read: a file, a block device, or nvme+tcp://HOST[:PORT]/SUBNQN[/NSID]
    #[arg(value_name = "SRC")]
    pub source: String,
    /// What to write: the same.
    #[arg(value_name = "DST")]
    pub destination: String,
    /// Where in SRC to begin: bytes, or with a unit (4K, 1.5G).
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "0")]
    pub source_offset: u64,
    /// Where in DST to begin; a file that is there then keeps its other bytes.
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub offset: Option<u64>,
    /// How many bytes; where left out, all there are in SRC.
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub length: Option<u64>,
    /// What becomes of zeroes.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub sparse: Sparse,
    /// When all is copied, read both sides again and compare them.
    #[arg(long)]
    pub verify: bool,
    /// Go on where a copy was stopped; begin at the beginning if nothing is noted of one.
    #[arg(long)]
    pub resume: bool,
    /// Note in FILE what is done, instead of DST.nvmf-copy.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Chunks under way at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub qd: u16,
    /// Bytes of a chunk: a power of two from 4K to 64M, or what is next to it.
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "1M")]
    pub chunk: u64,
    /// Copy no more than so many bytes a second.
    #[arg(long, value_name = "BYTES", value_parser = parse_rate)]
    pub rate: Option<u64>,
    #[command(flatten)]
    pub engine: EngineOption,
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub paths: PathOptions,
    #[command(flatten)]
    pub host: AsHost,
}

/// What becomes of zeroes.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sparse {
    /// Holes of SRC become holes; in devices and namespaces, which do not tell, zeroes do.
    Auto,
    /// All zeroes become holes.
    Always,
    /// All bytes are written.
    Never,
}

impl From<Sparse> for nvmf_copy::Sparse {
    fn from(sparse: Sparse) -> Self {
        match sparse {
            Sparse::Auto => Self::Auto,
            Sparse::Always => Self::Always,
            Sparse::Never => Self::Never,
        }
    }
}

fn parse_rate(text: &str) -> Result<u64, String> {
    match parse_size(text) {
        Ok(0) => Err("a rate is at least 1".to_owned()),
        Ok(rate) => Ok(rate),
        Err(error) => Err(error.to_string()),
    }
}
