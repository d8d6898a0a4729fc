package main

import (
	"testing"

	"google.golang.org/protobuf/proto"
)

// Whoever says which revision he has seen changes what he names of it and nothing else, and is refused where it is another one by now.
func TestPutAtARevision(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	says(t, env, "", 0, "apply", "--project", "held", "-f", bulkFile(t, "setup.yaml", heldSetup))
	defer removeHeld(t, env)
	for _, h := range []heldRecord{
		{record: `zone: {id: seen, parent: hq, title: Great hall, kind: room, place: {latitude: 52.5, longitude: 13.4}}`,
			get: []string{"zone", "get", "held/seen"}, change: []string{"zone", "put", "held/seen"}},
		{record: `system: {id: seen, zone: hq, title: Room one, members: [{name: A, twin: m1}, {name: B, twin: m2}]}`,
			get: []string{"system", "get", "held/seen"}, change: []string{"system", "put", "held/seen"}},
		{record: `relation: {from: m1, type: sees, to: m2, title: Loop, attributes: {port: 3, cable: red}}`,
			get: []string{"relation", "get", "held/m1/sees/m2"}, change: []string{"relation", "update", "held/m1/sees/m2"}},
	} {
		full := h.put(t, env)
		h.change = append(h.change, "--revision", h.revision(t, env))
		h.try(t, env, full.ProtoReflect().Descriptor().Fields().ByName("title"), full, []string{"--title", "x"}, true)
		before := h.configured(t, env, full)
		r := cli(t.Context(), env, append(h.change, "--title", "late")...)
		if after := h.configured(t, env, full); r.code != 1 || !proto.Equal(before, after) {
			t.Errorf("%v of a former revision: [%d] %s: %v became %v", h.change, r.code, r.err, before, after)
		}
	}
}
