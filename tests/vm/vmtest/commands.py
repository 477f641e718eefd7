"""nvme-cli's commands one by one, as a person or a script gives them."""
import ctypes
import os
import re

from . import kernel_log
from .configured import PORTS, soon
from .host import RECONNECT_SECONDS
from .report import CheckFailed, equal, require
from .scenario import Scenario

NQN = "nqn.2024-01.org.example:vm-commands"
MIB = 1 << 20
MEMORY, FILE = 1, 2
FILE_SIZE = 64 * MIB
BLOCKS = {MEMORY: 4096, FILE: 512}
CONNECTS = 20
# what is set, and is there when it is got: not what Linux itself lives by
FEATURES = {0x01: 0x07060503, 0x05: 0x1234, 0x0A: 1, 0x0B: 0x100, 0x0F: 45_000}


class Commands(Scenario):
    NAME = "commands"

    def configuration(self):
        self.backing_file = os.path.join(self.files, "commands.img")
        with open(self.backing_file, "wb") as file:
            file.truncate(FILE_SIZE)
        return {
            "port": PORTS[:1],
            "subsystem": [
                {
                    "nqn": NQN,
                    "hosts": "any",
                    "namespace": [
                        {"id": MEMORY, "source": "mem:64M,bs=4096"},
                        {"id": FILE, "source": f"file:{self.backing_file},bs=512"},
                    ],
                }
            ],
        }

    def steps(self):
        with self.check("a host connects", essential=True):
            self.host.connect(NQN)
            self.disks = self.host.wait_disks(NQN, list(BLOCKS))
            self.controller = f"/dev/{self.host.controller(NQN)}"
        for nsid in BLOCKS:
            self.kind = f"{'memory' if nsid == MEMORY else 'file'}"
            self.device, self.block = self.disks[nsid], BLOCKS[nsid]
            self.compare()
            self.copy()
            self.verify()
            self.uncorrectable()
            self.deallocate()
        self.space()
        self.features()
        self.write_cache()
        self.unknown()
        # the commands that failed are logged by the kernel
        self.forget_log()
        self.reset()
        self.connects()
        self.kernel_log("resets and connects", kernel_log.PATHS, kernel_log.RESETTING)

    def compare(self):
        with self.check(f"compare, {self.kind}"):
            self._write(40, "same", 8)
            self._blocks("compare", 40, 8, "-d /tmp/same")
            self.guest.run("head -c 1M /dev/urandom > /tmp/other")
            self._blocks("compare", 40, 8, "-d /tmp/other", status="Compare Failure")
            self._blocks("compare", 41, 8, "-d /tmp/same", status="Compare Failure")

    def copy(self):
        with self.check(f"copy of several ranges, {self.kind}"):
            self._write(100, "first", 5)
            self._write(200, "second", 3)
            self.host.passthrough(f"nvme copy {self.device} --sdlba=300 --slbs=100,200 --blocks=4,2", None)
            self._same(300, 5, "first")
            self._same(305, 3, "second")
            self._same(100, 5, "first")
        with self.check(f"a copy past the end is LBA Out of Range, {self.kind}"):
            end = self._size()
            for source, destination in ((100, end - 2), (end - 2, 300)):
                self.host.passthrough(
                    f"nvme copy {self.device} --slbs={source} --blocks=4 --sdlba={destination}", "LBA Out of Range"
                )

    def verify(self):
        with self.check(f"verify, {self.kind}"):
            self._numbered("verify", 0, 8)
            self._numbered("verify", self._size(), 1, status="LBA Out of Range")

    def uncorrectable(self):
        with self.check(f"write-uncor: reads and verify fail until it is written again, {self.kind}"):
            self._write(500, "healthy", 8)
            self._numbered("write-uncor", 502, 2)
            self._blocks("read", 502, 1, "> /dev/null", status="Unrecovered Read Error")
            self._blocks("read", 500, 8, "> /dev/null", status="Unrecovered Read Error")
            self._numbered("verify", 503, 1, status="Unrecovered Read Error")
            self._same(500, 2, "healthy")
            status, _, err = self.guest.run(
                f"dd if={self.device} of=/dev/null bs={self.block} skip=502 count=1 iflag=direct", check=False
            )
            require(status != 0, f"the kernel read it: {err}")
            self._write(500, "healed", 8)
            self._same(500, 8, "healed")
            self._numbered("verify", 500, 8)

    def deallocate(self):
        for name, command in (
            ("dsm", "nvme dsm {device} -d -s {lba} -b {count}"),
            ("write-zeroes", "nvme write-zeroes {device} -s {lba} -c {last}"),
            ("write-zeroes with DEAC", "nvme write-zeroes {device} -s {lba} -c {last} --deac"),
        ):
            with self.check(f"{name} leaves zeroes, and nothing else, {self.kind}"):
                self._write(600, "around", 32)
                self.host.passthrough(command.format(device=self.device, lba=608, count=16, last=15), None)
                self.guest.run(
                    f"dd if=/dev/zero of=/tmp/around bs={self.block} seek=8 count=16 conv=notrunc status=none"
                )
                self._same(600, 32, "around")

    def space(self):
        with self.check("dsm gives space back to the file"):
            device = self.disks[FILE]
            self.guest.run(
                f"dd if=/dev/urandom of={device} bs=1M seek=16 count=32 oflag=direct status=none", timeout=120
            )
            self.host.passthrough(f"nvme flush {device}", None)
            before = os.stat(self.backing_file).st_blocks * 512
            self.host.passthrough(f"nvme dsm {device} -d -s {16 * MIB // 512} -b {32 * MIB // 512}", None)
            soon(
                "30 MiB less are allocated",
                lambda: os.stat(self.backing_file).st_blocks * 512 <= before - 30 * MIB,
            )

    def features(self):
        with self.check("a feature that is set is got again, and the default stays"):
            for number, value in FEATURES.items():
                before = self._feature(number)
                default = self._feature(number, "-s 1")
                self.host.passthrough(f"nvme set-feature {self.controller} -f {number} --value={value}", None)
                equal(f"feature {number:#x}", self._feature(number), value)
                equal(f"default of feature {number:#x}", self._feature(number, "-s 1"), default)
                self.host.passthrough(f"nvme set-feature {self.controller} -f {number} --value={before}", None)
        with self.check("a feature is not saved where it says it cannot be"):
            for number in FEATURES:
                if not self._feature(number, "-s 3") & 1:
                    self.host.passthrough(
                        f"nvme set-feature {self.controller} -f {number} --value={self._feature(number)} --save",
                        "Feature Identifier Not Saveable",
                    )

    def write_cache(self):
        with self.check("set-feature of the write cache: without it a write is on the disk when it is answered"):
            device, first = self.disks[FILE], self._feature(0x06)
            equal("is on at first", first & 1, 1)
            dirty = {}
            for value in (1, 0, 1):
                self.host.passthrough(f"nvme set-feature {self.controller} -f 6 --value={value}", None)
                equal("Volatile Write Cache", self._feature(0x06), value)
                self.host.passthrough(f"nvme flush {device}", None)
                self.host.passthrough(f"nvme write {device} -s 0 -c 127 -z 65536 -d /tmp/other", None)
                dirty[value] = self._drop_dirty(65536)
            equal("bytes not yet written, without the cache", dirty[0], 0)
            require(
                dirty[1] > 0,
                "nothing was left to write with the cache either: is the folder of the logs in memory (tmpfs)?",
            )

    def unknown(self):
        with self.check("an unknown opcode, feature or log page is refused by its name"):
            for command, status in (
                (f"nvme admin-passthru {self.controller} --opcode=0xc5", "Invalid Command Opcode"),
                (f"nvme io-passthru {self.disks[MEMORY]} --opcode=0x7e -n 1", "Invalid Command Opcode"),
                (f"nvme get-feature {self.controller} -f 0xbf", "Invalid Field in Command"),
                (f"nvme set-feature {self.controller} -f 0xbf --value=1", "Invalid Field in Command"),
                (f"nvme get-log {self.controller} -i 0xbf -l 512", "Invalid Log Page"),
            ):
                self.host.passthrough(command, status)

    def reset(self):
        with self.check("reset of the controller under fio --verify, five times"):
            job = self.host.fio("reset", self.disks[MEMORY], 15)
            for _ in range(5):
                self.guest.run("sleep 1")
                self.host.passthrough(f"nvme reset {self.controller}", None)
                self.host.wait_live(NQN)
            job.finish()
        with self.check("its disks are the same"):
            equal("disks", self.host.disks(NQN), self.disks)

    def connects(self):
        with self.check(f"{CONNECTS} connects and disconnects leave nothing"):
            self.host.disconnect_all()
            soon("no controller is left", lambda: not self.serve.controllers(), RECONNECT_SECONDS)
            files = self._open_files()
            for number in range(CONNECTS):
                self.host.connect(NQN)
                self.host.wait_disks(NQN, list(BLOCKS))
                self.host.disconnect(NQN)
                if number == 0:
                    memory = self.serve.memory()
            soon("no controller is left", lambda: not self.serve.controllers(), RECONNECT_SECONDS)
            equal("open files", self._open_files(), files)
            grown = self.serve.memory() - memory
            require(grown < 4 * MIB, f"{grown} bytes more are in use than after the first")

    # --- helpers

    def _size(self):
        return int(self.guest.run(f"blockdev --getsize64 {self.device}")) // self.block

    def _blocks(self, command, lba, count, options, status=None):
        """read, write and compare: they have data."""
        size = count * self.block
        self.host.passthrough(f"nvme {command} {self.device} -s {lba} -c {count - 1} -z {size} {options}", status)

    def _numbered(self, command, lba, count, status=None):
        """Commands without data."""
        self.host.passthrough(f"nvme {command} {self.device} -s {lba} -c {count - 1}", status)

    def _write(self, lba, name, count):
        """Random blocks, which are in /tmp/NAME, too."""
        self.guest.run(f"head -c {count * self.block} /dev/urandom > /tmp/{name}")
        self._blocks("write", lba, count, f"-d /tmp/{name}")

    def _same(self, lba, count, name):
        size = count * self.block
        self._blocks("read", lba, count, "> /tmp/read")
        self.guest.run(f"cmp -n {size} /tmp/read /tmp/{name}")

    def _feature(self, number, options=""):
        out = self.guest.run(f"nvme get-feature {self.controller} -f {number} {options}")
        found = re.search(r"value: ?(?:0x)?([0-9a-f]+)", out)
        if not found:
            raise CheckFailed(f"feature {number:#x}: {out}")
        return int(found[1], 16)

    def _open_files(self):
        return len(os.listdir(f"/proc/{self.serve.process.pid}/fd"))

    def _drop_dirty(self, length):
        """How many bytes of the file's beginning were not yet written to its disk, which they now
        never will be: to whom punches a hole the kernel accounts what it saves."""
        before = cancelled()
        file = os.open(self.backing_file, os.O_RDWR)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            keep_size, punch_hole = 1, 2
            whole = ctypes.c_int64(0), ctypes.c_int64(length)
            if libc.fallocate64(file, keep_size | punch_hole, *whole) != 0:
                raise OSError(ctypes.get_errno(), f"a hole in {self.backing_file}")
        finally:
            os.close(file)
        return cancelled() - before


def cancelled():
    with open("/proc/self/io") as file:
        return int(re.search(r"^cancelled_write_bytes: (\d+)", file.read(), re.MULTILINE)[1])
