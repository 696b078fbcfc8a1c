"""Runs the checks of podman as root, in the order of the imports."""

from podman import run, execute, life, isolation, mounts, limits, network, pods, images  # noqa: F401
from podman.engine import Podman, checks

checks.main(Podman)
