"""Volumes, tmpfs, read-only roots, devices."""

import os

from checks import Failed, expect, read, run, status_of, write
from podman.engine import checks


def options_of(pid, target):
    """The flags of the topmost mount on a path in a process's mount namespace."""
    found = None
    for line in read(f"/proc/{pid}/mountinfo").splitlines():
        if line.split()[4] == target:
            found = line.split()[5].split(",")
    if found is None:
        raise Failed(f"nothing is mounted on {target}")
    return found


@checks("a directory of the host, writable and read-only")
def bind(podman):
    write(f"{podman.work}/volume/file", "from the host\n")
    volume = f"{podman.work}/volume"
    podman.run("cat", "/v/file", options=["-v", f"{volume}:/v"]).ok().prints("from the host")
    podman.sh("echo inside >/v/new", options=["-v", f"{volume}:/v"]).ok()
    expect(read(f"{volume}/new"), "inside\n", "what was written")
    podman.sh("echo x >/v/more", options=["-v", f"{volume}:/v:ro"]).refused().says("read-only file system")


@checks("a file over a file, and a target that is not there")
def bind_file(podman):
    given = write(f"{podman.work}/hosts", "mine\n")
    podman.run("cat", "/etc/passwd", options=["-v", f"{given}:/etc/passwd:ro"]).ok().prints("mine")
    podman.run("cat", "/a/b/c", options=["-v", f"{given}:/a/b/c"]).ok().prints("mine")


@checks("flags of a volume: nosuid, nodev, noexec")
def flags(podman):
    os.makedirs(f"{podman.work}/flags", exist_ok=True)
    with podman.container(options=["-v", f"{podman.work}/flags:/v:nosuid,nodev,noexec"]) as c:
        found = options_of(c.pid, "/v")
        expect([flag for flag in ("nosuid", "nodev", "noexec") if flag in found], ["nosuid", "nodev", "noexec"], "the flags")


@checks("propagation of a volume: private, rslave, rshared")
def propagation(podman):
    base = f"{podman.work}/propagation"
    os.makedirs(f"{base}/below", exist_ok=True)
    run(["mount", "--bind", base, base]).ok()
    run(["mount", "--make-shared", base]).ok()
    try:
        for how, arrives in ("private", False), ("rslave", True), ("rshared", True):
            with podman.container(options=["-v", f"{base}:/v:{how}"]) as c:
                run(["mount", "-t", "tmpfs", "tmpfs", f"{base}/below"]).ok()
                try:
                    expect("/v/below" in read(f"/proc/{c.pid}/mounts"), arrives, f"a later mount is seen with {how}")
                finally:
                    run(["umount", f"{base}/below"]).ok()
    finally:
        run(["umount", base]).ok()


@checks("a named volume keeps its content, and is filled from the image")
def named(podman):
    podman("volume", "create", "kept").ok()
    podman.sh("echo one >/v/file", options=["-v", "kept:/v"]).ok()
    podman.run("cat", "/v/file", options=["-v", "kept:/v"]).ok().prints("one")
    podman.run("cat", "/etc/group", options=["-v", "filled:/etc"]).ok().has("more:x:2000")
    podman("volume", "rm", "kept", "filled").ok()


@checks("tmpfs with its options, and copied up from the image")
def tmpfs(podman):
    with podman.container(options=["--tmpfs", "/t:size=4m,mode=1700,noexec"]) as c:
        c.exec("stat", "-c", "%a", "/t").ok().prints("1700")
        c.exec("sh", "-c", "df -k /t | tail -n 1 | awk '{ print $2 }'").ok().prints("4096")
        expect("noexec" in options_of(c.pid, "/t"), True, "noexec")
    podman.run("cat", "/etc/group", options=["--mount", "type=tmpfs,destination=/etc,tmpcopyup"]).ok().has("more:x:2000")


@checks("a read-only root, with writable /tmp and /run")
def read_only(podman):
    podman.sh("echo x >/new", options=["--read-only"]).refused().says("read-only file system")
    podman.sh("echo x >/tmp/new && echo x >/run/new && echo x >/dev/shm/new", options=["--read-only"]).ok()
    podman.sh("echo x >/tmp/new", options=["--read-only", "--read-only-tmpfs=false"]).refused()


@checks("--shm-size")
def shm(podman):
    podman.sh("df -k /dev/shm | tail -n 1 | awk '{ print $2 }'", options=["--shm-size", "2m"]).ok().prints("2048")


@checks("the default devices are there and work, others are not")
def devices(podman):
    podman.sh("for d in null zero full random urandom tty; do test -c /dev/$d || echo $d; done; head -c 3 /dev/zero | wc -c; "
              "echo x >/dev/null && ls -l /dev/fd /dev/stdin /dev/ptmx | wc -l").ok().prints("3\n3")
    podman.sh("test -e /dev/kmsg").refused()
    ran = podman.sh("mknod /tmp/d b 254 1 && cat /tmp/d").refused()
    ran.says("operation not permitted")


@checks("--device hands one on, with the access that was asked for")
def device(podman):
    podman.sh("head -c 4 /dev/mine | wc -c", options=["--device", "/dev/zero:/dev/mine:r"]).ok().prints("4")
    podman.sh("echo x >/dev/full2", options=["--device", "/dev/full:/dev/full2:rw"]).refused().says("no space left")


@checks("a setuid program gains its owner's rights, on a nosuid volume it does not")
def setuid(podman):
    os.makedirs(f"{podman.work}/suid", exist_ok=True)
    # busybox would give such a right up by itself.
    run(["install", "-m", "4755", "/usr/bin/catatonit", f"{podman.work}/suid/catatonit"]).ok()
    for flags, effective in ("suid", "0"), ("nosuid", "1000"):
        with podman.container("/s/catatonit", "sleep", "100", options=["--user", "1000", "-v", f"{podman.work}/suid:/s:{flags}"]) as c:
            expect(status_of(c.pid, "Uid").split()[:2], ["1000", effective], f"real and effective user with {flags}")


@checks("--rootfs runs a tree that is no image")
def rootfs(podman):
    podman("run", "--rm", "--network", "none", "--rootfs", f"{podman.work}/rootfs", "echo", "tree").ok().prints("tree")


@checks("--systemd always mounts what an init system wants")
def systemd(podman):
    with podman.container(options=["--systemd", "always"]) as c:
        c.exec("sh", "-c", "stat -f -c %T /run /run/lock /tmp | uniq").ok().prints("tmpfs")
        c.exec("sh", "-c", "echo $container").ok().prints("podman")
