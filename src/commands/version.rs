//! `hull --version`: three lines that engines read.

/// The version of hull, its commit, and the version of the specification. go-runc and dockerd see a version only where
/// the first line begins with `runc version `, so a program called through a link named `runc` prints that.
pub fn version(program: &str) -> String {
    let name = if program == "runc" { "runc" } else { "hull" };
    let commit = env!("HULL_COMMIT");
    format!("{name} version {}\ncommit: {commit}\nspec: {}\n", env!("CARGO_PKG_VERSION"), crate::spec::VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_follows_the_name() {
        let text = version("hull");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], format!("hull version {}", env!("CARGO_PKG_VERSION")));
        assert!(lines[1].strip_prefix("commit: ").is_some_and(|commit| !commit.is_empty()));
        assert_eq!(lines[2], "spec: 1.3.0");
        assert!(version("runc").starts_with("runc version "));
        assert!(version("my-runc").starts_with("hull version "));
    }
}
