"""`podman exec`."""

import os
import subprocess

from checks import Failed, eventually, expect, status_of
from podman.engine import checks


@checks("exec prints, and passes on the exit status")
def exec_prints(podman):
    with podman.container() as c:
        c.exec("echo", "hi").ok().prints("hi")
        for code in 0, 3, 255:
            c.exec("sh", "-c", f"exit {code}").status(code)
        c.exec("sh", "-c", "kill -9 $$").status(137)


@checks("exec of a missing program gives 127, of one that may not be executed 126")
def exec_missing(podman):
    with podman.container() as c:
        c.exec("/nosuch").status(127).says("no such file or directory")
        c.exec("nosuch").status(127).says("executable file", "no such file or directory")
        c.exec("/etc/not-executable").status(126).says("permission denied")


@checks("exec runs in the container's namespaces, cgroup and file system")
def exec_where(podman):
    with podman.container(options=["--hostname", "inside"]) as c:
        c.exec("hostname").ok().prints("inside")
        kinds = "cgroup ipc mnt net pid uts"
        script = f"for n in {kinds}; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done | uniq | wc -l"
        c.exec("sh", "-c", script).ok().prints(str(len(kinds.split())))
        own = c.exec("cat", "/proc/self/cgroup").ok().stdout
        c.exec("cat", "/proc/1/cgroup").ok().prints(own.strip())


@checks("exec -i reads stdin")
def exec_stdin(podman):
    with podman.container() as c:
        c.exec("cat", options=["-i"], stdin="given").ok().prints("given")


@checks("exec -t has a terminal of its own, and what is typed reaches it")
def exec_terminal(podman):
    with podman.container() as c:
        podman.in_terminal("exec", "-it", c.name, "sh", "-c", "tty; exit 4").status(4).has("/dev/pts/")
        ran = podman.in_terminal("exec", "-it", c.name, "sh", "-c", "echo ready; read word; echo got $word", typed="this\n")
        ran.ok().has("got this")


@checks("exec -u -w -e")
def exec_options(podman):
    with podman.container() as c:
        c.exec("id", "-u", options=["-u", "1000"]).ok().prints("1000")
        c.exec("id", "-g", options=["-u", "1000:2000"]).ok().prints("2000")
        c.exec("id", "-G", options=["-u", "user"]).ok().has("1000").has("2000")
        c.exec("pwd", options=["-w", "/etc"]).ok().prints("/etc")
        c.exec("sh", "-c", "echo $A", options=["-e", "A=b c"]).ok().prints("b c")


@checks("exec -d returns at once, and its program lives on in the container")
def exec_detached(podman):
    with podman.container() as c:
        c.exec("sleep", "77", options=["-d"]).ok()
        eventually("the process is there", lambda: "sleep 77" in c.exec("ps", "-o", "args").stdout)


@checks("exec has the container's capabilities and filter; --privileged has more")
def exec_privileges(podman):
    with podman.container() as c:
        fields = "grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/{}/status"
        first = c.exec("sh", "-c", fields.format(1)).ok().stdout
        c.exec("sh", "-c", fields.format("self")).ok().prints(first.strip())
        plain = int(c.exec("sh", "-c", "grep CapEff /proc/self/status | cut -f2").ok().stdout, 16)
        more = int(c.exec("sh", "-c", "grep CapEff /proc/self/status | cut -f2", options=["--privileged"]).ok().stdout, 16)
        expect(more & plain, plain, "the capabilities of exec --privileged that plain exec has")
        if more == plain:
            raise Failed("exec --privileged has no more capabilities")


@checks("exec into a paused or a stopped container is refused")
def exec_refused(podman):
    with podman.container() as c:
        c("pause").ok()
        c.exec("true").refused()
        c("unpause").ok()
        c.exec("true").ok()
        c("stop", "--time", "0").ok()
        c.exec("true").refused()


@checks("twenty execs at once")
def exec_many(podman):
    with podman.container() as c:
        started = [subprocess.Popen(podman.command("exec", c.name, "sh", "-c", f"echo {i} >>/tmp/many"),
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                   for i in range(20)]
        expect([process.wait(60) for process in started], [0] * 20, "the statuses")
        c.exec("sh", "-c", "sort -n /tmp/many | uniq | wc -l").ok().prints("20")


@checks("the processes of exec end with the container")
def exec_ends(podman):
    with podman.container() as c:
        c.exec("sleep", "78", options=["-d"]).ok()
        pid = eventually("the process is there", lambda: host_pid_of(c, "sleep 78"))
        expect(status_of(pid, "NSpid").split()[0], str(pid), "the pid on the host")
        c("kill").ok()
        eventually("it has gone", lambda: not alive(pid))


def host_pid_of(container, command):
    for line in container.podman("top", container.name, "hpid", "args").ok().stdout.splitlines()[1:]:
        pid, _, args = line.strip().partition(" ")
        if args.strip() == command:
            return int(pid)
    return None


def alive(pid):
    try:
        return status_of(pid, "State")[0] not in "ZX"
    except (OSError, Failed):
        return os.path.exists(f"/proc/{pid}")
