use std::net::TcpStream;
use std::num::NonZeroU64;
use std::path::Path;
use std::thread::JoinHandle;

use super::*;
use crate::TargetError;
use crate::config;

const NQN: &str = "nqn.2026-01.org.example:disks";

fn nqn() -> Nqn {
    Nqn::parse_strict(NQN).unwrap()
}

/// A managed target that runs.
struct Running {
    manager: Arc<Manager>,
    thread: Option<JoinHandle<Result<(), TargetError>>>,
}

impl Running {
    fn start(layout: Layout, state: Option<StateFile>) -> Self {
        let (target, manager) = Manager::start(layout, Target::builder().cores(1), state).unwrap();
        Self { manager, thread: Some(std::thread::spawn(|| target.run())) }
    }

    fn nsids(&self) -> Vec<u32> {
        let subsystem = &self.manager.handle().subsystems()[0];
        subsystem.namespaces().iter().map(|ns| ns.nsid()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.manager.handle().shutdown();
        let _ = self.thread.take().unwrap().join();
    }
}

/// One port and one subsystem with these namespaces.
fn layout(sources: &[&str]) -> Layout {
    let mut text = format!("[[port]]\nlisten = \"127.0.0.1:0\"\n[[subsystem]]\nnqn = \"{NQN}\"\n");
    for source in sources {
        text.push_str(&format!("[[subsystem.namespace]]\nsource = \"{source}\"\n"));
    }
    Layout::from_toml(&text).unwrap()
}

fn add(config: &mut Config, source: &str) {
    let ns = config::Namespace { source: source.into(), ..Default::default() };
    config.subsystems[0].namespaces.push(ns);
}

fn image(folder: &Path, name: &str, bytes: u64) -> String {
    let path = folder.join(name);
    std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
    format!("file:{}", path.display())
}

#[test]
fn a_change_takes_place_or_nothing_does() {
    let running = Running::start(layout(&["mem:1M"]), None);
    let applied = running.manager.edit(|config| {
        add(config, "mem:2M");
        Ok(())
    });
    assert_eq!(applied.unwrap().changes, 1);
    assert_eq!(running.nsids(), [1, 2]);
    // One that cannot be opened keeps out the one that can.
    let failed = running.manager.edit(|config| {
        add(config, "mem:3M");
        add(config, "file:/nonexistent/disk.img");
        Ok(())
    });
    assert!(matches!(failed, Err(ManageError::Open { nsid: 4, .. })), "{failed:?}");
    assert_eq!(running.nsids(), [1, 2]);
    assert_eq!(running.manager.layout().subsystems()[&nqn()].namespaces.len(), 2);
    // An address that is taken likewise.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let failed = running.manager.edit(|config| {
        add(config, "mem:3M");
        let listen = taken.local_addr().unwrap().to_string();
        config.ports.push(config::Port { listen, ..Default::default() });
        Ok(())
    });
    assert!(matches!(failed, Err(ManageError::Target(TargetError::Bind { .. }))), "{failed:?}");
    assert_eq!(running.nsids(), [1, 2]);
    // What is not right is not tried.
    let failed = running.manager.edit(|config| {
        config.subsystems[0].namespaces[1].id = Some(1);
        Ok(())
    });
    assert!(matches!(failed, Err(ManageError::Config(_))), "{failed:?}");
    assert_eq!(running.manager.edit(|_| Ok(())).unwrap().changes, 0);
}

#[test]
fn everything_in_a_layout_can_change_while_it_runs() {
    let running = Running::start(layout(&["mem:1M", "mem:1M"]), None);
    let handle = running.manager.handle();
    let address = handle.ports()[0].address();
    let next = r#"
        [discovery]
        nqn = "nqn.2026-01.org.example:directory"
        [[discovery.referral]]
        address = "192.0.2.1:8009"
        [[port]]
        id = 2
        listen = "127.0.0.1:0"
        subsystems = ["nqn.2026-01.org.example:disks"]
        ana = { 3 = "inaccessible" }
        [[subsystem]]
        nqn = "nqn.2026-01.org.example:disks"
        hosts = ["nqn.2026-01.org.example:host1"]
        max-io-queues = 3
        cntlid-min = 100
        [[subsystem.namespace]]
        id = 1
        source = "mem:2M"
        ana-group = 3
        read-only = true
        hosts = ["nqn.2026-01.org.example:host1"]
        [[subsystem]]
        nqn = "nqn.2026-01.org.example:more"
    "#;
    let applied = running.manager.apply(Layout::from_toml(next).unwrap()).unwrap();
    assert_eq!(applied.warnings, [""; 0]);
    assert!(TcpStream::connect(address).is_err(), "port 1 is gone");
    let ports = handle.ports();
    assert!(TcpStream::connect(ports[0].address()).is_ok());
    assert_eq!((ports.len(), ports[0].id()), (1, 2));
    assert_eq!(ports[0].ana(3), nvme_spec::log::AnaState::Inaccessible);
    let subsystems = handle.subsystems();
    assert_eq!(subsystems.len(), 2);
    let (disks, ns) = (&subsystems[0], subsystems[0].namespace(1).unwrap());
    assert_eq!(disks.max_io_queues(), 3);
    let host = |n: u8| crate::testing::request(n).host;
    assert!(disks.hosts().allow(&host(1)) && !disks.hosts().allow(&host(2)));
    assert_eq!((ns.backend().geometry().bytes(), ns.ana_group()), (2 << 20, 3));
    assert!(ns.is_read_only() && !ns.is_visible_to(&host(2)));
    assert!(disks.namespace(2).is_none());
}

#[test]
fn limits_hold_from_the_start_and_change() {
    let limited = |limits: &str| {
        let text = layout(&["mem:1M"]).config().to_toml();
        Layout::from_toml(&format!("{text}[subsystem.namespace.limits]\n{limits}\n")).unwrap()
    };
    let running = Running::start(limited("write-iops = 5\nread-bandwidth = \"1M\""), None);
    let now = || running.manager.handle().namespace(&nqn(), 1).unwrap().limits();
    assert_eq!(now().write_iops, NonZeroU64::new(5));
    assert_eq!(now().read_bandwidth, NonZeroU64::new(1 << 20));
    let _ = running.manager.apply(limited("iops = 7\nread-iops = 8")).unwrap();
    let changed = crate::Limits {
        iops: NonZeroU64::new(7),
        read_iops: NonZeroU64::new(8),
        ..crate::Limits::default()
    };
    assert_eq!(now(), changed);
    let _ = running.manager.apply(limited("bandwidth = 9\nwrite-bandwidth = 10")).unwrap();
    let changed = crate::Limits {
        bandwidth: NonZeroU64::new(9),
        write_bandwidth: NonZeroU64::new(10),
        ..crate::Limits::default()
    };
    assert_eq!(now(), changed);
}

#[test]
fn a_file_goes_from_one_namespace_to_another_in_one_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = image(folder.path(), "a.img", 1 << 20);
    let running = Running::start(layout(&[&file]), None);
    let applied = running.manager.apply(layout(&[&format!("{file},bs=512")])).unwrap();
    assert_eq!(applied.changes, 2);
    let ns = running.manager.handle().namespace(&nqn(), 1).unwrap();
    assert_eq!(ns.backend().geometry().block_size(), 512);
    // It would be waited for.
    drop(ns);
    // Not if it could not be served so: 4096 is not a divisor of its size then.
    let odd = image(folder.path(), "b.img", 1536);
    let _ = running.manager.apply(layout(&[&format!("{odd},bs=512")])).unwrap();
    let failed = running.manager.apply(layout(&[&odd]));
    assert!(matches!(failed, Err(ManageError::Open { nsid: 1, .. })), "{failed:?}");
    assert_eq!(running.nsids(), [1], "it is still there");
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let base = layout(&["mem:1M"]);
    let running = changed_with_a_state(&path, &base);
    let _ = running.manager.resize(&nqn(), 1, Some(8 << 20)).unwrap();
    let layout_then = running.manager.layout();
    // Whatever happens to the process now, the file is whole.
    let (_, found) = after_a_crash(&path, &base);
    assert_eq!(found, layout_then);
    assert_eq!(found.subsystems()[&nqn()].namespaces[&1].spec.to_string(), "mem:8M");
    drop(running);
    // A configuration that was edited meanwhile counts, and what was there is kept.
    let edited = layout(&["mem:3M"]);
    let (_, found) = StateFile::open(&path, &edited).unwrap();
    assert_eq!(found, edited);
    assert!(folder.path().join("state.json.before").exists() && !path.exists());
}

#[test]
fn a_reload_makes_the_file_the_truth_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let base = layout(&["mem:1M"]);
    let running = changed_with_a_state(&path, &base);
    let edited = layout(&["mem:1M", "null:1G", "null:2G"]);
    let _ = running.manager.reload(edited.clone()).unwrap();
    assert_eq!(running.nsids(), [1, 2, 3]);
    assert_eq!(after_a_crash(&path, &edited).1, edited);
}

/// A target that keeps its state there, and has got a disk since it was started.
fn changed_with_a_state(path: &Path, base: &Layout) -> Running {
    let (state, found) = StateFile::open(path, base).unwrap();
    assert_eq!(&found, base);
    let running = Running::start(found, Some(state));
    let _ = running
        .manager
        .edit(|config| {
            add(config, "mem:2M");
            Ok(())
        })
        .unwrap();
    running
}

/// What a target finds that is started after this moment. The file itself is still another's.
fn after_a_crash(path: &Path, base: &Layout) -> (StateFile, Layout) {
    let shared = StateFile::open(path, base);
    assert!(matches!(shared, Err(StateError::InUse { .. })), "{shared:?}");
    let copy = path.with_file_name("copy.json");
    std::fs::copy(path, &copy).unwrap();
    StateFile::open(&copy, base).unwrap()
}

#[test]
fn a_state_that_cannot_be_written_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("gone");
    std::fs::create_dir(&inside).unwrap();
    let base = layout(&["mem:1M"]);
    let (state, found) = StateFile::open(inside.join("state.json"), &base).unwrap();
    let running = Running::start(found, Some(state));
    std::fs::remove_dir_all(&inside).unwrap();
    let failed = running.manager.edit(|config| {
        add(config, "mem:2M");
        Ok(())
    });
    assert!(matches!(failed, Err(ManageError::State(StateError::Io { .. }))), "{failed:?}");
    assert_eq!(running.nsids(), [1]);
}

#[test]
fn a_file_that_is_no_state_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    for text in ["", "{}", "{\"version\":\"2\",\"base\":{},\"running\":{}}"] {
        std::fs::write(&path, text).unwrap();
        let error = StateFile::open(&path, &layout(&[])).unwrap_err();
        assert!(matches!(error, StateError::Format { .. }), "{text}: {error}");
    }
}

#[test]
fn a_namespace_gets_larger_and_never_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let file = image(folder.path(), "a.img", 1 << 20);
    let running = Running::start(layout(&["mem:1M", &file]), None);
    let manager = &running.manager;
    assert_eq!(manager.resize(&nqn(), 1, Some(2 << 20)).unwrap().bytes(), 2 << 20);
    assert_eq!(manager.layout().subsystems()[&nqn()].namespaces[&1].spec.to_string(), "mem:2M");
    assert_eq!(manager.resize(&nqn(), 2, Some(4 << 20)).unwrap().bytes(), 4 << 20);
    image_grows(&folder.path().join("a.img"), 8 << 20);
    assert_eq!(manager.resize(&nqn(), 2, None).unwrap().bytes(), 8 << 20);
    assert!(manager.resize(&nqn(), 1, Some(1 << 20)).unwrap_err().to_string().contains("smaller"));
    assert!(manager.resize(&nqn(), 2, Some(1 << 20)).is_err());
    assert!(manager.resize(&nqn(), 3, None).is_err());
    assert_eq!(manager.layout().subsystems()[&nqn()].namespaces[&1].spec.to_string(), "mem:2M");
}

fn image_grows(path: &Path, bytes: u64) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn what_hosts_left_is_there_after_a_crash_and_goes_with_its_namespace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let file = image(folder.path(), "a.img", 1 << 20);
    let base = layout(&[&file, "mem:1M"]);
    let (state, found) = StateFile::open(&path, &base).unwrap();
    let running = Running::start(found, Some(state.clone()));
    let saved: crate::SavedReservations = serde_json::from_str(
        r#"{"generation":1,"registrants":[{"host":"01010101010101010101010101010101","key":"0x7"}]}"#,
    )
    .unwrap();
    for nsid in [1, 2] {
        let place = state.of(&nqn());
        place.save_reservations(nsid, Some(&saved)).unwrap();
        place.save_protection(nsid, true).unwrap();
        place.save_uncorrectable(nsid, &[3..5, 9..10]).unwrap();
    }
    drop((running, state));

    // Another configuration does not concern what is on the namespaces that it has, too.
    let edited = layout(&[&file, "mem:1M", "mem:1M"]);
    let (state, found) = StateFile::open(&path, &edited).unwrap();
    let running = Running::start(found, Some(state.clone()));
    let ns = |nsid| running.manager.handle().namespace(&nqn(), nsid).unwrap();
    assert_eq!(ns(1).saved_reservations(), Some(saved.clone()));
    assert!(ns(1).is_read_only() && !ns(3).is_read_only());
    assert_eq!((ns(2).saved_reservations(), ns(3).saved_reservations()), (Some(saved), None));

    let left = |nsid| {
        let ns = ns(nsid);
        (ns.is_protected_by_host(), ns.marks().overlaps(4, 5), ns.marks().overlaps(5, 4))
    };
    assert_eq!((left(1), left(3)), ((true, true, false), (false, false, false)));
    assert_eq!(left(2), (true, false, false), "what was marked was in memory");

    // A namespace of the same number that is another disk has nothing of the old one.
    let _ = running.manager.apply(layout(&[&file, "null:1M"])).unwrap();
    assert_eq!((ns(2).saved_reservations(), left(2)), (None, (false, false, false)));
    assert_ne!(state.left(&nqn(), 1), Default::default());
    assert_eq!(state.left(&nqn(), 2), Default::default());
}

#[test]
fn limits_are_those_of_the_configuration() {
    let running = Running::start(layout(&["mem:1M"]), None);
    let limits = || running.manager.handle().namespace(&nqn(), 1).unwrap().limits();
    assert_eq!(limits(), crate::Limits::default());
    let limited = running.manager.edit(|config| {
        let limits = &mut config.subsystems[0].namespaces[0].limits;
        limits.iops = Some(100);
        limits.read_bandwidth = Some("1M".into());
        Ok(())
    });
    assert_eq!(limited.unwrap().changes, 1);
    assert_eq!(limits().iops.map(u64::from), Some(100));
    assert_eq!(limits().read_bandwidth.map(u64::from), Some(1 << 20));
}

#[test]
fn what_the_configuration_says_of_sizes_is_what_subsystems_have() {
    let sized = |most: &str| {
        let text = layout(&["mem:1M"]).config().to_toml();
        let subsystem = format!(
            "nqn = \"{NQN}\"\nmax-transfer = \"{most}\"\nmax-queue-entries = 9\n\
             static-controllers = 2\n"
        );
        Layout::from_toml(&text.replace(&format!("nqn = \"{NQN}\"\n"), &subsystem)).unwrap()
    };
    let running = Running::start(sized("64K"), None);
    let subsystem = || running.manager.handle().subsystems()[0].clone();
    assert_eq!(subsystem().max_transfer().bytes(), 64 << 10);
    assert_eq!(subsystem().max_queue_entries().entries(), 9);
    assert_eq!(subsystem().controller_ids(), [1, 2]);
    assert_eq!(running.manager.apply(sized("8K")).unwrap().changes, 1);
    assert_eq!(subsystem().max_transfer().bytes(), 8 << 10);
}

#[test]
fn another_transport_is_refused_before_anything_is_done() {
    let running = Running::start(layout(&["mem:1M"]), None);
    let failed = running.manager.edit(|config| {
        config.transport.max_connections = Some(5);
        add(config, "mem:2M");
        Ok(())
    });
    assert!(matches!(failed, Err(ManageError::Restart(_))), "{failed:?}");
    let said = failed.unwrap_err().to_string();
    assert!(said.contains("[transport]") && said.contains("start it again"), "{said}");
    assert_eq!(running.nsids(), [1]);
    assert_eq!(running.manager.layout(), layout(&["mem:1M"]));
}

#[test]
fn a_transport_is_what_the_configuration_says_unless_the_builder_said_it() {
    let mut config = layout(&[]).config();
    config.transport.max_connections = Some(1);
    let most = |builder| {
        let (target, _manager) = Manager::start(config.resolve().unwrap(), builder, None).unwrap();
        let handle = target.handle();
        let pairs: Vec<_> = (0..3).map(|_| nvmf::transport::in_process::pair()).collect();
        let (_hosts, controllers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        controllers.into_iter().filter_map(|end| handle.serve(Box::new(end)).ok()).count()
    };
    assert_eq!(most(Target::builder()), 1);
    assert_eq!(most(Target::builder().max_connections(2)), 2);
}
