// hooks: when, where, with what, and what comes of one that fails.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-tools/specerror"
)

var (
	_ = program("hooks", hooks)
	_ = program("hooks_fail", hooksFail)
)

// hookOf makes an entry of hooks; one that runs in the container has its program and its log there.
func (c *Container) hookOf(label string, more ...string) Object {
	self, err := os.Executable()
	check(err)
	log := c.path("out", "hooks")
	if strings.HasPrefix(label, "startContainer") {
		self, log = "/probe", "/out/hooks"
	}
	args := List{"conformance", "hook", log, label}
	for _, m := range more {
		args = append(args, m)
	}
	return Object{"path": self, "args": args}
}

func (c *Container) hooked() []Hooked {
	var all []Hooked
	for _, line := range strings.Split(c.log("hooks"), "\n") {
		var h Hooked
		if json.Unmarshal([]byte(line), &h) == nil && h.Label != "" {
			all = append(all, h)
		}
	}
	return all
}

func (c *Container) labels() []string {
	var all []string
	for _, h := range c.hooked() {
		all = append(all, h.Label)
	}
	return all
}

func contains(list []string, want ...string) bool {
	return strings.Contains(" "+strings.Join(list, " ")+" ", " "+strings.Join(want, " ")+" ")
}

var hookKinds = []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}

func hooks(t *T) {
	c := t.container().probe(Probe{Wait: true}).set("annotations", Object{"org.example.hook": "yes"})
	all := Object{}
	for _, kind := range hookKinds {
		first, second := c.hookOf(kind+"1"), c.hookOf(kind+"2")
		second["env"] = List{"HOOK=" + kind, "OTHER=a=b"}
		all[kind] = List{first, second}
	}
	c.set("hooks", all)
	answer := c.create()
	t.ok(answer.ok(), specerror.PrestartHooksInvoke, "create with hooks of all kinds succeeds", answer)
	created := c.labels()
	t.ok(contains(created, "prestart1", "prestart2"), specerror.PosixHooksCalledInOrder, "prestart hooks run in order, before create returns", created)
	t.ok(contains(created, "createRuntime1", "createRuntime2"), "config.md: createRuntime hooks", "createRuntime hooks run in order, before create returns", created)
	t.ok(contains(created, "createContainer1", "createContainer2"), "config.md: createContainer hooks", "createContainer hooks run in order, before create returns", created)
	t.ok(contains(created, "prestart2", "createRuntime1") && contains(created, "createRuntime2", "createContainer1"), "runtime.md: lifecycle", "prestart comes before createRuntime, and that before createContainer", created)
	t.ok(!strings.Contains(fmt.Sprint(created), "startContainer"), "config.md: startContainer hooks", "startContainer hooks do not run at create", created)
	before, _ := c.state()
	answer = c.start()
	started := c.labels()
	t.ok(answer.ok() && contains(started, "startContainer1", "startContainer2"), "config.md: startContainer hooks", "startContainer hooks run in order at start", answer, started)
	t.ok(contains(started, "poststart1", "poststart2"), specerror.PoststartTiming, "poststart hooks run in order, before start returns", started)
	t.ok(contains(started, "startContainer2", "poststart1"), specerror.PoststartHooksInvoke, "poststart hooks run after the startContainer hooks", started)
	t.ok(eventually(func() bool { return exists(c.path("out", "ready")) }), specerror.ProcImplement, "the program runs after the hooks", c.status())
	t.ok(!strings.Contains(fmt.Sprint(started), "poststop"), specerror.PoststopTiming, "poststop hooks do not run before delete", started)
	c.kill("KILL")
	c.until("stopped")
	answer = c.delete()
	ended := c.labels()
	t.ok(answer.ok() && contains(ended, "poststop1", "poststop2"), specerror.PoststopHooksInvoke, "poststop hooks run in order, before delete returns", answer, ended)
	ours := namespacesOf("self")
	for _, h := range c.hooked() {
		if strings.HasPrefix(h.Label, "poststart") {
			t.ok(h.Program == identity(c.path("probe")), specerror.PoststartTiming, h.Label+" runs after the program was executed", h.Program, identity(c.path("probe")))
		}
		kind := strings.TrimRight(h.Label, "12")
		var got State
		err := json.Unmarshal(h.State, &got)
		t.ok(err == nil && got.ID == c.id && got.Bundle == c.bundle && got.Annotations["org.example.hook"] == "yes" && strings.HasPrefix(got.OciVersion, "1."),
			specerror.PosixHooksStateToStdin, h.Label+" is given the state: ociVersion, id, bundle, annotations", err, string(h.State))
		given, told := got, before
		given.Status, given.Pid, told.Status, told.Pid = "", 0, "", 0
		t.ok(fmt.Sprint(given) == fmt.Sprint(told), specerror.PosixHooksStateToStdin, h.Label+" is given what state says, but for status and pid", given, told)
		want := map[string]string{"prestart": "creating", "createRuntime": "creating", "createContainer": "creating", "startContainer": "created", "poststart": "running", "poststop": "stopped"}[kind]
		t.ok(got.Status == want, specerror.PosixHooksStateToStdin, h.Label+" is given the status "+want, got.Status)
		if kind != "poststop" {
			t.ok(got.Pid == before.Pid, specerror.PosixHooksStateToStdin, h.Label+" is given the pid", got.Pid, before.Pid)
		}
		if strings.HasSuffix(h.Label, "2") {
			t.ok(missing(h.Env, "HOOK="+kind) == "" && missing(h.Env, "OTHER=a=b") == "" && !strings.Contains(strings.Join(h.Env, "\n"), "PATH="), "config.md: posix-platform hooks", h.Label+" has the environment of its env and no more", h.Env)
		}
		t.ok(len(h.Args) > 0 && h.Args[0] == "conformance", "config.md: posix-platform hooks", h.Label+" has args[0] as given", h.Args)
		inside := kind == "createContainer" || kind == "startContainer"
		t.ok((h.Namespaces["mnt"] == ours["mnt"]) == !inside, "config.md: hooks", h.Label+" runs in the mount namespace that it should", h.Namespaces["mnt"], ours["mnt"])
	}
	for _, kind := range hookKinds {
		d := t.container().set("hooks", Object{kind: List{Object{"path": "relative/path"}}})
		t.refused(d, specerror.PosixHooksPathAbs, kind+": a relative path is an error")
	}
	t.refused(t.container().set("hooks", Object{"createRuntime": List{Object{"path": "/bin/true", "timeout": 0}}}), specerror.PosixHooksTimeoutPositive, "a timeout of 0 is an error")
	t.refused(t.container().set("hooks", Object{"createRuntime": List{Object{"path": "/bin/true", "timeout": -1}}}), specerror.PosixHooksTimeoutPositive, "a negative timeout is an error")
	t.refused(t.container().set("hooks", Object{"createRuntime": List{Object{"args": List{"true"}}}}), "config.md: posix-platform hooks", "a hook without a path is an error")
	t.taken(t.container().set("hooks", Object{"createRuntime": List{Object{"path": "/bin/true", "timeout": 5}}}), specerror.PosixHooksTimeoutPositive, "a timeout that is not reached is no error")
	slow := t.container()
	entry := slow.hookOf("createRuntime", "0", "60")
	entry["timeout"] = 1
	t.refused(slow.set("hooks", Object{"createRuntime": List{entry}}), specerror.PosixHooksTimeoutPositive, "a hook that outlasts its timeout is an error")
}

func hooksFail(t *T) {
	for _, kind := range []string{"prestart", "createRuntime", "createContainer"} {
		c := t.container().probe(Probe{Wait: true})
		c.set("hooks", Object{kind: List{c.hookOf(kind, "3"), c.hookOf(kind + "-next")}, "poststop": List{c.hookOf("poststop")}})
		answer := c.create()
		t.ok(!answer.ok(), specerror.PrestartHookFailGenError, kind+": a hook that fails is an error of create", answer)
		t.ok(c.status() == "none", specerror.PrestartHookFailGenError, kind+": a hook that fails leaves no container", c.status())
		t.ok(!contains(c.labels(), kind+"-next"), specerror.PrestartHookFailGenError, kind+": hooks after one that fails do not run", c.labels())
		t.ok(contains(c.labels(), "poststop"), "runtime.md: lifecycle", kind+": poststop hooks run after one that fails", c.labels())
		d := t.container()
		d.set("hooks", Object{kind: List{Object{"path": "/no/such/hook"}}})
		t.refused(d, specerror.PrestartHookFailGenError, kind+": a hook that does not exist is an error")
	}
	c := t.container().probe(Probe{Wait: true})
	c.set("hooks", Object{"startContainer": List{c.hookOf("startContainer", "3")}})
	created, answer := c.create(), c.start()
	t.ok(created.ok() && !answer.ok(), "runtime.md: lifecycle", "startContainer: a hook that fails is an error of start", created, answer)
	t.ok(!exists(c.path("out", "ready")), "runtime.md: lifecycle", "startContainer: the program does not run after a hook that fails")
	t.ok(eventually(func() bool { s := c.status(); return s == "stopped" || s == "none" }), "runtime.md: lifecycle", "startContainer: a hook that fails stops the container", c.status())

	p := t.container().probe(Probe{Wait: true})
	p.set("hooks", Object{"poststart": List{p.hookOf("poststart", "3")}})
	created, answer = p.create(), p.start()
	t.ok(created.ok() && !answer.ok(), "runtime.md: lifecycle (1.2: poststart)", "poststart: a hook that fails is an error of start", created, answer)
	t.ok(eventually(func() bool { s := p.status(); return s == "stopped" || s == "none" }), "runtime.md: lifecycle (1.2: poststart)", "poststart: a hook that fails stops the container", p.status())

	s := t.container().probe(Probe{Wait: true})
	s.set("hooks", Object{"poststop": List{s.hookOf("poststop1", "3"), s.hookOf("poststop2")}})
	err := s.running()
	s.kill("KILL")
	s.until("stopped")
	answer = s.delete()
	t.ok(err == nil && answer.ok(), specerror.PoststopHookFailGenWarn, "poststop: a hook that fails is no error of delete", err, answer)
	t.ok(contains(s.labels(), "poststop2"), specerror.PoststopHookFailGenWarn, "poststop: hooks after one that fails run", s.labels())
	t.ok(s.status() == "none" && !exists(filepath.Join(t.dir, "state", s.id)), specerror.PoststopHookFailGenWarn, "poststop: the container is deleted after a hook that fails", s.status())
}
