"""The kernel as host, `nvmf serve` as target."""
import hashlib
import os
import re
import uuid

from . import kernel_log
from .kernel_log import KernelLog
from .nvmf import Serve
from .report import CheckFailed, equal, require

NQN = "nqn.2024-01.org.example:vm-kernel-host"
HOST_NQN = "nqn.2014-08.org.nvmexpress:uuid:6a3cf1c2-6f3e-4d0c-9b3b-6d1d0a6b1c01"
HOST_ID = "6a3cf1c2-6f3e-4d0c-9b3b-6d1d0a6b1c01"
MIB = 1 << 20
MEMORY_SIZE = 256 * MIB
# a file system in the first part, requests to the raw disk behind it
FILE_SYSTEM_SIZE = 256 * MIB
FILE_SIZE = FILE_SYSTEM_SIZE + 128 * MIB
READ_ONLY_SIZE = 8 * MIB
# emulation stalls for a second now and then
KEEP_ALIVE_SECONDS = 30
DIGESTS = {
    "no digest": [],
    "header digest": ["--hdr-digest"],
    "data digest": ["--data-digest"],
    "both digests": ["--hdr-digest", "--data-digest"],
}
# name, namespace, size, block size of the requests: small ones go in the capsule, large ones in
# several R2Ts
FIO = {
    "no digest": (1, 256 * MIB, "16k"),
    "header digest": (2, 32 * MIB, "4k"),
    "data digest": (2, 64 * MIB, "64k"),
    "both digests": (1, 64 * MIB, "512k"),
}


class KernelHost:
    """The scenario and what its steps share."""

    HOSTS = 1

    def __init__(self, guest, command, report, files):
        self.guest = guest
        self.command = command
        self.check = report.check
        self.log = KernelLog(guest)
        self.controller = None
        self.namespaces = {}
        self.file_hash = None
        self.identifiers = {}
        self.backing_file = os.path.join(files, "namespace.img")
        self.read_only_file = os.path.join(files, "read-only.img")
        with open(self.backing_file, "wb") as file:
            file.truncate(FILE_SIZE)
        with open(self.read_only_file, "wb") as file:
            file.write(os.urandom(READ_ONLY_SIZE))
        self.serve = Serve(
            command,
            NQN,
            [
                f"mem:{MEMORY_SIZE // MIB}M,bs=4096",
                f"file:{self.backing_file},bs=4096",
                f"file:{self.read_only_file},bs=512,ro",
            ],
        )

    def run(self):
        with self.serve:
            with self.check("serve starts", essential=True):
                self.serve.start()
            self.guest.run("modprobe -a nvme-tcp")
            self.discover()
            self.digests()
            self.queues()
            self.refusals()
            self.second_host()
            self.restarts()
            with self.check("serve ends cleanly on SIGTERM"):
                self.serve.stop()

    # --- steps, in their order

    def discover(self):
        with self.check("discover shows the subsystem"):
            log = self.guest.json(f"nvme discover {self._address()} -o json")
            entries = [entry for entry in log["records"] if entry["subtype"] == "nvme subsystem"]
            equal("number of subsystems", len(entries), 1)
            wanted = {
                "trtype": "tcp",
                "adrfam": "ipv4",
                "traddr": self.serve.address,
                "trsvcid": str(self.serve.port),
                "subnqn": NQN,
                "sectype": "none",
            }
            equal("discovery log entry", {key: entries[0][key].strip() for key in wanted}, wanted)
        with self.check("a persistent discovery controller connects and goes"):
            out = self.guest.run(
                f"nvme discover {self._address()} --persistent -q {HOST_NQN} -I {HOST_ID} > /dev/null\n"
                "grep -l discovery /sys/class/nvme/nvme*/cntrltype\n"
                "nvme disconnect-all"
            )
            require("cntrltype" in out, "there was no discovery controller")
        self._kernel_log("discovery")

    def digests(self):
        for number, (name, options) in enumerate(DIGESTS.items()):
            # the kernel refuses an ICResp whose digests are not those it asked for, so that a
            # connection made is a connection with these digests
            self._connect(f"connect with {name}", [*options, f"--keep-alive-tmo={KEEP_ALIVE_SECONDS}"])
            if number == 0:
                self.controller_commands()
            self.fio(name)
            if number == 0:
                self.counters()
                self.file_system()
                self.zeroes()
            else:
                self.data_still_there(name)
            self._disconnect()
            self._kernel_log(f"connecting with {name}")

    def controller_commands(self):
        guest, controller = self.guest, self.controller
        with self.check("id-ctrl"):
            data = guest.json(f"nvme id-ctrl {controller} -o json")
            wanted = {"cntrltype": 1, "sqes": 0x66, "cqes": 0x44, "icdoff": 0, "subnqn": NQN}
            equal("id-ctrl", {key: data[key] for key in wanted}, wanted)
            require(data["sn"].strip() and data["mn"].strip() and data["fr"].strip(), f"names are empty: {data}")
            require(data["ver"] >= 0x10400, f"version {data['ver']:#x}")
            require(data["kas"] > 0, "kas is 0")
            require(data["nn"] >= 3, f"nn {data['nn']}")
            require(data["ioccsz"] >= 4 and data["iorcsz"] >= 1, f"capsules {data['ioccsz']}, {data['iorcsz']}")
            require(data["sgls"] & 3, f"no SGLs: {data['sgls']:#x}")
            require(data["oncs"] & 0x0C == 0x0C, f"oncs {data['oncs']:#x} lacks DSM or Write Zeroes")
            require(data["vwc"] & 1, "no volatile write cache, but a file has one until it is synced")
        with self.check("list-ns"):
            data = guest.json(f"nvme list-ns {controller} -o json")
            equal("namespaces", [entry["nsid"] for entry in data["nsid_list"]], [1, 2, 3])
        with self.check("id-ns of each namespace"):
            for nsid, size, shift in ((1, MEMORY_SIZE, 12), (2, FILE_SIZE, 12), (3, READ_ONLY_SIZE, 9)):
                data = guest.json(f"nvme id-ns {controller} -n {nsid} -o json")
                equal(f"nsze of {nsid}", data["nsze"], size >> shift)
                equal(f"ncap of {nsid}", data["ncap"], size >> shift)
                require(data["nuse"] <= data["ncap"], f"nuse {data['nuse']} of {nsid}")
                equal(f"block size of {nsid}", data["lbafs"][data["flbas"] & 0xF]["ds"], shift)
                equal(f"metadata of {nsid}", data["lbafs"][data["flbas"] & 0xF]["ms"], 0)
                require(int(data["nguid"], 16) != 0, f"nguid of {nsid} is 0")
                equal(f"write protection of {nsid}", data["nsattr"] & 1, 1 if nsid == 3 else 0)
        with self.check("ns-descs agree with id-ns and sysfs, and differ between namespaces"):
            self.identifiers = self._identifiers()
            equal("number of identifiers", len({pair for pair in self.identifiers.values()}), 3)
        with self.check("the kernel's disks have the right sizes"):
            for nsid, size, block in ((1, MEMORY_SIZE, 4096), (2, FILE_SIZE, 4096), (3, READ_ONLY_SIZE, 512)):
                out = guest.run(f"blockdev --getsize64 --getss --getro {self.namespaces[nsid]}")
                equal(f"namespace {nsid}", out.split(), [str(size), str(block), "1" if nsid == 3 else "0"])
        with self.check("a read-only namespace reads and refuses writes"):
            device = self.namespaces[3]
            out = guest.run(f"sha256sum < {device}").split()[0]
            equal("hash", out, self._hash(self.read_only_file))
            status, _, _ = guest.run(
                f"nvme write {device} -s 0 -c 0 -z 512 -d /dev/zero", check=False
            )
            require(status != 0, "a write was accepted")
            equal("hash afterwards", self._hash(self.read_only_file), out)
        with self.check("smart-log"):
            data = guest.json(f"nvme smart-log {controller} -o json")
            equal("critical_warning", data["critical_warning"], 0)
            equal("media_errors", data["media_errors"], 0)
            require(data["avail_spare"] >= data["spare_thresh"], f"spare {data['avail_spare']}")
        with self.check("error-log"):
            data = guest.json(f"nvme error-log {controller} -o json")
            require(data["errors"], "no entry at all")
            for entry in data["errors"]:
                require(entry["nsid"] in (0, 1, 2, 3, 0xFFFFFFFF), f"entry {entry}")
        with self.check("fw-log and effects-log"):
            guest.json(f"nvme fw-log {controller} -o json")
            # one command set or a list of them
            out = guest.run(f"nvme effects-log {controller} -o json")
            commands = "ACS_6 (Identify)", "ACS_24 (Keep Alive)", "IOCS_0 (Flush)", "IOCS_1 (Write)", "IOCS_2 (Read)"
            for command in commands:
                require(f'"{command}"' in out, f"effects-log lacks {command}")
        with self.check("get-feature"):
            equal("Keep Alive Timer", self._feature(0x0F), KEEP_ALIVE_SECONDS * 1000)
            require(self._feature(0x06) in (0, 1), "Volatile Write Cache is neither on nor off")
            # both numbers count from 0, and this guest asks for a single queue
            self._feature(0x07)
            # Linux asks for notices of changed namespaces where OAES offers them
            offered = guest.json(f"nvme id-ctrl {controller} -o json")["oaes"] & 1 << 8
            equal("Async Event Configuration, namespaces", self._feature(0x0B) & 1 << 8, offered)
        with self.check("show-regs"):
            data = guest.json(f"nvme show-regs {controller} -o json")
            require(data["cc"] & 1 and data["csts"] & 0xF == 1, f"cc {data['cc']:#x}, csts {data['csts']:#x}")
            require(data["cap"] >> 37 & 1, f"cap {data['cap']:#x} lacks the NVM command set")
            equal("version", data["vs"], guest.json(f"nvme id-ctrl {controller} -o json")["ver"])

    def fio(self, digests):
        nsid, size, block = FIO[digests]
        kind, offset = {1: ("memory", 0), 2: ("file", FILE_SYSTEM_SIZE)}[nsid]
        with self.check(f"fio writes and verifies {size // MIB} MiB in {block} at depth 32, {kind}, {digests}"):
            job = self.guest.json(
                f"fio --name=verify --filename={self.namespaces[nsid]} --offset={offset} --size={size} --bs={block} "
                "--rw=randwrite --direct=1 --ioengine=libaio --iodepth=32 "
                "--verify=xxhash --do_verify=1 --verify_fatal=1 --output-format=json",
                timeout=400,
            )["jobs"][0]
            equal("fio's error", job["error"], 0)
            equal("bytes written", job["write"]["io_bytes"], size)
            equal("bytes read", job["read"]["io_bytes"], size)

    def counters(self):
        with self.check("smart-log counts what was written and read"):
            data = self.guest.json(f"nvme smart-log {self.controller} -o json")
            size = FIO["no digest"][1]
            for direction, commands in (("written", "write"), ("read", "read")):
                # a data unit is 1000 times 512 bytes
                require(data[f"data_units_{direction}"] >= size // 512_000, f"data_units_{direction}: {data}")
                require(data[f"host_{commands}_commands"] >= size // 16384, f"host_{commands}_commands: {data}")

    def file_system(self):
        device = self.namespaces[2]
        with self.check("mkfs.ext4 and mount", essential=True):
            # Not lazily: the kernel would write 16 MiB of inode tables some time after the mount, and the
            # space of the file, which is looked at below, would grow meanwhile.
            self.guest.run(
                f"mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 {device} {FILE_SYSTEM_SIZE >> 10}k && "
                f"mount {device} /mnt",
                timeout=120,
            )
        with self.check("fstrim gives space back to the file"):
            self.guest.run("head -c 64M /dev/urandom > /mnt/large && sync", timeout=180)
            before = os.stat(self.backing_file).st_blocks * 512
            said = self.guest.run("rm /mnt/large && sync && fstrim -v /mnt", timeout=180).strip()
            after = os.stat(self.backing_file).st_blocks * 512
            require(before - after >= 60 * MIB, f"{before} bytes were allocated, now {after}; fstrim: {said}")
        with self.check("a file is written and the file system is whole"):
            self.file_hash = self.guest.run(
                "head -c 48M /dev/urandom > /mnt/file && sha256sum < /mnt/file && umount /mnt && "
                f"e2fsck -fn {device} >&2",
                timeout=180,
            ).split()[0]

    def zeroes(self):
        with self.check("write zeroes and deallocate leave zeroes, and nothing else"):
            device, size = self.namespaces[1], 4 * MIB
            for what in ("-z", ""):
                out = self.guest.run(
                    f"set -e; head -c {3 * size} /dev/urandom > /tmp/pattern\n"
                    f"dd if=/tmp/pattern of={device} bs=1M oflag=direct status=none\n"
                    f"blkdiscard {what} -o {size} -l {size} {device}\n"
                    f"dd if=/dev/zero of=/tmp/pattern bs={size} seek=1 count=1 conv=notrunc status=none\n"
                    f"cmp -n {3 * size} /tmp/pattern {device} && echo same; rm /tmp/pattern",
                    timeout=120,
                )
                equal("contents", out.strip(), "same")

    def data_still_there(self, name):
        with self.check(f"after the reconnect with {name} the data are still there"):
            require(self.file_hash is not None, "no file was written")
            device = self.namespaces[2]
            out = self.guest.run(
                f"mount {device} /mnt && sha256sum < /mnt/file; umount /mnt", timeout=120
            )
            equal("hash", out.split()[:1], [self.file_hash])

    def queues(self):
        self._connect(
            "connect with three I/O queues, without SQ flow control, and a keep-alive of 5 s",
            ["--nr-io-queues=1", "--nr-write-queues=1", "--nr-poll-queues=1", "--disable-sqflow",
             "--hdr-digest", "--keep-alive-tmo=5"],
        )  # fmt: skip
        with self.check("three I/O queues, all of them used"):
            lines = self.log.lines()
            require(any("mapped 1/1/1 default/read/poll queues" in line for line in lines), f"{lines}")
            granted = self._feature(0x07)
            require(granted & 0xFFFF >= 2 and granted >> 16 >= 2, f"Number of Queues {granted:#x}, from 0")
            # io_uring with hipri polls: that is the third queue
            for engine, depth in (("--ioengine=libaio", 32), ("--ioengine=io_uring --hipri", 4)):
                job = self.guest.json(
                    f"fio --name=queues --filename={self.namespaces[1]} --size=8M --bs=8k --rw=randwrite --direct=1 "
                    f"{engine} --iodepth={depth} --verify=xxhash --do_verify=1 --verify_fatal=1 --output-format=json",
                    timeout=180,
                )["jobs"][0]
                equal("fio's error", job["error"], 0)
        with self.check("an idle connection is kept alive"):
            self.guest.run("sleep 12")
            name = os.path.basename(self.controller)
            equal("state", self.guest.run(f"cat /sys/class/nvme/{name}/state").strip(), "live")
        self._disconnect()
        self._kernel_log("three queues and keep-alive", kernel_log.KEEP_ALIVE_NEVER_SENT)

    def refusals(self):
        with self.check("an unknown subsystem NQN is refused by name"):
            status, _, _ = self.guest.run(
                f"nvme connect {self._address()} -n {NQN}-unknown -q {HOST_NQN} -I {HOST_ID}", check=False
            )
            require(status != 0, "connected")
            lines = self.log.lines()
            require(
                any("Connect Invalid Data Parameter, subsysnqn" in line for line in lines),
                "the kernel did not understand the refusal:\n" + "\n".join(lines),
            )
            self.log.mark()
        self._connect("connect for what must fail", [])
        with self.check("a read past the end is LBA Out of Range"):
            device = self.namespaces[1]
            status, _, err = self.guest.run(
                f"nvme read {device} -s {MEMORY_SIZE // 4096} -c 0 -z 4096 > /dev/null", check=False
            )
            require(status != 0 and "LBA Out of Range" in err, f"status {status}: {err}")
        with self.check("an unknown namespace is Invalid Namespace or Format"):
            status, out, err = self.guest.run(f"nvme id-ns {self.controller} -n 77777", check=False)
            require(status != 0 and "Invalid Namespace or Format" in err, f"status {status}: {out}{err}")
        with self.check("an unknown log page is Invalid Log Page"):
            status, _, err = self.guest.run(
                f"nvme get-log {self.controller} -i 0xbf -l 512", check=False
            )
            require(status != 0 and "Invalid Log Page" in err, f"status {status}: {err}")
        self._disconnect()
        # kernel 6.1 logs the failed commands
        self.log.mark()

    def second_host(self):
        self._connect("connect beside a second host", ["--data-digest"])
        with self.check("a second host reads while the kernel is connected"):
            target = f"nvme+tcp://{self.serve.address}:{self.serve.port}/{NQN}/3"
            out, _ = self.command.run("read", target)
            equal("hash", hashlib.sha256(out).hexdigest(), self._hash(self.read_only_file))
        self._disconnect()
        self._kernel_log("a second host")

    def restarts(self):
        self._connect("connect before restarts", ["--reconnect-delay=1", "--ctrl-loss-tmo=60"])
        with self.check("what was flushed survives kill -9, and the kernel reconnects to the same disks"):
            device = self.namespaces[2]
            written = self.guest.run(
                f"set -e; mount {device} /mnt; head -c 8M /dev/urandom > /mnt/flushed; sync; sha256sum < /mnt/flushed; "
                "umount /mnt",
                timeout=120,
            ).split()[0]
            self.serve.kill()
            self.serve.start()
            self._wait_until_live()
            out = self.guest.run(f"mount {device} /mnt; sha256sum < /mnt/flushed; umount /mnt", timeout=120)
            equal("hash", out.split()[:1], [written])
        with self.check("uuid and nguid are the same after the restart"):
            equal("identifiers", self._identifiers(), self.identifiers)
        self._disconnect()
        self._kernel_log("a restart of serve", kernel_log.RECONNECTING)
        with self.check("serve ends cleanly and starts again", essential=True):
            self.serve.stop()
            self.serve.start()
        self._connect("connect after the restart", ["--hdr-digest", "--data-digest"])
        with self.check("uuid and nguid are the same after another restart"):
            equal("identifiers", self._identifiers(), self.identifiers)
        self.data_still_there("restart")
        self._disconnect()
        self._kernel_log("connecting after a restart")

    # --- helpers

    def _address(self):
        return f"-t tcp -a {self.serve.address} -s {self.serve.port}"

    def _connect(self, name, options):
        with self.check(name, essential=True):
            self.guest.run(
                f"nvme connect {self._address()} -n {NQN} -q {HOST_NQN} -I {HOST_ID} {' '.join(options)}", timeout=60
            )
            self.controller, *namespaces = self.guest.run(f". /run/lib.sh; nvme_devices {NQN} 3").split()
            self.namespaces = {int(nsid): device for nsid, device in (entry.split("=") for entry in namespaces)}
            equal("namespaces", sorted(self.namespaces), [1, 2, 3])

    def _disconnect(self):
        with self.check("disconnect", essential=True):
            self.serve.require_running()
            out = self.guest.run(f"nvme disconnect -n {NQN}")
            require("disconnected 1 controller" in out, out)

    def _kernel_log(self, what, *more):
        with self.check(f"the kernel logs nothing unusual about {what}"):
            self.log.require_usual(kernel_log.LOADING, kernel_log.CONNECTING, kernel_log.FILE_SYSTEM, *more)

    def _feature(self, number):
        out = self.guest.run(f"nvme get-feature {self.controller} -f {number:#x}")
        found = re.search(r"[Cc]urrent value: ?(?:0x)?([0-9a-f]+)", out)
        require(found, f"feature {number:#x}: {out}")
        return int(found[1], 16)

    def _wait_until_live(self):
        name = os.path.basename(self.controller)
        state = self.guest.run(
            # first it must notice; it may have reconnected already by the time it is asked
            "for i in $(seq 300); do\n"
            f"  state=$(cat /sys/class/nvme/{name}/state)\n"
            f"  [ $state = live ] && dmesg | grep -q '{name}: Successfully reconnected' && break\n"
            "  sleep 0.1\n"
            "done; echo $state",
            timeout=60,
        ).strip()
        equal(f"state of {name}", state, "live")

    def _identifiers(self):
        """uuid and nguid of each namespace, the same wherever one asks."""
        found = {}
        for nsid, device in self.namespaces.items():
            entries = self.guest.json(f"nvme ns-descs {self.controller} -n {nsid} -o json")["ns-descs"]
            descriptors = {entry["Type"]: entry for entry in entries}
            for wanted in ("uuid", "nguid", "csi"):
                if wanted not in descriptors:
                    raise CheckFailed(f"namespace {nsid} has no {wanted} descriptor: {entries}")
            named = uuid.UUID(descriptors["uuid"]["uuid"])
            nguid = uuid.UUID(descriptors["nguid"]["nguid"])
            identified = self.guest.json(f"nvme id-ns {self.controller} -n {nsid} -o json")
            equal(f"nguid of {nsid}", uuid.UUID(identified["nguid"]), nguid)
            block = f"/sys/block/{os.path.basename(device)}"
            seen = self.guest.run(f"cat {block}/uuid {block}/nguid").split()
            equal(f"sysfs of {nsid}", [uuid.UUID(text) for text in seen], [named, nguid])
            found[nsid] = (str(named), str(nguid))
        return found

    @staticmethod
    def _hash(path):
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
