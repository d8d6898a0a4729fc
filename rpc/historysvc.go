package rpc

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/journal"
)

// journalPatience is how long a reader waits for what was committed before it asked.
const journalPatience = 2 * time.Second

type historyService struct{ s *Server }

// historyProcedures are the lines of the table for history.
func historyProcedures() map[string]procedure {
	return map[string]procedure{
		rpcv1.HistoryServiceListJournalProcedure:        {action: ActionTwinRead, resource: journalOf},
		rpcv1.HistoryServiceQuerySeriesProcedure:        {action: ActionTwinRead, resource: seriesOf},
		rpcv1.HistoryServicePreviewRetentionProcedure:   {action: ActionSiteRead, resource: ofRetention},
		rpcv1.HistoryServiceGetRetentionStatusProcedure: {action: ActionSiteRead, resource: ofRetention},
	}
}

// journalOf: the twin that the request names, or its project; neither: all that the caller may read.
func journalOf(m any, p *Principal) (Resource, error) {
	msg, ok := m.(*pb.ListJournalRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	if msg.Twin != "" {
		if msg.Project != "" && !strings.Contains(msg.Twin, "/") {
			msg.Twin = msg.Project + "/" + msg.Twin
		}
		r, err := named("twin", "twin", &msg.Twin)
		if err == nil && msg.Project != "" && msg.Project != r.Project {
			err = invalid("twin", msg.Twin+" is in another project")
		}
		msg.Project = r.Project
		return r, err
	}
	return narrowed("twin", &msg.Project, p)
}

// ofOneProject is narrowed, of exactly one project: where none is named, the caller's or the default one.
func ofOneProject(kind string, project *string, p *Principal) (Resource, error) {
	if *project == "" && (p == nil || p.Project == "") {
		*project = DefaultProject
	}
	return narrowed(kind, project, p)
}

// fromHistory asks nodes whose history is complete, one after the other until one can be reached.
func fromHistory[M any](ctx context.Context, s *Server, nodes []string, ask func(*peerClients) (*connect.Response[M], error)) (*connect.Response[M], error) {
	var last error
	for _, node := range nodes {
		p, err := s.peer(node)
		if err != nil {
			last = err
			continue
		}
		res, err := ask(p)
		if err == nil {
			return connect.NewResponse(res.Msg), nil
		}
		if connect.CodeOf(err) != connect.CodeUnavailable || ctx.Err() != nil {
			return nil, err
		}
		last = err
	}
	return nil, last
}

func (h *historyService) ListJournal(ctx context.Context, r *connect.Request[pb.ListJournalRequest]) (*connect.Response[pb.ListJournalResponse], error) {
	if at := h.s.o.Cluster.HistoryNodes(); len(at) > 0 && !isLocal(ctx) {
		return fromHistory(ctx, h.s, at, func(p *peerClients) (*connect.Response[pb.ListJournalResponse], error) {
			return p.history.ListJournal(ctx, connect.NewRequest(r.Msg))
		})
	}
	q, err := journalQuery(r.Msg)
	if err != nil {
		return nil, err
	}
	h.s.o.Journal.CatchUp(ctx, journalPatience)
	list := h.s.o.Journal.List
	if q.Project == "" {
		list = h.s.o.Journal.ListAll
	}
	page, err := list(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &pb.ListJournalResponse{Entries: make([]*pb.JournalEntry, len(page.Entries))}
	for i := range page.Entries {
		out.Entries[i] = journalProto(&page.Entries[i])
	}
	if page.Next != nil {
		out.NextPageToken = pageToken(journalToken(r.Msg), fmt.Sprintf("%d.%d", page.Next.Time, page.Next.Sequence))
	}
	return connect.NewResponse(out), nil
}

// journalToken is the kind of a list's tokens: the two directions are two lists.
func journalToken(m *pb.ListJournalRequest) string {
	if m.OldestFirst {
		return "journal, oldest first"
	}
	return "journal"
}

func journalQuery(m *pb.ListJournalRequest) (journal.Query, error) {
	q := journal.Query{Project: m.Project, Kinds: m.Kinds, Names: m.Names, Newest: !m.OldestFirst, Limit: int(m.PageSize)}
	_, q.Twin, _ = strings.Cut(m.Twin, "/")
	if words := strings.Fields(strings.ToLower(m.Text)); len(words) > 0 {
		q.Match = func(e *storage.JournalEntry) bool { return hasWords(e, words) }
	}
	if m.Start != nil {
		q.Start = m.Start.AsTime().UnixMilli()
	}
	if m.End != nil {
		if q.End = m.End.AsTime().UnixMilli(); q.End < q.Start || q.End <= 0 {
			return q, invalid("end", "is before start")
		}
	}
	after, err := afterToken(journalToken(m), m.PageToken)
	if err != nil || after == "" {
		return q, err
	}
	at, sequence, _ := strings.Cut(after, ".")
	q.After = &journal.Position{}
	if q.After.Time, err = strconv.ParseInt(at, 10, 64); err == nil {
		q.After.Sequence, err = strconv.ParseUint(sequence, 10, 64)
	}
	if err != nil {
		return q, invalid("page_token", "is not the next_page_token of such a list")
	}
	return q, nil
}

// hasWords says whether each of the words, in small letters, is somewhere in an entry.
func hasWords(e *storage.JournalEntry, words []string) bool {
	text := strings.ToLower(e.Twin + "\n" + e.Kind + "\n" + e.Name + "\n" + string(e.Data))
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

func journalProto(e *storage.JournalEntry) *pb.JournalEntry {
	out := &pb.JournalEntry{Project: e.Project, Kind: e.Kind, Name: e.Name, Time: timestamppb.New(time.UnixMilli(e.Time)), Sequence: e.Sequence,
		Data: jsonValue(e.Data)}
	if e.Twin != "" {
		out.Twin = e.Project + "/" + e.Twin
	}
	return out
}

// jsonValue reads JSON that was checked when it was written; null where it is none.
func jsonValue(text []byte) *structpb.Value {
	v := &structpb.Value{}
	if err := protojson.Unmarshal(text, v); err != nil {
		return structpb.NewNullValue()
	}
	return v
}
