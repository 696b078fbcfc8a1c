// The life of a container: create, start, state, kill, delete, and what must not happen in between.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-tools/specerror"
	"golang.org/x/sys/unix"
)

var (
	_ = program("create", create)
	_ = program("start", start)
	_ = program("state", state)
	_ = program("kill", kill)
	_ = program("delete", deleted)
	_ = program("bundle", bundle)
	_ = program("config_updates", configUpdates)
	_ = program("extensibility", extensibility)
	_ = program("pid_file", pidFile)
)

func create(t *T) {
	c := t.container()
	c.write()
	answer := t.command(c.bundle, "create", "--bundle", c.bundle)
	t.ok(!answer.ok(), specerror.CreateWithBundlePathAndID, "create without an id is an error", answer)
	answer = t.command("/", "create", "--bundle", filepath.Join(t.dir, "nowhere"), c.id)
	t.ok(!answer.ok(), specerror.CreateWithBundlePathAndID, "create without a bundle is an error", answer)

	c.probe(Probe{Wait: true})
	answer = c.create()
	t.ok(answer.ok(), specerror.CreateNewContainer, "create makes a container", answer)
	t.ok(c.status() == "created", specerror.CreateNewContainer, "a container that was created has the status created", c.status())
	t.ok(!exists(c.path("out", "ready")), specerror.ProcNotRunAtResRequest, "create does not run the program")
	t.ok(!exists(c.path("out", "ready")), specerror.ProcArgsApplyUntilStart, "process.args is not applied before start")
	before, _ := c.state()
	ours, theirs := namespacesOf("self"), namespacesOf(fmt.Sprint(before.Pid))
	mounted := text(fmt.Sprintf("/proc/%d/mountinfo", before.Pid))
	t.ok(theirs["uts"] != ours["uts"] && theirs["mnt"] != ours["mnt"] && strings.Contains(mounted, " /dev/shm "), specerror.PropsApplyExceptProcOnCreate,
		"create applies all but process: namespaces and mounts are there before start", theirs, mounted)
	again := c.create()
	t.ok(!again.ok(), specerror.CreateWithUniqueID, "create with an id that is in use is an error", again)
	after, _ := c.state()
	t.ok(before.Pid == after.Pid && after.Status == "created", specerror.CreateWithUniqueID, "create with an id that is in use leaves its container alone", fmt.Sprint(before, after))
	answer = c.start()
	t.ok(answer.ok() && c.until("running"), specerror.EntityOperSameContainer, "who created a container can start it", answer)
	other := t.container().probe(Probe{Wait: true})
	other.id = c.id
	answer = other.create()
	t.ok(!answer.ok(), specerror.StateIDUniq, "the id of a running container cannot be taken by another bundle", answer)
	c.delete("--force")

	for _, id := range []string{"", "a/b", "../escape", ".", "..", "a b", "a\nb"} {
		c := t.container()
		c.write()
		answer := t.command(c.bundle, "create", "--bundle", c.bundle, id)
		t.ok(!answer.ok(), specerror.CreateWithUniqueID, fmt.Sprintf("an id like %q is an error", id), answer)
		if answer.ok() {
			t.command("/", "delete", "--force", id)
		}
	}

	// What cannot be applied leaves no container.
	bad := t.container().set("linux.rootfsPropagation", "sideways")
	answer = bad.create()
	t.ok(!answer.ok(), specerror.PropApplyFailGenError, "a property that cannot be applied is an error of create", answer)
	t.ok(bad.status() == "none", specerror.PropApplyFailNotCreate, "a property that cannot be applied leaves no container", bad.status())
	bad = t.container().add("mounts", Object{"destination": "/missing", "type": "bind", "source": "/no/such/source", "options": List{"rbind"}})
	answer = bad.create()
	t.ok(!answer.ok(), specerror.EnvCreateError, "a mount that cannot be made is an error of create", answer)
	t.ok(bad.status() == "none", specerror.ErrorsLeaveStateUnchange, "a create that failed leaves nothing to query", bad.status())
	bad.set("mounts", bad.get("mounts").(List)[:6])
	answer = bad.create()
	t.ok(answer.ok(), specerror.ErrorsLeaveStateUnchange, "the id of a create that failed can be used again", answer)
}

func start(t *T) {
	answer := t.command("/", "start")
	t.ok(!answer.ok(), specerror.StartWithoutIDGenError, "start without an id is an error", answer)
	answer = t.command("/", "start", "conformance-no-such")
	t.ok(!answer.ok(), specerror.StartNotCreatedGenError, "start of a container that does not exist is an error", answer)

	c := t.container().probe(Probe{Wait: true})
	err := c.running()
	t.ok(err == nil, specerror.StartProcImplement, "start runs the program", err)
	before, _ := c.state()
	answer = c.start()
	t.ok(!answer.ok(), specerror.StartNotCreatedGenError, "start of a running container is an error", answer)
	after, _ := c.state()
	t.ok(before.Pid == after.Pid && after.Status == "running", specerror.StartNotCreatedHaveNoEffect, "start of a running container has no effect on it", after)
	c.kill("KILL")
	c.until("stopped")
	os.Remove(c.path("out", "ready"))
	answer = c.start()
	t.ok(!answer.ok(), specerror.StartNotCreatedGenError, "start of a stopped container is an error", answer)
	time.Sleep(50 * time.Millisecond)
	t.ok(!exists(c.path("out", "ready")) && c.status() == "stopped", specerror.StartNotCreatedHaveNoEffect, "start of a stopped container has no effect on it", c.status())

	none := t.container().set("process", nil)
	answer = none.create()
	t.ok(answer.ok(), specerror.ProcRequiredAtStart, "create without process makes a container", answer)
	answer = none.start()
	t.ok(!answer.ok(), specerror.StartWithProcUnsetGenError, "start without process is an error", answer)
}

func state(t *T) {
	answer := t.command("/", "state")
	t.ok(!answer.ok(), specerror.QueryWithoutIDGenError, "state without an id is an error", answer)
	answer = t.command("/", "state", "conformance-no-such")
	t.ok(!answer.ok(), specerror.QueryNonExistGenError, "state of a container that does not exist is an error", answer)

	c := t.container().probe(Probe{Wait: true}).set("annotations", Object{"org.example.key": "value", "empty": ""})
	c.create()
	for _, status := range []string{"created", "running", "stopped"} {
		switch status {
		case "running":
			c.start()
		case "stopped":
			c.kill("KILL")
		}
		c.until(status)
		got, answer := c.state()
		t.ok(answer.ok(), specerror.DefaultStateJSONPattern, "state is JSON: "+status, answer)
		t.ok(got.ID == c.id, specerror.QueryStateImplement, "state has the id: "+status, got)
		t.ok(got.Status == status, specerror.QueryStateImplement, "state has the status: "+status, got)
		t.ok(strings.HasPrefix(got.OciVersion, "1."), specerror.SpecVersionInSemVer, "state has an ociVersion: "+status, got)
		t.ok(got.Bundle == c.bundle, specerror.QueryStateImplement, "state has the absolute path of the bundle: "+status, got)
		t.ok(got.Annotations["org.example.key"] == "value", specerror.QueryStateImplement, "state has the annotations: "+status, got)
		_, kept := got.Annotations["empty"]
		t.ok(kept, specerror.QueryStateImplement, "state has an annotation whose value is empty: "+status, got)
		if status != "stopped" {
			t.ok(got.Pid > 0 && exists(fmt.Sprintf("/proc/%d", got.Pid)), specerror.QueryStateImplement, "state has the pid of the process: "+status, got)
		}
	}
}

func kill(t *T) {
	answer := t.command("/", "kill")
	t.ok(!answer.ok(), specerror.KillWithoutIDGenError, "kill without an id is an error", answer)
	answer = t.command("/", "kill", "conformance-no-such", "TERM")
	t.ok(!answer.ok(), specerror.KillNonCreateRunGenError, "kill of a container that does not exist is an error", answer)

	c := t.container().probe(Probe{Wait: true})
	err := c.running()
	t.ok(err == nil, specerror.ProcImplement, "the program runs", err)
	var want []string
	for _, signal := range []struct{ name, number string }{{"HUP", "1"}, {"SIGINT", "2"}, {"USR1", "10"}, {"SIGUSR2", "12"}, {"10", "10"}, {"WINCH", "28"}, {"SIGRTMIN+1", "35"}, {"40", "40"}} {
		answer := c.kill(signal.name)
		want = append(want, signal.number)
		arrived := answer.ok() && eventually(func() bool {
			return strings.HasSuffix("\n"+c.log("signals"), "\n"+signal.number) && strings.Count(c.log("signals"), "\n") == len(want)-1
		})
		if !t.ok(arrived, specerror.KillSignalImplement, "kill sends the signal "+signal.name, answer, c.log("signals")) {
			want = strings.Fields(c.log("signals"))
		}
	}
	answer = c.kill("NOSUCH")
	t.ok(!answer.ok(), specerror.ValidValues, "kill with an unknown signal is an error", answer)
	t.ok(c.status() == "running", specerror.ErrorsLeaveStateUnchange, "kill with an unknown signal has no effect", c.status())
	answer = t.command("/", "kill", c.id)
	t.ok(answer.ok() && c.until("stopped") && strings.HasSuffix(c.log("signals"), "15"), specerror.KillSignalImplement, "kill without a signal sends TERM", answer, c.log("signals"))
	everySignal(t)
	before, _ := c.state()
	answer = c.kill("TERM")
	t.ok(!answer.ok(), specerror.KillNonCreateRunGenError, "kill TERM of a stopped container is an error", answer)
	answer = c.kill("KILL")
	t.ok(!answer.ok(), specerror.KillNonCreateRunGenError, "kill KILL of a stopped container is an error", answer)
	after, _ := c.state()
	t.ok(fmt.Sprint(before) == fmt.Sprint(after), specerror.KillNonCreateRunHaveNoEffect, "kill of a stopped container has no effect on it", before, after)

	for _, signal := range []string{"KILL", "9", "SIGKILL"} {
		c := t.container().probe(Probe{Wait: true})
		c.create()
		answer := c.kill(signal)
		t.ok(answer.ok() && c.until("stopped"), specerror.KillSignalImplement, "kill "+signal+" ends a created container", answer, c.status())
	}
	e := t.container().probe(Probe{Wait: true})
	e.create()
	answer = e.kill("TERM")
	t.ok(answer.ok() && e.until("stopped"), specerror.KillSignalImplement, "kill TERM ends a created container", answer, e.status())
	d := t.container().probe(Probe{Wait: true})
	err = d.running()
	answer = d.kill("KILL")
	t.ok(err == nil && answer.ok() && d.until("stopped"), specerror.KillSignalImplement, "kill KILL ends a running container", err, answer)
}

// everySignal sends all that a program can catch; TERM, which ends the probe, comes last.
func everySignal(t *T) {
	c := t.container().probe(Probe{Wait: true})
	err := c.running()
	lost := func(as func(syscall.Signal) string, numbers ...int) []string {
		var list []string
		for _, number := range numbers {
			name := as(syscall.Signal(number))
			before := strings.Fields(c.log("signals"))
			answer := c.kill(name)
			if !answer.ok() || !within(2*time.Second, func() bool {
				after := strings.Fields(c.log("signals"))
				return len(after) == len(before)+1 && after[len(before)] == fmt.Sprint(number)
			}) {
				list = append(list, name)
			}
		}
		return list
	}
	// Not KILL and STOP; CHLD and URG are the probe's own, PROF and those below 35 its language's.
	numbers := []int{1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 18, 20, 21, 22, 24, 25, 26, 28, 29, 30, 31}
	wrong := lost(unix.SignalName, numbers...)
	t.ok(err == nil && len(wrong) == 0, specerror.KillSignalImplement, "kill sends every signal by its name", err, wrong)
	wrong = lost(func(s syscall.Signal) string { return strings.TrimPrefix(unix.SignalName(s), "SIG") }, numbers...)
	t.ok(err == nil && len(wrong) == 0, specerror.KillSignalImplement, "kill sends every signal by its name without SIG", err, wrong)
	wrong = lost(func(s syscall.Signal) string { return fmt.Sprint(int(s)) }, append(numbers, 35, 50, 64)...)
	t.ok(err == nil && len(wrong) == 0, specerror.KillSignalImplement, "kill sends every signal by its number", err, wrong)
	got, _ := c.state()
	in := func(state string) bool {
		return eventually(func() bool {
			_, after, _ := strings.Cut(text(fmt.Sprintf("/proc/%d/stat", got.Pid)), ") ")
			return strings.HasPrefix(after, state)
		})
	}
	answer := c.kill("STOP")
	t.ok(answer.ok() && in("T"), specerror.KillSignalImplement, "kill STOP stops the process", answer)
	answer = c.kill("CONT")
	t.ok(answer.ok() && in("S"), specerror.KillSignalImplement, "kill CONT lets it go on", answer)
	answer = c.kill("TERM")
	t.ok(answer.ok() && c.until("stopped") && strings.HasSuffix("\n"+c.log("signals"), "\n15"), specerror.KillSignalImplement, "kill TERM sends TERM", answer, c.log("signals"))
}

func deleted(t *T) {
	answer := t.command("/", "delete")
	t.ok(!answer.ok(), specerror.DeleteWithoutIDGenError, "delete without an id is an error", answer)
	answer = t.command("/", "delete", "conformance-no-such")
	t.ok(!answer.ok(), specerror.DeleteNonStopGenError, "delete of a container that does not exist is an error", answer)

	c := t.container().probe(Probe{Wait: true})
	created := c.create()
	answer = c.delete()
	t.ok(created.ok() && !answer.ok(), specerror.DeleteNonStopGenError, "delete of a created container is an error", created, answer)
	t.ok(c.status() == "created", specerror.DeleteNonStopHaveNoEffect, "delete of a created container has no effect on it", c.status())
	c.delete("--force")

	d := t.container().probe(Probe{Wait: true})
	err := d.running()
	answer = d.delete()
	t.ok(err == nil && !answer.ok(), specerror.DeleteNonStopGenError, "delete of a running container is an error", err, answer)
	t.ok(d.status() == "running", specerror.DeleteNonStopHaveNoEffect, "delete of a running container has no effect on it", d.status())
	got, _ := d.state()
	groups := cgroupsOf(got.Pid)
	d.kill("KILL")
	d.until("stopped")
	answer = d.delete()
	t.ok(answer.ok(), specerror.DeleteResImplement, "delete of a stopped container succeeds", answer)
	_, answer = d.state()
	t.ok(!answer.ok(), specerror.DeleteResImplement, "a deleted container cannot be queried", answer)
	var left []string
	for _, group := range groups {
		if strings.Contains(group, d.id) && exists(group) {
			left = append(left, group)
		}
	}
	t.ok(len(left) == 0, specerror.DeleteResImplement, "delete removes the cgroups that create made", left)
	t.ok(!exists(filepath.Join(t.dir, "state", d.id)), specerror.UndoCreateSteps, "delete removes the runtime's own record", "")
	t.ok(exists(filepath.Join(d.bundle, "config.json")) && exists(d.path("probe")), specerror.DeleteOnlyCreatedRes, "delete leaves the bundle alone")
	answer = d.delete()
	t.ok(!answer.ok(), specerror.DeleteNonStopGenError, "a second delete is an error", answer)
	answer = d.create()
	t.ok(answer.ok(), specerror.DeleteResImplement, "the id of a deleted container can be used again", answer)

	foreign := cgroupOfOurs(t, "foreign")
	if foreign == nil {
		t.skip(specerror.DeleteOnlyCreatedRes, "delete leaves a cgroup alone that it did not create", "no hierarchy of cgroups can be written here")
		return
	}
	e := t.container().probe(Probe{Wait: true}).set("linux.cgroupsPath", foreign.path+"/container")
	err = e.running()
	e.kill("KILL")
	e.until("stopped")
	answer = e.delete()
	t.ok(err == nil && answer.ok() && exists(foreign.dir), specerror.DeleteOnlyCreatedRes, "delete leaves a cgroup alone that it did not create", err, answer)

	// Somebody else may move the process after create.
	other := cgroupOfOurs(t, "moved")
	if other == nil {
		t.skip(specerror.DeleteOnlyCreatedRes, "delete leaves a cgroup alone into which the process was moved", "no hierarchy of cgroups can be written here")
		return
	}
	m := t.container().probe(Probe{Wait: true})
	created = m.create()
	got, _ = m.state()
	err = os.WriteFile(filepath.Join(other.dir, "cgroup.procs"), []byte(fmt.Sprint(got.Pid)), 0o644)
	started := m.start()
	m.kill("KILL")
	m.until("stopped")
	answer = m.delete()
	t.ok(created.ok() && err == nil && started.ok() && answer.ok() && exists(other.dir), specerror.DeleteOnlyCreatedRes,
		"delete leaves a cgroup alone into which the process was moved", created, err, started, answer)
}

func bundle(t *T) {
	c := t.container()
	answer := c.createAsIs()
	t.ok(!answer.ok(), specerror.ConfigInRootBundleDir, "a bundle without config.json is an error", answer)
	c.write()
	check(os.Rename(filepath.Join(c.bundle, "config.json"), filepath.Join(c.bundle, "Config.json")))
	answer = c.createAsIs()
	t.ok(!answer.ok(), specerror.ConfigConstName, "a configuration of another name is not taken", answer)
	os.WriteFile(filepath.Join(c.bundle, "config.json"), []byte(`{"ociVersion": "1.0.2", `), 0o644)
	answer = c.createAsIs()
	t.ok(!answer.ok(), specerror.ValidValues, "a configuration that is no JSON is an error", answer)
	c = t.container()
	c.write()
	answer = t.command(c.bundle, "create", c.id)
	t.ok(answer.ok(), specerror.CreateNewContainer, "without --bundle the working directory is the bundle", answer)

	// The root file system need not be in the bundle.
	c = t.container()
	elsewhere := filepath.Join(t.dir, "elsewhere")
	check(os.Rename(c.path(), elsewhere))
	t.taken(c.set("root.path", elsewhere), specerror.ArtifactsInSingleDir, "an absolute root.path outside of the bundle is taken")
	c = t.container()
	check(os.Rename(c.path(), filepath.Join(c.bundle, "other")))
	t.taken(c.set("root.path", "other"), specerror.RootPathOnPosixConvention, "a root.path of another name is taken")
	t.refused(t.container().set("root.path", "missing"), specerror.RootPathExist, "a root.path that does not exist is an error")
	c = t.container()
	check(os.WriteFile(filepath.Join(c.bundle, "file"), nil, 0o644))
	t.refused(c.set("root.path", "file"), specerror.RootPathExist, "a root.path that is a file is an error")
	t.refused(t.container().set("root", nil), specerror.RootOnNonWindowsRequired, "a configuration without root is an error")

	for _, version := range []string{"invalid", "1", "1.0", "2.0.0", "0.1", ""} {
		t.refused(t.container().set("ociVersion", version), specerror.SpecVersionInSemVer, fmt.Sprintf("ociVersion %q is an error", version))
	}
	t.refused(t.container().set("ociVersion", nil), specerror.SpecVersionInSemVer, "a configuration without ociVersion is an error")
	for _, version := range []string{"1.0.0", "1.0.2-dev", "1.1.0", "1.0.0-rc1", "1.0.2+build.5"} {
		t.taken(t.container().set("ociVersion", version), specerror.SpecVersionInSemVer, fmt.Sprintf("ociVersion %q is taken", version))
	}
}

func configUpdates(t *T) {
	c := t.container().set("hostname", "before").set("process.cwd", "/tmp")
	answer := c.create()
	c.set("hostname", "after").set("process.cwd", "/out").set("process.args", List{"/no/such/program"}).write()
	started := c.start()
	var text string
	eventually(func() bool {
		data, _ := os.ReadFile(filepath.Join(c.bundle, "stdout"))
		text = string(data)
		return strings.HasSuffix(text, "\n")
	})
	t.ok(answer.ok() && started.ok(), specerror.ConfigUpdatesWithoutAffect, "an update of config.json after create does not stop start", answer, started)
	t.ok(strings.Contains(text, `"Hostname":"before"`), specerror.ConfigUpdatesWithoutAffect, "an update of hostname after create has no effect", text)
	t.ok(strings.Contains(text, `"Cwd":"/tmp"`), specerror.ConfigUpdatesWithoutAffect, "an update of process.cwd after create has no effect", text)
	check(os.Remove(filepath.Join(c.bundle, "config.json")))
	_, answer = c.state()
	t.ok(answer.ok(), specerror.ConfigUpdatesWithoutAffect, "state does not need config.json any more", answer)
	c.until("stopped")
	answer = c.delete()
	t.ok(answer.ok(), specerror.ConfigUpdatesWithoutAffect, "delete does not need config.json any more", answer)

	// A configuration that asks for nothing takes nothing back.
	d := t.container().set("linux.maskedPaths", List{"/masked"}).set("linux.readonlyPaths", List{"/ro"}).set("process.oomScoreAdj", 100)
	d.set("linux.sysctl", Object{"net.ipv4.ip_forward": "1"}).set("process.rlimits", List{Object{"type": "RLIMIT_CORE", "soft": 11, "hard": 12}})
	d.set("linux.rootfsPropagation", "shared").probe(Probe{Read: []string{"/masked"}, Write: []string{"/ro"}, Text: []string{"/proc/sys/net/ipv4/ip_forward"}})
	check(os.WriteFile(d.path("masked"), []byte("data"), 0o644))
	check(os.Mkdir(d.path("ro"), 0o777))
	answer = d.create()
	d.config = Object{"ociVersion": "1.0.0"}
	d.write()
	report, err := d.look()
	if !answer.ok() {
		err = fmt.Errorf("create: %v", answer)
	}
	t.judge(report, err,
		point{specerror.ConfigUpdatesWithoutAffect, "an emptied config.json does not stop start", func(Report) string { return "" }},
		point{specerror.ConfigUpdatesWithoutAffect, "an emptied config.json has no effect on maskedPaths", func(r Report) string { return equal(r.Read["/masked"], "empty") }},
		point{specerror.ConfigUpdatesWithoutAffect, "an emptied config.json has no effect on readonlyPaths", func(r Report) string { return unequal(r.Write["/ro"], "ok") }},
		point{specerror.ConfigUpdatesWithoutAffect, "an emptied config.json has no effect on sysctl", func(r Report) string {
			return equal(r.Text["/proc/sys/net/ipv4/ip_forward"], "1")
		}},
		point{specerror.ConfigUpdatesWithoutAffect, "an emptied config.json has no effect on oomScoreAdj", func(r Report) string { return equal(r.OomScoreAdj, 100) }},
		point{specerror.ConfigUpdatesWithoutAffect, "an emptied config.json has no effect on rlimits", func(r Report) string {
			return equal(r.Rlimits["RLIMIT_CORE"], [2]uint64{11, 12})
		}},
		point{specerror.ConfigUpdatesWithoutAffect, "an emptied config.json has no effect on rootfsPropagation", func(r Report) string {
			root := r.Mounts["/"]
			return equal(len(root) > 0 && root[len(root)-1].Shared, true)
		}})
}

func extensibility(t *T) {
	t.taken(t.container().set("unknown", "unknown"), specerror.ExtensibilityIgnoreUnknownProp, "an unknown property is no error")
	t.taken(t.container().set("process.unknown", List{1, Object{"deep": nil}}), specerror.ExtensibilityIgnoreUnknownProp, "an unknown property in process is no error")
	t.taken(t.container().set("linux.resources.unknown", Object{"a": 1}), specerror.ExtensibilityIgnoreUnknownProp, "an unknown property in linux.resources is no error")
	t.taken(t.container().set("annotations", Object{"org.unknown.key": "x", "org.opencontainers.unknown": ""}), specerror.AnnotationsKeyIgnoreUnknown, "an unknown annotation is no error")
	t.refused(t.container().set("annotations", Object{"": "value"}), specerror.AnnotationsKeyRequired, "an annotation with an empty key is an error")
	t.refused(t.container().set("annotations", Object{"org.number": 5}), specerror.AnnotationsValueString, "an annotation whose value is a number is an error")
	t.refused(t.container().set("annotations", List{"a", "b"}), specerror.AnnotationsKeyValueMap, "annotations that are no map are an error")
	t.refused(t.container().set("process.user.uid", "zero"), specerror.ValidValues, "a uid that is a string is an error")
	t.refused(t.container().set("process.user.uid", -1), specerror.ValidValues, "a negative uid is an error")
	t.refused(t.container().set("linux.namespaces", List{Object{"type": "imaginary"}}), specerror.ValidValues, "an unknown type of namespace is an error")
	t.refused(t.container().set("linux.seccomp.defaultAction", "SCMP_ACT_IMAGINARY"), specerror.ValidValues, "an unknown action of seccomp is an error")
	t.refused(t.container().set("linux.rootfsPropagation", "imaginary"), specerror.ValidValues, "an unknown rootfsPropagation is an error")
	t.refused(t.container().set("linux.personality", Object{"domain": "IMAGINARY"}), specerror.ValidValues, "an unknown personality is an error")
	t.refused(t.container().set("process.cwd", 5), specerror.ValidValues, "a cwd that is a number is an error")
	t.refused(t.container().set("hooks", Object{"prestart": "none"}), specerror.ValidValues, "hooks that are no list are an error")
}

func pidFile(t *T) {
	c := t.container().probe(Probe{Wait: true})
	path := filepath.Join(t.dir, "pid")
	answer := c.create("--pid-file", path)
	text, _ := os.ReadFile(path)
	got, _ := c.state()
	t.ok(answer.ok() && string(text) == fmt.Sprint(got.Pid), "command line: --pid-file", "create --pid-file writes the number that state says", answer, string(text), got)
	d := t.container()
	answer = d.create("--pid-file", filepath.Join(t.dir, "missing", "pid"))
	t.ok(!answer.ok(), "command line: --pid-file", "create with a pid file that cannot be written is an error", answer)
	t.ok(d.status() == "none", specerror.ErrorsLeaveStateUnchange, "create with a pid file that cannot be written leaves no container", d.status())
}
