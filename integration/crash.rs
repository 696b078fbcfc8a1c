//! A runtime that is killed at any moment leaves what `delete --force` removes without a trace.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::{Case, Need, Test, reap_orphans, test};

pub fn cases() -> Vec<Test> {
    vec![
        test("crash/create_killed_at_any_moment", create_killed_at_any_moment).requires(Need::Hull),
        test("crash/run_killed_at_any_moment", run_killed_at_any_moment).requires(Need::Hull),
        test("crash/delete_killed_at_any_moment", delete_killed_at_any_moment).requires(Need::Hull),
    ]
}

const ROUNDS: u32 = 20;

/// Deletes what is there and proves that nothing is left and that the id can be used.
fn delete_leaves_nothing(case: &mut Case, when: &str) -> Result<()> {
    reap_orphans();
    case.delete().with_context(|| when.to_owned())?;
    reap_orphans();
    let left = case.leftovers();
    ensure!(left.is_empty(), "{when}: left behind {left:?}");
    Ok(())
}

/// Kills a verb after delays that span the time it takes, the last rounds being after its end.
fn kill_verb(case: &mut Case, verb: &[&str], before: impl Fn(&Case) -> Result<()>) -> Result<()> {
    before(case)?;
    let whole = case.verb(verb)?.took;
    delete_leaves_nothing(case, "the whole verb")?;
    for round in 0..ROUNDS {
        before(case)?;
        let mut running = case.spawn(verb)?;
        let delay = whole.mul_f64(f64::from(round) * 1.2 / f64::from(ROUNDS));
        std::thread::sleep(delay);
        running.kill();
        let _ = running.wait(Duration::from_secs(10))?;
        delete_leaves_nothing(case, &format!("killed after {delay:?}"))?;
    }
    case.script("echo fine").prints("fine\n")
}

fn create_killed_at_any_moment(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).write_config()?;
    let (bundle, id) = (case.bundle(), case.id.clone());
    kill_verb(case, &["create", "--bundle", &bundle.to_string_lossy(), &id], |_| Ok(()))
}

fn run_killed_at_any_moment(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).write_config()?;
    let (bundle, id) = (case.bundle(), case.id.clone());
    kill_verb(case, &["run", "-d", "--bundle", &bundle.to_string_lossy(), &id], |_| Ok(()))
}

fn delete_killed_at_any_moment(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).write_config()?;
    let id = case.id.clone();
    kill_verb(case, &["delete", "--force", &id], |case| case.up().map(drop))
}
