package rpc

import (
	"fmt"
	"slices"
	"strings"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// survive counts members and voters, and says how many failures the cluster survives, and why no more. Nodes that were asked
// just now and did not answer, by id, are no help to rely on.
func survive(res *pb.GetStatusResponse, nodes []*pb.Node, asked map[string]bool) {
	res.Nodes, res.NodesAlive, res.Voters, res.VotersAlive = 0, 0, 0, 0
	var silent []string
	for _, n := range nodes {
		// One that gossip does not hear is no help to rely on either.
		lives := (n.State == "alive" || n.State == "draining") && !asked[n.Id]
		if n.State != "left" {
			res.Nodes++
		}
		if lives {
			res.NodesAlive++
		}
		if n.Role != "leader" && n.Role != "voter" {
			continue
		}
		res.Voters++
		if lives {
			res.VotersAlive++
		} else {
			silent = append(silent, nodeText(n))
		}
	}
	res.Quorum = res.Voters/2 + 1
	res.FailuresTolerated = 0
	if res.VotersAlive > res.Quorum {
		res.FailuresTolerated = res.VotersAlive - res.Quorum
	}
	slices.Sort(silent)
	res.FailuresReason = whyNoMore(res, silent)
}

func nodeText(n *pb.Node) string {
	if n.Name != "" {
		return n.Name
	}
	return n.Id
}

// whyNoMore says in a sentence what limits the failures survived.
func whyNoMore(s *pb.GetStatusResponse, silent []string) string {
	not := ""
	if len(silent) > 0 {
		not = fmt.Sprintf("; without an answer: %s", strings.Join(silent, ", "))
	}
	switch {
	case s.Voters == 0:
		return "this node knows no voters"
	case s.VotersAlive < s.Quorum:
		return fmt.Sprintf("no quorum: %d of %d voters answer, %d must%s", s.VotersAlive, s.Voters, s.Quorum, not)
	case s.Voters == 1 && s.Nodes <= 1:
		return "there is one node, and it holds the only copy of the data"
	case s.Voters == 1:
		return "there is one voter, which holds the only complete copy of the data; other nodes become voters when they are stable"
	case s.Voters == 2:
		return "both of the two voters must answer; a third would make it one failure" + not
	}
	text := fmt.Sprintf("%d of %d voters must answer, and %d do", s.Quorum, s.Voters, s.VotersAlive)
	return text + not
}
