"""The network between the machine and the guests: two bridges in a network namespace of its own.

A guest has a network interface on each bridge, so that there are two ways to it that can be cut one
by one, as a pulled cable cuts them: nothing is refused, packets are just gone. The machine is
10.0.2.2 on the one and 10.0.3.2 on the other, the first guest 10.0.2.15 and 10.0.3.15, the second
10.0.2.16 and 10.0.3.16. Taps carry large segments without checksums, several times as fast as
qemu's user-mode network, and in the namespace no address or port can collide with anything else on
the machine; programs of the machine that talk to a guest are run inside it.
"""
import os
import subprocess
import time

# the third byte of a path's addresses
PATHS = (2, 3)
MACHINE = "10.0.2.2"
SECOND_MACHINE = "10.0.3.2"  # the machine by the second path
# A program run by this does not outlive the tests, however they end.
DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL"]


def guest_address(number, path=PATHS[0]):
    """Guests count from 1."""
    return f"10.0.{path}.{14 + number}"


def tap(number, path):
    return f"tap{number}p{path}"


class Network:
    """For so many guests. The namespace has no name: it is that of a process which sleeps, and ends
    with it."""

    def __init__(self, guests=1):
        self.guests = guests
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
            self.ip("link", "set", "lo", "up")
            for path in PATHS:
                bridge = f"br{path}"
                self.ip("link", "add", bridge, "type", "bridge")
                for number in range(1, self.guests + 1):
                    self.ip("tuntap", "add", "dev", tap(number, path), "mode", "tap")
                    self.ip("link", "set", tap(number, path), "master", bridge, "up")
                self.ip("addr", "add", f"10.0.{path}.2/24", "dev", bridge)
                self.ip("link", "set", bridge, "up")
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

    def cut(self, number, path):
        """Nothing passes between the machine and that guest by that path."""
        self.ip("link", "set", tap(number, path), "down")

    def mend(self, number, path):
        self.ip("link", "set", tap(number, path), "up")

    def mend_all(self):
        for number in range(1, self.guests + 1):
            for path in PATHS:
                self.mend(number, path)

    @staticmethod
    def qemu_arguments(number):
        """The guest makes its addresses of the last four bytes of its network interfaces'."""
        arguments = []
        for path in PATHS:
            arguments += [
                "-netdev", f"tap,id=net{path},ifname={tap(number, path)},script=no,downscript=no",
                "-device", f"virtio-net-pci,netdev=net{path},mac=52:54:0a:00:{path:02x}:{14 + number:02x},romfile=",
            ]  # fmt: skip
        return arguments

    def _wait_for_namespace(self):
        ours = os.readlink("/proc/self/ns/net")
        end = time.monotonic() + 5
        while os.readlink(f"/proc/{self.holder.pid}/ns/net") == ours:
            if self.holder.poll() is not None or time.monotonic() > end:
                self._fail("unshare --net", self.holder.stderr.read().decode())
            time.sleep(0.01)

    def ip(self, *arguments):
        self.run("ip", *arguments)

    def run(self, *command):
        """Runs a command in the namespace."""
        done = subprocess.run(self.inside(command), check=False, capture_output=True, text=True)
        if done.returncode != 0:
            self._fail(" ".join(command), done.stderr)

    @staticmethod
    def _fail(what, message):
        raise OSError(
            f"{what}: {message.strip()}\n"
            "Needed are root, /dev/net/tun, bridges and the right to make a network namespace; "
            "a container needs --privileged or its like."
        )
