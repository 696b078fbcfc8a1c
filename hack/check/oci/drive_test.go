// The reader of TAP, on what the programs of runtime-tools print: several plans, YAML, directives.
package main

import (
	"fmt"
	"strings"
	"testing"
)

func results(points []Point) string {
	var all []string
	for _, p := range points {
		all = append(all, p.Result+":"+p.What+":"+strings.Join(p.Why, ","))
	}
	return strings.Join(all, " | ")
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ name, text, ended, want string }{
		{"points and a plan at the end", "TAP version 13\nok 1 - a\nnot ok 2 - b\n1..2\n", "", "pass:a: | fail:b:"},
		{"a plan at the beginning", "TAP version 13\n1..1\nok 1 # SKIP none here\n", "", "skip::none here"},
		{"two runs in one output", "TAP version 13\nTAP version 13\nok 1 - a\n1..1\nTAP version 13\nok 1 - b\n1..1\n1..0\n", "", "pass:a: | pass:b:"},
		{"no point at all is a plan of none", "TAP version 13\n1..0\n", "", ""},
		{"what is still to do does not fail", "not ok 1 # TODO bind mounts\n1..1\n", "", "skip::bind mounts"},
		{"YAML belongs to the failure before it", "not ok 1 - a\n  ---\n  {\n    \"error\": \"ok 2 - x\"\n  }\n  ...\nok 2 - b\n1..2\n", "", "fail:a:\"error\": \"ok 2 - x\" | pass:b:"},
		{"YAML before any point is passed over", "TAP version 13\n  ---\n  {}\n  ...\n1..0\n", "", ""},
		{"no plan", "ok 1 - a\n", "", "pass:a: | fail:the program comes to its end:no plan in its output,"},
		{"fewer points than planned", "ok 1 - a\n1..2\n", "", "pass:a: | fail:the program comes to its end:2 points were planned, 1 came,"},
		{"a bad end", "ok 1 - a\n1..1\n", "exit status 1", "pass:a: | fail:the program comes to its end:exit status 1,"},
	} {
		if got := results(parse("p", c.text, "", c.ended)); got != c.want {
			t.Error(fmt.Sprintf("%s: %s, not %s", c.name, got, c.want))
		}
	}
}
