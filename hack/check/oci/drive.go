// The driver: runs every program on every runtime, with an end to each, and reads the TAP.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// Point is one line of TAP.
type Point struct {
	Program     string   `json:"program"`
	What        string   `json:"what"`
	Requirement string   `json:"requirement"`
	Result      string   `json:"result"`
	Why         []string `json:"why,omitempty"`
}

// Result is a whole run of one runtime in one mode.
type Result struct {
	Suite    string  `json:"suite"`
	Mode     string  `json:"mode"`
	Runtime  string  `json:"runtime"`
	Path     string  `json:"path"`
	Version  string  `json:"version"`
	Programs int     `json:"programs"`
	Seconds  float64 `json:"seconds"`
	Points   []Point `json:"points"`
}

// drive --mode M --out FILE [--tree DIR] [--only A,B] NAME=PATH...
func drive(args []string) int {
	flags := flag.NewFlagSet("drive", flag.ExitOnError)
	mode := flags.String("mode", "", "name of the mode, for the report")
	out := flags.String("out", "", "file for the results")
	tree := flags.String("tree", "", "directory with the built programs of another suite (validation/*.t)")
	only := flags.String("only", "", "programs, separated by commas")
	limit := flags.Int("limit", 90, "seconds that a program may take")
	flags.Parse(args)
	var results []Result
	for _, argument := range flags.Args() {
		name, path, _ := strings.Cut(argument, "=")
		result := Result{Suite: "hull", Mode: *mode, Runtime: name, Path: path, Version: version(path)}
		begin := time.Now()
		for _, program := range chosen(*tree, *only) {
			command, label := exec.Command("/proc/self/exe", "run", program), program
			if *tree != "" {
				command, label = exec.Command(program), strings.TrimSuffix(filepath.Base(program), ".t")
				command.Dir, result.Suite = *tree, "runtime-tools"
			}
			fmt.Fprintf(os.Stderr, "\r\033[K%s %s: %s", *mode, name, label)
			result.Programs++
			result.Points = append(result.Points, runOne(command, label, path, time.Duration(*limit)*time.Second)...)
		}
		result.Seconds = time.Since(begin).Seconds()
		fmt.Fprintf(os.Stderr, "\r\033[K%s %s: %d programs in %.0f s\n", *mode, name, result.Programs, result.Seconds)
		results = append(results, result)
	}
	data, err := json.MarshalIndent(results, "", " ")
	check(err)
	check(os.WriteFile(*out, data, 0o644))
	return 0
}

func chosen(tree, only string) []string {
	all := names()
	if tree != "" {
		// Older trees have the programs in validation itself, newer ones each in a directory of its own.
		all, _ = filepath.Glob(filepath.Join(tree, "validation", "*.t"))
		deeper, _ := filepath.Glob(filepath.Join(tree, "validation", "*", "*.t"))
		all = append(all, deeper...)
		if len(all) == 0 {
			fatal("no programs in %s/validation", tree)
		}
	}
	if only == "" {
		return all
	}
	var some []string
	for _, program := range all {
		name := strings.TrimSuffix(filepath.Base(program), ".t")
		if strings.Contains(","+only+",", ","+name+",") {
			some = append(some, program)
		}
	}
	if len(some) == 0 {
		fatal("no program is named %s", only)
	}
	return some
}

func version(path string) string {
	out, _ := exec.Command(path, "--version").Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

func runOne(command *exec.Cmd, label, runtime string, limit time.Duration) []Point {
	var stdout, stderr bytes.Buffer
	// Files, since what a program leaves behind may hold a pipe open.
	output, err := os.CreateTemp("", "tap")
	check(err)
	errors, err := os.CreateTemp("", "stderr")
	check(err)
	defer os.Remove(output.Name())
	defer os.Remove(errors.Name())
	command.Stdout, command.Stderr = output, errors
	command.Env = append(os.Environ(), "RUNTIME="+runtime)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	check(command.Start())
	done := make(chan error, 1)
	go func() { done <- command.Wait() }()
	ended := ""
	select {
	case err = <-done:
		if err != nil {
			ended = err.Error()
		}
	case <-time.After(limit):
		ended = fmt.Sprintf("not at its end after %v", limit)
		// It removes its containers first.
		syscall.Kill(command.Process.Pid, syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(15 * time.Second):
		}
		syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
	}
	text, _ := os.ReadFile(output.Name())
	stdout.Write(text)
	text, _ = os.ReadFile(errors.Name())
	stderr.Write(text)
	return parse(label, stdout.String(), stderr.String(), ended)
}

var line = regexp.MustCompile(`^(not )?ok\b\s*(\d+)?\s*(?:- )?(.*)$`)
var plan = regexp.MustCompile(`^1\.\.(\d+)`)

// parse reads TAP. A program without a plan, with another number of points than planned, or with a bad end, is a failed
// point of its own. One that prints several plans, a program in its container each, means their sum. A failure that its
// author marks as still to do is none.
func parse(program, text, errors, ended string) []Point {
	var points []Point
	planned, block := -1, false
	scanner := bufio.NewScanner(strings.NewReader(text))
	scanner.Buffer(nil, 1<<24)
	for scanner.Scan() {
		l := scanner.Text()
		// What the TAP of runtime-tools says of a point in YAML (which is JSON).
		if trimmed := strings.TrimSpace(l); block || trimmed == "---" {
			if block && trimmed != "..." && trimmed != "{" && trimmed != "}" && len(points) > 0 && points[len(points)-1].Result == "fail" {
				points[len(points)-1].Why = append(points[len(points)-1].Why, trimmed)
			}
			block = trimmed != "..."
			continue
		}
		if m := plan.FindStringSubmatch(l); m != nil {
			number := 0
			fmt.Sscan(m[1], &number)
			if planned < 0 {
				planned = 0
			}
			planned += number
			continue
		}
		if m := line.FindStringSubmatch(l); m != nil {
			p := Point{Program: program, Result: "pass"}
			what, directive, found := strings.Cut(m[3], " # ")
			if !found {
				what, directive, found = strings.Cut(m[3], "# ")
			}
			p.What = strings.TrimSpace(what)
			if m[1] != "" {
				p.Result = "fail"
			}
			if word := strings.ToUpper(directive); found && (strings.HasPrefix(word, "SKIP") || strings.HasPrefix(word, "TODO")) {
				p.Result, p.Why = "skip", []string{strings.TrimSpace(directive[4:])}
			}
			points = append(points, p)
			continue
		}
		if strings.HasPrefix(l, "#") && len(points) > 0 {
			p := &points[len(points)-1]
			if strings.HasPrefix(l, "#   ") {
				p.Why = append(p.Why, strings.TrimSpace(l[1:]))
			} else if p.Requirement == "" {
				p.Requirement = strings.TrimSpace(l[1:])
			}
		}
	}
	switch {
	case ended != "":
	case planned < 0:
		ended = "no plan in its output"
	case planned != len(points):
		ended = fmt.Sprintf("%d points were planned, %d came", planned, len(points))
	}
	if ended != "" {
		points = append(points, Point{Program: program, What: "the program comes to its end", Result: "fail", Why: append([]string{ended}, tail(errors, 8)...)})
	}
	return points
}

func tail(text string, n int) []string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return lines
}
