//! `nvmf list`

use nvmf::handoff::linux::{Controller, Listing, Namespace, Subsystem, Sysfs};
use nvmf_storage::display_size;

use super::args::List;
use crate::args::Format;
use crate::failure::printable;
use crate::output;

pub(crate) fn run(args: &List, verbose: bool) -> anyhow::Result<()> {
    let subsystems = Sysfs::at(&args.machine.root).subsystems()?;
    match (args.output.format, verbose) {
        (Format::Json, _) => output::show(Format::Json, &Listing(&subsystems))?,
        (Format::Normal, false) => output::print(disks(&subsystems))?,
        (Format::Normal, true) => output::print(everything(&subsystems))?,
    }
    Ok(())
}

/// One line for each disk.
fn disks(subsystems: &[Subsystem]) -> String {
    if subsystems.iter().all(|subsystem| subsystem.namespaces.is_empty()) {
        return match subsystems.len() {
            0 => "no NVMe subsystems".to_owned(),
            n => format!("no NVMe disks ({n} subsystems; --verbose shows them)"),
        };
    }
    let mut table = output::table(&["DISK", "NSID", "SIZE", "BLOCK", "SUBSYSTEM", "PATHS"]);
    for subsystem in subsystems {
        for namespace in &subsystem.namespaces {
            table.add_row([
                disk(namespace),
                namespace.nsid.map_or_else(String::new, |nsid| nsid.to_string()),
                display_size(namespace.bytes),
                namespace.block_size.to_string(),
                printable(&subsystem.nqn),
                paths(namespace, &subsystem.controllers),
            ]);
        }
    }
    trimmed(&table)
}

/// The disk's device; in brackets where there is none.
fn disk(namespace: &Namespace) -> String {
    let name = &namespace.name;
    if namespace.has_device { format!("/dev/{name}") } else { format!("({name})") }
}

/// By which controllers, and what keeps them from being used.
fn paths(namespace: &Namespace, controllers: &[Controller]) -> String {
    let each = namespace.paths.iter().map(|path| {
        let controller = controllers.iter().find(|controller| controller.name == path.controller);
        let state = controller.map(|controller| controller.state.as_str());
        let troubles = [
            state.filter(|s| *s != "live"),
            path.ana_state.as_deref().filter(|s| *s != "optimized"),
        ];
        let troubles: Vec<_> = troubles.into_iter().flatten().map(printable).collect();
        match troubles.is_empty() {
            true => path.controller.clone(),
            false => format!("{} ({})", path.controller, troubles.join(", ")),
        }
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Subsystems, their controllers, their disks and the paths to them.
fn everything(subsystems: &[Subsystem]) -> String {
    if subsystems.is_empty() {
        return "no NVMe subsystems".to_owned();
    }
    let mut tables = output::table(&[
        "CONTROLLER",
        "STATE",
        "CNTLID",
        "QUEUES",
        "TRANSPORT",
        "ADDRESS",
        "SUBSYSTEM",
    ]);
    let mut disks =
        output::table(&["DISK", "NSID", "SIZE", "PATH", "CONTROLLER", "ANA STATE", "GROUP"]);
    let mut text = Vec::new();
    for subsystem in subsystems {
        let policy = subsystem.io_policy.as_deref().map_or_else(String::new, |p| format!(", {p}"));
        text.push(format!(
            "{} {}{}",
            subsystem.name,
            printable(&subsystem.nqn),
            printable(&policy)
        ));
        for controller in &subsystem.controllers {
            tables.add_row([
                controller.name.clone(),
                printable(&controller.state),
                number(controller.cntlid),
                number(controller.queue_count),
                printable(&controller.transport),
                printable(controller.address.as_str()),
                subsystem.name.clone(),
            ]);
        }
        for namespace in &subsystem.namespaces {
            for path in &namespace.paths {
                disks.add_row([
                    disk(namespace),
                    number(namespace.nsid),
                    display_size(namespace.bytes),
                    path.name.clone(),
                    path.controller.clone(),
                    printable(path.ana_state.as_deref().unwrap_or("-")),
                    number(path.ana_group),
                ]);
            }
        }
    }
    format!("{}\n\n{}\n\n{}", text.join("\n"), trimmed(&tables), trimmed(&disks))
}

fn number(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn trimmed(table: &comfy_table::Table) -> String {
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}
