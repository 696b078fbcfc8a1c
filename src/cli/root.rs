//! Where state is kept when --root does not say: `/run/hull` for the host's root, `$XDG_RUNTIME_DIR/hull` for others.
//!
//! Root inside a user namespace is not the host's root: podman without root calls hull as uid 0 of its own user
//! namespace, and with root it calls hull with an empty XDG_RUNTIME_DIR, which means unset. Without XDG_RUNTIME_DIR an
//! ordinary user gets `/run/hull` too, as runc has it, and so the kernel's refusal: a directory in /tmp could be made
//! by another user first.

use std::ffi::OsString;
use std::path::PathBuf;

/// The default directory, and whether it is the user's own runtime directory.
pub fn default_root(
    euid: u32,
    runtime_dir: Option<OsString>,
    in_user_namespace: impl FnOnce() -> bool,
) -> (PathBuf, bool) {
    match runtime_dir.filter(|dir| !dir.is_empty()) {
        Some(dir) if euid != 0 || in_user_namespace() => (PathBuf::from(dir).join("hull"), true),
        _ => (PathBuf::from("/run/hull"), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_depends_on_who_asks() {
        let root = |euid, dir: Option<&str>, inside| {
            let (path, own) = default_root(euid, dir.map(OsString::from), || inside);
            (path.to_str().unwrap().to_owned(), own)
        };
        let host = ("/run/hull".to_owned(), false);
        let own = ("/run/user/7/hull".to_owned(), true);
        assert_eq!(root(0, None, true), host);
        assert_eq!(root(0, Some(""), true), host);
        assert_eq!(root(0, Some("/run/user/7"), false), host);
        assert_eq!(root(0, Some("/run/user/7"), true), own);
        assert_eq!(root(7, Some("/run/user/7"), false), own);
        assert_eq!(root(7, Some(""), false), host);
        assert_eq!(root(7, None, false), host);
    }
}
