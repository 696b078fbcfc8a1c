"""Docker: dockerd with its own containerd, in the ordinary settings but for where its files lie."""

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import image
from checks import BIN, CALLS, Checks, Failed, Skip, cgroup_file, eventually, expect, read, run, run_in_terminal, status_of, write

WORK = "/tmp/docker"
NUMBERS = itertools.count(1)

checks = Checks("docker")


class Docker:
    """Called like a command: `docker("ps", "--all").ok()`."""
    work = WORK
    # What runs the daemon, and settings beside those that say where its files lie.
    prefix = ()
    settings = {"live-restore": True}

    def __init__(self):
        self.tar = image.root_file_system(self.work)
        self.socket = f"unix://{self.work}/docker.sock"
        self.config = write(f"{self.work}/daemon.json", json.dumps({
            "data-root": f"{self.work}/data", "exec-root": f"{self.work}/exec", "pidfile": f"{self.work}/docker.pid",
            "hosts": [self.socket], "storage-driver": "overlay2", "experimental": True,
            "default-runtime": "hull", "runtimes": {"hull": {"path": f"{BIN}/hull"}}, **self.settings}))
        self.start_daemon()
        self("import", self.tar, image.NAME).ok()

    def start_daemon(self):
        log = f"{self.work}/dockerd.log"
        # BuildKit runs the program of this name in the daemon's PATH, whatever the default runtime is.
        os.makedirs(f"{self.work}/bin", exist_ok=True)
        if not os.path.lexists(f"{self.work}/bin/runc"):
            os.symlink(f"{BIN}/hull", f"{self.work}/bin/runc")
        environment = {**os.environ, "PATH": f"{self.work}/bin:{os.environ['PATH']}"}
        with open(log, "a", encoding="utf-8") as file:
            self.daemon = subprocess.Popen([*self.prefix, "dockerd", "--config-file", self.config], stdin=subprocess.DEVNULL,
                                           stdout=file, stderr=file, start_new_session=True, env=environment)
        try:
            eventually("dockerd answers", lambda: self("version").code == 0, 60)
        except Failed:
            raise Skip(f"dockerd does not start: {read(log).strip().splitlines()[-1]}") from None

    def stop_daemon(self, how=signal.SIGTERM):
        self.daemon.send_signal(how)
        self.daemon.wait(60)

    def command(self, *words):
        return ["env", f"DOCKER_HOST={self.socket}", "DOCKER_BUILDKIT=0", "docker", *words]

    def __call__(self, *words, **how):
        return run(self.command(*words), **how)

    def in_terminal(self, *words, **how):
        return run_in_terminal(self.command(*words), **how)

    def run(self, *words, options=(), **how):
        return self("run", "--rm", "--network", "none", *options, image.NAME, *words, **how)

    def sh(self, script, options=(), **how):
        return self.run("sh", "-c", script, options=options, **how)

    @contextlib.contextmanager
    def container(self, *words, options=()):
        name = f"c{next(NUMBERS)}"
        options = options if "--network" in options else ["--network", "none", *options]
        try:
            self("run", "--detach", "--name", name, *options, image.NAME, *(words or ("sleep", "100"))).ok()
            yield Container(self, name)
        finally:
            self("rm", "--force", "--volumes", name)

    def end(self):
        for name in self("ps", "--all", "--quiet").stdout.split():
            self("rm", "--force", name)
        self.stop_daemon()


class Container:
    def __init__(self, docker, name):
        self.docker = docker
        self.name = name

    def __call__(self, verb, *words, **how):
        return self.docker(verb, *words, self.name, **how)

    def exec(self, *words, options=(), **how):
        return self.docker("exec", *options, self.name, *words, **how)

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


def lacks_a_capability(_):
    """Docker asks for every capability, whatever the bounding set holds."""
    last = int(read("/proc/sys/kernel/cap_last_cap"))
    full = int(status_of("self", "CapBnd"), 16) == (1 << (last + 1)) - 1
    return None if full else "the machine lacks a capability that --privileged asks for"


@checks("run prints what the program prints")
def run_prints(docker):
    docker.run("echo", "hi").ok().prints("hi")


@checks("docker info and docker version know the runtime")
def info(docker):
    docker("info", "--format", "{{.DefaultRuntime}}").ok().prints("hull")
    docker.run("echo", "by name", options=["--runtime", "hull"]).ok().prints("by name")
    # The version itself, which dockerd reads from `--version`; runc's own text has it, too.
    version = json.loads(docker("info", "--format", "{{json .RuncCommit}}").ok().stdout)
    expect(version["ID"] not in ("", "N/A"), True, f"the version {version} is known")


@checks("stdout and stderr stay apart")
def stdout_and_stderr(docker):
    expect(docker.sh("echo out; echo err >&2").ok().prints("out").stderr.strip(), "err", "stderr")


@checks("run passes on the exit status")
def exit_status(docker):
    for code in 0, 1, 42, 255:
        docker.sh(f"exit {code}").status(code)


@checks("a missing program gives 127, one that may not be executed 126")
def cannot_run(docker):
    docker.run("/nosuch").status(127).says("no such file or directory")
    docker.run("nosuch").status(127).says("executable file not found")
    docker.run("/etc/not-executable").status(126).says("permission denied")


@checks("a failed create leaves nothing behind")
def failed_create(docker):
    before = read("/proc/self/mountinfo").count("overlay")
    for _ in range(3):
        docker.run("/nosuch").status(127)
    docker("ps", "--all", "--quiet").ok().prints("")
    expect(read("/proc/self/mountinfo").count("overlay"), before, "the number of overlay mounts")


@checks("run -i reads stdin")
def stdin(docker):
    docker.run("cat", options=["-i"], stdin="given").ok().prints("given")
    docker.run("wc", "-c", options=["-i"], stdin="x" * 1000000).ok().prints("1000000")


@checks("run -t has a terminal of the caller's size, and what is typed reaches it")
def terminal(docker):
    words = ["run", "--rm", "--network", "none", "-it", image.NAME, "sh", "-c"]
    docker.in_terminal(*words, "tty; sleep 1; stty size; exit 5").status(5).has("/dev/pts/0").has("33 99")
    docker.in_terminal(*words, "echo ready; read word; echo got $word", typed="this\n").ok().has("got this")
    docker.in_terminal(*words, "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done", typed="\x03").status(9).has("caught")


@checks("environment, host name, user, groups, directory, entry point")
def identity(docker):
    docker.sh("echo $A", options=["-e", "A=b c"]).ok().prints("b c")
    docker.run("hostname", options=["--hostname", "mine"]).ok().prints("mine")
    docker.sh("id -u; id -g", options=["--user", "1000:2000"]).ok().prints("1000\n2000")
    docker.run("id", "-G", options=["--user", "user", "--group-add", "3000"]).ok().has("2000").has("3000")
    docker.run("pwd", options=["--workdir", "/made/here"]).ok().prints("/made/here")
    docker.run("b", options=["--entrypoint", "echo"]).ok().prints("b")


@checks("--init is pid 1")
def init(docker):
    docker.sh("tr '\\0' ' ' </proc/1/cmdline", options=["--init"]).ok().has("init")


@checks("no descriptor or variable of the engine reaches the program")
def leaks(docker):
    docker.sh("ls /proc/self/fd").ok().prints("0\n1\n2\n3")
    docker.run("env").ok().lacks("XDG_").lacks("NOTIFY_SOCKET").lacks("TTRPC")


@checks("exec: output, status, stdin, terminal")
def execute(docker):
    with docker.container() as c:
        c.exec("echo", "hi").ok().prints("hi")
        for code in 0, 3, 255:
            c.exec("sh", "-c", f"exit {code}").status(code)
        c.exec("cat", options=["-i"], stdin="given").ok().prints("given")
        docker.in_terminal("exec", "-it", c.name, "sh", "-c", "tty; exit 4").status(4).has("/dev/pts/")


@checks("exec of a missing program gives 127, of one that may not be executed 126")
def execute_missing(docker):
    with docker.container() as c:
        ran = c.exec("/nosuch")
        expect(ran.code in (126, 127), True, f"the status {ran.code} is 126 or 127")
        expect("no such file or directory" in (ran.stdout + ran.stderr).lower(), True, "it says why")
        c.exec("/etc/not-executable").status(126)
        c.exec("echo", "still").ok().prints("still")


@checks("exec -u -w -e -d")
def execute_options(docker):
    with docker.container() as c:
        c.exec("id", "-u", options=["-u", "1000"]).ok().prints("1000")
        c.exec("id", "-G", options=["-u", "user"]).ok().has("2000")
        c.exec("pwd", options=["-w", "/etc"]).ok().prints("/etc")
        c.exec("sh", "-c", "echo $A", options=["-e", "A=b"]).ok().prints("b")
        c.exec("sleep", "77", options=["-d"]).ok()
        eventually("the process is there", lambda: "sleep 77" in c("top").ok().stdout)


@checks("exec runs in the container's namespaces and cgroup, with its capabilities")
def execute_where(docker):
    with docker.container() as c:
        script = "for n in cgroup ipc mnt net pid uts; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done | uniq | wc -l"
        c.exec("sh", "-c", script).ok().prints("6")
        fields = "grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/{}/status; cat /proc/{}/cgroup"
        c.exec("sh", "-c", fields.format("self", "self")).ok().prints(c.exec("sh", "-c", fields.format(1, 1)).ok().stdout.strip())


@checks("run --privileged, exec --privileged", skip=lacks_a_capability)
def privileged(docker):
    docker.sh("mkdir /m && mount -t tmpfs none /m && echo mounted", options=["--privileged"]).ok().prints("mounted")
    with docker.container() as c:
        c.exec("sh", "-c", "mount -t tmpfs none /mnt && echo mounted", options=["--privileged"]).ok()


@checks("twenty execs at once")
def execute_many(docker):
    with docker.container() as c:
        started = [subprocess.Popen(docker.command("exec", c.name, "sh", "-c", f"exit {i}"), stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for i in range(20)]
        expect([process.wait(60) for process in started], list(range(20)), "the statuses")


@checks("run --detach, logs, wait, attach")
def detached(docker):
    with docker.container("sh", "-c", "echo one; echo two >&2; sleep 1; echo late; exit 6") as c:
        c("attach").has("late")
        c("wait").ok().prints("6")
        ran = c("logs").ok()
        expect((ran.stdout, ran.stderr), ("one\nlate\n", "two\n"), "the logs")
        c("logs", "--follow").ok()


@checks("stop sends TERM, and KILL only after the time")
def stop(docker):
    with docker.container("sh", "-c", "trap 'exit 33' TERM; while :; do sleep 0.1; done") as c:
        c("stop", "--time", "20").ok()
        expect(c.inspect()["State"]["ExitCode"], 33, "the exit code")
    with docker.container() as c:
        began = time.monotonic()
        c("stop", "--time", "1").ok()
        expect(1 <= time.monotonic() - began < 9, True, "it waited a second")
        expect(c.inspect()["State"]["ExitCode"], 137, "the exit code")


@checks("kill by name and number; of a stopped container it is refused")
def kill(docker):
    for name, number in ("HUP", 1), ("USR1", 10), ("9", 9):
        with docker.container(options=["--init"]) as c:
            c("kill", "--signal", name).ok()
            c("wait").ok().prints(str(128 + number))
            c("kill").refused()


@checks("pause, unpause, and kill of a paused container")
def pause(docker):
    with docker.container("sh", "-c", "while :; do date +%s%N >/tmp/now; done") as c:
        now = f"/proc/{c.pid}/root/tmp/now"
        eventually("it runs", lambda: os.path.exists(now))
        c("pause").ok()
        expect(c.status, "paused", "the status")
        before = read(now)
        time.sleep(0.5)
        expect(read(now), before, "what a paused program wrote")
        c.exec("true").refused()
        c("unpause").ok()
        eventually("it runs again", lambda: read(now) != before)
        c("pause").ok()
        c("rm", "--force").ok()


@checks("update changes the limits of a running container, and no device rule")
def update(docker):
    with docker.container(options=["--memory", "64m"]) as c:
        name = ("memory.limit_in_bytes", "memory.max")
        expect(cgroup_file("memory", c.pid, name), str(64 << 20), "the limit of run")
        docker("update", "--memory", "96m", "--memory-swap", "96m", c.name).ok()
        expect(cgroup_file("memory", c.pid, name), str(96 << 20), "the limit of update")
        docker("update", "--cpus", "0.5", "--pids-limit", "30", c.name).ok()
        expect(cgroup_file("cpu", c.pid, ("cpu.cfs_quota_us", "cpu.max")).split()[0], "50000", "the quota")
        expect(cgroup_file("pids", c.pid, ("pids.max", "pids.max")), "30", "the limit of processes")
        c.exec("sh", "-c", "head -c 3 /dev/zero | wc -c").ok().prints("3")


@checks("restart, start again, the file system is kept")
def restart(docker):
    with docker.container("sh", "-c", "echo x >>/starts; exec sleep 100") as c:
        first = c.pid
        eventually("it runs", lambda: os.path.exists(f"/proc/{first}/root/starts"))
        c("restart", "--time", "0").ok()
        second = c.pid
        eventually("it runs again", lambda: read(f"/proc/{second}/root/starts") == "x\nx\n")
        c("stop", "--time", "0").ok()
        c("start").ok()
        third = c.pid
        eventually("and again", lambda: read(f"/proc/{third}/root/starts") == "x\nx\nx\n")


@checks("restart policies: on-failure with a count, always after a kill")
def restart_policy(docker):
    with docker.container("sh", "-c", "echo x; exit 3", options=["--restart", "on-failure:2"]) as c:
        eventually("it gave up", lambda: c.inspect()["RestartCount"] == 2 and c.status == "exited", 30)
        expect(c("logs").ok().stdout.count("x"), 3, "the number of starts")
    with docker.container(options=["--restart", "always"]) as c:
        first = c.pid
        os.kill(first, signal.SIGKILL)
        eventually("it runs again", lambda: c.inspect()["State"]["Pid"] not in (0, first), 30)


@checks("rm --force leaves nothing in the kernel")
def remove(docker):
    with docker.container() as c:
        pid, identity = c.pid, c.inspect()["Id"]
        c("rm", "--force").ok()
        eventually("the process has gone", lambda: not os.path.exists(f"/proc/{pid}"))
        expect(identity in read("/proc/self/mountinfo"), False, "a mount is left")
        eventually("the cgroups have gone", lambda: not [p for p, _, _ in os.walk("/sys/fs/cgroup") if identity in p])


@checks("top and stats")
def top_and_stats(docker):
    with docker.container("sh", "-c", "sleep 71 & sleep 72 & wait", options=["--memory", "64m"]) as c:
        eventually("both are listed", lambda: all(f"sleep {n}" in c("top").ok().stdout for n in (71, 72)))
        values = json.loads(c("stats", "--no-stream", "--format", "{{json .}}").ok().stdout)
        expect(values["PIDs"], "3", "PIDs")
        expect("64MiB" in values["MemUsage"], True, f"the limit is in {values['MemUsage']}")


@checks("cp into and out of a container")
def cp(docker):
    given = write(f"{WORK}/given", "content\n")
    with docker.container() as c:
        docker("cp", given, f"{c.name}:/tmp/in").ok()
        c.exec("cat", "/tmp/in").ok().prints("content")
        docker("cp", f"{c.name}:/tmp/in", f"{WORK}/out").ok()
        expect(read(f"{WORK}/out"), "content\n", "the file that came back")


@checks("a health check turns healthy, then unhealthy")
def health(docker):
    options = ["--health-cmd", "test ! -e /bad", "--health-interval", "300ms", "--health-retries", "1"]
    with docker.container(options=options) as c:
        eventually("healthy", lambda: c.inspect()["State"]["Health"]["Status"] == "healthy")
        c.exec("touch", "/bad").ok()
        eventually("unhealthy", lambda: c.inspect()["State"]["Health"]["Status"] == "unhealthy")


@checks("signals to docker run reach the program")
def signals(docker):
    command = docker.command("run", "--rm", "--name", "proxied", "--network", "none", image.NAME, "sh", "-c",
                             "trap 'exit 21' USR1; touch /ready; while :; do sleep 0.1; done")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually("it runs", lambda: docker("exec", "proxied", "test", "-e", "/ready").code == 0)
    process.send_signal(signal.SIGUSR1)
    expect(process.wait(30), 21, "the status")


@checks("a container has namespaces of its own, or the host's where told")
def namespaces(docker):
    def own(pid, kind):
        return os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    with docker.container(options=["--cgroupns", "private"]) as c:
        expect([kind for kind in ("cgroup", "ipc", "mnt", "net", "pid", "uts") if not own(c.pid, kind)], [], "the host's namespaces")
    options = ["--pid", "host", "--ipc", "host", "--uts", "host", "--network", "host", "--cgroupns", "host"]
    with docker.container(options=options) as c:
        expect([kind for kind in ("cgroup", "ipc", "mnt", "net", "pid", "uts") if own(c.pid, kind)], ["mnt"], "its own namespaces")


@checks("namespaces of another container are joined")
def joined(docker):
    with docker.container(options=["--ipc", "shareable"]) as one:
        other = f"container:{one.name}"
        with docker.container(options=["--pid", other, "--ipc", other, "--network", other]) as two:
            for kind in "pid", "ipc", "net":
                expect(os.readlink(f"/proc/{two.pid}/ns/{kind}"), os.readlink(f"/proc/{one.pid}/ns/{kind}"), kind)


@checks("capabilities: the default, added, dropped")
def capabilities(docker):
    def effective(*options):
        return int(docker.sh("grep CapEff /proc/self/status | cut -f2", options=options).ok().stdout, 16)
    expect(effective(), 0xa80425fb, "the default")
    expect(effective("--cap-drop", "all", "--cap-add", "net_admin"), 1 << 12, "one added")
    expect(effective("--user", "1000"), 0, "those of an ordinary user")


@checks("no-new-privileges; the default seccomp profile, unconfined, and one of the caller's")
def seccomp(docker):
    docker.sh("grep NoNewPrivs /proc/self/status | cut -f2", options=["--security-opt", "no-new-privileges"]).ok().prints("1")
    docker.sh("grep Seccomp: /proc/self/status | cut -f2").ok().prints("2")
    docker.sh("grep Seccomp: /proc/self/status | cut -f2", options=["--security-opt", "seccomp=unconfined"]).ok().prints("0")
    docker.run("unshare", "-U", "true").refused().says("operation not permitted")
    profile = write(f"{WORK}/profile.json", json.dumps({
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}))
    docker.run("mkdir", "/made", options=["--security-opt", f"seccomp={profile}"]).refused().says("operation not permitted")


@checks("masked and read-only paths, and without them")
def masked(docker):
    script = "for p in kcore keys timer_list; do test -e /proc/$p && wc -c </proc/$p; done | uniq; ls /sys/firmware | wc -l"
    docker.sh(script).ok().prints("0\n0")
    docker.sh("echo x >/proc/sys/kernel/domainname").refused().says("read-only file system")
    docker.sh("grep -c /sys/firmware /proc/self/mounts", options=["--security-opt", "systempaths=unconfined"]).prints("0")


@checks("limits: memory, cpus, cpuset, processes, shm, ulimit, oom score")
def limits(docker):
    options = ["--memory", "64m", "--cpus", "0.5", "--cpuset-cpus", "0", "--pids-limit", "20", "--shm-size", "2m",
               "--ulimit", "nofile=64:128", "--oom-score-adj", "500"]
    with docker.container(options=options) as c:
        expect(cgroup_file("memory", c.pid, ("memory.limit_in_bytes", "memory.max")), str(64 << 20), "memory")
        expect(cgroup_file("cpu", c.pid, ("cpu.cfs_quota_us", "cpu.max")).split()[0], "50000", "the quota")
        expect(cgroup_file("cpuset", c.pid, ("cpuset.cpus", "cpuset.cpus")), "0", "the cpus")
        expect(cgroup_file("pids", c.pid, ("pids.max", "pids.max")), "20", "the processes")
        c.exec("sh", "-c", "df -k /dev/shm | tail -n 1 | awk '{ print $2 }'; ulimit -n; cat /proc/self/oom_score_adj").ok().prints("2048\n64\n500")
        c.exec("sh", "-c", "for i in $(seq 30); do sleep 5 & done").refused().says("can't fork")


@checks("--pids-limit 0 and -1 are no limit")
def no_pids_limit(docker):
    for none in "0", "-1":
        with docker.container(options=["--pids-limit", none]) as c:
            expect(cgroup_file("pids", c.pid, ("pids.max", "pids.max")), "max", f"the limit of {none}")


@checks("a program above its memory is killed with 137")
def out_of_memory(docker):
    docker.sh("dd if=/dev/zero of=/dev/null bs=200M count=1; exit $?", options=["--memory", "32m"]).status(137)


@checks("volumes: of the host, read-only, named, filled from the image; tmpfs; a read-only root")
def volumes(docker):
    write(f"{WORK}/volume/file", "from the host\n")
    volume = f"{WORK}/volume:/v"
    docker.run("cat", "/v/file", options=["-v", volume]).ok().prints("from the host")
    docker.sh("echo x >/v/new", options=["-v", f"{volume}:ro"]).refused().says("read-only file system")
    docker.sh("echo one >/v/file", options=["-v", "kept:/v"]).ok()
    docker.run("cat", "/v/file", options=["-v", "kept:/v"]).ok().prints("one")
    docker.run("cat", "/etc/group", options=["-v", "filled:/etc"]).ok().has("more:x:2000")
    docker("volume", "rm", "kept", "filled").ok()
    docker.sh("stat -c %a /t; df -k /t | tail -n 1 | awk '{ print $2 }'", options=["--tmpfs", "/t:size=4m,mode=1700"]).ok().prints("1700\n4096")
    docker.sh("echo x >/new", options=["--read-only"]).refused().says("read-only file system")


@checks("propagation of a volume: rslave and rshared")
def propagation(docker):
    base = f"{WORK}/propagation"
    os.makedirs(f"{base}/below", exist_ok=True)
    run(["mount", "--bind", base, base]).ok()
    run(["mount", "--make-shared", base]).ok()
    try:
        for how, arrives in ("rprivate", False), ("rslave", True), ("rshared", True):
            with docker.container(options=["-v", f"{base}:/v:{how}"]) as c:
                run(["mount", "-t", "tmpfs", "tmpfs", f"{base}/below"]).ok()
                try:
                    expect("/v/below" in read(f"/proc/{c.pid}/mounts"), arrives, f"a later mount is seen with {how}")
                finally:
                    run(["umount", f"{base}/below"]).ok()
    finally:
        run(["umount", base]).ok()


@checks("devices: the default ones, one handed on, others refused")
def devices(docker):
    docker.sh("head -c 3 /dev/zero | wc -c; echo x >/dev/null; ls /dev/fd >/dev/null && test ! -e /dev/kmsg && echo fine").ok().prints("3\nfine")
    docker.sh("head -c 4 /dev/mine | wc -c", options=["--device", "/dev/zero:/dev/mine:r"]).ok().prints("4")
    docker.sh("mknod /tmp/d b 254 1 && cat /tmp/d").refused().says("operation not permitted")


@checks("--sysctl")
def sysctl(docker):
    docker.run("cat", "/proc/sys/net/ipv4/ip_default_ttl", options=["--sysctl", "net.ipv4.ip_default_ttl=77"]).ok().prints("77")


def fetch(host, port):
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/passwd", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


SERVER = ["httpd", "-f", "-p", "80", "-h", "/etc"]


@checks("the bridge: an address, a published port")
def bridge(docker):
    with docker.container(*SERVER, options=["--network", "bridge", "--publish", "127.0.0.1:8080:80"]) as c:
        address = c.inspect()["NetworkSettings"]["IPAddress"]
        c.exec("ip", "addr").ok().has(address)
        eventually("the address answers", lambda: "root:" in fetch(address, 80))
        eventually("the port answers", lambda: "root:" in fetch("127.0.0.1", 8080))


@checks("a network of one's own: names, aliases, connect and disconnect")
def network(docker):
    docker("network", "create", "net1").ok()
    docker("network", "create", "net2").ok()
    try:
        with docker.container(*SERVER, options=["--network", "net1", "--network-alias", "web"]) as c:
            inside = ["run", "--rm", "--network", "net1", image.NAME, "wget", "-qO-", "http://web/passwd"]
            eventually("the name answers", lambda: "root:" in docker(*inside).stdout)
            docker("network", "connect", "net2", c.name).ok()
            c.exec("ip", "-o", "link").ok().has("eth1")
            docker("network", "disconnect", "net2", c.name).ok()
            c.exec("ip", "-o", "link").ok().lacks("eth1")
    finally:
        docker("network", "rm", "net1", "net2")


@checks("build with the classic builder: steps, users, a failing step")
def build(docker):
    write(f"{WORK}/build/Dockerfile", f"""FROM {image.NAME}
COPY file /copied
RUN echo step >/step
USER 1000
RUN id -u >/tmp/who
HEALTHCHECK CMD true
CMD ["cat", "/copied", "/step", "/tmp/who"]
""")
    write(f"{WORK}/build/file", "copied\n")
    docker("build", "--network", "none", "--tag", "built:1", f"{WORK}/build").ok()
    docker("run", "--rm", "--network", "none", "built:1").ok().prints("copied\nstep\n1000")
    write(f"{WORK}/bad/Dockerfile", f"FROM {image.NAME}\nRUN exit 7\n")
    docker("build", "--network", "none", f"{WORK}/bad").refused().says("returned a non-zero code: 7")


class Api(http.client.HTTPConnection):
    """The daemon's own interface, over its socket."""

    def __init__(self, docker):
        super().__init__("docker", timeout=120)
        self.path = docker.socket.removeprefix("unix://")

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def build_with_buildkit(docker, tag, text):
    """The builder that dockerd holds. Debian 12 has no buildx for the command line: the interface takes a tar as well."""
    directory = os.path.dirname(write(f"{WORK}/{tag}/Dockerfile", text))
    run(["tar", "-C", directory, "-cf", f"{directory}.tar", "."]).ok()
    with open(f"{directory}.tar", "rb") as context:
        api = Api(docker)
        api.request("POST", f"/build?version=2&t={tag}:1&networkmode=none&buildid={tag}", context.read(), {"Content-Type": "application/x-tar"})
        answer = api.getresponse()
        return answer.status, answer.read().decode(errors="replace")


@checks("BuildKit runs its steps by hull, where it finds it under the name runc")
def buildkit(docker):
    before = calls_of_run()
    status, said = build_with_buildkit(docker, "kit", f"FROM {image.NAME}\nRUN echo step >/step && id -u >>/step\nUSER 1000\nRUN id -u >/tmp/who\n")
    if status == 404 or "not supported" in said:
        raise Skip(f"this dockerd has no BuildKit: {said.strip()}")
    expect((status, "error" in said), (200, False), f"the build, which said {said[-2000:]},")
    docker("run", "--rm", "--network", "none", "kit:1", "cat", "/step", "/tmp/who").ok().prints("step\n0\n1000")
    expect(calls_of_run() - before, 2, "the number of steps that this runtime ran")
    status, said = build_with_buildkit(docker, "kit-fails", f"FROM {image.NAME}\nRUN exit 7\n")
    expect("exit code: 7" in said, True, f"the failing step's status is in {said[-2000:]}")


def calls_of_run():
    """How often BuildKit's verb was called: it is in no other call of an engine."""
    return sum(" run " in f" {line} " for line in read(CALLS).splitlines())


@checks("a daemon with userns-remap: root of every container is another user of the host")
def userns_remap(_):
    remapped = Remapped()
    try:
        with remapped.container(options=["-v", "kept:/kept"]) as c:
            first = read(f"/proc/{c.pid}/uid_map").split()
            expect((first[0], first[1] != "0"), ("0", True), f"the map {first}")
            expect(status_of(c.pid, "Uid").split()[0], first[1], "the user on the host")
            c.exec("sh", "-c", "id -u; touch /kept/file && stat -c %u /kept/file").ok().prints("0\n0")
            expect(os.stat(f"{remapped.volumes}/kept/_data/file").st_uid, int(first[1]), "the owner on the host")
            c.exec("sh", "-c", "echo x >/proc/sys/kernel/hostname").refused()
        remapped.sh("cat /proc/self/uid_map", options=["--userns", "host"]).ok().has("4294967295")
        remapped.run("sh", "-c", "exit 5", options=["--user", "1000"]).status(5)
    finally:
        remapped.end()


class Remapped(Docker):
    """A second daemon, without a network of its own."""
    work = f"{WORK}-remapped"
    settings = {"userns-remap": "default", "bridge": "none", "iptables": False}

    @property
    def volumes(self):
        # The store's name has the ids.
        (store,) = (name for name in os.listdir(f"{self.work}/data") if "." in name)
        return f"{self.work}/data/{store}/volumes"


@checks("commit, diff, save, load, export, import")
def images(docker):
    with docker.container("sh", "-c", "echo x >/added; exec sleep 100") as c:
        eventually("it is written", lambda: c.exec("test", "-e", "/added").code == 0)
        c("diff").ok().has("A /added")
        docker("commit", c.name, "committed:1").ok()
        docker("export", "--output", f"{WORK}/export.tar", c.name).ok()
    docker("save", "--output", f"{WORK}/saved.tar", "committed:1").ok()
    docker("rmi", "committed:1").ok()
    docker("load", "--input", f"{WORK}/saved.tar").ok()
    docker("run", "--rm", "--network", "none", "committed:1", "cat", "/added").ok().prints("x")
    docker("import", f"{WORK}/export.tar", "imported:1").ok()
    docker("run", "--rm", "--network", "none", "imported:1", "cat", "/added").ok().prints("x")


@checks("push to a registry on this machine, and pull from it")
def registry(docker):
    if not shutil.which("docker-registry"):
        raise Skip("docker-registry is not installed")
    config = write(f"{WORK}/registry.yml", f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {WORK}/registry}}}}\n"
                                           "http: {addr: \"127.0.0.1:5000\"}\nlog: {level: error}\n")
    server = subprocess.Popen(["docker-registry", "serve", config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        docker("tag", image.NAME, "127.0.0.1:5000/bb:pushed").ok()
        eventually("it takes the image", lambda: docker("push", "127.0.0.1:5000/bb:pushed").code == 0)
        docker("rmi", "127.0.0.1:5000/bb:pushed").ok()
        docker("run", "--rm", "--network", "none", "127.0.0.1:5000/bb:pushed", "echo", "pulled").ok().prints("pulled")
    finally:
        server.terminate()
        server.wait()


@checks("containers live on while the daemon restarts, and are its own again")
def live_restore(docker):
    with docker.container("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done") as c:
        pid = c.pid
        docker.stop_daemon()
        expect(status_of(pid, "State")[0] in "SR", True, "it lives without the daemon")
        docker.start_daemon()
        expect(c.pid, pid, "the process")
        c.exec("echo", "hi").ok().prints("hi")
        before = c("logs").ok().stdout.count("\n")
        eventually("its log goes on", lambda: c("logs").ok().stdout.count("\n") > before)
        c("stop", "--time", "0").ok()


@checks("a daemon that was killed finds what ended meanwhile")
def killed_daemon(docker):
    with docker.container("sh", "-c", "sleep 100") as c, docker.container("sh", "-c", "sleep 2; exit 5") as ending:
        pid = c.pid
        docker.stop_daemon(signal.SIGKILL)
        time.sleep(3)
        if os.path.exists(f"{WORK}/docker.pid"):
            os.remove(f"{WORK}/docker.pid")
        docker.start_daemon()
        expect(c.pid, pid, "the process")
        eventually("it is seen as ended", lambda: ending.status == "exited")
        expect(ending.inspect()["State"]["ExitCode"] in (5, 255), True, "the exit code")


@checks("several containers that belong together: a server, its data, a client")
def together(docker):
    docker("network", "create", "app").ok()
    docker("volume", "create", "data").ok()
    try:
        with docker.container("sh", "-c", "echo stored >/data/index; exec sleep 100", options=["-v", "data:/data"]):
            with docker.container("httpd", "-f", "-p", "80", "-h", "/data", options=["--network", "app", "--network-alias", "web", "-v", "data:/data:ro"]):
                ran = eventually("the client gets it", lambda: (lambda r: r.code == 0 and r)(docker(
                    "run", "--rm", "--network", "app", image.NAME, "wget", "-qO-", "http://web/index")))
                ran.prints("stored")
    finally:
        docker("network", "rm", "app")
        docker("volume", "rm", "data")


@checks("twenty containers at once")
def many(docker):
    started = [subprocess.Popen(docker.command("run", "--rm", "--network", "none", image.NAME, "sh", "-c", f"exit {i}"),
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for i in range(20)]
    expect([process.wait(120) for process in started], list(range(20)), "the statuses")


if __name__ == "__main__":
    checks.main(Docker)
