//! `nvmf serve`
use crate::args;
pub(crate) fn run(_args: &args::Serve) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
