"""buildah with its default isolation, which is the OCI runtime: it asks for the state instead of having a monitor."""

import os

import image
from checks import BIN, Checks, expect, read, run, run_in_terminal, write

WORK = "/tmp/buildah"
CONF = f"""
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:8192"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "hull"
[engine.runtimes]
hull = ["{BIN}/hull"]
"""

checks = Checks("buildah")


class Buildah:
    def __init__(self):
        write(f"{WORK}/containers.conf", CONF)
        image.root_file_system(WORK)
        self("from", "--name", "base", "scratch").ok()
        self("add", "base", f"{WORK}/rootfs.tar", "/").ok()

    def command(self, *words):
        return ["env", f"CONTAINERS_CONF={WORK}/containers.conf", "BUILDAH_ISOLATION=oci", f"BUILDAH_RUNTIME={BIN}/hull",
                "buildah", "--root", f"{WORK}/root", "--runroot", f"{WORK}/run", *words]

    def __call__(self, *words, **how):
        return run(self.command(*words), **how)

    def run(self, *words, options=(), **how):
        return self("run", "--network", "none", *options, "base", "--", *words, **how)

    def end(self):
        self("rm", "--all")


@checks("run prints, and passes on the exit status")
def run_prints(buildah):
    buildah.run("echo", "hi").ok().prints("hi")
    for code in 0, 1, 42:
        buildah.run("sh", "-c", f"exit {code}").status(code)


@checks("run of a missing program, or of one that may not be executed, says why")
def missing(buildah):
    buildah.run("/nosuch").refused().says("no such file or directory")
    buildah.run("/etc/not-executable").refused().says("permission denied")


@checks("run reads stdin, and has a terminal when told")
def stdin_and_terminal(buildah):
    buildah.run("cat", stdin="given").ok().prints("given")
    ran = run_in_terminal(buildah.command("run", "--network", "none", "--terminal", "base", "--", "sh", "-c", "tty; exit 5"))
    ran.status(5).has("/dev/pts/0")


@checks("what run wrote is in the container's tree")
def writes(buildah):
    buildah.run("sh", "-c", "echo made >/made; mkdir /d && chown 5:6 /d").ok()
    mounted = buildah("mount", "base").ok().stdout.strip()
    expect(read(f"{mounted}/made"), "made\n", "the file")
    expect((os.stat(f"{mounted}/d").st_uid, os.stat(f"{mounted}/d").st_gid), (5, 6), "the owner")
    buildah("umount", "base").ok()


@checks("user, working directory, environment, host name")
def identity(buildah):
    buildah.run("id", "-u", options=["--user", "1000"]).ok().prints("1000")
    buildah.run("pwd", options=["--workingdir", "/etc"]).ok().prints("/etc")
    buildah.run("sh", "-c", "echo $A", options=["--env", "A=b c"]).ok().prints("b c")
    buildah.run("hostname", options=["--hostname", "mine"]).ok().prints("mine")


@checks("volumes, tmpfs, capabilities")
def more(buildah):
    write(f"{WORK}/volume/file", "from the host\n")
    buildah.run("cat", "/v/file", options=["--volume", f"{WORK}/volume:/v:ro"]).ok().prints("from the host")
    buildah.run("sh", "-c", "echo x >/v/new", options=["--volume", f"{WORK}/volume:/v:ro"]).refused().says("read-only file system")
    buildah.run("stat", "-f", "-c", "%T", "/t", options=["--mount", "type=tmpfs,destination=/t"]).ok().prints("tmpfs")
    buildah.run("sh", "-c", "grep CapEff /proc/self/status | cut -f2", options=["--cap-drop", "all"]).ok().prints("0" * 16)


@checks("many runs one after another leave no state, cgroup or mount")
def leaves_nothing(buildah):
    for _ in range(10):
        buildah.run("true").ok()
    left = [path for path, _, _ in os.walk("/sys/fs/cgroup") if "buildah" in path]
    expect(left, [], "the cgroups that are left")
    for root in "/run/hull", "/run/runc":
        expect([name for name in os.listdir(root) if name != "@why"] if os.path.isdir(root) else [], [], f"what is left in {root}")


@checks("bud builds a file with steps, and the image has what they made")
def bud(buildah):
    buildah("commit", "base", image.NAME).ok()
    write(f"{WORK}/build/Containerfile", f"FROM {image.NAME}\nRUN echo step >/step\nUSER 1000\nRUN id -u >/tmp/who\n")
    buildah("bud", "--network", "none", "--isolation", "oci", "--runtime", f"{BIN}/hull", "--tag", "localhost/built:1", f"{WORK}/build").ok()
    buildah("from", "--pull-never", "--name", "check", "localhost/built:1").ok()
    buildah("run", "--network", "none", "check", "--", "cat", "/step", "/tmp/who").ok().prints("step\n1000")
    write(f"{WORK}/bad/Containerfile", f"FROM {image.NAME}\nRUN exit 7\n")
    buildah("bud", "--network", "none", f"{WORK}/bad").refused().says("exit status 7", "status 7")


if __name__ == "__main__":
    checks.main(Buildah)
