package actors_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// strangers gives the ids in the inbox, those that are ignored, too.
func (n *node) strangers() (all []string) {
	n.t.Helper()
	l, err := n.reg.ListInbox(&pb.ListInboxRequest{Ignored: true}, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, x := range l.Entries {
		all = append(all, x.Id)
	}
	return all
}

// Who gets a twin is no stranger any more, whichever way it gets it.
func TestAnAliasTakesItsSenderOutOfTheInbox(t *testing.T) {
	n := newNode(t)
	n.model("plain", thing("Plain", `"level":{"type":"number"}`))
	n.twin(`{"id":"a","model":"plain"}`)
	for _, way := range []func(value string) error{
		func(value string) error {
			_, err := n.reg.CreateAlias(ctx(t), "default", &pb.NamedAlias{Alias: sender(value), Twin: "a"})
			return err
		},
		func(value string) error {
			tw, err := n.reg.GetTwin("a")
			if err != nil {
				return err
			}
			tw.Aliases = append(tw.Aliases, sender(value))
			_, err = n.reg.UpdateTwin(ctx(t), tw)
			return err
		},
		func(value string) error {
			_, err := n.reg.CreateTwin(ctx(t), &pb.Twin{Id: "of-" + value, Model: "plain", Aliases: []*pb.Alias{sender(value)}})
			return err
		},
	} {
		if r := n.ingest(&actors.Ingest{Alias: sender("7"), Payload: []byte(`{"level":1}`)}); r.Outcome != inbox {
			t.Fatalf("from a stranger: %v", r)
		}
		if err := way("7"); err != nil {
			t.Fatal(err)
		}
		if all := n.strangers(); len(all) != 0 {
			t.Errorf("in the inbox: %v", all)
		}
		if err := n.reg.DeleteAlias(ctx(t), "default", sender("7")); err != nil {
			t.Fatal(err)
		}
	}
}

// A scan that finds a device which has sent messages takes nothing of them out of the inbox, nor somebody's word that it is not to be seen.
func TestAScanKeepsWhatTheInboxKnows(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", mqttTransport)
	send := func(id string) actors.IngestResult {
		return n.ingest(&actors.Ingest{Alias: sender("7"), Payload: []byte(`{"level":1}`), ID: id})
	}
	entry := func() *pb.InboxEntry {
		l, err := n.reg.ListInbox(&pb.ListInboxRequest{Ignored: true}, nil)
		if err != nil || len(l.Entries) != 1 {
			t.Fatalf("%v, %v", l, err)
		}
		return l.Entries[0]
	}
	send("m1")
	if _, err := n.reg.IgnoreInbox(ctx(t), "default/lora/eui/7", false); err != nil {
		t.Fatal(err)
	}
	was := entry()
	if note := n.reg.Found(ctx(t), "default", "bus", drivers.Discovery{Network: "lora", Key: "eui", Value: "7", Name: "Seven"}); note != "" {
		t.Fatal(note)
	}
	if is := entry(); is.Count != 1 || len(is.Samples) != 1 || !is.Ignored || is.Name != "Seven" || is.Driver != "bus" || !is.Time.AsTime().Equal(was.Time.AsTime()) {
		t.Errorf("%v is now %v", was, is)
	}
	if r := send("m1"); r.Outcome != duplicate {
		t.Errorf("the same message again: %v", r)
	}
	// Messages come while scans find their sender: all are counted.
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 50 {
			if note := n.reg.Found(ctx(t), "default", "bus", drivers.Discovery{Network: "lora", Key: "eui", Value: "7"}); note != "" && !strings.Contains(note, "changed meanwhile") {
				t.Error(note) // else it gave way to messages, and says so
			}
		}
	}()
	told := uint64(1)
	for range 50 {
		if r := send(""); r.Outcome == inbox {
			told++
		} else if r.Err == nil { // else its sender is told to try again
			t.Error(r)
		}
	}
	<-done
	if is := entry(); is.Count != told {
		t.Errorf("%d messages are counted as %d", told, is.Count)
	}
}

// What makes twins of strangers names a model that there is.
func TestARuleForStrangersNamesAModelThatThereIs(t *testing.T) {
	n := newNode(t)
	n.model("other/plain", thing("Plain", `"level":{"type":"number"}`))
	for _, name := range []string{"plain", "other/plain"} {
		_, err := n.reg.PutProjectSettings(ctx(t), &pb.ProjectSettings{Project: "default", UnknownSenders: pb.UnknownSenders_UNKNOWN_SENDERS_PROVISION,
			Rules: []*pb.ProvisionRule{{Model: name}}})
		var field *actors.InvalidError
		if !errors.As(err, &field) || field.Path != "/settings/rules/0/model" {
			t.Errorf("model %s: %v", name, err)
		}
	}
}
