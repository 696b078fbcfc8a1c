// Conformance programs for an OCI runtime, on the libraries of OCI's runtime-tools as Debian packages them: their
// generator makes the configurations, their list of requirements (specerror) is what the points are keyed by, and their
// readers of cgroup v1 check the limits. hack/check/conformance builds and runs it.
//
// One static program plays every part: it drives (drive, report), it is each test program (run), and in the container it
// is the program that looks around (inside) or the hook (hook).
package main

import (
	"fmt"
	"os"
	"sort"
)

// A program is a group of points that prints TAP.
var programs = map[string]func(*T){}

func program(name string, body func(*T)) bool {
	programs[name] = body
	return true
}

func names() []string {
	var all []string
	for name := range programs {
		all = append(all, name)
	}
	sort.Strings(all)
	return all
}

func main() {
	if len(os.Args) < 2 {
		fatal("usage: conformance list | codes | run PROGRAM | drive ... | report ... | inside PROBE | hook FILE LABEL [STATUS]")
	}
	switch rest := os.Args[2:]; os.Args[1] {
	case "list":
		for _, name := range names() {
			fmt.Println(name)
		}
	case "codes":
		os.Exit(codes(rest))
	case "run":
		body := programs[rest[0]]
		if body == nil {
			fatal("no program %q", rest[0])
		}
		os.Exit(runProgram(rest[0], body))
	case "drive":
		os.Exit(drive(rest))
	case "report":
		os.Exit(report(rest))
	case "inside":
		inside(rest[0])
	case "hook":
		os.Exit(hook(rest))
	default:
		fatal("no command %q", os.Args[1])
	}
}

func fatal(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "conformance: "+format+"\n", args...)
	os.Exit(2)
}
