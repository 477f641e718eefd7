//! The command line of `nvmf admin-passthru` and `nvmf io-passthru`: nvme-cli's options, with its
//! letters.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, Args};

use crate::args::{Connect, Output, parse_byte, parse_dword, parse_number};
use crate::target::Target;

pub(crate) const ADMIN_HELP: &str = "\
As in nvme-cli, -o is the opcode here, -n the namespace, -s shows the command and -t is a time in
milliseconds; the options of a connection that have these letters elsewhere are written out, and so is
--output-format json.

Which way data flows is in bits 1:0 of the opcode; --read and --write may say it again.

Examples:
  nvmf admin-passthru nvme+tcp://127.0.0.1/SUBNQN -o 0x06 --cdw10 1 -l 4096        Identify
  nvmf admin-passthru nvme+tcp://127.0.0.1/SUBNQN -o 0x06 -4 1 -l 4096 -r -b > id.bin
  nvmf admin-passthru nvme+tcp://127.0.0.1/SUBNQN -o 0x02 -n 0xffffffff -4 0x7f0002 -l 512
  nvmf admin-passthru nvme+tcp://127.0.0.1/SUBNQN -o 0x09 -4 0x06 -5 0 --show-command --dry-run";

pub(crate) const IO_HELP: &str = "\
As in nvme-cli, -o is the opcode here, -n the namespace, -s shows the command and -t is a time in
milliseconds; the options of a connection that have these letters elsewhere are written out, and so is
--output-format json.

Which way data flows is in bits 1:0 of the opcode; --read and --write may say it again.

Examples:
  nvmf io-passthru nvme+tcp://127.0.0.1/SUBNQN -o 0x02 -n 1 -l 4096                    Read block 0
  nvmf io-passthru nvme+tcp://127.0.0.1/SUBNQN/1 -o 0x02 --cdw10 8 -l 4096 -b > block.bin
  nvmf io-passthru nvme+tcp://127.0.0.1/SUBNQN/1 -o 0x01 --cdw10 8 -l 4096 -i block.bin  Write it
  nvmf io-passthru nvme+tcp://127.0.0.1/SUBNQN/1 -o 0x00                               Flush";

/// `nvmf admin-passthru`, `nvmf io-passthru`
#[derive(Args, Debug)]
pub(crate) struct Passthru {
    /// nvme+tcp://HOST[:PORT]/SUBNQN[/NSID]
    pub target: Option<Target>,
    /// The opcode, as 6 or 0x06.
    #[arg(short = 'o', long, value_name = "OPCODE", value_parser = parse_byte)]
    pub opcode: u8,
    /// The command's flags: fused operations. The data pointer is always an SGL.
    #[arg(short = 'f', long, value_name = "FLAGS", default_value = "0", value_parser = parse_byte)]
    pub flags: u8,
    /// Of no effect: it is where the command's identifier goes, as in nvme-cli.
    #[arg(short = 'R', long, value_name = "N", default_value = "0", value_parser = parse_dword)]
    pub rsvd: u32,
    /// The namespace; instead of TARGET's NSID, else 0.
    #[arg(short = 'n', long, value_name = "NSID", value_parser = parse_dword)]
    pub namespace_id: Option<u32>,
    /// Dword 2 of the command.
    #[arg(short = '2', long, value_name = "N", default_value = "0", value_parser = parse_dword)]
    pub cdw2: u32,
    /// Dword 3.
    #[arg(short = '3', long, value_name = "N", default_value = "0", value_parser = parse_dword)]
    pub cdw3: u32,
    /// Dword 10.
    #[arg(short = '4', long, value_name = "N", default_value = "0", value_parser = parse_dword)]
    pub cdw10: u32,
    /// Dword 11.
    #[arg(short = '5', long, value_name = "N", default_value = "0", value_parser = parse_dword)]
    pub cdw11: u32,
    /// Dword 12.
    #[arg(short = '6', long, value_name = "N", default_value = "0", value_parser = parse_dword)]
    pub cdw12: u32,
    /// Dword 13.
    #[arg(short = '7', long, value_name = "N", default_value = "0", value_parser = parse_dword)]
    pub cdw13: u32,
    /// Dword 14.
    #[arg(short = '8', long, value_name = "N", default_value = "0", value_parser = parse_dword)]
    pub cdw14: u32,
    /// Dword 15.
    #[arg(short = '9', long, value_name = "N", default_value = "0", value_parser = parse_dword)]
    pub cdw15: u32,
    /// How much data there is, in bytes.
    #[arg(short = 'l', long, value_name = "BYTES", default_value = "0", value_parser = parse_dword)]
    pub data_len: u32,
    /// Metadata: NVMe/TCP moves none, so only 0 will do.
    #[arg(short = 'm', long, value_name = "BYTES", default_value = "0", value_parser = parse_no_metadata)]
    pub metadata_len: u32,
    /// Where data for the controller is (else standard input), or where that of the controller goes.
    /// Of an input no more is read than --data-len says; what it lacks is as --prefill says.
    #[arg(short = 'i', long, value_name = "FILE")]
    pub input_file: Option<PathBuf>,
    /// Data comes from the controller.
    #[arg(short = 'r', long, conflicts_with = "write")]
    pub read: bool,
    /// Data goes to the controller.
    #[arg(short = 'w', long)]
    pub write: bool,
    /// Print the controller's data as it is, and nothing else.
    #[arg(short = 'b', long, conflicts_with = "output_format")]
    pub raw_binary: bool,
    /// Show the command, on standard error if it is sent.
    #[arg(short = 's', long)]
    pub show_command: bool,
    /// Show the command and do not send it.
    #[arg(short = 'd', long)]
    pub dry_run: bool,
    /// Show how long it took.
    #[arg(short = 'T', long)]
    pub latency: bool,
    /// What data is before anything is read into it: a byte.
    #[arg(short = 'p', long, value_name = "BYTE", default_value = "0", value_parser = parse_byte)]
    pub prefill: u8,
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub connect: Connect,
}

/// Gives letters that nvme-cli has for the command to the command, and its unit to the time.
pub(crate) fn as_nvme_cli(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "transport" | "trsvcid" | "nqn" | "output_format" => arg.short(None),
        "timeout" => arg
            .short('t')
            .action(ArgAction::Set)
            .value_name("MS")
            .default_value("5000")
            .value_parser(parse_milliseconds)
            .help("Give up when the target does not answer for this long: milliseconds"),
        _ => arg,
    }
}

fn parse_milliseconds(text: &str) -> Result<Duration, String> {
    const DAY: u32 = 86_400_000;
    match parse_number(text) {
        Some(ms) if (1..=DAY).contains(&ms) => Ok(Duration::from_millis(ms.into())),
        _ => Err("milliseconds are 1 to 86400000".to_owned()),
    }
}

fn parse_no_metadata(text: &str) -> Result<u32, String> {
    match parse_dword(text)? {
        0 => Ok(0),
        _ => Err("NVMe/TCP moves no metadata".to_owned()),
    }
}
