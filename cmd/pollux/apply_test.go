package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers/drivertest"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const building = `# a house of two rooms
zone: {id: house, kind: building, title: House}
---
twin:
  id: hall-lamp
  driver: echo
  zone: hall
  labels: {room: "1"}
  settings: {greeting: hello, topic: hall-lamp}
---
zone:
  id: hall
  parent: house
---
twin: {id: meter, model: meter}
---
model:
  id: meter
  thing:
    "@context": https://www.w3.org/2022/wot/td/v1.1
    "@type": tm:ThingModel
    title: Meter
    properties:
      power: {type: number, unit: W}
---
channel: {topic: changes, name: archive, settings: {max_attempts: 3}}
---
route: {id: all, topics: [changes]}
---
topic: {id: changes, max_age: 3600s}
---
project:
  unknown_senders: UNKNOWN_SENDERS_PROVISION
  rules:
    - {network: bus, model: meter, zone: hall}
---
system:
  id: lights
  members:
    - {name: Lights_1, twin: hall-lamp}
`

// TestApplySession is configuration as code: each command line, its exit code and what it prints.
func TestApplySession(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	wasm := file("echo.wasm", string(drivertest.Echo(t)))
	folder := filepath.Dir(file("code/house.yaml", building))
	changed := file("changed.yaml", strings.NewReplacer("title: House", "title: Villa", "greeting: hello, ", "").Replace(building))
	bad := file("bad.yaml", "twin:\n  id: x\n  driver: echo\n  colour: red\n")
	worse := file("worse.yaml", "twins:\n  id: x\n")
	broken := file("broken.yaml", "twin: {id: y, driver: echo}\n---\ntwin: {id: x, driver: nope}\n")
	twice := file("twice.yaml", "twin: {id: y, driver: echo}\n---\ntwin: {id: y, driver: echo}\n")
	shown := file("shown.yaml", "rule:\n  id: shown\n  when: [{topic: {topic: changes}}]\n  then: [{stop: true}]\n  revision: \"7\"\n  updateBy: kim\nstate:\n  firings: \"3\"\n")
	beside := file("beside.yaml", "rule: {id: x, when: [{topic: {topic: changes}}], then: [{stop: true}]}\nstat: {}\n")
	var lamps strings.Builder
	lamps.WriteString("id,driver,labels.floor,settings.topic,aliases\n")
	for i := range 450 {
		driver := "echo"
		if i%100 == 7 {
			driver = "nope"
		}
		fmt.Fprintf(&lamps, "lamp-%03d,%s,%d,lamp-%d,bus:addr:%d\n", i, driver, i/100, i, i)
	}
	lamps.WriteString("lamp-001,echo,9,lamp-1,\nlamp-450,echo,9,lamp-1,bus:addr:2\n,echo,,,\nshort,echo\nlamp-x,echo,,,bus\n")
	many := file("lamps.csv", lamps.String())
	noID := file("noid.csv", "name,driver\nx,echo\n")
	column := file("column.csv", "id,colour\nx,red\n")
	nothing, named := file("nothing.csv", ""), file("named.csv", "id,driver,driver\nx,echo,echo\n")
	semicolons, latin := file("semicolons.csv", "id;driver\nx;echo\n"), file("latin.csv", "id,driver,labels.name\nlamp-1,echo,B\xfcro\nb\xfcro,echo,\nlamp-2,echo,Büro\n")
	items := file("items.yaml", "- {id: lamp-y1, driver: echo, labels: {floor: 3}, settings: {topic: y1, greeting: \"12\"}, aliases: ['bus:addr:9001', 'bus:addr:9002']}\n"+
		"- {id: lamp-y2, driver: echo, colour: red}\n- lamp\n- {driver: echo}\n- id: lamp-y3\n  driver: [echo]\n- {id: lamp-y4, driver: nope}\n---\n- {id: lamp-y1, driver: echo}\n")
	mapping, damaged := file("mapping.yaml", "twin: {id: x}\n"), file("damaged.yaml", "- {id: x\n")
	others := file("aliases.csv", "network,key,value,twin\nbus,addr,9003,lamp-000\nbus,addr,9001,lamp-000\nbus,addr,0,lamp-000\nbus,addr,9004,nobody\nbus,addr,,lamp-000\nbus,addr,9005,conf/meter\nbus,addr,9003,lamp-001\n")
	var log bytes.Buffer
	for _, line := range [][]string{
		{"driver", "push", wasm},
		{"apply", "--project", "conf", "-f", folder, "--dry-run"},
		{"apply", "--project", "conf", "-f", folder},
		{"apply", "--project", "conf", "-f", folder},
		{"apply", "--project", "conf", "-f", changed, "--dry-run"},
		{"apply", "--project", "conf", "-f", changed, "-o", "json"},
		{"apply", "--project", "conf", "-f", shown, "--dry-run"},
		{"apply", "--project", "conf", "-f", beside},
		{"apply", "--project", "conf", "-f", bad},
		{"apply", "--project", "conf", "-f", worse},
		{"apply", "--project", "conf", "-f", broken},
		{"apply", "--project", "conf", "-f", twice},
		{"apply", "--project", "conf", "-f", filepath.Join(dir, "missing.yaml")},
		{"apply"},
		{"export", "conf"},
		{"export", "conf", "-o", "json"},
		{"export", "empty"},
		{"import", "twins", many, "--project", "lamps"},
		{"import", "twins", many, "--project", "lamps", "-o", "json"},
		{"import", "twins", noID},
		{"import", "twins", column},
		{"import", "rooms", many},
		{"import", "twins", nothing},
		{"import", "twins", named},
		{"import", "twins", semicolons},
		{"import", "twins", latin, "--project", "lamps", "--dry-run"},
		{"import", "twins", items, "--project", "lamps"},
		{"twin", "get", "lamps/lamp-y1"},
		{"import", "zones", mapping},
		{"import", "zones", damaged},
		{"import", "aliases", others, "--project", "lamps", "--dry-run"},
		{"import", "aliases", others, "--project", "lamps", "-o", "json"},
		{"alias", "list", "--project", "lamps", "--text", "lamp-000"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		r := cli(ctx, env, line...)
		cancel()
		out := r.out
		if lines := strings.SplitAfter(out, "\n"); len(lines) > 90 { // of many lines the last
			out = fmt.Sprintf("(%d lines)\n%s", len(lines)-1, strings.Join(lines[len(lines)-6:], ""))
		}
		said := progressLine.ReplaceAllString(r.err, "") // an import that takes long tells how far it is
		text := fmt.Sprintf("$ pollux %s\n%s%s[%d]\n\n", strings.Join(line, " "), out, said, r.code)
		text = strings.ReplaceAll(text, strings.Join(kindNames(), ", "), "KINDS")
		log.WriteString(still(strings.ReplaceAll(text, dir+"/", "")))
	}
	golden(t, "apply", log.Bytes())
	// The other tests of the package find the node as it was.
	r := cli(t.Context(), env, "system", "rm", "conf/lights")
	for i := range 450 {
		if i%100 != 7 {
			r = cli(t.Context(), env, "twin", "rm", fmt.Sprintf("lamps/lamp-%03d", i))
		}
		if r.code != 0 {
			t.Fatal(r.err)
		}
	}
	for _, rm := range [][]string{{"twin", "rm", "lamps/lamp-y1"}, {"topic", "route", "rm", "conf/all"}, {"topic", "rm", "conf/changes"}, {"twin", "rm", "conf/hall-lamp"}, {"twin", "rm", "conf/meter"}, {"model", "rm", "conf/meter"}, {"zone", "rm", "conf/hall"}, {"zone", "rm", "conf/house"}, {"driver", "rm", "echo@1.0.0"}} {
		if r := cli(t.Context(), env, rm...); r.code != 0 {
			t.Errorf("%v: %s", rm, r.err)
		}
	}
}

// TestThingAsWritten: a Thing Model in YAML is the JSON that it was exported from, in its order and with its numbers.
func TestThingAsWritten(t *testing.T) {
	const thing = `{"title":"M","@type":"tm:ThingModel","@context":["https://www.w3.org/2022/wot/td/v1.1",{"z":"a: b","a":null}],` +
		`"properties":{"z":{"type":"number","minimum":1.50,"maximum":1e3,"default":-0},"a":{"type":"string","enum":["no","1.0","2026-01-01","<<"]}},"x:big":12345678901234567890}`
	var b bytes.Buffer
	if err := (&app{out: &b}).exportRecord(&pb.ConfigRecord{Record: &pb.ConfigRecord_Model{Model: &pb.Model{Id: "p/m", ThingJson: thing}}}); err != nil {
		t.Fatal(err)
	}
	lines, err := parseConfig(&b, "m.yaml", "p")
	if err != nil || len(lines) != 1 {
		t.Fatal(lines, err)
	}
	if got := lines[0].rec.GetModel().ThingJson; got != thing {
		t.Errorf("got  %s\nwant %s", got, thing)
	}
}

var progressLine = regexp.MustCompile(`(?m)^\d+ lines\n`)
