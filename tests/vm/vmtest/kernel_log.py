"""What the guest's kernel logged: every line must be one that is known to be usual."""
import itertools
import re

from .report import CheckFailed

LOADING = [
    r"nvme_fabrics: ",
    r"null_blk: (module loaded|disk \w+ created)$",
]

CONNECTING = [
    r"nvme nvme\d+: new ctrl: NQN ",
    r"nvme nvme\d+: Removing ctrl: NQN ",
    r"nvme nvme\d+: creating \d+ I/O queues\.$",
    r"nvme nvme\d+: mapped \d+/\d+/\d+ default/read/poll queues\.$",
    # how long it waits for a shutdown, where RTD3E says more than its own 5 seconds
    r"nvme nvme\d+: (D3 entry latency|Shutdown timeout) set to \d+ seconds$",
]

FILE_SYSTEM = [
    r"EXT4-fs \(nvme\d+n\d+\): mounted filesystem .*with ordered data mode",
    r"EXT4-fs \(nvme\d+n\d+\): unmounting filesystem",
]

# when the target goes away and comes back under a connected host
RECONNECTING = [
    r"nvme nvme\d+: starting error recovery$",
    r"nvme nvme\d+: queue \d+ socket state \d+$",
    r"nvme nvme\d+: Reconnecting in \d+ seconds\.\.\.$",
    r"nvme nvme\d+: failed to connect socket: -111$",
    r"nvme nvme\d+: Failed reconnect attempt \d+",
    r"nvme nvme\d+: Successfully reconnected \((\d+ attempts?|attempt \d+/-?\d+)\)$",
]

# Keep Alive's timer may fire while the kernel disconnects. The command is then never sent, which
# shows in its age: 2^32 ms less a few minutes. One that was sent and answered late does not match.
KEEP_ALIVE_NEVER_SENT = [
    r"nvme nvme\d+: long keepalive RTT \(4294\d{6} ms\)$",
    r"nvme nvme\d+: failed nvme_keep_alive_end_io error=4$",
]

# changes of namespaces and of ANA states
PATHS = [
    r"nvme nvme\d+: rescanning namespaces\.$",
    r"nvme nvme\d+: ANA group \d+: \S+\.$",
    r"block nvme\d+n\d+: no usable path - requeuing I/O$",
    r"nvme_ns_head_submit_bio: \d+ callbacks suppressed$",
    r"nvme\d+n\d+: detected capacity change from \d+ to \d+$",
]

RESIZED = [
    r"EXT4-fs \(nvme\d+n\d+\): resiz(ing|ed) filesystem ",
]

RESETTING = [
    r"nvme nvme\d+: resetting controller$",
]

# when a path is cut under I/O, and nothing says so
LOST = [
    r"nvme nvme\d+: failed nvme_keep_alive_end_io error=\d+$",
    r"nvme nvme\d+: I/O tag \d+ \(\w+\) type \d+ opcode 0x\w+ \(.*\) QID \d+ timeout$",
    r"nvme nvme\d+: queue \d+: timeout request 0x\w+ type \d+",
    r"nvme nvme\d+: long keepalive RTT \(\d{4,5} ms\)$",
    r"nvme nvme\d+: failed to connect socket: -(101|110|113)$",
    r"nvme nvme\d+: Property Set error: 880, offset 0x14$",
]

# when a host that is connected may be no more: it comes again, is told so, and gives up
SHUT_OUT = [
    r"nvme nvme\d+: Connect for subsystem \S+ is not allowed, hostnqn: ",
    r"nvme nvme\d+: failed to connect queue: \d+ ret=16772$",
    r"nvme nvme\d+: Removing controller \(16772\)\.\.\.$",
    r"nvme nvme\d+: Property Set error: 880, offset 0x14$",
]

EXPORTING = [
    r"nvmet: adding nsid \d+ to subsystem ",
    r"nvmet: creating (nvm|discovery) controller \d+ for subsystem ",
    r"nvmet_tcp: enabling port \d+ ",
]


class KernelLog:
    """A window on the guest's kernel log, from one `require_usual` to the next."""

    marks = itertools.count(1)

    def __init__(self, guest):
        self.guest = guest
        self.mark()

    def mark(self):
        """Begin a new window."""
        self.last_mark = f"nvmf-test: mark {next(self.marks)}"
        # priority 6: it does not go to the console
        self.guest.run(f"echo '<6>{self.last_mark}' > /dev/kmsg")

    def lines(self):
        """What was logged since the mark, without time stamps."""
        lines = self.guest.run("dmesg").splitlines()
        lines = [re.sub(r"^\[ *[\d.]+\] ", "", line) for line in lines]
        if self.last_mark not in lines:
            raise CheckFailed("the kernel log lost its beginning")
        return lines[lines.index(self.last_mark) + 1 :]

    def require_usual(self, *allowed):
        """Fails with every line that none of the regular expressions matches; then a new window
        begins."""
        patterns = [re.compile(pattern) for group in allowed for pattern in group]
        lines = self.lines()
        self.mark()
        unusual = [line for line in lines if not any(pattern.match(line) for pattern in patterns)]
        if unusual:
            raise CheckFailed("the kernel logged:\n" + "\n".join(f"  {line}" for line in unusual))
