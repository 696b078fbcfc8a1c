"""Docker Swarm with two nodes, each a daemon in a network namespace of its own, joined by a bridge."""

import json
import os
import signal

import image
from checks import Checks, eventually, expect, run
from docker import Docker

checks = Checks("swarm")


class Node(Docker):
    # Swarm and live-restore exclude each other.
    settings = {}

    def __init__(self, number):
        self.number = number
        self.work = f"/tmp/swarm/node{number}"
        self.address = f"10.99.0.{number}"
        name = f"node{number}"
        # Both would name the namespaces of one network alike, in /run/docker.
        script = f'hostname {name} && mkdir -p /run/docker && mount -t tmpfs tmpfs /run/docker && exec "$@"'
        self.prefix = ["nsenter", f"--net=/run/netns/{name}", "unshare", "--uts", "--mount", "sh", "-c", script, "sh"]
        os.makedirs(self.work)
        for words in (["netns", "add", name], ["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name],
                      ["link", "set", name, "master", "swarm0", "up"], ["-n", name, "link", "set", "lo", "up"],
                      ["-n", name, "addr", "add", f"{self.address}/24", "dev", "eth0"], ["-n", name, "link", "set", "eth0", "up"]):
            run(["ip", *words]).ok()
        super().__init__()

    def pids(self, text):
        """The first processes of this node's containers whose command has this text."""
        found = []
        for container in self("ps", "--quiet", "--no-trunc").ok().stdout.split():
            # One that has been removed meanwhile prints an empty list.
            for state in json.loads(self("inspect", container).stdout):
                if text in " ".join([state["Path"], *state["Args"]]):
                    found.append(state["State"]["Pid"])
        return found


class Swarm:
    def __init__(self):
        run(["ip", "link", "add", "swarm0", "type", "bridge"]).ok()
        run(["ip", "link", "set", "swarm0", "up"]).ok()
        self.nodes = [Node(1), Node(2)]
        self.manager, self.worker = self.nodes
        self.manager("swarm", "init", "--advertise-addr", self.manager.address).ok()
        self.join()

    def join(self):
        token = self.manager("swarm", "join-token", "--quiet", "worker").ok().stdout.strip()
        self.worker("swarm", "join", "--token", token, f"{self.manager.address}:2377").ok()
        eventually("both are ready", lambda: self.manager("node", "ls", "--format", "{{.Status}}").ok().stdout.split() == ["Ready"] * 2)

    def __call__(self, *words, **how):
        return self.manager(*words, **how)

    def tasks(self, service):
        """Node and state of each task that should run."""
        ran = self("service", "ps", "--filter", "desired-state=running", "--format", "{{.Node}} {{.CurrentState}}", service)
        return [line.split()[:2] for line in ran.stdout.splitlines()]

    def running(self, service, count, deadline=90):
        def enough():
            tasks = self.tasks(service)
            return len(tasks) == count and all(state == "Running" for _, state in tasks) and tasks
        return eventually(f"{count} tasks of {service} run", enough, deadline)

    def end(self):
        for name in self("service", "ls", "--quiet").stdout.split():
            self("service", "rm", name)
        for node in reversed(self.nodes):
            node("swarm", "leave", "--force")
            node.end()


@checks("a service runs on two nodes")
def service(swarm):
    swarm("service", "create", "--detach", "--name", "web", "--replicas", "4", "--no-resolve-image", "--stop-grace-period", "1s",
          image.NAME, "sleep", "100000").ok()
    tasks = swarm.running("web", 4)
    expect({node for node, _ in tasks}, {"node1", "node2"}, "the nodes that run it")
    for node in swarm.nodes:
        pids = node.pids("sleep 100000")
        expect(len(pids), sum(name == f"node{node.number}" for name, _ in tasks), f"the processes on node{node.number}")


@checks("tasks on both nodes are found by the service's name, and share the work")
def discovery(swarm):
    # Turns by DNS: a virtual address needs IPVS, which not every kernel has.
    try:
        swarm("network", "create", "--driver", "overlay", "--attachable", "app").ok()
        swarm("service", "create", "--detach", "--name", "site", "--replicas", "2", "--replicas-max-per-node", "1", "--no-resolve-image",
              "--network", "app", "--endpoint-mode", "dnsrr", "--stop-grace-period", "1s", image.NAME,
              "sleep", "100000").ok()
        tasks = swarm.running("site", 2)
        expect({node for node, _ in tasks}, {"node1", "node2"}, "the nodes that run it")
        swarm("run", "--detach", "--name", "client", "--network", "app", image.NAME, "sleep", "100").ok()

        def addresses():
            lines = swarm("exec", "client", "nslookup", "site", "127.0.0.11").stdout.split("Name:", 1)[-1].splitlines()
            return [line.split()[-1] for line in lines if line.startswith("Address")]
        found = eventually("both answer to the name", lambda: len(addresses()) == 2 and set(addresses()))
        eventually("each comes first in its turn", lambda: addresses()[0] != addresses()[0])
        for address in found:
            eventually(f"{address} is reached", lambda: swarm("exec", "client", "ping", "-c", "1", "-W", "2", address).code == 0)
        here = swarm("ps", "--quiet", "--filter", "name=site.").ok().stdout.split()
        networks = json.loads(swarm("inspect", *here).ok().stdout)[0]["NetworkSettings"]["Networks"]
        expect(len(found - {networks["app"]["IPAddress"]}), 1, "the number of those on the other node")
    finally:
        swarm("rm", "--force", "client")
        swarm("service", "rm", "site")
        eventually("the network is free", lambda: swarm("network", "rm", "app").code == 0 or "not found" in swarm("network", "inspect", "app").stderr.lower())


@checks("the service is scaled to twenty, and back to six")
def scale(swarm):
    swarm("service", "scale", "--detach", "web=20").ok()
    swarm.running("web", 20, 120)
    swarm("service", "scale", "--detach", "web=6").ok()
    swarm.running("web", 6)
    eventually("the others have gone", lambda: sum(len(node.pids("sleep 100000")) for node in swarm.nodes) == 6, 60)


@checks("a task that is killed is replaced")
def heal(swarm):
    before = swarm.worker.pids("sleep 100000")
    os.kill(before[0], signal.SIGKILL)
    eventually("the process has gone", lambda: before[0] not in swarm.worker.pids("sleep 100000"))
    swarm.running("web", 6)


@checks("a rolling update replaces every task")
def update(swarm):
    swarm("service", "update", "--detach", "--update-parallelism", "3", "--args", "sleep 200000", "--no-resolve-image", "web").ok()
    eventually("all are new", lambda: sum(len(node.pids("sleep 200000")) for node in swarm.nodes) == 6, 120)
    swarm.running("web", 6)


@checks("a drained node hands its tasks to the other")
def drain(swarm):
    swarm("node", "update", "--availability", "drain", "node2").ok()
    eventually("all run on node1", lambda: {node for node, _ in swarm.running("web", 6)} == {"node1"}, 60)
    eventually("none is left", lambda: swarm.worker("ps", "--quiet").ok().stdout.strip() == "", 60)
    swarm("node", "update", "--availability", "active", "node2").ok()


@checks("a global service, with limits, a secret and a health check")
def global_service(swarm):
    swarm("secret", "create", "hidden", "-", stdin="the secret\n").ok()
    swarm("service", "create", "--detach", "--name", "everywhere", "--mode", "global", "--secret", "hidden", "--no-resolve-image",
          "--limit-memory", "64m", "--health-cmd", "test -e /run/secrets/hidden", "--health-interval", "300ms", "--stop-grace-period", "1s",
          image.NAME, "sleep", "300000").ok()
    swarm.running("everywhere", 2)
    for node in swarm.nodes:
        name = node("ps", "--quiet", "--filter", "name=everywhere").ok().stdout.strip()
        node("exec", name, "cat", "/run/secrets/hidden").ok().prints("the secret")
        eventually("it is healthy", lambda: json.loads(node("inspect", name).stdout)[0]["State"]["Health"]["Status"] == "healthy")


@checks("the tasks of a node that dies run on the other, and the node comes back")
def node_dies(swarm):
    swarm.worker.stop_daemon(signal.SIGKILL)
    eventually("it is down", lambda: "Down" in swarm("node", "ls", "--format", "{{.Status}}").stdout, 60)
    eventually("all run on node1", lambda: {node for node, _ in swarm.running("web", 6, 120)} == {"node1"}, 60)
    if os.path.exists(f"{swarm.worker.work}/docker.pid"):
        os.remove(f"{swarm.worker.work}/docker.pid")
    swarm.worker.start_daemon()
    eventually("both are ready", lambda: swarm("node", "ls", "--format", "{{.Status}}").stdout.split() == ["Ready"] * 2, 60)
    eventually("it runs what is everywhere, once", lambda: len(swarm.worker.pids("sleep 300000")) == 1, 60)


@checks("services are removed, and their containers with them")
def remove(swarm):
    swarm("service", "rm", "web", "everywhere").ok()
    for node in swarm.nodes:
        eventually("none is left", lambda: node("ps", "--all", "--quiet").ok().stdout.strip() == "", 60)


if __name__ == "__main__":
    checks.main(Swarm)
