"""What the scenarios against a configured `nvmf serve` have in common."""
import contextlib

from . import kernel_log
from .configured import ConfiguredServe
from .host import Host
from .kernel_log import KernelLog


class Scenario:
    """One guest or two, a configured `nvmf serve`, and windows on the kernels' logs. A subclass has
    `NAME`, `configuration` and `steps`; with `STATE`, serve has a state file."""

    HOSTS = 1
    NAME = ""
    STATE = False

    def __init__(self, where, command, report, files):
        """`where`: the guest, or the list of guests."""
        self.guests = where if isinstance(where, list) else [where]
        self.guest = self.guests[0]
        self.command = command
        self.check = report.check
        self.files = files
        self.network = command.network
        self.hosts = [Host(guest) for guest in self.guests]
        self.host = self.hosts[0]
        self.logs = [KernelLog(guest) for guest in self.guests]
        self.serve = ConfiguredServe(command, self.configuration(), self.NAME, files, self.STATE)

    def run(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.serve)
            # whatever failed, the next scenario in these guests begins without a controller
            for guest in self.guests:
                stack.callback(guest.run, "umount /mnt 2> /dev/null; nvme disconnect-all; true", timeout=120)
            stack.callback(self.network.mend_all)
            with self.check("serve starts from its configuration", essential=True):
                self.serve.start()
            self.steps()
            with self.check("disconnect from all"):
                self.serve.require_running()
                for host in self.hosts:
                    host.disconnect_all()
            with self.check("serve ends cleanly on SIGTERM"):
                self.serve.stop()

    def configuration(self):
        raise NotImplementedError

    def steps(self):
        raise NotImplementedError

    def kernel_log(self, what, *more):
        with self.check(f"the kernel logs nothing unusual about {what}"):
            for log in self.logs:
                log.require_usual(kernel_log.LOADING, kernel_log.CONNECTING, kernel_log.FILE_SYSTEM, *more)

    def forget_log(self):
        """What was logged until now is expected, each kernel in its own words."""
        for log in self.logs:
            log.mark()
