"""A guest under qemu's software emulation, and bash scripts run in it by its agent."""
import json
import os
import shlex
import shutil
import socket
import subprocess
import time

from .net import guest_address
from .report import CheckFailed, TestsEnded

# Quiet, deterministic and fast under emulation; an oops ends the guest, and with it the test.
KERNEL_PARAMETERS = (
    "console=ttyS0 quiet loglevel=5 panic=-1 oops=panic nowatchdog mitigations=off audit=0 apparmor=0 "
    "cryptomgr.notests=1 no_timer_check tsc=reliable random.trust_cpu=on rcupdate.rcu_expedited=1 "
    "nvme_core.multipath=Y log_buf_len=4M"
)
BOOT_SECONDS = 120
# A script that is out of time is killed in the guest; a guest that is silent for longer than this
# after that is hung.
GRACE_SECONDS = 30


class GuestLost(TestsEnded):
    """The guest died or hangs."""


class Guest:
    """As a context, starts to boot at its beginning and is powered off at its end.

    image: the folder made by guest/build; kernel: a name there; network: a Network;
    logs: a folder for console.log, qemu.log and transcript.log; devices: more arguments for qemu;
    number: 1 or 2, where there are two in the network. It decides the guest's addresses and its host
    NQN and identifier, which nvme-cli in the guest uses by itself.
    """

    def __init__(self, image, kernel, network, logs, devices=(), number=1):
        self.image = image
        self.kernel = kernel
        self.network = network
        self.number = number
        self.address = guest_address(number)
        self.host_id = f"6a3cf1c2-6f3e-4d0c-9b3b-6d1d0a6b1f{number:02}"
        self.host_nqn = f"nqn.2014-08.org.nvmexpress:uuid:{self.host_id}"
        self.logs = logs
        self.devices = list(devices)
        self.qemu = None
        self.agent = None
        self.buffer = b""
        self.transcript = None

    def command_line(self, mode):
        folder = os.path.join(self.image, f"kernel-{self.kernel}")
        qemu = os.path.join(self.image, "qemu/usr/bin/qemu-system-x86_64")
        qemu = qemu if os.path.exists(qemu) else shutil.which("qemu-system-x86_64")
        return self.network.inside([
            qemu, "-name", f"nvmf-{self.kernel}", "-accel", "tcg,thread=multi",
            "-M", "q35,hpet=off", "-cpu", "max", "-smp", "1", "-m", "1024",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", f"{folder}/vmlinux", "-initrd", f"{folder}/initramfs.cpio",
            "-append", f"{KERNEL_PARAMETERS} guest.mode={mode}",
            "-drive", f"if=none,id=root,file={self.image}/root.img,format=raw,readonly=on",
            "-device", "virtio-blk-pci,drive=root,serial=root",
            "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
            *self.network.qemu_arguments(self.number), *self.devices,
        ])  # fmt: skip

    def shell(self):
        """A shell in the guest on this terminal (Ctrl-A X ends it)."""
        return subprocess.call([*self.command_line("shell"), "-serial", "mon:stdio"])

    def start(self):
        """Begin to boot; `ready` waits for the end of it."""
        os.makedirs(self.logs, exist_ok=True)
        self.transcript = open(os.path.join(self.logs, "transcript.log"), "w")
        with open(os.path.join(self.logs, "qemu.log"), "w") as log:
            self.qemu = subprocess.Popen(
                [
                    *self.command_line("agent"),
                    "-serial", "file:console.log",
                    "-chardev", "socket,id=agent,path=agent,server=on,wait=off",
                    "-device", "virtserialport,chardev=agent,name=agent",
                ],
                cwd=self.logs, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def ready(self):
        self._wait_for_agent()
        self.put("/etc/nvme/hostnqn", f"{self.host_nqn}\n")
        self.put("/etc/nvme/hostid", f"{self.host_id}\n")
        with open(os.path.join(os.path.dirname(__file__), "guest-lib.sh")) as file:
            self.put("/run/lib.sh", file.read())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        try:
            if self.agent is not None:
                self.agent.sendall(b"OFF\n")
                self.qemu.wait(timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            pass
        if self.qemu is not None:
            self.qemu.kill()
            self.qemu.wait()
        if self.agent is not None:
            self.agent.close()
        self.transcript.close()

    def run(self, script, timeout=60, check=True):
        """Run a bash script in the guest; returns its standard output, or with `check` off
        (status, standard output, standard error)."""
        self._log(f"guest$ {script}")
        source = script.encode()
        self.agent.settimeout(timeout + GRACE_SECONDS)
        output = {b"OUT": b"", b"ERR": b""}
        try:
            self.agent.sendall(b"RUN %d %d\n%s" % (timeout, len(source), source))
            while True:
                word, number = self._line().split()
                if word == b"END":
                    status = int(number)
                    break
                output[word] += self._bytes(int(number))
        except OSError as error:
            self._log(f"  lost: {error}")
            raise GuestLost(f"the guest does not answer ({error}), asked to run: {script}") from error
        out = output[b"OUT"].decode(errors="replace")
        err = output[b"ERR"].decode(errors="replace")
        self._log("".join(f"  {line}\n" for line in (out + err).splitlines()) + f"  = {status}")
        if not check:
            return status, out, err
        if status != 0:
            why = f"not done after {timeout} s" if status == 124 else f"status {status}"
            raise CheckFailed(f"in the guest, {why}: {script}\n{out[-2000:]}{err[-2000:]}")
        return out

    def json(self, script, timeout=60):
        out = self.run(script, timeout)
        try:
            return json.loads(out)
        except ValueError as error:
            raise CheckFailed(f"in the guest, no JSON ({error}): {script}\n{out[:2000]}") from error

    def put(self, path, text):
        self.run(f"mkdir -p {shlex.quote(os.path.dirname(path))}; printf %s {shlex.quote(text)} > {shlex.quote(path)}")

    def _log(self, text):
        self.transcript.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")
        self.transcript.flush()

    def _wait_for_agent(self):
        end = time.monotonic() + BOOT_SECONDS
        path = os.path.join(self.logs, "agent")
        while time.monotonic() < end:
            if self.qemu.poll() is not None:
                raise GuestLost(f"qemu ended with status {self.qemu.returncode} while the guest booted")
            try:
                if self.agent is None:
                    self.agent = socket.socket(socket.AF_UNIX)
                    # a socket's path has at most 107 bytes: the shorter of two names
                    self.agent.connect(min(path, os.path.relpath(path), key=len))
                    self.agent.sendall(b"PING\n")
                self.agent.settimeout(1)
                if self._line() == b"PONG":
                    return
            except socket.timeout:
                pass  # still booting: what was sent waits in the port
            except OSError:
                self.agent.close()
                self.agent = None
                time.sleep(0.1)
        raise GuestLost(f"the guest did not come up in {BOOT_SECONDS} s")

    def _fill(self):
        data = self.agent.recv(65536)
        if not data:
            raise OSError("qemu closed the agent's port")
        self.buffer += data

    def _line(self):
        while b"\n" not in self.buffer:
            self._fill()
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line

    def _bytes(self, length):
        while len(self.buffer) < length:
            self._fill()
        data, self.buffer = self.buffer[:length], self.buffer[length:]
        return data
