"""The .deb, installed on a machine whose every file is a throw-away layer: engines find hull, and removal leaves nothing."""

import contextlib
import json
import os
import shutil
import subprocess

import image
from checks import Checks, Failed, eventually, expect, read, run, write

WORK = "/tmp/package"
DEB = f"{WORK}/hull.deb"
DAEMON_JSON = "/etc/docker/daemon.json"
UPPER = "/run/overlaid/upper"
# Root here may not raise limits as high as podman's defaults are.
PODMAN_CONF = """
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:8192"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""

checks = Checks("package")


class Machine:
    """A machine without hull, on which each check installs it."""

    def __init__(self):
        os.makedirs(WORK)
        with open(DEB, "wb") as file, os.fdopen(int(os.environ["DEB"]), "rb") as given:
            shutil.copyfileobj(given, file)
        self.tar = image.root_file_system(WORK)
        write("/etc/containers/containers.conf.d/10-machine.conf", PODMAN_CONF)
        # A machine that had hull, or settings of Docker, has them no more.
        run(["dpkg", "--purge", "hull"])
        remove(DAEMON_JSON)
        remove("/usr/bin/hull")
        remove("/usr/local/bin/hull")

    def end(self):
        pass


def remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def dpkg(*words):
    return run(["dpkg", *words], env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


@contextlib.contextmanager
def installed():
    try:
        yield dpkg("--install", DEB).ok()
    finally:
        dpkg("--purge", "hull").ok()


def written():
    """Each file of the upper layer and what it holds, but for what dpkg and its triggers keep for themselves."""
    found = {}
    for directory, _, names in os.walk(UPPER):
        inside = directory.removeprefix(UPPER)
        if inside.startswith(("/var/lib/dpkg", "/var/cache/man")):
            continue
        found[inside] = None
        for name in names:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            # A device 0:0 is a file that was removed.
            found[f"{inside}/{name}"] = (status.st_mode, status.st_size, status.st_mtime_ns)
    for path in ("/var/log", "/var/log/dpkg.log", "/var/log/alternatives.log"):
        found.pop(path, None)
    return found


@checks("purge leaves nothing")
def purge_leaves_nothing(_):
    with installed():
        pass
    # The first time directories come into the layer that were beneath it.
    before = written()
    with installed():
        expect(os.path.exists("/usr/bin/hull"), True, "the program's presence")
        if written() == before:
            raise Failed("installing wrote nothing that is seen here")
    after = written()
    expect(sorted(set(after.items()) ^ set(before.items())), [], "what purge left or took")
    expect(sorted(path for path in ("/usr/bin/hull", "/usr/share/doc/hull", "/usr/share/hull", DAEMON_JSON,
                                    "/etc/containers/containers.conf.d/50-hull.conf") if os.path.lexists(path)), [], "what is there")


@checks("the files are those that the package lists")
def files_are_listed(_):
    with installed():
        dpkg("--verify", "hull").ok().prints("")
        version = run(["hull", "--version"]).ok().stdout
        wanted = dpkg("-s", "hull").ok().stdout.split("\nVersion: ")[1].split("~")[0].split("-")[0].strip()
        if f"hull version {wanted}\n" not in version:
            raise Failed(f"the program says {version!r}, the package is {wanted}")
        for page in verbs():
            expect(os.path.exists(f"/usr/share/man/man8/hull-{page}.8.gz"), True, f"the presence of the page of {page}")


def verbs():
    """The verbs that the program's own help lists."""
    lines = run(["hull", "--help"]).ok().stdout.split("\nVerbs:\n")[1].split("\n\n")[0].splitlines()
    names = [line.split()[0] for line in lines]
    if len(names) < 10:
        raise Failed(f"the help lists {names}")
    return names


def runs_hull(pid):
    """Whether the process's monitor, which calls the runtime, was given the installed program."""
    command = read(f"/proc/{pid}/cmdline").split("\0")
    return "/usr/bin/hull" in command


@checks("podman --runtime hull")
def podman(machine):
    def call(*words):
        return run(["podman", "--root", f"{WORK}/root", "--runroot", f"{WORK}/run", "--tmpdir", f"{WORK}/tmp", "--runtime", "hull", *words])
    with installed():
        call("import", machine.tar, image.NAME).ok()
        call("run", "--rm", "--network", "none", image.NAME, "echo", "hi").ok().prints("hi")
        call("run", "--detach", "--name", "one", "--network", "none", image.NAME, "sleep", "100").ok()
        try:
            inspected = json.loads(call("inspect", "one").ok().stdout)[0]
            expect(inspected["OCIRuntime"], "hull", "the runtime")
            expect(runs_hull(inspected["State"]["ConmonPid"]), True, "whether conmon calls /usr/bin/hull")
            call("exec", "one", "cat", "/proc/1/comm").ok().prints("sleep")
        finally:
            call("rm", "--force", "--time", "0", "one")
    call("run", "--rm", "--network", "none", image.NAME, "true").refused().says("hull")


@contextlib.contextmanager
def dockerd():
    """The daemon with its ordinary file of settings, and all that it writes beneath the work directory."""
    socket = f"unix://{WORK}/docker.sock"

    def call(*words):
        return run(["env", f"DOCKER_HOST={socket}", "docker", *words])
    log = f"{WORK}/dockerd.log"
    with open(log, "a", encoding="utf-8") as file:
        daemon = subprocess.Popen(["dockerd", "--data-root", f"{WORK}/data", "--exec-root", f"{WORK}/exec", "--pidfile", f"{WORK}/docker.pid",
                                   "--host", socket, "--iptables=false", "--ip6tables=false", "--bridge=none"],
                                  stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    try:
        eventually(f"dockerd answers: {log}", lambda: call("version").code == 0 or daemon.poll() is not None, 60)
        if daemon.poll() is not None:
            raise Failed(f"dockerd ended: {read(log)[-2000:]}")
        yield call, daemon
    finally:
        daemon.terminate()
        daemon.wait(60)


def a_container_of_docker(machine, call):
    call("import", machine.tar, image.NAME).ok()
    call("run", "--rm", "--runtime", "hull", "--network", "none", image.NAME, "echo", "hi").ok().prints("hi")
    name = call("run", "--detach", "--runtime", "hull", "--network", "none", image.NAME, "sleep", "100").ok().stdout.strip()
    try:
        expect(json.loads(call("info", "--format", "{{json .Runtimes}}").ok().stdout)["hull"]["path"], "/usr/bin/hull", "the program")
        # Whatever the runtime, dockerd calls its directory of states runtime-runc.
        known = run(["hull", "--root", f"{WORK}/exec/runtime-runc/moby", "list", "--quiet"]).ok().stdout.split()
        expect(known, [name], "what hull has of dockerd's")
    finally:
        call("rm", "--force", name)


@checks("docker run --runtime hull")
def docker(machine):
    with installed():
        with dockerd() as (call, _):
            a_container_of_docker(machine, call)
    with dockerd() as (call, _):
        call("run", "--rm", "--runtime", "hull", "--network", "none", image.NAME, "true").refused().says("hull")


@checks("a dockerd that runs already knows hull after a reload")
def reload(machine):
    with dockerd() as (call, daemon), installed():
        daemon.send_signal(1)
        eventually("dockerd has read its settings again", lambda: '"hull"' in call("info", "--format", "{{json .Runtimes}}").stdout)
        a_container_of_docker(machine, call)


@checks("settings of Docker that are there already stay as they are")
def settings_stay(_):
    for text in '{"debug": true}\n', '{"runtimes": {"hull": {"path": "/opt/hull"}}}\n':
        write(DAEMON_JSON, text)
        with installed() as did:
            did.has("/etc/docker/daemon.json is left as it is")
            expect(read(DAEMON_JSON), text, "the file")
        expect(read(DAEMON_JSON), text, "the file after the purge")
        remove(DAEMON_JSON)


@checks("a dockerd that is told its runtimes otherwise gets no file")
def options_stay(_):
    had = read("/etc/default/docker")
    write("/etc/default/docker", had + 'DOCKER_OPTS="--add-runtime other=/bin/true"\n')
    try:
        with installed() as did:
            did.has("--add-runtime hull=/usr/bin/hull")
            expect(os.path.exists(DAEMON_JSON), False, "the presence of the file")
    finally:
        write("/etc/default/docker", had)


@checks("what the administrator changed stays: by removal, and by an upgrade")
def changes_stay(_):
    with installed():
        expect(os.path.exists(DAEMON_JSON), True, "the presence of the file")
        os.remove(DAEMON_JSON)
        dpkg("--install", DEB).ok()
        expect(os.path.exists(DAEMON_JSON), False, "the presence of the file")
    changed = '{"debug": true, "runtimes": {"hull": {"path": "/usr/bin/hull"}}}\n'
    with installed():
        write(DAEMON_JSON, changed)
    expect(read(DAEMON_JSON), changed, "the file")
    remove(DAEMON_JSON)


if __name__ == "__main__":
    checks.main(Machine)
