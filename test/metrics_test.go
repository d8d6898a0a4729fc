package test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/test/harness"
)

// fetch gets a path with the administrator's key.
func fetch(t *testing.T, n *harness.Node, path string) string {
	t.Helper()
	r, err := n.Get(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, r.Status, err)
	}
	return string(body)
}

// counted adds up the series of /metrics whose names begin so.
func counted(t *testing.T, n *harness.Node, prefix string) float64 {
	t.Helper()
	sum := 0.0
	for line := range strings.Lines(fetch(t, n, "/metrics")) {
		if !strings.HasPrefix(line, prefix) {
			continue
		}
		_, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("metric %q: %v", line, err)
		}
		sum += v
	}
	return sum
}
