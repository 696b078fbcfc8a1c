//! Which attack works on which peer, of the versions that Debian 12 has: the proof that a case can fail.
//!
//! runc is 1.1.5, crun 1.8.1 (in HULL_TEST_MODE=v1). A case without a line here fails on neither of them: a hull that lacks
//! the protection shows that it can (hack/weakened.toml). docs/attacks.md has both in one table.

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
    ("exec_cgroup_stays", "crun", "1.8 leaves the container's cgroup by `..`"),
    ("exec_keeps_the_containers_limits", "crun", "1.8 loses no_new_privs"),
    ("ids/paths_are_no_ids", "crun", "1.8 removes a directory of that name"),
    ("ids/links_in_the_state_directory", "crun", "1.8 removes what a link leads to"),
    ("input/an_endless_passwd", "*", "waits for a pipe in place of passwd"),
    ("runc-1.5.3/", "runc", "makes the host's mounts private"),
    ("runc-5474/", "*", "hands over its own descriptors"),
    ("sockets/a_console_socket", "crun", "waits for a listener that does not accept"),
    ("sockets/a_seccomp_agent", "*", "waits for an agent that does not read"),
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
