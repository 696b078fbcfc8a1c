//! `hull ps`: the container's processes, as JSON or as the host's ps shows them.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::{Done, json};
use crate::error::{ErrAt, Error, Result, Step};
use crate::lifecycle::Globals;
use crate::lifecycle::ps::processes;

/// By absolute path: what PATH says is the caller's, and hull may be root.
const PS: [&str; 2] = ["/usr/bin/ps", "/bin/ps"];

/// Lists the processes.
pub fn ps(globals: &Globals, id: &str, as_json: bool, options: Vec<OsString>) -> Result<Done> {
    let pids = processes(globals, id);
    let text = pids.and_then(|pids| if as_json { pids_as_json(&pids) } else { table(&pids, options) });
    text.map(Done::from).map_err(|error| error.context(format!("ps {id}")))
}

/// No process is `null`, as runc has it: Go's nil slice.
fn pids_as_json(pids: &[i32]) -> Result<String> {
    json(Step::State, serde_json::to_string(&(!pids.is_empty()).then_some(pids)))
}

/// The lines of the host's ps that are about these processes, with its title line.
fn table(pids: &[i32], options: Vec<OsString>) -> Result<String> {
    let program = PS.into_iter().find(|path| Path::new(path).exists()).ok_or_else(|| {
        Error::host(Step::State, format!("list processes: {} is not there", PS[0]))
            .hint("install ps (procps), or use --format json")
    })?;
    let options = if options.is_empty() { vec!["-ef".into()] } else { options };
    // The width of a terminal must not cut lines that a script reads.
    let mut command = Command::new(program);
    command.args(&options).env_clear().env("PATH", "/usr/bin:/bin").env("COLUMNS", "4096");
    let output = crate::sys::spawn::output(&mut command).err_at(Step::State, "execve", || format!("run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given").trim();
        return Err(Error::usage(format!("{program} refuses the options {options:?}")).hint(said));
    }
    select(&String::from_utf8_lossy(&output.stdout), pids)
}

fn select(listing: &str, pids: &[i32]) -> Result<String> {
    let mut lines = listing.lines();
    let title = lines.next().unwrap_or_default();
    let column = title.split_whitespace().position(|name| name == "PID").ok_or_else(|| {
        Error::usage("the listing of ps has no column PID").hint("options of ps that give it: -ef, or -o pid,...")
    })?;
    let is_ours = |line: &&str| {
        line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok()).is_some_and(|pid| pids.contains(&pid))
    };
    Ok(std::iter::once(title).chain(lines.filter(is_ours)).flat_map(|line| [line, "\n"]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_an_array_or_null() {
        assert_eq!(pids_as_json(&[4, 7]).unwrap(), "[4,7]\n");
        assert_eq!(pids_as_json(&[]).unwrap(), "null\n");
    }

    #[test]
    fn only_the_containers_lines_are_kept() {
        let listing = "UID   PID  PPID CMD\nroot    1     0 init\nroot   42     1 sh -c 1\nroot  421    42 sleep 42\n";
        assert_eq!(select(listing, &[42]).unwrap(), "UID   PID  PPID CMD\nroot   42     1 sh -c 1\n");
        assert_eq!(select(listing, &[]).unwrap(), "UID   PID  PPID CMD\n");
        assert!(select("USER CMD\nroot x\n", &[1]).unwrap_err().to_string().contains("no column PID"));
    }
}
