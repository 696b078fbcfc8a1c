// linux: namespaces, mappings, kernel parameters, seccomp.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-tools/specerror"
	"golang.org/x/sys/unix"
)

var (
	_ = program("linux_namespaces", linuxNamespaces)
	_ = program("linux_user_namespace", linuxUserNamespace)
	_ = program("linux_sysctl", linuxSysctl)
	_ = program("linux_seccomp", linuxSeccomp)
)

var kinds = []struct {
	oci, proc string
	flag      uintptr
}{
	{"pid", "pid", unix.CLONE_NEWPID}, {"network", "net", unix.CLONE_NEWNET}, {"mount", "mnt", unix.CLONE_NEWNS}, {"ipc", "ipc", unix.CLONE_NEWIPC},
	{"uts", "uts", unix.CLONE_NEWUTS}, {"cgroup", "cgroup", unix.CLONE_NEWCGROUP}, {"time", "time", unix.CLONE_NEWTIME},
}

func without(kind string, also ...string) []string {
	var list []string
	for _, k := range []string{"pid", "network", "mount", "ipc", "uts"} {
		if k != kind {
			list = append(list, k)
		}
	}
	return append(list, also...)
}

func linuxNamespaces(t *T) {
	ours := namespacesOf("self")
	for _, k := range kinds {
		k := k
		// A time namespace is taken by what is executed; the others are there at once.
		t.seen(t.container().namespaces(without(k.oci, k.oci)...), point{specerror.NSNewNSWithoutPath, "without a path a new namespace is made: " + k.oci, func(r Report) string {
			return unequal(r.Namespaces[k.proc], ours[k.proc])
		}})
		if k.oci != "mount" {
			c := t.container().namespaces(without(k.oci)...)
			if k.oci == "uts" {
				c.set("hostname", nil)
			}
			if k.oci == "ipc" {
				c.set("mounts", withoutMount(c, "/dev/mqueue"))
			}
			if k.oci == "network" {
				c.set("mounts", withoutMount(c, "/sys"))
			}
			t.seen(c, point{specerror.NSInheritWithoutType, "a type that is not listed is inherited: " + k.oci, func(r Report) string { return equal(r.Namespaces[k.proc], ours[k.proc]) }})
		}
		pid, err := t.holder(k.flag)
		if err != nil {
			t.skip(specerror.NSProcInPath, "the program is in the namespace of the path: "+k.oci, fmt.Sprint(err))
			continue
		}
		path := fmt.Sprintf("/proc/%d/ns/%s", pid, k.proc)
		if k.oci == "pid" || k.oci == "time" {
			// The holder was made in it, and is its first process.
			path = fmt.Sprintf("/proc/%d/ns/%s", pid, k.proc)
		}
		want, _ := os.Readlink(path)
		c := t.container().namespaces(without(k.oci, k.oci+":"+path)...)
		if k.oci == "mount" {
			c.set("root.path", c.path())
		}
		if k.oci == "uts" {
			c.set("hostname", nil)
		}
		t.seen(c, point{specerror.NSProcInPath, "the program is in the namespace of the path: " + k.oci, func(r Report) string { return equal(r.Namespaces[k.proc], want) }})
		wrong := "ipc"
		if k.oci == "ipc" {
			wrong = "uts"
		}
		t.refused(t.container().namespaces(without(k.oci, fmt.Sprintf("%s:/proc/%d/ns/%s", k.oci, os.Getpid(), wrong))...), specerror.NSPathMatchTypeError, "a path of another type of namespace is an error: "+k.oci)
		t.refused(t.container().namespaces(without(k.oci, k.oci, k.oci)...), specerror.NSErrorOnDup, "a type that is listed twice is an error: "+k.oci)
	}
	// Each in place of the next one, as a path of the runtime's own process.
	ring := append(append([]struct {
		oci, proc string
		flag      uintptr
	}{}, kinds...), kinds[0])
	for i, k := range ring[:len(ring)-1] {
		wrong := ring[i+1].proc
		t.refused(t.container().namespaces(without(k.oci, k.oci+":/proc/self/ns/"+wrong)...), specerror.NSPathMatchTypeError, "the "+wrong+" namespace of the runtime is none of type "+k.oci)
	}
	t.refused(t.container().namespaces(without("", "user:/proc/self/ns/uts")...), specerror.NSPathMatchTypeError, "the uts namespace of the runtime is none of type user")
	t.refused(t.container().namespaces(without("pid", "pid:/proc/self/ns/user")...), specerror.NSPathMatchTypeError, "the user namespace of the runtime is none of type pid")

	all := t.container().namespaces(without("", "cgroup", "user")...).probe(Probe{Wait: true})
	all.set("linux.uidMappings", List{Object{"containerID": 0, "hostID": 1000, "size": 1000}}).set("linux.gidMappings", List{Object{"containerID": 0, "hostID": 1000, "size": 1000}})
	created := all.create()
	got, _ := all.state()
	theirs := namespacesOf(fmt.Sprint(got.Pid))
	for kind, inode := range ours {
		if kind == "time" {
			continue
		}
		t.ok(created.ok() && theirs[kind] != "" && theirs[kind] != inode, specerror.NSNewNSWithoutPath, "with many types listed a new one is made at create: "+kind, created, theirs[kind])
	}
	all.delete("--force")
	none := t.container().namespaces().set("hostname", nil).probe(Probe{Wait: true})
	created = none.create()
	got, _ = none.state()
	theirs = namespacesOf(fmt.Sprint(got.Pid))
	for kind, inode := range ours {
		t.ok(created.ok() && theirs[kind] == inode, specerror.NSInheritWithoutType, "with no type listed the runtime's is inherited: "+kind, created, theirs[kind], inode)
	}
	below := func() []string {
		var list []string
		for place := range mountinfo() {
			if strings.HasPrefix(place, none.path()) {
				list = append(list, place)
			}
		}
		return list
	}
	during := below()
	answer := none.delete("--force")
	t.ok(answer.ok() && len(during) > 0 && len(below()) == 0, specerror.DeleteResImplement, "delete takes the mounts away that were made in the runtime's mount namespace", answer, during, below())
	t.refused(t.container().namespaces(without("network", "network:/no/such/namespace")...), specerror.NSProcInPath, "a path that does not exist is an error")
	c := t.container()
	check(os.WriteFile(c.path("etc", "file"), nil, 0o644))
	t.refused(c.namespaces(without("network", "network:"+c.path("etc", "file"))...), specerror.NSPathMatchTypeError, "a path that is no namespace is an error")
	c = t.container()
	check(os.Symlink(fmt.Sprintf("/proc/%d/ns/net", os.Getpid()), c.bundle+"/relative"))
	t.refused(c.namespaces(without("network", "network:relative")...), specerror.NSPathAbs, "a relative path is an error")
	t.seen(t.container().namespaces(without("", "time")...).set("linux.timeOffsets", Object{"monotonic": Object{"secs": 1000, "nanosecs": 5}, "boottime": Object{"secs": 2000}}),
		point{"config-linux.md: timeOffsets", "offsets of a time namespace are applied", func(r Report) string {
			f := strings.Fields(r.TimeOffsets)
			return equal(strings.Join(f, " "), "monotonic 1000 5 boottime 2000 0")
		}})
	t.refused(t.container().set("linux.timeOffsets", Object{"monotonic": Object{"secs": 1000}}), "config-linux.md: timeOffsets", "offsets without a time namespace are an error")
}

func withoutMount(c *Container, destination string) List {
	var list List
	for _, m := range c.get("mounts").(List) {
		if m.(Object)["destination"] != destination {
			list = append(list, m)
		}
	}
	return list
}

func linuxUserNamespace(t *T) {
	c := t.container().namespaces(without("", "user")...)
	uids, gids := List{Object{"containerID": 0, "hostID": 100000, "size": 1000}, Object{"containerID": 2000, "hostID": 200000, "size": 5}}, List{Object{"containerID": 0, "hostID": 300000, "size": 1000}}
	c.set("linux.uidMappings", uids).set("linux.gidMappings", gids)
	for _, dir := range []string{"", "out", "tmp", "dev", "proc", "sys", "etc", "probe"} {
		check(os.Chown(c.path(dir), 100000, 300000))
	}
	check(os.WriteFile(c.path("etc", "foreign"), nil, 0o644))
	c.probe(Probe{Stat: []string{"/etc/foreign", "/out", "/dev/null", "/dev/tty", "/dev/mqueue"}, Write: []string{"/dev/null", "/out"}})
	t.seen(c,
		point{specerror.EnvCreateImplement, "uidMappings are those of the user namespace", func(r Report) string {
			return equal(strings.Join(strings.Fields(r.UIDMap), " "), "0 100000 1000 2000 200000 5")
		}},
		point{specerror.EnvCreateImplement, "gidMappings are those of the user namespace", func(r Report) string {
			return equal(strings.Join(strings.Fields(r.GIDMap), " "), "0 300000 1000")
		}},
		point{specerror.UserNSMapOwnershipRO, "the owner of a file is left alone: one that is not mapped is the overflow id", func(r Report) string {
			f := r.Stat["/etc/foreign"]
			return equal([]uint32{f.UID, f.GID}, []uint32{65534, 65534})
		}},
		point{specerror.EnvCreateImplement, "a file of the mapped root is root's", func(r Report) string {
			f := r.Stat["/out"]
			return equal([]uint32{f.UID, f.GID}, []uint32{0, 0})
		}},
		point{specerror.DefaultDevices, "devices are there in a user namespace", func(r Report) string {
			return equal(fmt.Sprint(r.Stat["/dev/null"].Type, r.Stat["/dev/null"].Minor, r.Write["/dev/null"]), "c3ok")
		}},
		point{specerror.EnvCreateImplement, "/dev/mqueue is root's in a user namespace", func(r Report) string { return equal(r.Stat["/dev/mqueue"].UID, 0) }},
		point{specerror.NSNewNSWithoutPath, "without a path a new namespace is made: user", func(r Report) string { return unequal(r.Namespaces["user"], namespacesOf("self")["user"]) }})
	owner := stat(c.path("etc", "foreign"))
	t.ok(owner.UID == 0 && owner.GID == 0, specerror.UserNSMapOwnershipRO, "the owner of a file on the host is left alone", owner)
	t.refused(t.container().namespaces(without("", "user")...).set("linux.uidMappings", List{Object{"containerID": 0, "hostID": 100000, "size": 0}}).set("linux.gidMappings", gids), specerror.ValidValues, "a mapping of size 0 is an error")
	t.refused(t.container().namespaces(without("", "user")...).set("linux.uidMappings", List{Object{"containerID": 0, "hostID": 100000, "size": 10}, Object{"containerID": 5, "hostID": 200000, "size": 10}}).set("linux.gidMappings", gids), specerror.ValidValues, "mappings that overlap are an error")
	t.refused(t.container().set("linux.uidMappings", uids).set("linux.gidMappings", gids), specerror.ValidValues, "mappings without a user namespace are an error")
	t.refused(t.container().namespaces(without("", "user")...), specerror.EnvCreateError, "a user namespace without mappings is an error")
	d := t.container().namespaces(without("", "user")...).set("linux.uidMappings", uids).set("linux.gidMappings", gids).set("process.user.uid", 5000)
	t.refused(d, specerror.EnvCreateError, "a user that is not mapped is an error")
	e := t.container()
	t.refused(e.namespaces(without("", "user", fmt.Sprintf("user:/proc/%d/ns/net", os.Getpid()))...), specerror.NSPathMatchTypeError, "a path of another type of namespace is an error: user")
	t.refused(t.container().namespaces(without("", "user", "user")...).set("linux.uidMappings", uids).set("linux.gidMappings", gids), specerror.NSErrorOnDup, "a type that is listed twice is an error: user")
}

func linuxSysctl(t *T) {
	parameters := []struct{ name, value string }{{"net.ipv4.ip_forward", "1"}, {"kernel.msgmax", "12345"}, {"kernel.shm_rmid_forced", "1"}, {"fs.mqueue.msg_max", "77"}}
	c, probe := t.container(), Probe{}
	var points []point
	for _, p := range parameters {
		value, path := p.value, "/proc/sys/"+strings.ReplaceAll(p.name, ".", "/")
		object, _ := c.get("linux.sysctl").(Object)
		if object == nil {
			object = Object{}
		}
		object[p.name] = value
		c.set("linux.sysctl", object)
		probe.Text = append(probe.Text, path)
		points = append(points, point{"config-linux.md: sysctl", "sysctl " + p.name + " is applied", func(r Report) string { return equal(r.Text[path], value) }})
	}
	t.seen(c.probe(probe), points...)
	t.refused(t.container().set("linux.sysctl", Object{"kernel.no_such_parameter": "1"}), specerror.EnvCreateError, "an unknown kernel parameter is an error")
	t.refused(t.container().set("linux.sysctl", Object{"vm.overcommit_ratio": text("/proc/sys/vm/overcommit_ratio")}), specerror.EnvCreateError, "a kernel parameter of the whole machine is an error")
	t.refused(t.container().namespaces(without("network")...).set("linux.sysctl", Object{"net.ipv4.ip_forward": "0"}), specerror.EnvCreateError, "a kernel parameter of a namespace that is the host's is an error")
	t.refused(t.container().set("linux.sysctl", Object{"kernel.msgmax": "many"}), specerror.EnvCreateError, "a value that the kernel refuses is an error")
	t.seen(t.container().set("linux.sysctl", Object{"net/ipv4/conf/lo/forwarding": "1"}), point{"config-linux.md: sysctl", "sysctl with slashes is taken", func(Report) string { return "" }})
	t.seen(t.container().set("linux.sysctl", Object{"kernel.domainname": "by.sysctl"}), point{"config-linux.md: sysctl", "sysctl kernel.domainname is applied", func(r Report) string { return equal(r.Domain, "by.sysctl") }})
}

func rule(action string, names ...string) Object {
	list := List{}
	for _, name := range names {
		list = append(list, name)
	}
	return Object{"names": list, "action": action}
}

func linuxSeccomp(t *T) {
	filter := func(rules ...interface{}) Object {
		return Object{"defaultAction": "SCMP_ACT_ALLOW", "architectures": List{"SCMP_ARCH_X86_64"}, "syscalls": List(rules)}
	}
	with := func(seccomp Object, calls ...string) *Container {
		return t.container().set("linux.seccomp", seccomp).set("process.noNewPrivileges", true).probe(Probe{Calls: calls})
	}
	const section = "config-linux.md: seccomp"
	t.seen(with(filter(rule("SCMP_ACT_ERRNO", "getcwd")), "getcwd", "mkdir"),
		point{section, "SCMP_ACT_ERRNO gives EPERM", func(r Report) string { return equal(r.Calls["getcwd"], "operation not permitted") }},
		point{section, "a call that no rule names is the default action's", func(r Report) string { return equal(r.Calls["mkdir"], "ok") }})
	numbered := rule("SCMP_ACT_ERRNO", "mkdir", "mkdirat")
	numbered["errnoRet"] = 28
	t.seen(with(filter(numbered), "mkdir"), point{section, "errnoRet of a rule is given", func(r Report) string { return equal(r.Calls["mkdir"], "no space left on device") }})
	argument := rule("SCMP_ACT_ERRNO", "personality")
	argument["args"] = List{Object{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}}
	t.seen(with(filter(argument), "personality", "personality8"), point{section, "a rule with an argument matches only that", func(r Report) string {
		return equal(r.Calls["personality"]+" "+r.Calls["personality8"], "ok operation not permitted")
	}})
	masked := rule("SCMP_ACT_ERRNO", "personality")
	masked["args"] = List{Object{"index": 0, "value": 0xf, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}}
	t.seen(with(filter(masked), "personality", "personality8"), point{section, "a rule with a masked argument matches only that", func(r Report) string {
		return equal(r.Calls["personality"]+" "+r.Calls["personality8"], "ok operation not permitted")
	}})
	both := filter(rule("SCMP_ACT_ERRNO", "getcwd"))
	both["defaultErrnoRet"] = 38
	t.refused(with(both, "getcwd"), section, "defaultErrnoRet is an error where the default action has no errno")
	errno := rule("SCMP_ACT_LOG", "getcwd")
	errno["errnoRet"] = 38
	t.refused(with(filter(errno), "getcwd"), section, "errnoRet is an error where the action has no errno")
	t.seen(with(filter(rule("SCMP_ACT_ERRNO", "getcwd", "no_such_call")), "getcwd"), point{section, "an unknown name of a system call is passed over", func(r Report) string {
		return equal(r.Calls["getcwd"], "operation not permitted")
	}})
	for _, call := range []string{"mkdir", "getcwd"} {
		call := call
		c := with(filter(rule("SCMP_ACT_ERRNO", "mkdir", "mkdirat", "getcwd")), call).set("process.noNewPrivileges", false)
		if call == "mkdir" {
			c = with(filter(rule("SCMP_ACT_ERRNO", "mkdir", "mkdirat")), call).set("process.noNewPrivileges", false)
		}
		c.set("process.capabilities.bounding", List{"CAP_KILL"}).set("process.capabilities.effective", List{}).set("process.capabilities.permitted", List{}).set("process.capabilities.ambient", List{}).set("process.capabilities.inheritable", List{})
		t.seen(c, point{section, "a filter without noNewPrivileges and without CAP_SYS_ADMIN is loaded, which denies " + call, func(r Report) string {
			return equal(r.Calls[call]+r.Status["NoNewPrivs"], "operation not permitted0")
		}})
	}
	for _, action := range []string{"SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"} {
		c := with(filter(rule(action, "getcwd")), "getcwd")
		report, err := c.run()
		t.ok(err != nil && strings.HasPrefix(err.Error(), "the program says nothing"), section, action+" ends the program", err, report.Calls)
	}
	// Only the first thread of the program ends; the others go on, and the process with them.
	thread := with(filter(rule("SCMP_ACT_KILL_THREAD", "getcwd")), "getcwd")
	created, started := thread.create(), thread.start()
	got, _ := thread.state()
	group := "none"
	ended := eventually(func() bool {
		fields := strings.Fields(text(fmt.Sprintf("/proc/%d/stat", got.Pid)))
		return got.Pid == 0 || len(fields) > 2 && fields[2] == "Z" || !exists(fmt.Sprintf("/proc/%d", got.Pid))
	})
	if got.Pid > 0 {
		group = groupOf(got.Pid, "pids") + groupOf(got.Pid, "unified")
	}
	thread.delete("--force")
	t.ok(created.ok() && started.ok() && ended && eventually(func() bool { return !alive(got.Pid) }), specerror.DeleteResImplement,
		"delete --force ends a process whose first thread was killed", created, started, group)
	t.seen(with(filter(rule("SCMP_ACT_LOG", "getcwd")), "getcwd"), point{section, "SCMP_ACT_LOG lets the call through", func(r Report) string { return equal(r.Calls["getcwd"], "ok") }})
	t.seen(with(filter(rule("SCMP_ACT_TRACE", "getcwd")), "getcwd"), point{section, "SCMP_ACT_TRACE without a tracer gives ENOSYS", func(r Report) string { return equal(r.Calls["getcwd"], "function not implemented") }})
	t.refused(with(filter(rule("SCMP_ACT_ERRNO"))), specerror.SeccSyscallsNamesRequired, "a rule without names is an error")
	t.refused(with(filter(Object{"action": "SCMP_ACT_ERRNO"})), specerror.SeccSyscallsNamesRequired, "a rule with absent names is an error")
	t.refused(with(filter(rule("SCMP_ACT_IMAGINARY", "getcwd"))), specerror.ValidValues, "a rule with an unknown action is an error")
	wrong := rule("SCMP_ACT_ERRNO", "personality")
	wrong["args"] = List{Object{"index": 0, "value": 8, "op": "SCMP_CMP_IMAGINARY"}}
	t.refused(with(filter(wrong)), specerror.ValidValues, "a rule with an unknown operator is an error")
	high := rule("SCMP_ACT_ERRNO", "personality")
	high["args"] = List{Object{"index": 6, "value": 8, "op": "SCMP_CMP_EQ"}}
	t.refused(with(filter(high)), specerror.ValidValues, "a rule on a seventh argument is an error")
	arch := filter()
	arch["architectures"] = List{"SCMP_ARCH_IMAGINARY"}
	t.refused(with(arch), specerror.ValidValues, "an unknown architecture is an error")
	flags := filter()
	flags["flags"] = List{"SECCOMP_FILTER_FLAG_IMAGINARY"}
	t.refused(with(flags), specerror.ValidValues, "an unknown flag is an error")
	flags = filter(rule("SCMP_ACT_ERRNO", "getcwd"))
	flags["flags"] = List{"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"}
	t.seen(with(flags, "getcwd"), point{section, "known flags are taken", func(r Report) string { return equal(r.Calls["getcwd"], "operation not permitted") }})
}
