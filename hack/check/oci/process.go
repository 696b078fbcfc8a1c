// process: the program, its user, its limits and its capabilities.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-tools/specerror"
	"github.com/syndtr/gocapability/capability"
)

var (
	_ = program("default", defaults)
	_ = program("process", process)
	_ = program("process_user", processUser)
	_ = program("process_rlimits", processRlimits)
	_ = program("process_capabilities", processCapabilities)
	_ = program("process_kernel", processKernel)
)

// defaults is OCI's default configuration, looked at from all sides.
func defaults(t *T) {
	c := t.container()
	var devices []string
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		devices = append(devices, "/dev/"+name)
	}
	links := map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2"}
	numbers := map[string][2]uint32{"/dev/null": {1, 3}, "/dev/zero": {1, 5}, "/dev/full": {1, 7}, "/dev/random": {1, 8}, "/dev/urandom": {1, 9}, "/dev/tty": {5, 0}}
	paths := append([]string{"/dev/ptmx", "/dev/pts/ptmx", "/dev/console"}, devices...)
	for link := range links {
		paths = append(paths, link)
	}
	c.probe(Probe{Stat: paths, Read: []string{"/dev/null", "/dev/zero", "/dev/urandom"}, Write: []string{"/dev/null", "/tmp", "/sys"}})
	points := []point{
		{specerror.ProcImplement, "the program's arguments are those of process.args", func(r Report) string {
			return equal(r.Args, c.get("process.args"))
		}},
		{specerror.EnvCreateImplement, "the environment holds what process.env says", func(r Report) string {
			for _, variable := range c.get("process.env").(List) {
				if !strings.Contains("\n"+strings.Join(r.Env, "\n")+"\n", "\n"+variable.(string)+"\n") {
					return fmt.Sprint(variable, " is missing in ", r.Env)
				}
			}
			return ""
		}},
		{specerror.EnvCreateImplement, "the host name is set", func(r Report) string { return equal(r.Hostname, "mrsdalloway") }},
		{specerror.ProcImplement, "the program is process 1 of its pid namespace", func(r Report) string { return equal(r.PID, 1) }},
		{specerror.RootReadonlyImplement, "the root file system can be written by default", func(r Report) string { return equal(r.Write["/tmp"], "ok") }},
		{specerror.DefaultFilesystems, "/sys, asked for with ro, is read-only", func(r Report) string {
			if r.Write["/sys"] == "ok" {
				return "written"
			}
			return ""
		}},
		{specerror.DefaultDevices, "/dev/null can be written", func(r Report) string { return equal(r.Write["/dev/null"], "ok") }},
		{specerror.DefaultDevices, "/dev/zero and /dev/urandom give data", func(r Report) string {
			return equal(r.Read["/dev/zero"]+r.Read["/dev/urandom"]+r.Read["/dev/null"], "datadataempty")
		}},
		{specerror.DefaultDevices, "/dev/ptmx leads to the container's own devpts", func(r Report) string {
			f := r.Stat["/dev/ptmx"]
			if f.Type == "l" && (f.Target == "pts/ptmx" || f.Target == "/dev/pts/ptmx") || len(r.Mounts["/dev/ptmx"]) > 0 {
				return ""
			}
			return fmt.Sprint(f)
		}},
		{specerror.DefaultDevices, "/dev/pts/ptmx, where /dev/ptmx leads, is the device that it should be", func(r Report) string {
			f := r.Stat["/dev/pts/ptmx"]
			return equal([]interface{}{f.Type, f.Major, f.Minor}, []interface{}{"c", 5, 2})
		}},
		{specerror.MountsInOrder, "the mounts are there in the order of the configuration", func(r Report) string {
			before := 0
			for _, m := range c.get("mounts").(List) {
				destination := m.(Object)["destination"].(string)
				mounted := r.Mounts[destination]
				if len(mounted) == 0 || mounted[len(mounted)-1].Order <= before {
					return fmt.Sprint(destination, " comes too early, or never: ", mounted)
				}
				before = mounted[len(mounted)-1].Order
			}
			return ""
		}},
		{specerror.EnvCreateImplement, "capabilities are the default ones in all five sets", func(r Report) string { return wrongCapabilities(r, c) }},
		{specerror.PosixProcRlimitsSoftMatchCur, "the default limit of open files is set", func(r Report) string {
			return equal(r.Rlimits["RLIMIT_NOFILE"], [2]uint64{1024, 1024})
		}},
		{specerror.EnvCreateImplement, "no_new_privs is off where noNewPrivileges is absent", func(r Report) string { return equal(r.Status["NoNewPrivs"], "0") }},
		{specerror.EnvCreateImplement, "the seccomp filter is on", func(r Report) string { return equal(r.Status["Seccomp"], "2") }},
	}
	for _, device := range devices {
		device := device
		points = append(points, point{specerror.DefaultDevices, device + " is the device that it should be", func(r Report) string {
			f := r.Stat[device]
			return equal([]interface{}{f.Error, f.Type, f.Major, f.Minor, f.Mode}, []interface{}{"", "c", numbers[device][0], numbers[device][1], 0o666})
		}})
	}
	var all []string
	for link := range links {
		all = append(all, link)
	}
	sort.Strings(all)
	for _, link := range all {
		link := link
		points = append(points, point{specerror.DefaultRuntimeLinuxSymlinks, link + " is the symbolic link that it should be", func(r Report) string {
			return equal(r.Stat[link].Target, links[link])
		}})
	}
	for _, m := range c.get("mounts").(List) {
		mount := m.(Object)
		destination := mount["destination"].(string)
		points = append(points, point{specerror.DefaultFilesystems, destination + " is mounted as asked", func(r Report) string {
			mounted := r.Mounts[destination]
			if len(mounted) == 0 {
				return "not mounted"
			}
			last := mounted[len(mounted)-1]
			if wrong := equal(last.Type, mount["type"]); wrong != "" {
				return wrong
			}
			if wrong := equal(last.Source, mount["source"]); wrong != "" {
				return wrong
			}
			for _, option := range mount["options"].(List) {
				if option == "strictatime" || strings.Contains(option.(string), "=") || option == "newinstance" {
					continue
				}
				if !strings.Contains(","+last.Options+",", ","+option.(string)+",") {
					return fmt.Sprint(option, " is missing in ", last.Options)
				}
			}
			return ""
		}})
	}
	t.seen(c, points...)
}

func process(t *T) {
	c := t.container().set("process.cwd", "/tmp").set("process.env", List{"A=1", "EMPTY=", "WITH=a=b c", "PATH=/"}).set("process.consoleSize", Object{"height": 25, "width": 80})
	t.seen(c,
		point{specerror.ProcCwdAbs, "the program starts in process.cwd", func(r Report) string { return equal(r.Cwd, "/tmp") }},
		point{specerror.EnvCreateImplement, "an environment variable keeps equal signs and spaces", func(r Report) string {
			return missing(r.Env, "WITH=a=b c")
		}},
		point{specerror.EnvCreateImplement, "an environment variable may be empty", func(r Report) string { return missing(r.Env, "EMPTY=") }},
		point{specerror.ProcConsoleSizeIgnore, "consoleSize without terminal is ignored", func(r Report) string { return equal(r.Hostname, "mrsdalloway") }},
		point{"runtime.md: process", "the program leads a session", func(r Report) string { return equal(r.SID, r.PID) }},
		point{"runtime.md: process", "no signal is blocked", func(r Report) string { return equal(r.Status["SigBlk"], "0000000000000000") }},
	)
	t.refused(t.container().set("process.cwd", "tmp"), specerror.ProcCwdAbs, "a relative cwd is an error")
	t.refused(t.container().set("process.cwd", ""), specerror.ProcCwdAbs, "an empty cwd is an error")
	t.refused(t.container().set("process.args", List{}), specerror.ProcArgsOneEntryRequired, "empty args are an error")
	t.refused(t.container().set("process.args", nil), specerror.ProcArgsOneEntryRequired, "absent args are an error")
	t.refused(t.container().set("process.args", List{"/no/such/program"}), specerror.ProcImplement, "a program that does not exist is an error")
	t.refused(t.container().set("process.args", List{"no-such-program"}), specerror.ProcImplement, "a program that is not in PATH is an error")
	t.refused(t.container().set("process.args", List{"/tmp"}), specerror.ProcImplement, "a program that is a directory is an error")
	plain := t.container()
	check(os.WriteFile(plain.path("plain"), []byte("no program"), 0o644))
	t.refused(plain.set("process.args", List{"/plain"}), specerror.ProcImplement, "a program that is not executable is an error")
	c = t.container()
	c.set("process.env", List{"PATH=/nowhere:/"})
	args := c.get("process.args").(List)
	t.taken(c.set("process.args", append(List{"probe"}, args[1:]...)), specerror.ProcArgsOneEntryRequired, "args[0] is looked up in the PATH of process.env, as execvp does")
	c = t.container()
	args = c.get("process.args").(List)
	c.set("process.cwd", "/").set("process.args", append(List{"./probe"}, args[1:]...))
	t.taken(c, specerror.ProcArgsOneEntryRequired, "args[0] with a slash is taken from cwd")
	t.refused(t.container().set("process.apparmorProfile", "conformance-no-such"), specerror.PropApplyFailGenError, "an AppArmor profile that cannot be applied is an error")
	t.refused(t.container().set("process.selinuxLabel", "conformance:no:such:s0"), specerror.PropApplyFailGenError, "an SELinux label that cannot be applied is an error")
	t.refused(t.container().set("process.terminal", true), specerror.PropApplyFailGenError, "create with a terminal and without a console socket is an error")
	t.seen(t.container().set("process.noNewPrivileges", true), point{specerror.EnvCreateImplement, "noNewPrivileges is applied", func(r Report) string { return equal(r.Status["NoNewPrivs"], "1") }})
	t.seen(t.container().set("process.oomScoreAdj", 100), point{specerror.LinuxProcOomScoreAdjSet, "oomScoreAdj is applied", func(r Report) string { return equal(r.OomScoreAdj, 100) }})
	own := text("/proc/self/oom_score_adj")
	t.seen(t.container(), point{specerror.LinuxProcOomScoreAdjNotSet, "without oomScoreAdj the value stays the runtime's", func(r Report) string { return equal(r.OomScoreAdj, own) }})
	t.refused(t.container().set("process.oomScoreAdj", 5000), specerror.ValidValues, "an oomScoreAdj of 5000 is an error")
	console(t)
}

func missing(list []string, want string) string {
	for _, got := range list {
		if got == want {
			return ""
		}
	}
	return fmt.Sprintf("%q is missing in %q", want, list)
}

func processUser(t *T) {
	c := t.container().set("process.user", Object{"uid": 1000, "gid": 1001, "additionalGids": List{5, 2000}, "umask": 0o027})
	// As another user the probe needs a world that it may look at, and no capability.
	c.set("process.capabilities", nil)
	t.seen(c,
		point{specerror.EnvCreateImplement, "process.user.uid is applied to all ids", func(r Report) string { return equal(r.Status["Uid"], "1000\t1000\t1000\t1000") }},
		point{specerror.EnvCreateImplement, "process.user.gid is applied to all ids", func(r Report) string { return equal(r.Status["Gid"], "1001\t1001\t1001\t1001") }},
		point{specerror.EnvCreateImplement, "process.user.additionalGids are the supplementary groups", func(r Report) string {
			groups := r.Groups
			sort.Ints(groups)
			return equal(groups, []int{5, 2000})
		}},
		point{"config.md: user", "process.user.umask is applied", func(r Report) string { return equal(r.Umask, 0o027) }},
		point{specerror.EnvCreateImplement, "absent capabilities are none", func(r Report) string {
			return equal(r.Status["CapEff"]+r.Status["CapPrm"]+r.Status["CapAmb"], strings.Repeat("0", 48))
		}},
	)
	own := t.container().set("process.user", Object{"uid": 10, "gid": 10, "additionalGids": List{5}, "umask": 0o002})
	t.seen(own, point{"config.md: user", "uid, gid, additionalGids and umask of one user are applied with the default capabilities", func(r Report) string {
		return equal([]interface{}{r.UID, r.GID, r.Groups, r.Umask}, []interface{}{10, 10, []int{5}, 2})
	}})
	t.seen(t.container(), point{"config.md: user", "without additionalGids the caller's groups are not handed on", func(r Report) string {
		return equal(r.Groups, []int{})
	}})
	t.refused(t.container().set("process.user", Object{"uid": 4294967296, "gid": 0}), specerror.ValidValues, "a uid that no kernel has is an error")
}

func processRlimits(t *T) {
	c := t.container()
	// The probe's language raises the soft limit of open files by itself: that one is given as high as the hard one.
	want := map[string][2]uint64{
		"RLIMIT_AS": {1 << 40, 1 << 41}, "RLIMIT_CORE": {1024, 4096}, "RLIMIT_CPU": {600, 700}, "RLIMIT_DATA": {1 << 39, 1 << 40},
		"RLIMIT_FSIZE": {1 << 30, 1 << 31}, "RLIMIT_MEMLOCK": {4096, 8192}, "RLIMIT_MSGQUEUE": {4096, 8192}, "RLIMIT_NICE": {0, 0},
		"RLIMIT_NOFILE": {512, 512}, "RLIMIT_NPROC": {512, 1024}, "RLIMIT_RSS": {1 << 30, 1 << 31}, "RLIMIT_RTPRIO": {0, 0},
		"RLIMIT_RTTIME": {1000000, 2000000}, "RLIMIT_SIGPENDING": {100, 200}, "RLIMIT_STACK": {1 << 20, 1 << 22}, "RLIMIT_LOCKS": {100, 200},
	}
	var list List
	var kinds []string
	for kind := range want {
		kinds = append(kinds, kind)
	}
	sort.Strings(kinds)
	for _, kind := range kinds {
		list = append(list, Object{"type": kind, "soft": want[kind][0], "hard": want[kind][1]})
	}
	c.set("process.rlimits", list)
	var points []point
	for _, kind := range kinds {
		kind := kind
		points = append(points,
			point{specerror.PosixProcRlimitsSoftMatchCur, kind + ": the soft limit is the configured one", func(r Report) string { return equal(r.Rlimits[kind][0], want[kind][0]) }},
			point{specerror.PosixProcRlimitsHardMatchMax, kind + ": the hard limit is the configured one", func(r Report) string { return equal(r.Rlimits[kind][1], want[kind][1]) }})
	}
	t.seen(c, points...)
	t.refused(t.container().set("process.rlimits", List{Object{"type": "RLIMIT_IMAGINARY", "soft": 1, "hard": 1}}), specerror.PosixProcRlimitsTypeGenError, "an unknown type of limit is an error")
	t.refused(t.container().set("process.rlimits", List{Object{"type": "", "soft": 1, "hard": 1}}), specerror.PosixProcRlimitsTypeValueError, "an empty type of limit is an error")
	same := Object{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
	t.refused(t.container().set("process.rlimits", List{same, same}), specerror.PosixProcRlimitsErrorOnDup, "two limits of the same type are an error")
	t.refused(t.container().set("process.rlimits", List{same, Object{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}}), specerror.PosixProcRlimitsErrorOnDup, "two limits of the same type with different values are an error")
	t.refused(t.container().set("process.rlimits", List{Object{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}}), specerror.PosixProcRlimitsTypeGet, "a soft limit above the hard one is an error")
	t.refused(t.container().set("process.rlimits", List{Object{"type": "RLIMIT_CORE", "soft": -5, "hard": 1}}), specerror.ValidValues, "a negative limit is an error")
}

var sets = []struct{ property, line string }{
	{"bounding", "CapBnd"}, {"effective", "CapEff"}, {"permitted", "CapPrm"}, {"inheritable", "CapInh"}, {"ambient", "CapAmb"},
}

func bit(name string) uint64 {
	for _, c := range capability.List() {
		if "CAP_"+strings.ToUpper(c.String()) == name {
			return 1 << uint(c)
		}
	}
	return 0
}

// wrongCapabilities compares the five sets with the configuration.
func wrongCapabilities(r Report, c *Container) string {
	for _, set := range sets {
		var want uint64
		list, _ := c.get("process.capabilities." + set.property).(List)
		for _, name := range list {
			want |= bit(name.(string))
		}
		got, _ := strconv.ParseUint(r.Status[set.line], 16, 64)
		if got != want {
			return fmt.Sprintf("%s: %#x, not %#x", set.property, got, want)
		}
	}
	return ""
}

func processCapabilities(t *T) {
	same := func(names ...interface{}) Object {
		o := Object{}
		for _, set := range sets {
			o[set.property] = List(names)
		}
		return o
	}
	// All that the runtime itself may hand on, which is what "privileged" means.
	var all List
	status, _ := os.ReadFile("/proc/self/status")
	_, after, _ := strings.Cut(string(status), "CapBnd:")
	bounding, _ := strconv.ParseUint(strings.Fields(after)[0], 16, 64)
	for _, c := range capability.List() {
		name := "CAP_" + strings.ToUpper(c.String())
		if bounding&bit(name) != 0 {
			all = append(all, name)
		}
	}
	for _, one := range []struct {
		what         string
		capabilities Object
		uid          int
	}{
		{"all that the runtime has in all sets", same(all...), 0},
		{"all that the runtime has in all sets, for a user that is not root", same(all...), 1000},
		{"one capability in all sets", same("CAP_NET_RAW"), 0},
		{"no capability in any set", Object{}, 0},
		{"a capability in the bounding set only", Object{"bounding": List{"CAP_KILL"}}, 0},
		{"permitted and not effective", Object{"bounding": List{"CAP_KILL", "CAP_CHOWN"}, "permitted": List{"CAP_KILL"}}, 0},
		{"inheritable and not ambient", Object{"bounding": List{"CAP_KILL"}, "inheritable": List{"CAP_KILL"}, "permitted": List{"CAP_KILL"}, "effective": List{"CAP_KILL"}}, 0},
		{"ambient ones for a user that is not root", same("CAP_NET_BIND_SERVICE", "CAP_KILL"), 1000},
		{"none for a user that is not root", Object{"bounding": List{"CAP_KILL"}}, 1000},
	} {
		c := t.container().set("process.capabilities", one.capabilities).set("process.user.uid", one.uid)
		// execve of root gives all of the bounding set, unless the bounding set is what is looked at.
		root := one.uid == 0
		t.seen(c, point{specerror.EnvCreateImplement, "capabilities: " + one.what, func(r Report) string {
			if !root {
				return wrongCapabilities(r, c)
			}
			want := map[string]uint64{}
			for _, set := range sets {
				list, _ := c.get("process.capabilities." + set.property).(List)
				for _, name := range list {
					want[set.property] |= bit(name.(string))
				}
			}
			// capabilities(7): P'(permitted) of root is P(inheritable) | P(bounding), and effective the same.
			all := want["bounding"] | want["inheritable"]
			for _, set := range sets {
				got, _ := strconv.ParseUint(r.Status[set.line], 16, 64)
				expected := want[set.property]
				if set.property == "permitted" || set.property == "effective" {
					expected = all
				}
				if got != expected {
					return fmt.Sprintf("%s: %#x, not %#x", set.property, got, expected)
				}
			}
			return ""
		}})
	}
	// Newer versions of the specification want a warning here (config.md: "SHOULD be logged as a warning").
	t.taken(t.container().set("process.capabilities", same("CAP_IMAGINARY", "CAP_KILL")), "config.md: capabilities (1.1: unknown ones are logged)", "an unknown capability is no error")
}

func processKernel(t *T) {
	t.seen(t.container().set("process.scheduler", Object{"policy": "SCHED_BATCH", "nice": 3}), point{"config.md: scheduler", "scheduler: SCHED_BATCH with nice 3 is applied", func(r Report) string {
		return equal([]int{r.Scheduler, r.Nice}, []int{3, 3})
	}})
	t.seen(t.container().set("process.scheduler", Object{"policy": "SCHED_OTHER", "nice": 7}), point{"config.md: scheduler", "scheduler: SCHED_OTHER with nice 7 is applied", func(r Report) string {
		return equal([]int{r.Scheduler, r.Nice}, []int{0, 7})
	}})
	t.refused(t.container().set("process.scheduler", Object{"policy": "SCHED_IMAGINARY"}), "config.md: scheduler", "scheduler: an unknown policy is an error")
	t.refused(t.container().set("process.scheduler", Object{"policy": "SCHED_OTHER", "flags": List{"SCHED_FLAG_IMAGINARY"}}), "config.md: scheduler", "scheduler: an unknown flag is an error")
	t.seen(t.container().set("process.ioPriority", Object{"class": "IOPRIO_CLASS_BE", "priority": 6}), point{"config.md: ioPriority", "ioPriority is applied", func(r Report) string {
		return equal(r.IOPriority, 2<<13|6)
	}})
	t.refused(t.container().set("process.ioPriority", Object{"class": "IOPRIO_CLASS_IMAGINARY", "priority": 1}), "config.md: ioPriority", "ioPriority: an unknown class is an error")
	t.refused(t.container().set("process.ioPriority", Object{"class": "IOPRIO_CLASS_BE", "priority": 9}), "config.md: ioPriority", "ioPriority: a priority of 9 is an error")
	t.seen(t.container().set("process.execCPUAffinity", Object{"initial": "0", "final": "0"}), point{"config.md: execCPUAffinity", "execCPUAffinity says nothing about create", func(r Report) string { return "" }})
	t.seen(t.container().set("linux.personality", Object{"domain": "LINUX32"}), point{"config-linux.md: personality", "personality LINUX32 is applied", func(r Report) string { return equal(r.Machine, "i686") }})
	t.seen(t.container().set("linux.personality", Object{"domain": "LINUX"}), point{"config-linux.md: personality", "personality LINUX is applied", func(r Report) string { return equal(r.Machine, "x86_64") }})
	t.seen(t.container().set("domainname", "conformance.example"), point{"config.md: domainname", "domainname is applied", func(r Report) string { return equal(r.Domain, "conformance.example") }})
	t.seen(t.container().set("hostname", "conformance-host"), point{"config.md: hostname", "hostname is applied", func(r Report) string { return equal(r.Hostname, "conformance-host") }})
	host, err := os.Hostname()
	check(err)
	t.seen(t.container().set("hostname", nil), point{"config.md: hostname", "without hostname the name stays the one of a new uts namespace", func(r Report) string { return equal(r.Hostname, host) }})
	t.refused(t.container().set("hostname", strings.Repeat("a", 65)), specerror.ValidValues, "a host name of 65 bytes is an error")
	t.refused(t.container().namespaces("pid", "network", "ipc", "mount"), "config.md: hostname", "a host name without a uts namespace is an error")
	t.refused(t.container().set("linux.intelRdt", Object{"closID": "conformance", "l3CacheSchema": "L3:0=f"}), specerror.IntelRdtNoMountedResctrlError, "intelRdt without a mounted resctrl is an error")
	t.refused(t.container().set("linux.memoryPolicy", Object{"mode": "MPOL_IMAGINARY", "nodes": "0"}), "config-linux.md: memoryPolicy (1.3)", "memoryPolicy: an unknown mode is an error")
	seccomp := t.container().set("linux.memoryPolicy", Object{"mode": "MPOL_BIND", "nodes": "0"})
	t.taken(seccomp, "config-linux.md: memoryPolicy (1.3)", "memoryPolicy: MPOL_BIND on node 0 is taken")
}

// console gives the terminal of a container to a socket.
func console(t *T) {
	c := t.container().set("process.terminal", true).set("process.consoleSize", Object{"height": 33, "width": 77})
	socket := filepath.Join(t.dir, "console.sock")
	master, done, err := receiveTerminal(socket)
	if err != nil {
		t.ok(false, specerror.EnvCreateImplement, "a console socket can be made", err)
		return
	}
	answer := c.create("--console-socket", socket)
	t.ok(answer.ok(), specerror.EnvCreateImplement, "create with a terminal and a console socket succeeds", answer)
	fd := master()
	defer done()
	t.ok(fd > 2, specerror.EnvCreateImplement, "the console socket is given the terminal")
	rows, columns := windowSize(fd)
	c.start()
	output := readTerminal(fd)
	t.ok(strings.Contains(output, `"Hostname"`), specerror.ProcImplement, "the program writes to the terminal", output)
	t.ok(rows == 33 && columns == 77, specerror.ProcConsoleSizeIgnore, "consoleSize is applied to the terminal", rows, columns)
}
