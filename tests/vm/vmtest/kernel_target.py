"""The kernel's nvmet as target, `nvmf` as host."""
import hashlib
import os
import random

from . import kernel_log
from .kernel_log import KernelLog
from .report import CheckFailed, equal, require

NQN = "nqn.2024-01.org.example:vm-kernel-target"
PASSTHROUGH_NQN = "nqn.2024-01.org.example:vm-passthrough"
HOST_NQN = "nqn.2014-08.org.nvmexpress:uuid:6a3cf1c2-6f3e-4d0c-9b3b-6d1d0a6b1c02"
HOST_ID = "6a3cf1c2-6f3e-4d0c-9b3b-6d1d0a6b1c02"
HOST = ["--hostnqn", HOST_NQN, "--hostid", HOST_ID]
MIB = 1 << 20

# NSID: (MiB, block size)
NAMESPACES = {1: (256, 4096), 2: (64, 512), 3: (8, 512)}
# port: how much data nvmet takes in a capsule. Connect's own 1024 bytes come in one, so that no
# less is possible; with 4096-byte blocks every write then needs an R2T.
PORTS = {4420: 16384, 4421: 4096, 4422: 1024}
PASSTHROUGH_PORT = 4423
# an emulated NVMe disk, passed through by nvmet with its MDTS: nvmet itself has none
PASSTHROUGH_MIB = 128
PASSTHROUGH_MDTS = 3  # in units of 4096 bytes, as a power of two: 32 KiB
DIGESTS = {
    "no digest": (0, []),
    "header digest": (1, ["--hdgst"]),
    "data digest": (2, ["--ddgst"]),
    "both digests": (3, ["--hdgst", "--ddgst"]),
}
# what identify and log must show at least, by the names nvme-cli gives them
CONTROLLER_FIELDS = """vid ssvid sn mn fr cmic mdts cntlid ver oaes ctratt cntrltype oacs acl aerl frmw lpa elpe kas
    sqes cqes maxcmd nn oncs fuses vwc sgls subnqn ioccsz iorcsz icdoff fcatt msdbd""".split()
NAMESPACE_FIELDS = "nsze ncap nuse nsfeat nlbaf flbas mc dpc dps nmic dlfeat nguid eui64 lbafs".split()
SMART_FIELDS = """critical_warning temperature avail_spare spare_thresh percent_used data_units_read data_units_written
    host_read_commands host_write_commands media_errors num_err_log_entries""".split()


def has_passthrough(kernel):
    return kernel != "bookworm"  # Debian's 6.1 is built without


def devices(kernel, files, name):
    """qemu's arguments for the disk that nvmet passes through; `name`: the guest's."""
    if not has_passthrough(kernel):
        return []
    path = os.path.join(files, f"passthrough-{name}.img")
    with open(path, "wb") as file:
        file.truncate(PASSTHROUGH_MIB * MIB)
    return [
        "-drive", f"if=none,id=passthrough,file={path},format=raw,cache=unsafe",
        "-device", f"nvme,drive=passthrough,serial=passthrough,mdts={PASSTHROUGH_MDTS}",
    ]  # fmt: skip


class KernelTarget:
    """The scenario and what its steps share."""

    HOSTS = 1

    def __init__(self, guest, command, report, files):
        self.guest = guest
        self.command = command
        self.check = report.check
        self.files = files
        self.random = random.Random(20)
        self.log = KernelLog(guest)

    def run(self):
        self.export()
        self.discover()
        self.identify()
        self.digests()
        self.sizes()
        self.unaligned()
        self.whole_namespace()
        self.refusals()
        if has_passthrough(self.guest.kernel):
            self.larger_than_mdts()

    # --- steps, in their order

    def export(self):
        with self.check("nvmet exports the namespaces", essential=True):
            script = f". /run/lib.sh; set -e; modprobe nvme-tcp; nvmet_load; nvmet_subsystem {NQN}\n"
            for nsid, (size, block) in NAMESPACES.items():
                script += f"null_disk target{nsid} {size} {block}; nvmet_namespace {NQN} {nsid} /dev/target{nsid}\n"
            for port, inline in PORTS.items():
                script += f"nvmet_port {port} {self.guest.address} {port} {inline} {NQN}\n"
            if has_passthrough(self.guest.kernel):
                script += f"nvmet_passthrough {PASSTHROUGH_NQN} /dev/$(nvme_by_serial passthrough)\n"
                address = f"{self.guest.address} {PASSTHROUGH_PORT}"
                script += f"nvmet_port {PASSTHROUGH_PORT} {address} 16384 {PASSTHROUGH_NQN}\n"
            self.guest.run(script)

    def discover(self):
        with self.check("discover shows the subsystem at each port"):
            for port in PORTS:
                log = self.command.json("discover", f"nvme+tcp://{self.guest.address}:{port}", *HOST)
                entries = [entry for entry in log["records"] if entry["subnqn"] == NQN]
                equal("number of entries", len(entries), 1)
                wanted = {
                    "trtype": "tcp",
                    "adrfam": "ipv4",
                    "subtype": "nvme subsystem",
                    "traddr": self.guest.address,
                    "trsvcid": str(port),
                    "sectype": "none",
                }
                equal("entry", {key: entries[0][key] for key in wanted}, wanted)
        with self.check("discover agrees with nvme-cli in the guest, field by field"):
            ours = self.command.json("discover", f"nvme+tcp://{self.guest.address}:4420", *HOST)
            theirs = self.guest.json(f"nvme discover -t tcp -a {self.guest.address} -s 4420 -o json")
            equal("records", ours["records"], theirs["records"])
        self._kernel_log("discovery")

    def identify(self):
        """What nvmf shows of the subsystem is what nvme-cli shows of it."""
        with self.check("nvme-cli in the guest sees its own target", essential=True):
            theirs = {}
            self.guest.run(f"nvme connect -t tcp -a {self.guest.address} -s 4420 -n {NQN}")
            controller, *_ = self.guest.run(f". /run/lib.sh; nvme_devices {NQN} {len(NAMESPACES)}").split()
            theirs["controller"] = self.guest.json(f"nvme id-ctrl {controller} -o json")
            for nsid in NAMESPACES:
                theirs[nsid] = self.guest.json(f"nvme id-ns {controller} -n {nsid} -o json")
            theirs["registers"] = self.guest.json(f"nvme show-regs {controller} -o json")
            theirs["smart"] = self.guest.json(f"nvme smart-log {controller} -o json")
            self.guest.run(f"nvme disconnect -n {NQN}")
        with self.check("identify shows the controller as nvme-cli does"):
            ours = self.command.json("identify", self._target(), *HOST)["controller"]
            # each association has a controller of its own; the power states are nvme-cli's own shape
            same(ours, theirs["controller"], CONTROLLER_FIELDS, but=("cntlid", "psds"))
        with self.check("identify shows each namespace as nvme-cli does"):
            ours = self.command.json("identify", self._target(), *HOST)["namespaces"]
            equal("namespaces", [entry["nsid"] for entry in ours], list(NAMESPACES))
            for entry in ours:
                same(entry, theirs[entry["nsid"]], NAMESPACE_FIELDS, but=("vs",))
        with self.check("identify shows one namespace"):
            one = self.command.json("identify", self._target(2), *HOST)
            equal("namespace 2", one, {key: value for key, value in ours[1].items() if key != "nsid"})
        with self.check("property shows the registers as nvme-cli does"):
            ours = self.command.json("property", self._target(), *HOST)
            for name in ("cap", "vs", "csts"):
                equal(name, ours[name], theirs["registers"][name])
        with self.check("log shows the SMART log as nvme-cli does"):
            ours = self.command.json("log", self._target(), "smart", *HOST)
            # what has happened since, and to another controller
            counters = [name for name in theirs["smart"] if name.startswith(("data_units", "host_", "num_err"))]
            same(ours, theirs["smart"], SMART_FIELDS, but=counters)
        self._kernel_log("identify, property and log")

    def digests(self):
        for name, (bits, options) in DIGESTS.items():
            with self.check(f"{name}: the connection asks for just that"):
                equal("DGST of each ICReq", self._digests_asked(options), {bits})
            with self.check(f"{name}: 64 MiB written, read back, and in the guest the same"):
                data = self.random.randbytes(64 * MIB)
                self._write(1, 0, data, *options)
                self._same_bytes("read back", self._read(1, 0, len(data), *options), data)
                self._guest_has("/dev/target1", 0, data)
        self._kernel_log("digests")

    def sizes(self):
        lengths = [512, 1024, 1536, 4096, 4608, 8192, 16384, 16896, 65536, 131072, 262656, MIB, 4 * MIB + 512]
        for port, inline in PORTS.items():
            for digests in ("no digest", "both digests"):
                with self.check(f"writes of 512 bytes to 4 MiB, {inline} of them in a capsule, {digests}"):
                    options = DIGESTS[digests][1]
                    # gaps between them keep what was there
                    model = bytearray(self.random.randbytes(sum(lengths) + 512 * (len(lengths) + 1)))
                    self._write(2, 0, bytes(model), *options, port=port)
                    offset = 512
                    for length in lengths:
                        data = self.random.randbytes(length)
                        self._write(2, offset, data, *options, port=port)
                        model[offset : offset + length] = data
                        self._same_bytes(
                            f"{length} bytes read back", self._read(2, offset, length, *options, port=port), data
                        )
                        offset += length + 512
                    self._guest_has("/dev/target2", 0, bytes(model))
        self._kernel_log("sizes")

    def unaligned(self):
        size = 2 * MIB
        with self.check("a range that is not whole blocks is read, modified and written, its neighbours stay"):
            model = bytearray(self.random.randbytes(size))
            self._write(1, 0, bytes(model))
            ranges = [(0, 1), (1, 1), (4095, 2), (100, 3996), (1000, 5000), (12305, 20480), (8192, 4097), (size - 1, 1)]
            for _ in range(12):
                offset = self.random.randrange(size)
                ranges.append((offset, self.random.randint(1, min(300_000, size - offset))))
            for offset, length in ranges:
                data = self.random.randbytes(length)
                self._write(1, offset, data)
                model[offset : offset + length] = data
                self._same_bytes(f"{length} bytes at {offset}", self._read(1, offset, length), data)
            self._guest_has("/dev/target1", 0, bytes(model))
        with self.check("any range of bytes is read"):
            for offset, length in ((0, 1), (4095, 2), (511, 4097), (77777, 654321), (size - 3, 3)):
                self._same_bytes(
                    f"{length} bytes at {offset}", self._read(1, offset, length), bytes(model[offset : offset + length])
                )
        self._kernel_log("unaligned ranges")

    def whole_namespace(self):
        with self.check("a whole namespace is written from a file and read into one"):
            data = self.random.randbytes(NAMESPACES[3][0] * MIB)
            source, copy = os.path.join(self.files, "source"), os.path.join(self.files, "copy")
            with open(source, "wb") as file:
                file.write(data)
            self.command.run("write", self._target(3), source, *HOST)
            self.command.run("read", self._target(3), copy, *HOST)
            with open(copy, "rb") as file:
                self._same_bytes("copy", file.read(), data)
            self._guest_has("/dev/target3", 0, data)
        self._kernel_log("a whole namespace")

    def refusals(self):
        with self.check("a write past the end is refused before anything is written"):
            size = NAMESPACES[3][0] * MIB
            before = self._guest_hash("/dev/target3", 0, size)
            data = self.random.randbytes(8192)
            for offset in (size - 4096, size, size + 4096):
                _, err = self._write(3, offset, data, status=1)
                require(err.strip(), "no message")
            equal("hash of the namespace", self._guest_hash("/dev/target3", 0, size), before)
        with self.check("a namespace that is not there is refused"):
            _, err = self.command.run("read", self._target(9), *HOST, status=1)
            one_line(err)
        self._kernel_log("a namespace that is not there")
        with self.check("an unknown subsystem is refused with the status's name"):
            _, err = self.command.run("read", f"nvme+tcp://{self.guest.address}:4420/{NQN}-unknown/1", *HOST, status=1)
            one_line(err)
            require("invalid parameters" in err.lower(), err)
            self.log.require_usual([rf"nvmet: connect request for invalid subsystem {NQN}-unknown!"])
        with self.check("a port where nothing listens fails at once"):
            _, err = self.command.run("discover", f"nvme+tcp://{self.guest.address}:4999", *HOST, status=1, timeout=10)
            one_line(err)
        with self.check("wrong usage has status 2"):
            self.command.run("read", status=2)
            self.command.run("read", "nvme+rdma://somewhere", status=2)

    def larger_than_mdts(self):
        target = f"nvme+tcp://{self.guest.address}:{PASSTHROUGH_PORT}/{PASSTHROUGH_NQN}/1"
        with self.check("nvmet passes an MDTS of 32 KiB through"):
            ours = self.command.json("identify", target, "--controller", *HOST)
            equal("mdts", ours["mdts"], PASSTHROUGH_MDTS)
        for name, (_, options) in DIGESTS.items():
            with self.check(f"transfers larger than MDTS are split, {name}"):
                for offset, length in ((0, 16 * MIB), (512, 33 * 1024), (31 * 1024, 2 * MIB), (100, 65537)):
                    data = self.random.randbytes(length)
                    span = ["--offset", str(offset), "--length", str(length)]
                    self.command.run("write", target, *HOST, *span, *options, stdin=data)
                    out, _ = self.command.run("read", target, *HOST, *span, *options)
                    self._same_bytes(f"{length} bytes at {offset}", out, data)
                    self._guest_has("/dev/$(nvme_by_serial passthrough)n1", offset, data)
        self._kernel_log("transfers larger than MDTS")

    # --- helpers

    def _target(self, nsid=None, port=4420):
        return f"nvme+tcp://{self.guest.address}:{port}/{NQN}" + ("" if nsid is None else f"/{nsid}")

    def _write(self, nsid, offset, data, *options, port=4420, status=0):
        span = ["--offset", str(offset), "--length", str(len(data))]
        return self.command.run("write", self._target(nsid, port), *HOST, *span, *options, stdin=data, status=status)

    def _read(self, nsid, offset, length, *options, port=4420):
        span = ["--offset", str(offset), "--length", str(length)]
        out, _ = self.command.run("read", self._target(nsid, port), *HOST, *span, *options)
        return out

    def _guest_hash(self, device, offset, length):
        script = f". /run/lib.sh; hash_disk {device} {offset} {length}"
        return self.guest.run(script, timeout=120).strip()

    def _guest_has(self, device, offset, data):
        wanted = hashlib.sha256(data).hexdigest()
        equal(f"hash of {device} in the guest", self._guest_hash(device, offset, len(data)), wanted)

    def _digests_asked(self, options):
        """The DGST fields of the ICReqs that the guest receives during a small read."""
        self.guest.run(
            "rm -f /tmp/icreq.*\n"
            "tcpdump -Z root --immediate-mode -i any -U -s 256 -w /tmp/icreq.pcap 'tcp dst port 4420' "
            "> /tmp/icreq.log 2>&1 &\n"
            "echo $! > /tmp/icreq.pid\n"
            "for i in $(seq 100); do grep -q 'listening on' /tmp/icreq.log && exit 0; sleep 0.1; done; exit 1"
        )
        try:
            self._read(1, 0, 4096, *options)
        finally:
            # PDU type 0, no flags, HLEN 128, PDO 0, PLEN 128, PFV 0, then HPDA and DGST
            out = self.guest.run(
                "sleep 0.3; kill $(cat /tmp/icreq.pid); sleep 0.3; python3 - << 'X'\n"
                "data = open('/tmp/icreq.pcap', 'rb').read()\n"
                "parts = data.split(bytes([0, 0, 128, 0, 128, 0, 0, 0, 0, 0]))\n"
                "print(*[part[1] for part in parts[1:]])\n"
                "X"
            )
        asked = [int(word) for word in out.split()]
        require(len(asked) >= 2, f"{len(asked)} ICReqs seen, but there is an admin and an I/O queue")
        return set(asked)

    @staticmethod
    def _same_bytes(what, got, wanted):
        if got != wanted:
            first = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
            raise CheckFailed(f"{what}: {len(got)} bytes instead of {len(wanted)}, the first difference at {first}")

    def _kernel_log(self, what):
        with self.check(f"the kernel logs nothing unusual about {what}"):
            self.log.require_usual(kernel_log.LOADING, kernel_log.CONNECTING, kernel_log.EXPORTING)


def same(ours, theirs, needed, but):
    """All fields that are needed are there, and each field that nvme-cli prints too has its value."""
    missing = sorted(set(needed) - set(ours))
    require(not missing, f"fields missing: {', '.join(missing)}")
    differences = [
        f"{key}: {value!r}, nvme-cli has {theirs[key]!r}"
        for key, value in ours.items()
        if key in theirs and key not in but and plain(value) != plain(theirs[key])
    ]
    require(not differences, "\n".join(differences))


def plain(value):
    return value.rstrip() if isinstance(value, str) else value


def one_line(message):
    require(len(message.strip().splitlines()) == 1, f"not one line:\n{message}")
