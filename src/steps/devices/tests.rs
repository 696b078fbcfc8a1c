//! Real nodes, in a mount namespace that ends with its thread.

use std::os::unix::fs::symlink;

use crate::steps::mounts::tests::{in_namespace, try_up};

const BARE: &str = r#"{"root":{"path":"rootfs"}}"#;

#[test]
fn a_dev_that_is_a_link_is_refused_and_the_decoy_untouched() {
    for (name, inside) in [("devabs", false), ("devin", true)] {
        in_namespace(name, |bundle| {
            let decoy = bundle.join("decoy");
            if inside {
                std::fs::create_dir(bundle.join("rootfs/real")).unwrap();
                symlink("/real", bundle.join("rootfs/dev")).unwrap();
            } else {
                symlink(&decoy, bundle.join("rootfs/dev")).unwrap();
            }
            let error = try_up(bundle, BARE).unwrap_err().to_string();
            assert!(error.contains("open /dev of the container"), "{error}");
            assert_eq!(std::fs::read_dir(&decoy).unwrap().count(), 0);
        });
    }
}

#[test]
fn nodes_get_the_mode_and_owner_asked_for_and_right_ones_stay() {
    in_namespace("nodes", |bundle| {
        let json = r#"{"root":{"path":"rootfs"},"linux":{"devices":[
            {"path":"/dev/fuse","type":"c","major":10,"minor":229,"fileMode":432,"uid":3,"gid":4},
            {"path":"/opt/d/pipe","type":"p","fileMode":384}]}}"#;
        for _ in 0..2 {
            try_up(bundle, json).unwrap();
            let stat = rustix::fs::stat(bundle.join("rootfs/dev/fuse")).unwrap();
            assert_eq!((stat.st_mode, stat.st_uid, stat.st_gid), (0o020660, 3, 4));
            assert_eq!(stat.st_rdev, rustix::fs::makedev(10, 229));
            assert_eq!(rustix::fs::stat(bundle.join("rootfs/opt/d/pipe")).unwrap().st_mode, 0o010600);
        }
    });
}

#[test]
fn another_file_in_the_place_of_a_node_is_refused_with_what_it_is() {
    in_namespace("other", |bundle| {
        let (dev, victim) = (bundle.join("rootfs/dev"), bundle.join("decoy/victim"));
        std::fs::create_dir(&dev).unwrap();
        std::fs::write(&victim, "x").unwrap();
        symlink(&victim, dev.join("null")).unwrap();
        let error = try_up(bundle, BARE).unwrap_err().to_string();
        assert_eq!(error, "make device /dev/null: a link is there already");
        assert_eq!(rustix::fs::stat(&victim).unwrap().st_mode & 0o777, 0o644);
        std::fs::remove_file(dev.join("null")).unwrap();
        std::fs::write(dev.join("null"), "").unwrap();
        let error = try_up(bundle, BARE).unwrap_err().to_string();
        assert_eq!(error, "make device /dev/null: a regular file is there already");
    });
}

#[test]
fn a_console_link_never_makes_a_host_file() {
    in_namespace("console", |bundle| {
        let missing = bundle.join("decoy/missing");
        let (root_fd, _) = try_up(bundle, BARE).unwrap();
        symlink(&missing, bundle.join("rootfs/dev/console")).unwrap();
        let pty = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
        rustix::pty::unlockpt(&pty).unwrap();
        let peer = rustix::pty::ioctl_tiocgptpeer(&pty, rustix::pty::OpenptFlags::RDWR).unwrap();
        let root = crate::steps::path::Root::new(&root_fd);
        let error = super::bind_console(root, std::os::fd::AsFd::as_fd(&peer)).unwrap_err().to_string();
        assert!(error.contains("a link is there already"), "{error}");
        assert!(!missing.exists());
        std::fs::remove_file(bundle.join("rootfs/dev/console")).unwrap();
        super::bind_console(root, std::os::fd::AsFd::as_fd(&peer)).unwrap();
        let stat = rustix::fs::stat(bundle.join("rootfs/dev/console")).unwrap();
        assert!((136..=143).contains(&rustix::fs::major(stat.st_rdev)));
    });
}
