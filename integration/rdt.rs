//! Cache and memory bandwidth allocation on machines whose CPU has none: the kernel's table of mounts names a directory
//! of the form of resctrl. config-linux.md "IntelRdt".

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("rdt/without_resctrl_is_refused", without_resctrl_is_refused).peer("*", "starts it all the same"),
        test("rdt/init_joins_the_class", init_joins_the_class)
            .requires(Need::Root)
            .requires(Need::Tool("unshare"))
            .peer("*", "asks the CPU first"),
        test("rdt/shares_of_a_class_are_compared", shares_are_compared)
            .requires(Need::Root)
            .requires(Need::Tool("unshare"))
            .peer("*", "asks the CPU first"),
        test("rdt/a_class_that_cannot_be_filled_is_removed", a_class_is_removed)
            .requires(Need::Root)
            .requires(Need::Tool("unshare"))
            .peer("*", "leaves it"),
    ]
}

/// Makes a tree with the class `gold`, and lets the runtime find it where it looks for the mount.
fn tree(case: &mut Case) -> Result<PathBuf> {
    let root = case.dir.join("resctrl");
    fs::create_dir_all(root.join("gold"))?;
    fs::create_dir_all(root.join("info"))?;
    fs::write(root.join("gold/tasks"), "")?;
    fs::write(root.join("gold/schemata"), "    L3:0=7f0;1=1f\n    MB:0= 20;1= 70\n")?;
    let table = case.dir.join("mountinfo");
    let line = format!("9999 1 0:9999 / {} rw,relatime - resctrl resctrl rw\n", root.display());
    fs::write(&table, kernel::read("/proc/self/mountinfo")? + &line)?;
    // The runtime keeps the shell's number through exec, and so finds this file as its own.
    case.before = format!(
        "set -- unshare -m --propagation private sh -c 'mount --bind {} /proc/$$/mountinfo; exec \"$@\"' sh \"$@\"",
        table.display()
    );
    Ok(root)
}

fn without_resctrl_is_refused(case: &mut Case) -> Result<()> {
    if kernel::read("/proc/self/mountinfo")?.contains(" - resctrl ") {
        return Ok(());
    }
    case.set("/linux/intelRdt", json!({"closID": "gold"}));
    case.run()?.refused().map(drop)
}

fn init_joins_the_class(case: &mut Case) -> Result<()> {
    let root = tree(case)?;
    case.set("/linux/intelRdt", json!({"closID": "gold"})).args(["sleep", "60"]);
    let init = case.up()?;
    let tasks = kernel::read(root.join("gold/tasks"))?;
    case.delete()?;
    ensure!(tasks.trim() == init.pid.to_string(), "tasks has {tasks:?}, init is {}", init.pid);
    ensure!(root.join("gold").is_dir(), "a class of somebody else was removed");
    Ok(())
}

fn shares_are_compared(case: &mut Case) -> Result<()> {
    tree(case)?;
    case.set("/linux/intelRdt", json!({"closID": "gold", "l3CacheSchema": "L3:0=7f0;1=1f", "memBwSchema": "MB:0=20"}));
    case.args(["echo", "fine"]).prints("fine\n")?;
    case.set("/linux/intelRdt/l3CacheSchema", json!("L3:0=7f1"));
    case.run()?.refused()?.stderr_has("7f1")?;
    case.set("/linux/intelRdt", json!({"closID": "silver"}));
    case.run()?.refused()?.stderr_has("silver").map(drop)
}

fn a_class_is_removed(case: &mut Case) -> Result<()> {
    let root = tree(case)?;
    // A directory of a kernel's resctrl has its files at once, this one never.
    case.set("/linux/intelRdt", json!({"closID": "new", "schemata": ["L3:0=f"]}));
    case.run()?.refused()?.stderr_has("resctrl/new")?;
    ensure!(!root.join("new").exists(), "the class is left behind");
    // Without shares it is init that cannot join.
    case.set("/linux/intelRdt", json!({}));
    case.run()?.refused()?.stderr_has("put process")?;
    ensure!(!root.join(&case.id).exists(), "the class of the container is left behind");
    Ok(())
}
