"""containerd with its own shim, by ctr: `--runc-binary` names the runtime."""

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import time

import image
from checks import BIN, Checks, Failed, Skip, cgroup_file, eventually, expect, read, run, run_in_terminal, status_of, write

WORK = "/tmp/containerd"
SOCKET = f"{WORK}/containerd.sock"
NUMBERS = itertools.count(1)
CONFIG = f"""
version = 2
root = "{WORK}/root"
state = "{WORK}/state"
oom_score = 0
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image.NAME}"
# Lowering the score needs CAP_SYS_RESOURCE.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{WORK}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "hull"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.hull]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.hull.options]
BinaryName = "{BIN}/hull"
SystemdCgroup = false
"""

checks = Checks("containerd")


class Daemon:
    """containerd, with the image in a namespace of its own."""
    namespace = "default"

    def __init__(self):
        self.config = write(f"{WORK}/config.toml", CONFIG)
        self.start_daemon()
        tar = image.root_file_system(WORK)
        self.archive = docker_archive(tar)
        self("images", "import", self.archive).ok()

    def start_daemon(self):
        self.log = open(f"{WORK}/containerd.log", "a", encoding="utf-8")
        self.daemon = subprocess.Popen(["containerd", "--config", self.config], stdin=subprocess.DEVNULL,
                                       stdout=self.log, stderr=self.log, start_new_session=True)
        try:
            eventually("containerd answers", lambda: self("version").code == 0, 60)
        except Failed:
            raise Skip(f"containerd does not start: {read(f'{WORK}/containerd.log').strip().splitlines()[-1]}") from None

    def stop_daemon(self, how=signal.SIGTERM):
        self.daemon.send_signal(how)
        self.daemon.wait(60)

    def command(self, *words):
        return ["ctr", "--address", SOCKET, "--namespace", self.namespace, *words]

    def __call__(self, *words, **how):
        return run(self.command(*words), **how)

    def words(self, *words, options=(), rm=True):
        name = f"c{next(NUMBERS)}"
        return name, ["run", *(["--rm"] if rm else ["--detach"]), "--runc-binary", f"{BIN}/hull", *options, image.NAME, name, *words]

    def run(self, *words, options=(), **how):
        return self(*self.words(*words, options=options)[1], **how)

    def sh(self, script, options=(), **how):
        return self.run("sh", "-c", script, options=options, **how)

    @contextlib.contextmanager
    def container(self, *words, options=()):
        name, words = self.words(*(words or ("sleep", "100")), options=options, rm=False)
        try:
            self(*words).ok()
            yield Container(self, name)
        finally:
            self("tasks", "kill", "--signal", "KILL", "--all", name)
            eventually("it can be deleted", lambda: self("tasks", "rm", "--force", name).code == 0 or name not in self("tasks", "ls", "-q").stdout)
            self("containers", "rm", name)

    def end(self):
        self.stop_daemon()


def docker_archive(tar):
    """The image as a file that containerd imports: what `docker save` writes, made by hand."""
    layer = hashlib.sha256(open(tar, "rb").read()).hexdigest()
    directory = f"{WORK}/archive"
    os.makedirs(f"{directory}/{layer}")
    shutil.copy(tar, f"{directory}/{layer}/layer.tar")
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": ["sleep", "1000000"]},
                         "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]}})
    name = hashlib.sha256(config.encode()).hexdigest() + ".json"
    write(f"{directory}/{name}", config)
    write(f"{directory}/manifest.json", json.dumps([{"Config": name, "RepoTags": [image.NAME], "Layers": [f"{layer}/layer.tar"]}]))
    archive = f"{WORK}/image.tar"
    subprocess.run(["tar", "-C", directory, "-cf", archive, "."], check=True)
    return archive


class Container:
    def __init__(self, daemon, name):
        self.daemon = daemon
        self.name = name

    def exec(self, *words, options=(), **how):
        number = f"e{next(NUMBERS)}"
        return self.daemon("tasks", "exec", "--exec-id", number, *options, self.name, *words, **how)

    def task(self, verb, *words, **how):
        return self.daemon("tasks", verb, *words, self.name, **how)

    @property
    def line(self):
        for line in self.daemon("tasks", "ls").ok().stdout.splitlines():
            if line.split()[0] == self.name:
                return line.split()
        raise Failed(f"{self.name} is not listed")

    @property
    def pid(self):
        return int(self.line[1])

    @property
    def status(self):
        return self.line[2]


@checks("run prints what the program prints")
def run_prints(ctr):
    ctr.run("echo", "hi").ok().prints("hi")


@checks("run passes on the exit status")
def exit_status(ctr):
    for code in 0, 1, 42, 255:
        ctr.sh(f"exit {code}").status(code)


@checks("a program that cannot be run is refused with the reason, and leaves nothing")
def cannot_run(ctr):
    ctr.run("/nosuch").refused().says("no such file or directory")
    ctr.run("nosuch").refused().says("executable file not found")
    ctr.run("/etc/not-executable").refused().says("permission denied")
    ctr("tasks", "ls", "-q").ok().prints("")
    left = [name for name in os.listdir(f"{WORK}/state/io.containerd.runtime.v2.task/default")]
    expect(left, [], "the bundles that are left")


@checks("run without a pivot, with a terminal, with no output")
def variants(ctr):
    ctr.run("echo", "hi", options=["--no-pivot"]).ok().prints("hi")
    ctr.run("echo", "hi", options=["--null-io"]).ok().prints("")
    run_in_terminal(ctr.command(*ctr.words("sh", "-c", "tty; exit 5", options=["--tty"])[1])).status(5).has("/dev/pts/0")


@checks("environment, directory, read-only root, mounts")
def options(ctr):
    ctr.sh("echo $A", options=["--env", "A=b"]).ok().prints("b")
    ctr.run("pwd", options=["--cwd", "/etc"]).ok().prints("/etc")
    ctr.sh("echo x >/new", options=["--read-only"]).refused().says("read-only file system")
    write(f"{WORK}/volume/file", "from the host\n")
    ctr.run("cat", "/v/file", options=["--mount", f"type=bind,src={WORK}/volume,dst=/v,options=rbind:ro"]).ok().prints("from the host")


@checks("capabilities, seccomp, privileged, the host's network")
def privileges(ctr):
    ctr.sh("grep Seccomp: /proc/self/status | cut -f2", options=["--seccomp"]).ok().prints("2")
    with_one = int(ctr.sh("grep CapEff /proc/self/status | cut -f2", options=["--cap-add", "CAP_NET_ADMIN"]).ok().stdout, 16)
    expect(with_one >> 12 & 1, 1, "the added capability")
    with ctr.container(options=["--net-host"]) as c:
        expect(os.readlink(f"/proc/{c.pid}/ns/net"), os.readlink("/proc/self/ns/net"), "the network namespace")


@checks("a user namespace by --uidmap")
def uidmap(ctr):
    options = ["--uidmap", "0:200000:5000", "--gidmap", "0:200000:5000"]
    with ctr.container(options=options) as c:
        expect(read(f"/proc/{c.pid}/uid_map").split(), ["0", "200000", "5000"], "the map")
        expect(status_of(c.pid, "Uid").split()[0], "200000", "the user on the host")


@checks("--cgroup, --memory-limit, --cpus, --rootfs, --with-ns")
def limits(ctr):
    with ctr.container(options=["--cgroup", "/some/where", "--memory-limit", str(64 << 20), "--cpus", "0.5"]) as c:
        paths = {line.split(":", 2)[2] for line in read(f"/proc/{c.pid}/cgroup").splitlines()}
        expect(paths, {"/some/where"}, "the cgroups")
        expect(cgroup_file("memory", c.pid, ("memory.limit_in_bytes", "memory.max")), str(64 << 20), "the limit")
        expect(cgroup_file("cpu", c.pid, ("cpu.cfs_quota_us", "cpu.max")).split()[0], "50000", "the quota")
        _, words = ctr.words("readlink", "/proc/self/ns/ipc", options=["--with-ns", f"ipc:/proc/{c.pid}/ns/ipc"])
        ctr(*words).ok().prints(os.readlink(f"/proc/{c.pid}/ns/ipc"))
    _, words = ctr.words("/bin/echo", "tree")
    words[words.index(image.NAME)] = f"{WORK}/rootfs"
    words.insert(1, "--rootfs")
    ctr(*words).ok().prints("tree")


@checks("--pid-file names the process")
def pid_file(ctr):
    with ctr.container(options=["--pid-file", f"{WORK}/pid"]) as c:
        expect(read(f"{WORK}/pid").strip(), str(c.pid), "the pid file")


@checks("exec: output, status, user, directory, terminal")
def execute(ctr):
    with ctr.container() as c:
        c.exec("echo", "hi").ok().prints("hi")
        for code in 0, 3, 255:
            c.exec("sh", "-c", f"exit {code}").status(code)
        c.exec("id", "-u", options=["--user", "1000"]).ok().prints("1000")
        c.exec("pwd", options=["--cwd", "/etc"]).ok().prints("/etc")
        run_in_terminal(ctr.command("tasks", "exec", "--exec-id", "t", "--tty", c.name, "sh", "-c", "tty; exit 4")).status(4).has("/dev/pts/")


@checks("exec of a missing program is refused with the reason, and the container lives on")
def execute_missing(ctr):
    with ctr.container() as c:
        c.exec("/nosuch").refused().says("no such file or directory")
        c.exec("/etc/not-executable").refused().says("permission denied")
        c.exec("echo", "still").ok().prints("still")


@checks("exec --detach runs on, is listed by ps, and ends with the container")
def execute_detached(ctr):
    with ctr.container() as c:
        c.exec("sleep", "77", options=["--detach"]).ok()
        def second():
            pids = [int(line.split()[0]) for line in c.task("ps").ok().stdout.splitlines()[1:]]
            others = [pid for pid in pids if pid != c.pid]
            return others and others[0]
        pid = eventually("two are listed", second)
        expect("sleep\x0077" in read(f"/proc/{pid}/cmdline"), True, "the second is the one of exec")
        c.task("kill", "--signal", "KILL", "--all").ok()
        eventually("both have gone", lambda: c.status == "STOPPED" and not os.path.exists(f"/proc/{pid}"))


@checks("twenty execs at once")
def execute_many(ctr):
    with ctr.container() as c:
        started = [subprocess.Popen(ctr.command("tasks", "exec", "--exec-id", f"m{i}", c.name, "sh", "-c", f"exit {i}"),
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for i in range(20)]
        expect([process.wait(60) for process in started], list(range(20)), "the statuses")


@checks("pause and resume")
def pause(ctr):
    with ctr.container("sh", "-c", "while :; do date +%s%N >/tmp/now; done") as c:
        now = f"/proc/{c.pid}/root/tmp/now"
        eventually("it runs", lambda: os.path.exists(now))
        c.task("pause").ok()
        expect(c.status, "PAUSED", "the status")
        before = read(now)
        time.sleep(0.5)
        expect(read(now), before, "what a paused program wrote")
        c.task("resume").ok()
        eventually("it runs again", lambda: read(now) != before)
        expect(c.status, "RUNNING", "the status")


@checks("kill: a signal that is caught, one that is not, a task that has ended")
def kill(ctr):
    with ctr.container("sh", "-c", "trap 'exit 33' USR1; while :; do sleep 0.1; done") as c:
        time.sleep(0.3)
        c.task("kill", "--signal", "USR1").ok()
        eventually("it has ended", lambda: c.status == "STOPPED")
        c.task("kill", "--signal", "KILL").refused().says("process already finished", "not found")
        c.task("delete").ok().says("exit code 33")
    with ctr.container() as c:
        c.task("kill", "--signal", "KILL").ok()
        eventually("it has ended", lambda: c.status == "STOPPED")
        c.task("delete").ok().says("exit code 137")


@checks("delete of a running task is refused; with force it goes")
def delete(ctr):
    with ctr.container() as c:
        pid = c.pid
        c.task("delete").refused()
        c.task("delete", "--force")
        eventually("the process has gone", lambda: not os.path.exists(f"/proc/{pid}"))


@checks("metrics are read from the cgroup")
def metrics(ctr):
    with ctr.container(options=["--memory-limit", str(64 << 20)]) as c:
        text = c.task("metrics").ok().stdout
        expect(bool(re.search(r"memory\.(usage_in_bytes|usage)\s+[1-9]", text)), True, f"memory is in {text!r}")
        expect(bool(re.search(r"pids\.current\s+1\b", text)), True, f"one process is in {text!r}")


@checks("a task that is attached to gives its output and its status")
def attach(ctr):
    with ctr.container("sh", "-c", "sleep 1; exit 6") as c:
        c.task("attach").status(6)


@checks("a program above its memory is killed, and the event says so")
def out_of_memory(ctr):
    ctr.sh("dd if=/dev/zero of=/dev/null bs=200M count=1; exit $?", options=["--memory-limit", str(32 << 20)]).status(137)


@checks("tasks live on while the daemon restarts")
def restart(ctr):
    with ctr.container() as c:
        pid = c.pid
        ctr.stop_daemon(signal.SIGKILL)
        expect(status_of(pid, "State")[0] in "SR", True, "it lives without the daemon")
        ctr.start_daemon()
        expect(c.pid, pid, "the process")
        c.exec("echo", "hi").ok().prints("hi")


@checks("a shim that is killed leaves nothing behind")
def killed_shim(ctr):
    name, words = ctr.words("sleep", "100", rm=False)
    ctr(*words).ok()
    c = Container(ctr, name)
    pid = c.pid
    shim = int(status_of(pid, "PPid"))
    expect("shim" in read(f"/proc/{shim}/cmdline"), True, "the parent is the shim")
    os.kill(shim, signal.SIGKILL)
    eventually("the process has gone", lambda: not os.path.exists(f"/proc/{pid}") or status_of(pid, "State")[0] == "Z", 30)
    eventually("the cgroup has gone", lambda: not [p for p, _, _ in os.walk("/sys/fs/cgroup") if p.endswith(f"/{name}")], 30)
    ctr("tasks", "rm", "--force", name)
    ctr("containers", "rm", name).ok()


@checks("twenty containers at once")
def many(ctr):
    started = [subprocess.Popen(ctr.command(*ctr.words("sh", "-c", f"exit {i}")[1]), stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for i in range(20)]
    expect([process.wait(120) for process in started], list(range(20)), "the statuses")


@checks("after all of it nothing is left")
def nothing_left(ctr):
    ctr("tasks", "ls", "-q").ok().prints("")
    expect(os.listdir(f"{WORK}/state/io.containerd.runtime.v2.task/default"), [], "the bundles that are left")
    expect([p for p, _, _ in os.walk("/sys/fs/cgroup") if re.search(r"/default/c\d+$", p)], [], "the cgroups that are left")


if __name__ == "__main__":
    checks.main(Daemon)
