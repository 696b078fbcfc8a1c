"""The image that every engine is given: busybox, hard links to it, and the few files that a program looks for."""

import os
import subprocess

NAME = "localhost/bb:1"


def root_file_system(directory):
    """Makes the tree and a tar of it, and returns the tar's path. Links are hard: a mask over /bin/ls must not mask all."""
    root = os.path.join(directory, "rootfs")
    for path in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "var", "run", "home"]:
        os.makedirs(os.path.join(root, path))
    os.chmod(os.path.join(root, "tmp"), 0o1777)
    busybox = os.path.join(root, "bin/busybox")
    subprocess.run(["cp", "/bin/busybox", busybox], check=True)
    for applet in subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            os.link(busybox, os.path.join(root, "bin", applet))
    for name, text in {
        "passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\n",
        "group": "root:x:0:\nuser:x:1000:\nmore:x:2000:user\n",
    }.items():
        with open(os.path.join(root, "etc", name), "w", encoding="utf-8") as file:
            file.write(text)
    # Neither a program nor a script: what execve says of it is an error that engines know.
    with open(os.path.join(root, "etc/not-executable"), "w", encoding="utf-8") as file:
        file.write("text\n")
    tar = os.path.join(directory, "rootfs.tar")
    subprocess.run(["tar", "-C", root, "--owner=0", "--group=0", "--numeric-owner", "-cf", tar, "."], check=True)
    return tar
