package actors

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// inheritance keeps what a deleted twin was sent: its counters live on, and messages do not vanish from the sums.
func (t *twin) inheritance() (writes []storage.Write) {
	if t.st.Ingested == nil {
		return nil
	}
	for i := range t.st.Ingested.Doors {
		d := &t.st.Ingested.Doors[i]
		key := ProjectOf(t.en.id) + "/" + d.Name.Value() + "/~" + NameOf(t.en.id)
		c := &pb.IngestCount{}
		if rec, ok, err := t.e.store.Get(tableIngest, key); err == nil && ok {
			_ = proto.Unmarshal(rec.Value, c) // of an earlier twin of that name
		}
		c.Project, c.Door = ProjectOf(t.en.id), d.Name.Value()
		c.Stored += d.Stored
		c.Refused += d.Refused
		c.Duplicate += d.Duplicate
		if value, err := proto.Marshal(c); err == nil {
			writes = append(writes, storage.Write{Table: tableIngest, Key: key, Value: value, Quiet: true})
		}
	}
	return writes
}

// IngestStatus gives the counters by project and door, as committed, and what is in flight on this node. It reads the
// states of the project's twins: with very many the figures may be some seconds old, unless they are to be fresh.
func (r *Registry) IngestStatus(project string, fresh bool, projects func(string) bool) (*pb.GetIngestStatusResponse, error) {
	prefix := ""
	if project != "" {
		prefix = project + "/"
	}
	sums := counts{}
	if err := r.countLedgers(sums, prefix); err != nil {
		return nil, err
	}
	if err := r.countTwins(sums, prefix, fresh); err != nil {
		return nil, err
	}
	in := r.e.intake
	in.mu.Lock()
	for k, n := range in.flying {
		if (project == "" || project == k.project) && n.Load() > 0 {
			sums.of(k.project, k.door).InFlight += uint64(n.Load())
		}
	}
	in.mu.Unlock()
	out := &pb.GetIngestStatusResponse{}
	for k, c := range sums {
		if projects != nil && !projects(k.project) {
			continue
		}
		c.Received = c.Stored + c.Refused + c.Inbox + c.Duplicate + c.InFlight
		out.Counts = append(out.Counts, c)
	}
	slices.SortFunc(out.Counts, func(a, b *pb.IngestCount) int {
		return cmp.Or(strings.Compare(a.Project, b.Project), strings.Compare(a.Door, b.Door))
	})
	err := r.countLists(out, prefix, projects)
	return out, err
}

// counts are sums by project and door.
type counts map[doorKey]*pb.IngestCount

func (s counts) of(project, door string) *pb.IngestCount {
	k := doorKey{project, door}
	if s[k] == nil {
		s[k] = &pb.IngestCount{Project: project, Door: door}
	}
	return s[k]
}

// countLedgers adds what the nodes' ledgers and deleted twins have counted.
func (r *Registry) countLedgers(sums counts, prefix string) error {
	for rec, err := range r.store.Scan(tableIngest, prefix, "") {
		if err != nil {
			return fmt.Errorf("read counters: %w", err)
		}
		x := &pb.IngestCount{}
		if err := proto.Unmarshal(rec.Value, x); err != nil {
			return fmt.Errorf("counter %s: %w", rec.Key, err)
		}
		c := sums.of(x.Project, x.Door)
		c.Stored += x.Stored
		c.Refused += x.Refused
		c.Inbox += x.Inbox
		c.Duplicate += x.Duplicate
	}
	return nil
}

// The counters of twins, as they are found in their states.
const (
	countedStored    = "stored"
	countedRefused   = "refused"
	countedDuplicate = "duplicate"
)

func (r *Registry) countTwins(sums counts, prefix string, fresh bool) error {
	found, err := r.count("ingest "+prefix, fresh, func() (map[string]uint64, error) { return r.readCounts(prefix) })
	if err != nil {
		return err
	}
	for key, n := range found {
		parts := strings.SplitN(key, "/", 3)
		c := sums.of(parts[0], parts[1])
		switch parts[2] {
		case countedStored:
			c.Stored += n
		case countedRefused:
			c.Refused += n
		case countedDuplicate:
			c.Duplicate += n
		}
	}
	return nil
}

// readCounts adds the counters in the states. Of each it reads nothing else, so that a hundred thousand take some hundredths of a second.
func (r *Registry) readCounts(prefix string) (map[string]uint64, error) {
	type sum struct {
		door                       []byte
		stored, refused, duplicate uint64
	}
	var project string
	var doors []sum // of the project: states are ordered by it
	found := map[string]uint64{}
	settle := func() {
		for _, d := range doors {
			key := project + "/" + string(d.door) + "/"
			found[key+countedStored], found[key+countedRefused], found[key+countedDuplicate] = d.stored, d.refused, d.duplicate
		}
		doors = nil
	}
	each := func(name []byte, stored, refused, duplicate uint64) {
		i := slices.IndexFunc(doors, func(d sum) bool { return string(d.door) == string(name) })
		if i < 0 {
			i = len(doors)
			doors = append(doors, sum{door: slices.Clone(name)})
		}
		d := &doors[i]
		d.stored, d.refused, d.duplicate = d.stored+stored, d.refused+refused, d.duplicate+duplicate
	}
	for rec, err := range r.store.Scan(tableStates, prefix, "") {
		if err != nil {
			return nil, fmt.Errorf("read states: %w", err)
		}
		if p := ProjectOf(rec.Key); p != project {
			settle()
			project = p
		}
		if err := state.DecodeDoors(rec.Value, each); err != nil {
			return nil, fmt.Errorf("state of %s: %w", rec.Key, err)
		}
	}
	settle()
	return found, nil
}

// countLists counts the entries of inboxes and the lines of refusals.
func (r *Registry) countLists(out *pb.GetIngestStatusResponse, prefix string, projects func(string) bool) error {
	for rec, err := range r.store.Scan(tableInbox, prefix, "") {
		if err != nil {
			return fmt.Errorf("read inbox: %w", err)
		}
		if projects != nil && !projects(ProjectOf(rec.Key)) {
			continue
		}
		x := &pb.InboxEntry{}
		if err := proto.Unmarshal(rec.Value, x); err != nil {
			return fmt.Errorf("inbox %s: %w", rec.Key, err)
		}
		if !x.Ignored {
			out.InboxEntries++
		}
	}
	if projects == nil || prefix != "" && projects(ProjectOf(prefix)) {
		n, err := r.store.Count(tableRefusals, prefix)
		out.Refusals = uint64(n)
		return err
	}
	for rec, err := range r.store.Scan(tableRefusals, prefix, "") {
		if err != nil {
			return fmt.Errorf("read refusals: %w", err)
		}
		if projects(ProjectOf(rec.Key)) {
			out.Refusals++
		}
	}
	return nil
}

// ListRefusals gives a page of what was refused, the newest first.
func (r *Registry) ListRefusals(req *pb.ListRefusalsRequest, projects func(string) bool) (*pb.ListRefusalsResponse, error) {
	// The table goes from the oldest on, and holds 10,000 lines of a project: they are read, and turned round.
	prefix := ""
	if req.GetProject() != "" {
		prefix = req.GetProject() + "/"
	}
	var all []*pb.Refusal
	for rec, err := range r.store.Scan(tableRefusals, prefix, "") {
		if err != nil {
			return nil, fmt.Errorf("list refusals: %w", err)
		}
		if projects != nil && !projects(ProjectOf(rec.Key)) || req.GetPageToken() != "" && lineOf(rec.Key) >= req.GetPageToken() {
			continue
		}
		x, err := decode(rec, &pb.Refusal{})
		if err != nil {
			return nil, err
		}
		if req.GetCode() != "" && x.Code != req.Code || req.GetTwin() != "" && x.Twin != req.Twin || req.GetDoor() != "" && x.Door != req.Door {
			continue
		}
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b *pb.Refusal) int { return strings.Compare(lineOf(b.Id), lineOf(a.Id)) })
	out := &pb.ListRefusalsResponse{Refusals: all}
	if limit := pageSize(req.GetPageSize()); len(all) > limit {
		out.Refusals = all[:limit]
		out.NextPageToken = lineOf(all[limit-1].Id)
	}
	return out, nil
}

// lineOf is a refusal's time and number, by which lists of several projects are ordered.
func lineOf(id string) string { return NameOf(id) }
