"""`nvmf` in the guest makes the guest's kernel connect, to `nvmf serve` outside and to nvmet."""
import hashlib
import json
import re
import time

from . import kernel_log
from .configured import PORTS
from .host import KEEP_ALIVE_SECONDS
from .net import MACHINE, SECOND_MACHINE
from .report import equal, require
from .scenario import Scenario

PREFIX = "nqn.2024-01.org.example:vm-handoff"
NQN = f"{PREFIX}-open"
SECOND_NQN = f"{PREFIX}-second"
OTHERS_NQN = f"{PREFIX}-others"
NVMET_NQN = f"{PREFIX}-nvmet"
STRANGER = "nqn.2014-08.org.nvmexpress:uuid:6a3cf1c2-6f3e-4d0c-9b3b-6d1d0a6b1cfe"
NVMET_PORT = 4450
MIB = 1 << 20
# of which nothing is known on the guests' networks
NOWHERE = "10.0.2.99"
URL = f"nvme+tcp://{MACHINE}/{NQN}"


class Handoff(Scenario):
    NAME = "handoff"

    def configuration(self):
        ports = [dict(port) for port in PORTS]
        ports[1]["ana"] = {"2": "inaccessible"}
        return {
            "port": ports,
            "transport": {"header-digest": True, "data-digest": False},
            "subsystem": [
                {
                    "nqn": NQN,
                    "hosts": "any",
                    "namespace": [
                        {"id": 1, "source": "mem:64M,bs=4096"},
                        {"id": 7, "source": "mem:16M,bs=512"},
                    ],
                },
                {
                    "nqn": SECOND_NQN,
                    "hosts": "any",
                    "namespace": [{"id": 1, "source": "mem:16M"}, {"id": 2, "source": "mem:16M", "ana-group": 2}],
                },
                {"nqn": OTHERS_NQN, "hosts": [STRANGER], "namespace": [{"id": 1, "source": "mem:16M"}]},
            ],
        }

    def steps(self):
        self.no_module()
        self.no_permission()
        self.refusals()
        self.connect()
        self.listing()
        self.again()
        self.options()
        self.two_paths()
        self.inaccessible()
        self.kernel_log("connecting", kernel_log.PATHS)
        self.connect_all()
        self.nvmet()
        self.kernel_log("connect-all and nvmet", kernel_log.PATHS, kernel_log.EXPORTING)
        self.unchecked()

    # --- steps, in their order

    def no_module(self):
        with self.check("without the module, the error says how to load it"):
            self.guest.run("rmmod nvme_tcp nvme_fabrics")
            err = self._refused(f"nvmf connect {URL}")
            require("modprobe nvme-tcp" in err, err)
            self.guest.run("modprobe nvme-tcp")
        with self.check("every option that the kernel knows can be given"):
            known = self.guest.run("cat /dev/nvme-fabrics").strip().split(",")
            known = {part.split("=")[0] for part in known} - {"instance", "cntlid"}
            help_text = self.guest.run("nvmf connect --help")
            # the subsystem's type is asked of the target
            offered = {name.replace("-", "_") for name in re.findall(r"--([\w-]+)", help_text)} | {"discovery"}
            require(len(known) > 15, f"the kernel knows {known}")
            equal("options that cannot be given", known - offered, set())

    def no_permission(self):
        with self.check("without root, the error says that it needs root"):
            err = self._refused(f"setpriv --reuid=65534 --clear-groups nvmf connect {URL} -q {STRANGER}")
            require("needs root" in err, err)
        with self.check("without root, list works"):
            self.guest.run("setpriv --reuid=65534 --clear-groups nvmf list --verbose")

    def refusals(self):
        cases = {
            "an unknown subsystem": (f"nvme+tcp://{MACHINE}/{NQN}-unknown", "no such subsystem"),
            "a host that is not allowed": (f"nvme+tcp://{MACHINE}/{OTHERS_NQN}", "does not let"),
            "a port where nothing listens": (f"nvme+tcp://{MACHINE}:4999/{NQN}", "refused"),
            "an address where nobody is": (f"nvme+tcp://{NOWHERE}/{NQN} --timeout 8", "cannot connect to"),
            "a digest that the target does without": (f"{URL} --data-digest", "does without data digests"),
            "a namespace in the URL": (f"{URL}/1", "leave out /1"),
        }
        for what, (arguments, wanted) in cases.items():
            with self.check(f"{what}: the error says so, and the kernel is not asked"):
                err = self._refused(f"nvmf connect {arguments}")
                require(wanted in err and "Invalid argument" not in err, err)
        with self.check("an option that the kernel does not know is refused by name"):
            known = "concat" in self.guest.run("cat /dev/nvme-fabrics")
            err = self._refused(f"nvmf connect {URL} {'-Q 8' if known else '--concat'}")
            require("queue_size is 8" in err if known else "does not know the option concat" in err, err)
        self.kernel_log("what was refused before it was asked")

    def connect(self):
        with self.check("connect prints the controller and its disks, which are there by then", essential=True):
            made = self._connect(URL)
            self.device = made["device"]
            equal("subsystem", (made["SubsystemNQN"], made["traddr"], made["trsvcid"]), (NQN, MACHINE, "4420"))
            equal("missing", made["Missing"], [])
            self.disks = {entry["NSID"]: f"/dev/{entry['NameSpace']}" for entry in made["Namespaces"]}
            sizes = {entry["NSID"]: (entry["PhysicalSize"], entry["SectorSize"]) for entry in made["Namespaces"]}
            equal("sizes", sizes, {1: (64 * MIB, 4096), 7: (16 * MIB, 512)})
            for disk in self.disks.values():
                self.guest.run(f"[ -b {disk} ]")
            equal("as sysfs has them", self.disks, self.host.disks(NQN))
        with self.check("what the guest writes to the disk, the target has"):
            written = self.guest.run(
                f"set -e; head -c 8M /dev/urandom > /tmp/data; sha256sum < /tmp/data\n"
                f"dd if=/tmp/data of={self.disks[1]} bs=1M oflag=direct status=none\n"
                f"cmp -n {8 * MIB} /tmp/data {self.disks[1]}; rm /tmp/data",
                timeout=120,
            ).split()[0]
            out, _ = self.command.run("read", f"{URL}/1", "--length", "8M")
            equal("hash", hashlib.sha256(out).hexdigest(), written)
        with self.check("the kernel's host is the one that nvmf is, by name and identifier"):
            out = self.guest.run(f"cd /sys/class/nvme/{self.device}; cat hostnqn hostid").split()
            equal("host", out, [self.guest.host_nqn, self.guest.host_id])

    def listing(self):
        with self.check("list agrees with nvme list-subsys"):
            theirs = {
                (entry["Name"], entry["NQN"], *(path[key] for key in ("Name", "Transport", "Address", "State")))
                for host in self.guest.json("nvme list-subsys -o json")
                for entry in host["Subsystems"]
                for path in entry["Paths"]
            }
            ours = {
                (entry["Subsystem"], entry["SubsystemNQN"],
                 *(controller[key] for key in ("Controller", "Transport", "Address", "State")))
                for host in self._list()
                for entry in host["Subsystems"]
                for controller in entry["Controllers"]
            }  # fmt: skip
            require(any(NQN in entry for entry in ours), f"{ours}")
            equal("controllers", ours, theirs)
        with self.check("list has what nvme list -v has, by the same names"):
            theirs = self._of_subsystem(self.guest.json("nvme list -v -o json")["Devices"], NQN)
            ours = self._of_subsystem(self._list(), NQN)
            for part in ("Controllers", "Namespaces"):
                same = shared(ours[part][0], theirs[part][0])
                require(len(same) >= 4, f"only {sorted(same)} are in both of {ours[part]} and {theirs[part]}")
                for key in same:
                    equal(f"{key} of {part}", plain(ours[part][0][key]), plain(theirs[part][0][key]))
        with self.check("list is a table of disks, and with --verbose one of controllers and paths"):
            out = self.guest.run("nvmf list")
            for disk in self.disks.values():
                require(re.search(rf"^{disk} .*{NQN} +{self.device}$", out, re.M), out)
            out = self.guest.run("nvmf list --verbose")
            require(re.search(rf"^{self.device} +live .*traddr={MACHINE}", out, re.M), out)
            require(re.search(rf"c\d+n\d+ +{self.device} +optimized", out), out)

    def again(self):
        with self.check("a second connect is refused with the controller's name, and done with -D"):
            err = self._refused(f"nvmf connect {URL}")
            require(f"already connected to it as {self.device}" in err, err)
            self._connect(f"{URL} -D")
            equal("controllers", len(self.host.controllers(NQN)), 2)
        with self.check("disconnect by NQN takes both away, and the disks"):
            out = self.guest.run(f"nvmf disconnect -n {NQN}")
            require("disconnected 2 controller(s)" in out, out)
            equal("controllers and disks", (self.host.controllers(NQN), self.host.disks(NQN)), ({}, {}))
            err = self._refused(f"nvmf disconnect -n {NQN}")
            require("not connected to" in err, err)

    def options(self):
        with self.check("options reach the kernel"):
            made = self._connect(
                f"-t tcp -a {MACHINE} -s 4420 -n {NQN} -i 1 -Q 32 -k 25 -c 3 -l 90 --fast_io_fail_tmo 40 --hdr-digest "
                f"-q {STRANGER} -w {self.guest.address}"
            )
            directory = f"/sys/class/nvme/{made['device']}"
            out = self.guest.run(f"cd {directory}; cat sqsize kato reconnect_delay ctrl_loss_tmo fast_io_fail_tmo")
            equal("options", out.split(), ["31", "25", "3", "90", "40"])
            out = self.guest.run(f"cd {directory}; cat hostnqn address queue_count").split()
            require(out[0] == STRANGER and f"host_traddr={self.guest.address}" in out[1], f"{out}")
            equal("queues, with that for commands", out[2], "2")
            # the identifier is derived from the NQN, the same by the guest and by the machine
            equal("as the target has it", len(self.serve.controllers(STRANGER)), 1)
        with self.check("disconnect by device takes just that away"):
            self.guest.run(f"nvmf disconnect -d /dev/{made['device']}")
            equal("controllers", self.host.controllers(NQN), {})

    def two_paths(self):
        with self.check("two paths lead to the same disks, and list has both"):
            first = self._connect(URL)
            second = self._connect(f"nvme+tcp://{SECOND_MACHINE}/{NQN}")
            equal("disks", names(second), names(first))
            ours = self._of_subsystem(self._list(), NQN)
            devices = sorted([first["device"], second["device"]])
            equal("controllers", sorted(entry["Controller"] for entry in ours["Controllers"]), devices)
            for namespace in ours["Namespaces"]:
                equal("paths", sorted(path["Controller"] for path in namespace["Paths"]), devices)
                equal("states", {path["ANAState"] for path in namespace["Paths"]}, {"optimized"})
            self.guest.run(f"nvmf disconnect -d {first['device']}")
            equal("controllers", list(self.host.controllers(NQN)), [second["device"]])
            self.guest.run(f"[ -b /dev/{names(second)[0]} ]")
        with self.check("disconnect-all leaves nothing but what is in slots"):
            out = self.guest.run("nvmf disconnect-all")
            require("disconnected 1 controller(s)" in out, out)
            transports = self.guest.run("cat /sys/class/nvme/nvme*/transport 2> /dev/null; true").split()
            require(set(transports) <= {"pcie"}, f"{transports}")

    def inaccessible(self):
        with self.check("a namespace whose path cannot be used is not waited for, and has a disk once one can be"):
            start = time.monotonic()
            made = self._connect(f"nvme+tcp://{SECOND_MACHINE}/{SECOND_NQN} --wait 60")
            require(time.monotonic() - start < 30, "it was waited for")
            has_disk = {entry["NSID"]: entry["HasDevice"] for entry in made["Namespaces"]}
            equal("disks", (has_disk, made["Missing"]), ({1: True, 2: False}, []))
            out = self.guest.run("nvmf list")
            require(re.search(rf"^\(nvme\d+n\d+\) .*{SECOND_NQN} +{made['device']} \(inaccessible\)$", out, re.M), out)
            made = self._connect(f"nvme+tcp://{MACHINE}/{SECOND_NQN}")
            has_disk = {entry["NSID"]: entry["HasDevice"] for entry in made["Namespaces"]}
            equal("disks by the other path", has_disk, {1: True, 2: True})
            self.guest.run(f"nvmf disconnect -n {SECOND_NQN}")

    def connect_all(self):
        command = f"nvmf connect-all nvme+tcp://{MACHINE}:8009 -k {KEEP_ALIVE_SECONDS} -o json"
        addresses = {MACHINE, SECOND_MACHINE}
        with self.check("connect-all connects to what this host may use, by each path"):
            report = self.guest.json(command, timeout=120)
            equal("failures", report["failed"], [])
            for nqn in (NQN, SECOND_NQN):
                found = {entry["address"] for entry in self.host.controllers(nqn).values() if entry["state"] == "live"}
                equal(f"addresses of {nqn}", found, addresses)
            equal("controllers of others", self.host.controllers(OTHERS_NQN), {})
        with self.check("a second connect-all leaves everything as it is"):
            again = self.guest.json(command, timeout=120)
            equal("connected and failed", (again["connected"], again["failed"]), ([], []))
            equal("skipped", len(again["skipped"]), len(report["connected"]))
            require(all("already connected as nvme" in entry["reason"] for entry in again["skipped"]), f"{again}")
        with self.check("one that went is connected again, the others stay"):
            self.guest.run(f"nvmf disconnect -n {SECOND_NQN}")
            again = self.guest.json(command, timeout=120)
            equal("subsystems", {entry["SubsystemNQN"] for entry in again["connected"]}, {SECOND_NQN})
            self.guest.run("nvmf disconnect-all")
        with self.check("a persistent discovery controller is one without disks"):
            made = self._connect(f"nvme+tcp://{MACHINE}:8009/nqn.2014-08.org.nvmexpress.discovery")
            equal("disks", made["Namespaces"], [])
            kind = self.guest.run(f"cat /sys/class/nvme/{made['device']}/cntrltype").strip()
            equal("type", kind, "discovery")
            self.guest.run(f"nvmf disconnect -d {made['device']}")

    def nvmet(self):
        with self.check("nvmet exports a disk"):
            self.guest.run(
                f". /run/lib.sh; set -e; nvmet_load; null_disk handoff 32 4096; nvmet_subsystem {NVMET_NQN}\n"
                f"nvmet_namespace {NVMET_NQN} 3 /dev/handoff\n"
                f"nvmet_port {NVMET_PORT} {self.guest.address} {NVMET_PORT} 16384 {NVMET_NQN}"
            )
        with self.check("connect to nvmet: the disk has what the exported one has"):
            made = self._connect(f"nvme+tcp://{self.guest.address}:{NVMET_PORT}/{NVMET_NQN} --data-digest")
            equal("namespaces", [entry["NSID"] for entry in made["Namespaces"]], [3])
            out = self.guest.run(
                f"set -e; . /run/lib.sh; head -c 4M /dev/urandom > /tmp/data\n"
                f"dd if=/tmp/data of=/dev/{names(made)[0]} bs=1M oflag=direct status=none\n"
                f"hash_disk /dev/handoff 0 {4 * MIB}; sha256sum < /tmp/data; rm /tmp/data",
                timeout=120,
            ).split()
            equal("hash", out[0], out[1])
            self.guest.run("nvmf disconnect-all")
        with self.check("nvmet refuses in words, too"):
            err = self._refused(f"nvmf connect nvme+tcp://{self.guest.address}:{NVMET_PORT}/{NVMET_NQN}-unknown")
            require("no such subsystem" in err, err)
            # its log has that
            self.forget_log()
        with self.check("nvmet's export is taken back"):
            self.guest.run(
                f"set -e; cd /sys/kernel/config/nvmet; rm ports/{NVMET_PORT}/subsystems/*; rmdir ports/{NVMET_PORT}\n"
                f"rmdir subsystems/{NVMET_NQN}/namespaces/3 subsystems/{NVMET_NQN}\n"
                "rmdir /sys/kernel/config/nullb/handoff"
            )

    def unchecked(self):
        """Last: the kernel logs what it thinks of it."""
        with self.check("with --no-check it is the kernel that refuses, in words"):
            err = self._refused(f"nvmf connect nvme+tcp://{MACHINE}/{NQN}-unknown --no-check")
            require("the kernel" in err and "Errno" not in err, err)
            err = self._refused(f"nvmf connect nvme+tcp://{MACHINE}:4999/{NQN} --no-check")
            require("the target refused the connection" in err, err)
            made = self._connect(f"{URL} --no-check")
            equal("disks", len(made["Namespaces"]), 2)
            self.guest.run("nvmf disconnect-all")
        self.forget_log()

    # --- helpers

    def _connect(self, arguments):
        return self.guest.json(f"nvmf connect {arguments} -o json", timeout=90)

    def _refused(self, command):
        """What a command that must fail says, in one line."""
        status, out, err = self.guest.run(command, timeout=90, check=False)
        require(status in (1, 2), f"status {status}: {command}\n{out}{err}")
        equal("lines of the error", len(err.strip().splitlines()), 1)
        return err

    def _list(self):
        return self.guest.json("nvmf list -o json")["Devices"]

    @staticmethod
    def _of_subsystem(hosts, nqn):
        found = [entry for host in hosts for entry in host["Subsystems"] if entry["SubsystemNQN"] == nqn]
        require(len(found) == 1, f"not one {nqn} in {json.dumps(hosts)}")
        return found[0]


def names(made):
    return [entry["NameSpace"] for entry in made["Namespaces"]]


def shared(ours, theirs):
    """The names of fields that both have, but for lists."""
    return {key for key in ours if key in theirs and not isinstance(ours[key], list)}


def plain(value):
    """nvme-cli has some numbers as text."""
    return str(value).rstrip()
