"""The network between the machine and a guest: a tap device in a namespace of its own.

A tap carries large segments without checksums, several times as fast as qemu's user-mode network,
and in its namespace no address or port can collide with anything else on the machine. The machine
is 10.0.2.2 there, the guest 10.0.2.15; programs of the machine that talk to the guest are run
inside the namespace.
"""
import os
import subprocess

MACHINE = "10.0.2.2"
GUEST = "10.0.2.15"
TAP = "tap0"


class Network:
    def __init__(self, name):
        self.name = name

    def __enter__(self):
        self._ip("netns", "add", self.name)
        try:
            for arguments in (
                ("link", "set", "lo", "up"),
                ("tuntap", "add", "dev", TAP, "mode", "tap"),
                ("addr", "add", f"{MACHINE}/24", "dev", TAP),
                ("link", "set", TAP, "up"),
            ):
                self._ip("-n", self.name, *arguments)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)

    def inside(self, command):
        """The command line that runs `command` in the namespace and dies with this process."""
        return ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.name, *command]

    def qemu_arguments(self):
        return [
            "-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no",
            "-device", "virtio-net-pci,netdev=net,romfile=",
        ]  # fmt: skip

    @staticmethod
    def _ip(*arguments):
        done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(
                f"ip {' '.join(arguments)}: {done.stderr.strip()} "
                f"(a network namespace and {'/dev/net/tun' if os.path.exists('/dev/net/tun') else 'a /dev/net/tun'} "
                "are needed: run as root, in a container with NET_ADMIN and SYS_ADMIN)"
            )
