"""podman as root, from Debian's package, in a store of its own and with the cgroupfs manager."""

import image
from checks import BIN, Checks, run, run_in_terminal, write

WORK = "/tmp/podman"
CONF = f"""
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
hull = ["{BIN}/hull"]
"""

checks = Checks("podman")


class Podman:
    def __init__(self):
        write(f"{WORK}/containers.conf", CONF)
        tar = image.root_file_system(WORK)
        self("import", tar, image.NAME).ok()

    def command(self, *words):
        return ["env", f"CONTAINERS_CONF={WORK}/containers.conf", "podman", "--root", f"{WORK}/root",
                "--runroot", f"{WORK}/run", "--tmpdir", f"{WORK}/tmp", *words]

    def __call__(self, *words, **how):
        return run(self.command(*words), **how)

    def run(self, *words, options=(), **how):
        """`podman run --rm` of the image without a network, which most checks do not need."""
        return self("run", "--rm", "--network", "none", *options, image.NAME, *words, **how)

    def end(self):
        self("rm", "--force", "--all", "--time", "0")


@checks("run prints what the program prints")
def run_prints(podman):
    podman.run("echo", "hi").ok().prints("hi")


@checks("run passes on the exit status")
def exit_status(podman):
    for code in 0, 1, 42, 255:
        podman.run("sh", "-c", f"exit {code}").status(code)


@checks("a missing program gives 127")
def missing(podman):
    podman.run("/nosuch").status(127).says("no such file or directory")
    podman.run("nosuch").status(127).says("executable file", "no such file or directory")


@checks("a file that may not be executed gives 126")
def not_executable(podman):
    podman.run("/etc/not-executable").status(126).says("permission denied")
    podman.run("/etc").status(126).says("permission denied", "is a directory")


@checks("run -i reads stdin, run -t has a terminal")
def stdin_and_terminal(podman):
    podman.run("cat", options=["-i"], stdin="given").ok().prints("given")
    run_in_terminal(podman.command("run", "--rm", "--network", "none", "-it", image.NAME, "tty")).ok().prints("/dev/pts/0")


if __name__ == "__main__":
    checks.main(Podman)
