"""What a guest does as a host: connections, disks, fio in the background, events of the kernel."""
import json
import re
import shlex
import uuid

from .configured import soon
from .net import MACHINE
from .report import CheckFailed, equal, require

# emulation stalls for a second now and then
KEEP_ALIVE_SECONDS = 30
# the kernel hears of a change by an event and reads again: no more than that, in emulation
EVENT_SECONDS = 10
# after a connection was lost, at a reconnect-delay of 1 s
RECONNECT_SECONDS = 60

EVENTS = """
import socket, sys
events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15)
events.bind((0, 1))
print("listening", flush=True)
while True:
    fields = events.recv(65536).decode(errors="replace").split(chr(0))
    if "nvme" in fields[0]:
        print(" ".join(fields[:1] + [field for field in fields if field.startswith("NVME_")]), flush=True)
"""


class Host:
    def __init__(self, guest):
        self.guest = guest
        self.nqn = guest.host_nqn
        guest.run("modprobe -a nvme-tcp")

    def connect(self, nqn, address=MACHINE, port=4420, options=(), timeout=60):
        options = options or [f"--keep-alive-tmo={KEEP_ALIVE_SECONDS}", "--reconnect-delay=1", "--ctrl-loss-tmo=600"]
        self.guest.run(f"nvme connect -t tcp -a {address} -s {port} -n {nqn} {' '.join(options)}", timeout=timeout)

    def refused(self, nqn, address=MACHINE, port=4420):
        """Fails if this host may connect; returns what nvme-cli says otherwise."""
        command = f"nvme connect -t tcp -a {address} -s {port} -n {nqn}"
        status, out, err = self.guest.run(command, check=False)
        require(status != 0, f"connected: {out}")
        return err

    def disconnect(self, nqn):
        return self.guest.run(f"nvme disconnect -n {nqn}")

    def disconnect_all(self):
        self.guest.run("nvme disconnect-all")

    def controllers(self, nqn):
        """Each controller of the subsystem by its name: `address` (of the target), `port`, `state`,
        `cntlid`, and `ana` and `groups`, each namespace's by its NSID, as sysfs has them now."""
        out = self.guest.run(
            "cd /sys/class/nvme; grep -Hs . nvme*/{subsysnqn,address,state,cntlid} "
            "nvme*/nvme*c*n*/{nsid,ana_state,ana_grpid}; true"
        )
        found = {}
        for line in out.splitlines():
            path, value = line.split(":", 1)
            name, *below, attribute = path.split("/")
            controller = found.setdefault(name, {"disks": {}})
            place = controller["disks"].setdefault(below[0], {}) if below else controller
            place[attribute] = value.strip()
        wanted = {}
        for name, controller in found.items():
            if controller.get("subsysnqn") != nqn:
                continue
            address = dict(pair.split("=", 1) for pair in controller["address"].split(","))
            disks = [disk for disk in controller["disks"].values() if "nsid" in disk]
            wanted[name] = {
                "address": address["traddr"],
                "port": int(address["trsvcid"]),
                "state": controller["state"],
                "cntlid": int(controller["cntlid"]),
                "ana": {int(disk["nsid"]): disk.get("ana_state") for disk in disks},
                "groups": {int(disk["nsid"]): int(disk["ana_grpid"]) for disk in disks if "ana_grpid" in disk},
            }
        return wanted

    def controller(self, nqn, address=MACHINE, port=4420):
        """The name of the controller at that address."""
        found = self.controllers(nqn)
        names = [name for name, entry in found.items() if (entry["address"], entry["port"]) == (address, port)]
        require(len(names) == 1, f"not one controller of {nqn} at {address}:{port}: {found}")
        return names[0]

    def wait_live(self, nqn, address=MACHINE, port=4420, seconds=RECONNECT_SECONDS):
        self.wait_state(nqn, "live", address, port, seconds)

    def wait_state(self, nqn, state, address=MACHINE, port=4420, seconds=RECONNECT_SECONDS):
        def reached():
            return any(
                (entry["address"], entry["port"], entry["state"]) == (address, port, state)
                for entry in self.controllers(nqn).values()
            )

        soon(f"the controller of {nqn} at {address} is {state}", reached, seconds)

    def wait_ana(self, nqn, wanted, seconds=EVENT_SECONDS):
        """`wanted`: the state of each (address, NSID). Nothing here makes the kernel read again."""
        seen = {}

        def reached():
            seen.clear()
            for entry in self.controllers(nqn).values():
                seen.update({(entry["address"], nsid): state for nsid, state in entry["ana"].items()})
            return all(seen.get(key) == state for key, state in wanted.items())

        try:
            soon("ANA states", reached, seconds)
        except CheckFailed:
            raise CheckFailed(f"ANA states after {seconds} s: {seen}, wanted {wanted}") from None

    def disks(self, nqn):
        """The subsystem's disks as they are now: each device by its NSID."""
        out = self.guest.run(
            "cd /sys/class; grep -Hs . nvme-subsystem/*/subsysnqn nvme-subsystem/*/nvme*n*/nsid "
            "nvme/*/subsysnqn nvme/*/nvme*n*/nsid; true"
        )
        lines = [line.split(":", 1) for line in out.splitlines()]
        folders = {path.rsplit("/", 1)[0] for path, value in lines if path.endswith("/subsysnqn") and value == nqn}
        found = {}
        for path, value in lines:
            # nvme0c1n1 is a path to the disk nvme0n1
            matched = re.match(r"(.*)/(nvme\d+n\d+)/nsid$", path)
            if matched and matched[1] in folders:
                found[int(value)] = f"/dev/{matched[2]}"
        return found

    def wait_disks(self, nqn, wanted, seconds=EVENT_SECONDS):
        """Once the subsystem has just these NSIDs, by itself; each device by its NSID."""
        wanted = sorted(wanted)
        soon(f"the disks of {nqn} are {wanted}", lambda: sorted(self.disks(nqn)) == wanted, seconds)
        return self.disks(nqn)

    def writes(self, nqn, nsid):
        """How many writes each path to the namespace has completed, by the target's address."""
        out = self.guest.run(f"cd /sys/class/nvme; grep -Hs . nvme*/nvme*c*n*/{{nsid,stat}}; true")
        values = dict(line.split(":", 1) for line in out.splitlines())
        found = {}
        for name, entry in self.controllers(nqn).items():
            for path, value in values.items():
                if path.startswith(f"{name}/") and path.endswith("/nsid") and int(value) == nsid:
                    stat = values[path.removesuffix("nsid") + "stat"].split()
                    found[entry["address"]] = found.get(entry["address"], 0) + int(stat[4])
        return found

    def fio(self, name, device, seconds, options="", size="32M"):
        """Verified random writes in the background for so many seconds."""
        return Fio(
            self.guest,
            name,
            f"--filename={device} --size={size} --bs=16k --rw=randwrite --direct=1 --ioengine=libaio --iodepth=8 "
            f"--time_based --runtime={seconds} --verify=xxhash --verify_backlog=128 --verify_fatal=1 {options}",
            seconds,
        )

    def passthrough(self, command, status):
        """An nvme-cli command that must end with that status of NVMe, by the name nvme-cli gives it;
        with None it must succeed. Returns standard output."""
        code, out, err = self.guest.run(command, check=False)
        if status is None:
            require(code == 0, f"status {code}: {command}\n{out}{err}")
        else:
            require(code != 0, f"no error: {command}\n{out}")
            require(status.lower() in (out + err).lower(), f"not {status}: {command}\n{out}{err}")
        return out

    def identifiers(self, nqn):
        """The UUID and NGUID of each disk, by its NSID, as the target says now; the kernel's are the
        same."""
        found = {}
        controller = next(name for name, entry in self.controllers(nqn).items() if entry["state"] == "live")
        for nsid, device in self.disks(nqn).items():
            entries = self.guest.json(f"nvme ns-descs /dev/{controller} -n {nsid} -o json")["ns-descs"]
            said = {entry["Type"]: entry for entry in entries}
            found[nsid] = [uuid.UUID(said["uuid"]["uuid"]), uuid.UUID(said["nguid"]["nguid"])]
            block = f"/sys/block/{device.rsplit('/', 1)[1]}"
            kernels = self.guest.run(f"cat {block}/uuid {block}/nguid").split()
            equal(f"the kernel's identifiers of {nsid}", [uuid.UUID(text) for text in kernels], found[nsid])
        return found

    def last_reconnect(self, controller):
        """What the kernel said when it had last connected that controller again after a loss."""
        return self.guest.run(f"dmesg | grep ' {controller}: Successfully reconnected' | tail -n 1; true")

    def wait_reconnect(self, controller, before, seconds=RECONNECT_SECONDS):
        """`before`: what `last_reconnect` was. The state alone may be that of before the loss was
        noticed."""
        soon(f"{controller} is connected again", lambda: self.last_reconnect(controller) not in ("", before), seconds)

    def ana_log(self, controller):
        """The state of each ANA group and its NSIDs, as nvme-cli shows them."""
        log = self.guest.json(f"nvme ana-log /dev/{controller} -o json")
        groups = next(value for key, value in log.items() if key.strip() == "ANA DESC LIST")
        return {
            group["grpid"]: (group["state"], sorted(entry["nsid"] for entry in group.get("NSIDS", [])))
            for group in groups
        }

    def listen_events(self):
        """From now on the kernel's events about NVMe are kept for `events`."""
        self.guest.run(
            f"rm -f /tmp/events; setsid python3 -c {shlex.quote(EVENTS)} > /tmp/events 2>&1 < /dev/null & \n"
            "echo $! > /tmp/events.pid\n"
            "for _ in $(seq 100); do grep -q listening /tmp/events && exit 0; sleep 0.1; done; exit 1"
        )

    def events(self):
        return self.guest.run("cat /tmp/events").splitlines()[1:]

    def stop_events(self):
        self.guest.run("kill $(cat /tmp/events.pid)")


class Fio:
    """fio in the background. Its disk may lose all its paths meanwhile, so that it can take longer
    than it was told."""

    def __init__(self, guest, name, arguments, seconds):
        self.guest = guest
        self.file = f"/tmp/fio-{name}"
        self.seconds = seconds
        script = f"fio --name={name} {arguments} --output-format=json --output={self.file}.json > {self.file}.log 2>&1"
        script = f"{script}; echo $? > {self.file}.status"
        guest.run(
            f"rm -f {self.file}.*; setsid bash -c {shlex.quote(script)} > /dev/null 2>&1 < /dev/null &\n"
            f"for _ in $(seq 100); do [ -e {self.file}.log ] && exit 0; sleep 0.1; done; exit 1"
        )

    def running(self):
        return self.guest.run(f"[ -e {self.file}.status ] || echo yes").strip() == "yes"

    def finish(self, more=60):
        """Once it has ended, as it must without an error, what it says of its job."""
        seconds = self.seconds + more
        self.guest.run(
            f"for _ in $(seq {seconds * 5}); do [ -e {self.file}.status ] && exit 0; sleep 0.2; done\n"
            "echo fio does not end >&2; cat /proc/$(pgrep -n fio)/stack >&2; exit 1",
            timeout=seconds * 2,
        )
        out = self.guest.run(f"cat {self.file}.log {self.file}.json")
        try:
            job = json.loads(out[out.index("\n{") if "\n{" in out else out.index("{") :])["jobs"][0]
        except (ValueError, KeyError, IndexError) as error:
            raise CheckFailed(f"fio said ({error}): {out[:2000]}") from error
        equal("fio's error", (job["error"], self.guest.run(f"cat {self.file}.status").strip()), (0, "0"))
        require(job["write"]["io_bytes"] + job["read"]["io_bytes"] > 0, f"fio did nothing: {job}")
        return job
