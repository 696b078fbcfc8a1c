"""podman with its settings, and a container of it that lives while a check looks at it."""

import contextlib
import itertools
import json

import image
from checks import BIN, Checks, Failed, run, run_in_terminal, write

CONF = """
[containers]
log_driver = "k8s-file"
# The defaults of podman are above the hard limits of a machine without CAP_SYS_RESOURCE.
default_ulimits = ["nofile=1024:4096", "nproc=4096:8192"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "hull"
# Without it podman never asks for --log-format=json.
runtime_supports_json = ["hull"]
[engine.runtimes]
hull = ["{bin}/hull"]
"""
NUMBERS = itertools.count(1)

checks = Checks("podman")


class Podman:
    """Called like a command: `podman("ps", "--all").ok()`."""
    work = "/tmp/podman"
    prefix = ()

    def __init__(self):
        write(f"{self.work}/containers.conf", CONF.format(bin=BIN))
        self.tar = image.root_file_system(self.work)
        self("import", self.tar, image.NAME).ok()

    def command(self, *words):
        return [*self.prefix, "env", f"CONTAINERS_CONF={self.work}/containers.conf", "podman", "--root",
                f"{self.work}/root", "--runroot", f"{self.work}/run", "--tmpdir", f"{self.work}/tmp", *words]

    def __call__(self, *words, **how):
        return run(self.command(*words), **how)

    def in_terminal(self, *words, **how):
        return run_in_terminal(self.command(*words), **how)

    def run(self, *words, options=(), **how):
        """`podman run --rm` of the image without a network, which most checks do not need."""
        return self("run", "--rm", *without_network(options), image.NAME, *words, **how)

    def sh(self, script, options=(), **how):
        return self.run("sh", "-c", script, options=options, **how)

    @contextlib.contextmanager
    def container(self, *words, options=()):
        """A container in the background; it is removed when the check is over."""
        name = f"c{next(NUMBERS)}"
        words = words or ("sleep", "100")
        try:
            self("run", "--detach", "--name", name, *without_network(options), image.NAME, *words).ok()
            yield Container(self, name)
        finally:
            self("rm", "--force", "--time", "0", name)

    def end(self):
        self("pod", "rm", "--force", "--all")
        self("rm", "--force", "--all", "--time", "0")


def without_network(options):
    return options if "--network" in options else ["--network", "none", *options]


class Container:
    def __init__(self, podman, name):
        self.podman = podman
        self.name = name

    def __call__(self, verb, *words, **how):
        """`podman VERB ... NAME`."""
        return self.podman(verb, *words, self.name, **how)

    def exec(self, *words, options=(), **how):
        return self.podman("exec", *options, self.name, *words, **how)

    def inspect(self):
        return json.loads(self("inspect").ok().stdout)[0]

    @property
    def pid(self):
        pid = self.inspect()["State"]["Pid"]
        if not pid:
            raise Failed(f"{self.name} has no process: {self.inspect()['State']}")
        return pid

    @property
    def status(self):
        return self.inspect()["State"]["Status"]
