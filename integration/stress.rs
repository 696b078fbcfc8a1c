//! Many containers: one after the other, and many at once. What leaks, races or hangs once in a hundred shows here.
//! HULL_STRESS=N runs N containers (default 100, and 40 at once); HULL_STRESS=full runs 1,000 and 200.

use std::env;

use anyhow::{Context, Result, ensure};

use crate::harness::{Case, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("stress/one_after_the_other", one_after_the_other),
        test("stress/many_at_once", many_at_once),
        test("stress/the_same_id_at_once", the_same_id_at_once).peer("*", "a loser may remove the state of the winner"),
    ]
}

fn amount(default: u32, full: u32) -> u32 {
    match env::var("HULL_STRESS") {
        Ok(word) if word == "full" => full,
        Ok(word) => word.parse().unwrap_or(default),
        Err(_) => default,
    }
}

fn one_after_the_other(case: &mut Case) -> Result<()> {
    case.args(["echo", "fine"]).write_config()?;
    let bundle = case.bundle();
    let bundle = bundle.to_string_lossy();
    let mounts = || kernel::read("/proc/self/mountinfo").map(|text| text.lines().count());
    let before = mounts()?;
    for number in 0..amount(100, 1000) {
        let output = case.verb(["run", "--bundle", &bundle, &case.id])?;
        output.ok()?.stdout_is("fine\n").with_context(|| format!("number {number}"))?;
    }
    ensure!(mounts()? == before, "the host has {} mounts, it had {before}", mounts()?);
    Ok(())
}

fn many_at_once(case: &mut Case) -> Result<()> {
    case.script("exit 7").write_config()?;
    let (case, total) = (&*case, amount(40, 200));
    let bundle = case.bundle();
    let bundle = bundle.to_string_lossy();
    let worker = |worker: u32| -> Result<()> {
        for number in (worker..total).step_by(8) {
            let id = format!("{}-n{number}", case.id);
            case.verb(["run", "--bundle", &bundle, &id])?.status(7).with_context(|| format!("number {number}"))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8).map(|number| scope.spawn(move || worker(number))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker gives its error back"))
    })
}

fn the_same_id_at_once(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).write_config()?;
    let bundle = case.bundle();
    let bundle = bundle.to_string_lossy();
    for _ in 0..5 {
        let running: Result<Vec<_>> = (0..6).map(|_| case.spawn(["create", "--bundle", &bundle, &case.id])).collect();
        let mut created = 0;
        for one in running? {
            let output = one.wait(std::time::Duration::from_secs(30))?;
            created += u32::from(output.status == 0);
        }
        ensure!(created == 1, "{created} of 6 creations of one id succeeded");
        case.status_is("created")?;
        case.delete()?;
    }
    Ok(())
}
