"""What nvme-cli in the guest and `nvmf` on the machine say of the same controller and namespaces.

Each asks over an association of its own, as the same host. nvme-cli's JSON is the measure; where
its shape is its own (names made of numbers), both are first made the same.
"""
import re

from . import kernel_log
from .configured import PORTS
from .kernel_target import CONTROLLER_FIELDS, NAMESPACE_FIELDS, SMART_FIELDS, same
from .net import MACHINE
from .report import equal, require
from .scenario import Scenario

NQN = "nqn.2024-01.org.example:vm-identify"
NAMESPACES = {1: 1, 2: 2, 7: 1}  # NSID: ANA group
# what differs between two associations: the controller's number, and what has happened on it
CONTROLLER = ("cntlid", "psds")
# features of a controller, then those of a namespace (of reservations)
FEATURES = (0x01, 0x02, 0x04, 0x05, 0x07, 0x0A, 0x0B, 0x0F)
NAMESPACE_FEATURES = (0x82, 0x83)
# each host decides these for its own association: they have no value in common
OWN = (0x07, 0x0B, 0x0F)
# asked for by nvme-cli as by nvmf, they have the same value, or are refused with the same status
# not 0: nvme-cli takes that for all there are
OTHER_FEATURES = (0x03, 0x06, 0x08, 0x09, *range(0x0C, 0x0F), *range(0x10, 0x1F), 0x7E, 0x84, 0x85, 0xBF)
# Identify data structures: nvme-cli's command, the CNS, whether it is of a namespace
STRUCTURES = {
    "nvm-id-ctrl": (0x06, False),
    "list-ns": (0x02, False),
    "list-ctrl": (0x13, False),
    "cmdset-ind-id-ns": (0x08, True),
    "ns-descs": (0x03, True),
    "id-iocs": (0x1C, False),
    "nvm-id-ns": (0x05, True),
}
SUPPORTED = (0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x0C, 0x12, 0x80)


class Identify(Scenario):
    NAME = "identify"
    STATE = True  # without one, reservations cannot persist, and feature 83h is refused

    def configuration(self):
        return {
            "port": [PORTS[0], {**PORTS[1], "ana": {"2": "inaccessible"}}],
            "subsystem": [
                {
                    "nqn": NQN,
                    "serial": "IDENTIFY0001",
                    "hosts": "any",
                    "namespace": [
                        {"id": nsid, "source": f"mem:{8 * nsid}M,bs={512 if nsid == 2 else 4096}", "ana-group": group}
                        for nsid, group in NAMESPACES.items()
                    ],
                }
            ],
        }

    def steps(self):
        self.us = ["--hostnqn", self.host.nqn, "--hostid", self.guest.host_id]
        with self.check("a host connects", essential=True):
            self.host.connect(NQN)
            self.host.wait_disks(NQN, list(NAMESPACES))
            self.controller = f"/dev/{self.host.controller(NQN)}"
        self.identify()
        self.structures()
        self.log_pages()
        self.error_log()
        self.effects()
        self.supported()
        self.features()
        self.kernel_log("what it was asked", kernel_log.PATHS)

    def identify(self):
        with self.check("id-ctrl"):
            ours = self._ours("identify")["controller"]
            same(ours, self._theirs("id-ctrl"), CONTROLLER_FIELDS, but=CONTROLLER)
            self._all_of("id-ctrl", ours, self._theirs("id-ctrl"), but=("vs", *CONTROLLER))
        with self.check("id-ns of each namespace"):
            for entry in self._ours("identify")["namespaces"]:
                theirs = self._theirs(f"id-ns -n {entry['nsid']}")
                same(entry, theirs, NAMESPACE_FIELDS, but=("vs",))
                self._all_of("id-ns", entry, theirs, but=("vs",))
        with self.check("list-ns, and the namespaces that identify shows"):
            equal("NSIDs", [entry["nsid"] for entry in self._ours("identify")["namespaces"]], list(NAMESPACES))
            equal("list-ns", [entry["nsid"] for entry in self._theirs("list-ns")["nsid_list"]], list(NAMESPACES))

    def structures(self):
        for command, (cns, namespace) in STRUCTURES.items():
            with self.check(command):
                for nsid in NAMESPACES if namespace else (None,):
                    option = f" -n {nsid}" if namespace else ""
                    theirs = self._theirs(f"{command}{option}")
                    ours = self._ours("identify", "--cns", hex(cns), nsid=nsid)
                    if command == "list-ctrl":
                        # there is one more by now: the one that asks
                        theirs = {entry["ctrl_id"] for entry in theirs["ctrl_list"]}
                        ours = {entry["ctrl_id"] for entry in ours["ctrl_list"]}
                        require(theirs < ours, f"nvme-cli saw {theirs}, and then nvmf {ours}")
                        continue
                    require(len(theirs) > 0, "nothing")
                    if command == "id-iocs":
                        # nvme-cli has a key for each combination, where nvmf has a list
                        title = "I/O Command Set Combination["
                        theirs = [value for key, value in theirs.items() if key.startswith(title)]
                        wanted = [int(str(value), 0) for value in theirs]
                        equal("combinations", [int(str(value), 0) for value in ours["iocsc"]], wanted)
                        continue
                    self._all_of(f"{command}{option}", ours, theirs)

    def log_pages(self):
        with self.check("smart-log"):
            theirs = self._theirs("smart-log")
            counting = ("data_units", "host_", "num_err", "controller_busy")
            counters = [name for name in theirs if name.startswith(counting)]
            same(self._ours("log", "smart"), theirs, SMART_FIELDS, but=counters)
        with self.check("fw-log"):
            ours = self._ours("log", "firmware")
            theirs = next(iter(self._theirs("fw-log").values()))
            number = re.compile(r"^\d+")  # what follows it in brackets is for people
            first = {key: number.match(str(value))[0] for key, value in ours.items()}
            equal("slots", first, {key: number.match(str(value))[0] for key, value in theirs.items()})
        with self.check("ana-log at each port"):
            self.host.connect(NQN, "10.0.3.2")
            for address, state in ((MACHINE, "optimized"), ("10.0.3.2", "inaccessible")):
                theirs = self.host.ana_log(self.host.controller(NQN, address))
                ours = self._ours("log", "ana", address=address)
                groups = next(value for key, value in ours.items() if key.strip() == "ANA DESC LIST")
                ours = {g["grpid"]: (g["state"], sorted(n["nsid"] for n in g.get("NSIDS", []))) for g in groups}
                equal(f"groups at {address}", ours, theirs)
                equal(f"group 2 at {address}", theirs[2], (state, [2]))
                equal(f"group 1 at {address}", theirs[1], ("optimized", [1, 7]))
        with self.check("changed-ns-list-log is empty once it was read, for each association"):
            self.serve.ctl("namespace", "add", NQN, "mem:8M", "--id", 9)
            self.host.wait_disks(NQN, [*NAMESPACES, 9])
            # the kernel has read it when it saw the new namespace
            theirs = self._theirs("changed-ns-list-log")
            equal("changed, as nvme-cli says", theirs.get(self.controller.removeprefix("/dev/")), {})
            equal("changed, as nvmf says", self._ours("log", "changed-namespaces")["nsid_list"], [])
            self.serve.ctl("namespace", "remove", NQN, 9)
            self.host.wait_disks(NQN, list(NAMESPACES))
        with self.check("persistent-event-log is not there, and is not said to be"):
            self.host.passthrough(f"nvme get-log {self.controller} -i 0x0d -l 512", "Invalid Log Page")
            equal("LPA bit 4", self._theirs("id-ctrl")["lpa"] >> 4 & 1, 0)

    def error_log(self):
        with self.check("error-log has what failed, newest first"):
            self.host.passthrough(f"nvme get-log {self.controller} -i 0xbf -l 512", "Invalid Log Page")
            self.host.passthrough(f"nvme get-feature {self.controller} -f 0xbf", "Invalid Field in Command")
            entries = [entry for entry in self._theirs("error-log")["errors"] if entry["error_count"]]
            counts = [entry["error_count"] for entry in entries]
            equal("order", counts, sorted(counts, reverse=True))
            # DNR, More, SCT and SC above the phase tag, which nvme-cli takes away
            equal("status codes", [entry["status_field"] & 0x7FF for entry in entries[:2]], [0x002, 0x109])
            equal("counted", self._theirs("smart-log")["num_err_log_entries"], counts[0])
            equal("of the admin queue", {entry["sqid"] for entry in entries[:2]}, {0})
        with self.check("nvmf shows the same entries where the log is the subsystem's"):
            ours = {entry["error_count"]: entry for entry in self._ours("log", "error")["errors"]}
            for entry in entries:
                if entry["error_count"] in ours:
                    same(ours[entry["error_count"]], entry, (), but=("phase_tag",))
        self.forget_log()

    def effects(self):
        with self.check("effects-log, command by command"):
            theirs = self._theirs("effects-log")
            theirs = theirs if isinstance(theirs, list) else [theirs]
            ours = self._ours("log", "effects")
            for field in ("admin_cmd_set", "io_cmd_set"):
                wanted = {}
                for entry in theirs:
                    for name, value in entry.get(field, {}).items():
                        wanted[int(re.match(r"\D+_(\d+)", name)[1])] = value
                equal(field, {entry["opcode"]: entry["effects"] for entry in ours[field]}, wanted)

    def supported(self):
        with self.check("supported-log-pages: each page it names can be read, and no other"):
            self._theirs("supported-log-pages")
            data = self._bytes(f"nvme get-log {self.controller} -i 0 -l 1024 -b")
            # a descriptor of four bytes each, whose first bit says that the page is there
            pages = {number for number in range(256) if data[4 * number] & 1}
            require(pages.issuperset(SUPPORTED), f"it names {sorted(pages)}")
            ours = str(self._ours("log", "supported"))
            for page in pages:
                require(re.search(rf"\b({page}|0x0*{page:x})\b", ours), f"nvmf does not name {page:#x}: {ours}")
            refused = []
            for page in (*range(0x14), 0x70, 0x80, 0x81, 0xBF):
                command = f"nvme get-log {self.controller} -i {page} -l 16 -b > /dev/null"
                status, _, err = self.guest.run(command, check=False)
                if (status == 0) != (page in pages):
                    refused.append(f"{page:#x}: {err.strip() or 'read'}")
            equal("pages that are not as named", refused, [])
            self.forget_log()

    def features(self):
        for number in (*FEATURES, *NAMESPACE_FEATURES):
            with self.check(f"feature {number:#x}: now, by default and what it can do"):
                nsid = 1 if number in NAMESPACE_FEATURES else None
                for select, word in ((0, "current"), (1, "default"), (3, "supported")):
                    if (select, number) in [(0, own) for own in OWN]:
                        continue
                    option = f"-s {select}" + (f" -n {nsid}" if nsid else "")
                    status, out, err = self.guest.run(
                        f"nvme get-feature {self.controller} -f {number} {option}", check=False
                    )
                    require(status == 0, f"{word}: {out}{err}")
                    ours = self._ours("feature", hex(number), "--select", word, nsid=nsid)
                    equal(f"{word} value", ours["value"], printed(out))
        with self.check("other features have the same value, or are refused alike"):
            for number in OTHER_FEATURES:
                status, out, err = self.guest.run(f"nvme get-feature {self.controller} -f {number}", check=False)
                if status == 0:
                    equal(f"feature {number:#x}", self._ours("feature", hex(number))["value"], printed(out))
                    continue
                refused = re.search(r"NVMe status: ([^:(]*)", out + err)
                require(refused, f"feature {number:#x}: {out}{err}")
                _, said = self.command.run("feature", self._target(), hex(number), *self.us, status=1)
                require(
                    refused[1].strip().lower() in said.lower(),
                    f"feature {number:#x}: nvme-cli has {refused[1]!r}, nvmf {said!r}",
                )
        self.forget_log()

    # --- helpers

    def _target(self, nsid=None, address=MACHINE):
        return f"nvme+tcp://{address}/{NQN}" + (f"/{nsid}" if nsid else "")

    def _theirs(self, command):
        name, *options = command.split()
        # of some structures nvme-cli 2.13 prints a title before the JSON
        only_json = "sed '/^[A-Z].*:$/d'"
        return self.guest.json(f"nvme {name} {self.controller} {' '.join(options)} -o json | {only_json}")

    def _bytes(self, command):
        return bytes.fromhex(self.guest.run(f"{command} | od -An -v -tx1 | tr -d ' \\n'"))

    def _ours(self, command, *arguments, nsid=None, address=MACHINE):
        if nsid and command != "identify":
            arguments = (*arguments, "--namespace-id", str(nsid))
            nsid = None
        return self.command.json(command, self._target(nsid, address), *arguments, *self.us)

    @staticmethod
    def _all_of(what, ours, theirs, but=()):
        """Every field that nvme-cli prints is there, and has its value."""
        lacking = sorted(set(theirs) - set(ours) - set(but))
        require(not lacking, f"{what}: nvmf does not show {', '.join(lacking)}")
        same(ours, theirs, (), but=but)


def printed(out):
    """The number in what `nvme get-feature` prints."""
    found = re.search(r"value: ?(?:0x)?([0-9a-f]+)", out)
    require(found, f"no value: {out}")
    return int(found[1], 16)
