"""Everything changes while a host is connected: namespaces, limits, hosts, the configuration, and the
process itself."""
import os
import time

from . import kernel_log
from .configured import DISCOVERY_PORT, PORTS, soon
from .host import RECONNECT_SECONDS
from .report import CheckFailed, equal, require
from .scenario import Scenario

NQN = "nqn.2024-01.org.example:vm-live"
# one that this guest may not reach until it is told otherwise
GUARDED_NQN = "nqn.2024-01.org.example:vm-live-guarded"
STRANGER = "nqn.2014-08.org.nvmexpress:uuid:6a3cf1c2-6f3e-4d0c-9b3b-6d1d0a6b1cff"
MIB = 1 << 20
# NSIDs: fio is busy on the first while the others come, grow and go
BUSY, ADDED, GROWN = 1, 5, 2
GROWN_SIZES = (64 * MIB, 160 * MIB)
IOPS = 100


class Live(Scenario):
    NAME = "live"
    STATE = True

    def configuration(self):
        self.grown_file = os.path.join(self.files, "grown.img")
        with open(self.grown_file, "wb") as file:
            file.truncate(GROWN_SIZES[0])
        return {
            "port": [dict(port) for port in PORTS if port["id"] != DISCOVERY_PORT],
            "subsystem": [
                {
                    "nqn": NQN,
                    "serial": "LIVE0001",
                    "model": "vm test",
                    "firmware": "7.8.9",
                    "hosts": "any",
                    "namespace": [
                        {"id": BUSY, "source": "mem:64M,bs=4096"},
                        {"id": GROWN, "source": f"file:{self.grown_file}"},
                    ],
                },
                {
                    "nqn": GUARDED_NQN,
                    "hosts": [STRANGER],
                    "namespace": [{"id": 1, "source": "mem:8M"}],
                },
            ],
        }

    def steps(self):
        self.names()
        self.namespaces()
        self.resize()
        self.limit()
        self.kernel_log("namespaces that come, grow and go", kernel_log.PATHS, kernel_log.RESIZED)
        self.admission()
        # the refusals are logged, each kernel in its own words
        self.forget_log()
        self.reload()
        self.drop()
        self.kernel_log(
            "a reload and a controller that was dropped",
            kernel_log.PATHS, kernel_log.RECONNECTING, kernel_log.SHUT_OUT,
        )  # fmt: skip
        self.killed()
        self.kernel_log("kill -9", kernel_log.PATHS, kernel_log.RECONNECTING)

    def names(self):
        with self.check("a host connects and finds the configured disks", essential=True):
            self.host.connect(NQN)
            self.disks = self.host.wait_disks(NQN, [BUSY, GROWN])
            self.busy = self.disks[BUSY]
        with self.check("serial, model and firmware are the configured ones"):
            data = self.guest.json(f"nvme id-ctrl /dev/{self.host.controller(NQN)} -o json")
            equal("names", [data[key].strip() for key in ("sn", "mn", "fr")], ["LIVE0001", "vm test", "7.8.9"])
        with self.check("ctl controllers knows this host"):
            found = self.serve.controllers(self.host.nqn)
            equal("CNTLIDs", [entry["cntlid"] for entry in found], [self._cntlid()])
            equal("subsystem", found[0]["subnqn"], NQN)
        with self.check("ctl status is JSON, and text for people"):
            require(NQN in str(self.serve.ctl_json("status")), "the subsystem is not in it")
            require(NQN in self.serve.ctl("status"), "the subsystem is not in it")

    def namespaces(self):
        with self.check("fio on one disk does not notice what follows", essential=True):
            job = self.host.fio("unharmed", self.busy, 12)
        with self.check("a namespace is added: its disk appears by itself"):
            self.serve.ctl("namespace", "add", NQN, "mem:16M,bs=512", "--id", ADDED)
            device = self.host.wait_disks(NQN, [BUSY, GROWN, ADDED])[ADDED]
            equal("size", self._size(device), 16 * MIB)
            self.guest.run(
                "set -e; head -c 1M /dev/urandom > /tmp/data\n"
                f"dd if=/tmp/data of={device} bs=64k oflag=direct status=none; cmp -n 1048576 /tmp/data {device}"
            )
        with self.check("a namespace for another host only does not appear"):
            self.serve.ctl("namespace", "add", NQN, "mem:16M", "--id", ADDED + 1, "--host", STRANGER)
            time.sleep(2)
            equal("disks", sorted(self.host.disks(NQN)), [BUSY, GROWN, ADDED])
            controller = self.host.controller(NQN)
            self.host.passthrough(f"nvme ns-rescan /dev/{controller}", None)
            time.sleep(1)
            equal("disks after a rescan", sorted(self.host.disks(NQN)), [BUSY, GROWN, ADDED])
            listed = self.guest.json(f"nvme list-ns /dev/{controller} -o json")["nsid_list"]
            equal("list-ns", [entry["nsid"] for entry in listed], [BUSY, GROWN, ADDED])
            self.serve.ctl("namespace", "remove", NQN, ADDED + 1)
        with self.check("a namespace is removed: its disk goes by itself, the others stay"):
            self.serve.ctl("namespace", "remove", NQN, ADDED)
            self.disks = self.host.wait_disks(NQN, [BUSY, GROWN])
        with self.check("an unknown NSID, subsystem or source is refused, and nothing changes"):
            self.serve.ctl("namespace", "remove", NQN, 77, status=1)
            self.serve.ctl("namespace", "add", f"{NQN}-unknown", "mem:16M", status=1)
            self.serve.ctl("namespace", "add", NQN, "file:/nowhere/at/all", status=1)
            equal("disks", sorted(self.host.disks(NQN)), [BUSY, GROWN])
        with self.check("fio on the other disk ended without an error"):
            job.finish()

    def resize(self):
        with self.check("a file system is made on what will grow", essential=True):
            device = self.disks[GROWN]
            # not lazily, and with room in the group descriptors to grow
            self.guest.run(
                f"set -e; mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0,resize=1048576 {device}\n"
                f"mount {device} /mnt; head -c 16M /dev/urandom > /mnt/file; sha256sum < /mnt/file > /tmp/hash",
                timeout=120,
            )
        with self.check("a namespace grows: its disk does by itself, and the file system with it, while mounted"):
            self.serve.ctl("namespace", "resize", NQN, GROWN, f"{GROWN_SIZES[1] // MIB}M")
            soon("the disk has its new size", lambda: self._size(device) == GROWN_SIZES[1])
            equal("size of the file", os.stat(self.grown_file).st_size, GROWN_SIZES[1])
            self.guest.run(f"resize2fs {device} && head -c 80M /dev/urandom > /mnt/more && sync", timeout=180)
            self.guest.run(
                f"set -e; sha256sum < /mnt/file | cmp - /tmp/hash; umount /mnt; e2fsck -fn {device} >&2", timeout=180
            )
        with self.check("a namespace that is to shrink is left as it is: there may be data"):
            self.serve.ctl("namespace", "resize", NQN, BUSY, "32M", status=1)
            equal("size", self._size(self.busy), 64 * MIB)

    def limit(self):
        with self.check(f"a limit of {IOPS} IOPS holds, within a quarter"):
            self.serve.ctl("namespace", "limit", NQN, BUSY, "--iops", IOPS)
            got = self._iops()
            require(IOPS * 0.75 <= got <= IOPS * 1.25, f"{got:.0f} IOPS")
        with self.check("a limit of bandwidth holds, within a quarter"):
            self.serve.ctl("namespace", "limit", NQN, BUSY, "--none")
            self.serve.ctl("namespace", "limit", NQN, BUSY, "--bandwidth", IOPS * 4096)
            got = self._iops()
            require(IOPS * 0.75 <= got <= IOPS * 1.25, f"{got:.0f} times 4096 bytes a second")
        with self.check("without the limit it is faster again"):
            self.serve.ctl("namespace", "limit", NQN, BUSY, "--none")
            got = self._iops()
            require(got > IOPS * 2, f"{got:.0f} IOPS")

    def admission(self):
        with self.check("a host that is not on the list is refused"):
            self.host.refused(GUARDED_NQN)
        with self.check("a host that is allowed connects"):
            self.serve.ctl("host", "allow", GUARDED_NQN, self.host.nqn)
            self.host.connect(GUARDED_NQN)
            self.host.wait_disks(GUARDED_NQN, [1])
        with self.check("a host that is denied loses its controllers and is refused, and no other"):
            cntlid = self._cntlid()
            self.serve.ctl("host", "deny", GUARDED_NQN, self.host.nqn)
            left = [entry for entry in self.serve.controllers(self.host.nqn) if entry["subnqn"] == GUARDED_NQN]
            equal("its controllers", left, [])
            soon(
                "the kernel gives it up",
                lambda: not any(e["state"] == "live" for e in self.host.controllers(GUARDED_NQN).values()),
                RECONNECT_SECONDS,
            )
            # where the kernel tries again, it would refuse a second connection itself
            self.guest.run(f"nvme disconnect -n {GUARDED_NQN}; true")
            self.host.refused(GUARDED_NQN)
            equal("the other subsystem's controller", self._cntlid(), cntlid)
            target = f"nvme+tcp://{self.serve.address}/{GUARDED_NQN}/1"
            out, _ = self.command.run("read", target, "--hostnqn", STRANGER)
            equal("bytes that the allowed host reads", len(out), 8 * MIB)

    def reload(self):
        with self.check("a reload by SIGHUP does what was edited, and does not disturb a running fio"):
            job = self.host.fio("reload", self.busy, 8)
            cntlid = self._cntlid()
            namespaces = self.serve.configuration["subsystem"][0]["namespace"]
            namespaces.append({"id": 7, "source": "mem:8M"})
            self.serve.reload()
            self.host.wait_disks(NQN, [BUSY, GROWN, 7])
            namespaces.pop()
            self.serve.write()
            self.serve.ctl("reload")
            self.host.wait_disks(NQN, [BUSY, GROWN])
            equal("controller", self._cntlid(), cntlid)
            job.finish()
        with self.check("a file that is wrong is refused, and nothing changes"):
            good = self.serve.configuration
            self.serve.configuration = {**good, "subsystem": [{"nqn": "not an NQN"}]}
            self.serve.write()
            self.serve.ctl("reload", status=1)
            self.serve.configuration = good
            self.serve.write()
            self.serve.require_running()
            equal("disks", sorted(self.host.disks(NQN)), [BUSY, GROWN])

    def drop(self):
        with self.check("a controller is dropped by ctl: the kernel connects again, and fio goes on"):
            job = self.host.fio("dropped", self.busy, 10)
            controller = self.host.controller(NQN)
            before = self.host.last_reconnect(controller)
            self.serve.ctl("drop", NQN, self._cntlid())
            self.host.wait_reconnect(controller, before)
            self.host.wait_live(NQN)
            job.finish()

    def killed(self):
        with self.check("what ctl acknowledged is there after kill -9, and the kernel connects by itself"):
            path = os.path.join(self.files, "added.img")
            with open(path, "wb") as file:
                file.truncate(24 * MIB)
            self.serve.ctl("namespace", "add", NQN, f"file:{path}", "--id", ADDED)
            self.serve.ctl("host", "allow", GUARDED_NQN, self.host.nqn)
            self.serve.ctl("subsystem", "add", f"{NQN}-added", "--allow", "any")
            before = self.host.wait_disks(NQN, [BUSY, GROWN, ADDED])
            identifiers = self.host.identifiers(NQN)
            controller = self.host.controller(NQN)
            reconnects = self.host.last_reconnect(controller)
            self.serve.kill()
            self.serve.start()
            self.host.wait_reconnect(controller, reconnects)
            self.host.wait_live(NQN)
            equal("disks", self.host.wait_disks(NQN, [BUSY, GROWN, ADDED]), before)
            equal("UUIDs and NGUIDs", self.host.identifiers(NQN), identifiers)
            equal("size of the one that grew", self._size(before[GROWN]), GROWN_SIZES[1])
            for nqn in (GUARDED_NQN, f"{NQN}-added"):
                self.host.connect(nqn)
                self.host.disconnect(nqn)
        with self.check("what was saved is a configuration of its own"):
            path = os.path.join(self.files, "saved.toml")
            self.serve.ctl("save", path)
            with open(path) as file:
                require(f"{NQN}-added" in file.read(), "the subsystem that was added is not in it")
        with self.check("a subsystem that is removed takes its controllers with it"):
            self.host.connect(f"{NQN}-added")
            self.serve.ctl("subsystem", "remove", f"{NQN}-added")
            left = [entry for entry in self.serve.controllers() if entry["subnqn"] == f"{NQN}-added"]
            equal("controllers", left, [])
            self.guest.run(f"nvme disconnect -n {NQN}-added; true")
            self.host.refused(f"{NQN}-added")
            self.forget_log()

    # --- helpers

    def _cntlid(self):
        found = list(self.host.controllers(NQN).values())
        if len(found) != 1:
            raise CheckFailed(f"not one controller: {found}")
        return found[0]["cntlid"]

    def _size(self, device):
        return int(self.guest.run(f"blockdev --getsize64 {device}"))

    def _iops(self):
        job = self.guest.json(
            f"fio --name=limit --filename={self.busy} --size=32M --bs=4k --rw=randread --direct=1 --ioengine=libaio "
            # what a bucket has saved is gone after the ramp
            "--iodepth=8 --time_based --ramp_time=2 --runtime=5 --output-format=json"
        )["jobs"][0]
        equal("fio's error", job["error"], 0)
        return job["read"]["iops"]
