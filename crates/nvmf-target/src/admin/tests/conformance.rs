//! `docs/conformance.md`: what is asked of controllers, and what they answer.
//!
//! Whether something is supported is asked of real controllers, for each number there is; what is
//! said of it, and the tests that show it, are in [`notes`]. The page has to be what comes of both.

mod notes;

use std::fmt::Write;
use std::path::Path;

use nvme_spec::fabrics::PropertyGet;
use nvme_spec::identify::{IdentifyNamespaceNvm, IndependentNamespace};
use nvme_spec::log::{self as page};
use nvme_spec::print::{Field, FieldSink, Fields, Value};
use nvme_spec::{feature, property};
use nvmf_proto::connect::{ConnectRequest, ControllerChoice};

use super::*;
use crate::subsystem::{Namespace, Subsystem};
use crate::testing::{Kept, NQN, nqn, request};
use notes::{Note, Notes};

/// Where the page is.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/conformance.md");

#[test]
fn the_page_says_what_controllers_answer() {
    let told = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, &told).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    let differs = told.lines().zip(written.lines()).find(|(told, written)| told != written);
    assert!(
        told == written,
        "docs/conformance.md is not what controllers answer; \
         run UPDATE_DOCS=1 cargo test -p nvmf-target conformance\nfirst: {differs:#?}"
    );
}

#[test]
fn the_tests_that_the_page_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = String::new();
    read_sources(&root.join("crates"), &mut sources);
    read_sources(&root.join("tests"), &mut sources);
    let of_notes = notes::ALL.iter().copied().flatten().flat_map(|note| note.tests);
    for test in of_notes.chain(notes::ALWAYS.iter().flat_map(|(_, tests)| *tests)) {
        let found = ["fn ", "def "].iter().any(|kind| sources.contains(&format!("{kind}{test}(")));
        assert!(found, "there is no test {test}");
    }
}

fn read_sources(folder: &Path, into: &mut String) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let is_source = path.extension().is_some_and(|kind| kind == "rs" || kind == "py");
        if path.is_dir() {
            read_sources(&path, into);
        } else if is_source {
            into.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

fn page() -> String {
    let mut out = String::from(notes::PREFACE);
    for (says, tests) in notes::ALWAYS {
        writeln!(out, "| {says} | {} |", notes::names(tests)).unwrap();
    }
    admin_commands(&mut out);
    io_commands(&mut out);
    fabrics_commands(&mut out);
    properties(&mut out);
    features(&mut out);
    log_pages(&mut out);
    identify_structures(&mut out);
    identify_fields(&mut out);
    out
}

/// What a controller says to something.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Said {
    Yes,
    No(Status),
}

impl Said {
    fn of(outcome: &Outcome, no: Status) -> Self {
        match outcome {
            Outcome::Answer(cqe) if cqe.status().same_code(no) => Self::No(no),
            _ => Self::Yes,
        }
    }

    fn word(self) -> &'static str {
        if self == Self::Yes { "yes" } else { "no" }
    }
}

/// A table of everything that has a name or is supported, with a line for the rest.
struct Table<'a> {
    out: &'a mut String,
    notes: Notes,
    name: fn(u8) -> &'static str,
}

impl Table<'_> {
    fn begin(&mut self, title: &str, columns: &str) {
        let rule = columns.chars().filter(|c| *c == '|').count();
        let rule = "|---".repeat(rule - 1);
        writeln!(self.out, "\n## {title}\n\n{columns}\n{rule}|").unwrap();
    }

    /// A row for each number; `says` are its cells for each kind of controller, and `more` is
    /// said of it besides.
    fn rows(&mut self, ask: impl Fn(u8) -> (Vec<Said>, String)) {
        let mut rest = Vec::new();
        for number in 0..=u8::MAX {
            let (says, more) = ask(number);
            let yes = says.contains(&Said::Yes);
            let note = self.notes.iter().find(|note| note.number == number);
            let name = (self.name)(number);
            let named = !matches!(name, "Unknown" | "Vendor Specific");
            assert!(!yes || note.is_some(), "say something of {number:#04x} ({name}) in notes.rs");
            if !yes && !named {
                rest.extend(says);
                continue;
            }
            let refusal = says.iter().find_map(|said| match said {
                Said::No(status) if !yes => Some(status.name().to_owned()),
                _ => None,
            });
            let text = match (note, refusal) {
                (Some(note), None) => note.says.to_owned(),
                (Some(note), Some(refusal)) => format!("{refusal}: {}", note.says),
                (None, refusal) => refusal.unwrap_or_default(),
            };
            let says: Vec<_> = says.into_iter().map(Said::word).collect();
            writeln!(
                self.out,
                "| {number:02X}h | {name} | {} | {more}{text} | {} |",
                says.join(" | "),
                note.map(Note::tests).unwrap_or_default()
            )
            .unwrap();
        }
        let same = rest.windows(2).all(|two| two[0] == two[1]);
        assert!(same, "all others are refused alike");
        if let Some(Said::No(status)) = rest.first() {
            writeln!(self.out, "\nAll others: {}.", status.name()).unwrap();
        }
    }
}

fn admin_commands(out: &mut String) {
    let mut table = Table { out, notes: notes::ADMIN, name: opcode::admin_name };
    table.begin("Admin commands", "| Opcode | Command | I/O | Discovery | Answer | Tests |");
    table.rows(|code| {
        let ask =
            |c: &mut Controller| Said::of(&run(c, &Sqe::new(code), 0), Status::INVALID_OPCODE);
        (vec![ask(&mut enabled()), ask(&mut discovery().0)], String::new())
    });
}

fn io_commands(out: &mut String) {
    let association = association(&subsystem());
    association.enable();
    let mut table = Table { out, notes: notes::IO, name: opcode::nvm_name };
    table.begin("I/O commands", "| Opcode | Command | Supported | Answer | Tests |");
    table.rows(|code| {
        let mut sqe = Sqe::new(code);
        sqe.nsid.set(1);
        if code == opcode::FABRICS {
            sqe = Disconnect::new().to_sqe();
        }
        let view = association.view();
        let said = match crate::io::plan(&association, &view, &sqe, 0) {
            Err(status) if status.same_code(Status::INVALID_OPCODE) => {
                Said::No(Status::INVALID_OPCODE)
            }
            _ => Said::Yes,
        };
        (vec![said], String::new())
    });
}

fn fabrics_commands(out: &mut String) {
    let association = association(&subsystem());
    let mut table = Table { out, notes: notes::FABRICS, name: opcode::fabrics_name };
    table
        .begin("Fabrics commands", "| Type | Command | Admin queue | I/O queue | Answer | Tests |");
    table.rows(|fctype| {
        let sqe = Sqe::fabrics(fctype);
        let no = Status::INVALID_OPCODE;
        let view = association.view();
        let io = match crate::io::plan(&association, &view, &sqe, 0) {
            Err(status) if status.same_code(no) => Said::No(no),
            _ => Said::Yes,
        };
        (vec![Said::of(&run(&mut enabled(), &sqe, 0), no), io], String::new())
    });
}

fn properties(out: &mut String) {
    out.push_str("\n## Properties\n\n| Offset | Property | Bytes | After enabling | Tests |\n");
    out.push_str("|---|---|---|---|---|\n");
    let mut c = enabled();
    for at in 0..0x1000 {
        let mut values = [false, true].into_iter().filter_map(|wide| {
            match run(&mut c, &PropertyGet::new(at, wide).to_sqe(), 0) {
                Outcome::Answer(cqe) if cqe.status().is_success() => Some((wide, cqe.result())),
                _ => None,
            }
        });
        let Some((wide, value)) = values.next() else { continue };
        assert!(values.next().is_none(), "{at:#x} has one width");
        let name = property::name(at).unwrap();
        let bytes = if wide { 8 } else { 4 };
        let tests = notes::PROPERTIES.iter().find(|note| u32::from(note.number) == at).unwrap();
        let tests = tests.tests();
        writeln!(out, "| {at:02X}h | {name} | {bytes} | {value:#x} | {tests} |").unwrap();
    }
    out.push_str(
        "\nAll other offsets and widths, and writes to any but CC: Invalid Field in Command.\n",
    );
}

fn features(out: &mut String) {
    let mut table = Table { out, notes: notes::FEATURES, name: feature::name };
    table.begin("Features", "| FID | Feature | I/O | Discovery | Value | Tests |");
    table.rows(|fid| {
        let mut more = "";
        let mut ask = |c: &mut Controller| match run(c, &get_feature(fid, 3, 0), 0) {
            Outcome::Answer(cqe) if cqe.status().is_success() => {
                more = match cqe.dw0.get() {
                    0b000 => "Not changeable. ",
                    0b100 => "Changeable. ",
                    0b110 => "Changeable, per namespace. ",
                    other => panic!("{other:#b}"),
                };
                Said::Yes
            }
            outcome => {
                assert_eq!(
                    Said::of(&outcome, Status::INVALID_FIELD),
                    Said::No(Status::INVALID_FIELD)
                );
                Said::No(Status::INVALID_FIELD)
            }
        };
        let says = vec![ask(&mut enabled()), ask(&mut discovery().0)];
        (says, more.to_owned())
    });
}

fn log_pages(out: &mut String) {
    let mut table = Table { out, notes: notes::LOGS, name: page::name };
    table.begin("Log pages", "| LID | Page | I/O | Discovery | Contents | Tests |");
    table.rows(|lid| {
        let ask =
            |c: &mut Controller| Said::of(&run(c, &log(lid, 0, 64), 64), Status::INVALID_LOG_PAGE);
        (vec![ask(&mut enabled()), ask(&mut discovery().0)], String::new())
    });
}

fn identify_structures(out: &mut String) {
    let mut table = Table { out, notes: notes::IDENTIFY, name: cns::name };
    table.begin("Identify", "| CNS | Structure | I/O | Discovery | Contents | Tests |");
    table.rows(|cns| {
        let ask = |c: &mut Controller| {
            let mut sqe = identify(cns, 1);
            // Of the controller that is asked.
            sqe.set_cdw(10, u32::from(cns) | 0xffff << 16);
            Said::of(&run(c, &sqe, 4096), Status::INVALID_FIELD)
        };
        (vec![ask(&mut enabled()), ask(&mut discovery().0)], String::new())
    });
}

/// Fields by name, in order, as they are printed.
#[derive(Default, Clone, PartialEq)]
struct Shown(Vec<(String, String)>);

impl FieldSink for Shown {
    fn field(&mut self, field: Field<'_>) {
        let mut value = match field.value {
            Value::Number(value) => value.to_string(),
            Value::Hex(value) => format!("{value:#x}"),
            Value::Bool(value) => value.to_string(),
            Value::Text(text) => text.to_string(),
            Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            Value::Object(_) => String::new(),
            // A list of structures, one line each.
            Value::List(list) => {
                let mut lines = Vec::new();
                list.each(&mut |value| {
                    if let Value::Object(object) = value {
                        lines.push(nvme_spec::print::Line(object).to_string());
                    }
                });
                lines.join("; ")
            }
            _ => panic!("a value of a new kind"),
        };
        if let Some(meaning) = field.meaning {
            write!(value, " ({meaning})").unwrap();
        }
        self.0.push((field.name.to_owned(), value));
    }
}

fn shown(fields: &dyn Fields) -> Shown {
    let mut shown = Shown::default();
    fields.fields(&mut shown);
    shown
}

/// The fields of a structure; those that are not the same in `one` and `other` vary.
fn fields(out: &mut String, title: &str, one: &dyn Fields, other: &dyn Fields) {
    writeln!(out, "\n## {title}\n\n| Field | Value |\n|---|---|").unwrap();
    let (one, other) = (shown(one).0, shown(other).0);
    assert_eq!(one.len(), other.len());
    for ((name, value), (same, varied)) in one.into_iter().zip(other) {
        assert_eq!(name, same);
        let value = if value == varied { value } else { "varies".to_owned() };
        writeln!(out, "| `{name}` | {value} |").unwrap();
    }
}

/// Two subsystems that have as little in common as can be.
fn unlike() -> [Controller; 2] {
    let ns = |nsid, spec: &str| Namespace::open(nsid, &spec.parse().unwrap()).unwrap();
    let one = Subsystem::builder(nqn(NQN)).with(ns(1, "mem:1M,bs=512")).firmware("1").build();
    let other = Subsystem::builder(nqn("nqn.2026-01.org.example:others"))
        .with(ns(1, "mem:2M,bs=4096").ana_group(2).write_protected(true).eui64([7; 8]))
        .persistence(Arc::new(Kept::default()))
        .with(ns(9000, "null:1M"))
        .firmware("2")
        .model("another")
        .controller_ids(5, 9)
        .static_controllers(2)
        .build();
    [(one, ControllerChoice::Dynamic), (other, ControllerChoice::StaticAny)].map(
        |(subsystem, controller)| {
            let request = ConnectRequest { controller, ..request(1) };
            let port = Arc::new(Port::none());
            enabled_for(subsystem.unwrap().connect_admin(&request, &port).unwrap())
        },
    )
}

fn identify_fields(out: &mut String) {
    let [mut one, mut other] = unlike();
    let mut both = |sqe: Sqe| [data(&mut one, &sqe, 4096), data(&mut other, &sqe, 4096)];
    macro_rules! table {
        ($title:literal, $type:ty, $cns:expr) => {
            let [a, b] = both(identify($cns, 1));
            let structure = |bytes: &[u8]| <$type>::read_from_bytes(bytes).unwrap();
            fields(out, $title, &structure(&a), &structure(&b));
        };
    }
    table!("Fields of Identify Controller, I/O", IdentifyController, cns::CONTROLLER);
    let ask = || {
        let bytes = data(&mut discovery().0, &identify(cns::CONTROLLER, 0), 4096);
        IdentifyController::read_from_bytes(&bytes).unwrap()
    };
    let (one_discovery, mut other_discovery) = (ask(), ask());
    // Whatever a release is called.
    other_discovery.fr = [b'x'; 8];
    let title = "Fields of Identify Controller, discovery";
    fields(out, title, &one_discovery, &other_discovery);
    table!("Fields of Identify Namespace", IdentifyNamespace, cns::NAMESPACE);
    table!(
        "Fields of I/O Command Set Independent Identify Namespace",
        IndependentNamespace,
        cns::INDEPENDENT_NAMESPACE
    );
    table!(
        "Fields of I/O Command Set Specific Identify Namespace, NVM",
        IdentifyNamespaceNvm,
        cns::CSI_NAMESPACE
    );
    table!(
        "Fields of I/O Command Set Specific Identify Controller, NVM",
        IdentifyControllerNvm,
        cns::CSI_CONTROLLER
    );
}
