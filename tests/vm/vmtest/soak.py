"""Two Linux hosts under load for as long as one likes, while everything about their disks changes.

Each host verifies what it writes on three disks: one of its own, one that both share (each its own
half), and one that grows behind what it uses. Every few seconds something happens: ANA
states flip, all paths are inaccessible for a moment, a path is cut, a namespace comes or goes or has
another size, a controller is dropped.
"""
import collections
import json
import os
import random
import time

from . import kernel_log
from .configured import DISCOVERY_PORT, PORT, PORTS, SECOND_PORT, soon
from .net import MACHINE, PATHS, SECOND_MACHINE
from .report import CheckFailed, equal, require
from .scenario import Scenario

NQN = "nqn.2024-01.org.example:vm-soak"
ADDRESSES = {PORT: MACHINE, SECOND_PORT: SECOND_MACHINE}
MIB = 1 << 20
# NSIDs. Each host's own has the host's number; ANA groups: 1 and 2 are those, 3 the rest
SHARED, RESIZED, COMING = 3, 4, 5
GROUPS = (1, 2, 3)
USED = 32 * MIB  # of the one that changes its size; fio stays below
SIZE = 64 * MIB
KEEP_ALIVE_SECONDS = 5
# fio may wait for the last reconnect
FINISH_SECONDS = 180
LOG_SECONDS = 30
# memory at the end may be this much more than at the beginning: what the allocator keeps differs
MEMORY_SLACK = 16 * MIB


class Soak(Scenario):
    HOSTS = 2
    NAME = "soak"

    def __init__(self, guests, command, report, files, seconds, results, seed):
        super().__init__(guests, command, report, files)
        self.seconds = seconds
        self.random = random.Random(seed)
        self.counts = collections.Counter()
        self.failures = []
        self.size = SIZE
        self.memory = []  # (seconds since the beginning, bytes)
        self.results = open(results, "w")
        self.begin = time.monotonic()
        self._record("begin", seconds=seconds, seed=seed, kernels=[guest.kernel for guest in self.guests])

    def configuration(self):
        self.resized_file = os.path.join(self.files, "resized.img")
        with open(self.resized_file, "wb") as file:
            file.truncate(SIZE)
        return {
            "port": [dict(port) for port in PORTS if port["id"] != DISCOVERY_PORT],
            "subsystem": [
                {
                    "nqn": NQN,
                    "hosts": "any",
                    "namespace": [
                        {"id": 1, "source": "mem:64M,bs=4096", "ana-group": 1},
                        {"id": 2, "source": "mem:64M,bs=512", "ana-group": 2},
                        {"id": SHARED, "source": "mem:64M,bs=4096", "ana-group": 3},
                        {"id": RESIZED, "source": f"file:{self.resized_file},bs=4096", "ana-group": 3},
                    ],
                }
            ],
        }

    def steps(self):
        with self.check("both hosts connect by both paths", essential=True):
            self._connect()
        with self.check("fio starts on three disks of each host", essential=True):
            jobs = self._start_fio()
        self.begin = time.monotonic()
        with self.check(f"{self.seconds} s of changes, each seen by both hosts"):
            self._change_until_the_end()
            require(not self.failures, f"{len(self.failures)} failed:\n" + "\n".join(self.failures[:10]))
        print(f"     {sum(self.counts.values())} changes: {dict(self.counts)}", flush=True)
        with self.check("every fio ends, and none has an error"):
            total = 0
            for name, job in jobs.items():
                done = job.finish(FINISH_SECONDS)
                written, read = done["write"]["io_bytes"], done["read"]["io_bytes"]
                self._record("fio", job=name, written=written, read=read)
                require(written and read, f"{name} wrote {written} and verified {read} bytes")
                total += written + read
            print(f"     {total // MIB} MiB written and verified", flush=True)
        with self.check("no task is stuck"):
            for guest in self.guests:
                stuck = guest.run("grep -l '^State:.*disk sleep' /proc/[0-9]*/status 2> /dev/null; true").split()
                # one that sleeps for a moment is none
                time.sleep(5 if stuck else 0)
                still = guest.run("grep -l '^State:.*disk sleep' /proc/[0-9]*/status 2> /dev/null; true").split()
                equal(f"in {guest.kernel}", sorted(set(stuck) & set(still)), [])
        self._flat_memory()
        with self.check("the kernels logged nothing unusual"):
            self._look_at_logs()
        self._record("end", counts=dict(self.counts), failures=len(self.failures))

    # --- load

    def _connect(self):
        options = [f"--keep-alive-tmo={KEEP_ALIVE_SECONDS}", "--reconnect-delay=1", "--ctrl-loss-tmo=3600"]
        for host in self.hosts:
            for address in ADDRESSES.values():
                host.connect(NQN, address, options=options)
        self.disks = [host.wait_disks(NQN, [1, 2, SHARED, RESIZED]) for host in self.hosts]

    def _start_fio(self):
        jobs = {}
        for number, (host, disks) in enumerate(zip(self.hosts, self.disks), start=1):
            half = f"--offset={32 * (number - 1)}M"
            quarter = f"--offset={USED // 2 * (number - 1)}"
            for name, nsid, options, size in (
                ("own", number, "", "32M"),
                ("shared", SHARED, half, "32M"),
                ("resized", RESIZED, quarter, f"{USED // 2}"),
            ):
                # few at once: an emulated host that is all fio sees no change in time
                options = f"{options} --iodepth=2"
                jobs[f"{name}{number}"] = host.fio(f"{name}{number}", disks[nsid], self.seconds, options, size)
        return jobs

    # --- changes

    def _change_until_the_end(self):
        changes = [self.flip] * 6 + [self.nowhere, self.cut, self.come_and_go, self.come_and_go, self.resize, self.drop]
        looked = told = time.monotonic()
        while time.monotonic() - self.begin < self.seconds:
            change = self.random.choice(changes)
            start = time.monotonic()
            try:
                what = change()
                self.counts[change.__name__] += 1
                self._record(change.__name__, what=what, took=round(time.monotonic() - start, 2))
                if time.monotonic() - looked > LOG_SECONDS:
                    looked = time.monotonic()
                    self._look_at_logs()
            except CheckFailed as error:
                self.failures.append(f"{change.__name__}: {error}")
                self._record("failure", change=change.__name__, error=str(error))
                self.serve.require_running()
                require(len(self.failures) < 20, "\n".join(self.failures[:10]))
                # whatever was left undone
                self.network.mend_all()
                for port in ADDRESSES:
                    for group in GROUPS:
                        self.serve.ctl("ana", port, group, "optimized")
            if time.monotonic() - told > 60:
                told = time.monotonic()
                passed = int(told - self.begin)
                print(f"     {passed} s, {sum(self.counts.values())} changes, {self.serve.memory()} bytes", flush=True)
            time.sleep(self.random.uniform(0.5, 2.5))

    def flip(self):
        """Another path becomes the good one for a group; what was good is left last."""
        group = self.random.choice(GROUPS)
        good = self.random.choice(list(ADDRESSES))
        better = self.random.choice(["optimized", "optimized", "non-optimized"])
        worse = self.random.choice(["inaccessible", "non-optimized", "optimized", "persistent-loss"])
        self._ana(group, {good: better, PORT + SECOND_PORT - good: worse})
        return f"group {group}: {better} at {good}, else {worse}"

    def nowhere(self):
        group = self.random.choice(GROUPS)
        self._ana(group, {port: "inaccessible" for port in ADDRESSES})
        time.sleep(self.random.uniform(0.5, 3))
        self._ana(group, {port: "optimized" for port in ADDRESSES})
        return f"group {group}"

    def cut(self):
        """One path of one host, until it is noticed or not."""
        for group in GROUPS:
            self._ana(group, {port: "optimized" for port in ADDRESSES})
        number, path = self.random.randint(1, len(self.guests)), self.random.choice(PATHS)
        seconds = self.random.choice([1, 4, 12])
        self.network.cut(number, path)
        time.sleep(seconds)
        self.network.mend(number, path)
        self._all_live()
        return f"path {path} of host {number} for {seconds} s"

    def come_and_go(self):
        self.serve.ctl("namespace", "add", NQN, "mem:16M,bs=512", "--id", COMING, "--ana-group", 3)
        for host in self.hosts:
            host.wait_disks(NQN, [1, 2, SHARED, RESIZED, COMING], 30)
        self.serve.ctl("namespace", "remove", NQN, COMING)
        for host, disks in zip(self.hosts, self.disks):
            equal("disks", host.wait_disks(NQN, [1, 2, SHARED, RESIZED], 30), disks)

    def resize(self):
        # namespaces do not get smaller
        size = self.size = self.size + self.random.randint(1, 8) * MIB
        self.serve.ctl("namespace", "resize", NQN, RESIZED, f"{size // MIB}M")
        for guest, disks in zip(self.guests, self.disks):
            soon(
                f"the disk has {size} bytes",
                lambda guest=guest, disks=disks: int(guest.run(f"blockdev --getsize64 {disks[RESIZED]}")) == size,
                30,
            )
        return f"{size // MIB} MiB"

    def drop(self):
        host = self.random.choice(self.hosts)
        name, entry = self.random.choice(sorted(host.controllers(NQN).items(), key=lambda item: item[0]))
        cntlid, before = entry["cntlid"], host.last_reconnect(name)
        self.serve.ctl("drop", NQN, cntlid)
        host.wait_reconnect(name, before)
        self._all_live()
        return f"CNTLID {cntlid}"

    # --- helpers

    def _ana(self, group, states):
        for port, state in states.items():
            self.serve.ctl("ana", port, group, state)
        nsid = {1: 1, 2: 2, 3: SHARED}[group]
        for host in self.hosts:
            host.wait_ana(NQN, {(ADDRESSES[port], nsid): state for port, state in states.items()}, 30)

    def _all_live(self):
        for host in self.hosts:
            for address in ADDRESSES.values():
                host.wait_live(NQN, address)

    def _look_at_logs(self):
        usual = (kernel_log.LOADING, kernel_log.CONNECTING, kernel_log.PATHS, kernel_log.RECONNECTING, kernel_log.LOST)
        for log in self.logs:
            log.require_usual(*usual)

    def _flat_memory(self):
        with self.check("the target's memory is flat: the last third as the first"):
            third = self.seconds / 3
            first = [size for when, size in self.memory if when < third]
            last = [size for when, size in self.memory if when > 2 * third]
            require(first and last, f"{len(self.memory)} samples are too few: let it run longer")
            before, after = (sum(sizes) // len(sizes) for sizes in (first, last))
            print(f"     memory: {before} bytes in the first third, {after} in the last", flush=True)
            self._record("memory", first=before, last=after)
            require(after <= before * 1.05 + MEMORY_SLACK, f"{before} bytes grew to {after}")

    def _record(self, event, **details):
        """A line of JSON, at once: what is known when the machine goes away."""
        line = {"seconds": round(time.monotonic() - self.begin, 1), "event": event, **details}
        if self.serve.process is not None and self.serve.process.poll() is None:
            line["memory"] = self.serve.memory()
            self.memory.append((line["seconds"], line["memory"]))
        self.results.write(json.dumps(line) + "\n")
        self.results.flush()
