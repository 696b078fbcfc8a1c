"""podman as an ordinary user, who exists on this throw-away machine only, with a grant of subordinate ids.

On cgroup v1 podman gives such a container no cgroup: limits, pause and stats are then refused by podman itself.
"""

import json
import os
import signal
import subprocess
import urllib.request

import image
from checks import BIN, Checks, Failed, Skip, eventually, expect, read, run, status_of, write
from podman.engine import CONF, Podman

USER = "engines"
checks = Checks("rootless")


class Rootless(Podman):
    work = f"/tmp/{USER}"

    def __init__(self):
        run(["useradd", "--no-create-home", "--home-dir", self.work, "--shell", "/bin/sh", "--user-group", USER]).ok()
        os.mkdir(self.work, 0o700)
        os.mkdir(f"{self.work}/runtime", 0o700)
        write(f"{self.work}/containers.conf", CONF.format(bin=BIN))
        self.tar = image.root_file_system(self.work)
        run(["chown", "-R", f"{USER}:{USER}", self.work]).ok()
        self("import", self.tar, image.NAME).ok()

    def command(self, *words):
        return ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", "env", "-i", f"PATH={os.environ['PATH']}",
                f"HOME={self.work}", f"XDG_RUNTIME_DIR={self.work}/runtime", f"CONTAINERS_CONF={self.work}/containers.conf",
                "podman", "--storage-driver", "overlay", *words]

    def __call__(self, *words, **how):
        return super().__call__(*words, cwd=self.work, **how)


def ids():
    return int(run(["id", "-u", USER]).ok().stdout)


@checks("run prints what the program prints")
def run_prints(podman):
    podman.run("echo", "hi").ok().prints("hi")


@checks("run passes on the exit status; 127 and 126 for what cannot be run")
def statuses(podman):
    for code in 0, 1, 255:
        podman.sh(f"exit {code}").status(code)
    podman.run("/nosuch").status(127).says("no such file or directory")
    podman.run("/etc/not-executable").status(126).says("permission denied")


@checks("root of the container is the user, the other ids are from the grant")
def user_namespace(podman):
    with podman.container() as c:
        first = read(f"/proc/{c.pid}/uid_map").split()
        expect(first[:3], ["0", str(ids()), "1"], "the first line of the map")
        expect(status_of(c.pid, "Uid").split()[0], str(ids()), "the user on the host")
    with podman.container(options=["--user", "1000"]) as c:
        expect(int(status_of(c.pid, "Uid").split()[0]) >= 65536, True, "the user on the host is one of the grant")
    podman.sh("touch /tmp/x && chown 5:6 /tmp/x && stat -c %u:%g /tmp/x").ok().prints("5:6")


@checks("run -i, run -t")
def stdin_and_terminal(podman):
    podman.run("cat", options=["-i"], stdin="given").ok().prints("given")
    ran = podman.in_terminal("run", "--rm", "--network", "none", "-it", image.NAME, "sh", "-c", "tty; sleep 1; stty size; exit 5")
    ran.status(5).has("/dev/pts/0").has("33 99")


@checks("exec: status, stdin, user, directory, environment")
def execute(podman):
    with podman.container() as c:
        c.exec("echo", "hi").ok().prints("hi")
        c.exec("sh", "-c", "exit 3").status(3)
        c.exec("/nosuch").status(127)
        c.exec("cat", options=["-i"], stdin="given").ok().prints("given")
        c.exec("id", "-u", options=["-u", "1000"]).ok().prints("1000")
        c.exec("sh", "-c", "pwd; echo $A", options=["-w", "/etc", "-e", "A=b"]).ok().prints("/etc\nb")
        podman.in_terminal("exec", "-it", c.name, "sh", "-c", "tty; exit 4").status(4).has("/dev/pts/")
        c.exec("sleep", "77", options=["-d"]).ok()
        eventually("the process is there", lambda: "sleep 77" in c.exec("ps", "-o", "args").stdout)


@checks("a container has namespaces of its own")
def namespaces(podman):
    with podman.container(options=["--cgroupns", "private"]) as c:
        for kind in "ipc", "mnt", "net", "pid", "uts", "user":
            if os.readlink(f"/proc/{c.pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}"):
                raise Failed(f"{kind} is the host's")


@checks("--userns keep-id: the user has the same number inside")
def keep_id(podman):
    volume = f"{podman.work}/mine"
    os.makedirs(volume, exist_ok=True)
    os.chown(volume, ids(), ids())
    podman.sh("id -u; touch /v/made && stat -c %u /v/made", options=["--userns", "keep-id", "-v", f"{volume}:/v"]).ok().prints(f"{ids()}\n{ids()}")
    expect(os.stat(f"{volume}/made").st_uid, ids(), "the owner on the host")
    with podman.container(options=["--userns", "keep-id"]) as c:
        c.exec("id", "-u").ok().prints(str(ids()))


@checks("--uidmap within the grant")
def uidmap(podman):
    podman.sh("id -u; tr -s ' ' </proc/self/uid_map", options=["--uidmap", "0:100:1000"]).ok().has(" 0 100 1000")


@checks("stop, kill, restart, remove")
def life(podman):
    with podman.container("sh", "-c", "trap 'exit 33' TERM; while :; do sleep 0.1; done") as c:
        c("stop", "--time", "20").ok()
        expect(c.inspect()["State"]["ExitCode"], 33, "the exit code")
        c("start").ok()
        c("kill", "--signal", "KILL").ok()
        c("wait").ok().prints("137")
        c("restart", "--time", "0").ok()
        pid = c.pid
        c("rm", "--force", "--time", "0").ok()
        eventually("the process has gone", lambda: not os.path.exists(f"/proc/{pid}"))


@checks("run --detach, logs, wait, attach, top")
def detached(podman):
    with podman.container("sh", "-c", "echo one; echo two >&2; sleep 1; echo late; exit 6") as c:
        c("top").ok().has("sleep")
        c("attach").has("late")
        c("wait").ok().prints("6")
        c("logs").ok().prints("one\nlate")


@checks("pause is refused by podman on v1, and works on v2")
def pause(podman):
    with podman.container() as c:
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            c("pause").ok()
            c("unpause").ok()
        else:
            c("pause").refused().says("cgroup")


@checks("volumes: the user's own, named, read-only; tmpfs; a read-only root")
def volumes(podman):
    write(f"{podman.work}/volume/file", "from the host\n")
    volume = f"{podman.work}/volume"
    os.chown(volume, ids(), ids())
    podman.run("cat", "/v/file", options=["-v", f"{volume}:/v"]).ok().prints("from the host")
    podman.sh("echo x >/v/made", options=["-v", f"{volume}:/v"]).ok()
    expect(os.stat(f"{volume}/made").st_uid, ids(), "the owner on the host")
    podman.sh("echo x >/v/more", options=["-v", f"{volume}:/v:ro"]).refused().says("read-only file system")
    podman.sh("echo one >/v/file && cat /v/file", options=["-v", "kept:/v"]).ok().prints("one")
    podman.sh("df -k /t | tail -n 1 | awk '{ print $2 }'", options=["--tmpfs", "/t:size=4m"]).ok().prints("4096")
    podman.sh("echo x >/new", options=["--read-only"]).refused().says("read-only file system")


@checks("what a volume's flags lock on the host stays locked inside")
def locked(podman):
    directory = f"{podman.work}/locked"
    os.makedirs(directory, exist_ok=True)
    run(["mount", "-t", "tmpfs", "-o", "ro,nosuid,nodev,mode=755", "tmpfs", directory]).ok()
    try:
        podman.sh("echo x >/v/new", options=["-v", f"{directory}:/v"]).refused().says("read-only file system")
        podman.sh("mount -o remount,rw,bind /v", options=["-v", f"{directory}:/v", "--cap-add", "sys_admin", "--security-opt",
                                                         "seccomp=unconfined"]).refused()
    finally:
        run(["umount", directory]).ok()


@checks("capabilities, seccomp, no-new-privileges, --privileged")
def privileges(podman):
    podman.sh("grep Seccomp: /proc/self/status | cut -f2").ok().prints("2")
    podman.sh("grep CapEff /proc/self/status | cut -f2", options=["--cap-drop", "all"]).ok().prints("0" * 16)
    podman.sh("grep NoNewPrivs /proc/self/status | cut -f2", options=["--security-opt", "no-new-privileges"]).ok().prints("1")
    podman.sh("mkdir /m && mount -t tmpfs none /m && echo mounted", options=["--privileged"]).ok().prints("mounted")


@checks("devices: the default ones are there, others of the host are not")
def devices(podman):
    podman.sh("head -c 3 /dev/zero | wc -c; echo x >/dev/null; test -e /dev/kmsg || echo none").ok().prints("3\nnone")
    podman.sh("head -c 4 /dev/mine | wc -c", options=["--device", "/dev/zero:/dev/mine"]).ok().prints("4")


@checks("--init, --hostname, --group-add keep-groups")
def identity(podman):
    podman.sh("tr '\\0' ' ' </proc/1/cmdline; hostname", options=["--init", "--hostname", "mine"]).ok().has("init").has("mine")
    podman.run("id", "-G", options=["--group-add", "keep-groups"])


@checks("slirp4netns: a network of its own, and a published port")
def slirp(podman):
    options = ["--network", "slirp4netns", "--publish", "127.0.0.1:8081:80"]
    with podman.container("httpd", "-f", "-p", "80", "-h", "/etc", options=options) as c:
        c.exec("ip", "addr").ok().has("10.0.2.100")
        eventually("it answers", lambda: "root:" in fetch(8081))


@checks("pasta: a network of its own, and a published port")
def pasta(podman):
    version = podman("version", "--format", "{{.Client.Version}}").ok().stdout.strip()
    if [int(number) for number in version.split(".")[:2]] < [4, 4]:
        raise Skip(f"podman {version} knows no pasta, 4.4 is the first (hack/vm has a newer one)")
    with podman.container("httpd", "-f", "-p", "80", "-h", "/etc", options=["--network", "pasta", "--publish", "127.0.0.1:8082:80"]):
        eventually("it answers", lambda: "root:" in fetch(8082))


def fetch(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/passwd", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


@checks("a bridge network with names, in the user's own network namespace")
def bridge(podman):
    podman("network", "create", "net1").ok()
    try:
        options = ["--network", "net1", "--network-alias", "web"]
        with podman.container("httpd", "-f", "-p", "80", "-h", "/etc", options=options):
            fetch_inside = ["run", "--rm", "--network", "net1", image.NAME, "wget", "-qO-", "http://web/passwd"]
            eventually("it answers", lambda: "root:" in podman(*fetch_inside).stdout)
    finally:
        podman("network", "rm", "--force", "--time", "0", "net1")


@checks("--network host")
def network_host(podman):
    with podman.container(options=["--network", "host"]) as c:
        expect(os.readlink(f"/proc/{c.pid}/ns/net"), os.readlink("/proc/self/ns/net"), "the network namespace")


@checks("a pod")
def pod(podman):
    try:
        podman("pod", "create", "--name", "pod", "--network", "none", "--hostname", "the-pod").ok()
        podman("run", "--detach", "--pod", "pod", "--name", "member", image.NAME, "sleep", "100").ok()
        podman("exec", "member", "hostname").ok().prints("the-pod")
    finally:
        podman("pod", "rm", "--force", "--time", "0", "pod")


@checks("build, commit, save, load")
def build(podman):
    write(f"{podman.work}/build/Containerfile", f"FROM {image.NAME}\nRUN id -u >/who && chown 5:5 /who\nCMD [\"stat\", \"-c\", \"%u\", \"/who\"]\n")
    podman("build", "--network", "none", "--tag", "localhost/built:1", f"{podman.work}/build").ok()
    podman("run", "--rm", "--network", "none", "localhost/built:1").ok().prints("5")
    podman("save", "--output", f"{podman.work}/saved.tar", "localhost/built:1").ok()
    podman("rmi", "localhost/built:1").ok()
    podman("load", "--input", f"{podman.work}/saved.tar").ok()
    podman("run", "--rm", "--network", "none", "localhost/built:1").ok().prints("5")


@checks("hooks of --hooks-dir")
def hooks(podman):
    log = f"{podman.work}/hooks.log"
    script = write(f"{podman.work}/hook", f"#!/bin/sh\ncat >>{log}\n", 0o755)
    write(f"{podman.work}/hooks/one.json", json.dumps({
        "version": "1.0.0", "hook": {"path": script}, "when": {"always": True}, "stages": ["createRuntime"]}))
    run(["chown", "-R", f"{USER}:{USER}", f"{podman.work}/hooks"]).ok()
    podman("--hooks-dir", f"{podman.work}/hooks", "run", "--rm", "--network", "none", image.NAME, "true").ok()
    expect(json.loads(read(log))["status"], "creating", "the state in the hook")


@checks("signals to podman run reach the program")
def signals(podman):
    command = podman.command("run", "--rm", "--name", "proxied", "--network", "none", image.NAME, "sh", "-c",
                             "trap 'exit 21' USR1; touch /tmp/ready; while :; do sleep 0.1; done")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=podman.work)
    eventually("it runs", lambda: podman("exec", "proxied", "test", "-e", "/tmp/ready").code == 0)
    process.send_signal(signal.SIGUSR1)
    expect(process.wait(30), 21, "the status")


@checks("ten containers at once")
def many(podman):
    started = [subprocess.Popen(podman.command("run", "--rm", "--network", "none", image.NAME, "sh", "-c", f"exit {i}"), cwd=podman.work,
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for i in range(10)]
    expect([process.wait(120) for process in started], list(range(10)), "the statuses")


if __name__ == "__main__":
    checks.main(Rootless)
