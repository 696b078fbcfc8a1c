//! A case of the suite: a bundle in a directory of its own, the verbs of the real binary with a `--root` of its own,
//! and the proof after each case that nothing is left: no cgroup, no mount, no state, no process.
//!
//! What a runtime prints goes to files, never to pipes: a container that keeps its stdout open must not keep the
//! harness waiting. Each command has a deadline; a command that misses it is killed and the case has failed.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};
use std::{env, process};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use serde_json::{Value, json};

use crate::kernel;

/// How long one command of the runtime may take.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The children that cases wait for themselves; any other child that has exited is an orphaned init and is reaped.
static OWN_CHILDREN: Mutex<Option<HashSet<u32>>> = Mutex::new(None);

/// What a case needs from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Root of the host.
    Root,
    /// CAP_SYS_RESOURCE on the host, which a sandbox's root may lack.
    SysResource,
    /// An ordinary user.
    Rootless,
    /// Controllers on v1 hierarchies.
    CgroupV1,
    /// Nothing but cgroup2 at /sys/fs/cgroup.
    CgroupV2,
    /// This controller, on whatever version.
    Controller(&'static str),
    /// This program on the host.
    Tool(&'static str),
    /// hull itself: the case is about something that no peer has.
    Hull,
    /// A verb that the runtime has.
    Verb(&'static str),
    /// Limits of swap, which a kernel may have switched off.
    SwapLimit,
    /// Pressure stall information for cgroups.
    Pressure,
    /// The block I/O controller, and a disk.
    BlockIo,
    /// cgroup2, alone or beside v1 hierarchies.
    Unified,
    /// A compiler that makes 32-bit programs.
    Gcc32,
    /// AppArmor that is on, and its parser.
    AppArmor,
    /// Landlock with what hull asks of it.
    Landlock,
    /// A CRIU that knows this kernel.
    Criu,
    /// And can do this with it (`criu check --feature`).
    CriuFeature(&'static str),
    /// systemd as process 1 and the bus of the caller's manager.
    Systemd,
    /// A system call that nothing stands in for: HULL_TEST_DENY must not refuse it.
    Call(&'static str),
    /// No filter around the runtime: the case counts filters, or asks what the host has.
    NoFilter,
}

/// A named case, what it needs, and which peers are known to behave differently.
pub struct Test {
    pub name: &'static str,
    pub body: fn(&mut Case) -> Result<()>,
    needs: Vec<Need>,
    peers: Vec<(&'static str, &'static str)>,
}

/// Names a case.
pub fn test(name: &'static str, body: fn(&mut Case) -> Result<()>) -> Test {
    Test { name, body, needs: Vec::new(), peers: Vec::new() }
}

impl Test {
    /// The case is skipped, with the reason, where the machine lacks this.
    pub fn requires(mut self, need: Need) -> Test {
        self.needs.push(need);
        self
    }

    /// This peer (`crun`, `runc`, or `*` for each of them) is known to behave differently, for this reason.
    pub fn peer(mut self, name: &'static str, reason: &'static str) -> Test {
        self.peers.push((name, reason));
        self
    }
}

/// The runtime that the cases are about.
pub fn runtime_under_test() -> PathBuf {
    match env::var_os("RUNTIME").or_else(|| env::var_os("HULL")) {
        // Commands run in directories of their own.
        Some(path) => std::path::absolute(&path).unwrap_or_else(|_| path.into()),
        None => PathBuf::from(env!("CARGO_BIN_EXE_hull")),
    }
}

/// What all cases of a run share.
pub struct Suite {
    pub runtime: PathBuf,
    /// The peer's name, when it is not hull that is tested.
    pub peer: Option<String>,
    dir: PathBuf,
}

impl Suite {
    pub fn new() -> Result<Suite> {
        let runtime = runtime_under_test();
        ensure!(runtime.is_file(), "{} is not there: build it, or set HULL or RUNTIME", runtime.display());
        let peer =
            env::var_os("RUNTIME").map(|_| runtime.file_name().unwrap_or_default().to_string_lossy().into_owned());
        let dir = env::temp_dir().join(format!("hull-it-{}", process::id()));
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        // A user namespace's root must be able to walk to the rootfs.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
        let busybox = busybox.context("the cases need a static busybox at /bin/busybox")?;
        fs::copy(busybox, dir.join("busybox"))?;
        // Inits of detached containers are inherited, as an engine's monitor inherits them.
        rustix::process::set_child_subreaper(Some(Pid::INIT)).context("become a subreaper")?;
        Ok(Suite { runtime, peer, dir })
    }

    pub fn remove(&self) {
        let _ = fs::remove_dir_all(&self.dir);
    }

    /// Why the case cannot run here.
    pub fn lacks(&self, test: &Test) -> Option<String> {
        test.needs.iter().find_map(|need| self.lacks_one(*need))
    }

    fn lacks_one(&self, need: Need) -> Option<String> {
        let root = rustix::process::geteuid().is_root();
        let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        match need {
            Need::Root => (!root).then(|| "needs root".to_owned()),
            Need::SysResource => {
                let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
                let set = kernel::field_of(&status, "CapEff").unwrap_or_default();
                let has = root && u64::from_str_radix(&set, 16).is_ok_and(|set| set & 1 << 24 != 0);
                (!has).then(|| "needs CAP_SYS_RESOURCE".to_owned())
            }
            Need::Rootless => root.then(|| "needs an ordinary user (HULL_TEST_MODE=rootless)".to_owned()),
            Need::CgroupV1 => v2.then(|| "needs cgroup v1 hierarchies".to_owned()),
            Need::CgroupV2 => (!v2).then(|| "needs cgroup2 at /sys/fs/cgroup (HULL_TEST_MODE=v2)".to_owned()),
            Need::Controller(name) => {
                let on_v1 = Path::new("/sys/fs/cgroup").join(name).join("cgroup.procs").exists();
                let on_v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
                let there = on_v1 || on_v2.split_whitespace().any(|have| have == name);
                (!there).then(|| format!("the {name} controller is not available"))
            }
            Need::SwapLimit => {
                let v1 = Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists();
                (!v1 && !v2).then(|| "the kernel does not count swap".to_owned())
            }
            Need::BlockIo => {
                let disk = fs::read_dir("/sys/block").is_ok_and(|list| {
                    let real = |name: &str| !["loop", "ram", "zram"].iter().any(|kind| name.starts_with(kind));
                    list.flatten().any(|entry| real(&entry.file_name().to_string_lossy()))
                });
                if !disk {
                    return Some("there is no disk".to_owned());
                }
                let (v1, v2) = (self.lacks_one(Need::Controller("blkio")), self.lacks_one(Need::Controller("io")));
                v1.and(v2)
            }
            Need::Unified => {
                let beside = Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists();
                (!v2 && !beside).then(|| "cgroup2 is not mounted".to_owned())
            }
            Need::Pressure => {
                let file = if v2 { "/sys/fs/cgroup/cpu.pressure" } else { "/sys/fs/cgroup/unified/cpu.pressure" };
                (!Path::new(file).exists()).then(|| "the kernel counts no pressure for cgroups".to_owned())
            }
            Need::Tool(name) => {
                let path = env::var("PATH").unwrap_or_default();
                let there = path.split(':').any(|dir| Path::new(dir).join(name).exists());
                (!there).then(|| format!("{name} is not installed"))
            }
            Need::Hull => self.peer.is_some().then(|| "is about hull alone".to_owned()),
            Need::Verb(verb) => (!has_verb(&self.runtime, verb)).then(|| format!("the runtime has no verb {verb} yet")),
            Need::AppArmor => {
                let on = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
                match on.starts_with('Y') {
                    true => self.lacks_one(Need::Tool("apparmor_parser")),
                    false => Some("AppArmor is off".to_owned()),
                }
            }
            Need::Landlock => {
                let abi = hull::sys::landlock::abi().unwrap_or(0);
                (abi < hull::plan::landlock::ABI).then(|| "Landlock is off or too old".to_owned())
            }
            Need::Criu => criu_complaint(),
            Need::CriuFeature(name) => {
                let there = Command::new("criu").args(["check", "--feature", name]).output();
                (!there.is_ok_and(|output| output.status.success()))
                    .then(|| format!("criu has no {name} with this kernel"))
            }
            Need::Systemd => {
                let bus = match root {
                    true => PathBuf::from("/run/dbus/system_bus_socket"),
                    false => PathBuf::from(env::var_os("XDG_RUNTIME_DIR").unwrap_or_default()).join("bus"),
                };
                let there = Path::new("/run/systemd/system").is_dir() && bus.exists();
                (!there).then(|| "no systemd runs here (hack/vm has one)".to_owned())
            }
            Need::Call(name) => {
                let denied = env::var("HULL_TEST_DENY").unwrap_or_default();
                let calls = denied.split_once(':').map_or("", |(calls, _)| calls);
                calls
                    .split(',')
                    .any(|call| call == name)
                    .then(|| format!("nothing stands in for {name}, which {denied} refuses"))
            }
            Need::NoFilter => {
                env::var("HULL_TEST_DENY").ok().map(|denied| format!("is not for a runtime in a filter ({denied})"))
            }
            Need::Gcc32 => (!can_compile_32_bit()).then(|| "no compiler makes 32-bit programs here".to_owned()),
        }
    }

    /// Why the peer under test is expected to fail this case.
    pub fn known_difference(&self, test: &Test) -> Option<&'static str> {
        let peer = self.peer.as_deref()?;
        test.peers.iter().find(|(name, _)| *name == peer || *name == "*").map(|(_, reason)| *reason)
    }
}

/// Whether the runtime's help lists a verb.
fn has_verb(runtime: &Path, verb: &str) -> bool {
    let Ok(output) = Command::new(runtime).arg("--help").output() else { return false };
    String::from_utf8_lossy(&output.stdout).lines().any(|line| line.split_whitespace().next() == Some(verb))
}

/// Why CRIU cannot be used, by its own check.
fn criu_complaint() -> Option<String> {
    static ANSWER: OnceLock<Option<String>> = OnceLock::new();
    let check = || match Command::new("criu").arg("check").output() {
        Err(_) => Some("criu is not installed".to_owned()),
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let error = said.lines().find_map(|line| line.split_once("Error ")).map_or("", |(_, error)| error);
            Some(format!("criu does not work with this kernel: {error}"))
        }
    };
    ANSWER.get_or_init(check).clone()
}

fn can_compile_32_bit() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let script = "echo 'int main(void){return 0;}' | gcc -m32 -static -nostdlib -e main -x c -o /dev/null -";
        Command::new("sh").args(["-c", script]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    })
}

/// One case: a bundle, an id and the state directory that its commands use.
#[must_use]
pub struct Case {
    pub id: String,
    pub dir: PathBuf,
    pub config: Value,
    pub runtime: PathBuf,
    pub peer: Option<String>,
    /// Shell commands that run before the runtime is executed in the same process, to arrange its surroundings.
    pub before: String,
    pub env: Vec<(String, String)>,
    /// Global options of every command, before the verb.
    pub globals: Vec<String>,
    /// What the runtime reads from its stdin.
    pub stdin: Option<PathBuf>,
    /// System calls that an outer seccomp filter refuses to the runtime, as `CALL[,CALL]...:ERRNO`.
    pub denied: Option<String>,
    commands: AtomicU32,
}

impl Case {
    pub fn new(suite: &Suite, name: &str) -> Result<Case> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("hullit-{}-{number}", process::id());
        let dir = suite.dir.join(format!("{number}"));
        let rootfs = dir.join("bundle/rootfs");
        for sub in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "var", "run", "mnt"] {
            fs::create_dir_all(rootfs.join(sub)).with_context(|| format!("the rootfs of {name}"))?;
        }
        for path in [dir.as_path(), &dir.join("bundle"), &rootfs] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        fs::hard_link(suite.dir.join("busybox"), rootfs.join("bin/busybox"))?;
        for applet in applets(&suite.dir.join("busybox"))? {
            symlink("busybox", rootfs.join("bin").join(applet))?;
        }
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")?;
        fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\n")?;
        let config = default_config(&id);
        Ok(Case {
            id,
            dir,
            config,
            runtime: suite.runtime.clone(),
            peer: suite.peer.clone(),
            before: String::new(),
            env: Vec::new(),
            globals: env::var("HULL_TEST_GLOBALS").iter().flat_map(|text| text.split(' ').map(str::to_owned)).collect(),
            stdin: None,
            denied: env::var("HULL_TEST_DENY").ok(),
            commands: AtomicU32::new(0),
        })
    }

    pub fn bundle(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("bundle/rootfs")
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Changes the config by hand.
    pub fn edit(&mut self, change: impl FnOnce(&mut Value)) -> &mut Case {
        change(&mut self.config);
        self
    }

    /// A config for an ordinary user, who is not who runs the suite.
    pub fn as_ordinary_user(&mut self, uid: u32, gid: u32) -> &mut Case {
        rootless(&mut self.config, uid, gid);
        self
    }

    /// Sets the value at a JSON pointer; objects on the way are made.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Case {
        let mut at = &mut self.config;
        for key in pointer.split('/').skip(1) {
            at = match at {
                Value::Array(list) => &mut list[key.parse::<usize>().expect("an index of an array")],
                other => &mut other[key],
            };
        }
        *at = value;
        self
    }

    pub fn args<S: Into<String>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Case {
        let args: Vec<String> = args.into_iter().map(Into::into).collect();
        self.set("/process/args", json!(args))
    }

    /// The program is a shell script.
    pub fn script(&mut self, script: &str) -> &mut Case {
        self.args(["sh", "-c", script])
    }

    pub fn mount(&mut self, mount: Value) -> &mut Case {
        self.edit(|config| config["mounts"].as_array_mut().expect("mounts are a list").push(mount))
    }

    /// Removes a namespace from the config, so that the caller's is kept.
    pub fn without_namespace(&mut self, kind: &str) -> &mut Case {
        self.edit(|config| {
            let list = config["linux"]["namespaces"].as_array_mut().expect("namespaces are a list");
            list.retain(|namespace| namespace["type"] != kind);
        })
    }

    /// Adds a namespace, or replaces the one of this type.
    pub fn namespace(&mut self, namespace: Value) -> &mut Case {
        self.without_namespace(namespace["type"].as_str().expect("a namespace has a type"));
        self.edit(|config| {
            config["linux"]["namespaces"].as_array_mut().expect("namespaces are a list").push(namespace);
        })
    }

    /// A user namespace that maps 0..1000 to 100000... and gives the rootfs to its root.
    pub fn user_namespace(&mut self) -> Result<&mut Case> {
        if self.peer.is_some() {
            // Peers chown stdin even where it is the host's /dev/null.
            let empty = self.dir.join("empty");
            fs::write(&empty, "")?;
            self.stdin = Some(empty);
        }
        self.namespace(json!({"type": "user"}));
        for key in ["uidMappings", "gidMappings"] {
            self.config["linux"][key] = json!([{"containerID": 0, "hostID": 100_000, "size": 2000}]);
        }
        let rootfs = self.rootfs();
        std::os::unix::fs::chown(&rootfs, Some(100_000), Some(100_000))?;
        for entry in fs::read_dir(&rootfs)? {
            std::os::unix::fs::chown(entry?.path(), Some(100_000), Some(100_000))?;
        }
        Ok(self)
    }

    /// An outer filter answers these calls to the runtime with this errno: `CALL[,CALL]...:ERRNO`.
    pub fn deny(&mut self, calls: &str) -> &mut Case {
        self.denied = Some(calls.to_owned());
        self
    }

    pub fn write_config(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.config)?;
        fs::write(self.bundle().join("config.json"), text).context("write config.json")
    }

    /// Writes another bundle on the same rootfs, with a config of its own; gives its path.
    pub fn bundle_beside(&self, name: &str, change: impl FnOnce(&mut Value)) -> Result<String> {
        let bundle = self.dir.join(name);
        fs::create_dir_all(&bundle)?;
        let mut config = self.config.clone();
        config["root"]["path"] = json!(self.rootfs());
        change(&mut config);
        fs::write(bundle.join("config.json"), serde_json::to_string(&config)?)?;
        Ok(bundle.to_string_lossy().into_owned())
    }

    /// A command of the runtime with this case's `--root`, to its end or its deadline.
    pub fn verb<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Output> {
        self.spawn(args)?.wait(DEADLINE)
    }

    /// Starts a command of the runtime and does not wait for it.
    pub fn spawn<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Running> {
        let args: Vec<S> = args.into_iter().collect();
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (self.dir.join(format!("{number}.out")), self.dir.join(format!("{number}.err")));
        let mut words: Vec<OsString> = Vec::new();
        if !self.before.is_empty() {
            words.extend(["sh", "-c", &format!("{}; exec \"$@\"", self.before), "sh"].map(OsString::from));
        }
        if let Some(denied) = &self.denied {
            // The suite itself is the launcher that installs the filter.
            words.extend([env::current_exe()?.into(), crate::deny::OPTION.into(), denied.into()]);
        }
        words.push(self.runtime.clone().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.arg("--root").arg(self.root());
        // An absolute path of cgroups is about the other driver.
        let path = self.config["linux"]["cgroupsPath"].as_str();
        let about_systemd = path.is_none_or(|path| !path.starts_with('/'));
        command.args(self.globals.iter().filter(|option| about_systemd || *option != "--systemd-cgroup"));
        command.args(&args);
        command.current_dir(&self.dir).envs(self.env.iter().map(|(key, value)| (key, value)));
        match &self.stdin {
            Some(path) => command.stdin(File::open(path)?),
            None => command.stdin(Stdio::null()),
        };
        let append = || File::options().append(true).create(true).clone();
        command.stdout(append().open(&out)?).stderr(append().open(&err)?);
        let line = args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        let child = spawn_child(&mut command).with_context(|| format!("start {}", self.runtime.display()))?;
        Ok(Running { child, out, err, line })
    }

    /// `run` in the foreground.
    pub fn run(&self) -> Result<Output> {
        self.write_config()?;
        self.verb([OsStr::new("run"), "--bundle".as_ref(), self.bundle().as_os_str(), self.id.as_ref()])
    }

    /// `create`, whatever comes of it.
    pub fn try_create(&self, options: &[&str]) -> Result<Output> {
        self.write_config()?;
        let bundle = self.bundle();
        let pid_file = self.dir.join("pid");
        let mut args: Vec<&OsStr> = vec!["create".as_ref(), "--bundle".as_ref(), bundle.as_ref()];
        args.extend(["--pid-file".as_ref(), pid_file.as_os_str()]);
        args.extend(options.iter().map(|option| OsStr::new(*option)));
        args.push(self.id.as_ref());
        self.verb(args)
    }

    /// `create` that must succeed; gives the pid of init and the command's files, to which the container writes.
    pub fn create(&self) -> Result<Init> {
        let output = self.try_create(&[])?.ok()?;
        Ok(Init { pid: self.pid()?, out: output.out })
    }

    /// `create` and `start`.
    pub fn up(&self) -> Result<Init> {
        let init = self.create()?;
        self.verb(["start", &self.id])?.ok()?;
        Ok(init)
    }

    /// The pid in the pid file of the last `create`.
    pub fn pid(&self) -> Result<i32> {
        let text = kernel::read(self.dir.join("pid"))?;
        text.parse().with_context(|| format!("the pid file holds {text:?}"))
    }

    /// `delete --force`, which must succeed.
    pub fn delete(&self) -> Result<()> {
        self.verb(["delete", "--force", &self.id])?.ok().map(drop)
    }

    /// The `state` of the container as JSON.
    pub fn state(&self) -> Result<Value> {
        let output = self.verb(["state", &self.id])?.ok()?;
        serde_json::from_str(&output.stdout).with_context(|| format!("state printed {:?}", output.stdout))
    }

    pub fn status_is(&self, status: &str) -> Result<()> {
        let state = self.state()?;
        ensure!(state["status"] == status, "the status is {}, not {status}", state["status"]);
        Ok(())
    }

    /// Runs the program and expects exit status 0 and exactly this on stdout.
    pub fn prints(&self, expected: &str) -> Result<()> {
        self.run()?.ok()?.stdout_is(expected).map(drop)
    }

    /// The case is over: nothing may be left. What is left is removed by hand.
    pub fn finish(self, result: Result<()>) -> Result<()> {
        reap_orphans();
        let left = self.leftovers();
        if !left.is_empty() || result.is_err() {
            self.clean();
        }
        for _ in 0..20 {
            if fs::remove_dir_all(&self.dir).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        result?;
        ensure!(left.is_empty(), "left behind: {}", left.join("; "));
        Ok(())
    }

    /// What of the container is still there.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> = Vec::new();
        left.extend(kernel::cgroups_named(&self.id).iter().map(|path| format!("cgroup {}", path.display())));
        let dir = self.dir.to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        left.extend(mounts.lines().filter(|line| line.contains(&dir)).map(|line| format!("mount {line}")));
        for entry in fs::read_dir(self.root()).into_iter().flatten().flatten() {
            // What failed is kept there.
            if entry.file_name() == "@why" {
                continue;
            }
            // crun keeps files and directories of no container there (.empty-directory).
            if self.peer.is_none() || !entry.file_name().as_encoded_bytes().starts_with(b".") {
                left.push(format!("state {}", entry.path().display()));
            }
        }
        let processes = || kernel::processes_of(&self.id);
        // A process that was just killed may need a moment to be gone.
        let deadline = Instant::now() + Duration::from_millis(500);
        while !processes().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        for pid in processes() {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            left.push(format!("process {pid} {:?}", command.replace('\0', " ")));
        }
        left
    }

    fn clean(&self) {
        for entry in fs::read_dir(self.root()).into_iter().flatten().flatten() {
            let id = entry.file_name();
            if id == "@why" {
                continue;
            }
            let _ = self.verb([OsStr::new("delete"), "--force".as_ref(), &id]);
        }
        for dir in kernel::cgroups_named(&self.id) {
            let _ = fs::write(dir.join("freezer.state"), "THAWED");
            let _ = fs::write(dir.join("cgroup.freeze"), "0");
        }
        for pid in kernel::processes_of(&self.id) {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
        reap_orphans();
        for mount in kernel::mounts(process::id() as i32).unwrap_or_default().iter().rev() {
            if Path::new(&mount.target).starts_with(&self.dir) {
                let _ = rustix::mount::unmount(mount.target.as_str(), rustix::mount::UnmountFlags::DETACH);
            }
        }
        for dir in kernel::cgroups_named(&self.id) {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// The init of a detached container.
pub struct Init {
    pub pid: i32,
    out: PathBuf,
}

impl Init {
    /// What the container has written to its stdout so far.
    pub fn output(&self) -> Result<String> {
        kernel::read(&self.out)
    }

    /// Waits until the container has written this line to its stdout.
    pub fn wait_for(&self, line: &str) -> Result<()> {
        let there = || self.output().is_ok_and(|text| text.lines().any(|have| have == line));
        kernel::eventually(&format!("the container prints {line:?}"), there)
    }

    /// Waits for the end of init, as the engine's monitor does, and gives its status: 128+n for a signal.
    pub fn wait(&self) -> Result<i32> {
        let pid = Pid::from_raw(self.pid).context("a pid")?;
        let deadline = Instant::now() + DEADLINE;
        loop {
            match rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => {
                    let signal = status.terminating_signal().map(|signal| 128 + signal);
                    return signal.or(status.exit_status()).context("init was neither ended nor killed");
                }
                Ok(None) => ensure!(Instant::now() < deadline, "init {} does not end", self.pid),
                Err(error) => bail!("init {} is not a child of the subreaper: {error}", self.pid),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A command of the runtime that has been started.
pub struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    line: String,
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// What the command and the container have written to stdout so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// Waits for the end; a command that misses the deadline is killed, and that is an error.
    pub fn wait(mut self, deadline: Duration) -> Result<Output> {
        let begun = Instant::now();
        let pid = Pid::from_raw(self.pid()).context("a pid")?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open")?;
        let timeout = Timespec { tv_sec: deadline.as_secs() as i64, tv_nsec: deadline.subsec_nanos().into() };
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        let done = poll(&mut fds, Some(&timeout)).context("poll")? > 0;
        if !done {
            self.kill();
        }
        let status = self.child.wait()?;
        forget_child(&self.child);
        let output = Output {
            status: status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1),
            stdout: String::from_utf8_lossy(&fs::read(&self.out)?).into_owned(),
            stderr: String::from_utf8_lossy(&fs::read(&self.err)?).into_owned(),
            took: begun.elapsed(),
            out: self.out,
            line: self.line,
        };
        ensure!(done, "{} did not end within {deadline:?}; stderr {:?}", output.line, output.stderr);
        Ok(output)
    }
}

/// What became of a command.
#[derive(Debug)]
pub struct Output {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    out: PathBuf,
    line: String,
}

impl Output {
    /// What is in this command's stderr by now: a container that it left writes there, too.
    pub fn stderr_by_now(&self) -> Result<String> {
        kernel::read(self.out.with_extension("err"))
    }

    /// The container whose output goes to this command's.
    pub fn init(self, pid: i32) -> Init {
        Init { pid, out: self.out }
    }

    pub fn status(self, status: i32) -> Result<Output> {
        let Output { stdout, stderr, .. } = &self;
        ensure!(
            self.status == status,
            "`{}` gave status {}, not {status}; stdout {stdout:?}, stderr {stderr:?}",
            self.line,
            self.status
        );
        Ok(self)
    }

    pub fn ok(self) -> Result<Output> {
        self.status(0)
    }

    /// The runtime refused: status 1, and it said why.
    pub fn refused(self) -> Result<Output> {
        let output = self.status(1)?;
        ensure!(!output.stderr.trim().is_empty(), "`{}` failed without a word", output.line);
        Ok(output)
    }

    pub fn stdout_is(self, expected: &str) -> Result<Output> {
        ensure!(self.stdout == expected, "`{}` printed {:?}, not {expected:?}", self.line, self.stdout);
        Ok(self)
    }

    pub fn stdout_has(self, word: &str) -> Result<Output> {
        ensure!(self.stdout.contains(word), "`{}` printed {:?} without {word:?}", self.line, self.stdout);
        Ok(self)
    }

    /// stderr contains this, in any case of letters, as engines compare it.
    pub fn stderr_has(self, word: &str) -> Result<Output> {
        let found = self.stderr.to_lowercase().contains(&word.to_lowercase());
        ensure!(found, "`{}` said {:?} without {word:?}", self.line, self.stderr);
        Ok(self)
    }

    /// stderr is one sentence on one line.
    pub fn one_sentence(self) -> Result<Output> {
        let lines = self.stderr.lines().filter(|line| !line.trim().is_empty()).count();
        ensure!(lines == 1, "`{}` said {lines} lines instead of one: {:?}", self.line, self.stderr);
        Ok(self)
    }
}

/// Starts a child that its case waits for itself.
pub fn spawn_child(command: &mut Command) -> std::io::Result<Child> {
    let mut own = OWN_CHILDREN.lock().expect("held only for a spawn");
    let child = command.spawn()?;
    own.get_or_insert_default().insert(child.id());
    Ok(child)
}

/// It was waited for.
pub fn forget_child(child: &Child) {
    OWN_CHILDREN.lock().expect("held only for a spawn").get_or_insert_default().remove(&child.id());
}

/// Reaps children that no case waits for: inits that were inherited and have exited.
pub fn reap_orphans() {
    let own = OWN_CHILDREN.lock().expect("held only for a spawn");
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return };
    for task in tasks.flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()) {
            let is_own = own.as_ref().is_some_and(|own| own.contains(&(pid as u32)));
            if !is_own && kernel::state_of(pid) == Some('Z') {
                let _ = rustix::process::waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
            }
        }
    }
}

fn applets(busybox: &Path) -> Result<&'static [String]> {
    static LIST: OnceLock<Vec<String>> = OnceLock::new();
    if let Some(list) = LIST.get() {
        return Ok(list);
    }
    let output = Command::new(busybox).arg("--list").output().context("busybox --list")?;
    let text = String::from_utf8(output.stdout)?;
    Ok(LIST.get_or_init(|| text.lines().filter(|name| *name != "busybox").map(str::to_owned).collect()))
}

/// What `runc spec` prints, without a terminal, and with the id in the environment so that processes can be found.
fn default_config(id: &str) -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm",
                    format!("HULL_TEST_ID={id}")],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "hull",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                           {"type": "mount"}, {"type": "cgroup"}],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                            "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                            "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    });
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if !uid.is_root() {
        rootless(&mut config, uid.as_raw(), gid.as_raw());
    }
    config
}

/// What `spec --rootless` makes of it: the caller's single id, nothing that needs more.
fn rootless(config: &mut Value, uid: u32, gid: u32) {
    let linux = &mut config["linux"];
    linux["namespaces"] = json!([{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                                 {"type": "cgroup"}, {"type": "user"}]);
    linux["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
    linux["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
    linux.as_object_mut().expect("an object").remove("resources");
    config["mounts"][2]["options"] = json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
    config["mounts"][5] = json!({"destination": "/sys", "type": "none", "source": "/sys",
                                 "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
    config["mounts"].as_array_mut().expect("a list").pop();
}
