"""What the tests stand on: the tools, the image, the network, and the guests in it."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from . import kernel_target
from .guest import Guest
from .guest_binary import GuestBinary
from .net import Network
from .nvmf import Command
from .report import show_end

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
KERNELS = ["trixie", "bookworm"]
# what the image builder and the tests run
TOOLS = """apt-get cpio depmod dpkg-deb flock ldconfig ldd lz4 mke2fs modprobe xz zstd
    ip nsenter qemu-system-x86_64 setpriv ss unshare""".split()


def add_arguments(parser, logs):
    """The options that every command of these tests has. `logs`: the folder's name."""
    parser.add_argument("--nvmf", metavar="BINARY", help="the nvmf to test; by default it is built in release mode")
    parser.add_argument(
        "--image",
        metavar="DIR",
        default=os.environ.get("NVMF_VM_IMAGE", os.path.join(TARGET, "vm-image")),
        help="where the guest's image is built and kept (default %(default)s; also NVMF_VM_IMAGE)",
    )
    parser.add_argument("--logs", metavar="DIR", default=os.path.join(TARGET, logs), help="default %(default)s")


def prepare(options):
    """Everything that must be there before a guest boots, but for nvmf."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # not every root's PATH has the system administration folders
    os.environ["PATH"] += os.pathsep + "/usr/sbin:/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}. As root, tests/vm/setup installs what these tests need.")
    if os.geteuid() != 0:
        sys.exit("These tests make a network namespace and tap devices: run them as root.")
    subprocess.run([os.path.join(HERE, "guest", "build"), options.image, *KERNELS], check=True)
    options.image = os.path.abspath(options.image)


def clean_logs(options):
    shutil.rmtree(options.logs, ignore_errors=True)
    os.makedirs(options.logs)


def build_nvmf():
    subprocess.run(["cargo", "build", "--release", "--quiet", "-p", "nvmf-cli"], cwd=ROOT, check=True)
    return os.path.join(TARGET, "release", "nvmf")


class Setting:
    """Booted guests in their network, and the command under test."""

    def __init__(self, options, kernels, stack, report):
        """Entered into `stack`; `kernels`: that of each guest."""
        self.report = report
        self.logs = os.path.abspath(options.logs)
        binary = os.path.abspath(options.nvmf or build_nvmf())
        with report.check("a network for the guests", essential=True):
            network = stack.enter_context(Network(len(kernels)))
        self.files = stack.enter_context(tempfile.TemporaryDirectory(prefix="files.", dir=self.logs))
        self.command = Command(binary, network, self.logs)
        in_guest = GuestBinary(binary, os.path.join(self.files, "nvmf.tar"))
        self.guests = []
        for number, kernel in enumerate(kernels, start=1):
            name = kernel if kernel not in kernels[: number - 1] else f"{kernel}-{number}"
            logs = os.path.join(self.logs, name)
            os.makedirs(logs)
            devices = kernel_target.devices(kernel, self.files, name) + in_guest.devices()
            self.guests.append(Guest(options.image, kernel, network, logs, devices, number))
        with report.check("the guests boot" if len(kernels) > 1 else "the guest boots", essential=True):
            # all at once
            for guest in self.guests:
                stack.enter_context(guest)
            for guest in self.guests:
                guest.ready()
        with report.check("nvmf is a command in each guest" if len(kernels) > 1 else "nvmf is a command in the guest"):
            for guest in self.guests:
                in_guest.install(guest)

    def show_logs(self):
        """The ends of all logs, after a failure."""
        for folder in [self.logs, *(guest.logs for guest in self.guests)]:
            for name in ("console.log", "qemu.log", "serve.log", "nvmf.log", "transcript.log"):
                if os.path.exists(os.path.join(folder, name)):
                    show_end(os.path.relpath(os.path.join(folder, name), self.logs), os.path.join(folder, name))
