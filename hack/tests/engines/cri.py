"""Kubernetes' Container Runtime Interface: what a kubelet says to containerd, said by a gRPC client of our own.

Runs under Debian's own python3, whose packages it needs. The image of the pod's first container is a copy of the
ordinary one, whose program waits: this is a machine without a registry.
"""

import base64
import contextlib
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.parse

import grpc

import containerd
import image
from checks import Checks, Failed, cgroup_file, eventually, expect, read, status_of, write

WORK = containerd.WORK
NUMBERS = itertools.count(1)
checks = Checks("cri")

subprocess.run(["protoc", f"--proto_path={os.path.dirname(__file__)}", "--python_out=/run/engines", "cri.proto"], check=True)
sys.path.append("/run/engines")
import cri_pb2 as cri  # noqa: E402

CALLS = {
    "Version": (cri.Version, cri.Version), "Status": (cri.Empty, cri.StatusResponse),
    "RunPodSandbox": (cri.RunPod, cri.PodId), "StopPodSandbox": (cri.PodId, cri.Empty), "RemovePodSandbox": (cri.PodId, cri.Empty),
    "PodSandboxStatus": (cri.PodStatusRequest, cri.PodStatusResponse),
    "CreateContainer": (cri.CreateContainer, cri.ContainerId), "StartContainer": (cri.ContainerId, cri.Empty),
    "StopContainer": (cri.StopContainer, cri.Empty), "RemoveContainer": (cri.ContainerId, cri.Empty),
    "ContainerStatus": (cri.ContainerStatusRequest, cri.ContainerStatusResponse),
    "UpdateContainerResources": (cri.UpdateResources, cri.Empty), "ContainerStats": (cri.ContainerId, cri.StatsResponse),
    "ExecSync": (cri.ExecSyncRequest, cri.ExecSyncResponse), "Exec": (cri.ExecRequest, cri.Url),
    "Attach": (cri.AttachRequest, cri.Url), "PortForward": (cri.PortForwardRequest, cri.Url),
}
CREATED, RUNNING, EXITED = 0, 1, 2
NETWORK = {
    "cniVersion": "0.4.0", "name": "engines",
    "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "ipam": {
            "type": "host-local", "ranges": [[{"subnet": "10.88.77.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


class Kubelet(containerd.Daemon):
    namespace = "k8s.io"

    def __init__(self):
        write(f"{WORK}/cni/10-engines.conflist", json.dumps(NETWORK))
        super().__init__()
        self.channel = grpc.insecure_channel(f"unix://{containerd.SOCKET}")

    def call(self, name, **fields):
        request, response = CALLS[name]
        method = self.channel.unary_unary(f"/runtime.v1.RuntimeService/{name}", request_serializer=request.SerializeToString,
                                          response_deserializer=response.FromString)
        return method(request(**fields), timeout=60)

    def refused(self, name, **fields):
        """The message of a call that must fail."""
        try:
            self.call(name, **fields)
        except grpc.RpcError as error:
            return error.details()
        raise Failed(f"{name} was expected to fail")

    @contextlib.contextmanager
    def pod(self, handler="", hostname="the-pod", **linux):
        number = next(NUMBERS)
        # Without networks of its own unless a check asks for them: most have nothing to do with CNI.
        network = linux.pop("network", cri.NODE)
        ports = linux.pop("port_mappings", [])
        pid = linux.pop("pid", cri.CONTAINER)
        config = cri.PodConfig(
            metadata=cri.PodMetadata(name=f"pod{number}", uid=f"uid{number}", namespace="default"), log_directory=f"{WORK}/logs/{number}",
            hostname="" if network == cri.NODE else hostname, port_mappings=ports, annotations={"some.key": "kept"},
            linux=cri.LinuxPod(security_context=cri.SandboxSecurity(
                namespace_options=cri.NamespaceOption(network=network, pid=pid), privileged=linux.pop("privileged", False)), **linux))
        os.makedirs(config.log_directory, exist_ok=True)
        identity = self.call("RunPodSandbox", config=config, runtime_handler=handler).pod_sandbox_id
        try:
            yield Pod(self, identity, config)
        finally:
            self.call("StopPodSandbox", pod_sandbox_id=identity)
            self.call("RemovePodSandbox", pod_sandbox_id=identity)


class Pod:
    def __init__(self, kubelet, identity, config):
        self.kubelet = kubelet
        self.id = identity
        self.config = config

    def create(self, *command, security=None, resources=None, **fields):
        options = self.config.linux.security_context.namespace_options
        security = cri.ContainerSecurity(**{"namespace_options": options, **(security or {})})
        number = next(NUMBERS)
        config = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name=f"c{number}"), image=cri.ImageSpec(image=image.NAME),
            command=command or ["sleep", "100"], log_path=f"{number}.log",
            linux=cri.LinuxContainer(resources=resources, security_context=security), **fields)
        identity = self.kubelet.call("CreateContainer", pod_sandbox_id=self.id, config=config, sandbox_config=self.config).container_id
        return Container(self.kubelet, identity, f"{self.config.log_directory}/{number}.log")

    def start(self, *command, **fields):
        container = self.create(*command, **fields)
        container.call("StartContainer")
        return container

    def run(self, *command, **fields):
        """Runs a container to its end: status and output."""
        container = self.start(*command, **fields)
        eventually("it has ended", lambda: container.status.state == EXITED)
        return container.status.exit_code, container.output

    @property
    def status(self):
        return self.kubelet.call("PodSandboxStatus", pod_sandbox_id=self.id).status


class Container:
    def __init__(self, kubelet, identity, log):
        self.kubelet = kubelet
        self.id = identity
        self.log = log

    def call(self, name, **fields):
        return self.kubelet.call(name, container_id=self.id, **fields)

    @property
    def status(self):
        return self.call("ContainerStatus").status

    @property
    def pid(self):
        return json.loads(self.call("ContainerStatus", verbose=True).info["info"])["pid"]

    @property
    def output(self):
        """What the program printed, from the log of the interface: time, stream, tag and text in a line."""
        return "".join(line.split(" ", 3)[3] + "\n" for line in read(self.log).splitlines())

    def exec(self, *command, timeout=0):
        answer = self.call("ExecSync", cmd=command, timeout=timeout)
        return answer.exit_code, answer.stdout.decode(), answer.stderr.decode()


class WebSocket:
    """The streaming part of the interface: a first byte of each message says which stream it belongs to."""

    def __init__(self, url, protocol):
        parts = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=30)
        self.socket.sendall((f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\n"
                             f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {protocol}\r\n"
                             f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n").encode())
        self.file = self.socket.makefile("rb")
        expect(self.file.readline().split()[1], b"101", "the answer to the upgrade")
        while self.file.readline().strip():
            pass

    def send(self, stream, data):
        payload = bytes([stream]) + data
        # A client's mask may be zeroes.
        self.socket.sendall(bytes([0x82, 0x80 | 126]) + struct.pack(">H", len(payload)) + bytes(4) + payload)

    def messages(self):
        """Yields stream and data until the other side closes."""
        while True:
            head = self.file.read(2)
            if len(head) < 2 or head[0] & 15 == 8:
                return
            length = head[1] & 127
            if length == 126:
                length = struct.unpack(">H", self.file.read(2))[0]
            elif length == 127:
                length = struct.unpack(">Q", self.file.read(8))[0]
            data = self.file.read(length)
            if head[0] & 15 in (1, 2) and data:
                yield data[0], data[1:]

    def outputs(self):
        streams = {}
        for stream, data in self.messages():
            streams[stream] = streams.get(stream, b"") + data
        return streams


@checks("the runtime is ready, and a pod runs with the default handler and with its own name")
def ready(kubelet):
    conditions = {c.type: c.status for c in kubelet.call("Status").status.conditions}
    expect(conditions, {"RuntimeReady": True, "NetworkReady": True}, "the conditions")
    for handler in "", "hull":
        with kubelet.pod(handler=handler) as pod:
            expect(pod.status.state, 0, "the pod's state")
            expect(pod.run("echo", "hi"), (0, "hi\n"), "status and output")
    message = kubelet.refused("RunPodSandbox", runtime_handler="nosuch", config=cri.PodConfig(
        metadata=cri.PodMetadata(name="x", uid="x", namespace="default"), linux=cri.LinuxPod()))
    expect("nosuch" in message, True, f"the unknown handler is named in {message!r}")


@checks("create, start, status, stop, remove")
def life(kubelet):
    with kubelet.pod() as pod:
        c = pod.create("sh", "-c", "trap 'exit 33' TERM; while :; do sleep 0.1; done")
        expect(c.status.state, CREATED, "the state")
        c.call("StartContainer")
        expect(c.status.state, RUNNING, "the state")
        time.sleep(0.5)
        c.call("StopContainer", timeout=20)
        expect((c.status.state, c.status.exit_code), (EXITED, 33), "state and exit code")
        c.call("StopContainer", timeout=20)
        c.call("RemoveContainer")


@checks("stop kills after its time")
def stop(kubelet):
    with kubelet.pod() as pod:
        c = pod.start("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
        time.sleep(0.3)
        c.call("StopContainer", timeout=1)
        expect((c.status.state, c.status.exit_code), (EXITED, 137), "state and exit code")


@checks("exit statuses, and a program that cannot be run")
def statuses(kubelet):
    with kubelet.pod() as pod:
        for code in 0, 3, 255:
            expect(pod.run("sh", "-c", f"exit {code}")[0], code, "the exit code")
        c = pod.create("/nosuch")
        message = kubelet.refused("StartContainer", container_id=c.id)
        expect("no such file or directory" in message.lower(), True, f"the reason is in {message!r}")
        expect(c.status.state, EXITED, "the state")


@checks("exec: output, status, time-out, a missing program")
def exec_sync(kubelet):
    with kubelet.pod() as pod:
        c = pod.start()
        expect(c.exec("sh", "-c", "echo out; echo err >&2; exit 3"), (3, "out\n", "err\n"), "the answer")
        message = kubelet.refused("ExecSync", container_id=c.id, cmd=["sleep", "100"], timeout=1)
        expect("timed out" in message or "deadline" in message.lower() or "timeout" in message, True, f"the message {message!r}")
        message = kubelet.refused("ExecSync", container_id=c.id, cmd=["/nosuch"])
        expect("no such file or directory" in message.lower(), True, f"the reason is in {message!r}")
        expect(c.exec("echo", "still")[1], "still\n", "what exec prints afterwards")


@checks("exec as a stream, with stdin, and with a terminal")
def exec_stream(kubelet):
    with kubelet.pod() as pod:
        c = pod.start()
        url = c.call("Exec", cmd=["sh", "-c", "read word; echo got $word; echo err >&2; exit 4"], stdin=True, stdout=True, stderr=True).url
        stream = WebSocket(url, "v4.channel.k8s.io")
        stream.send(0, b"this\n")
        streams = stream.outputs()
        expect((streams[1], streams[2]), (b"got this\n", b"err\n"), "the streams")
        expect(json.loads(streams[3])["details"]["causes"][0]["message"], "4", "the status")
        url = c.call("Exec", cmd=["sh", "-c", "tty; exit 0"], tty=True, stdin=True, stdout=True).url
        expect(b"/dev/pts/" in WebSocket(url, "v4.channel.k8s.io").outputs()[1], True, "a terminal")


@checks("attach gets what is printed from then on")
def attach(kubelet):
    with kubelet.pod() as pod:
        c = pod.start("sh", "-c", "read word; echo got $word", stdin=True, stdin_once=True)
        stream = WebSocket(c.call("Attach", stdin=True, stdout=True, stderr=True).url, "v4.channel.k8s.io")
        stream.send(0, b"this\n")
        expect(stream.outputs()[1], b"got this\n", "the output")


@checks("update changes the limits, and no device rule")
def update(kubelet):
    with kubelet.pod() as pod:
        c = pod.start(resources=cri.Resources(memory_limit_in_bytes=64 << 20, cpu_period=100000, cpu_quota=50000, cpu_shares=512))
        name = ("memory.limit_in_bytes", "memory.max")
        expect(cgroup_file("memory", c.pid, name), str(64 << 20), "the limit of create")
        expect(cgroup_file("cpu", c.pid, ("cpu.cfs_quota_us", "cpu.max")).split()[0], "50000", "the quota")
        c.call("UpdateContainerResources", linux=cri.Resources(memory_limit_in_bytes=96 << 20, cpu_period=100000, cpu_quota=20000))
        expect(cgroup_file("memory", c.pid, name), str(96 << 20), "the limit of update")
        expect(cgroup_file("cpu", c.pid, ("cpu.cfs_quota_us", "cpu.max")).split()[0], "20000", "the quota of update")
        expect(c.exec("sh", "-c", "head -c 3 /dev/zero | wc -c")[1], "3\n", "what is read from /dev/zero")


@checks("stats are read from the cgroup")
def stats(kubelet):
    with kubelet.pod() as pod:
        c = pod.start("sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 100")
        eventually("cpu time is counted", lambda: c.call("ContainerStats").stats.cpu.usage_core_nano_seconds.value > 0)


@checks("the log of a container has both streams, in the interface's form")
def log(kubelet):
    with kubelet.pod() as pod:
        c = pod.start("sh", "-c", "echo out; echo err >&2")
        eventually("it has ended", lambda: c.status.state == EXITED)
        eventually("both are there", lambda: {line.split()[1] for line in read(c.log).splitlines()} == {"stdout", "stderr"})


@checks("security: user, groups, capabilities, read-only root, no_new_privs, seccomp, masks")
def security(kubelet):
    with kubelet.pod() as pod:
        fields = {"run_as_user": cri.Int64Value(value=1000), "run_as_group": cri.Int64Value(value=2000), "supplemental_groups": [3000]}
        expect(pod.run("sh", "-c", "id -u; id -g; id -G", security=fields)[1].split()[:2], ["1000", "2000"], "user and group")
        drop = {"capabilities": cri.Capability(drop_capabilities=["ALL"], add_capabilities=["NET_ADMIN"])}
        expect(int(pod.run("sh", "-c", "grep CapEff /proc/self/status | cut -f2", security=drop)[1], 16), 1 << 12, "the capabilities")
        expect(pod.run("sh", "-c", "echo x >/new", security={"readonly_rootfs": True})[0], 1, "the status of a write")
        nnp = {"no_new_privs": True, "seccomp": cri.SecurityProfile(profile_type=0)}
        expect(pod.run("sh", "-c", "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | cut -f2", security=nnp)[1], "1\n2\n", "no_new_privs and seccomp")
        masks = {"masked_paths": ["/etc"], "readonly_paths": ["/proc/sys"]}
        expect(pod.run("sh", "-c", "ls /etc | wc -l; echo x >/proc/sys/kernel/domainname", security=masks)[0], 1, "the status of a write")
        expect(pod.run("sh", "-c", "ls /etc | wc -l", security=masks)[1], "0\n", "the number of files in /etc")


@checks("namespaces: pid of the pod, of the container, of the node; ipc of the pod")
def namespaces(kubelet):
    with kubelet.pod(pid=cri.POD) as pod:
        one, two = pod.start("sleep", "61"), pod.start("sleep", "62")
        for kind in "pid", "ipc":
            expect(os.readlink(f"/proc/{one.pid}/ns/{kind}"), os.readlink(f"/proc/{two.pid}/ns/{kind}"), kind)
        expect("sleep 62" in one.exec("ps", "-o", "args")[1], True, "the other's process is seen")
        one.call("StopContainer", timeout=0)
        expect(two.status.state, RUNNING, "the other one's state")
    with kubelet.pod(pid=cri.NODE) as pod:
        expect(os.readlink(f"/proc/{pod.start().pid}/ns/pid"), os.readlink("/proc/self/ns/pid"), "the pid namespace")
    with kubelet.pod() as pod:
        one, two = pod.start(), pod.start()
        expect(os.readlink(f"/proc/{one.pid}/ns/pid") != os.readlink(f"/proc/{two.pid}/ns/pid"), True, "two pid namespaces")


@checks("mounts: read-only, and with propagation; a device; environment and directory")
def mounts(kubelet):
    write(f"{WORK}/mounted/file", "from the host\n")
    with kubelet.pod() as pod:
        mount = [cri.Mount(container_path="/v", host_path=f"{WORK}/mounted", readonly=True)]
        expect(pod.run("sh", "-c", "cat /v/file; echo x >/v/new", mounts=mount), (1, "from the host\nsh: can't create /v/new: Read-only file system\n"), "status and output")
        for propagation, arrives in (0, False), (1, True), (2, True):
            base = f"{WORK}/propagation{propagation}"
            os.makedirs(f"{base}/below")
            c = pod.start(mounts=[cri.Mount(container_path="/v", host_path=base, propagation=propagation)])
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{base}/below"], check=True)
            expect("/v/below" in read(f"/proc/{c.pid}/mounts"), arrives, f"a later mount is seen with {propagation}")
            c.call("StopContainer", timeout=0)
            subprocess.run(["umount", f"{base}/below"], check=True)
        device = [cri.Device(container_path="/dev/mine", host_path="/dev/zero", permissions="r")]
        expect(pod.run("sh", "-c", "head -c 4 /dev/mine | wc -c", devices=device), (0, "4\n"), "what is read")
        env = [cri.KeyValue(key="A", value="b c")]
        expect(pod.run("sh", "-c", "echo $A; pwd", envs=env, working_dir="/etc"), (0, "b c\n/etc\n"), "the output")


@checks("cgroup_parent, also in the form of a slice, which is then a plain path")
def cgroup_parent(kubelet):
    for parent, path in ("/some/pod", "/some/pod/"), ("test.slice", "/"):
        with kubelet.pod(cgroup_parent=parent) as pod:
            c = pod.start()
            paths = {line.split(":", 2)[2] for line in read(f"/proc/{c.pid}/cgroup").splitlines() if "/machine" not in line}
            expect(all(p.startswith(path) and c.id in p for p in paths) and len(paths) == 1, True, f"the cgroups {paths} are below {path}")


@checks("sysctls of a pod")
def sysctls(kubelet):
    with kubelet.pod(network=cri.POD, sysctls={"net.ipv4.ip_default_ttl": "77"}) as pod:
        expect(pod.run("cat", "/proc/sys/net/ipv4/ip_default_ttl"), (0, "77\n"), "the value")


@checks("a pod's network: an address, a host port, port forwarding, the host name")
def network(kubelet):
    with kubelet.pod(network=cri.POD, port_mappings=[cri.PortMapping(container_port=80, host_port=8080, host_ip="127.0.0.1")]) as pod:
        c = pod.start("httpd", "-f", "-p", "80", "-h", "/etc")
        address = pod.status.network.ip
        expect(c.exec("hostname")[1], "the-pod\n", "the host name")
        expect(address in c.exec("ip", "addr")[1], True, f"the address {address} is there")
        eventually("it answers", lambda: "root:" in fetch(address, 80))
        url = kubelet.call("PortForward", pod_sandbox_id=pod.id, port=[80]).url
        stream = WebSocket(url, "v4.channel.k8s.io")
        expect(forwarded(stream), True, "the port that is forwarded answers")


def fetch(host, port):
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5) as client:
        client.sendall(b"GET /passwd HTTP/1.0\r\n\r\n")
        return client.makefile().read()
    return ""


def forwarded(stream):
    """The first message of each stream is the port's number; then it is the connection's bytes."""
    stream.send(0, b"GET /passwd HTTP/1.0\r\n\r\n")
    data = b""
    for number, piece in stream.messages():
        data += piece if number == 0 else b""
        if b"root:" in data:
            return True
    return False


@checks("a privileged container", skip=lambda _: "the machine lacks a capability that privileged asks for"
        if int(status_of("self", "CapBnd"), 16) != (1 << int(read("/proc/sys/kernel/cap_last_cap")) + 1) - 1 else None)
def privileged(kubelet):
    with kubelet.pod(privileged=True) as pod:
        expect(pod.run("sh", "-c", "mkdir /m && mount -t tmpfs none /m && echo mounted", security={"privileged": True}), (0, "mounted\n"), "the answer")


@checks("a program above its memory is killed with 137")
def out_of_memory(kubelet):
    with kubelet.pod() as pod:
        c = pod.start("sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1; exit $?", resources=cri.Resources(memory_limit_in_bytes=32 << 20))
        eventually("it has ended", lambda: c.status.state == EXITED)
        expect(c.status.exit_code, 137, "the exit code")


@checks("removing a pod removes its running containers, and nothing is left")
def remove(kubelet):
    with kubelet.pod() as pod:
        c = pod.start()
        pid, identity = c.pid, c.id
    expect(os.path.exists(f"/proc/{pid}"), False, "the process is there")
    expect([p for p, _, _ in os.walk("/sys/fs/cgroup") if identity in p], [], "the cgroups that are left")
    expect(os.listdir(f"{WORK}/state/io.containerd.runtime.v2.task/k8s.io"), [], "the bundles that are left")


@checks("fifty containers in ten pods, one after another, leave nothing")
def many(kubelet):
    for _ in range(10):
        with kubelet.pod() as pod:
            expect([pod.run("sh", "-c", f"exit {i}")[0] for i in range(5)], list(range(5)), "the statuses")
    expect(os.listdir(f"{WORK}/state/io.containerd.runtime.v2.task/k8s.io"), [], "the bundles that are left")


if __name__ == "__main__":
    checks.main(Kubelet)
