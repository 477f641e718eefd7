"""The kernel's nvmet set up by `nvmf kernel-target` in the guest, and used by `nvmf` from outside."""
import copy
import hashlib
import json
import os
import random
import signal
import subprocess
import time

from . import kernel_log
from .configured import toml
from .kernel_log import KernelLog
from .report import CheckFailed, equal, require

NQN = "nqn.2024-01.org.example:vm-kernel-apply"
SECOND_NQN = "nqn.2024-01.org.example:vm-kernel-apply-2"
HOST_ID = "6a3cf1c2-6f3e-4d0c-9b3b-6d1d0a6b1c03"
HOST_NQN = f"nqn.2014-08.org.nvmexpress:uuid:{HOST_ID}"
OTHER_HOST = "nqn.2024-01.org.example:vm-somebody-else"
HOST = ["--hostnqn", HOST_NQN, "--hostid", HOST_ID]
# in the guest
FILE = "/tmp/target.toml"
SOCKET = "/run/apply.sock"
MIB = 1 << 20
# an address that the guest does not have (TEST-NET-1)
NOWHERE = "192.0.2.99"
SIZES = {1: 64 * MIB, 2: 32 * MIB, 3: 16 * MIB}
# of a device past the page cache, of a file, of a device through the page cache
BLOCKS = {1: 512, 2: 4096, 3: 4096}
# the commands that a busy host sends in a second: the guest has to do other things, too
BENCH_RATE = 50


class KernelApply:
    """The scenario and what its steps share."""

    HOSTS = 1

    def __init__(self, guest, command, report, files):
        self.guest = guest
        self.command = command
        self.check = report.check
        self.files = files
        self.random = random.Random(21)
        self.log = KernelLog(guest)
        self.configuration = {
            "discovery": {"referral": [{"address": "10.0.2.77:8009", "port-id": 7}]},
            "port": [
                {"id": 1, "listen": f"{guest.address}:4420"},
                {"id": 2, "listen": f"{guest.address}:4421", "ana": {"2": "inaccessible"}},
            ],
            "subsystem": [
                {
                    "nqn": NQN,
                    "serial": "APPLY1",
                    "hosts": [HOST_NQN],
                    "namespace": [
                        {"id": 1, "source": "file:/dev/apply1,bs=512,direct"},
                        {"id": 2, "source": "file:/tmp/apply2.img", "ana-group": 2},
                        {"id": 3, "source": "file:/dev/apply3"},
                    ],
                }
            ],
        }

    def run(self):
        self.prepare()
        self.from_serve_to_kernel()
        self.use()
        self.change_under_use()
        self.refusals()
        self.save()
        self.clear()

    # --- steps, in their order

    def prepare(self):
        with self.check("clear leaves nothing of what others set up by hand", essential=True):
            self.guest.run(". /run/lib.sh; modprobe configfs; nvmet_load")
            self._kernel_target("clear")
            self._nothing_left()
        with self.check("without nvmet it says what to load"):
            self.guest.run("modprobe -r nvmet-tcp nvmet")
            self._refused("clear", "the kernel's target is not loaded; try `modprobe -a nvmet nvmet-tcp`")
        with self.check("without root it says so"):
            self.guest.run(
                ". /run/lib.sh; nvmet_load; null_disk apply1 64 512; null_disk apply3 16 512\n"
                "truncate -s 32M /tmp/apply2.img; truncate -s 8M /tmp/apply9.img"
            )
            self._put(self.configuration)
            status, _, err = self.guest.run(
                f"chmod 666 /dev/apply1 /dev/apply3 /tmp/apply2.img {FILE}\n"
                f"setpriv --reuid 65534 --clear-groups nvmf kernel-target apply {FILE}",
                check=False,
            )
            require(status == 1 and "it takes root" in err, err)
            one_line(err)
            self._nothing_left()

    def from_serve_to_kernel(self):
        with self.check("nvmf serve in the guest serves the file", essential=True):
            self._serve(FILE)
            served = self._seen()
        with self.check("what nvmf serve has open is not given to the kernel"):
            self._refused(f"apply {FILE}", "the device is in use")
            self._nothing_left()
        with self.check("a dry run shows the steps and takes none", essential=True):
            self._stop_serving()
            plan = json.loads(self._kernel_target(f"apply {FILE} --dry-run -o json"))
            require(plan["done"] is False and len(plan["steps"]) > 20, plan)
            self._nothing_left()
        with self.check("apply takes just these steps, and a second one none", essential=True):
            done = json.loads(self._kernel_target(f"apply {FILE} -o json"))
            equal("steps", done["steps"], plan["steps"])
            self._settled()
        with self.check("hosts see the same disks as of nvmf serve"):
            equal("subsystem and namespaces", self._seen(), served)
        with self.check("the kernel's blocks are as the file says"):
            out = self.guest.run(
                "modprobe nvme-tcp; . /run/lib.sh\n"
                f"nvme connect -t tcp -a {self.guest.address} -s 4420 -n {NQN} -q {HOST_NQN} -I {HOST_ID} > /dev/null\n"
                f"for disk in $(nvme_devices {NQN} 3 | sort | sed -n 's/.*=//p'); do blockdev --getss $disk; done\n"
                f"nvme disconnect -n {NQN} > /dev/null"
            )
            equal("block sizes", out.split(), [str(size) for size in BLOCKS.values()])
        self._kernel_log("set up by a file")

    def use(self):
        with self.check("discover shows the ports and the referral"):
            for port in (4420, 4421):
                url = f"nvme+tcp://{self.guest.address}:{port}"
                log = self.command.json("discover", url, "--no-referrals", *HOST)
                entries = {(entry["subtype"], entry["traddr"], entry["trsvcid"]) for entry in log["records"]}
                require(("nvme subsystem", self.guest.address, str(port)) in entries, entries)
                require(any(address == "10.0.2.77" for _, address, _ in entries), entries)
        for nsid, device in ((1, "/dev/apply1"), (3, None), (2, None)):
            with self.check(f"namespace {nsid}: 8 MiB are written and read back"):
                data = self.random.randbytes(8 * MIB)
                self._write(nsid, data)
                self._has(nsid, data)
                if device is not None:
                    out = self.guest.run(f". /run/lib.sh; hash_disk {device} 0 {len(data)}", timeout=120)
                    equal(f"hash of {device}", out.strip(), hashlib.sha256(data).hexdigest())
        with self.check("a host that is not in the file is refused"):
            other = ["--hostnqn", OTHER_HOST, "--hostid", "6a3cf1c2-6f3e-4d0c-9b3b-6d1d0a6b1cfe"]
            self.command.run("read", self._target(1), "--length", "512", *other, status=1)
        self.log.mark()  # it logs that refusal, each kernel in its own words

    def change_under_use(self):
        changed = copy.deepcopy(self.configuration)
        subsystem = changed["subsystem"][0]
        subsystem["hosts"].append(OTHER_HOST)
        del subsystem["namespace"][1]
        subsystem["namespace"].append({"id": 9, "source": "file:/tmp/apply9.img", "ana-group": 3})
        changed["port"][0]["ana"] = {"3": "non-optimized"}
        changed["subsystem"].append(
            {"nqn": SECOND_NQN, "hosts": "any", "namespace": [{"source": "file:/tmp/apply2.img"}]}
        )
        del changed["discovery"]
        with self.check("the file changes while a host is busy, which does not notice"):
            bench = ["bench", self._target(1), *HOST, "--rw", "randrw", "--rate", str(BENCH_RATE)]
            bench += ["--time", "3600", "-o", "json"]
            with Busy(self.command, bench) as busy:
                time.sleep(2)
                self._apply(changed)
                self._settled()
                self._apply(self.configuration)
                self._apply(changed)
                busy.finish()
        with self.check("what was changed is what hosts see"):
            seen = self.command.json("identify", self._target(), *HOST)
            equal("namespaces", [entry["nsid"] for entry in seen["namespaces"]], [1, 3, 9])
            second = self.command.json("identify", f"nvme+tcp://{self.guest.address}:4421/{SECOND_NQN}", *HOST)
            equal("namespaces", [entry["nsid"] for entry in second["namespaces"]], [1])
            log = self.command.json("discover", f"nvme+tcp://{self.guest.address}:4420", *HOST)
            names = sorted(entry["subnqn"] for entry in log["records"])
            require({NQN, SECOND_NQN} <= set(names), names)
        with self.check("another serial number makes the subsystem anew"):
            changed["subsystem"][0]["serial"] = "APPLY2"
            self._apply(changed)
            self._settled()
            seen = self.command.json("identify", self._target(), "--controller", *HOST)
            equal("serial", seen["sn"].strip(), "APPLY2")
        self.changed = changed
        self._kernel_log("changes under use")

    def refusals(self):
        before = self._tree()
        with self.check("what nvmet cannot do is refused with file, line and key"):
            wrong = copy.deepcopy(self.changed)
            wrong["subsystem"][0]["namespace"][0]["source"] = "mem:64M"
            wrong["metrics"] = {"listen": "127.0.0.1:9184"}
            self._put(wrong)
            status, _, err = self.guest.run(f"nvmf kernel-target apply {FILE}", check=False)
            lines = err.splitlines()
            require(status == 1 and len(lines) == 3, err)
            require("subsystem[0].namespace[0].source: nvmet has files" in err and "metrics: nvmet has no" in err, err)
            require(all(f"{FILE}:" in line for line in lines), err)
        with self.check("the sizes of blocks are looked at"):
            wrong = copy.deepcopy(self.changed)
            wrong["subsystem"][0]["namespace"][0]["source"] = "file:/dev/apply1,direct"
            self._put(wrong)
            self._refused(f"apply {FILE}", "nvmet has blocks of 512 here")
        with self.check("what fails half-way is undone, and says so"):
            wrong = copy.deepcopy(self.changed)
            wrong["subsystem"][0]["serial"] = "APPLY3"
            wrong["port"][1]["listen"] = f"{NOWHERE}:4421"
            self._put(wrong)
            self._refused(f"apply {FILE}", "it is no address of this machine", "what had been done was undone")
            equal("nvmet's tree", self._tree(), before)
            self._apply(self.changed)
            self._settled()
        with self.check("it serves as before"):
            self._has(1, self._read(1, 4096))
        # the address that it cannot bind
        self._kernel_log("refusals", [r"nvmet_tcp: failed to bind port socket -99$"])

    def save(self):
        with self.check("what is saved is a configuration, and the one that is there"):
            self.guest.run("rm -f /tmp/saved.toml")
            _, _, err = self.guest.run("nvmf kernel-target save /tmp/saved.toml", check=False)
            equal("standard error", err, "")
            self.guest.run("nvmf config check /tmp/saved.toml")
            equal("steps", json.loads(self._kernel_target("apply /tmp/saved.toml -o json"))["steps"], [])
        with self.check("nvmf serve takes over what was saved"):
            self._kernel_target("clear")
            self._serve("/tmp/saved.toml")
            self._read(1, 4096)
            self._stop_serving()
            self._kernel_target("apply /tmp/saved.toml")

    def clear(self):
        with self.check("clear says what it takes away, and leaves nothing"):
            out = self._kernel_target("clear")
            for said in (f"rmdir subsystems/{NQN}", "rmdir ports/1", f"rmdir hosts/{HOST_NQN}"):
                require(said in out.splitlines(), out)
            self._nothing_left()
            equal("a second time", self._kernel_target("clear").strip(), "nothing to do")
        with self.check("nobody listens any more"):
            self.command.run("discover", f"nvme+tcp://{self.guest.address}:4420", *HOST, status=1)
        self._kernel_log("its end")

    # --- helpers

    def _put(self, configuration):
        self.guest.put(FILE, toml(configuration))

    def _apply(self, configuration):
        self._put(configuration)
        self._kernel_target(f"apply {FILE}")

    def _serve(self, file):
        """`nvmf serve` in the guest, until `_stop_serving`."""
        self.guest.run(
            f"nvmf serve --config {file} --control {SOCKET} > /tmp/serve.log 2>&1 &\n"
            "echo $! > /tmp/serve.pid\n"
            f"for i in $(seq 200); do nvmf ctl --socket {SOCKET} status > /dev/null 2>&1 && exit; sleep 0.1; done\n"
            "cat /tmp/serve.log >&2; exit 1"
        )

    def _stop_serving(self):
        self.guest.run("pid=$(cat /tmp/serve.pid); kill $pid; while [ -e /proc/$pid ]; do sleep 0.1; done")

    def _settled(self):
        equal("what is left to do", self._kernel_target(f"apply {FILE}").strip(), "nothing to do")

    def _kernel_target(self, arguments):
        return self.guest.run(f"nvmf kernel-target {arguments}")

    def _refused(self, arguments, *said):
        status, _, err = self.guest.run(f"nvmf kernel-target {arguments}", check=False)
        equal("status", status, 1)
        one_line(err)
        for text in said:
            require(text in err, f"no {text!r} in {err}")

    def _tree(self):
        """All of nvmet's files with what is in them, and its links."""
        return self.guest.run(
            "cd /sys/kernel/config/nvmet; find . -type l | sort\n"
            "find . -type f ! -name revalidate_size | sort | while read -r f; do echo \"$f: $(cat \"$f\")\"; done"
        )

    def _nothing_left(self):
        out = self.guest.run("cd /sys/kernel/config/nvmet; ls subsystems ports hosts")
        equal("what is left", out.split(), ["hosts:", "ports:", "subsystems:"])

    def _seen(self):
        """What tells hosts which disks they see."""
        seen = self.command.json("identify", self._target(), *HOST)
        disks = []
        for entry in seen["namespaces"]:
            described = self.command.json("identify", self._target(entry["nsid"]), "--cns", "3", *HOST)["ns-descs"]
            uuids = [one["uuid"] for one in described if one["Type"] == "uuid"]
            disks.append([entry["nsid"], entry["nsze"], entry["lbafs"][0]["ds"], entry["nguid"], *uuids])
        return [seen["controller"]["sn"], seen["controller"]["mn"], disks]

    def _target(self, nsid=None, port=4420):
        return f"nvme+tcp://{self.guest.address}:{port}/{NQN}" + ("" if nsid is None else f"/{nsid}")

    def _write(self, nsid, data):
        self.command.run("write", self._target(nsid), *HOST, "--length", str(len(data)), stdin=data)

    def _read(self, nsid, length):
        out, _ = self.command.run("read", self._target(nsid), *HOST, "--length", str(length))
        return out

    def _has(self, nsid, data):
        got = self._read(nsid, len(data))
        require(got == data, f"namespace {nsid} does not have what was written")

    def _kernel_log(self, what, *more):
        with self.check(f"the kernel logs nothing unusual about {what}"):
            self.log.require_usual(kernel_log.LOADING, kernel_log.CONNECTING, kernel_log.EXPORTING, *more)


class Busy:
    """An `nvmf` command that runs meanwhile, until it is interrupted."""

    def __init__(self, command, arguments):
        self.arguments = arguments
        self.log = os.path.join(command.logs, "busy.log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command.network.inside([command.binary, *arguments]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def finish(self):
        """It must still run, and end well with what it has to say."""
        if self.process.poll() is not None:
            raise CheckFailed(f"it ended with status {self.process.returncode}; see {self.log}")
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=60)
        equal("status of the busy host", self.process.returncode, 0)
        require(json.loads(out), "no output")


def one_line(message):
    require(len(message.strip().splitlines()) == 1, f"not one line:\n{message}")
