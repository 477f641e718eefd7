//! What the tests of these modules share: a made-up machine below a temporary directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// What Linux 6.12 of Debian says that it knows.
pub(super) const LINUX_6_12: &str = "instance=-1,cntlid=-1,transport=%s,traddr=%s,trsvcid=%s,nqn=%s,\
    queue_size=%d,nr_io_queues=%d,reconnect_delay=%d,ctrl_loss_tmo=%d,keep_alive_tmo=%d,hostnqn=%s,\
    host_traddr=%s,host_iface=%s,hostid=%s,duplicate_connect,disable_sqflow,hdr_digest,data_digest,\
    nr_write_queues=%d,nr_poll_queues=%d,tos=%d,keyring=%d,tls_key=%d,fast_io_fail_tmo=%d,discovery,\
    dhchap_secret=%s,dhchap_ctrl_secret=%s,tls\n";

pub(super) const NQN: &str = "nqn.2026-01.org.example:disk";
pub(super) const HOST: &str =
    "nqn.2014-08.org.nvmexpress:uuid:00112233-4455-6677-8899-aabbccddeeff";

/// A root directory with sysfs and devices as the kernel lays them out; gone with the test.
pub(super) struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    pub(super) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(super) fn file(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn files(&self, directory: &str, files: &[(&str, &str)]) {
        for (name, text) in files {
            self.file(&format!("{directory}/{name}"), &format!("{text}\n"));
        }
    }

    fn link(&self, from: &str, to: &str) {
        let from = self.root().join(from);
        fs::create_dir_all(from.parent().unwrap()).unwrap();
        symlink(self.root().join(to), from).unwrap();
    }

    /// Where a fabrics controller's directory is.
    pub(super) fn controller_directory(number: u32) -> String {
        format!("sys/devices/virtual/nvme-fabrics/ctl/nvme{number}")
    }

    pub(super) fn subsystem_directory(number: u32) -> String {
        format!("sys/devices/virtual/nvme-subsystem/nvme-subsys{number}")
    }

    /// Subsystem `number` of this NQN.
    pub(super) fn subsystem(&self, number: u32, nqn: &str) {
        let directory = Self::subsystem_directory(number);
        self.files(
            &directory,
            &[("subsysnqn", nqn), ("model", "Model"), ("serial", "1"), ("iopolicy", "numa")],
        );
        self.link(&format!("sys/class/nvme-subsystem/nvme-subsys{number}"), &directory);
    }

    /// A TCP controller of a subsystem that is there, at this address.
    pub(super) fn controller(&self, number: u32, subsystem: u32, traddr: &str) -> PathBuf {
        let directory = Self::controller_directory(number);
        let nqn = self.root().join(Self::subsystem_directory(subsystem)).join("subsysnqn");
        let nqn = fs::read_to_string(nqn).unwrap();
        let address = format!("traddr={traddr},trsvcid=4420,src_addr=192.0.2.1");
        self.files(
            &directory,
            &[
                ("subsysnqn", nqn.trim()),
                ("transport", "tcp"),
                ("address", &address),
                ("state", "live"),
                ("cntlid", "7"),
                ("cntrltype", "io"),
                ("queue_count", "3"),
                ("sqsize", "127"),
                ("hostnqn", HOST),
                ("hostid", "00112233-4455-6677-8899-aabbccddeeff"),
                ("model", "Model"),
                ("serial", "1"),
                ("firmware_rev", "0.1"),
                ("delete_controller", ""),
            ],
        );
        self.link(&format!("sys/class/nvme/nvme{number}"), &directory);
        let in_subsystem = format!("{}/nvme{number}", Self::subsystem_directory(subsystem));
        self.link(&in_subsystem, &directory);
        self.root().join(directory)
    }

    /// The disk of a namespace, as it is with multipath: head `head` of a subsystem.
    pub(super) fn head(&self, subsystem: u32, head: u32, nsid: u32) {
        let name = format!("nvme{subsystem}n{head}");
        self.disk(&format!("{}/{name}", Self::subsystem_directory(subsystem)), nsid);
        self.file(&format!("dev/{name}"), "");
    }

    /// A controller's path to it.
    pub(super) fn path(&self, subsystem: u32, controller: u32, head: u32, nsid: u32, ana: &str) {
        let directory = format!(
            "{}/nvme{subsystem}c{controller}n{head}",
            Self::controller_directory(controller)
        );
        self.disk(&directory, nsid);
        self.files(&directory, &[("ana_state", ana), ("ana_grpid", "1")]);
    }

    /// What a disk has, whichever kind it is: 1 MiB in blocks of 4096 bytes.
    pub(super) fn disk(&self, directory: &str, nsid: u32) {
        let nsid = nsid.to_string();
        self.files(
            directory,
            &[
                ("nsid", &nsid),
                ("size", "2048"),
                ("ro", "0"),
                ("queue/logical_block_size", "4096"),
                ("uuid", "4a1b0f56-0000-4000-8000-000000000001"),
                ("wwid", "uuid.4a1b0f56-0000-4000-8000-000000000001"),
            ],
        );
    }
}
