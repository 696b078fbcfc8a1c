"""What separates a container from the host: namespaces, capabilities, seccomp, users."""

import json
import os

from checks import Failed, cgroup_file, expect, read, status_of, write
from podman.engine import checks

KINDS = ["cgroup", "ipc", "mnt", "net", "pid", "uts", "user", "time"]


def namespaces(pid):
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS}


def shared(pid):
    own = namespaces("self")
    return [kind for kind, name in namespaces(pid).items() if name == own[kind]]


@checks("a container has namespaces of its own")
def own_namespaces(podman):
    with podman.container(options=["--cgroupns", "private"]) as c:
        expect(shared(c.pid), ["user", "time"], "the namespaces that are the host's")


@checks("--pid, --ipc, --uts, --network, --cgroupns host")
def host_namespaces(podman):
    for kind, name in ("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"), ("network", "net"), ("cgroupns", "cgroup"):
        options = [f"--{kind}", "host"]
        if kind != "cgroupns":
            options += ["--cgroupns", "private"]
        with podman.container(options=options) as c:
            if name not in shared(c.pid):
                raise Failed(f"--{kind} host: {name} is its own")


@checks("namespaces of another container are joined")
def joined_namespaces(podman):
    with podman.container() as one:
        other = f"container:{one.name}"
        with podman.container(options=["--pid", other, "--ipc", other, "--network", other]) as two:
            names = namespaces(one.pid), namespaces(two.pid)
            expect([kind for kind in KINDS if names[0][kind] == names[1][kind] and kind not in shared(one.pid)],
                   ["ipc", "net", "pid"], "the namespaces that are joined")
            two.exec("ps", "-o", "args").ok().has("sleep")


@checks("capabilities are podman's default, and what is added and dropped")
def capabilities(podman):
    def effective(*options):
        return int(podman.sh("grep CapEff /proc/self/status | cut -f2", options=options).ok().stdout, 16)
    chown, net_bind, net_admin, sys_admin = 1 << 0, 1 << 10, 1 << 12, 1 << 21
    default = effective()
    expect(default & (chown | net_bind | sys_admin), chown | net_bind, "the default")
    expect(effective("--cap-drop", "all"), 0, "--cap-drop all")
    expect(effective("--cap-drop", "all", "--cap-add", "net_admin"), net_admin, "one added")
    expect(effective("--user", "1000"), 0, "those of an ordinary user")
    expect(effective("--user", "1000", "--cap-add", "net_admin"), net_admin, "one added to an ordinary user")


@checks("--security-opt no-new-privileges")
def no_new_privileges(podman):
    podman.sh("grep NoNewPrivs /proc/self/status | cut -f2", options=["--security-opt", "no-new-privileges"]).ok().prints("1")
    podman.sh("grep NoNewPrivs /proc/self/status | cut -f2").ok().prints("0")


@checks("the default seccomp profile is in force, and unconfined is not filtered")
def seccomp_default(podman):
    podman.sh("grep Seccomp: /proc/self/status | cut -f2").ok().prints("2")
    podman.sh("grep Seccomp: /proc/self/status | cut -f2", options=["--security-opt", "seccomp=unconfined"]).ok().prints("0")


@checks("a seccomp profile of the caller's")
def seccomp_own(podman):
    profile = write(f"{podman.work}/profile.json", json.dumps({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}))
    ran = podman.run("mkdir", "/tmp/made", options=["--security-opt", f"seccomp={profile}"]).refused()
    ran.says("operation not supported", "not supported")


@checks("--privileged has the host's capabilities, devices and no masks")
def privileged(podman):
    bounding = int(status_of("self", "CapBnd"), 16)
    ran = podman.sh("grep CapEff /proc/self/status | cut -f2; test -e /dev/kmsg && echo kmsg; mount -t tmpfs none /mnt 2>&1 || "
                    "mkdir /m && mount -t tmpfs none /m && echo mounted; grep -c ' /proc/kcore ' /proc/self/mounts",
                    options=["--privileged"])
    lines = ran.stdout.split("\n")
    expect(int(lines[0], 16), bounding, "the effective capabilities")
    ran.has("kmsg").has("mounted")
    expect(lines[-2], "0", "the number of masks on /proc/kcore")


@checks("paths are masked and read-only by default, and unmasked when told")
def masked(podman):
    podman.sh("for p in kcore keys timer_list; do test -e /proc/$p && wc -c </proc/$p; done | uniq; ls /sys/firmware | wc -l").ok().prints("0\n0")
    podman.sh("echo x >/proc/sys/kernel/domainname").refused().says("read-only file system")
    podman.sh("grep -c ' /sys/firmware ' /proc/self/mounts", options=["--security-opt", "unmask=/sys/firmware"]).prints("0")
    podman.sh("ls /etc | wc -l", options=["--security-opt", "mask=/etc"]).ok().prints("0")


@checks("--uidmap makes a user namespace")
def uidmap(podman):
    with podman.container(options=["--uidmap", "0:200000:5000", "--gidmap", "0:300000:5000"]) as c:
        expect(read(f"/proc/{c.pid}/uid_map").split(), ["0", "200000", "5000"], "the map")
        expect(status_of(c.pid, "Uid").split()[0], "200000", "the user on the host")
        expect(status_of(c.pid, "Gid").split()[0], "300000", "the group on the host")
        c.exec("sh", "-c", "id -u; stat -c %u /etc; stat -c %u /proc/1; stat -c %u /dev/mqueue").ok().prints("0\n0\n0\n0")
        c.exec("mount", "-o", "remount,rw", "/proc/sys").refused()


@checks("--uidmap with --user, a volume, a terminal and published limits")
def uidmap_more(podman):
    options = ["--uidmap", "0:200000:5000", "--user", "1000", "--memory", "64m", "--pids-limit", "20", "--read-only"]
    with podman.container(options=options) as c:
        expect(status_of(c.pid, "Uid").split()[0], "201000", "the user on the host")
        expect(cgroup_file("pids", c.pid, ("pids.max", "pids.max")), "20", "the limit of processes")
        podman.in_terminal("exec", "-it", c.name, "sh", "-c", "tty && id -u").ok().has("/dev/pts/0").has("1000")


@checks("--userns auto takes ids from the grant of containers")
def userns_auto(podman):
    # /etc is a throw-away layer.
    for name in "/etc/subuid", "/etc/subgid":
        with open(name, "a", encoding="utf-8") as file:
            file.write("containers:400000:200000\n")
    with podman.container(options=["--userns", "auto"]) as c:
        first = int(read(f"/proc/{c.pid}/uid_map").split()[1])
        if not 400000 <= first < 600000:
            raise Failed(f"root is {first}")
        c.exec("id", "-u").ok().prints("0")


@checks("the user namespace of another container is joined")
def userns_joined(podman):
    with podman.container(options=["--uidmap", "0:200000:5000"]) as one:
        with podman.container(options=["--userns", f"container:{one.name}"]) as two:
            expect(namespaces(two.pid)["user"], namespaces(one.pid)["user"], "the user namespace")
            two.exec("sh", "-c", "id -u; stat -c %u /proc/1; mount | grep -c ' /proc '").ok()


@checks("--sysctl sets what belongs to the container's namespaces")
def sysctl(podman):
    options = ["--sysctl", "net.ipv4.ip_default_ttl=77", "--sysctl", "kernel.msgmax=9000"]
    podman.sh("cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax", options=options).ok().prints("77\n9000")
    if read("/proc/sys/net/ipv4/ip_default_ttl").strip() == "77":
        raise Failed("the host's was set")
