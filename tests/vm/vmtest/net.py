"""The network between the machine and a guest: a tap device in a network namespace of its own.

A tap carries large segments without checksums, several times as fast as qemu's user-mode network,
and in its namespace no address or port can collide with anything else on the machine. The machine
is 10.0.2.2 there, the guest 10.0.2.15; programs of the machine that talk to the guest are run
inside the namespace.
"""
import os
import subprocess
import time

MACHINE = "10.0.2.2"
GUEST = "10.0.2.15"
TAP = "tap0"
# A program run by this does not outlive the tests, however they end.
DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL"]


class Network:
    """The namespace has no name: it is that of a process which sleeps, and ends with it."""

    def __init__(self):
        self.holder = None

    def __enter__(self):
        self.holder = subprocess.Popen(
            [*DIES_WITH_US, "unshare", "--net", "sleep", "infinity"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            self._wait_for_namespace()
            self._ip("link", "set", "lo", "up")
            self._ip("tuntap", "add", "dev", TAP, "mode", "tap")
            self._ip("addr", "add", f"{MACHINE}/24", "dev", TAP)
            self._ip("link", "set", TAP, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.holder.kill()
        self.holder.wait()
        self.holder.stderr.close()

    def inside(self, command):
        """The command line that runs `command` in the namespace, no longer than the tests run."""
        return [*DIES_WITH_US, "nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *command]

    @staticmethod
    def qemu_arguments():
        return [
            "-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no",
            "-device", "virtio-net-pci,netdev=net,romfile=",
        ]  # fmt: skip

    def _wait_for_namespace(self):
        ours = os.readlink("/proc/self/ns/net")
        end = time.monotonic() + 5
        while os.readlink(f"/proc/{self.holder.pid}/ns/net") == ours:
            if self.holder.poll() is not None or time.monotonic() > end:
                self._fail("unshare --net", self.holder.stderr.read().decode())
            time.sleep(0.01)

    def _ip(self, *arguments):
        done = subprocess.run(self.inside(["ip", *arguments]), check=False, capture_output=True, text=True)
        if done.returncode != 0:
            self._fail(f"ip {' '.join(arguments)}", done.stderr)

    @staticmethod
    def _fail(what, message):
        raise OSError(
            f"{what}: {message.strip()}\n"
            "Needed are root, /dev/net/tun and the right to make a network namespace; "
            "a container needs --privileged or its like."
        )
