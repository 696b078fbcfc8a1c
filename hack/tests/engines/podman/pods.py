"""Pods: an infra container whose namespaces the others join. podman builds its image from catatonit, without a network."""

import contextlib
import itertools
import os

import image
from checks import expect, run, status_of, write
from podman.engine import Container, checks
from podman.isolation import KINDS, namespaces, shared

NUMBERS = itertools.count(1)


@contextlib.contextmanager
def pod(podman, *options):
    name = f"pod{next(NUMBERS)}"
    try:
        podman("pod", "create", "--name", name, "--network", "none", *options).ok()
        yield name
    finally:
        podman("pod", "rm", "--force", "--time", "0", name)
        # Where hugetlb is no hierarchy podman makes a plain directory in its place, which it cannot remove.
        if not os.path.ismount("/sys/fs/cgroup/hugetlb"):
            run(["rm", "-rf", "/sys/fs/cgroup/hugetlb"])


@checks("the containers of a pod share its namespaces")
def share(podman):
    with pod(podman, "--hostname", "the-pod") as name:
        for member in "one", "two":
            podman("run", "--detach", "--pod", name, "--name", member, image.NAME, "sleep", "100").ok()
        one, two = (Container(podman, member).pid for member in ("one", "two"))
        names = namespaces(one), namespaces(two)
        expect([kind for kind in KINDS if names[0][kind] == names[1][kind] and kind not in shared(one)],
               ["ipc", "net", "uts"], "the shared namespaces")
        podman("exec", "two", "hostname").ok().prints("the-pod")
        podman("pod", "ps", "--format", "{{.Name}} {{.Status}} {{.NumberOfContainers}}").ok().has(f"{name} Running 3")


@checks("a pod with a shared pid namespace")
def share_pid(podman):
    with pod(podman, "--share", "pid,ipc,net,uts") as name:
        podman("run", "--detach", "--pod", name, "--name", "first", image.NAME, "sleep", "61").ok()
        podman("run", "--rm", "--pod", name, image.NAME, "ps", "-o", "args").ok().has("sleep 61")
        podman("pod", "stop", "--time", "0", name).ok()
        podman("ps", "--format", "{{.Names}}").ok().lacks("first")


@checks("a pod is paused, resumed, stopped, started and restarted as one")
def together(podman):
    with pod(podman) as name:
        podman("run", "--detach", "--pod", name, "--name", "member", "--stop-signal", "KILL", image.NAME, "sleep", "100").ok()
        member = Container(podman, "member")
        for verb, status in ("pause", "paused"), ("unpause", "running"), ("stop", "exited"), ("start", "running"), ("restart", "running"):
            podman("pod", verb, name).ok()
            expect(member.status, status, f"the status after pod {verb}")


@checks("containers of a pod with a user namespace")
def pod_user_namespace(podman):
    with pod(podman, "--uidmap", "0:200000:5000") as name:
        podman("run", "--rm", "--pod", name, image.NAME, "sh", "-c", "id -u; tr -s ' ' </proc/self/uid_map").ok().prints("0\n 0 200000 5000")


def above_the_limit(_):
    """play kube does not heed the default_ulimits of containers.conf."""
    may_raise = int(status_of("self", "CapEff"), 16) >> 24 & 1
    return None if may_raise else "podman play kube asks for more open files than a machine without CAP_SYS_RESOURCE may allow"


@checks("play kube makes a pod of a manifest, and --down removes it", skip=above_the_limit)
def kube(podman):
    manifest = write(f"{podman.work}/pod.yaml", f"""
apiVersion: v1
kind: Pod
metadata:
  name: from-yaml
spec:
  containers:
  - name: main
    image: {image.NAME}
    imagePullPolicy: Never
    command: ["sh", "-c", "echo $WORD; sleep 100"]
    env:
    - name: WORD
      value: manifest
    securityContext:
      readOnlyRootFilesystem: true
      capabilities:
        drop: ["ALL"]
    resources:
      limits:
        memory: 64Mi
""")
    try:
        podman("play", "kube", "--network", "none", manifest).ok()
        podman("logs", "from-yaml-main").ok().prints("manifest")
        podman("exec", "from-yaml-main", "sh", "-c", "grep CapEff /proc/self/status | cut -f2").ok().prints("0" * 16)
        podman("exec", "from-yaml-main", "sh", "-c", "echo x >/new").refused()
    finally:
        podman("play", "kube", "--down", manifest)
        run(["rm", "-rf", "/sys/fs/cgroup/hugetlb"])
