//! `update`: other limits for a container that exists. What the document does not name stays; 0 counts as unnamed, as
//! engines send it; device rules in it are left out, since they would deny what the container holds.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Globals;
use super::state::{State, StateDir, Status};
use crate::cgroup::Handle;
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::host::HostFacts;
use crate::plan::cgroup::{Cgroup, Tree};
use crate::spec::{Resources, Spec, load};

/// The longest document: as for a config.json.
const MAX_BYTES: u64 = load::MAX_BYTES;

/// What `update` shall change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpdateOptions {
    /// --resources: a file of JSON, `-` is stdin.
    pub file: Option<PathBuf>,
    /// The other options in the same form; they win over the file.
    pub limits: Map<String, Value>,
    /// --l3-cache-schema and --mem-bw-schema.
    pub schemata: Vec<String>,
}

/// Changes the limits of a created, running or paused container: all of them, or none.
pub fn update(globals: &Globals, id: &str, options: &UpdateOptions) -> Result<()> {
    // Before the lock: stdin may take its time.
    let text = document(options)?;
    let mut resources = load::resources(&text)?;
    let dir = StateDir::open(&globals.root, id)?;
    dir.lock()?;
    let not_running = || Error::status("container not running");
    let state = dir.load()?.ok_or_else(not_running)?;
    if state.status()? == Status::Stopped {
        return Err(not_running());
    }
    let cgroup = Handle::open(&state.cgroup)?;
    complete(&mut resources, &cgroup);
    let host = HostFacts::probe(&Spec::default())?;
    let tree = |tree: &crate::cgroup::SavedTree| Tree::at(tree.directory.clone(), tree.controllers.clone(), tree.v2);
    let plan = Cgroup::update(&resources, state.cgroup.trees.iter().map(tree).collect(), &host)?;
    crate::log::warn_all(&plan.notes);
    let schemata = schemata_file(&dir, &state, options)?;
    cgroup.update(&plan)?;
    for (file, line) in schemata.iter().flat_map(|file| options.schemata.iter().map(move |line| (file, line))) {
        std::fs::write(file, format!("{line}\n"))
            .err_at(Step::Cgroup, "write", || format!("write {line:?} to {}", show(file)))?;
    }
    Ok(())
}

/// One document: the file with the options laid over it.
fn document(options: &UpdateOptions) -> Result<load::Text> {
    let mut all = match options.file.as_deref() {
        None => Map::new(),
        Some(path) => {
            let subject =
                || format!("read the limits from {}", if path == Path::new("-") { "stdin".into() } else { show(path) });
            match serde_json::from_slice(&read(path, subject)?) {
                Ok(Value::Object(map)) => map,
                Ok(_) => return Err(Error::host(Step::Spec, format!("{}: it is no JSON object of limits", subject()))),
                Err(error) => return Err(Error::host(Step::Spec, format!("{}: {error}", subject()))),
            }
        }
    };
    for (group, fields) in &options.limits {
        match (all.get_mut(group), fields) {
            (Some(Value::Object(old)), Value::Object(new)) => old.extend(new.clone()),
            _ => drop(all.insert(group.clone(), fields.clone())),
        }
    }
    Ok(load::Text(Value::Object(all).to_string()))
}

fn read(path: &Path, subject: impl Fn() -> String) -> Result<Vec<u8>> {
    let file: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).err_at(Step::Spec, "open", &subject)?)
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).err_at(Step::Spec, "read", &subject)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::host(Step::Spec, format!("{}: longer than {} MiB", subject(), MAX_BYTES >> 20)));
    }
    Ok(bytes)
}

/// Where cgroup v2 keeps in one value what v1 keeps in two, half an update needs the other half as it is: the quota
/// beside a lone period and the other way round, the memory limit beside a lone limit of memory and swap.
fn complete(resources: &mut Resources<'_>, cgroup: &Handle) {
    if let Some(cpu) = &mut resources.cpu {
        let (quota, period) = (cpu.quota.is_some_and(|quota| quota != 0), cpu.period.is_some_and(|period| period != 0));
        let text = (quota != period).then(|| cgroup.read_v2("cpu.max")).flatten();
        match text.as_deref().and_then(|text| text.trim().split_once(' ')) {
            Some((old, _)) if period => cpu.quota = old.parse().ok(),
            // The kernel would keep it; systemd, which has to be told both, would not.
            Some((_, old)) => cpu.period = old.parse().ok(),
            None => {}
        }
    }
    if let Some(memory) = &mut resources.memory
        && memory.swap.is_some_and(|swap| swap > 0)
        && memory.limit.is_none_or(|limit| limit == 0)
    {
        memory.limit = cgroup.read_v2("memory.max").and_then(|text| text.trim().parse().ok());
    }
}

/// The schemata of the container's group of Intel RDT (Documentation/filesystems/resctrl.rst), if they shall change.
fn schemata_file(dir: &StateDir, state: &State, options: &UpdateOptions) -> Result<Option<PathBuf>> {
    if options.schemata.is_empty() {
        return Ok(None);
    }
    let text = dir.load_config()?;
    let (spec, _) = load::parse(&text)?;
    let Some(rdt) = spec.linux.as_ref().and_then(|linux| linux.intel_rdt.as_ref()) else {
        return Err(Error::status("the container has no Intel RDT group: its config.json has no /linux/intelRdt"));
    };
    let group = rdt.clos_id.as_deref().filter(|name| !name.is_empty()).unwrap_or(&state.id);
    let group = Path::new("/sys/fs/resctrl").join(group.trim_start_matches('/'));
    if !group.join("schemata").exists() {
        return Err(Error::host(Step::Cgroup, format!("change the schemata of {}: it is not there", show(&group)))
            .hint("Intel RDT is off, or resctrl is not mounted"));
    }
    Ok(Some(group.join("schemata")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_win_over_the_file() {
        let path = std::env::temp_dir().join(format!("hull-update-{}.json", std::process::id()));
        std::fs::write(&path, r#"{"memory":{"limit":5,"swap":7},"pids":{"limit":3}}"#).unwrap();
        let limits = serde_json::json!({"memory": {"limit": 6}, "cpu": {"shares": 2}});
        let options = UpdateOptions {
            file: Some(path.clone()),
            limits: limits.as_object().unwrap().clone(),
            ..UpdateOptions::default()
        };
        let text = document(&options);
        std::fs::write(&path, "[1]").unwrap();
        let refused = document(&options);
        std::fs::remove_file(&path).unwrap();
        let value: Value = serde_json::from_str(&text.unwrap().0).unwrap();
        let wanted = serde_json::json!({"memory": {"limit": 6, "swap": 7}, "pids": {"limit": 3}, "cpu": {"shares": 2}});
        assert_eq!(value, wanted);
        assert!(refused.unwrap_err().to_string().contains("no JSON object"));
    }
}
