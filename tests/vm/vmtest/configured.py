"""`nvmf serve` by a configuration file, changed while it runs by `nvmf ctl`."""
import json
import os
import signal
import subprocess
import time

from .net import MACHINE, SECOND_MACHINE
from .nvmf import Serve
from .report import CheckFailed

# the ports most scenarios have: one by each path, and the well-known discovery port
PORT = 1
SECOND_PORT = 2
DISCOVERY_PORT = 3
PORTS = [
    {"id": PORT, "listen": f"{MACHINE}:4420"},
    {"id": SECOND_PORT, "listen": f"{SECOND_MACHINE}:4420"},
    {"id": DISCOVERY_PORT, "listen": f"{MACHINE}:8009"},
]
# a Unix socket's path has at most 107 bytes, and the folder of the logs may have more
SOCKETS = "/run"


class ConfiguredServe(Serve):
    """`configuration`: what goes into the file, as tables (dicts), arrays and scalars.
    With `state`, serve keeps what ctl changed in a file, and has it again after it was killed."""

    def __init__(self, command, configuration, name, files, state=False):
        super().__init__(command, None, [])
        self.configuration = configuration
        self.file = os.path.join(files, f"{name}.toml")
        self.state = os.path.join(files, f"{name}.state") if state else None
        # the other guest's target may have had one of that name
        if state and os.path.exists(self.state):
            os.unlink(self.state)
        self.socket = os.path.join(SOCKETS, f"nvmf-vm-{os.getpid()}.sock")
        self.addresses = [port["listen"] for port in configuration["port"]]
        self.write()

    def __exit__(self, *details):
        super().__exit__(*details)
        if os.path.exists(self.socket):
            os.unlink(self.socket)

    def write(self):
        """The file anew, as `configuration` is now."""
        with open(self.file, "w") as file:
            file.write(toml(self.configuration))

    def arguments(self):
        state = ["--state", self.state] if self.state else []
        return ["serve", "--config", self.file, "--control", self.socket, *state]

    def ctl(self, *arguments, status=0):
        """Returns standard output. A change is in effect when this returns."""
        arguments = [str(argument) for argument in arguments]
        out, _ = self.command.run("ctl", "--socket", self.socket, *arguments, status=status)
        return out.decode()

    def ctl_json(self, *arguments):
        out = self.ctl(*arguments, "-o", "json")
        try:
            return json.loads(out)
        except ValueError as error:
            raise CheckFailed(f"no JSON ({error}): nvmf ctl {arguments}\n{out[:2000]}") from error

    def controllers(self, host_nqn=None):
        """What `ctl controllers` says, of one host or of all."""
        found = self.ctl_json("controllers")
        if isinstance(found, dict):
            found = found["controllers"]
        return [entry for entry in found if host_nqn in (None, entry["hostnqn"])]

    def reload(self):
        """The file was edited; serve is told by SIGHUP."""
        self.write()
        self.process.send_signal(signal.SIGHUP)

    def memory(self):
        """Bytes of memory that are in use and belong to no file."""
        # setpriv and nsenter become the command they run: its process is theirs
        with open(f"/proc/{self.process.pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
        return int(fields["RssAnon"].split()[0]) * 1024

    def _listens(self):
        done = subprocess.run(self.command.network.inside(["ss", "-Hltn"]), capture_output=True, text=True, check=False)
        listening = {line.split()[3] for line in done.stdout.splitlines()}
        return listening.issuperset(self.addresses) and os.path.exists(self.socket)


def soon(what, condition, seconds=10):
    """Waits until `condition()` is true, and says what never was."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise CheckFailed(f"not after {seconds} s: {what}")
        time.sleep(0.1)


def toml(table, path=()):
    """Tables as dicts, arrays of tables as lists of dicts; strings, numbers, truth values and
    arrays of them. Scalars come before tables, as they must."""
    lines, tables = [], []
    for key, value in table.items():
        name = ".".join([*path, str(key)])
        if isinstance(value, dict):
            tables.append(f"[{name}]\n{toml(value, (*path, str(key)))}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            tables += [f"[[{name}]]\n{toml(entry, (*path, str(key)))}" for entry in value]
        else:
            # JSON's strings, numbers, truth values and arrays are TOML's, too
            lines.append(f"{key} = {json.dumps(value)}\n")
    return "".join(lines) + "".join(tables)
