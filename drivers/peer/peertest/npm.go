package peertest

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers/drivertest"
)

// NPM starts an independent peer of test/peers, a program for Node, which ends with the test. It returns what the peer
// prints after "port " in its first line, and the lines that come after. It skips the test where node, or the packages
// of test/peers, are missing.
func NPM(tb testing.TB, program string) (port string, lines <-chan string) {
	tb.Helper()
	dir := filepath.Join(drivertest.Root(), "test", "peers")
	node, err := exec.LookPath("node")
	if err != nil {
		drivertest.Missing(tb, "node is not installed")
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		drivertest.Missing(tb, "the peers' packages are not installed: npm ci in test/peers")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, node, program)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	said := make(chan string, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(said)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case said <- s.Text():
			default: // the test does not listen
			}
		}
		_ = cmd.Wait()
	}()
	tb.Cleanup(func() {
		cancel()
		<-done
	})
	first := <-said
	port, ok := strings.CutPrefix(first, "port ")
	if !ok {
		tb.Fatalf("%s says %q", program, first)
	}
	return port, said
}
