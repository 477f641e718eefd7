//! The kernel's target against a fake that has the kernel's rules.

mod any;
mod fake;
mod refused;

use std::path::PathBuf;
use std::sync::LazyLock;

use nvme_spec::Nqn;
use nvmf_storage::{Backend, BlockSize};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::Namespace;
use fake::Fake;

/// Files for namespaces, in the build directory: /tmp may be a file system without direct I/O.
struct Images(TempDir);

static IMAGES: LazyLock<Images> = LazyLock::new(|| {
    let program = std::env::current_exe().unwrap();
    let directory = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    for name in ["a", "b", "c", "held"] {
        let file = std::fs::File::create(directory.path().join(name)).unwrap();
        file.set_len(1 << 20).unwrap();
    }
    Images(directory)
});

impl Images {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A source with the blocks that nvmet has of it.
    fn source(&self, name: &str, direct: bool) -> String {
        let path = self.path(name);
        let bytes = blocks::size(&path, !direct).unwrap();
        BlockSize::new(bytes).unwrap_or_else(|error| {
            panic!("{error}; set CARGO_TARGET_DIR to a file system whose blocks are such")
        });
        let direct = if direct { ",direct" } else { "" };
        format!("file:{},bs={bytes}{direct}", path.display())
    }
}

fn target(fake: &Fake) -> KernelTarget {
    KernelTarget { fs: Box::new(fake.clone()) }
}

fn wanted(toml: &str) -> Wanted {
    Wanted::from_toml(toml).unwrap_or_else(|error| panic!("{error}\n{toml}"))
}

/// One subsystem on one port, with what is put under the subsystem, and namespace 1.
fn simple(more: &str) -> String {
    let source = IMAGES.source("a", false);
    format!(
        r#"
[[port]]
listen = "192.0.2.7:4420"
[[subsystem]]
nqn = "nqn.2026-01.org.example:a"
{more}
[[subsystem.namespace]]
source = "{source}"
"#
    )
}

const ANY: &str = "hosts = \"any\"";

/// Makes the kernel's target what is wanted, and sees that there is nothing left to do.
#[track_caller]
fn apply(fake: &Fake, toml: &str) -> Vec<String> {
    let (kernel, wanted) = (target(fake), wanted(toml));
    let plan = kernel.plan(&wanted).unwrap();
    kernel.apply(&plan).unwrap_or_else(|error| panic!("{error}\n{:#?}", plan.steps()));
    let again = kernel.plan(&wanted).unwrap();
    assert_eq!(again.steps(), [], "{:#?}", plan.steps());
    plan.steps().iter().map(Step::to_string).collect()
}

#[test]
fn a_target_comes_into_being_step_by_step() {
    let steps = apply(&Fake::new(), &simple("hosts = [\"nqn.2026-01.org.example:h\"]"));
    let path = IMAGES.path("a");
    let uuid = "subsystems/nqn.2026-01.org.example:a/namespaces/1/device_uuid";
    let (uuids, steps): (Vec<_>, Vec<_>) =
        steps.into_iter().partition(|step| step.contains("/device_uuid") || step.contains("nguid"));
    assert!(uuids.len() == 2 && uuids[0].ends_with(uuid), "{uuids:?}");
    let serial = nvmf::controller::SerialNumber::derived(
        &Nqn::parse_strict("nqn.2026-01.org.example:a").unwrap(),
    );
    assert_eq!(
        steps,
        [
            "mkdir hosts/nqn.2026-01.org.example:h".to_owned(),
            "mkdir subsystems/nqn.2026-01.org.example:a".into(),
            format!(
                "write {} to subsystems/nqn.2026-01.org.example:a/attr_serial",
                serial.as_str()
            ),
            "write nvmf to subsystems/nqn.2026-01.org.example:a/attr_model".into(),
            "link subsystems/nqn.2026-01.org.example:a/allowed_hosts/nqn.2026-01.org.example:h to \
             hosts/nqn.2026-01.org.example:h"
                .into(),
            "mkdir subsystems/nqn.2026-01.org.example:a/namespaces/1".into(),
            format!(
                "write {} to subsystems/nqn.2026-01.org.example:a/namespaces/1/device_path",
                path.display()
            ),
            "write 1 to subsystems/nqn.2026-01.org.example:a/namespaces/1/buffered_io".into(),
            "write 1 to subsystems/nqn.2026-01.org.example:a/namespaces/1/enable".into(),
            "mkdir ports/1".into(),
            "write tcp to ports/1/addr_trtype".into(),
            "write ipv4 to ports/1/addr_adrfam".into(),
            "write 192.0.2.7 to ports/1/addr_traddr".into(),
            "write 4420 to ports/1/addr_trsvcid".into(),
            "write 16384 to ports/1/param_inline_data_size".into(),
            "link ports/1/subsystems/nqn.2026-01.org.example:a to \
             subsystems/nqn.2026-01.org.example:a"
                .into(),
        ]
    );
}

#[test]
fn hosts_find_the_disks_of_nvmf_serve() {
    let wanted = wanted(&simple(ANY));
    let subsystem = &wanted.state.subsystems["nqn.2026-01.org.example:a"];
    let namespace = &subsystem.namespaces["1"];
    // What the target in user space makes of the same.
    let nqn = Nqn::parse_strict("nqn.2026-01.org.example:a").unwrap();
    let spec: nvmf_storage::NamespaceSpec = IMAGES.source("a", false).parse().unwrap();
    let source = match spec.source.clone() {
        nvmf_storage::Source::File { path, direct, .. } => {
            nvmf_storage::Source::File { path, direct, read_only: true }
        }
        other => other,
    };
    let spec = nvmf_storage::NamespaceSpec { source, ..spec };
    let served = Namespace::open(1, &spec).unwrap();
    let served = crate::Subsystem::builder(nqn.clone()).with(served).build().unwrap();
    let description = served.namespace(1).unwrap().description();
    let text = |bytes| nvme_spec::nqn::UuidText(bytes).to_string();
    assert_eq!(namespace.get(a::DEVICE_UUID), Some(text(description.uuid).as_str()));
    assert_eq!(namespace.get(a::DEVICE_NGUID), Some(text(description.nguid).as_str()));
    assert_eq!(subsystem.attributes.get(a::MODEL), Some(crate::limits::MODEL));
}

#[test]
fn only_what_differs_is_touched() {
    let fake = Fake::new();
    apply(&fake, &simple(ANY));
    fake.nvmet().discover();
    let steps = apply(&fake, &simple("hosts = [\"nqn.2026-01.org.example:h\"]"));
    assert_eq!(
        steps,
        [
            "mkdir hosts/nqn.2026-01.org.example:h",
            "write 0 to subsystems/nqn.2026-01.org.example:a/attr_allow_any_host",
            "link subsystems/nqn.2026-01.org.example:a/allowed_hosts/nqn.2026-01.org.example:h to \
             hosts/nqn.2026-01.org.example:h",
        ]
    );
    let steps = apply(&fake, &simple("hosts = \"any\"\nmax-io-queues = 4\ncntlid-min = 5"));
    assert_eq!(
        steps,
        [
            "unlink subsystems/nqn.2026-01.org.example:a/allowed_hosts/nqn.2026-01.org.example:h",
            "write 1 to subsystems/nqn.2026-01.org.example:a/attr_allow_any_host",
            "write 5 to subsystems/nqn.2026-01.org.example:a/attr_cntlid_min",
            "write 4 to subsystems/nqn.2026-01.org.example:a/attr_qid_max",
            "rmdir hosts/nqn.2026-01.org.example:h",
        ]
    );
}

#[test]
fn what_a_host_was_told_does_not_change_under_it() {
    let fake = Fake::new();
    apply(&fake, &simple(ANY));
    fake.nvmet().discover();
    let steps = apply(&fake, &simple("hosts = \"any\"\nserial = \"S2\""));
    assert_eq!(steps[0], "unlink ports/1/subsystems/nqn.2026-01.org.example:a");
    assert_eq!(steps[2], "rmdir subsystems/nqn.2026-01.org.example:a");
    assert_eq!(steps[3], "mkdir subsystems/nqn.2026-01.org.example:a");
}

#[test]
fn a_namespace_is_never_in_a_group_that_its_port_does_not_have() {
    let fake = Fake::new();
    let moved = format!("{}ana-group = 2\n", simple(ANY));
    apply(&fake, &simple(ANY));
    let grouped = "write 2 to subsystems/nqn.2026-01.org.example:a/namespaces/1/ana_grpid";
    let made = ["mkdir ports/1/ana_groups/2", "write optimized to ports/1/ana_groups/2/ana_state"];
    assert_eq!(apply(&fake, &moved), [made[0], made[1], grouped]);
    let back = grouped.replace("write 2", "write 1");
    assert_eq!(apply(&fake, &simple(ANY)), [&back, "rmdir ports/1/ana_groups/2"]);
}

#[test]
fn the_range_of_identifiers_never_has_its_ends_exchanged() {
    let fake = Fake::new();
    for range in [(1, 10), (11, 20), (5, 15), (16, 17), (1, 2), (1, 65519)] {
        let (min, max) = range;
        apply(&fake, &simple(&format!("{ANY}\ncntlid-min = {min}\ncntlid-max = {max}")));
    }
}

#[test]
fn hosts_that_may_no_more_and_keys_that_stay_are_noted() {
    let fake = Fake::new();
    let two = "hosts = [\"nqn.2026-01.org.example:h\", \"nqn.2026-01.org.example:i\"]";
    apply(&fake, &simple(two));
    fake.sh("echo hosts/nqn.2026-01.org.example:h/dhchap_key DHHC-1:00:c2VjcmV0:");
    let one = wanted(&simple("hosts = [\"nqn.2026-01.org.example:h\"]"));
    let plan = target(&fake).plan(&one).unwrap();
    let notes = plan.notes();
    assert!(notes[0].contains("stay until they disconnect"), "{notes:?}");
    assert!(notes[1].starts_with("host nqn.2026-01.org.example:h: it has a key"), "{notes:?}");
    assert_eq!(notes.len(), 2);
    assert!(!format!("{plan:?}").contains("c2VjcmV0"));
    assert_eq!(target(&fake).plan(&wanted(&simple(two))).unwrap().notes().len(), 1);
}

#[test]
fn keys_come_back_and_are_not_shown() {
    let fake = Fake::new();
    apply(&fake, &simple("hosts = [\"nqn.2026-01.org.example:h\"]"));
    fake.sh("echo hosts/nqn.2026-01.org.example:h/dhchap_key DHHC-1:00:c2VjcmV0:");
    let before = State::read(&fake).unwrap();
    let plan = target(&fake).plan_clear().unwrap();
    target(&fake).apply(&plan).unwrap();
    let steps = plan::plan(&State::read(&fake).unwrap(), &before).unwrap();
    assert_eq!(steps[1].to_string(), "write (a key) to hosts/nqn.2026-01.org.example:h/dhchap_key");
    let json = serde_json::to_string(&steps).unwrap();
    assert!(!json.contains("c2VjcmV0") && !format!("{steps:?}").contains("c2VjcmV0"), "{json}");
    for step in steps {
        step.take(&fake).unwrap();
    }
    assert_eq!(State::read(&fake).unwrap(), before);
}

#[test]
fn a_step_that_fails_says_what_and_why_and_what_became_of_the_rest() {
    let fake = Fake::new();
    let wanted = wanted(&simple(ANY));
    let kernel = target(&fake);
    let plan = kernel.plan(&wanted).unwrap();
    fake.nvmet().fails_at = Some(0);
    let error = kernel.apply(&plan).unwrap_err().to_string();
    assert!(error.starts_with("cannot mkdir subsystems/nqn.2026-01.org.example:a: "), "{error}");
    assert!(error.ends_with("; nothing was changed"), "{error}");

    let fake = Fake::new();
    fake.nvmet().lacks.insert("attr_model");
    let kernel = target(&fake);
    let plan = kernel.plan(&wanted).unwrap();
    let error = kernel.apply(&plan).unwrap_err().to_string();
    let said = "cannot write nvmf to subsystems/nqn.2026-01.org.example:a/attr_model: No such file";
    assert!(error.starts_with(said), "{error}");
    assert!(error.ends_with("(this kernel has no such file); what had been done was undone"));
    assert_eq!(State::read(&fake).unwrap(), State::empty());
}

#[test]
fn what_cannot_be_undone_is_said() {
    let fake = Fake::new();
    let image = tempfile::NamedTempFile::new_in(IMAGES.0.path()).unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let first = simple(ANY)
        .replace(&IMAGES.path("a").display().to_string(), &image.path().display().to_string());
    apply(&fake, &first);
    let plan = target(&fake).plan(&wanted(&simple(ANY))).unwrap();
    drop(image);
    // The last step, when the namespace has its new file.
    let last = fake.nvmet().changes + plan.steps().len() - 1;
    fake.nvmet().fails_at = Some(last);
    let error = target(&fake).apply(&plan).unwrap_err();
    assert!(
        matches!(&error, KernelError::Step { undone: Undone::But(these), .. } if these.len() == 1)
    );
    let error = error.to_string();
    let said = "what had been done was undone, except: cannot write 1 to \
                subsystems/nqn.2026-01.org.example:a/namespaces/1/enable: No such file";
    assert!(error.contains(said), "{error}");
}

#[test]
fn a_file_that_somebody_else_writes_is_not_served() {
    let spec: nvmf_storage::NamespaceSpec = IMAGES.source("held", false).parse().unwrap();
    let toml = simple(ANY).replace(&IMAGES.source("a", false), &IMAGES.source("held", false));
    let fake = Fake::new();
    let held: Box<dyn Backend> = spec.open().unwrap();
    let error = target(&fake).plan(&wanted(&toml)).unwrap_err();
    let said = "namespace 1 of nqn.2026-01.org.example:a: cannot serve ";
    assert!(error.to_string().starts_with(said), "{error}");
    assert!(matches!(error, KernelError::InUse { nsid: 1, .. }));
    drop(held);
    apply(&fake, &toml);
    // What the kernel serves already is not asked again.
    let _held = spec.open().unwrap();
    apply(&fake, &toml);
}

#[test]
fn a_kernel_that_lacks_something_says_so_before_anything_is_done() {
    let fake = Fake::new();
    fake.nvmet().lacks.extend(["attr_firmware", "discovery_nqn"]);
    apply(&fake, &simple(ANY));
    let changes = fake.nvmet().changes;
    for (toml, said) in [
        (
            simple("hosts = \"any\"\nfirmware = \"1.0\""),
            "attr_firmware, which would have to be 1.0",
        ),
        (
            format!("[discovery]\nnqn = \"nqn.2026-01.org.example:d\"\n{}", simple(ANY)),
            "discovery_nqn, which would",
        ),
    ] {
        let error = target(&fake).plan(&wanted(&toml)).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("leave out `"), "{error}");
    }
    assert_eq!(fake.nvmet().changes, changes);
}

#[test]
fn everything_that_is_not_in_the_file_goes() {
    let fake = Fake::new();
    foreign(&fake);
    apply(&fake, &simple(ANY));
    let state = State::read(&fake).unwrap();
    assert_eq!(state.hosts.len(), 0);
    assert_eq!(state.subsystems.keys().collect::<Vec<_>>(), ["nqn.2026-01.org.example:a"]);
    assert_eq!(state.ports.keys().collect::<Vec<_>>(), ["1"]);
}

#[test]
fn clear_takes_all_of_it_away() {
    let fake = Fake::new();
    foreign(&fake);
    let plan = target(&fake).plan_clear().unwrap();
    target(&fake).apply(&plan).unwrap();
    assert_eq!(State::read(&fake).unwrap(), State::empty());
    assert_eq!(target(&fake).plan_clear().unwrap().steps(), []);
}

/// What somebody else may have set up: another transport, names of another kind, things half done.
fn foreign(fake: &Fake) {
    let path = IMAGES.path("b");
    fake.sh(&format!(
        "mkdir hosts/somebody
         mkdir hosts/nqn.2026-01.org.example:h0
         echo hosts/nqn.2026-01.org.example:h0/dhchap_key DHHC-1:00:c2VjcmV0:
         mkdir subsystems/testnqn
         echo subsystems/testnqn/attr_vendor_id 0x1d0f
         ln hosts/somebody subsystems/testnqn/allowed_hosts/me
         mkdir subsystems/testnqn/namespaces/7
         echo subsystems/testnqn/namespaces/7/device_path {}
         echo subsystems/testnqn/namespaces/7/resv_enable 1
         echo subsystems/testnqn/namespaces/7/enable 1
         mkdir subsystems/testnqn/namespaces/0x8
         mkdir subsystems/nqn.2026-01.org.example:s0
         mkdir subsystems/nqn.2026-01.org.example:s0/namespaces/1
         echo subsystems/nqn.2026-01.org.example:s0/passthru/device_path /dev/nvme0
         echo subsystems/nqn.2026-01.org.example:s0/passthru/enable 1
         mkdir ports/1
         mkdir ports/1/referrals/other
         mkdir ports/1/ana_groups/5
         mkdir ports/2
         echo ports/2/addr_trtype loop
         echo ports/2/addr_adrfam loop
         ln subsystems/testnqn ports/2/subsystems/link
         mkdir ports/0x30",
        path.display()
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn any_target_becomes_any_other(
        first in any::config(),
        second in any::config(),
        (strange, old) in (proptest::bool::ANY, proptest::bool::ANY),
        fails_at in proptest::option::of(0_usize..60),
    ) {
        let fake = Fake::new();
        if old {
            fake.nvmet().lacks.extend([
                "discovery_nqn", "attr_ieee_oui", "addr_tsas", "param_max_queue_size",
                "param_mdts", "resv_enable", "passthru",
            ]);
        }
        if strange && !old {
            foreign(&fake);
        }
        let kernel = target(&fake);
        for config in [&first, &second] {
            let wanted = Wanted::new(config).unwrap();
            let Ok(plan) = kernel.plan(&wanted) else {
                // Only what an old kernel lacks may stand in the way.
                prop_assert!(old && config.discovery.nqn.is_some());
                return Ok(());
            };
            let before = State::read(&fake).unwrap();
            // First so that it fails, if it does.
            let changes = fake.nvmet().changes;
            fake.nvmet().fails_at = fails_at.map(|n| changes + n);
            let done = kernel.apply(&plan);
            fake.nvmet().fails_at = None;
            if fails_at.is_some_and(|n| n < plan.steps().len()) {
                let error = done.unwrap_err();
                let undone = matches!(
                    error,
                    KernelError::Step { undone: Undone::All | Undone::Nothing, .. }
                );
                prop_assert!(undone, "{}", error);
                let back = plan::plan(&State::read(&fake).unwrap(), &before).unwrap();
                prop_assert_eq!(back, vec![], "{}", error);
                kernel.apply(&kernel.plan(&wanted).unwrap()).unwrap();
            } else {
                done.map_err(|error| TestCaseError::fail(format!("{error}\n{:#?}", plan.steps())))?;
            }
            let state = State::read(&fake).unwrap();
            let same = |these: Vec<&String>, those: Vec<&String>| these == those;
            prop_assert!(same(state.hosts.keys().collect(), wanted.state.hosts.keys().collect()));
            prop_assert!(same(state.ports.keys().collect(), wanted.state.ports.keys().collect()));
            prop_assert_eq!(fake.nvmet().listening(), wanted.state.ports.len());
            for (name, subsystem) in &wanted.state.subsystems {
                let there = &state.subsystems[name];
                prop_assert!(same(
                    there.namespaces.keys().collect(),
                    subsystem.namespaces.keys().collect()
                ));
                for (nsid, namespace) in &subsystem.namespaces {
                    for (file, value) in namespace.iter() {
                        prop_assert_eq!(there.namespaces[nsid].get(file), Some(value), "{}", file);
                    }
                }
            }
            let again = kernel.plan(&wanted).unwrap();
            prop_assert_eq!(again.steps(), &[], "{:#?}", plan.steps());
            fake.nvmet().discover();
        }
        // What was saved is the same target again.
        let (saved, warnings) = kernel.save().unwrap();
        let about: Vec<String> = warnings.iter().map(Warning::to_string).collect();
        prop_assert!(about.iter().all(|about| about.contains("keys are left out")), "{:#?}", about);
        prop_assert!(saved.resolve().is_ok());
        let same = kernel.plan(&Wanted::from_toml(&saved.to_toml()).unwrap()).unwrap();
        prop_assert_eq!(same.steps(), &[], "{}", saved.to_toml());
    }
}
