"""podman as root, from Debian's package, in a store of its own and with the cgroupfs manager."""
