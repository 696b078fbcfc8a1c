"""What every engine's list of checks is written with: commands that end, comparisons that explain, counted results."""

import dataclasses
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import traceback

# What the engines run: a copy of the runtime, and before it a script that writes down each call.
BIN = "/run/engines/bin"
CALLS = "/run/engines/calls"
DEADLINE = 60


class Skip(Exception):
    """The machine lacks what the check needs; the text is the reason that is printed."""


class Failed(Exception):
    """A comparison did not hold."""


@dataclasses.dataclass
class Ran:
    """A command that has ended."""
    command: list
    code: int
    stdout: str
    stderr: str

    def fail(self, what):
        raise Failed(f"{what}\n  command: {' '.join(map(repr, self.command))}\n  status:  {self.code}\n"
                     f"  stdout:  {self.stdout[-2000:]!r}\n  stderr:  {self.stderr[-2000:]!r}")

    def status(self, code):
        if self.code != code:
            self.fail(f"status {code} was expected")
        return self

    def ok(self):
        return self.status(0)

    def refused(self):
        if self.code == 0:
            self.fail("an error was expected")
        return self

    def prints(self, text):
        """All of stdout, without the white space around it."""
        if self.stdout.strip() != text:
            self.fail(f"stdout {text!r} was expected")
        return self

    def has(self, text):
        if text not in self.stdout:
            self.fail(f"{text!r} was expected in stdout")
        return self

    def lacks(self, text):
        if text in self.stdout + self.stderr:
            self.fail(f"{text!r} was not expected")
        return self

    def says(self, *texts):
        """On stderr, in whatever case, one of the texts."""
        if not any(text.lower() in self.stderr.lower() for text in texts):
            self.fail(f"one of {texts!r} was expected in stderr")
        return self


def run(command, stdin=None, deadline=DEADLINE, **how):
    """Runs a command to its end. What it prints goes to files: a container that keeps its stdout must not block it."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr, tempfile.TemporaryFile() as given:
        given.write((stdin or "").encode())
        given.seek(0)
        process = subprocess.Popen(command, stdin=given, stdout=stdout, stderr=stderr, **how)
        try:
            code = process.wait(deadline)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = f"none: it did not end within {deadline} s"
        stdout.seek(0)
        stderr.seek(0)
        return Ran(command, code, stdout.read().decode(errors="replace"), stderr.read().decode(errors="replace"))


def run_in_terminal(command, typed="", deadline=DEADLINE, **how):
    """Runs a command whose stdin, stdout and stderr are a terminal of 33 lines and 99 columns; what it prints is in stdout. `typed`, a text or several, is written
    once the program has printed something, each after a moment."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, **how)
    os.close(slave)
    output, end = b"", time.monotonic() + deadline
    while time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            try:
                piece = os.read(master, 65536)
            except OSError:  # EIO: nobody holds the other end any more.
                break
            output += piece
            for text in [typed] if isinstance(typed, str) else typed:
                os.write(master, text.encode())
                time.sleep(0.2)
            typed = ""
        elif process.poll() is not None:
            break
    try:
        code = process.wait(max(1, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = f"none: it did not end within {deadline} s"
    os.close(master)
    return Ran(command, code, output.decode(errors="replace").replace("\r\n", "\n"), "")


def expect(value, expected, what):
    if value != expected:
        raise Failed(f"{what} is {value!r}, expected {expected!r}")


def eventually(what, condition, deadline=20):
    """Waits until a condition holds, and gives what it returned."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"waited {deadline} s in vain: {what}")
        time.sleep(0.1)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def cgroup_file(controller, pid, name):
    """A file of a process's cgroup, on v1 or v2; `name` is a pair of the names there."""
    v1, v2 = name
    for line in read(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return read(f"/sys/fs/cgroup/{controller}{path}/{v1}").strip()
    path = read(f"/proc/{pid}/cgroup").split("0::", 1)[1].splitlines()[0]
    return read(f"/sys/fs/cgroup{path}/{v2}").strip()


def status_of(pid, field):
    """A field of /proc/PID/status."""
    for line in read(f"/proc/{pid}/status").splitlines():
        if line.startswith(field + ":"):
            return line.split(":", 1)[1].strip()
    raise Failed(f"/proc/{pid}/status has no {field}")


def lacks_controllers():
    """Engines limit the processes of every container: on a cgroup2 whose controllers v1 hierarchies hold nothing runs."""
    path = "/sys/fs/cgroup/cgroup.controllers"
    there = read(path).split() if os.path.exists(path) else ["memory", "pids"]
    missing = {"memory", "pids"}.difference(there)
    if missing:
        raise Skip(f"the cgroup v2 of this machine has no controllers {', '.join(sorted(missing))}")


class Checks:
    """The checks of one engine, in the order in which they are written: `@checks("what holds")`."""

    def __init__(self, engine):
        self.engine = engine
        self.all = []

    def __call__(self, name, skip=None):
        """`skip` is a function that gives the reason for which the check cannot hold here, or nothing."""
        def register(function):
            self.all.append((name, function, skip))
            return function
        return register

    def main(self, engine_class):
        """Runs them all, or the first only, and prints a line for each; the parent counts these."""
        first = "--first" in sys.argv
        wanted = [word for word in sys.argv[1:] if not word.startswith("--")]
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            lacks_controllers()
            engine = engine_class()
        except Skip as reason:
            print(f"SKIP {self.engine}: {reason}", flush=True)
            return
        try:
            for name, function, skip in self.all[:1] if first else self.all:
                if not wanted or any(word in name for word in wanted):
                    self.one(engine, name, function, skip)
        finally:
            engine.end()

    def one(self, engine, name, function, skip):
        try:
            reason = skip(engine) if skip else None
            if reason:
                raise Skip(reason)
            function(engine)
            print(f"ok {self.engine}: {name}", flush=True)
        except Skip as reason:
            print(f"SKIP {self.engine}: {name}: {reason}", flush=True)
        except Failed as failure:
            print(f"FAILED {self.engine}: {name}: {failure}", flush=True)
        except Exception:  # A bug of the check is a failure of it.
            print(f"FAILED {self.engine}: {name}: {traceback.format_exc()}", flush=True)
