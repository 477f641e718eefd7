//! Takes 4 KiB reads through the controller's end of the protocol core, as a connection of a busy
//! target does, so that its instructions can be counted: decode the capsules that one receive
//! brought, answer them with data, make one gathered send of the answers.
//!
//! It does the same every time; `./check instructions` runs it under callgrind.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::io::Write;

use anyhow::Context;
use nvmf::proto::pdu::Batch;
use nvmf_benches::pair::{Pair, Same, send, take_commands};

/// Reads that come with one receive.
const TOGETHER: u32 = 32;
const LENGTH: u32 = 4096;

fn main() -> anyhow::Result<()> {
    let usage = "how many reads? a number, as the only argument";
    let reads: u32 = std::env::args().nth(1).context(usage)?.parse().context(usage)?;
    let mut pair = Pair::connected(false)?;
    // Once answered, a command's identifier may come again, and so may the same bytes.
    let capsules = pair.reads(TOGETHER, LENGTH)?;
    let source = Same(vec![0; LENGTH as usize]);
    let mut batch = Batch::new();
    let mut slots = Vec::new();
    let mut sent = 0;
    for _ in 0..reads.div_ceil(TOGETHER) {
        let capsules = black_box(&capsules);
        take_commands(&mut pair.controller, capsules, &mut |command| slots.push(command.slot))?;
        for slot in slots.drain(..) {
            pair.controller.send_data(slot, LENGTH, true)?;
        }
        sent += black_box(send(&mut pair.controller, &source, &mut batch)?);
    }
    writeln!(std::io::stdout(), "{sent} bytes to send")?;
    Ok(())
}
