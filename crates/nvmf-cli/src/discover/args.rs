//! The command line of `nvmf discover`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use nvmf::host::config_files;

use crate::args::{Connect, Output, parse_seconds};
use crate::target::Target;

pub(crate) const HELP: &str = "\
Where a controller refers to others, these are asked, too, and so on; none is asked twice. One that
does not answer is passed over and said, and the status is 1 then.

Where the port is left out it is 4420; dedicated discovery controllers listen on 8009. An NQN after
the address, or -n with -a, names a discovery subsystem that has an NQN of its own.

Without TARGET, -a and --mdns, those are asked that /etc/nvme/discovery.conf names (a line of
`nvme discover`'s options for each), and the discovery controllers of /etc/nvme/config.json, each as
the host that the file says.

--watch stays connected and prints changes as they come until Ctrl-C: + an entry that came, - one that
went, ~ one that changed. With -o json that is an object a line.

With -o json and one TARGET the output is its log, with those of the referrals as `referrals`; else it
is the list `controllers`, of a log or an `error` for each.

Examples:
  nvmf discover nvme+tcp://127.0.0.1
  nvmf discover -t tcp -a 192.0.2.7 -s 8009 -o json
  nvmf discover nvme+tcp://192.0.2.7:8009 nvme+tcp://192.0.2.8:8009 --watch
  nvmf discover --mdns                         whoever announces itself on this link
  nvmf discover                                what the files of nvme-cli name";

/// `nvmf discover`
#[derive(Args, Debug)]
pub(crate) struct Discover {
    /// nvme+tcp://HOST[:PORT]; any number.
    #[arg(value_name = "TARGET")]
    pub targets: Vec<Target>,
    #[command(flatten)]
    pub output: Output,
    /// Also ask the discovery controllers that multicast DNS finds on this link.
    #[arg(long)]
    pub mdns: bool,
    /// How long to look for them: seconds.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = parse_seconds)]
    pub mdns_time: Duration,
    /// Do not ask the controllers that others refer to.
    #[arg(long)]
    pub no_referrals: bool,
    /// Stay connected, and print changes as they come.
    #[arg(long)]
    pub watch: bool,
    /// Where discovery.conf and config.json are.
    #[arg(long, value_name = "DIR", default_value = config_files::DIRECTORY)]
    pub config_dir: PathBuf,
    #[command(flatten)]
    pub connect: Connect,
}
