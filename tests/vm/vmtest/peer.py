"""A second host on the guests' network: `nvmf` in a network namespace with an interface on each
bridge, so that its paths can be disturbed as a guest's can."""
import os
import subprocess
import time

from .net import DIES_WITH_US, PATHS

NUMBER = 50  # its addresses' last byte


def device(path):
    """Its interface's other end, on the bridge."""
    return f"peer{path}"


class Peer:
    def __init__(self, network):
        self.network = network
        self.holder = None

    def __enter__(self):
        self.holder = subprocess.Popen(
            [*DIES_WITH_US, "unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            self._wait_for_namespace()
            for path in PATHS:
                end = device(path)
                self.network.ip("link", "add", end, "type", "veth", "peer", "name", "eth", "netns", str(self.holder.pid))
                self.network.ip("link", "set", end, "master", f"br{path}", "up")
                self._ip("link", "set", "eth", "name", f"eth{path}", "up")
                self._ip("addr", "add", f"10.0.{path}.{NUMBER}/24", "dev", f"eth{path}")
            self._ip("link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # its interfaces end with it
        self.holder.kill()
        self.holder.wait()

    def inside(self, command):
        return [*DIES_WITH_US, "nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *command]

    def _ip(self, *arguments):
        subprocess.run(self.inside(["ip", *arguments]), check=True)

    def _wait_for_namespace(self):
        ours = os.readlink("/proc/self/ns/net")
        end = time.monotonic() + 5
        while os.readlink(f"/proc/{self.holder.pid}/ns/net") == ours:
            if self.holder.poll() is not None or time.monotonic() > end:
                raise OSError("unshare --net does not work here")
            time.sleep(0.01)
