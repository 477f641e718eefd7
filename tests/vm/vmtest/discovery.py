"""The discovery service as Linux and avahi see it, and the metrics beside it."""
import json
import re

from . import kernel_log
from .configured import PORTS, soon
from .host import EVENT_SECONDS
from .net import MACHINE, PATHS, SECOND_MACHINE, guest_address
from .report import equal, require
from .scenario import Scenario

PREFIX = "nqn.2024-01.org.example:vm-discovery"
OPEN_NQN = f"{PREFIX}-open"
HIDDEN_NQN = f"{PREFIX}-hidden"
ADDED_NQN = f"{PREFIX}-added"
DISCOVERY_NQN = "nqn.2014-08.org.nvmexpress.discovery"
STRANGER = "nqn.2014-08.org.nvmexpress:uuid:6a3cf1c2-6f3e-4d0c-9b3b-6d1d0a6b1cff"
METRICS_PORT = 9184

# an asynchronous event of type Notice about the discovery log page, as the kernel's event has it
CHANGED = "NVME_AEN=0x70f002"
DISCOVER = f"nvme discover -t tcp -a {MACHINE} -s 8009"


class Discovery(Scenario):
    NAME = "discovery"

    def configuration(self):
        return {
            "port": PORTS,
            "subsystem": [
                {"nqn": OPEN_NQN, "hosts": "any", "namespace": [{"id": 1, "source": "mem:16M"}]},
                {"nqn": HIDDEN_NQN, "hosts": [STRANGER], "namespace": [{"id": 1, "source": "mem:16M"}]},
            ],
            "discovery": {"mdns": True, "referral": [{"address": f"{SECOND_MACHINE}:8010"}]},
            "metrics": {"listen": f"{MACHINE}:{METRICS_PORT}"},
        }

    def steps(self):
        self.log_page()
        self.admission()
        self.persistent()
        self.connect_all()
        self.kernel_log("discovery", kernel_log.PATHS)
        self.announced()
        self.metrics()

    def log_page(self):
        with self.check("the discovery port shows the subsystem at each port, and no more"):
            found = {(entry["traddr"], entry["trsvcid"]) for entry in self._records() if entry["subnqn"] == OPEN_NQN}
            # the discovery port may serve I/O, too
            found.discard((MACHINE, "8009"))
            equal("addresses", found, {(MACHINE, "4420"), (SECOND_MACHINE, "4420")})
        with self.check("a referral is shown as such"):
            referrals = [entry for entry in self._records() if "referral" in entry["subtype"]]
            equal("number of referrals", len(referrals), 1)
            equal("address", (referrals[0]["traddr"], referrals[0]["trsvcid"]), (SECOND_MACHINE, "8010"))
        with self.check("the discovery service answers at the I/O port, too"):
            records = self.guest.json(f"nvme discover -t tcp -a {MACHINE} -s 4420 -o json")["records"]
            require(any(entry["subnqn"] == OPEN_NQN for entry in records), f"{records}")

    def admission(self):
        with self.check("discovery shows a host only what it may reach"):
            equal("subsystems", self._subsystems(), {OPEN_NQN})
            equal("subsystems of the other host", self._subsystems(f"-q {STRANGER}"), {OPEN_NQN, HIDDEN_NQN})
        with self.check("a host that is allowed finds the subsystem, and no longer when it is denied"):
            self.serve.ctl("host", "allow", HIDDEN_NQN, self.host.nqn)
            equal("subsystems", self._subsystems(), {OPEN_NQN, HIDDEN_NQN})
            self.serve.ctl("host", "deny", HIDDEN_NQN, self.host.nqn)
            equal("subsystems", self._subsystems(), {OPEN_NQN})

    def persistent(self):
        with self.check("a persistent discovery controller connects", essential=True):
            self.host.listen_events()
            # its log is read once, so that the next change is told
            self.counter = self.guest.json(f"{DISCOVER} --persistent --keep-alive-tmo=30 -o json")["genctr"]
            out = self.guest.run("grep -l discovery /sys/class/nvme/nvme*/cntrltype").split()
            equal("number of discovery controllers", len(out), 1)
            self.discovery = out[0].split("/")[-2]
        changes = [
            ("a subsystem is added", ["subsystem", "add", ADDED_NQN, "--allow", "any"], {OPEN_NQN, ADDED_NQN}),
            ("this host is allowed", ["host", "allow", HIDDEN_NQN, self.host.nqn], {OPEN_NQN, ADDED_NQN, HIDDEN_NQN}),
            ("a subsystem is removed", ["subsystem", "remove", ADDED_NQN], {OPEN_NQN, HIDDEN_NQN}),
            ("a port is added", ["port", "add", f"{MACHINE}:4421", "--id", "7"], {OPEN_NQN, HIDDEN_NQN}),
            ("a port is removed", ["port", "remove", "7"], {OPEN_NQN, HIDDEN_NQN}),
        ]
        for what, command, wanted in changes:
            with self.check(f"{what}: the kernel is told by an event, and the log has a higher GENCTR"):
                before = self._told()
                self.serve.ctl(*command)
                soon("an event", lambda before=before: self._told() > before, EVENT_SECONDS)
                log = self.guest.json(f"{DISCOVER} -d {self.discovery} -o json")
                require(log["genctr"] > self.counter, f"genctr was {self.counter}, and is {log['genctr']}")
                self.counter = log["genctr"]
                equal("subsystems", subsystems(log["records"]), wanted)
                at_port = [entry for entry in log["records"] if entry["trsvcid"] == "4421"]
                equal("entries of the added port", len(at_port) > 0, what == "a port is added")
        with self.check("the persistent discovery controller is kept alive"):
            self.guest.run("sleep 5")
            state = self.guest.run(f"cat /sys/class/nvme/{self.discovery}/state").strip()
            equal("state", state, "live")
            self.host.stop_events()
            self.host.disconnect_all()

    def connect_all(self):
        with self.check("connect-all connects to all there is, by each path"):
            # nothing listens at the referral, which must not matter; nvme-cli says so by its status
            self.guest.run(f"nvme connect-all -t tcp -a {MACHINE} -s 8009 --keep-alive-tmo=30; true", timeout=120)
            for nqn in (OPEN_NQN, HIDDEN_NQN):
                found = {entry["address"] for entry in self.host.controllers(nqn).values() if entry["state"] == "live"}
                equal(f"addresses of {nqn}", found, {MACHINE, SECOND_MACHINE})
                self.host.wait_disks(nqn, [1])
            # what it says of the referral, at which nothing listens
            self.forget_log()
            self.host.disconnect_all()

    def announced(self):
        with self.check("avahi starts", essential=True):
            self.guest.run(
                "set -e; mkdir -p /run/dbus /run/avahi-daemon /var/lib/dbus\n"
                "dbus-daemon --system --fork; avahi-daemon --daemonize --no-drop-root --no-chroot --no-rlimits "
                "> /tmp/avahi.log 2>&1 || { cat /tmp/avahi.log >&2; exit 1; }\n"
            )
        try:
            self.found_by_avahi()
            self.found_by_nvmf()
        finally:
            self.guest.run("kill $(cat /run/publish.pid /run/avahi-daemon/pid /run/dbus/pid); true")

    def found_by_avahi(self):
        with self.check("avahi finds the discovery service announced by mDNS"):
            found = []

            def seen():
                out = self.guest.run("timeout 20 avahi-browse -rpt _nvme-disc._tcp", timeout=30)
                # =;INTERFACE;PROTOCOL;NAME;TYPE;DOMAIN;HOST;ADDRESS;PORT;TEXT
                found[:] = [line.split(";") for line in out.splitlines() if line.startswith("=;")]
                return any((entry[7], entry[8]) == (MACHINE, "8009") for entry in found)

            soon("it is found", seen, 30)
            entry = next(entry for entry in found if (entry[7], entry[8]) == (MACHINE, "8009"))
            require('"p=tcp"' in entry[9], f"its text says no transport: {entry}")
            require(f'"NQN={DISCOVERY_NQN}"'.lower() in entry[9].lower(), f"its text says no NQN: {entry}")

    def found_by_nvmf(self):
        with self.check("nvmf finds the discovery service that avahi announces, and the one of serve"):
            self.guest.run(
                f"avahi-publish -s 'a guest' _nvme-disc._tcp 8009 p=tcp nqn={DISCOVERY_NQN} "
                "< /dev/null > /tmp/publish.log 2>&1 & echo $! > /run/publish.pid"
            )
            # nothing listens in the guest, which nvmf says of it; serve is asked as well
            out, _ = self.command.run(
                "discover", "--mdns", "--mdns-time", "10", "-q", self.host.nqn, "-o", "json", status=1
            )
            controllers = {one["traddr"]: one for one in json.loads(out)["controllers"] if one["trsvcid"] == "8009"}
            addresses = [guest_address(self.guest.number, path) for path in PATHS]
            guests = [one for address, one in controllers.items() if address in addresses]
            require(guests and "refused" in guests[0].get("error", ""), f"not the guest's: {controllers}")
            records = controllers.get(MACHINE, {}).get("records", [])
            require(any(record["subnqn"] == OPEN_NQN for record in records), f"not that of serve: {controllers}")

    def metrics(self):
        with self.check("metrics are scraped, and they count"):
            self.host.connect(OPEN_NQN)
            device = self.host.wait_disks(OPEN_NQN, [1])[1]
            before = self._scrape()
            self.guest.run(f"dd if=/dev/zero of={device} bs=64k count=64 oflag=direct status=none")
            after = self._scrape()
            grown = {key for key, value in after.items() if value - before.get(key, 0) >= 64 * 65536}
            require(any("bytes" in key and OPEN_NQN in key for key in grown), f"no counter of bytes grew: {grown}")
        with self.check("each metric has a type and a help text"):
            text = self._metrics()
            names = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if line and not line.startswith("#")}
            for word in ("TYPE", "HELP"):
                known = set(re.findall(rf"^# {word} (\S+)", text, re.MULTILINE))
                lacking = [n for n in names if not {n, re.sub(r"_(bucket|sum|count|total)$", "", n)} & known]
                equal(f"metrics without {word}", sorted(lacking), [])
            self.host.disconnect(OPEN_NQN)

    # --- helpers

    def _records(self, options=""):
        return self.guest.json(f"{DISCOVER} {options} -o json")["records"]

    def _subsystems(self, options=""):
        return subsystems(self._records(options))

    def _told(self):
        return sum(CHANGED in event for event in self.host.events())

    def _metrics(self):
        return self.guest.run(
            "python3 -c 'import sys, urllib.request as u; "
            f"sys.stdout.write(u.urlopen(\"http://{MACHINE}:{METRICS_PORT}/metrics\", timeout=10).read().decode())'"
        )

    def _scrape(self):
        found = {}
        for line in self._metrics().splitlines():
            if line and not line.startswith("#"):
                key, value = line.rsplit(" ", 1)
                found[key] = float(value)
        return found


def subsystems(records):
    return {entry["subnqn"] for entry in records if entry["subtype"] == "nvme subsystem"}

