"""Limits, each read back from the cgroup or from /proc."""

from checks import Failed, cgroup_file, eventually, expect, read
from podman.engine import checks

# One --ulimit replaces all that are configured, and podman then asks for more processes than the machine may allow.
LIMITS = ["--ulimit", "nproc=4096:8192", "--ulimit", "nofile=1024:4096"]


@checks("--memory, --memory-swap, --memory-reservation")
def memory(podman):
    with podman.container(options=["--memory", "64m", "--memory-reservation", "32m"]) as c:
        expect(cgroup_file("memory", c.pid, ("memory.limit_in_bytes", "memory.max")), str(64 << 20), "the limit")
        expect(cgroup_file("memory", c.pid, ("memory.soft_limit_in_bytes", "memory.low")), str(32 << 20), "the reservation")


@checks("a program above its memory is killed, and the container ends with 137")
def out_of_memory(podman):
    podman.run("sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1", options=["--memory", "32m"]).status(137)


@checks("a child above the memory is killed, and is counted")
def out_of_memory_child(podman):
    with podman.container("sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1; sleep 100", options=["--memory", "32m"]) as c:
        name = ("memory.oom_control", "memory.events")
        eventually("the kernel counts it", lambda: "oom_kill 1" in cgroup_file("memory", c.pid, name))
        expect(c.status, "running", "the status")


@checks("--cpus, --cpu-shares, --cpuset-cpus")
def cpu(podman):
    with podman.container(options=["--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0"]) as c:
        expect(cgroup_file("cpu", c.pid, ("cpu.cfs_quota_us", "cpu.max")).split()[0], "50000", "the quota")
        expect(cgroup_file("cpu", c.pid, ("cpu.shares", "cpu.weight")) in ("512", "20", "59"), True, "the shares are set")
        expect(cgroup_file("cpuset", c.pid, ("cpuset.cpus", "cpuset.cpus")), "0", "the set")
        c.exec("sh", "-c", "grep Cpus_allowed_list /proc/self/status | cut -f2").ok().prints("0")


@checks("--pids-limit stops a fork bomb")
def pids(podman):
    with podman.container(options=["--pids-limit", "10"]) as c:
        expect(cgroup_file("pids", c.pid, ("pids.max", "pids.max")), "10", "the limit")
        c.exec("sh", "-c", "for i in $(seq 30); do sleep 5 & done").refused().says("can't fork")
        if int(cgroup_file("pids", c.pid, ("pids.current", "pids.current"))) > 10:
            raise Failed("more than the limit")


@checks("--pids-limit -1 is no limit")
def no_pids_limit(podman):
    with podman.container(options=["--pids-limit", "-1"]) as c:
        expect(cgroup_file("pids", c.pid, ("pids.max", "pids.max")), "max", "the limit")


@checks("--ulimit")
def ulimit(podman):
    podman.sh("ulimit -n; ulimit -Hn", options=[*LIMITS[:2], "--ulimit", "nofile=64:128"]).ok().prints("64\n128")
    podman.sh("ulimit -c", options=[*LIMITS, "--ulimit", "core=0"]).ok().prints("0")
    podman.sh("ulimit -u", options=["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=100:100"]).ok().prints("100")


@checks("--oom-score-adj")
def oom_score(podman):
    podman.run("cat", "/proc/self/oom_score_adj", options=["--oom-score-adj", "500"]).ok().prints("500")


@checks("--cgroup-parent")
def cgroup_parent(podman):
    with podman.container(options=["--cgroup-parent", "/some-parent"]) as c:
        paths = {line.split(":", 2)[2] for line in read(f"/proc/{c.pid}/cgroup").splitlines()}
        if not all(path.startswith("/some-parent/libpod-") for path in paths):
            raise Failed(f"the cgroups are {paths}")


@checks("the container sees its cgroups, and may not write them")
def cgroup_view(podman):
    with podman.container(options=["--cgroupns", "private"]) as c:
        c.exec("sh", "-c", "cut -d: -f3 /proc/self/cgroup | sort | uniq").ok().prints("/")
        ran = c.exec("sh", "-c", "ls -d /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null").stdout
        if not ran:
            raise Failed("no cgroup is seen")
        for path in ran.split():
            c.exec("mkdir", path.replace("cgroup.procs", "made")).refused()
