package actors

import (
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// Relations are typed links between twins, zones and systems of one project. A relation is its ends and its type: these are its id,
// and so its place in the table, where what leads from a thing stands together. An index has what leads to it.
const (
	// tableRelations: project/FROM/TYPE/TO → pb.Relation, ends by name, as NAME, zone:NAME or system:NAME.
	tableRelations storage.Table = "relation"
	// tableRelated: project/TO/TYPE/FROM, the other way round.
	tableRelated storage.Table = "related"
)

const (
	// maxRelations is how many a thing may have in one direction.
	maxRelations = 10_000
	// maxAttributes of a relation, in bytes of JSON.
	maxAttributes = 4 << 10
	// unrelateBatch is how many are deleted in one transaction together with their end; more are deleted before it.
	unrelateBatch = 200
)

var relationType = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,63}$`)

// end is one end of a relation.
type end struct {
	kind string // twin, zone or system
	id   string
}

// tables of the things that relations are between.
var endTables = map[string]storage.Table{"twin": tableTwins, "zone": tableZones, "system": tableSystems}

// parseEnd reads an end: ID, zone:ID or system:ID. A bare name is one of the project.
func parseEnd(project, text string) (end, error) {
	kind, id, ok := strings.Cut(text, ":")
	if !ok {
		kind, id = "twin", text
	}
	if _, known := endTables[kind]; !known {
		return end{}, fmt.Errorf("%q: want a twin's id, zone:ID or system:ID", text)
	}
	id = within(project, id)
	if !isID(id) {
		return end{}, fmt.Errorf("%q is no id", text)
	}
	return end{kind, id}, nil
}

// String is how callers see the end.
func (x end) String() string { return x.prefix() + x.id }

// key is the end's part of a relation's key.
func (x end) key() string { return x.prefix() + NameOf(x.id) }

func (x end) prefix() string {
	if x.kind == "twin" {
		return ""
	}
	return x.kind + ":"
}

// from begins the keys of what leads from the end, or in the index of what leads to it; of one type, or of all.
func (x end) from(kind string) string {
	p := ProjectOf(x.id) + "/" + x.key() + "/"
	if kind != "" {
		p += kind + "/"
	}
	return p
}

// mark is written by each new relation of the end, and guarded by who deletes it.
func (x end) mark() string { return joinKey(x.String()) }

// RelationID completes the id of a relation: FROM/TYPE/TO of the project `default`, or PROJECT/FROM/TYPE/TO.
func RelationID(id string) (string, error) {
	if strings.Count(id, "/") == 2 {
		id = "default/" + id
	}
	if _, _, _, err := splitRelation(id); err != nil {
		return "", err
	}
	return id, nil
}

// splitRelation takes a relation's key apart.
func splitRelation(id string) (from end, kind string, to end, err error) {
	p := strings.Split(id, "/")
	if len(p) != 4 || !namePattern.MatchString(p[0]) || !relationType.MatchString(p[2]) {
		return end{}, "", end{}, invalid("/id", "%.200q is no relation's id: want FROM/TYPE/TO, or PROJECT/FROM/TYPE/TO", id)
	}
	if from, err = parseEnd(p[0], p[1]); err == nil {
		to, err = parseEnd(p[0], p[3])
	}
	if err != nil {
		return end{}, "", end{}, invalid("/id", "%v", err)
	}
	return from, p[2], to, nil
}

// CompleteRelation completes and checks a relation: its id by its ends, or they by it. Bare names are of the project `default`.
func CompleteRelation(m *pb.Relation) (*pb.Relation, error) { return wholeRelation("default", m) }

// wholeRelation completes and checks a relation. Its id is made of its ends, or they of it.
func wholeRelation(project string, m *pb.Relation) (*pb.Relation, error) {
	m = proto.Clone(m).(*pb.Relation)
	var err error
	if m.Id == "" || m.From != "" || m.To != "" || m.Type != "" {
		from, err := parseEnd(project, m.From)
		if err != nil {
			return nil, invalid("/relation/from", "%v", err)
		}
		to, err := parseEnd(ProjectOf(from.id), m.To)
		if err != nil {
			return nil, invalid("/relation/to", "%v", err)
		}
		if !relationType.MatchString(m.Type) {
			return nil, invalid("/relation/type", "%q is no type: want a letter, then letters, digits, '_' and '-'", m.Type)
		}
		if ProjectOf(to.id) != ProjectOf(from.id) {
			return nil, invalid("/relation/to", "%s is in another project than %s", to, from)
		}
		id := from.from(m.Type) + to.key()
		if m.Id != "" && m.Id != id {
			return nil, invalid("/relation/id", "%s is another one than %s: ends and type of a relation do not change", m.Id, id)
		}
		m.Id = id
	} else if m.Id, err = RelationID(m.Id); err != nil {
		return nil, err
	}
	from, kind, to, err := splitRelation(m.Id)
	if err != nil {
		return nil, err
	}
	m.From, m.Type, m.To = from.String(), kind, to.String()
	if from == to {
		return nil, invalid("/relation/to", "a relation is between two things, and not of %s to itself", from)
	}
	if m.Attributes != nil {
		text, err := protojson.Marshal(m.Attributes)
		if err != nil || len(text) > maxAttributes {
			return nil, invalid("/relation/attributes", "%d bytes of JSON, %d are allowed", len(text), maxAttributes)
		}
	}
	return m, nil
}
