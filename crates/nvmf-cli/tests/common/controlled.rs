//! `nvmf serve --config` with a control socket, and `nvmf ctl` that talks to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::{HOST, NQN, Server, json, nvmf, one_line, text};

/// One port, and a subsystem with a namespace of 4 MiB that is anybody's.
pub(crate) const CONFIG: &str = r#"
[[port]]
listen = "127.0.0.1:0"

[[subsystem]]
nqn = "nqn.2026-01.org.example:tests"
hosts = "any"
[[subsystem.namespace]]
source = "mem:4M"
"#;

/// A target with a configuration, in a folder of its own.
pub(crate) struct Controlled {
    pub(crate) folder: TempDir,
    pub(crate) server: Server,
}

impl Controlled {
    pub(crate) fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    /// The same with more options.
    pub(crate) fn start_with(config: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("target.toml"), config).unwrap();
        let server = Self::serve(folder.path(), more).unwrap();
        Self { folder, server }
    }

    /// One that keeps what it is in a file.
    pub(crate) fn start_with_state(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("target.toml"), config).unwrap();
        let state = folder.path().join("state.json");
        let server = Self::serve(folder.path(), &["--state", state.to_str().unwrap()]).unwrap();
        Self { folder, server }
    }

    fn serve(folder: &Path, more: &[&str]) -> Result<Server, String> {
        let config = folder.join("target.toml");
        let socket = folder.join("control.sock");
        let options = ["--config", config.to_str().unwrap(), "--control", socket.to_str().unwrap()];
        Server::try_serve("127.0.0.1", &[&options[..], more].concat())
    }

    /// Ends it as a power failure would, and starts it again with its state.
    pub(crate) fn start_again_after_kill(self) -> Result<Self, String> {
        let Self { folder, server } = self;
        server.kill();
        let state = folder.path().join("state.json");
        let server = Self::serve(folder.path(), &["--state", state.to_str().unwrap()])?;
        Ok(Self { folder, server })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration file, edited.
    pub(crate) fn edit(&self, config: &str) {
        fs::write(self.path("target.toml"), config).unwrap();
    }

    /// Runs `nvmf ctl` in this folder.
    pub(crate) fn run_in(&self, folder: &Path, args: &[&str]) -> Output {
        let socket = self.path("control.sock");
        let mut command = nvmf();
        command.args(["ctl", "--socket"]).arg(socket).args(args).current_dir(folder);
        command.output().unwrap()
    }

    /// Standard output of what has to succeed and to say nothing else.
    #[track_caller]
    pub(crate) fn ctl(&self, args: &[&str]) -> String {
        let output = self.run_in(self.folder.path(), args);
        let error = text(&output.stderr);
        assert!(output.status.success() && error.is_empty(), "nvmf ctl {args:?}: {error}");
        text(&output.stdout)
    }

    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        json(self.ctl(&[args, &["-o", "json"]].concat()).as_bytes())
    }

    /// The one line of what has to fail.
    #[track_caller]
    pub(crate) fn fails(&self, status: i32, args: &[&str]) -> String {
        let output = self.run_in(self.folder.path(), args);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "nvmf ctl {args:?}: {error}");
        assert!(output.stdout.is_empty(), "nvmf ctl {args:?}: {}", text(&output.stdout));
        one_line(&error);
        error
    }

    /// Address of a port, as `nvmf ctl status` tells it.
    pub(crate) fn address(&self, port: u64) -> String {
        let status = self.json(&["status"]);
        let ports = status["ports"].as_array().unwrap();
        let found = ports.iter().find(|one| one["id"] == port).unwrap();
        found["address"].as_str().unwrap().to_owned()
    }

    /// The subsystem through a port.
    pub(crate) fn through(&self, port: u64) -> String {
        format!("nvme+tcp://{}/{NQN}", self.address(port))
    }

    /// Namespace `id` of the configuration that runs; null if there is none.
    pub(crate) fn namespace(&self, id: u64) -> Value {
        let config = self.json(&["config"]);
        let subsystem = config["subsystem"].as_array().unwrap().iter().find(|s| s["nqn"] == NQN);
        let namespaces = subsystem.unwrap()["namespace"].as_array().unwrap();
        namespaces.iter().find(|ns| ns["id"] == id).cloned().unwrap_or_default()
    }

    /// A host at work on namespace 1, at a steady pace.
    pub(crate) fn work(&self, seconds: &str) -> Work {
        let args = ["--time", seconds, "--warmup", "0", "--rate", "500", "-o", "json"];
        let mut command = nvmf();
        command.arg("bench").arg(self.server.target()).args(args).args(HOST);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let work = Work(Some(command.spawn().unwrap()));
        super::eventually("the host is there", || {
            let controllers = self.json(&["controllers"]);
            let controllers = controllers.as_array().unwrap();
            controllers.iter().any(|one| one["io-commands"].as_u64().unwrap() > 0)
        });
        work
    }
}

/// `nvmf bench` in the background.
pub(crate) struct Work(Option<Child>);

impl Work {
    /// Waits for its end.
    pub(crate) fn end(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    /// Waits for its end, which has to be without an error.
    #[track_caller]
    pub(crate) fn was_not_disturbed(self) {
        let output = self.end();
        let error = text(&output.stderr);
        assert!(output.status.success() && error.is_empty(), "{error}");
        let results = json(&output.stdout);
        assert_eq!(results["errors"], 0, "{results}");
        assert!(results["total"]["ios"].as_u64().unwrap() > 0, "{results}");
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
