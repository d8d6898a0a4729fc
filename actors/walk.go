package actors

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

const (
	// maxSteps of a walk, and how many things it may have reached at a time.
	maxSteps = 64
	maxReach = 10_000
)

// walk is where a walk has come.
type walk struct {
	r       *Registry
	project string
	// at are the things reached. A walk begins at none, which is the project itself.
	at []end
	// open: a name chooses one of the things reached.
	open bool
}

// Walk goes from a project down its places, to twins and along relations. ErrNotFound names the word that leads nowhere; ErrInvalid a
// path that is none. It reads the local store.
func (r *Registry) Walk(req *pb.WalkRequest) (*pb.WalkResponse, error) {
	words := strings.Split(strings.Trim(req.GetPath(), "/"), "/")
	if !namePattern.MatchString(words[0]) {
		return nil, invalid("/path", "%.70q is no project's name", words[0])
	}
	if len(words) > maxSteps {
		return nil, invalid("/path", "%d words, %d are allowed", len(words), maxSteps)
	}
	w := &walk{r: r, project: words[0]}
	for i, word := range words[1:] {
		if err := w.step(word); err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(words[:i+1], "/"), err)
		}
	}
	if w.project != defaultProject && len(w.at) == 0 {
		if _, err := r.Project(w.project); err != nil {
			return nil, err
		}
	}
	res := &pb.WalkResponse{Path: words}
	return res, w.standing(req, res)
}

func (w *walk) step(word string) error {
	if kind, ok := strings.CutPrefix(word, "@"); ok {
		return w.along(kind)
	}
	if w.open {
		for _, x := range w.at {
			if x.key() == word || NameOf(x.id) == word && !slices.Contains(w.at, end{"twin", w.project + "/" + word}) {
				w.at, w.open = []end{x}, false
				return nil
			}
		}
		return fmt.Errorf("%.150q is none of the %d things there: %w", word, len(w.at), ErrNotFound)
	}
	next, err := w.named(word)
	if err == nil {
		w.at = []end{next}
	}
	return err
}

// along follows the relations of a type, of all things reached.
func (w *walk) along(word string) error {
	kind, against := strings.CutPrefix(word, "-")
	if !relationType.MatchString(kind) {
		return invalid("/path", "@%.70s: want @TYPE, or @-TYPE against the relation's direction", word)
	}
	if len(w.at) == 0 {
		return invalid("/path", "@%s: a project has no relations, only what is in it", word)
	}
	reached := map[end]bool{}
	for _, x := range w.at {
		to, err := w.r.related(x, kind, against, maxReach+1)
		if err != nil {
			return err
		}
		for _, y := range to {
			reached[y] = true
		}
		if len(reached) > maxReach {
			return invalid("/path", "@%s leads to more than %d things", word, maxReach)
		}
	}
	w.at = slices.SortedFunc(maps.Keys(reached), func(x, y end) int { return strings.Compare(x.String(), y.String()) })
	w.open = true
	return nil
}

// named gives what a name means where the walk stands: a zone in the zone, a twin in it, a system, a member of the system.
func (w *walk) named(word string) (end, error) {
	here := ""
	if len(w.at) > 0 {
		switch x := w.at[0]; x.kind {
		case "twin":
			return end{}, fmt.Errorf("nothing is in the twin %s: %.150q leads nowhere, @TYPE follows relations: %w", x.id, word, ErrNotFound)
		case "system":
			id, err := memberOf(w.r.store, x.id, word)
			return end{"twin", id}, err
		default:
			here = x.id
		}
	}
	x, err := parseEnd(w.project, word)
	if err != nil || ProjectOf(x.id) != w.project {
		return end{}, invalid("/path", "%.150q is no name", word)
	}
	if x.kind != "system" {
		if z, err := w.r.GetZone(x.id); err == nil && z.Parent == here {
			return end{"zone", x.id}, nil
		}
	}
	switch x.kind {
	case "system":
		if s, err := w.r.GetSystem(x.id); err == nil && (s.Zone == here || here == "") {
			return x, nil
		}
	case "twin":
		if t, err := w.r.e.readTwin(x.id); err == nil && t != nil && t.Zone == here {
			return x, nil
		}
	}
	if here == "" {
		return end{}, fmt.Errorf("there is no zone, and no twin outside of zones, %.150q: %w", word, ErrNotFound)
	}
	return end{}, fmt.Errorf("zone %s has no zone and no twin %.150q: %w", here, word, ErrNotFound)
}

// standing says what is where the walk has come.
func (w *walk) standing(req *pb.WalkRequest, res *pb.WalkResponse) (err error) {
	first := req.GetPageToken() == ""
	if w.open {
		return w.things(w.at, first, req, res)
	}
	if len(w.at) == 0 {
		return w.inZone("", first, req, res)
	}
	x := w.at[0]
	if res.TypesFrom, err = w.types(x, false); err != nil {
		return err
	}
	if res.TypesTo, err = w.types(x, true); err != nil {
		return err
	}
	switch x.kind {
	case "zone":
		if res.Zone, err = w.r.GetZone(x.id); err == nil {
			err = w.inZone(x.id, first, req, res)
		}
	case "system":
		if res.System, err = w.r.GetSystem(x.id); err != nil {
			return err
		}
		var members []end
		for _, m := range res.System.Members {
			members = append(members, end{"twin", m.Twin})
		}
		err = w.things(members, first, req, res)
	default:
		var list *pb.ListTwinsResponse
		list, err = w.r.ListTwins(&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{x.id}}, State: req.State}, nil)
		if err == nil && len(list.Twins) == 0 {
			err = fmt.Errorf("twin %s: %w", x.id, ErrNotFound)
		}
		if err == nil {
			res.Twin = list.Twins[0]
			if res.Twin.Zone != "" {
				res.Zone, err = w.r.GetZone(res.Twin.Zone)
			}
		}
	}
	return err
}

// inZone gives the zones and systems in a zone, or at first those in none, and the twins in it.
func (w *walk) inZone(id string, first bool, req *pb.WalkRequest, res *pb.WalkResponse) error {
	if first {
		err := scanAll(w.r, tableZones, w.project, func() *pb.Zone { return &pb.Zone{} }, func(z *pb.Zone) {
			if z.Parent == id {
				res.Zones = append(res.Zones, z)
			}
		})
		if err == nil {
			err = scanAll(w.r, tableSystems, w.project, func() *pb.System { return &pb.System{} }, func(s *pb.System) {
				if s.Zone == id {
					res.Systems = append(res.Systems, s)
				}
			})
		}
		if err != nil || id == "" {
			return err
		}
	}
	list, err := w.r.listTwins(&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Project: w.project, Zone: id}, PageSize: req.PageSize,
		PageToken: req.PageToken, State: req.State}, nil, true)
	if err != nil {
		return err
	}
	res.Twins, res.NextPageToken = list.Twins, list.NextPageToken
	return nil
}

// things gives the things reached, the twins by pages.
func (w *walk) things(all []end, first bool, req *pb.WalkRequest, res *pb.WalkResponse) error {
	var twins []string
	for _, x := range all {
		switch {
		case x.kind == "twin":
			twins = append(twins, x.id)
		case !first:
		case x.kind == "zone":
			if z, err := w.r.GetZone(x.id); err == nil {
				res.Zones = append(res.Zones, z)
			}
		default:
			if s, err := w.r.GetSystem(x.id); err == nil {
				res.Systems = append(res.Systems, s)
			}
		}
	}
	slices.Sort(twins)
	twins = slices.Compact(twins)
	twins = twins[sort.Search(len(twins), func(i int) bool { return twins[i] > req.PageToken }):]
	if size := pageSize(req.PageSize); len(twins) > size {
		twins = twins[:size]
		res.NextPageToken = twins[size-1]
	}
	if len(twins) == 0 {
		return nil
	}
	list, err := w.r.ListTwins(&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Ids: twins}, PageSize: uint32(len(twins)), State: req.State}, nil)
	if err != nil {
		return err
	}
	res.Twins = list.Twins
	return nil
}

// types are those of the relations from a thing, or to it.
func (w *walk) types(x end, to bool) (all []string, err error) {
	table := tableRelations
	if to {
		table = tableRelated
	}
	for after := ""; ; {
		var kind string
		for rec, err := range w.r.store.Scan(table, x.from(""), after) {
			if err != nil {
				return nil, err
			}
			_, kind, _, err = splitRelation(rec.Key)
			if err != nil {
				return nil, err
			}
			break
		}
		if kind == "" {
			return all, nil
		}
		all = append(all, kind)
		after = x.from(kind) + "\xff" // behind all of that type
	}
}

// scanAll reads a project's records of a table.
func scanAll[M revised](r *Registry, table storage.Table, project string, make func() M, fn func(M)) error {
	for rec, err := range r.store.Scan(table, project+"/", "") {
		if err != nil {
			return fmt.Errorf("read %s: %w", table, err)
		}
		m, err := decode(rec, make())
		if err != nil {
			return err
		}
		fn(m)
	}
	return nil
}
