// The report: totals, what failed and why, and whether that was expected.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
)

// Expected is a line of hack/check/conformance-expected: a point that the runtime under test fails, with the reason.
type Expected struct {
	suite, mode, program, what, reason string
	// Peers may pass it: the reason says why.
	alone bool
	used  bool
}

func readExpected(path string) []*Expected {
	var all []*Expected
	data, err := os.ReadFile(path)
	check(err)
	for number, l := range strings.Split(string(data), "\n") {
		if l = strings.TrimSpace(l); l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		fields := strings.Split(l, "|")
		if len(fields) != 5 {
			fatal("%s:%d: not SUITE | MODE | PROGRAM | POINT | REASON", path, number+1)
		}
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		e := &Expected{suite: fields[0], mode: fields[1], program: fields[2], what: fields[3], reason: fields[4]}
		e.reason, e.alone = strings.TrimPrefix(e.reason, "alone: "), strings.HasPrefix(e.reason, "alone: ")
		all = append(all, e)
	}
	return all
}

func (e *Expected) fits(r Result, p Point) bool {
	return e.suite == r.Suite && (e.mode == "*" || e.mode == r.Mode) && e.program == p.Program && e.what == p.What
}

// Total is what the JSON form says of one run.
type Total struct {
	Suite    string  `json:"suite"`
	Mode     string  `json:"mode"`
	Runtime  string  `json:"runtime"`
	Version  string  `json:"version"`
	Programs int     `json:"programs"`
	Clean    int     `json:"programs_without_failure"`
	Passes   int     `json:"passes"`
	Failures int     `json:"failures"`
	Skips    int     `json:"skips"`
	Seconds  float64 `json:"seconds"`
}

func total(r Result) Total {
	t := Total{Suite: r.Suite, Mode: r.Mode, Runtime: r.Runtime, Version: r.Version, Programs: r.Programs, Seconds: r.Seconds}
	failed := map[string]bool{}
	for _, p := range r.Points {
		switch p.Result {
		case "pass":
			t.Passes++
		case "fail":
			t.Failures++
			failed[p.Program] = true
		default:
			t.Skips++
		}
	}
	t.Clean = t.Programs - len(failed)
	return t
}

// report --expected FILE [--json] [--peers] RESULTS...: the first runtime of each file is the one under test.
func report(args []string) int {
	flags := flag.NewFlagSet("report", flag.ExitOnError)
	expectedFile := flags.String("expected", "", "table of the expected failures")
	asJSON := flags.Bool("json", false, "print JSON")
	peers := flags.Bool("peers", false, "list the failures of the peers, too")
	whole := flags.Bool("whole", false, "every program was run: check that every requirement has a point")
	flags.Parse(args)
	expected := readExpected(*expectedFile)
	var all [][]Result
	for _, file := range flags.Args() {
		data, err := os.ReadFile(file)
		check(err)
		var results []Result
		check(json.Unmarshal(data, &results))
		all = append(all, results)
	}
	var unexpected, excused, passing, totals, details, skipped = []string{}, []string{}, []string{}, []Total{}, []string{}, []string{}
	for _, results := range all {
		for i, r := range results {
			totals = append(totals, total(r))
			for _, p := range r.Points {
				if i > 0 {
					if p.Result == "fail" && *peers {
						details = append(details, row(r, p, ""))
					}
					continue
				}
				var e *Expected
				for _, candidate := range expected {
					if candidate.fits(r, p) {
						e = candidate
					}
				}
				others := failing(results[1:], p)
				switch {
				case p.Result == "skip":
					skipped = append(skipped, fmt.Sprintf("SKIP conformance %s: %s: %s: %s", r.Mode, p.Program, p.What, strings.Join(p.Why, " ")))
				case p.Result == "fail" && e == nil:
					unexpected = append(unexpected, row(r, p, others))
				case p.Result == "fail" && !e.alone && len(results) > 1 && passedBy(results[1:], p) != "":
					unexpected = append(unexpected, row(r, p, "expected, but "+passedBy(results[1:], p)+" passes it: the reason does not hold: "+e.reason))
				case p.Result == "fail":
					excused = append(excused, row(r, p, others+"; "+e.reason))
				case p.Result == "pass" && e != nil:
					passing = append(passing, fmt.Sprintf("%s %s: %s: %s", r.Mode, r.Runtime, p.Program, p.What))
				}
				if e != nil {
					e.used = true
				}
			}
		}
	}
	forgotten := []string{}
	if *whole {
		forgotten = uncovered(all)
		for _, e := range expected {
			if !e.used && len(all) > 1 && e.suite == all[0][0].Suite {
				passing = append(passing, fmt.Sprintf("no such point any more: %s: %s", e.program, e.what))
			}
		}
	}
	if *asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		check(encoder.Encode(Object{"totals": totals, "unexpected": unexpected, "expected": excused, "expected_but_passing": passing, "without_a_point": forgotten, "results": all}))
	} else {
		list := func(title string, rows []string) {
			if len(rows) > 0 {
				fmt.Printf("\n%s\n", title)
				for _, r := range rows {
					fmt.Println(r)
				}
			}
		}
		list("skipped:", skipped)
		list("failures of the peers:", details)
		list("expected failures (docs/conformance.md):", excused)
		list("expected to fail, and passing:", passing)
		list("requirements without a point:", forgotten)
		list("UNEXPECTED failures:", unexpected)
		fmt.Printf("\n%-14s %-6s %-8s %9s %7s %7s %9s %6s %8s\n", "suite", "mode", "runtime", "programs", "clean", "passes", "failures", "skips", "seconds")
		for _, t := range totals {
			fmt.Printf("%-14s %-6s %-8s %9d %7d %7d %9d %6d %8.0f\n", t.Suite, t.Mode, t.Runtime, t.Programs, t.Clean, t.Passes, t.Failures, t.Skips, t.Seconds)
		}
	}
	if !*asJSON {
		// For hack/test: the runtime under test alone. An expected failure is as good as a skip with its reason.
		passes := 0
		for i, t := range totals {
			if i == 0 || t.Runtime == totals[0].Runtime {
				passes += t.Passes
			}
		}
		fmt.Printf("\n%d passed, %d failed, %d skipped\n", passes, len(unexpected)+len(forgotten), len(excused)+len(skipped))
	}
	if len(unexpected)+len(forgotten) > 0 {
		return 1
	}
	return 0
}

func row(r Result, p Point, note string) string {
	text := fmt.Sprintf("  %s %s: %s: %s", r.Mode, r.Runtime, p.Program, p.What)
	if p.Requirement != "" {
		text += fmt.Sprintf(" [%s]", p.Requirement)
	}
	for _, w := range p.Why {
		text += "\n      " + shorten(w)
	}
	if note != "" {
		text += "\n      -> " + note
	}
	return text
}

func shorten(text string) string {
	if len(text) > 400 {
		return text[:400] + "..."
	}
	return text
}

func others(results []Result, p Point, result string) []string {
	var names []string
	for _, r := range results {
		for _, q := range r.Points {
			if q.Program == p.Program && q.What == p.What && q.Result == result {
				names = append(names, r.Runtime)
				break
			}
		}
	}
	return names
}

func failing(results []Result, p Point) string {
	if len(results) == 0 {
		return "no peer in this run"
	}
	names := others(results, p, "fail")
	if len(names) == 0 {
		return "no peer fails it"
	}
	return "fails with " + strings.Join(names, ", ") + ", too"
}

func passedBy(results []Result, p Point) string {
	return strings.Join(others(results, p, "pass"), ", ")
}

// uncovered are the requirements with neither a point nor a reason.
func uncovered(all [][]Result) []string {
	seen := map[string]bool{}
	for _, results := range all {
		for _, r := range results {
			if r.Suite != "hull" {
				return nil
			}
			for _, p := range r.Points {
				name, _, _ := strings.Cut(p.Requirement, ":")
				seen[name] = true
			}
		}
	}
	var missing []string
	for _, code := range registered() {
		name := codeNames[code]
		if name == "" {
			name = fmt.Sprintf("code %#x", int64(code))
		}
		if !seen[name] && withoutPoint[name] == "" {
			missing = append(missing, name)
		}
	}
	sort.Strings(missing)
	return missing
}
