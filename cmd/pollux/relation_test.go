package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRelationSession is relations and walks on the command line: each line, its exit code and what it prints.
func TestRelationSession(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	file := filepath.Join(t.TempDir(), "cellar.yaml")
	text := `model:
  id: part
  thing: {"@context": "https://www.w3.org/2022/wot/td/v1.1", "@type": "tm:ThingModel", title: Part, properties: {on: {type: boolean}}}
---
zone: {id: plant}
---
twin: {id: pump, model: part, zone: plant}
---
twin: {id: boiler, model: part, zone: plant}
---
relation: {from: boiler, type: heats, to: "zone:plant"}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	for _, line := range [][]string{
		{"apply", "--project", "rel", "-f", file},
		{"relation", "create", "rel/pump", "feeds", "boiler", "--title", "Main loop", "--attribute", "metres=12"},
		{"relation", "create", "rel/pump", "feeds", "boiler"},
		{"relation", "create", "rel/pump", "feeds", "nobody"},
		{"relation", "create", "rel/pump", "feeds"},
		{"relation", "get", "rel/pump/feeds/boiler", "-o", "json"},
		{"relation", "update", "rel/pump/feeds/boiler", "--title", "Loop"},
		{"relation", "list", "--project", "rel"},
		{"relation", "list", "--of", "rel/boiler", "--type", "feeds", "-o", "json"},
		{"walk", "rel/plant"},
		{"walk", "rel/plant/pump"},
		{"walk", "rel/plant/pump/@feeds/boiler/@heats"},
		{"walk", "rel/plant/cellar"},
		{"export", "rel"},
		{"twin", "rm", "rel/boiler"},
		{"relation", "list", "--project", "rel"},
		{"relation", "rm", "rel/pump/feeds/boiler"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		r := cli(ctx, env, line...)
		cancel()
		log.WriteString(still(strings.ReplaceAll(fmt.Sprintf("$ pollux %s\n%s%s[%d]\n\n", strings.Join(line, " "), r.out, r.err, r.code),
			filepath.Dir(file)+"/", "")))
	}
	golden(t, "relation", log.Bytes())
	for _, rm := range [][]string{{"twin", "rm", "rel/pump"}, {"zone", "rm", "rel/plant"}, {"model", "rm", "rel/part"}} {
		if r := cli(t.Context(), env, rm...); r.code != 0 {
			t.Errorf("%v: %s", rm, r.err)
		}
	}
}
