// The container under test: a bundle whose configuration comes from OCI's generator, and the runtime's commands on it.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-tools/generate"
)

// Object is a JSON object: newer properties than the packaged specs-go knows can be set.
type Object = map[string]interface{}

// List is a JSON array.
type List = []interface{}

// Container is a bundle, an id, and what the runtime made of them.
type Container struct {
	t      *T
	id     string
	bundle string
	config Object
}

// Answer is what one command of the runtime said.
type Answer struct {
	status int
	stdout string
	stderr string
}

func (a Answer) ok() bool { return a.status == 0 }

func (a Answer) String() string {
	return fmt.Sprintf("status %d, %s", a.status, strings.TrimSpace(a.stderr+" "+a.stdout))
}

// State is what the specification asks of `state`.
type State struct {
	OciVersion  string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Status      string            `json:"status"`
	Pid         int               `json:"pid"`
	Bundle      string            `json:"bundle"`
	Annotations map[string]string `json:"annotations"`
}

var counter int

// container makes a bundle with OCI's default configuration, whose program is the probe.
func (t *T) container() *Container {
	counter++
	c := &Container{t: t}
	mark, _ := t.marks()
	c.id = mark + fmt.Sprint(counter)
	c.bundle = filepath.Join(t.dir, fmt.Sprint("bundle", counter))
	generator, err := generate.New("linux")
	check(err)
	text, err := json.Marshal(generator.Config)
	check(err)
	check(json.Unmarshal(text, &c.config))
	for _, dir := range []string{"proc", "dev", "sys", "tmp", "out", "etc"} {
		check(os.MkdirAll(c.path(dir), 0o755))
	}
	check(os.Chmod(c.path("out"), 0o777))
	check(os.Chmod(c.path("tmp"), 0o1777))
	self, err := os.Executable()
	check(err)
	// A copy, since a hard link to another file system is none; a clone where the file system has clones.
	check(copyFile(self, c.path("probe"), 0o755))
	c.probe(Probe{})
	t.mutex.Lock()
	t.containers = append(t.containers, c)
	t.mutex.Unlock()
	return c
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, in)
	return err
}

// path is a path in the root file system, as the host sees it.
func (c *Container) path(elements ...string) string {
	return filepath.Join(append([]string{c.bundle, "rootfs"}, elements...)...)
}

// set gives a property by its dotted path; nil removes it.
func (c *Container) set(path string, value interface{}) *Container {
	keys := strings.Split(path, ".")
	object := c.config
	for _, key := range keys[:len(keys)-1] {
		next, ok := object[key].(Object)
		if !ok {
			next = Object{}
			object[key] = next
		}
		object = next
	}
	last := keys[len(keys)-1]
	if value == nil {
		delete(object, last)
	} else {
		object[last] = value
	}
	return c
}

func (c *Container) get(path string) interface{} {
	var value interface{} = c.config
	for _, key := range strings.Split(path, ".") {
		object, ok := value.(Object)
		if !ok {
			return nil
		}
		value = object[key]
	}
	return value
}

// add appends to a list.
func (c *Container) add(path string, values ...interface{}) *Container {
	list, _ := c.get(path).(List)
	return c.set(path, append(list, values...))
}

// namespaces sets the list: "pid", or "pid:/proc/1/ns/pid".
func (c *Container) namespaces(list ...string) *Container {
	var all List
	for _, entry := range list {
		kind, path, found := strings.Cut(entry, ":")
		namespace := Object{"type": kind}
		if found {
			namespace["path"] = path
		}
		all = append(all, namespace)
	}
	return c.set("linux.namespaces", all)
}

// probe says what the program in the container looks at.
func (c *Container) probe(probe Probe) *Container {
	text, err := json.Marshal(probe)
	check(err)
	return c.set("process.args", List{"/probe", "inside", string(text)})
}

func (c *Container) write() {
	text, err := json.MarshalIndent(c.config, "", "  ")
	check(err)
	check(os.WriteFile(filepath.Join(c.bundle, "config.json"), text, 0o644))
}

// command calls the runtime with a state directory of the program's own. The container's output goes to files, not to
// pipes that it would hold open.
func (t *T) command(dir string, args ...string) Answer {
	stdout, err := os.CreateTemp(t.dir, "stdout")
	check(err)
	stderr, err := os.CreateTemp(t.dir, "stderr")
	check(err)
	defer os.Remove(stdout.Name())
	defer os.Remove(stderr.Name())
	return t.commandTo(stdout, stderr, dir, args...)
}

func (t *T) commandTo(stdout, stderr *os.File, dir string, args ...string) Answer {
	defer stdout.Close()
	defer stderr.Close()
	command := exec.Command(t.runtime, append([]string{"--root", filepath.Join(t.dir, "state")}, args...)...)
	command.Dir = dir
	command.Stdout, command.Stderr = stdout, stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	answer := Answer{}
	if err := command.Start(); err != nil {
		return Answer{status: -1, stderr: err.Error()}
	}
	timer := time.AfterFunc(20*time.Second, func() { syscall.Kill(-command.Process.Pid, syscall.SIGKILL) })
	err := command.Wait()
	if !timer.Stop() {
		answer.stderr = "no answer within 20 s. "
	}
	if err != nil {
		answer.status = command.ProcessState.ExitCode()
	}
	text, _ := os.ReadFile(stdout.Name())
	answer.stdout = string(text)
	text, _ = os.ReadFile(stderr.Name())
	answer.stderr += string(text)
	return answer
}

func (c *Container) create(options ...string) Answer {
	c.write()
	return c.createAsIs(options...)
}

// createAsIs leaves config.json as it lies there.
func (c *Container) createAsIs(options ...string) Answer {
	stdout, err := os.Create(filepath.Join(c.bundle, "stdout"))
	check(err)
	stderr, err := os.Create(filepath.Join(c.bundle, "stderr"))
	check(err)
	args := append([]string{"create", "--bundle", c.bundle}, options...)
	return c.t.commandTo(stdout, stderr, c.bundle, append(args, c.id)...)
}

func (c *Container) start() Answer { return c.t.command(c.bundle, "start", c.id) }
func (c *Container) kill(signal string) Answer {
	return c.t.command(c.bundle, "kill", c.id, signal)
}
func (c *Container) delete(options ...string) Answer {
	return c.t.command("/", append(append([]string{"delete"}, options...), c.id)...)
}

func (c *Container) state() (State, Answer) {
	answer := c.t.command("/", "state", c.id)
	var state State
	if answer.ok() {
		if err := json.Unmarshal([]byte(answer.stdout), &state); err != nil {
			answer.status, answer.stderr = -1, err.Error()
		}
	}
	return state, answer
}

func (c *Container) status() string {
	state, answer := c.state()
	if !answer.ok() {
		return "none"
	}
	return state.Status
}

// until waits for a status, ten seconds at most.
func (c *Container) until(status string) bool {
	return eventually(func() bool { return c.status() == status })
}

func eventually(done func() bool) bool { return within(10*time.Second, done) }

func within(limit time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if done() {
			return true
		}
		time.Sleep(15 * time.Millisecond)
	}
	return false
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// log is what a file in /out of the container holds.
func (c *Container) log(name string) string {
	text, _ := os.ReadFile(c.path("out", name))
	return strings.TrimSpace(string(text))
}

// running creates and starts a container whose program waits for signals.
func (c *Container) running() error {
	if answer := c.create(); !answer.ok() {
		return fmt.Errorf("create: %v", answer)
	}
	if answer := c.start(); !answer.ok() {
		return fmt.Errorf("start: %v", answer)
	}
	if !eventually(func() bool { return exists(c.path("out", "ready")) }) {
		return fmt.Errorf("the program does not run: %s", c.status())
	}
	return nil
}

// run lets the probe look around, and deletes the container.
func (c *Container) run() (Report, error) {
	defer c.delete("--force")
	if answer := c.create(); !answer.ok() {
		return Report{}, fmt.Errorf("create: %v", answer)
	}
	return c.look()
}

// look starts a container that was created, and reads what its probe sees.
func (c *Container) look() (Report, error) {
	var report Report
	if answer := c.start(); !answer.ok() {
		return report, fmt.Errorf("start: %v", answer)
	}
	var text []byte
	seen := eventually(func() bool {
		text, _ = os.ReadFile(filepath.Join(c.bundle, "stdout"))
		return bytes.HasSuffix(text, []byte("\n"))
	})
	if !seen {
		errors, _ := os.ReadFile(filepath.Join(c.bundle, "stderr"))
		return report, fmt.Errorf("the program says nothing (%s): %s", c.status(), errors)
	}
	err := json.Unmarshal(text, &report)
	return report, err
}

// refused is the point that create, or at the latest start, is an error, and that nothing of the container stays.
func (t *T) refused(c *Container, requirement interface{}, what string) {
	answer := c.create()
	if answer.ok() {
		answer = c.start()
	}
	t.ok(!answer.ok(), requirement, what, "the runtime took it")
	c.delete("--force")
}

// taken is the point that a container with this configuration runs.
func (t *T) taken(c *Container, requirement interface{}, what string) {
	_, err := c.run()
	t.ok(err == nil, requirement, what, err)
}

// seen runs the container and hands its report to the points; all of them fail if it does not run.
func (t *T) seen(c *Container, points ...point) Report {
	report, err := c.run()
	t.judge(report, err, points...)
	return report
}

// judge hands a report to the points; all of them fail where there is none.
func (t *T) judge(report Report, err error, points ...point) {
	for _, p := range points {
		if err != nil {
			t.ok(false, p.requirement, p.what, err)
			continue
		}
		why := p.test(report)
		t.ok(why == "", p.requirement, p.what, why)
	}
}

// A point is a requirement, a sentence, and a test that says what is wrong, or nothing.
type point struct {
	requirement interface{}
	what        string
	test        func(Report) string
}

// equal says what differs.
func equal(got, want interface{}) string {
	if fmt.Sprint(got) == fmt.Sprint(want) {
		return ""
	}
	return fmt.Sprintf("%v, not %v", got, want)
}

func octal(text string) int64 {
	n, _ := strconv.ParseInt(text, 8, 64)
	return n
}
