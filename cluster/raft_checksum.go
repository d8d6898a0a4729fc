package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Checksum is the sum of all effects on a node's state up to an index of the log.
type Checksum struct{ Index, Sum uint64 }

// ChecksumOptions say whose states are compared.
type ChecksumOptions struct {
	// Self is this node's id, Own its last checksums.
	Self string
	Own  func() []Checksum
	// Peers lists the other nodes; Ask gets the last checksums of one. It may block until ctx ends.
	Peers func() []string
	Ask   func(ctx context.Context, node string) ([]Checksum, error)
	// Every is the time between two comparisons. Default 60 s.
	Every   time.Duration
	Logger  *slog.Logger
	Metrics *metrics.Set
}

// Mismatch is an index at which nodes have different states. It never heals by itself: the nodes of Odd must be stopped and
// started with empty data directories.
type Mismatch struct {
	Index uint64
	// Sums are the checksums by node.
	Sums map[string]uint64
	// Odd are the nodes that differ from the most; where there is no majority, all of them.
	Odd []string
}

func (m Mismatch) String() string {
	var all []string
	for _, node := range slices.Sorted(maps.Keys(m.Sums)) {
		all = append(all, fmt.Sprintf("%s=%016x", node, m.Sums[node]))
	}
	return fmt.Sprintf("at log index %d the states differ: %s (odd: %s)", m.Index, strings.Join(all, " "), strings.Join(m.Odd, ", "))
}

// CompareChecksums asks all peers and gives the lowest index at which they differ; nil: all that could be compared is
// equal. compared is the number of nodes, this one included, that share an index with another. Peers that do not answer
// within 5 s are left out.
func CompareChecksums(ctx context.Context, o ChecksumOptions) (mismatch *Mismatch, compared int) {
	sums := map[string][]Checksum{o.Self: o.Own()}
	for _, node := range o.Peers() {
		if node == o.Self {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		theirs, err := o.Ask(asking, node)
		cancel()
		if err == nil {
			sums[node] = theirs
		}
	}
	return compare(sums)
}

func compare(sums map[string][]Checksum) (*Mismatch, int) {
	at := map[uint64]map[string]uint64{}
	for node, all := range sums {
		for _, c := range all {
			if at[c.Index] == nil {
				at[c.Index] = map[string]uint64{}
			}
			at[c.Index][node] = c.Sum
		}
	}
	shared := map[string]bool{}
	for _, index := range slices.Sorted(maps.Keys(at)) {
		nodes := at[index]
		if len(nodes) < 2 {
			continue
		}
		votes := map[uint64]int{}
		for node, sum := range nodes {
			shared[node] = true
			votes[sum]++
		}
		if len(votes) > 1 {
			return &Mismatch{Index: index, Sums: nodes, Odd: odd(nodes, votes)}, len(shared)
		}
	}
	return nil, len(shared)
}

// odd are those that a majority outvotes.
func odd(nodes map[string]uint64, votes map[uint64]int) []string {
	var out []string
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		if votes[nodes[node]]*2 <= len(nodes) {
			out = append(out, node)
		}
	}
	return out
}

// WatchChecksums compares again and again until ctx ends, and says loudly where states differ.
func (r *Raft) WatchChecksums(ctx context.Context, o ChecksumOptions) {
	if o.Every <= 0 {
		o.Every = time.Minute
	}
	if o.Logger == nil {
		o.Logger = r.o.Logger
	}
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if m, _ := CompareChecksums(ctx, o); m != nil {
			r.m.mismatch.Inc()
			o.Logger.Error("the nodes' states differ: stop the odd nodes and start them with empty data directories",
				"index", m.Index, "odd", m.Odd, "states", m.String())
		}
	}
}
