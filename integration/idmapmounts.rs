//! Idmapped mounts: by the container's mapping and by one of their own. config.md "mounts", "idmap"; mount_setattr(2).

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use anyhow::{Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Test, test};

pub fn cases() -> Vec<Test> {
    vec![
        test("idmap/the_containers_mapping", the_containers_mapping),
        test("idmap/a_mapping_of_its_own", a_mapping_of_its_own),
        test("idmap/without_a_user_namespace", without_a_user_namespace),
        test("idmap/idmap_and_ridmap", idmap_and_ridmap),
        test("idmap/a_joined_user_namespace", a_joined_user_namespace),
        test("idmap/a_new_file_system", a_new_file_system).requires(Need::Call("fsopen")),
        test("idmap/what_cannot_be_mapped_is_refused", what_cannot_be_mapped_is_refused),
    ]
    .into_iter()
    .map(|test| {
        test.requires(Need::Root)
            .requires(Need::Call("mount_setattr"))
            .requires(Need::Call("open_tree"))
            .peer("*", "newer than the peer")
    })
    .collect()
}

fn maps(inside: u32, outside: u32, size: u32) -> Value {
    json!([{"containerID": inside, "hostID": outside, "size": size}])
}

/// A directory with a file of user 1 and group 2.
fn source(case: &Case) -> Result<String> {
    let dir = case.dir.join("mapped");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("file"), "")?;
    chown(dir.join("file"), Some(1), Some(2))?;
    Ok(dir.to_string_lossy().into_owned())
}

const STAT: &str = "stat -c %u:%g /mnt/file";

fn the_containers_mapping(case: &mut Case) -> Result<()> {
    let source = source(case)?;
    let plain = case.user_namespace()?.config.clone();
    let own = case.config["linux"]["uidMappings"].clone();
    for mount in [
        json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", "idmap"]}),
        json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind"],
               "uidMappings": own, "gidMappings": own}),
    ] {
        case.config = plain.clone();
        // A new file belongs, on the disk, to the root of the container as it is.
        case.mount(mount).script(&format!("{STAT}; touch /mnt/new; stat -c %u:%g /mnt/new"));
        case.prints("1:2\n0:0\n")?;
        let new = case.dir.join("mapped/new");
        ensure!(fs::metadata(&new)?.uid() == 0, "on the host it belongs to {}", fs::metadata(&new)?.uid());
        fs::remove_file(new)?;
    }
    // Without the option the ids of the disk are nobody's.
    case.config = plain;
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind"]}));
    case.script(STAT).prints("65534:65534\n")
}

fn a_mapping_of_its_own(case: &mut Case) -> Result<()> {
    let source = source(case)?;
    case.user_namespace()?;
    // The container's 0 is the host's 100000, so user 1 of the disk is 6 inside.
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind"],
                      "uidMappings": maps(0, 100_005, 10), "gidMappings": maps(0, 100_100, 10)}));
    case.mount(json!({"destination": "/var", "type": "bind", "source": source, "options": ["bind"],
                      "uidMappings": maps(0, 100_005, 10), "gidMappings": maps(0, 100_100, 10)}));
    case.script(&format!("{STAT}; stat -c %u:%g /var/file")).prints("6:102\n6:102\n")
}

fn without_a_user_namespace(case: &mut Case) -> Result<()> {
    let source = source(case)?;
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", "idmap"],
                      "uidMappings": maps(1, 0, 1), "gidMappings": maps(2, 7, 1)}));
    case.script(STAT).prints("0:7\n")?;
    ensure!(fs::metadata(case.dir.join("mapped/file"))?.uid() == 1, "the file was changed");
    Ok(())
}

fn idmap_and_ridmap(case: &mut Case) -> Result<()> {
    let source = source(case)?;
    let sub = case.dir.join("mapped/sub");
    fs::create_dir(&sub)?;
    rustix::mount::mount("hullit", &sub, "tmpfs", MountFlags::empty(), c"size=64k,uid=1,gid=2")?;
    let plain = case.config.clone();
    let mut result = Ok(());
    for (option, expected) in [("idmap", "8:9\n1:2\n"), ("ridmap", "8:9\n8:9\n")] {
        case.config = plain.clone();
        case.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind", option],
                          "uidMappings": maps(1, 8, 1), "gidMappings": maps(2, 9, 1)}));
        result = result.and(case.script(&format!("{STAT}; stat -c %u:%g /mnt/sub")).prints(expected));
    }
    rustix::mount::unmount(&sub, UnmountFlags::DETACH)?;
    result
}

fn a_joined_user_namespace(case: &mut Case) -> Result<()> {
    let source = source(case)?;
    let first = case.user_namespace()?.args(["sleep", "60"]).up()?;
    let bundle = case.bundle();
    let second = format!("{}-b", case.id);
    case.namespace(json!({"type": "user", "path": format!("/proc/{}/ns/user", first.pid)}));
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", "ridmap"]}));
    case.script(STAT).write_config()?;
    case.verb(["run", "--bundle", &bundle.to_string_lossy(), &second])?.ok()?.stdout_is("1:2\n")?;
    case.delete()
}

fn a_new_file_system(case: &mut Case) -> Result<()> {
    case.mount(
        json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["uid=1", "gid=2", "mode=755"],
                      "uidMappings": maps(0, 100, 10), "gidMappings": maps(0, 200, 10)}),
    );
    case.script("stat -c %u:%g /mnt").prints("101:202\n")
}

fn what_cannot_be_mapped_is_refused(case: &mut Case) -> Result<()> {
    let plain = case.config.clone();
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": "/proc", "options": ["bind"],
                      "uidMappings": maps(0, 100, 10), "gidMappings": maps(0, 200, 10)}));
    case.run()?.refused()?.stderr_has("cannot map ids")?.one_sentence()?;
    case.config = plain;
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": "/tmp", "options": ["bind", "idmap"]}));
    case.run()?.refused()?.stderr_has("/mounts/7").map(drop)
}
