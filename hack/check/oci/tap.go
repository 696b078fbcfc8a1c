// TAP, and the life of a test program: what it made is removed at its end, however that comes.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-tools/specerror"
)

// T is one program's run.
type T struct {
	name       string
	runtime    string
	dir        string
	number     int
	mutex      sync.Mutex
	containers []*Container
	cleanups   []func()
}

func runProgram(name string, body func(*T)) int {
	runtime := os.Getenv("RUNTIME")
	if runtime == "" {
		fatal("RUNTIME says which runtime")
	}
	dir, err := os.MkdirTemp("", "conformance-"+name+"-")
	if err != nil {
		fatal("%v", err)
	}
	// A root of a user namespace has to get through it.
	check(os.Chmod(dir, 0o711))
	t := &T{name: name, runtime: runtime, dir: dir}
	// The driver's time-out.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		t.clean()
		os.Exit(3)
	}()
	defer t.clean()
	fmt.Println("TAP version 13")
	body(t)
	fmt.Printf("1..%d\n", t.number)
	return 0
}

func (t *T) clean() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, c := range t.containers {
		c.delete("--force")
	}
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
	removeGroups(t.marks())
	unmountBelow(t.dir)
	os.RemoveAll(t.dir)
}

// marks are the beginnings of the names of all cgroups of this program.
func (t *T) marks() (string, string) {
	return fmt.Sprintf("conf-%s-%d-", strings.ReplaceAll(t.name, "_", "-"), os.Getpid()), fmt.Sprintf("conformance-%d-", os.Getpid())
}

// later is called at the program's end, after the containers are gone.
func (t *T) later(f func()) {
	t.mutex.Lock()
	t.cleanups = append(t.cleanups, f)
	t.mutex.Unlock()
}

// ok prints one point. The requirement is a code of specerror or a section of the specification; `what` is the sentence
// that says what must hold, and stays the same from run to run; `why` says what was seen.
func (t *T) ok(pass bool, requirement interface{}, what string, why ...interface{}) bool {
	t.number++
	verdict := "ok"
	if !pass {
		verdict = "not ok"
	}
	fmt.Printf("%s %d - %s\n", verdict, t.number, escape(what))
	fmt.Printf("# %s\n", describe(requirement))
	if !pass {
		for _, w := range why {
			for _, line := range strings.Split(strings.TrimSpace(fmt.Sprint(w)), "\n") {
				fmt.Printf("#   %s\n", line)
			}
		}
	}
	return pass
}

func (t *T) skip(requirement interface{}, what, reason string) {
	t.number++
	fmt.Printf("ok %d - %s # SKIP %s\n", t.number, escape(what), reason)
	fmt.Printf("# %s\n", describe(requirement))
}

// A number sign would begin a directive.
func escape(what string) string {
	return strings.ReplaceAll(what, "#", "no. ")
}

func describe(requirement interface{}) string {
	code, ok := requirement.(specerror.Code)
	if !ok {
		return fmt.Sprint(requirement)
	}
	rfc, err := specerror.NewRFCError(code, nil, rspec.Version)
	if err != nil {
		fatal("code %#x: %v", int64(code), err)
	}
	reference := rfc.Reference[strings.LastIndex(rfc.Reference, "/")+1:]
	return fmt.Sprintf("%s: %s, %s", codeNames[code], rfc.Level, reference)
}
