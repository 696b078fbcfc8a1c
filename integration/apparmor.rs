//! AppArmor: the profile confines the program, and nothing before it. apparmor(7).

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let needs = |test: Test| test.requires(Need::Root).requires(Need::AppArmor);
    vec![
        needs(test("apparmor/the_profile_confines_the_program", the_profile_confines_the_program)),
        needs(test("apparmor/init_is_confined_when_it_runs", init_is_confined_when_it_runs)),
        needs(test("apparmor/an_unknown_profile_is_refused", an_unknown_profile_is_refused)),
        needs(test("apparmor/unconfined_is_a_profile", unconfined_is_a_profile)),
        needs(test("apparmor/a_profile_with_new_privileges_forbidden", a_profile_with_new_privileges_forbidden)),
    ]
}

/// A profile of the case's own, which denies one file; it is gone when the value is.
pub struct Profile(pub String);

impl Profile {
    pub fn load(case: &Case) -> Result<Profile> {
        let name = format!("hullit-{}", case.id);
        let rules = "file, capability, network, signal, ptrace, deny /etc/passwd r,";
        let text = format!("profile {name} flags=(attach_disconnected,mediate_deleted) {{ {rules} }}\n");
        let path = case.dir.join("profile");
        fs::write(&path, text)?;
        let output = Command::new("apparmor_parser").args(["--skip-cache", "-r"]).arg(&path).output()?;
        ensure!(output.status.success(), "apparmor_parser: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Profile(name))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = fs::write("/sys/kernel/security/apparmor/.remove", &self.0);
    }
}

fn the_profile_confines_the_program(case: &mut Case) -> Result<()> {
    let profile = Profile::load(case)?;
    case.set("/process/apparmorProfile", json!(profile.0));
    let output = case.script("cat /proc/self/attr/current; cat /etc/group >/dev/null && cat /etc/passwd").run()?;
    let output = output.status(1)?.stderr_has("permission denied")?;
    ensure!(output.stdout == format!("{} (enforce)\n", profile.0), "its label is {:?}", output.stdout);
    Ok(())
}

fn init_is_confined_when_it_runs(case: &mut Case) -> Result<()> {
    let profile = Profile::load(case)?;
    case.set("/process/apparmorProfile", json!(profile.0)).args(["sleep", "60"]);
    let init = case.up()?;
    let label = || kernel::read(format!("/proc/{}/attr/current", init.pid));
    let wanted = format!("{} (enforce)", profile.0);
    kernel::eventually("the label is set", || label().is_ok_and(|text| text.trim() == wanted))?;
    case.delete()
}

fn an_unknown_profile_is_refused(case: &mut Case) -> Result<()> {
    let name = format!("hullit-nosuch-{}", case.id);
    case.set("/process/apparmorProfile", json!(name)).args(["true"]);
    let refused = case.run()?.refused()?;
    if case.peer.is_none() {
        refused.stderr_has(&name)?.one_sentence()?;
    }
    Ok(())
}

fn unconfined_is_a_profile(case: &mut Case) -> Result<()> {
    case.set("/process/apparmorProfile", json!("unconfined"));
    case.script("cat /proc/self/attr/current").prints("unconfined\n")
}

/// A transition under no_new_privs is allowed where the new profile is no wider: from "unconfined" always.
fn a_profile_with_new_privileges_forbidden(case: &mut Case) -> Result<()> {
    let profile = Profile::load(case)?;
    for forbidden in [true, false] {
        case.set("/process/apparmorProfile", json!(profile.0)).set("/process/noNewPrivileges", json!(forbidden));
        let output = case.script("cat /proc/self/attr/current; grep NoNewPrivs /proc/self/status").run()?.ok()?;
        let wanted = format!("{} (enforce)\nNoNewPrivs:\t{}\n", profile.0, u8::from(forbidden));
        ensure!(output.stdout == wanted, "it printed {:?}", output.stdout);
    }
    Ok(())
}
