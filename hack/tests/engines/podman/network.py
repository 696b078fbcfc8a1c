"""Networks by netavark on a bridge, with published ports and names."""

import contextlib
import urllib.request

import image
from checks import eventually
from podman.engine import checks

SERVER = ["httpd", "-f", "-p", "80", "-h", "/etc"]


def fetch(host, port):
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/passwd", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


@contextlib.contextmanager
def network(podman, name):
    try:
        podman("network", "create", name).ok()
        yield name
    finally:
        podman("network", "rm", "--force", "--time", "0", name)


@checks("a container on a bridge has an address, and the host reaches it")
def bridge(podman):
    with network(podman, "net1") as name:
        with podman.container(*SERVER, options=["--network", name]) as c:
            settings = c.inspect()["NetworkSettings"]["Networks"][name]
            c.exec("ip", "addr").ok().has(settings["IPAddress"])
            eventually("it answers", lambda: "root:" in fetch(settings["IPAddress"], 80))


@checks("a published port")
def published(podman):
    with network(podman, "net2") as name:
        with podman.container(*SERVER,
                              options=["--network", name, "--publish", "127.0.0.1:8080:80"]) as c:
            eventually("it answers", lambda: "root:" in fetch("127.0.0.1", 8080))
            podman("port", c.name).ok().has("80/tcp -> 127.0.0.1:8080")


@checks("containers of one network know each other by name")
def names(podman):
    with network(podman, "net3") as name:
        with podman.container(*SERVER, options=["--network", name, "--network-alias", "web"]):
            fetch_inside = ["run", "--rm", "--network", name, image.NAME, "wget", "-qO-", "http://web/passwd"]
            eventually("it answers", lambda: "root:" in podman(*fetch_inside).stdout)


@checks("a network is connected to and disconnected from a running container")
def connect(podman):
    with network(podman, "net4") as one, network(podman, "net5") as two:
        with podman.container(options=["--network", one]) as c:
            podman("network", "connect", two, c.name).ok()
            c.exec("ip", "-o", "link").ok().has("eth1")
            podman("network", "disconnect", two, c.name).ok()
            c.exec("ip", "-o", "link").ok().lacks("eth1")
