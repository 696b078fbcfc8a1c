"""Images: build (whose steps are run by the runtime), commit, save and load, export, a registry."""

import os
import socket
import subprocess

import image
from checks import Skip, eventually, expect, write
from podman.engine import checks


def build(podman, tag, text, *options, files=()):
    directory = f"{podman.work}/build-{tag}"
    write(f"{directory}/Containerfile", text)
    for name, content in files:
        write(f"{directory}/{name}", content)
    return podman("build", "--network", "none", "--tag", f"localhost/{tag}:1", *options, directory)


@checks("build runs its steps, and what they made is in the image")
def build_steps(podman):
    text = f"""FROM {image.NAME}
ENV WORD=built
COPY file /copied
RUN echo $WORD >/made && id -u >/who
USER 1000
RUN id -u >/tmp/who
WORKDIR /home
CMD ["sh", "-c", "cat /made /copied /who /tmp/who; pwd; id -u"]
"""
    build(podman, "steps", text, files=[("file", "copied\n")]).ok()
    podman("run", "--rm", "--network", "none", "localhost/steps:1").ok().prints("built\ncopied\n0\n1000\n/home\n1000")


@checks("a step that fails fails the build with its status")
def build_fails(podman):
    build(podman, "fails", f"FROM {image.NAME}\nRUN exit 7\n").refused().says("exit status 7", "status 7")
    build(podman, "missing", f"FROM {image.NAME}\nRUN [\"/nosuch\"]\n").refused().says("no such file or directory")


@checks("build with several stages, arguments, a volume, a secret, limits and a health check")
def build_more(podman):
    secret = write(f"{podman.work}/secret", "hidden\n")
    text = f"""FROM {image.NAME} AS first
ARG WHAT
RUN --mount=type=secret,id=s wc -c </run/secrets/s >/length && echo $WHAT >/what
FROM {image.NAME}
COPY --from=first /length /what /
RUN --mount=type=tmpfs,target=/t touch /t/x && ls /v >/volume
HEALTHCHECK CMD test -e /what
CMD ["cat", "/length", "/what", "/volume"]
"""
    build(podman, "more", text, "--format", "docker", "--build-arg", "WHAT=argument", "--secret", f"id=s,src={secret}",
          "--memory", "64m", "--volume", f"{podman.work}/build-steps:/v:ro").ok()
    podman("run", "--rm", "--network", "none", "localhost/more:1").ok().prints("7\nargument\nContainerfile\nfile")


@checks("commit and diff")
def commit(podman):
    with podman.container("sh", "-c", "echo x >/added; rm /etc/group; sleep 100") as c:
        eventually("it is written", lambda: c.exec("test", "-e", "/added").code == 0)
        podman("diff", c.name).ok().has("A /added").has("D /etc/group")
        podman("commit", c.name, "localhost/committed:1").ok()
    podman("run", "--rm", "--network", "none", "localhost/committed:1", "cat", "/added").ok().prints("x")


@checks("save and load, export and import")
def save_load(podman):
    for form in "docker-archive", "oci-archive":
        podman("tag", image.NAME, "localhost/saved:1").ok()
        podman("save", "--format", form, "--output", f"{podman.work}/{form}.tar", "localhost/saved:1").ok()
        podman("untag", image.NAME, "localhost/saved:1").ok()
        podman("load", "--input", f"{podman.work}/{form}.tar").ok()
        podman("run", "--rm", "--network", "none", "localhost/saved:1", "echo", form).ok().prints(form)
    with podman.container() as c:
        podman("export", "--output", f"{podman.work}/export.tar", c.name).ok()
    podman("import", f"{podman.work}/export.tar", "localhost/imported:1").ok()
    podman("run", "--rm", "--network", "none", "localhost/imported:1", "echo", "again").ok().prints("again")


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@checks("push to a registry on this machine, and pull from it")
def registry(podman):
    program = "/usr/bin/docker-registry"
    if not os.path.exists(program):
        raise Skip("docker-registry is not installed")
    config = write(f"{podman.work}/registry.yml", f"""
version: 0.1
storage: {{filesystem: {{rootdirectory: {podman.work}/registry}}}}
http: {{addr: "127.0.0.1:5000"}}
log: {{level: error}}
""")
    server = subprocess.Popen([program, "serve", config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually("it listens", lambda: listens(5000))
        podman("push", "--tls-verify=false", image.NAME, "127.0.0.1:5000/bb:pushed").ok()
        podman("pull", "--tls-verify=false", "127.0.0.1:5000/bb:pushed").ok()
        podman("run", "--rm", "--network", "none", "--pull", "never", "127.0.0.1:5000/bb:pushed", "echo", "pulled").ok().prints("pulled")
        ran = podman("run", "--rm", "--network", "none", "--pull", "always", "--tls-verify=false", "127.0.0.1:5000/bb:pushed", "echo", "fresh")
        expect(ran.ok().stdout.strip(), "fresh", "stdout")
    finally:
        server.terminate()
        server.wait()
