//! `nvmf export`

pub(crate) mod args;
mod nbd;

use args::Export;

pub(crate) fn run(export: &Export) -> anyhow::Result<()> {
    match export {
        Export::Nbd(args) => nbd::run(args),
    }
}
