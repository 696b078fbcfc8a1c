//! Classes of service and monitoring groups of resctrl, by setup: made before the clone, joined before init goes on.

use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Blame, ErrAt, Error, Result, Step, show};
use crate::plan::intel_rdt::{IntelRdt, differs};

/// What state.json keeps of it: `exec` joins it, `delete` removes what is hull's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    class: Group,
    own: bool,
    monitoring: Option<Group>,
}

/// A directory of resctrl.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Group(#[serde(with = "crate::bytes::json")] PathBuf);

impl Saved {
    /// What will be there.
    pub fn planned(rdt: &IntelRdt) -> Saved {
        Saved { class: Group(rdt.class.clone()), own: rdt.own, monitoring: rdt.monitoring.clone().map(Group) }
    }

    /// Puts a process into the class and the monitoring group. Its children follow by themselves.
    pub fn join(&self, pid: i32) -> Result<()> {
        // First the class: to join another one leaves the monitoring group.
        for Group(group) in [Some(&self.class), self.monitoring.as_ref()].into_iter().flatten() {
            let tasks = group.join("tasks");
            write(&tasks, &pid.to_string(), || format!("put process {pid} into {} (/linux/intelRdt)", show(group)))?;
        }
        Ok(())
    }

    /// Removes what hull made; the kernel moves processes that are left to the class above.
    pub fn remove(&self) -> Result<()> {
        for Group(group) in [self.monitoring.as_ref(), self.own.then_some(&self.class)].into_iter().flatten() {
            match rustix::fs::rmdir(group) {
                // Removed with its class, or never made.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    let subject = format!("remove {} (/linux/intelRdt)", show(group));
                    return Err(Error::call(Step::Resctrl, "rmdir", errno, subject));
                }
            }
        }
        Ok(())
    }
}

/// Makes the class with its shares, or compares those of one that is there, and makes the monitoring group. An error
/// leaves nothing of it.
pub fn create(rdt: &IntelRdt) -> Result<()> {
    if rdt.own {
        // A class that somebody else has made meanwhile is theirs: it must not be removed below.
        make(&rdt.class)?;
    }
    fill(rdt).inspect_err(|_| {
        if rdt.own {
            let _ = rustix::fs::rmdir(&rdt.class);
        }
    })
}

fn fill(rdt: &IntelRdt) -> Result<()> {
    match rdt.schemata.is_empty() {
        true => {}
        false if rdt.own => write_schemata(&rdt.class, &rdt.schemata)?,
        false => compare_schemata(&rdt.class, &rdt.schemata)?,
    }
    rdt.monitoring.as_deref().map_or(Ok(()), make)
}

fn make(group: &Path) -> Result<()> {
    let subject = || format!("make {} (/linux/intelRdt)", show(group));
    rustix::fs::mkdir(group, Mode::from_raw_mode(0o755)).err_at(Step::Resctrl, "mkdir", subject).map_err(|e| {
        if e.is(Errno::NOSPC) { e.hint("the CPU has no class or monitor left; info/*/num_* say how many") } else { e }
    })
}

fn write_schemata(class: &Path, lines: &[String]) -> Result<()> {
    // The kernel takes whole lines only.
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    write(&class.join("schemata"), &text, || format!("set the shares {lines:?} of {} (/linux/intelRdt)", show(class)))
}

fn compare_schemata(class: &Path, lines: &[String]) -> Result<()> {
    let subject = || format!("compare the shares of {} (/linux/intelRdt)", show(class));
    let text = std::fs::read_to_string(class.join("schemata")).err_at(Step::Resctrl, "open", subject)?;
    match differs(lines, &text) {
        None => Ok(()),
        Some(line) => Err(Error::host(Step::Resctrl, format!("{}: {line:?} is not what they are", subject()))
            .blame(Blame::Spec)
            .hint(format!("the class is there already, and has {:?}", text.trim()))),
    }
}

fn write(path: &Path, text: &str, subject: impl Fn() -> String) -> Result<()> {
    let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).err_at(
        Step::Resctrl,
        "open",
        &subject,
    )?;
    crate::sys::whole::write(&fd, text.as_bytes()).err_at(Step::Resctrl, "write", &subject).map_err(|e| {
        // The kernel says what it did not like in a file of its own.
        let root = path.ancestors().find(|dir| dir.join("info").is_dir());
        let said = root.and_then(|root| std::fs::read_to_string(root.join("info/last_cmd_status")).ok());
        match said.as_deref().map(str::trim) {
            Some(said) if !said.is_empty() && said != "ok" => e.hint(format!("the kernel says: {said}")),
            _ => e,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A directory of the form of resctrl, with one class.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Tree {
            let root = std::env::temp_dir().join(format!("hull-resctrl-{}-{name}", std::process::id()));
            for dir in ["gold/mon_groups/box", "info"] {
                fs::create_dir_all(root.join(dir)).unwrap();
            }
            for file in ["gold/tasks", "gold/mon_groups/box/tasks"] {
                fs::write(root.join(file), "").unwrap();
            }
            fs::write(root.join("gold/schemata"), "    L3:0=7f0;1=1f\n").unwrap();
            fs::write(root.join("info/last_cmd_status"), "Mask f is not wide enough\n").unwrap();
            Tree(root)
        }

        fn read(&self, file: &str) -> String {
            fs::read_to_string(self.0.join(file)).unwrap()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_process_joins_the_class_and_the_monitoring_group() {
        let tree = Tree::new("join");
        let class = tree.0.join("gold");
        let saved = Saved { monitoring: Some(Group(class.join("mon_groups/box"))), class: Group(class), own: false };
        saved.join(4321).unwrap();
        assert_eq!((tree.read("gold/tasks"), tree.read("gold/mon_groups/box/tasks")), ("4321".into(), "4321".into()));
    }

    #[test]
    fn only_what_is_hulls_is_made_and_removed() {
        let tree = Tree::new("make");
        let mut rdt = IntelRdt { class: tree.0.join("own"), own: true, schemata: Vec::new(), monitoring: None };
        create(&rdt).unwrap();
        assert!(rdt.class.is_dir());
        Saved::planned(&rdt).remove().unwrap();
        assert!(!rdt.class.exists());
        // A second time finds nothing to do.
        Saved::planned(&rdt).remove().unwrap();
        rdt = IntelRdt { class: tree.0.join("gold"), own: false, ..rdt };
        create(&rdt).unwrap();
        Saved::planned(&rdt).remove().unwrap();
        assert!(rdt.class.is_dir());
    }

    #[test]
    fn shares_are_written_whole_or_compared() {
        let tree = Tree::new("shares");
        let class = tree.0.join("gold");
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let rdt = |schemata| IntelRdt { class: class.clone(), own: false, schemata, monitoring: None };
        create(&rdt(lines(&["L3:1=1f"]))).unwrap();
        let error = create(&rdt(lines(&["L3:1=ff"]))).unwrap_err().to_string();
        assert!(error.contains("\"L3:1=ff\" is not what they are"), "{error}");
        write_schemata(&class, &lines(&["L3:0=1", "MB:0=20"])).unwrap();
        assert!(tree.read("gold/schemata").starts_with("L3:0=1\nMB:0=20\n"));
    }

    #[test]
    fn a_refusal_has_the_kernels_words() {
        let tree = Tree::new("refusal");
        fs::remove_file(tree.0.join("gold/tasks")).unwrap();
        // A device that no write fits into stands for a kernel that refuses.
        std::os::unix::fs::symlink("/dev/full", tree.0.join("gold/tasks")).unwrap();
        let saved = Saved { class: Group(tree.0.join("gold")), own: false, monitoring: None };
        let error = saved.join(1).unwrap_err().to_string();
        assert!(error.contains("no space left on device (ENOSPC) (the kernel says: Mask f is not"), "{error}");
    }
}
