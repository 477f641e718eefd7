"""One disk by two ways: ANA, and paths that are cut."""
import time

from . import kernel_log
from .configured import DISCOVERY_PORT, PORT, PORTS, SECOND_PORT, soon
from .net import MACHINE, SECOND_MACHINE
from .report import equal, require
from .scenario import Scenario

NQN = "nqn.2024-01.org.example:vm-paths"
ADDRESSES = {PORT: MACHINE, SECOND_PORT: SECOND_MACHINE}
# the third byte of the addresses, as the network names its paths
CABLES = {PORT: 2, SECOND_PORT: 3}
# NSIDs; each is in the ANA group of the same number
FIRST, SECOND = 1, 2
FLIPS = 20
NOWHERE_SECONDS = 2
# a lost path is noticed by the Keep Alive that is not answered
KEEP_ALIVE_SECONDS = 5


class Paths(Scenario):
    NAME = "paths"

    def configuration(self):
        ports = [dict(port) for port in PORTS if port["id"] != DISCOVERY_PORT]
        ports[1]["ana"] = {"1": "non-optimized", "2": "inaccessible"}
        return {
            "port": ports,
            "subsystem": [
                {
                    "nqn": NQN,
                    "hosts": "any",
                    "namespace": [
                        {"id": FIRST, "source": "mem:64M,bs=4096", "ana-group": 1},
                        {"id": SECOND, "source": "mem:64M,bs=512", "ana-group": 2},
                    ],
                }
            ],
        }

    def steps(self):
        self.both_paths()
        self.ana_log()
        self.flips()
        self.nowhere()
        self.kernel_log("ANA states", kernel_log.PATHS)
        for port in (PORT, SECOND_PORT):
            self.cut(port)
        self.kernel_log("paths that were cut", kernel_log.PATHS, kernel_log.RECONNECTING, kernel_log.LOST)

    def both_paths(self):
        with self.check("a host connects by both paths", essential=True):
            for address in ADDRESSES.values():
                self.host.connect(
                    NQN,
                    address,
                    options=[f"--keep-alive-tmo={KEEP_ALIVE_SECONDS}", "--reconnect-delay=1", "--ctrl-loss-tmo=600"],
                )
            self.disks = self.host.wait_disks(NQN, [FIRST, SECOND])
        with self.check("both paths are below one subsystem"):
            hosts = self.guest.json("nvme list-subsys -o json")
            subsystems = [entry for host in hosts for entry in host["Subsystems"] if entry["NQN"] == NQN]
            equal("number of subsystems", len(subsystems), 1)
            seen = sorted(path["Address"].split(",")[0] for path in subsystems[0]["Paths"])
            equal("paths", seen, [f"traddr={address}" for address in sorted(ADDRESSES.values())])
            equal("states", [path["State"] for path in subsystems[0]["Paths"]], ["live", "live"])
        with self.check("the two controllers differ in their CNTLID"):
            numbers = {entry["cntlid"] for entry in self.host.controllers(NQN).values()}
            equal("number of CNTLIDs", len(numbers), 2)
        with self.check("each path has the ANA state its port was given, and each namespace its group"):
            self.host.wait_ana(
                NQN,
                {
                    (MACHINE, FIRST): "optimized",
                    (MACHINE, SECOND): "optimized",
                    (SECOND_MACHINE, FIRST): "non-optimized",
                    (SECOND_MACHINE, SECOND): "inaccessible",
                },
            )
            for entry in self.host.controllers(NQN).values():
                equal(f"groups at {entry['address']}", entry["groups"], {FIRST: 1, SECOND: 2})
        with self.check("I/O goes by the optimized path"):
            before = self.host.writes(NQN, FIRST)
            self.guest.run(f"dd if=/dev/zero of={self.disks[FIRST]} bs=1M count=8 oflag=direct status=none")
            after = self.host.writes(NQN, FIRST)
            require(after[MACHINE] > before[MACHINE], f"writes by each path: {before}, then {after}")
            equal("writes by the other", after[SECOND_MACHINE], before[SECOND_MACHINE])

    def ana_log(self):
        with self.check("ana-log agrees with sysfs at each path"):
            for name, entry in self.host.controllers(NQN).items():
                wanted = {group: (entry["ana"][nsid], [nsid]) for nsid, group in entry["groups"].items()}
                log = self.host.ana_log(name)
                # groups without a namespace may be reported, too
                equal(f"groups at {entry['address']}", {group: log.get(group) for group in wanted}, wanted)
        with self.check("the kernel knows that the disk has several paths by id-ctrl and id-ns"):
            controller = self.host.controller(NQN)
            data = self.guest.json(f"nvme id-ctrl /dev/{controller} -o json")
            require(data["cmic"] & 0x0A == 0x0A, f"cmic {data['cmic']:#x}: no several controllers, or no ANA")
            require(data["anacap"] & 0x07 and data["anatt"] > 0, f"anacap {data['anacap']:#x}, anatt {data['anatt']}")
            require(data["anagrpmax"] >= 2 and data["nanagrpid"] >= 2, f"groups: {data['anagrpmax']}")
            for nsid in (FIRST, SECOND):
                data = self.guest.json(f"nvme id-ns /dev/{controller} -n {nsid} -o json")
                equal(f"nmic of {nsid}", data["nmic"] & 1, 1)
                equal(f"anagrpid of {nsid}", data["anagrpid"], nsid)

    def flips(self):
        """The state of both groups goes round, never without a way."""
        with self.check(f"fio --verify ends without an error while ANA states change {FLIPS} times"):
            jobs = [
                self.host.fio(f"flip{nsid}", device, FLIPS + 4, size="16M") for nsid, device in self.disks.items()
            ]
            good, other = PORT, SECOND_PORT
            for number in range(FLIPS):
                good, other = other, good
                for group in (1, 2):
                    better = ("optimized", "non-optimized")[(number + group) % 2]
                    worse = ("inaccessible", "non-optimized", "change")[number % 3]
                    self.serve.ctl("ana", good, group, better)
                    self.serve.ctl("ana", other, group, worse)
                    wanted = {(ADDRESSES[good], group): better, (ADDRESSES[other], group): worse}
                    self.host.wait_ana(NQN, wanted)
                time.sleep(0.5)
            for job in jobs:
                job.finish()
        with self.check("persistent-loss is seen as such"):
            self.serve.ctl("ana", PORT, 1, "optimized")
            self.serve.ctl("ana", SECOND_PORT, 1, "persistent-loss")
            self.host.wait_ana(NQN, {(MACHINE, FIRST): "optimized", (SECOND_MACHINE, FIRST): "persistent-loss"})
        with self.check("all is optimized again"):
            self._all("optimized", (1, 2))
        self.ana_log()

    def nowhere(self):
        with self.check(f"with no accessible path I/O waits for {NOWHERE_SECONDS} s, and then goes on"):
            job = self.host.fio("nowhere", self.disks[FIRST], 10)
            self._moves("before")
            self._all("inaccessible", (1,))
            time.sleep(0.5)
            before = sum(self.host.writes(NQN, FIRST).values())
            time.sleep(NOWHERE_SECONDS)
            equal("writes meanwhile", sum(self.host.writes(NQN, FIRST).values()), before)
            require(job.running(), "fio ended")
            self._all("optimized", (1,))
            self._moves("afterwards")
            job.finish()

    def cut(self, port):
        address = ADDRESSES[port]
        other = next(value for value in ADDRESSES.values() if value != address)
        with self.check(f"the path to {address} is cut: fio goes on by the other, and the path returns"):
            self.serve.ctl("ana", port, 1, "optimized")
            self.serve.ctl("ana", PORT + SECOND_PORT - port, 1, "non-optimized")
            self.host.wait_ana(NQN, {(address, FIRST): "optimized", (other, FIRST): "non-optimized"})
            job = self.host.fio("cut", self.disks[FIRST], 30)
            self._moves("before", address)
            self.network.cut(self.guest.number, CABLES[port])
            try:
                self.host.wait_state(NQN, "connecting", address)
                self._moves("by the other", other)
                self.host.wait_state(NQN, "live", other, seconds=1)
            finally:
                self.network.mend(self.guest.number, CABLES[port])
            self.host.wait_live(NQN, address)
            self.host.wait_ana(NQN, {(address, FIRST): "optimized", (other, FIRST): "non-optimized"})
            self._moves("by the path that returned", address)
            job.finish()
        with self.check(f"after {address} was cut all disks are there by both paths"):
            equal("disks", sorted(self.host.disks(NQN)), [FIRST, SECOND])
            for entry in self.host.controllers(NQN).values():
                equal(f"namespaces at {entry['address']}", sorted(entry["ana"]), [FIRST, SECOND])

    def _all(self, state, groups):
        for port in ADDRESSES:
            for group in groups:
                self.serve.ctl("ana", port, group, state)
        self.host.wait_ana(NQN, {(address, group): state for address in ADDRESSES.values() for group in groups})

    def _moves(self, when, address=None):
        """Writes of the first namespace are completed: by that path, or by any."""

        def count():
            writes = self.host.writes(NQN, FIRST)
            return sum(writes.values()) if address is None else writes.get(address, 0)

        before = count()
        soon(f"writes are completed {when}", lambda: count() > before, 20)
