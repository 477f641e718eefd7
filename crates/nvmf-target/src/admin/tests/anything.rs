//! Commands that no sensible host sends.

use super::*;

/// Numbers that look random, and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn dword(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.next().to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Mostly a number that means something.
    fn field(&mut self) -> u32 {
        match self.below(4) {
            0 => 0,
            1 => u32::from(self.next().to_le_bytes()[0]),
            2 => u32::MAX,
            _ => self.dword(),
        }
    }

    /// A command with so much data, which it mostly is right about.
    fn command(&mut self, length: u32) -> Sqe {
        const OPCODES: [u8; 8] = [0x02, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x18, 0x7f];
        let at = usize::try_from(self.below(OPCODES.len() as u64)).unwrap();
        let mut sqe = Sqe::new(OPCODES[at]);
        sqe.nsid.set(self.field());
        sqe.cid.set(self.next().to_le_bytes()[0].into());
        for dword in 10..16 {
            sqe.set_cdw(dword, self.field());
        }
        if self.below(2) == 0 {
            // What is asked for, and if that is a log page, how much of it.
            let asked = self.next().to_le_bytes()[0] & 0x9f;
            let dwords = if sqe.opcode == 0x02 { (length / 4).saturating_sub(1) } else { 0 };
            sqe.set_cdw(10, u32::from(asked) | dwords << 16);
            (12..16).for_each(|dword| sqe.set_cdw(dword, 0));
        }
        sqe
    }

    fn length(&mut self) -> u32 {
        const LENGTHS: [u32; 8] = [0, 4, 8, 16, 512, 1024, 4096, u32::MAX];
        LENGTHS[usize::try_from(self.below(LENGTHS.len() as u64)).unwrap()]
    }
}

#[test]
fn whatever_comes_data_is_as_long_as_was_said_and_nothing_panics() {
    for mut c in [enabled(), discovery().0] {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let (mut answered, mut sent, mut received) = (0, 0, 0);
        for _ in 0..30_000 {
            let length = numbers.length();
            let sqe = numbers.command(length);
            let mut outcome = run(&mut c, &sqe, length);
            if let Outcome::Receive(asked) = outcome {
                assert!(asked == length && asked <= MOST_DATA);
                let data: Vec<u8> =
                    (0..asked).map(|_| numbers.next().to_le_bytes()[0] & 0x81).collect();
                outcome = c.execute(&sqe, Data::Here(&data), Instant::now());
                assert!(!matches!(outcome, Outcome::Receive(_)), "it is here");
                received += 1;
            }
            match outcome {
                Outcome::Data(data) => {
                    assert_eq!(u32::try_from(data.len()).unwrap(), length);
                    sent += 1;
                }
                Outcome::AbortIo { .. } => drop(c.abort_answer(false)),
                Outcome::Shutdown(_) => c.shut_down(Ok(())),
                Outcome::Answer(_) => answered += 1,
                _ => {}
            }
            let _ = c.next_event();
            // It may have been reset or shut down.
            if csts(&mut c).rdy() == 0 || csts(&mut c).shst() != 0 {
                let _ = set_cc(&mut c, Cc(0));
                assert_eq!(set_cc(&mut c, Cc::ENABLE), success());
            }
        }
        let io = matches!(c.role, Role::Io);
        assert!(
            answered > 1000 && sent > 10 && (received > 0) == io,
            "{answered} {sent} {received}"
        );
    }
}
