package actors

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/storage"
)

// Tables of this package. Values of the first group are protobuf messages of the API.
const (
	tableTwins   storage.Table = "twin"   // id → pb.Twin
	tableDrivers storage.Table = "driver" // name/version → pb.Driver
	tableZones   storage.Table = "zone"   // id → pb.Zone
	tableSystems storage.Table = "system" // id → pb.System
	tableInbox   storage.Table = "inbox"  // project/network/key/value → pb.InboxEntry

	tableAliases storage.Table = "alias" // project/network/key/value → twin's id
	// tableUses: "kind what user" (separated by zero bytes) says that user needs what. "join what" is written whenever a
	// gateway gets a new user.
	tableUses storage.Table = "use"
	// tableHolds: "kind what" exists while somebody finds out whether what may be deleted; no new use may begin.
	tableHolds storage.Table = "hold"
	// tableStart: slot, id of each twin that is activated when its slot is gained.
	tableStart storage.Table = "start"
	// tableGone: slot, id of each deleted twin whose state its owner has not removed yet.
	tableGone storage.Table = "gone"
	// tableTopics: filter, zero, id for each MQTT filter that a twin is bound to.
	tableTopics storage.Table = "topic"
	// tableShapes: which places of a filter are wildcards, for each form that was ever used.
	tableShapes storage.Table = "shape"

	tableStates storage.Table = "state" // id → state.Record
	tableModels storage.Table = "model" // id → the twin's model patch
	// tableWakes: slot, due time, id for each twin with a timer: at most one per twin.
	tableWakes storage.Table = "wake"
	// tableFollows: system, name, property, subscriber (separated by zero bytes) of each subscription to a property.
	tableFollows storage.Table = "follow"
	// tableRefusals: project, slash, time and a random number → pb.Refusal.
	tableRefusals storage.Table = "refusal"
	// tableIngest: project, door, and who wrote it (a node, or ~ and the name of a deleted twin), separated by slashes →
	// pb.IngestCount.
	tableIngest storage.Table = "ingest"
	// tableProjects: name → pb.ProjectSettings.
	tableProjects storage.Table = "project"
	// tableQuarantine: driver, zero, version, zero, id of each twin in quarantine.
	tableQuarantine storage.Table = "quarantine"
)

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// CanonicalID completes a bare name by the project `default` and checks the form.
func CanonicalID(id string) (string, error) {
	if !strings.Contains(id, "/") {
		id = "default/" + id
	}
	if !isID(id) {
		return "", invalid("/id", "%q is not `project/name` of a-z, 0-9, '.', '_', '-'", id)
	}
	return id, nil
}

// isID says whether id is `project/name`.
func isID(id string) bool {
	project, name, ok := strings.Cut(id, "/")
	return ok && isName(project, 64, false) && isName(name, 128, true)
}

// ProjectOf gives the project of an id.
func ProjectOf(id string) string {
	project, _, _ := strings.Cut(id, "/")
	return project
}

// NameOf gives the part of a canonical id after its project.
func NameOf(id string) string {
	_, name, _ := strings.Cut(id, "/")
	return name
}

func slotKey(s cluster.Slot) string              { return fmt.Sprintf("%04x/", uint16(s)) }
func slotIDKey(s cluster.Slot, id string) string { return slotKey(s) + id }
func wakeKey(s cluster.Slot, id string, due int64) string {
	return fmt.Sprintf("%04x/%013x/%s", uint16(s), due, id)
}
func useKey(kind, what, user string) string { return kind + "\x00" + what + "\x00" + user }
func usePrefix(kind, what string) string    { return kind + "\x00" + what + "\x00" }
func joinKey(what string) string            { return "join\x00" + what }
func holdKey(kind, what string) string      { return kind + "\x00" + what }
func topicKey(filter, id string) string     { return filter + "\x00" + id }
func driverKey(name, version string) string { return name + "/" + version }
func aliasKey(project, n, k, v string) string {
	return project + "/" + escape(n) + "/" + escape(k) + "/" + escape(v)
}

// They are made once: to make one takes some microseconds and 6 KB, and keys of aliases are made for each message.
var (
	keyEscapes   = strings.NewReplacer("%", "%25", "/", "%2F", "\x00", "%00")
	keyUnescapes = strings.NewReplacer("%2F", "/", "%00", "\x00", "%25", "%")
)

// escape keeps the parts of a key apart.
func escape(s string) string {
	if !strings.ContainsAny(s, "%/\x00") {
		return s
	}
	return keyEscapes.Replace(s)
}

// parseWake takes a key of the wake table apart.
func parseWake(key string) (due int64, id string, ok bool) {
	if len(key) < 20 || key[4] != '/' || key[18] != '/' {
		return 0, "", false
	}
	due, err := strconv.ParseInt(key[5:18], 16, 64)
	return due, key[19:], err == nil
}

// parseSlotID gives the id of a key of the start and gone tables.
func parseSlotID(key string) string { return key[len("0000/"):] }
