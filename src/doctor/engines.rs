//! Configurations of container engines on this host, and whether they know hull.

use std::path::{Path, PathBuf};

use super::{Findings, Status, Whom, read};

/// Engine, the file that names its runtimes (relative: in the user's configuration directory), and what to write there.
const FILES: [(&str, &str, &str); 7] = [
    ("podman", "/etc/containers/containers.conf", "[engine.runtimes] hull = [\"/usr/local/bin/hull\"]"),
    ("podman", "containers/containers.conf", "[engine.runtimes] hull = [\"/usr/local/bin/hull\"]"),
    ("docker", "/etc/docker/daemon.json", "\"runtimes\": {\"hull\": {\"path\": \"/usr/local/bin/hull\"}}"),
    ("docker", "docker/daemon.json", "\"runtimes\": {\"hull\": {\"path\": \"/usr/local/bin/hull\"}}"),
    (
        "containerd",
        "/etc/containerd/config.toml",
        "runtimes.hull with runtime_type io.containerd.runc.v2 and options.BinaryName",
    ),
    ("cri-o", "/etc/crio/crio.conf", "[crio.runtime.runtimes.hull] runtime_path = \"/usr/local/bin/hull\""),
    ("nomad", "/etc/nomad.d/nomad.hcl", "a docker or podman engine that has hull as a runtime"),
];

pub(super) fn look(out: &mut Findings) {
    (out.area, out.whom) = ("engines", Whom::All);
    let home = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".config")));
    let mut found = false;
    for (engine, file, lines) in FILES {
        let path = match file.starts_with('/') {
            true => PathBuf::from(file),
            false => match &home {
                Some(home) => home.join(file),
                None => continue,
            },
        };
        let Some(text) = read(&path) else { continue };
        found = true;
        let path = path.display();
        match names_hull(&text) {
            true => out.add(engine, Status::Ok, format!("{path} names hull"), ""),
            false => out.add(engine, Status::Note, format!("{path} does not name hull"), &format!("add {lines}")),
        }
    }
    if !found {
        out.add(
            "configuration",
            Status::Note,
            "no engine's configuration is found",
            "podman --runtime hull needs none",
        );
    }
}

/// Whether a line that is no comment has the word.
fn names_hull(text: &str) -> bool {
    let is_word = |line: &str| line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "hull");
    text.lines().map(str::trim_start).any(|line| !line.starts_with('#') && is_word(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_and_another_word_do_not_name_hull() {
        assert!(names_hull("[engine.runtimes]\nhull = [\"/usr/local/bin/hull\"]\n"));
        assert!(names_hull(r#"{"runtimes":{"hull":{"path":"/x"}}}"#));
        assert!(!names_hull("# hull = 1\nshull = 2\n"));
    }
}
