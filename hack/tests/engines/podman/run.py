"""`podman run`: what goes in and what comes out."""

import os

import image
from checks import BIN, eventually, expect, read, run
from podman.engine import checks


@checks("run prints what the program prints")
def run_prints(podman):
    podman.run("echo", "hi").ok().prints("hi")


@checks("--runtime takes a path")
def runtime_path(podman):
    podman("--runtime", f"{BIN}/hull", "run", "--rm", "--network", "none", image.NAME, "echo", "by path").ok().prints("by path")


@checks("stdout and stderr stay apart")
def stdout_and_stderr(podman):
    ran = podman.sh("echo out; echo err >&2").ok().prints("out")
    expect(ran.stderr.strip(), "err", "stderr")


@checks("run passes on the exit status")
def exit_status(podman):
    for code in 0, 1, 42, 255:
        podman.sh(f"exit {code}").status(code)


@checks("a missing program gives 127")
def missing(podman):
    podman.run("/nosuch").status(127).says("no such file or directory")
    podman.run("nosuch").status(127).says("executable file", "no such file or directory")


@checks("a file that may not be executed gives 126")
def not_executable(podman):
    podman.run("/etc/not-executable").status(126).says("permission denied")
    podman.run("/etc").status(126).says("permission denied", "is a directory")


@checks("a working directory that cannot be made is an error of podman's 126 or 127")
def working_directory(podman):
    podman.run("pwd", options=["--workdir", "/tmp"]).ok().prints("/tmp")
    podman.run("pwd", options=["--workdir", "/etc/passwd"]).refused()


@checks("run -i reads stdin to its end")
def stdin(podman):
    podman.run("cat", options=["-i"], stdin="given").ok().prints("given")
    podman.run("wc", "-c", options=["-i"], stdin="x" * 1000000).ok().prints("1000000")


@checks("run -t has a terminal of the caller's size")
def terminal(podman):
    ran = podman.in_terminal("run", "--rm", "--network", "none", "-it", image.NAME, "sh", "-c",
                             "tty; sleep 1; stty size; exit 5")
    ran.status(5).has("/dev/pts/0").has("33 99")


@checks("what is typed reaches the terminal's program")
def typed(podman):
    ran = podman.in_terminal("run", "--rm", "--network", "none", "-it", image.NAME, "sh", "-c",
                             "echo ready; read word; echo got $word", typed="this\n")
    ran.ok().has("got this")


@checks("the interrupt key ends the terminal's program")
def interrupt(podman):
    ran = podman.in_terminal("run", "--rm", "--network", "none", "-it", image.NAME, "sh", "-c",
                             "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done", typed="\x03")
    ran.status(9).has("caught")


@checks("environment, host name, user, groups")
def identity(podman):
    podman.sh("echo $A-$B", options=["-e", "A=1", "--env", "B=two words"]).ok().prints("1-two words")
    podman.run("hostname", options=["--hostname", "some-name"]).ok().prints("some-name")
    podman.sh("id -u; id -g", options=["--user", "1000:2000"]).ok().prints("1000\n2000")
    podman.run("id", "-G", options=["--user", "user", "--group-add", "3000"]).ok().has("2000").has("3000")


@checks("an entry point and its arguments")
def entry_point(podman):
    podman.run("a", "b c", options=["--entrypoint", '["echo","-n"]']).ok().prints("a b c")


@checks("--init is pid 1 and reaps")
def init(podman):
    podman.sh("tr '\\0' ' ' </proc/1/cmdline", options=["--init"]).ok().has("init")
    podman.sh("(sleep 0.1 &) ; sleep 0.5; grep -l 'State:.Z' /proc/*/status | wc -l", options=["--init"]).ok().prints("0")


@checks("--preserve-fds hands descriptors on")
def preserve_fds(podman):
    # podman counts from 3.
    reader, writer = os.pipe()
    os.write(writer, b"through the pipe")
    os.close(writer)
    command = ["bash", "-c", f'exec 3<&{reader}; exec "$@"', "bash",
               *podman.command("run", "--rm", "--network", "none", "--preserve-fds", "1", image.NAME, "cat", "/proc/self/fd/3")]
    run(command, pass_fds=[reader]).ok().prints("through the pipe")
    os.close(reader)


@checks("no descriptor of the engine reaches the program")
def descriptors(podman):
    # 3 is the directory that ls reads.
    podman.sh("ls /proc/self/fd").ok().prints("0\n1\n2\n3")


@checks("no variable of the engine's monitor reaches the program")
def variables(podman):
    podman.run("env").ok().lacks("_OCI_").lacks("NOTIFY_SOCKET").lacks("LISTEN_")


@checks("signals, masks and the session are as a program expects them")
def signals(podman):
    ran = podman.sh("grep -E 'SigBlk|SigIgn|SigCgt' /proc/self/status; cut -d' ' -f5,6 /proc/1/stat").ok()
    expect(ran.stdout.split("\n")[0].split()[1].strip("0"), "", "the blocked signals")
    expect(ran.stdout.split("\n")[1].split()[1].strip("0"), "", "the ignored signals")
    expect(ran.stdout.strip().split("\n")[3], "1 1", "process group and session of pid 1")


@checks("run --detach, logs, wait")
def detached(podman):
    with podman.container("sh", "-c", "echo one; echo two >&2; sleep 0.3; exit 6") as c:
        c("wait").ok().prints("6")
        ran = c("logs").ok()
        expect((ran.stdout.strip(), ran.stderr.strip()), ("one", "two"), "the logs")


@checks("logs --follow ends with the program")
def logs_follow(podman):
    with podman.container("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done") as c:
        c("logs", "--follow").ok().prints("1\n2\n3")


@checks("run --rm --detach removes the container by itself")
def removed(podman):
    podman("run", "--rm", "--detach", "--name", "gone", "--network", "none", image.NAME, "true").ok()
    eventually("it is removed", lambda: podman("container", "exists", "gone").code == 1)


@checks("run --pidfile and --cidfile name the process and the container")
def pidfile(podman):
    with podman.container(options=["--pidfile", f"{podman.work}/pidfile", "--cidfile", f"{podman.work}/cidfile"]) as c:
        expect(read(f"{podman.work}/pidfile").strip(), str(c.pid), "the pid file")
        expect(read(f"{podman.work}/cidfile").strip(), c.inspect()["Id"], "the id file")
