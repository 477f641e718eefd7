"""One line per check, a count at the end, and the reason of each failure at once."""
import contextlib
import sys
import time


class CheckFailed(Exception):
    """A check found something other than it must."""


class ScenarioEnded(Exception):
    """A check failed without which the rest of its scenario means nothing."""


def equal(what, got, wanted):
    if got != wanted:
        raise CheckFailed(f"{what}: got {got!r}, wanted {wanted!r}")


def require(condition, message):
    if not condition:
        raise CheckFailed(message)


class TestsEnded(Exception):
    """Something is lost without which no check can be made any more."""


class Report:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.scope = ""

    @contextlib.contextmanager
    def check(self, name, essential=False):
        """Runs its body as one check. Whatever the body raises is the failure's reason; with
        `essential` the scenario ends there."""
        start = time.monotonic()
        try:
            yield
        except TestsEnded as error:
            self.fail(name, error, start)
            raise
        except Exception as error:  # whatever went wrong is this check's result
            self.fail(name, error, start)
            if essential:
                raise ScenarioEnded(name) from error
        else:
            self.passed += 1
            print(f"ok   {self.scope}: {name} ({time.monotonic() - start:.1f} s)", flush=True)

    def fail(self, name, error, start=None):
        """Count and print a failure."""
        self.failed += 1
        took = "" if start is None else f" ({time.monotonic() - start:.1f} s)"
        print(f"FAIL {self.scope}: {name}{took}", flush=True)
        reason = str(error) if isinstance(error, CheckFailed) else f"{type(error).__name__}: {error}"
        for line in reason.rstrip().splitlines():
            print(f"       {line}", flush=True)

    def total(self):
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1


def show_end(title, path, lines=40):
    """Print the end of a log, to standard error."""
    try:
        with open(path, errors="replace") as file:
            end = file.readlines()[-lines:]
    except OSError as error:
        end = [f"({error})\n"]
    print(f"--- end of {title} ({path})", file=sys.stderr)
    sys.stderr.writelines(f"  {line.rstrip()}\n" for line in end)
    sys.stderr.flush()
