//! What of a container CRIU must not write down, since it belongs to the host: bind mounts and masked files.
//!
//! Each has a key that is made of its number in config.json, never of a path: an image that someone else made can so name
//! nothing on the host, whatever it says, and at restore the config alone decides what lies where.

use std::path::PathBuf;

use super::Plan;
use super::mounts::MountKind;
use super::rootfs::RootfsPath;

/// A mount whose source is the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Its name in the image.
    pub key: String,
    /// Where it is in the container.
    pub destination: RootfsPath,
    /// What is mounted there.
    pub source: PathBuf,
    /// It masks a file; a masked directory is no external mount.
    pub mask: bool,
}

/// The external mounts of a plan.
pub fn externals(plan: &Plan) -> Vec<External> {
    let binds = plan.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind { source, .. } => Some(External {
            key: format!("hull-mount-{}", mount.index),
            destination: mount.destination.clone(),
            source: source.clone(),
            mask: false,
        }),
        _ => None,
    });
    let masks = plan.rootfs.masked_paths.iter().enumerate().map(|(index, path)| External {
        key: format!("hull-mask-{index}"),
        destination: path.clone(),
        source: "/dev/null".into(),
        mask: true,
    });
    binds.chain(masks).collect()
}
