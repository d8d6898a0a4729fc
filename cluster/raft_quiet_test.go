package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// That a node which stops as planned does not answer is no warning; that another one does not is.
func TestRaftIsQuietAboutThoseWhoLeave(t *testing.T) {
	var out bytes.Buffer
	log := raftLogger(slog.New(slog.NewTextHandler(&out, nil)), func(node string) bool { return node == "n2" || node == "127.0.0.2:7947" })
	for _, peer := range []any{raft.ServerID("n2"), raft.ServerAddress("127.0.0.2:7947"), raft.ServerID("n3")} {
		log.Error("failed to heartbeat to", "peer", peer, "error", "EOF")
	}
	if text := out.String(); strings.Count(text, "failed to heartbeat") != 1 || !strings.Contains(text, "n3") {
		t.Errorf("said:\n%s", text)
	}
}

// What was heard under an earlier leadership is not shown as heard now.
func TestLeadershipBeginsAnew(t *testing.T) {
	var l leadership
	at := func(self bool, term uint64) int64 {
		l.note(LeaderChange{Self: self, Term: term})
		return l.since.Load()
	}
	if at(false, 1) != 0 {
		t.Error("a follower leads")
	}
	first := at(true, 2)
	time.Sleep(time.Millisecond)
	if again := at(true, 2); first == 0 || again != first {
		t.Errorf("the same leadership began at %d and %d", first, again)
	}
	if next := at(true, 4); next <= first {
		t.Errorf("the next leadership began at %d, the one before at %d", next, first)
	}
	if at(false, 5) != 0 {
		t.Error("it still leads")
	}
}
