"""Two hosts that verify what they write over two paths, while paths are cut, delayed, reset and
flipped: `nvmf bench --verify` with two targets, and fio on the Linux kernel's multipath disk. Both
meet the same faults at the same time, and how long each was held up by each is compared.
"""
import contextlib
import json
import os
import random
import statistics
import subprocess
import time

from . import peer
from .configured import PORT, SECOND_PORT
from .net import MACHINE, PATHS, SECOND_MACHINE, tap
from .report import equal, require
from .scenario import Scenario

NQN = "nqn.2024-01.org.example:vm-reliability"
ADDRESSES = {PORT: MACHINE, SECOND_PORT: SECOND_MACHINE}
PORT_BY_PATH = dict(zip(PATHS, ADDRESSES))
# each host's namespace and ANA group
OURS, KERNELS = 1, 2
HOST_NQN = "nqn.2024-01.org.example:vm-reliability-host"
KEEP_ALIVE_SECONDS = 5
FINISH_SECONDS = 120
# what takes longer was held up by something
HELD_UP_MS = 250
# both write down the longest latency of each
WINDOW_MS = 100
FAULTS = ("cut", "delay", "reset", "flip")


class Reliability(Scenario):
    NAME = "reliability"

    def __init__(self, guests, command, report, files, seconds=25, results=None, seed=1):
        super().__init__(guests, command, report, files)
        self.seconds = seconds
        self.random = random.Random(seed)
        self.results = results or os.path.join(command.logs, "reliability.json")
        self.log = os.path.join(files, "latencies")
        self.faults = []  # (kind, Unix time in milliseconds)
        self.peer = peer.Peer(self.network)

    def configuration(self):
        return {
            "port": [{"id": port, "listen": f"{address}:4420"} for port, address in ADDRESSES.items()],
            "subsystem": [
                {
                    "nqn": NQN,
                    "hosts": "any",
                    "namespace": [
                        {"id": OURS, "source": "mem:64M,bs=4096", "ana-group": OURS},
                        {"id": KERNELS, "source": "mem:64M,bs=4096", "ana-group": KERNELS},
                    ],
                }
            ],
        }

    def steps(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.peer)
            with self.check("the kernel connects by both paths, and begins to verify", essential=True):
                kernels, offset = self._start_kernel()
            with self.check("so does nvmf bench", essential=True):
                bench = self._start_bench()
                # whatever fails, it does not outlive its network
                stack.callback(bench.wait)
                stack.callback(bench.kill)
            with self.check(f"{self.seconds} s of faults"):
                self._disturb()
            with self.check("nvmf bench ends, with no wrong byte and no error"):
                ours = self._ours(bench)
            with self.check("fio ends, with no wrong byte and no error"):
                kernels.finish(FINISH_SECONDS)
            with self.check("how long each host was held up is known"):
                self._compare(ours, self._kernels(kernels, offset))
            with self.check("both paths of the kernel are live again"):
                # one that is being connected keeps nvme-cli from disconnecting
                for address in ADDRESSES.values():
                    self.host.wait_live(NQN, address)
        self.forget_log()

    def _start_bench(self):
        urls = [f"nvme+tcp://{address}:4420/{NQN}/{OURS}" for address in ADDRESSES.values()]
        options = ["--rw", "randrw", "--mix", "50", "--bs", "16k", "--qd", "8", "--size", "32M", "--verify"]
        options += ["--time", str(self.seconds), "--latency-log", self.log, "-o", "json", "-q", HOST_NQN]
        # at a pace that leaves an emulated host its share of the processors
        options += ["-k", str(KEEP_ALIVE_SECONDS), "--reconnect-delay", "1", "--rate", "1000"]
        return subprocess.Popen(
            self.peer.inside([self.command.binary, "bench", *urls, *options]),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _start_kernel(self):
        connect = [f"--keep-alive-tmo={KEEP_ALIVE_SECONDS}", "--reconnect-delay=1", "--ctrl-loss-tmo=3600"]
        for address in ADDRESSES.values():
            self.host.connect(NQN, address, options=connect)
        disk = self.host.wait_disks(NQN, [OURS, KERNELS], 30)[KERNELS]
        log = f"--write_lat_log=/tmp/reliability --log_avg_msec={WINDOW_MS} --log_max_value=1 --log_unix_epoch=1"
        before = time.time()
        theirs = float(self.guest.run("date +%s.%N"))
        offset = (before + time.time()) / 2 - theirs
        fio = self.host.fio("reliability", disk, self.seconds, log)
        return fio, offset

    # --- faults

    def _disturb(self):
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            self.serve.require_running()
            kind = FAULTS[len(self.faults) % len(FAULTS)]
            path = self.random.choice(PATHS)
            self.faults.append((kind, int(time.time() * 1000)))
            getattr(self, f"_{kind}")(path)

    def _devices(self, path):
        return tap(1, path), peer.device(path)

    def _cut(self, path):
        """For a second, or for so long that it is noticed."""
        for device in self._devices(path):
            self.network.ip("link", "set", device, "down")
        time.sleep(self.random.choice([1, 1, 1, 8]))
        for device in self._devices(path):
            self.network.ip("link", "set", device, "up")

    def _delay(self, path):
        """What comes from the target waits for a token bucket of 1 Mbit/s."""
        for device in self._devices(path):
            bucket = ["tbf", "rate", "1mbit", "burst", "32k", "latency", "2s"]
            self.network.run("tc", "qdisc", "add", "dev", device, "root", *bucket)
        time.sleep(1)
        for device in self._devices(path):
            self.network.run("tc", "qdisc", "del", "dev", device, "root")

    def _reset(self, path):
        port = PORT_BY_PATH[path]
        for controller in self.serve.controllers():
            if controller["port"] == port:
                # one that is gone meanwhile was lost to the fault before
                self.command.run("ctl", "--socket", self.serve.socket, "drop", NQN, str(controller["cntlid"]), status=None)
        time.sleep(1)

    def _flip(self, path):
        for nsid in (OURS, KERNELS):
            self.serve.ctl("ana", PORT_BY_PATH[path], nsid, "inaccessible")
        time.sleep(1)
        for nsid in (OURS, KERNELS):
            self.serve.ctl("ana", PORT_BY_PATH[path], nsid, "optimized")

    # --- what came of it

    def _ours(self, bench):
        out, err = bench.communicate(timeout=self.seconds + FINISH_SECONDS)
        equal("status of nvmf bench", (bench.returncode, err), (0, ""))
        results = json.loads(out)
        equal("errors and mismatches", (results["errors"], results["mismatches"]), (0, 0))
        require(results["reconnects"] > 0, f"no path was ever lost: {results}")
        print(f"     nvmf: {results['total']['ios']} commands, {results['reconnects']} reconnects", flush=True)
        with open(self.log) as file:
            return [(int(at) + WINDOW_MS, int(longest) // 1000) for at, _, longest in map(str.split, file)]

    def _kernels(self, fio, offset):
        """fio's log: milliseconds of Unix time, nanoseconds, and more."""
        text = self.guest.run("cat /tmp/reliability_lat.1.log")
        fields = [line.split(",") for line in text.splitlines()]
        require(fields, "fio wrote no latency log")
        return [(int(line[0]) + int(offset * 1000), int(line[1]) // 1_000_000) for line in fields]

    def _compare(self, ours, kernels):
        found = {name: held_up(self.faults, log) for name, log in (("nvmf", ours), ("kernel", kernels))}
        with open(self.results, "w") as file:
            json.dump({"seconds": self.seconds, "faults": self.faults, "held_up": found}, file)
        print(f"     {len(self.faults)} faults; how long commands were held up, in ms:", flush=True)
        print(table(found), flush=True)
        for name in found:
            require(any(found[name].values()), f"nothing was ever held up at {name}")


def held_up(faults, log):
    """How long the commands that each fault caught were held up, by kind. `log`: milliseconds of Unix
    time at the end of a window, and the longest latency of the commands that were complete in it."""
    found = {kind: [] for kind, _ in faults}
    over = 0
    for kind, at in faults:
        # one that caught nothing but what still suffered from the fault before tells nothing
        caught = [end - at for end, longest in log if longest >= HELD_UP_MS and end - longest - WINDOW_MS <= at <= end]
        if at >= over:
            found[kind].append(max(caught, default=0))
        over = max([over, *(at + length for length in caught)])
    return found


def table(found):
    """As in docs/reliability.md."""
    lines = ["| fault | " + " | ".join(f"{name}: median | max | felt" for name in found) + " |"]
    lines.append("|---|" + "---:|" * 3 * len(found))
    for kind in FAULTS:
        cells = []
        for by_kind in found.values():
            times = by_kind.get(kind, [])
            felt = [length for length in times if length]
            median = round(statistics.median(felt)) if felt else "–"
            cells += [str(median), str(max(felt, default="–")), f"{len(felt)} of {len(times)}"]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join("     " + line for line in lines)
