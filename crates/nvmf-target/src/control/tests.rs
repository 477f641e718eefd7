use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::*;
use crate::config::Layout;
use crate::manage::Manager;
use crate::{Target, TargetError};

const NQN: &str = "nqn.2026-01.org.example:disks";
const HOST: &str = "nqn.2026-01.org.example:host1";

const CONFIG: &str = r#"
[[port]]
listen = "127.0.0.1:0"
[[subsystem]]
nqn = "nqn.2026-01.org.example:disks"
hosts = ["nqn.2026-01.org.example:host1"]
[[subsystem.namespace]]
source = "mem:1M"
"#;

/// A target that is controlled, in a folder of its own.
struct Controlled {
    folder: tempfile::TempDir,
    manager: Arc<Manager>,
    control: Control,
    _server: Server,
    thread: Option<JoinHandle<Result<(), TargetError>>>,
}

impl Controlled {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("target.toml");
        std::fs::write(&file, CONFIG).unwrap();
        let layout = Layout::read(&file).unwrap();
        let (target, manager) = Manager::start(layout, Target::builder().cores(1), None).unwrap();
        let control = Control::new(Arc::clone(&manager), Some(file));
        let socket = folder.path().join("control.sock");
        let server = Server::start(&socket, control.clone()).unwrap();
        let thread = Some(std::thread::spawn(|| target.run()));
        Self { folder, manager, control, _server: server, thread }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("target.toml")
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap()
    }

    fn call(&self, request: &Request) -> Result<Reply, String> {
        self.client().call(request).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn done(&self, request: &Request) -> Done {
        match self.call(request).unwrap() {
            Reply::Done(done) => done,
            other => panic!("{other:?}"),
        }
    }

    fn config(&self) -> Config {
        match self.call(&Request::Config {}).unwrap() {
            Reply::Config(config) => *config,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Controlled {
    fn drop(&mut self) {
        self.manager.handle().shutdown();
        let _ = self.thread.take().unwrap().join();
    }
}

fn parsed(json: &str) -> Request {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

#[test]
fn each_request_does_what_it_says() {
    let target = Controlled::start();
    let ask = |json: &str| target.done(&parsed(&json.replace("SUB", NQN).replace("HOST", HOST)));
    let added = ask(
        r#"{"method":"namespace-add","subsystem":"SUB","namespace":{"source":"mem:2M","ana-group":3}}"#,
    );
    assert_eq!(added.id, Some(2));
    ask(r#"{"method":"namespace-resize","subsystem":"SUB","id":2,"size":"4M"}"#);
    ask(
        r#"{"method":"namespace-set","subsystem":"SUB","id":2,"limits":{"iops":1000},"read-only":true,"hosts":["HOST"]}"#,
    );
    ask(r#"{"method":"host-allow","subsystem":"SUB","host":"nqn.2026-01.org.example:host2"}"#);
    let port = ask(r#"{"method":"port-add","port":{"listen":"127.0.0.1:0"}}"#);
    assert_eq!(port.id, Some(2));
    ask(r#"{"method":"ana-set","port":2,"group":3,"state":"non-optimized"}"#);
    ask(
        r#"{"method":"subsystem-add","subsystem":{"nqn":"nqn.2026-01.org.example:new","hosts":"any"}}"#,
    );
    let config = target.config();
    let ns = &config.subsystems[0].namespaces[1];
    assert_eq!((ns.source.as_str(), ns.limits.iops, ns.read_only), ("mem:4M", Some(1000), true));
    assert_eq!(ns.hosts.as_deref(), Some(&[HOST.to_owned()][..]));
    assert_eq!(config.subsystems[1].hosts, Some(HostList::Any));
    assert_eq!(config.ports[1].ana["3"], "non-optimized");

    ask(r#"{"method":"host-deny","subsystem":"SUB","host":"HOST"}"#);
    ask(r#"{"method":"port-remove","id":2}"#);
    ask(r#"{"method":"subsystem-remove","subsystem":"nqn.2026-01.org.example:new"}"#);
    ask(r#"{"method":"namespace-remove","subsystem":"SUB","id":1}"#);
    let config = target.config();
    assert_eq!((config.ports.len(), config.subsystems.len()), (1, 1));
    let only = HostList::Only(vec!["nqn.2026-01.org.example:host2".to_owned()]);
    assert_eq!(config.subsystems[0].hosts, Some(only));
    assert_eq!(config.subsystems[0].namespaces.len(), 1);
    assert_eq!(config.subsystems[0].namespaces[0].hosts, Some(vec![]), "it was host1's alone");
}

#[test]
fn what_is_not_there_is_named() {
    let target = Controlled::start();
    for (json, says) in [
        (r#"{"method":"namespace-remove","subsystem":"SUB","id":9}"#, "has no namespace 9"),
        (r#"{"method":"namespace-remove","subsystem":"nqn.x","id":1}"#, "no subsystem nqn.x"),
        (r#"{"method":"namespace-resize","subsystem":"SUB","id":1,"size":"1K"}"#, "1K"),
        (r#"{"method":"namespace-resize","subsystem":"SUB","id":1,"size":"512K"}"#, "smaller"),
        (r#"{"method":"port-remove","id":7}"#, "no port 7"),
        (r#"{"method":"ana-set","port":1,"group":40,"state":"optimized"}"#, "32"),
        (r#"{"method":"ana-set","port":1,"group":4,"state":"best"}"#, "optimized"),
        (r#"{"method":"host-deny","subsystem":"SUB","host":"nqn.y"}"#, "nqn.y is not one"),
        (r#"{"method":"host-allow","subsystem":"SUB","host":"y"}"#, "`y`"),
        (r#"{"method":"drop","subsystem":"SUB","cntlid":3}"#, "no controller 3"),
        (r#"{"method":"subsystem-add","subsystem":{"nqn":"x"}}"#, "nqn"),
        (
            r#"{"method":"namespace-add","subsystem":"SUB","namespace":{"source":"file:/no/such"}}"#,
            "/no/such",
        ),
    ] {
        let error = target.call(&parsed(&json.replace("SUB", NQN))).unwrap_err();
        assert!(error.contains(says), "{json}: {error}");
    }
    assert_eq!(target.config(), Layout::from_toml(CONFIG).unwrap().config(), "nothing changed");
}

#[test]
fn status_controllers_and_activity_are_told() {
    let target = Controlled::start();
    let Reply::Status(status) = target.call(&Request::Status {}).unwrap() else { panic!() };
    assert_eq!(status.pid, std::process::id());
    let address = target.manager.handle().ports()[0].address().to_string();
    assert_eq!(status.ports[0].address, address);
    assert_eq!(status.subsystems[0].namespaces[0].blocks, 256);
    assert_eq!(target.call(&Request::Controllers {}).unwrap(), Reply::Controllers(vec![]));
    let Reply::Activity(activity) = target.call(&Request::Activity {}).unwrap() else { panic!() };
    assert_eq!((activity.connections, activity.operations.len()), (0, 0));
}

#[test]
fn an_edited_file_is_applied_and_a_wrong_one_changes_nothing() {
    let target = Controlled::start();
    let edited = format!("{CONFIG}\n[[subsystem.namespace]]\nsource = \"null:1G\"\n");
    std::fs::write(target.file(), &edited).unwrap();
    assert_eq!(target.control.reload().unwrap().changes, 1);
    assert_eq!(target.done(&Request::Reload {}).changes, 0);
    std::fs::write(target.file(), edited.replace("null:1G", "nil:1G")).unwrap();
    let error = target.call(&Request::Reload {}).unwrap_err();
    assert!(error.contains("target.toml:11: subsystem[0].namespace[1].source"), "{error}");
    assert_eq!(target.config().subsystems[0].namespaces.len(), 2);
}

#[test]
fn the_running_configuration_is_saved_and_reads_back() {
    let target = Controlled::start();
    let namespace = config::Namespace { source: "null:1G".into(), ..Default::default() };
    let _ = target
        .done(&Request::NamespaceAdd { subsystem: NQN.into(), namespace: Box::new(namespace) });
    let other = target.folder.path().join("other.toml");
    for path in [Some(other.clone()), None] {
        let Reply::Saved { path } = target.call(&Request::Save { path }).unwrap() else { panic!() };
        assert_eq!(Layout::read(&path).unwrap().config(), target.config());
    }
    assert_eq!(target.done(&Request::Reload {}).changes, 0);
    let nowhere = Request::Save { path: Some("/nonexistent/target.toml".into()) };
    assert!(target.call(&nowhere).unwrap_err().contains("/nonexistent"));
}

#[test]
fn what_is_no_request_is_refused_and_the_connection_goes_on() {
    let target = Controlled::start();
    let stream = UnixStream::connect(target.socket()).unwrap();
    let mut lines = BufReader::new(&stream).lines();
    for text in [
        "",
        "{}",
        "nonsense",
        "{\"method\":\"explode\"}",
        "{\"method\":\"status\",\"more\":1}",
        "{\"method\":\"port-remove\",\"id\":-1}",
        "{\"method\":\"port-remove\"}",
    ] {
        (&stream).write_all(format!("{text}\n").as_bytes()).unwrap();
        let reply: Reply = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert!(matches!(&reply, Reply::Error { message } if message.contains("not a request")));
    }
    (&stream).write_all(b"{\"method\":\"status\"}\n").unwrap();
    assert!(lines.next().unwrap().unwrap().starts_with("{\"status\":"));
}

#[test]
fn a_line_without_an_end_is_not_collected() {
    let target = Controlled::start();
    let mut stream = UnixStream::connect(target.socket()).unwrap();
    let piece = vec![b' '; 1 << 16];
    let mut sent = 0;
    while sent <= MAX_LINE + piece.len() && stream.write_all(&piece).is_ok() {
        sent += piece.len();
    }
    let mut line = String::new();
    let _ = BufReader::new(&stream).read_line(&mut line);
    assert!(line.contains("more than 4 MiB"), "{line}");
}

#[test]
fn clients_are_so_many_and_no_more() {
    let target = Controlled::start();
    let held: Vec<Client> = (0..16)
        .map(|_| {
            let mut client = target.client();
            client.call(&Request::Status {}).unwrap();
            client
        })
        .collect();
    let error = target.client().call(&Request::Status {}).unwrap_err().to_string();
    assert!(error.contains("too many") || error.contains("broke"), "{error}");
    drop(held);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while target.call(&Request::Status {}).is_err() {
        assert!(std::time::Instant::now() < end, "places are free again");
        std::thread::yield_now();
    }
}

#[test]
fn the_socket_is_its_owners_alone_and_one_that_was_left_is_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let target = Controlled::start();
    let mode = std::fs::metadata(target.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = Server::start(&target.socket(), target.control.clone());
    assert!(matches!(again, Err(ServerError::InUse { .. })), "{again:?}");
    let left = target.folder.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    assert!(Server::start(&left, target.control.clone()).is_ok());
    assert!(!left.exists(), "it goes with its server");
    let file = target.file();
    assert!(matches!(Server::start(&file, target.control.clone()), Err(ServerError::Io { .. })));
    assert!(file.exists());
    let had = target.folder.path().join("had.sock");
    let listener = Listener::bind(&had).unwrap();
    assert!(matches!(Listener::bind(&had), Err(ServerError::InUse { .. })));
    let mut early = Client::connect(&had).unwrap();
    let _server = listener.serve(target.control.clone()).unwrap();
    assert!(early.call(&Request::Status {}).is_ok(), "who came early is answered");
    let nobody = Client::connect(Path::new("/nonexistent/nvmf.sock")).unwrap_err();
    assert!(nobody.to_string().contains("no target listens"), "{nobody}");
}

/// The blocks of docs/control.md that begin with this word after their fence.
fn documented(kind: &str) -> Vec<String> {
    let start = format!("```json {kind}\n");
    let blocks = document();
    let blocks = blocks.split(start.as_str()).skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/control.md");
    std::fs::read_to_string(path).expect("docs/control.md is part of the source")
}

/// All methods, as what parses them knows them.
fn methods() -> Vec<String> {
    let error = serde_json::from_str::<Request>(r#"{"method":"?"}"#).unwrap_err().to_string();
    let (_, known) = error.split_once("expected one of ").unwrap();
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_method_is_documented_with_an_example_that_is_one() {
    let methods = methods();
    assert!(methods.len() > 15 && methods.contains(&"namespace-set".to_owned()), "{methods:?}");
    let document = document();
    for method in &methods {
        assert!(document.contains(&format!("\n### `{method}`\n")), "no heading for {method}");
    }
    let examples: Vec<String> = documented("request")
        .iter()
        .map(|text| {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            // Nothing of the example is lost when it is read, or named otherwise.
            assert_eq!(serde_json::to_value(parsed(text)).unwrap(), value);
            value["method"].as_str().unwrap().to_owned()
        })
        .collect();
    for method in &methods {
        assert!(examples.contains(method), "no example of {method}");
    }
}

#[test]
fn every_kind_of_reply_is_documented_as_it_is() {
    let mut kinds: Vec<String> = documented("reply")
        .iter()
        .map(|text| {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let reply: Reply = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_value(reply).unwrap(), value);
            value.as_object().unwrap().keys().next().unwrap().clone()
        })
        .collect();
    kinds.sort();
    let error = serde_json::from_str::<Reply>(r#"{"?":{}}"#).unwrap_err().to_string();
    let (_, known) = error.split_once("expected one of ").unwrap();
    let mut known: Vec<_> = known.split('`').skip(1).step_by(2).collect();
    known.sort_unstable();
    assert_eq!(kinds, known);
}
