package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const roomThing = `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Room","description":"A room with sensors",
	"properties":{"temperature":{"type":"number","unit":"Cel","readOnly":true,"pollux:unit":"[degF]"},"scene":{"type":"string","enum":["day","night"],"pollux:virtual":true}},
	"actions":{"clean":{"title":"Clean it"}}}`

func TestModelTables(t *testing.T) {
	m := &pb.Model{Id: "default/room", Title: "Room", Description: "A room\x1b[31m with sensors", ThingJson: roomThing, Revision: 42, Twins: 3}
	golden(t, "model_list", table(func(w io.Writer) { listModels(w, []*pb.Model{m, {Id: "hotel/damaged", ThingJson: "{"}}) }))
	out := table(func(w io.Writer) { describeModel(w, m) })
	golden(t, "model_get", out)
	if bytes.ContainsRune(out, 0x1b) {
		t.Error("an escape sequence of a model reaches the terminal")
	}
}

func TestModelCommands(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	file := filepath.Join(t.TempDir(), "room.json")
	if err := os.WriteFile(file, []byte(roomThing), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code      int
		out, errs string
		args      []string
	}{
		{2, "", "--file is missing", []string{"model", "create", "cliroom"}},
		{1, "", "no such file", []string{"model", "create", "cliroom", "--file", file + "x"}},
		{0, "model default/cliroom created", "", []string{"model", "create", "cliroom", "--file", file}},
		{0, "cliroom", "", []string{"model", "list"}},
		{0, `"pollux:virtual":true`, "", []string{"model", "get", "cliroom", "--thing"}},
		{0, "A room with sensors", "", []string{"model", "get", "cliroom"}},
		{0, "updated", "", []string{"model", "update", "cliroom", "--file", file}},
		{1, "", "changed it", []string{"model", "update", "cliroom", "--file", file, "--revision", "1"}},
		{2, "", "--driver or --model is missing", []string{"twin", "create", "clitwin"}},
		{1, "", "there is no model", []string{"twin", "create", "clitwin", "--model", "none"}},
		{0, "twin default/clitwin created", "", []string{"twin", "create", "clitwin", "--model", "cliroom"}},
		{0, "confirmed", "", []string{"twin", "set", "clitwin", "scene", "night"}},
		{0, "model cliroom", "", []string{"twin", "list"}},
		{0, "night", "", []string{"twin", "get", "clitwin"}},
		{1, "", "no driver that could run clean", []string{"twin", "call", "clitwin", "clean"}},
		{1, "", "default/clitwin", []string{"model", "rm", "cliroom"}},
		{0, "removed", "", []string{"twin", "rm", "clitwin"}},
		{0, "removed", "", []string{"model", "rm", "cliroom"}},
	} {
		r := cli(context.Background(), env, c.args...)
		if r.code != c.code || !strings.Contains(r.out, c.out) || !strings.Contains(r.err, c.errs) {
			t.Errorf("%v: exit code %d\n%s%s", c.args, r.code, r.out, r.err)
		}
	}
}

func TestSystemCommands(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	file := filepath.Join(t.TempDir(), "room.json")
	if err := os.WriteFile(file, []byte(roomThing), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code      int
		out, errs string
		args      []string
	}{
		{0, "created", "", []string{"model", "create", "sysroom", "--file", file}},
		{0, "created", "", []string{"twin", "create", "sys1", "--model", "sysroom"}},
		{0, "is there", "", []string{"zone", "put", "syszone", "--kind", "room"}},
		{0, "Kind      room", "", []string{"zone", "get", "syszone"}},
		{1, "", "zone", []string{"zone", "get", "nozone"}},
		{0, "is there", "", []string{"system", "put", "sys", "--zone", "syszone", "--member", "Room_1=sys1"}},
		{0, "Room_1  sys1", "", []string{"system", "get", "sys"}},
		{1, "rejected", "1 of 1 members", []string{"system", "call", "sys", "clean", "--member", "Room"}},
		{1, "", "has no member", []string{"system", "call", "sys", "clean", "--member", "Display"}},
		{0, "done", "", []string{"system", "stop", "sys"}},
		{0, "as it was", "", []string{"system", "stop", "sys"}},
		{0, "stopped", "", []string{"twin", "get", "sys1"}},
		{0, "done", "", []string{"system", "start", "sys"}},
		{0, "removed", "", []string{"system", "rm", "sys"}},
		{0, "removed", "", []string{"twin", "rm", "sys1"}},
		{0, "removed", "", []string{"zone", "rm", "syszone"}},
		{0, "removed", "", []string{"model", "rm", "sysroom"}},
	} {
		r := cli(context.Background(), env, c.args...)
		if r.code != c.code || !strings.Contains(r.out, c.out) || !strings.Contains(r.err, c.errs) {
			t.Errorf("%v: exit code %d\n%s%s", c.args, r.code, r.out, r.err)
		}
	}
}
