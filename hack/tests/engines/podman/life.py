"""A container's life: create, start, stop, kill, pause, update, restart, remove, and what is seen of it meanwhile."""

import json
import os
import signal
import subprocess
import time

import image
from checks import Failed, cgroup_file, eventually, expect, read, status_of, write
from podman.engine import Container, checks


@checks("create, start, stop, start again, remove")
def create_start(podman):
    podman("create", "--name", "made", "--network", "none", image.NAME, "sleep", "100").ok()
    podman("start", "made").ok()
    podman("stop", "--time", "0", "made").ok()
    podman("start", "made").ok()
    expect(Container(podman, "made").status, "running", "the status")
    podman("rm", "--force", "--time", "0", "made").ok()
    podman("container", "exists", "made").status(1)


@checks("init makes the container that start then runs")
def init_then_start(podman):
    podman("create", "--name", "two-steps", "--network", "none", image.NAME, "echo", "late").ok()
    podman("init", "two-steps").ok()
    expect(Container(podman, "two-steps").status, "initialized", "the status")
    podman("start", "--attach", "two-steps").ok().prints("late")
    podman("rm", "two-steps").ok()


@checks("stop sends TERM, and KILL only after the time")
def stop(podman):
    with podman.container("sh", "-c", "trap 'exit 33' TERM; while :; do sleep 0.1; done") as c:
        c("stop", "--time", "20").ok()
        expect(c.inspect()["State"]["ExitCode"], 33, "the exit code")
    with podman.container("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done") as c:
        began = time.monotonic()
        c("stop", "--time", "1").ok()
        if time.monotonic() - began < 1:
            raise Failed("it did not wait")
        expect(c.inspect()["State"]["ExitCode"], 137, "the exit code")


@checks("--stop-signal")
def stop_signal(podman):
    script = "trap 'exit 44' USR1; while :; do sleep 0.1; done"
    with podman.container("sh", "-c", script, options=["--stop-signal", "USR1"]) as c:
        c("stop", "--time", "20").ok()
        expect(c.inspect()["State"]["ExitCode"], 44, "the exit code")


@checks("kill by name and by number")
def kill(podman):
    for name, number in ("HUP", 1), ("SIGUSR1", 10), ("RTMIN+3", 37), ("9", 9):
        with podman.container(options=["--init"]) as c:
            c("kill", "--signal", name).ok()
            c("wait").ok().prints(str(128 + number))


@checks("kill of a stopped container is refused")
def kill_stopped(podman):
    with podman.container("true") as c:
        c("wait").ok()
        c("kill").refused()


@checks("pause freezes every process, unpause thaws them")
def pause(podman):
    with podman.container("sh", "-c", "while :; do date +%s%N >/tmp/now; done") as c:
        now = f"/proc/{c.pid}/root/tmp/now"
        eventually("it runs", lambda: os.path.exists(now))
        c("pause").ok()
        expect(c.status, "paused", "the status")
        before = read(now)
        time.sleep(0.5)
        expect(read(now), before, "what a paused program wrote")
        c("unpause").ok()
        eventually("it runs again", lambda: read(now) != before)
        expect(c.status, "running", "the status")


@checks("a paused container can be killed and removed")
def kill_paused(podman):
    with podman.container() as c:
        pid = c.pid
        c("pause").ok()
        c("rm", "--force", "--time", "0").ok()
        if os.path.exists(f"/proc/{pid}") and status_of(pid, "State")[0] not in "ZX":
            raise Failed("its process is alive")


@checks("update changes the limits of a running container")
def update(podman):
    with podman.container(options=["--memory", "64m"]) as c:
        memory = ("memory.limit_in_bytes", "memory.max")
        expect(cgroup_file("memory", c.pid, memory), str(64 << 20), "the limit of run")
        podman("update", "--memory", "96m", "--memory-swap", "96m", c.name).ok()
        expect(cgroup_file("memory", c.pid, memory), str(96 << 20), "the limit of update")
        podman("update", "--cpu-quota", "20000", "--cpu-period", "100000", c.name).ok()
        expect(cgroup_file("cpu", c.pid, ("cpu.cfs_quota_us", "cpu.max")).split()[0], "20000", "the quota of update")
        expect(cgroup_file("memory", c.pid, memory), str(96 << 20), "the limit of memory afterwards")


@checks("restart gives a new process with the same file system")
def restart(podman):
    with podman.container("sh", "-c", "echo x >>/root/starts; sleep 100") as c:
        first = c.pid
        eventually("it runs", lambda: os.path.exists(f"/proc/{first}/root/root/starts"))
        c("restart", "--time", "0").ok()
        second = c.pid
        if first == second:
            raise Failed("the process is the same")
        eventually("it runs again", lambda: read(f"/proc/{second}/root/root/starts") == "x\nx\n")


@checks("--restart on-failure tries again as often as told")
def restart_policy(podman):
    with podman.container("sh", "-c", "echo x; exit 3", options=["--restart", "on-failure:2"]) as c:
        eventually("it gave up", lambda: c.inspect()["RestartCount"] == 2 and c.status == "exited")
        eventually("three lines", lambda: c("logs").ok().stdout.count("x") == 3)


@checks("remove --force of a running container leaves nothing in the kernel")
def remove(podman):
    with podman.container() as c:
        pid, identity = c.pid, c.inspect()["Id"]
        c("rm", "--force", "--time", "0").ok()
        eventually("the process has gone", lambda: not os.path.exists(f"/proc/{pid}"))
        if identity in read("/proc/self/mountinfo"):
            raise Failed("a mount is left")
        left = [path for path, directories, _ in os.walk("/sys/fs/cgroup") if path.endswith(f"libpod-{identity}")]
        expect(left, [], "the cgroups that are left")


@checks("top lists the processes")
def top(podman):
    with podman.container("sh", "-c", "sleep 71 & sleep 72 & wait") as c:
        eventually("both are listed", lambda: all(f"sleep {n}" in c("top").ok().stdout for n in (71, 72)))
        podman("top", c.name, "pid", "user", "capeff", "seccomp").ok().has("root").has("filter")


@checks("stats shows memory and processes")
def stats(podman):
    with podman.container("sh", "-c", "sleep 100 & sleep 100", options=["--memory", "64m"]) as c:
        ran = c("stats", "--no-stream", "--format", "json").ok()
        values = json.loads(ran.stdout)[0]
        expect(values["pids"], "2", "pids")
        if not values["mem_usage"].endswith("67.11MB"):
            raise Failed(f"the limit is not in {values['mem_usage']!r}")


@checks("attach gets what is printed from then on")
def attach(podman):
    with podman.container("sh", "-c", "sleep 1.5; echo late; exit 3") as c:
        # Its own status is 0 when the program is gone before podman asks.
        c("attach").prints("late")


@checks("the detach keys leave the program running")
def detach(podman):
    podman.in_terminal("run", "--name", "kept", "--network", "none", "-it", image.NAME, "sh", "-c",
                       "echo ready; read a; exit 7", typed=["\x10", "\x11"]).ok()
    expect(Container(podman, "kept").status, "running", "the status")
    podman("exec", "kept", "true").ok()
    podman("rm", "--force", "--time", "0", "kept").ok()


@checks("cp into and out of a running and a stopped container")
def cp(podman):
    given = write(f"{podman.work}/given", "content\n")
    with podman.container() as c:
        podman("cp", given, f"{c.name}:/tmp/in").ok()
        c.exec("cat", "/tmp/in").ok().prints("content")
        podman("cp", f"{c.name}:/tmp/in", f"{podman.work}/out").ok()
        expect(read(f"{podman.work}/out"), "content\n", "the file that came back")
        c("stop", "--time", "0").ok()
        podman("cp", f"{c.name}:/tmp/in", f"{podman.work}/out2").ok()
        expect(read(f"{podman.work}/out2"), "content\n", "the file that came back")


@checks("a health check is run in the container, and its result is seen")
def health(podman):
    with podman.container(options=["--health-cmd", "test -e /tmp/fine", "--health-interval", "disable",
                                   "--health-retries", "1"]) as c:
        podman("healthcheck", "run", c.name).status(1)
        c.exec("touch", "/tmp/fine").ok()
        podman("healthcheck", "run", c.name).ok()
        expect(c.inspect()["State"]["Health"]["Status"], "healthy", "the health")


@checks("hooks of --hooks-dir run at their stages, with the state on stdin")
def hooks(podman):
    log = f"{podman.work}/hooks.log"
    for stage in "prestart", "createRuntime", "poststart", "poststop":
        script = write(f"{podman.work}/hook-{stage}", f"#!/bin/sh\necho {stage} $(cat) >>{log}\n", 0o755)
        write(f"{podman.work}/hooks/{stage}.json", json.dumps({
            "version": "1.0.0", "hook": {"path": script}, "when": {"always": True}, "stages": [stage]}))
    podman("--hooks-dir", f"{podman.work}/hooks", "run", "--rm", "--network", "none", image.NAME, "true").ok()
    lines = eventually("all have run", lambda: len(lines_of(log)) == 4 and lines_of(log))
    states = {line.split(" ", 1)[0]: json.loads(line.split(" ", 1)[1]) for line in lines}
    expect(states["createRuntime"]["status"], "creating", "the state in createRuntime")
    # runc says created there; by the specification the program has been started.
    expect(states["poststart"]["status"] in ("created", "running"), True, "created or running in poststart")
    expect(states["poststop"]["status"], "stopped", "the state in poststop")


def lines_of(path):
    return read(path).splitlines() if os.path.exists(path) else []


@checks("a hook that fails refuses the container")
def failing_hook(podman):
    script = write(f"{podman.work}/hook-fails", "#!/bin/sh\necho the reason >&2\nexit 3\n", 0o755)
    write(f"{podman.work}/bad-hooks/fails.json", json.dumps({
        "version": "1.0.0", "hook": {"path": script}, "when": {"always": True}, "stages": ["createRuntime"]}))
    podman("--hooks-dir", f"{podman.work}/bad-hooks", "run", "--rm", "--network", "none", image.NAME, "echo", "ran").refused().lacks("ran\n")


@checks("signals to podman run reach the program")
def signal_proxy(podman):
    command = podman.command("run", "--rm", "--name", "proxied", "--network", "none", image.NAME, "sh", "-c",
                             "trap 'exit 21' USR1; touch /tmp/ready; while :; do sleep 0.1; done")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually("it runs", lambda: podman("exec", "proxied", "test", "-e", "/tmp/ready").code == 0)
    process.send_signal(signal.SIGUSR1)
    expect(process.wait(30), 21, "the status")


@checks("when its monitor is killed, the container can still be stopped and removed")
def monitor_killed(podman):
    with podman.container() as c:
        pid = c.pid
        os.kill(c.inspect()["State"]["ConmonPid"], signal.SIGKILL)
        c("rm", "--force", "--time", "0").ok()
        eventually("the process has gone", lambda: not os.path.exists(f"/proc/{pid}"))


@checks("twenty containers at once")
def many(podman):
    started = [subprocess.Popen(podman.command("run", "--rm", "--network", "none", image.NAME, "sh", "-c", f"exit {i}"),
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
               for i in range(20)]
    expect([process.wait(120) for process in started], list(range(20)), "the statuses")


@checks("checkpoint and restore", skip=lambda _: "CRIU is not installed" if not os.path.exists("/usr/sbin/criu") else None)
def checkpoint(podman):
    with podman.container("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i >/tmp/i; sleep 0.1; done") as c:
        podman("container", "checkpoint", c.name).ok()
        expect(c.status, "exited", "the status")
        podman("container", "restore", c.name).ok()
        expect(c.status, "running", "the status")
