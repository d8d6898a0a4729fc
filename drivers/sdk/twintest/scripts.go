package twintest

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// Scripts builds the driver in dir and runs its NAME.test.yaml files on a real twin, each test as a subtest, by
// `pollux driver test`. The program is $POLLUX_BIN, or pollux in the path; without it the test is skipped. With -short the
// tests run as they are written, otherwise also with a fresh instance for each event.
func Scripts(t *testing.T, dir string) {
	t.Helper()
	program := os.Getenv("POLLUX_BIN")
	if program == "" {
		var err error
		if program, err = exec.LookPath("pollux"); err != nil {
			t.Skip("pollux is not in the path, and POLLUX_BIN does not name it")
		}
	}
	args := []string{"driver", "test", "-o", "json"}
	if !testing.Short() {
		args = append(args, "--shuffle")
	}
	out, err := exec.Command(program, append(args, dir)...).Output()
	var report struct {
		Tests []struct {
			File, Test, Mode string
			Failure          *struct {
				Line                      int
				Step, Text, Expected, Got string
				Diff                      []string
			}
			Trail []string
		}
	}
	if bad := json.Unmarshal(out, &report); bad != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = append(out, exit.Stderr...)
		}
		t.Fatalf("%s driver test %s: %v\n%s", program, dir, err, out)
	}
	for _, r := range report.Tests {
		name := r.Test
		if r.Mode != "" {
			name += "/" + r.Mode
		}
		t.Run(name, func(t *testing.T) {
			if f := r.Failure; f != nil {
				t.Errorf("%s:%s: %s\nstep     %s\nexpected %s\ngot      %s\n%s\n%s", r.File, strconv.Itoa(f.Line), f.Text, f.Step, f.Expected, f.Got,
					strings.Join(f.Diff, "\n"), strings.Join(r.Trail, "\n"))
			}
		})
	}
}
