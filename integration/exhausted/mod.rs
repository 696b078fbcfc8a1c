//! What runs out: space and inodes of the state directory, descriptors, processes, memory, patience. Each time success or
//! one sentence within the deadline, nothing lost and nothing left.

mod clocks;
mod cost;
mod limits;
mod space;
mod stuck;

use anyhow::{Result, ensure};

use crate::harness::{Case, Output, Test, reap_orphans};

pub fn cases() -> Vec<Test> {
    [space::cases(), limits::cases(), cost::cases(), clocks::cases(), stuck::cases()].into_iter().flatten().collect()
}

/// What is left, but for the file system that the case itself mounted as its state directory.
fn left(case: &Case) -> Vec<String> {
    let own = format!(" {} ", case.root().display());
    case.leftovers().into_iter().filter(|what| !(what.starts_with("mount ") && what.contains(&own))).collect()
}

fn nothing_left(case: &Case, when: &str) -> Result<()> {
    reap_orphans();
    let left = left(case);
    ensure!(left.is_empty(), "{when}: left behind {left:?}");
    Ok(())
}

/// Success, or one sentence with one of these words.
fn ok_or_says(output: Output, words: &[&str]) -> Result<bool> {
    if output.status == 0 {
        return Ok(true);
    }
    ensure!(output.status == 1 || output.status == 255, "status {}: {:?}", output.status, output.stderr);
    let output = output.one_sentence()?;
    ensure!(words.iter().any(|word| output.stderr.contains(word)), "it says {:?}, not {words:?}", output.stderr);
    Ok(false)
}
