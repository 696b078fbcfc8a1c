//! Which attack works on which peer, of the versions that Debian 12 has: the proof that a case can fail.
//!
//! runc is 1.1.5, crun 1.8.1 (in HULL_TEST_MODE=v1). A case without a line here fails on neither of them: a hull that lacks
//! the protection shows that it can (hack/tests/weakened.toml). docs/attacks.md has both in one table.

use crate::harness::Test;

/// The beginning of the names, the peer, what happens.
const PEERS: &[(&str, &str, &str)] = &[
    ("CVE-2016-3697/a_user_whose", "runc", "1.1 takes the number of a group for a name of the image"),
    ("CVE-2019-16884/a_volume", "runc", "1.1 takes a tmpfs over /proc/self/attr"),
    ("CVE-2019-16884/a_volume", "crun", "1.8 has no guard of /proc"),
    ("CVE-2022-29162/", "crun", "1.8 gives exec --cap only what is added"),
    ("CVE-2023-25809/", "*", "leaves the host's cgroups writable"),
    ("CVE-2024-21626/the_cwd_is", "crun", "1.8 goes to a directory of the host"),
    ("CVE-2024-21626/the_program_is", "crun", "1.8 executes a file of the host"),
    ("CVE-2024-45310/directories_that_are_made_while_swapped", "runc", "1.1 makes directories on the host"),
    ("CVE-2024-45310/files_that_are_made_while_swapped", "runc", "1.1 makes directories on the host"),
    ("CVE-2025-31133/null_", "runc", "1.1 binds the image's /dev/null"),
    ("CVE-2025-52881/kernel_parameters_of", "runc", "1.1 writes to the image's file"),
    ("CVE-2025-52881/kernel_parameters_while", "crun", "1.8 mounts over /proc/sys"),
    ("CVE-2026-30892/", "runc", "1.1 takes 4294967296 for 0"),
    ("CVE-2026-30892/", "crun", "1.8 takes -1 for 0"),
    ("CVE-2026-41579/dev_is_a_link", "*", "makes nodes and links on the host"),
    ("CVE-2026-41579/dev_is_swapped", "*", "makes nodes and links on the host"),
    ("CVE-2026-78408/no_descriptor_leaks", "*", "hands on its caller's descriptors"),
    ("CVE-2024-21626/the_cwd_of_exec", "crun", "1.8 executes a file of the host"),
    ("CVE-2026-84042/", "runc", "finds ps and criu through PATH"),
    ("CVE-2026-88264/", "crun", "1.8 makes a file on the host"),
    ("CVE-2026-88265/", "crun", "1.8 gives a file of the host to the program's user"),
    ("CVE-2026-88265/null_is_a_link_to_a_file/userns", "runc", "1.1 empties a file of the host"),
    ("GHSA-3q8j-pf29-vwv8/readonly", "*", "leaves a copy writable"),
    ("a_cgroups_path_stays", "crun", "1.8 makes directories outside of the hierarchy"),
    ("a_failing_execve", "*", "needs the container's /proc for exec"),
    ("trace/in_the_container/exec", "runc", "has every capability when it can be seen"),
    ("exec_waits_for_no", "runc", "waits for ever, or cannot delete the container"),
    ("exec_cgroup_stays", "crun", "1.8 leaves the container's cgroup by `..`"),
    ("exec_keeps_the_containers_limits", "crun", "1.8 loses no_new_privs"),
    ("ids/paths_are_no_ids", "crun", "1.8 removes a directory of that name"),
    ("ids/links_in_the_state_directory", "crun", "1.8 removes what a link leads to"),
    ("input/an_endless_passwd", "*", "waits for a pipe in place of passwd"),
    ("places/a_link_leads_a_mount", "*", "makes nodes and links in a directory of the host"),
    ("places/a_link_leads_a_device", "*", "makes nodes in a directory of the host"),
    ("places/a_link_leads_to_a_shared", "*", "mounts on the host"),
    ("places/a_remount_through", "*", "changes a file system of the host"),
    ("places/a_dev_that_the_host", "*", "makes nodes and links in a directory of the host"),
    ("places/nodes_that_were_there", "*", "removes the file ptmx"),
    ("places/a_mask_is_no_peer", "crun", "1.8 lets the container mount on the host's /dev/null"),
    ("places/nothing_is_made", "*", "makes files and directories on the host"),
    ("places/stdio_of_exec_leaves", "runc", "needs the container's /dev/null for exec"),
    ("places/a_terminal_on_a_shared", "*", "cannot make a terminal there"),
    ("places/no_mount_namespace", "*", "mounts on the host, or cannot do without /proc"),
    ("runc-1.5.3/", "runc", "makes the host's mounts private"),
    ("runc-5474/", "*", "hands over its own descriptors"),
    ("sockets/a_pid_file", "crun", "1.8 writes through a link of others"),
    ("sockets/a_pid_file", "runc", "1.1 leaves a temporary file"),
    ("sockets/a_console_socket", "crun", "waits for a listener that does not accept"),
    ("sockets/a_seccomp_agent", "*", "waits for an agent that does not read"),
    ("start_waits_for_no", "runc", "waits for ever"),
    ("trace/in_the_parent/a_joined_pid", "*", "lets the owner of its ids trace init"),
    ("trace/in_the_parent/clock_offsets", "crun", "lets the owner of its ids trace init"),
    ("trace/in_the_parent/clock_offsets", "runc", "1.1 has no clock offsets"),
    ("trace/in_the_parent/exec", "runc", "1.1 lets the owner of its ids trace what it adds"),
    ("trace/in_the_parent/hooks", "*", "lets the owner of its ids trace init"),
    ("trace/in_the_parent/idmapped_mounts", "*", "lets the owner of its ids trace init"),
    ("trace/in_the_parent/new_namespaces", "*", "lets the owner of its ids trace init"),
    ("trace/in_the_pid_namespace/clock_offsets", "*", "has no clock offsets, or waits for ever"),
    ("trace/in_the_user_namespace/a_joined_pid", "runc", "1.1 refuses its own pid namespace by path"),
    ("trace/in_the_user_namespace/clock_offsets", "runc", "1.1 has no clock offsets"),
    ("userns/flags_of_a_source_are", "crun", "1.8 does not lock the source's flags"),
    ("userns/flags_of_a_private_source", "crun", "1.8 does not lock the source's flags"),
    ("userns/flags_of_an_idmapped_source", "crun", "1.8 does not lock the source's flags"),
];

/// Notes on the test what is known of peers.
pub fn note(mut test: Test) -> Test {
    for (name, peer, reason) in PEERS {
        if test.name.strip_prefix("security/").is_some_and(|rest| rest.starts_with(name)) {
            test = test.peer(peer, reason);
        }
    }
    test
}
