"""Reservations between two Linux hosts."""
from . import kernel_log
from .configured import PORTS, soon
from .host import EVENT_SECONDS
from .report import equal, require
from .scenario import Scenario

NQN = "nqn.2024-01.org.example:vm-reservations"
KEYS = (0xA11CE, 0xB0B)
CONFLICT = "Reservation Conflict"
# an asynchronous event of the I/O command set: a reservation notification is in log page 80h
NOTIFIED = "NVME_AEN=0x800006"
# what another host may do, registered and not: whether it reads and whether it writes
TYPES = {
    1: ("Write Exclusive", (True, False), (True, False)),
    2: ("Exclusive Access", (False, False), (False, False)),
    3: ("Write Exclusive, Registrants Only", (True, True), (True, False)),
    4: ("Exclusive Access, Registrants Only", (True, True), (False, False)),
    5: ("Write Exclusive, All Registrants", (True, True), (True, False)),
    6: ("Exclusive Access, All Registrants", (True, True), (False, False)),
}
REGISTRATION_PREEMPTED, RESERVATION_RELEASED = 1, 2
# the kernel's own calls: a cluster's software uses them
KERNEL_CALLS = """
import fcntl, os, struct, sys
disk = os.open(sys.argv[1], os.O_RDWR)
key = int(sys.argv[2])
def call(number, size, *fields):
    fcntl.ioctl(disk, 1 << 30 | size << 16 | ord("p") << 8 | number, struct.pack(*fields))
call(200, 24, "=QQII", 0, key, 0, 0)   # register
call(201, 16, "=QII", key, 1, 0)       # reserve, Write Exclusive
print("reserved")
if sys.argv[3] == "release":
    call(202, 16, "=QII", key, 1, 0)
"""


class Reservations(Scenario):
    HOSTS = 2
    NAME = "reservations"
    STATE = True

    def configuration(self):
        return {
            "port": PORTS[:1],
            "subsystem": [{"nqn": NQN, "hosts": "any", "namespace": [{"id": 1, "source": "mem:16M,bs=512"}]}],
        }

    def steps(self):
        self.connect()
        self.register()
        self.types()
        self.refusals()
        self.preempt()
        self.clear()
        self.kernel_calls()
        # the kernel logs the conflicts
        self.forget_log()
        self.power_loss()

    def connect(self):
        with self.check("two hosts see one disk, which can be reserved", essential=True):
            for host in self.hosts:
                host.connect(NQN)
            self.disks = [host.wait_disks(NQN, [1])[1] for host in self.hosts]
            one, other = (host.identifiers(NQN)[1] for host in self.hosts)
            equal("identifiers", one, other)
            for host, guest in zip(self.hosts, self.guests):
                controller = f"/dev/{host.controller(NQN)}"
                require(guest.json(f"nvme id-ctrl {controller} -o json")["oncs"] & 1 << 5, "ONCS lacks reservations")
                data = guest.json(f"nvme id-ns {controller} -n 1 -o json")
                equal("rescap: persistent, and all six types", data["rescap"] & 0x7F, 0x7F)
                require(data["nmic"] & 1, "not shared")

    def register(self):
        with self.check("both register, and both see both"):
            for number in (0, 1):
                self._register(number)
            self._both_see({KEYS[0]: 0, KEYS[1]: 0}, 0)
        with self.check("a registration is replaced, and given up"):
            self._resv(1, "register", f"--crkey={KEYS[1]:#x} --nrkey=0x77 --rrega=2")
            self._both_see({KEYS[0]: 0, 0x77: 0}, 0)
            self._resv(1, "register", "--crkey=0x77 --rrega=1")
            self._both_see({KEYS[0]: 0}, 0)
            self._register(1)

    def types(self):
        for kind, (name, registered, stranger) in TYPES.items():
            with self.check(f"{name}: what the other host may do"):
                self._resv(0, "acquire", f"--crkey={KEYS[0]:#x} --rtype={kind} --racqa=0")
                # with All Registrants every one of them is a holder
                self._both_see({KEYS[0]: 1, KEYS[1]: int(kind >= 5)}, kind)
                self._may(0, (True, True))
                self._may(1, registered)
                self._resv(1, "register", f"--crkey={KEYS[1]:#x} --rrega=1")
                self._may(1, stranger)
                self._may(0, (True, True))
                self._register(1)
                self._resv(0, "release", f"--crkey={KEYS[0]:#x} --rtype={kind} --rrela=0")
                self._both_see({KEYS[0]: 0, KEYS[1]: 0}, 0)
                self._may(1, (True, True))

    def refusals(self):
        with self.check("with a wrong key or a reservation of another nothing is done"):
            self._resv(0, "acquire", "--crkey=0x999 --rtype=1 --racqa=0", CONFLICT)
            self._resv(0, "acquire", f"--crkey={KEYS[0]:#x} --rtype=1 --racqa=0")
            self._resv(1, "acquire", f"--crkey={KEYS[1]:#x} --rtype=1 --racqa=0", CONFLICT)
            self._resv(1, "register", "--crkey=0x999 --rrega=1", CONFLICT)
            # releasing what another holds is no error, and nothing
            self._resv(1, "release", f"--crkey={KEYS[1]:#x} --rtype=1 --rrela=0")
            self._both_see({KEYS[0]: 1, KEYS[1]: 0}, 1)
        with self.check("the other host's page cache is refused, too"):
            device = self.disks[1]
            status, _, err = self.guests[1].run(
                f"dd if=/dev/zero of={device} bs=4k count=1 oflag=direct", check=False
            )
            # EBADE is what Linux makes of a reservation conflict
            require(status != 0 and "Invalid exchange" in err, f"status {status}: {err}")

    def preempt(self):
        with self.check("a holder is preempted: the other holds, and it is told by an event and in its log"):
            self._drain(0)
            self.host.listen_events()
            self._resv(1, "acquire", f"--crkey={KEYS[1]:#x} --prkey={KEYS[0]:#x} --rtype=1 --racqa=1")
            self._both_see({KEYS[1]: 1}, 1)
            soon("an event", lambda: any(NOTIFIED in event for event in self.host.events()), EVENT_SECONDS)
            self.host.stop_events()
            entries = self._drain(0)
            kinds = [(entry["rn_log_type"], entry["NSID"]) for entry in entries]
            require((REGISTRATION_PREEMPTED, 1) in kinds, f"its log says {entries}")
            self._may(0, (True, False))
            self._may(1, (True, True))
        with self.check("who released a reservation tells the other registrant"):
            self._register(0)
            self._resv(1, "release", f"--crkey={KEYS[1]:#x} --rtype=1 --rrela=0")
            self._resv(1, "acquire", f"--crkey={KEYS[1]:#x} --rtype=3 --racqa=0")
            self._drain(0)
            self._resv(1, "release", f"--crkey={KEYS[1]:#x} --rtype=3 --rrela=0")
            entries = self._drain(0)
            require((RESERVATION_RELEASED, 1) in [(e["rn_log_type"], e["NSID"]) for e in entries], f"{entries}")

    def clear(self):
        with self.check("clear takes all registrations and the reservation"):
            self._resv(1, "acquire", f"--crkey={KEYS[1]:#x} --rtype=2 --racqa=0")
            self._resv(0, "release", f"--crkey={KEYS[0]:#x} --rrela=1")
            self._both_see({}, 0)
            for number in (0, 1):
                self._may(number, (True, True))

    def kernel_calls(self):
        with self.check("the kernel's own calls reserve and release"):
            guest, device = self.guests[0], self.disks[0]
            script = f"cat > /tmp/calls.py << 'X'\n{KERNEL_CALLS}X\npython3 /tmp/calls.py {device} 4711"
            guest.run(f"{script} keep")
            # Linux asks for registrations that persist
            self._both_see({4711: 1}, 1, persistent=1)
            self._may(1, (True, False))
            self._resv(0, "register", "--crkey=4711 --rrega=1")
            guest.run(f"{script} release")
            self._both_see({4711: 0}, 0, persistent=1)
            # the kernel has no call that gives a registration up
            self._resv(0, "register", "--crkey=4711 --rrega=1")
            self._both_see({}, 0)

    def power_loss(self):
        with self.check("a reservation that persists is there after kill -9, with all registrations"):
            for number in (0, 1):
                self._register(number, "--cptpl=3")
            self._resv(0, "acquire", f"--crkey={KEYS[0]:#x} --rtype=1 --racqa=0")
            self._restart()
            self._both_see({KEYS[0]: 1, KEYS[1]: 0}, 1, persistent=1)
            self._may(0, (True, True))
            self._may(1, (True, False))
        with self.check("one that does not is gone"):
            self._resv(0, "register", f"--crkey={KEYS[0]:#x} --nrkey={KEYS[0]:#x} --rrega=2 --cptpl=2")
            self._both_see({KEYS[0]: 1, KEYS[1]: 0}, 1)
            self._restart()
            self._both_see({}, 0)
            self._may(1, (True, True))
        self.forget_log()
        with self.check("both hosts are still connected"):
            for host in self.hosts:
                host.wait_live(NQN)
        self.kernel_log("reservations", kernel_log.PATHS)

    # --- helpers

    def _restart(self):
        controllers = [host.controller(NQN) for host in self.hosts]
        before = [host.last_reconnect(name) for host, name in zip(self.hosts, controllers)]
        self.serve.kill()
        self.serve.start()
        for host, name, last in zip(self.hosts, controllers, before):
            host.wait_reconnect(name, last)
            host.wait_live(NQN)

    def _resv(self, number, command, options, status=None):
        return self.hosts[number].passthrough(f"nvme resv-{command} {self.disks[number]} -n 1 {options}", status)

    def _register(self, number, options=""):
        self._resv(number, "register", f"--nrkey={KEYS[number]:#x} --rrega=0 {options}")

    def _may(self, number, allowed):
        """Whether the host may read and write, as a command that it passes through is answered."""
        reads, writes = allowed
        device, host = self.disks[number], self.hosts[number]
        host.passthrough(f"nvme read {device} -s 8 -c 0 -z 512 > /dev/null", None if reads else CONFLICT)
        host.passthrough(f"nvme write {device} -s 8 -c 0 -z 512 -d /dev/zero", None if writes else CONFLICT)

    def _both_see(self, wanted, kind, persistent=0):
        """`wanted`: each key, and whether its host holds the reservation."""
        for guest, device in zip(self.guests, self.disks):
            report = guest.json(f"nvme resv-report {device} -n 1 -e 1 -d 1024 -o json")
            equal("type", report["rtype"], kind)
            equal("number of registrants", report["regctl"], len(wanted))
            entries = report.get("regctlext", [])
            equal("keys and holders", {entry["rkey"]: entry["rcsts"] & 1 for entry in entries}, wanted)
            if wanted:
                equal("persistent", report["ptpls"], persistent)
            mine = {host.guest.host_id.replace("-", "") for host in self.hosts}
            for entry in entries:
                require(str(entry["hostid"]).replace("-", "").lower() in mine, f"hostid: {entry}")

    def _drain(self, number):
        """The notifications that a host has not read yet."""
        controller, entries = self.hosts[number].controller(NQN), []
        while True:
            entry = self.guests[number].json(f"nvme resv-notif-log /dev/{controller} -o json")
            if entry["rn_log_type"] == 0:
                return entries
            entries.append(entry)
            require(len(entries) < 100, "the log has no end")

