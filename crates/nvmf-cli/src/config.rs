//! `nvmf config`

pub(crate) mod args;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, anyhow};
use nvmf_target::Hosts;
use nvmf_target::config::layout::{Namespace, Port, Subsystem};
use nvmf_target::config::nvmetcli::{self, ImportError, Warning};
use nvmf_target::config::{Layout, ReadError};

use crate::args::Format;
use crate::failure;
use crate::output;

pub(crate) fn run(command: &args::Config) -> anyhow::Result<()> {
    match command {
        args::Config::Check { file } => {
            let layout = read(file)?;
            Ok(output::print(summary(file, &layout))?)
        }
        args::Config::Import { file, output } => import(file, output.as_deref()),
        args::Config::Show { file, output } => {
            let config = read(file)?.config();
            match output.format {
                Format::Json => output::print(serde_json::to_string_pretty(&config)?)?,
                Format::Normal => output::print(config.to_toml().trim_end())?,
            }
            Ok(())
        }
    }
}

/// Reads a configuration.
pub(crate) fn read(file: &Path) -> anyhow::Result<Layout> {
    or_problems(file, Layout::read(file))
}

/// What was made of a configuration, or what is wrong with it: of more than one problem each is said
/// at once, and how many there are is the error.
pub(crate) fn or_problems<T>(file: &Path, made: Result<T, ReadError>) -> anyhow::Result<T> {
    let error = match made {
        Ok(made) => return Ok(made),
        Err(ReadError::Config(error)) if error.problems().len() > 1 => error,
        Err(error) => return Err(error.into()),
    };
    for line in error.lines() {
        failure::say(&line);
    }
    Err(anyhow!("{}: {} problems", file.display(), error.problems().len()))
}

/// What would be served.
fn summary(file: &Path, layout: &Layout) -> String {
    let mut text = format!("{} is right; it would serve", file.display());
    // Writing to a string does not fail.
    for Port { id, listen, subsystems, .. } in layout.ports().values() {
        let offered = match subsystems {
            None => "all subsystems".to_owned(),
            Some(these) => counted(these.len(), "subsystem"),
        };
        let _ = write!(text, "\n  port {id} on {listen}: {offered}");
    }
    for Subsystem { nqn, hosts, namespaces, .. } in layout.subsystems().values() {
        let hosts = match hosts {
            None => "every host that reaches loopback".to_owned(),
            Some(Hosts::Any) => "any host".to_owned(),
            Some(Hosts::Only(hosts)) => counted(hosts.len(), "host"),
        };
        let ports = counted(layout.ports_of(nqn).count(), "port");
        let _ = write!(text, "\n  subsystem {nqn}: to {hosts} through {ports}");
        for Namespace { nsid, spec, read_only, .. } in namespaces.values() {
            let protected = if *read_only { ", write-protected" } else { "" };
            let _ = write!(text, "\n    namespace {nsid}: {spec}{protected}");
        }
    }
    if let Some(address) = layout.metrics() {
        let _ = write!(text, "\n  metrics on {address}");
    }
    text
}

fn counted(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}"),
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

fn import(file: &Path, output: Option<&Path>) -> anyhow::Result<()> {
    let json = read_saved(file).with_context(|| format!("cannot read {}", file.display()))?;
    let warn = |warnings: &[Warning]| {
        warnings.iter().for_each(|warning| failure::say(&warning.to_string()));
    };
    let (config, warnings) = nvmetcli::import(&json)
        .inspect_err(|error| {
            if let ImportError::NoPort { warnings } = error {
                warn(warnings);
            }
        })
        .with_context(|| format!("cannot import {}", file.display()))?;
    warn(&warnings);
    write(output, &config.to_toml())
}

/// Writes a configuration into a file that is not there yet, or to standard output.
pub(crate) fn write(to: Option<&Path>, text: &str) -> anyhow::Result<()> {
    let text = text.trim_end();
    let Some(to) = to else { return Ok(output::print(text)?) };
    let what = || format!("cannot write {}", to.display());
    let mut new = File::create_new(to).with_context(what)?;
    writeln!(new, "{text}").with_context(what)
}

fn read_saved(file: &Path) -> io::Result<String> {
    const LONGEST: u64 = 64 << 20;
    let mut json = String::new();
    File::open(file)?.take(LONGEST + 1).read_to_string(&mut json)?;
    if json.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("it is longer than {LONGEST} bytes")));
    }
    Ok(json)
}
