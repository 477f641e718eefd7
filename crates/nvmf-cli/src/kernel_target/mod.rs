//! `nvmf kernel-target`

pub(crate) mod args;

use std::path::Path;

use nvmf_target::config::nvmetcli::Warning;
use nvmf_target::kernel::{KernelTarget, Plan, Wanted};
use serde_json::json;

use crate::args::Format;
use crate::{config, failure, output};
use args::Command;

pub(crate) fn run(args: &args::KernelTarget) -> anyhow::Result<()> {
    let format = args.output.format;
    let open = || KernelTarget::open(&args.configfs);
    match &args.command {
        Command::Apply { file, dry_run } => {
            // What is wrong with a file is said without root, and without nvmet.
            let wanted = config::or_problems(file, Wanted::read(file))?;
            let kernel = open()?;
            let plan = kernel.plan(&wanted)?;
            take(&kernel, &plan, *dry_run, format)
        }
        Command::Save { file } => save(&open()?, file.as_deref(), format),
        Command::Clear { dry_run } => {
            let kernel = open()?;
            let plan = kernel.plan_clear()?;
            take(&kernel, &plan, *dry_run, format)
        }
    }
}

/// Takes the steps, unless they are only asked for, and says which they were.
fn take(kernel: &KernelTarget, plan: &Plan, dry_run: bool, format: Format) -> anyhow::Result<()> {
    if !dry_run {
        kernel.apply(plan)?;
    }
    let (steps, notes) = (plan.steps(), plan.notes());
    if format == Format::Json {
        let shown = json!({ "done": !dry_run, "steps": steps, "notes": notes });
        return Ok(output::print(format_args!("{shown:#}"))?);
    }
    for note in notes {
        failure::say(note);
    }
    if steps.is_empty() {
        return Ok(output::print("nothing to do")?);
    }
    let lines: Vec<String> = steps.iter().map(ToString::to_string).collect();
    Ok(output::print(lines.join("\n"))?)
}

fn save(kernel: &KernelTarget, to: Option<&Path>, format: Format) -> anyhow::Result<()> {
    let (saved, warnings) = kernel.save()?;
    for warning in &warnings {
        failure::say(&Warning::to_string(warning));
    }
    let text = match format {
        Format::Json => serde_json::to_string_pretty(&saved)?,
        Format::Normal => saved.to_toml(),
    };
    config::write(to, &text)
}
