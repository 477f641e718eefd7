"""The `nvmf` command under test, run on the machine inside the guest's network."""
import json
import os
import shlex
import signal
import subprocess
import time

from .net import MACHINE
from .report import CheckFailed

START_SECONDS = 20
STOP_SECONDS = 20


class Command:
    """Runs `nvmf` and keeps a transcript of it."""

    def __init__(self, binary, network, logs):
        self.binary = binary
        self.network = network
        self.logs = logs
        self.transcript = os.path.join(logs, "nvmf.log")
        open(self.transcript, "w").close()

    def run(self, *arguments, stdin=None, timeout=60, status=0):
        """Returns (standard output as bytes, standard error as text); the exit status must be
        `status`, if that is one."""
        shown = "nvmf " + shlex.join(arguments)
        try:
            done = subprocess.run(
                self.network.inside([self.binary, *arguments]),
                input=b"" if stdin is None else stdin,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            self._log(f"{shown}\n  not done after {timeout} s\n")
            stderr = (error.stderr or b"").decode(errors="replace")
            raise CheckFailed(f"not done after {timeout} s: {shown}\n{stderr[-1000:]}") from None
        stderr = done.stderr.decode(errors="replace")
        self._log(f"{shown}\n{stderr}  = {done.returncode}, {len(done.stdout)} bytes of output\n")
        if status is not None and done.returncode != status:
            raise CheckFailed(f"status {done.returncode}, wanted {status}: {shown}\n{stderr[-2000:]}")
        return done.stdout, stderr

    def json(self, *arguments, timeout=60):
        out, _ = self.run(*arguments, "-o", "json", timeout=timeout)
        try:
            return json.loads(out)
        except ValueError as error:
            raise CheckFailed(f"no JSON ({error}): nvmf {shlex.join(arguments)} -o json\n{out[:2000]!r}") from error

    def _log(self, text):
        with open(self.transcript, "a") as file:
            file.write(f"[{time.strftime('%H:%M:%S')}] {text}")


class Serve:
    """`nvmf serve`, as a context that does not leave it running; it may start and end many times."""

    def __init__(self, command, nqn, namespaces, port=4420):
        self.command = command
        self.nqn = nqn
        self.namespaces = namespaces
        self.address = MACHINE
        self.port = port
        self.log = os.path.join(command.logs, "serve.log")
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def arguments(self):
        arguments = ["serve", "--listen", f"{self.address}:{self.port}", "--allow", "any", "--nqn", self.nqn]
        for namespace in self.namespaces:
            arguments += ["--namespace", namespace]
        return [*arguments, "--hdgst", "--ddgst"]

    def start(self):
        arguments = self.arguments()
        with open(self.log, "a") as log:
            log.write(f"$ nvmf {shlex.join(arguments)}\n")
            log.flush()
            self.process = subprocess.Popen(
                self.command.network.inside([self.command.binary, *arguments]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + START_SECONDS
        while not self._listens():
            if self.process.poll() is not None:
                raise CheckFailed(f"nvmf serve ended with status {self.process.returncode}; see {self.log}")
            if time.monotonic() > end:
                raise CheckFailed(f"nvmf serve does not listen after {START_SECONDS} s; see {self.log}")
            time.sleep(0.05)

    def stop(self):
        """Ends it as a person would; it must end cleanly and soon."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise CheckFailed(f"nvmf serve did not end {STOP_SECONDS} s after SIGTERM") from None
        if status != 0:
            raise CheckFailed(f"nvmf serve ended with status {status} after SIGTERM")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def require_running(self):
        if self.process.poll() is not None:
            raise CheckFailed(f"nvmf serve is gone, with status {self.process.returncode}")

    def _listens(self):
        # in the namespace, so asked through its own table of sockets
        done = subprocess.run(
            self.command.network.inside(["ss", "-Hltn", f"sport = :{self.port}"]),
            capture_output=True,
            check=False,
        )
        return bool(done.stdout.strip())

