package actors_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// oneKind is a kind of things that can be deleted and made again.
type oneKind struct {
	kind string
	// make makes one, use leaves what can be seen of it, and gone deletes it.
	make, use, gone func(id string) error
	// seen is what can be seen of one, in words.
	seen func(id string) (string, error)
}

// TestMadeAnew: what is deleted and made again at once is as one of another id that never was.
func TestMadeAnew(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.sensors("a")
	for _, k := range slices.Concat(n.livesOfTwins(), n.livesOfPlaces(), n.livesOfMessages()) {
		t.Run(k.kind, func(t *testing.T) {
			do := func(f func(string) error, id string) {
				t.Helper()
				if err := f(id); err != nil {
					t.Fatalf("%s %s: %v", k.kind, id, err)
				}
			}
			look := func(id string) string {
				t.Helper()
				text, err := k.seen(id)
				if err != nil {
					t.Fatalf("%s %s: %v", k.kind, id, err)
				}
				return strings.ReplaceAll(text, id, "ID")
			}
			do(k.make, "fresh")
			want := look("fresh")
			do(k.make, "again")
			do(k.use, "again")
			if used := look("again"); used == want {
				t.Fatalf("nothing is seen of its use: %s", used)
			}
			do(k.gone, "again")
			do(k.make, "again")
			if got := look("again"); got != want {
				t.Errorf("made anew:\n%s\nfresh:\n%s", got, want)
			}
		})
	}
}

// livesOfTwins are a twin, and what is about it.
func (n *node) livesOfTwins() []oneKind {
	ctx := ctx(n.t)
	twin := func(id string) (string, error) {
		s, err := n.client.State(ctx, id, false)
		if err != nil {
			return "", err
		}
		var own, relations []string
		for name, p := range s.Properties {
			own = append(own, name+"="+text(p.Value))
		}
		slices.Sort(own)
		list, err := n.reg.ListRelations(&pb.ListRelationsRequest{Of: id}, nil)
		if err != nil {
			return "", err
		}
		for _, m := range list.Relations {
			relations = append(relations, m.Id)
		}
		set, err := n.reg.GetSettings(ofTwin(id), 0)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%v, desired %d, commands %d, subscriptions %d, relations %v, settings %v of version %d", own, len(s.Desired), len(s.Commands),
			len(s.Subscriptions), relations, set.Settings.GetValues(), set.Settings.GetVersion()), nil
	}
	remove := func(id string) error { return n.reg.DeleteTwin(ctx, id, 0) }
	relate := func(id string) error {
		_, err := n.reg.CreateRelation(ctx, &pb.Relation{From: id, Type: "near", To: "a"}, "ann")
		return err
	}
	return []oneKind{
		{"twin of a model", func(id string) error {
			_, err := n.reg.CreateTwin(ctx, &pb.Twin{Id: id, Model: "sensor"})
			return err
		}, func(id string) error {
			n.absorb(id, `{"level":1}`, 0)
			return relate(id)
		}, remove, twin},
		{"twin of a driver", func(id string) error {
			_, err := n.reg.CreateTwin(ctx, &pb.Twin{Id: "driven-" + id, Driver: "probe"})
			if err == nil {
				n.wait("driven-"+id, "reason", `"start"`)
			}
			return err
		}, func(id string) error {
			id = "driven-" + id
			n.must(id, "count", "")
			n.must(id, "follow", `{"twin":"a","property":"level"}`)
			n.sets(ofTwin(id), `{"topic":"mine"}`)
			return relate(id)
		}, func(id string) error { return remove("driven-" + id) }, func(id string) (string, error) { return twin("driven-" + id) }},
		{"alarm", func(id string) error {
			_, err := n.reg.RaiseAlarm(ctx, &pb.RaiseAlarmRequest{Id: id, Text: "x", Twin: "a"}, "ann")
			return err
		}, func(id string) error {
			_, err := n.reg.ChangeAlarm(ctx, &pb.ChangeAlarmRequest{Id: id, Change: &pb.ChangeAlarmRequest_Assign{Assign: "kim"}}, "ann")
			return err
		}, func(id string) error { return n.reg.DeleteAlarm(ctx, id) }, func(id string) (string, error) {
			m, err := n.reg.Alarm(id)
			return fmt.Sprintf("told %d, raised %d, changes %d, of %q", m.GetTold(), m.GetRaised(), len(m.GetChanges()), m.GetAssignedTo()), err
		}},
	}
}

// livesOfPlaces are what twins have settings from.
func (n *node) livesOfPlaces() []oneKind {
	ctx := ctx(n.t)
	of := func(scope func(string) *pb.SettingsScope) func(string) (string, error) {
		return func(id string) (string, error) {
			set, err := n.reg.GetSettings(scope(id), 0)
			if err != nil {
				return "", err
			}
			list, err := n.reg.ListRelations(&pb.ListRelationsRequest{Project: "default", Type: "beside"}, nil)
			return fmt.Sprintf("%v of version %d, %d relations", set.Settings.GetValues(), set.Settings.GetVersion(), len(list.GetRelations())), err
		}
	}
	use := func(kind string, scope func(string) *pb.SettingsScope) func(string) error {
		return func(id string) error {
			n.sets(scope(id), `{"topic":"its"}`)
			_, err := n.reg.CreateRelation(ctx, &pb.Relation{From: kind + ":" + id, Type: "beside", To: "a"}, "ann")
			return err
		}
	}
	return []oneKind{
		{"zone", func(id string) error {
			_, err := n.reg.PutZone(ctx, &pb.Zone{Id: id})
			return err
		}, use("zone", ofZone), func(id string) error { return n.reg.DeleteZone(ctx, id) }, of(ofZone)},
		{"system", func(id string) error {
			_, err := n.reg.PutSystem(ctx, &pb.System{Id: id, Members: []*pb.System_Member{{Name: "A_1", Twin: "a"}}})
			return err
		}, use("system", ofSystem), func(id string) error { return n.reg.DeleteSystem(ctx, id) }, of(ofSystem)},
		{"driver", func(id string) error {
			n.driver(id, "1.0.0", "")
			n.stage(id, "1.1.0", "", titled("new"))
			return nil
		}, func(id string) error {
			n.twin(fmt.Sprintf(`{"id":"of-%s","driver":%q}`, id, id))
			n.rollout(&pb.StartRolloutRequest{Driver: id, Version: "1.1.0", Steps: []uint32{100}})
			_, _ = n.invoke("of-"+id, "fail", `{"text":"no"}`)
			until(n.t, "what it does in the rollout is counted", func() bool { return n.records("tally", id+"/") > 0 })
			n.sets(ofDriver(id), `{"topic":"its"}`)
			n.deleteTwin("default/of-" + id)
			return nil
		}, func(id string) error {
			if err := n.reg.DeleteDriver(ctx, id, ""); err != nil {
				return err
			}
			if left := n.records("tally", id+"/"); left > 0 {
				return fmt.Errorf("%d counts of its rollouts are left", left)
			}
			return nil
		}, func(id string) (string, error) {
			s, err := of(ofDriver)(id)
			all, fails := n.reg.ListRollouts(id)
			return fmt.Sprintf("%s, %d rollouts", s, len(all)), errors.Join(err, fails)
		}},
		{"last version of a driver", func(id string) error {
			n.driver("one-"+id, "1.0.0", "")
			return nil
		}, func(id string) error {
			n.sets(ofDriver("one-"+id), `{"topic":"its"}`)
			return nil
		}, func(id string) error { return n.reg.DeleteDriver(ctx, "one-"+id, "1.0.0") }, func(id string) (string, error) { return of(ofDriver)("one-" + id) }},
	}
}

// livesOfMessages are what messages go through.
func (n *node) livesOfMessages() []oneKind {
	ctx := ctx(n.t)
	inbox := func(id string) *pb.Alias { return &pb.Alias{Network: "lora", Key: "eui", Value: id} }
	return []oneKind{
		{"route", func(id string) error {
			if _, err := n.reg.PutTopic(ctx, &pb.Topic{Id: "of-" + id}); err != nil && !errors.Is(err, actors.ErrExists) {
				return err
			}
			_, err := n.reg.PutRoute(ctx, &pb.Route{Id: id, Topics: []string{"of-" + id}})
			return err
		}, func(string) error {
			n.absorb("a", fmt.Sprintf(`{"level":%d}`, time.Now().UnixNano()), 0)
			return nil
		}, func(id string) error { return n.reg.DeleteRoute(ctx, id) }, func(id string) (string, error) {
			list, err := n.reg.ListRoutes(ctx, &pb.ListRoutesRequest{Project: "default"}, true, nil)
			if i := slices.IndexFunc(list.GetRoutes(), func(r *pb.Route) bool { return r.Id == "default/"+id }); i >= 0 {
				return list.Routes[i].Counts.String(), err
			}
			return "", err
		}},
		{"topic", func(id string) error {
			_, err := n.reg.PutTopic(ctx, &pb.Topic{Id: id})
			return err
		}, func(id string) error {
			n.say("default/"+id, "k", "1")
			_, err := n.client.Topics().PutChannel(ctx, &pb.PutChannelRequest{Topic: "default/" + id, Name: "c"})
			return err
		}, func(id string) error { return n.reg.DeleteTopic(ctx, id) }, func(id string) (string, error) {
			s, err := n.client.Topics().State(ctx, "default/"+id)
			if err != nil {
				return "", err
			}
			all, err := n.client.Topics().Channels(ctx, "default/"+id)
			return fmt.Sprintf("%d messages of %d bytes, %d channels", s.Messages, s.Bytes, len(all)), err
		}},
		{"simulation", func(id string) error {
			_, err := n.reg.CreateSimulation(ctx, &pb.Simulation{Id: id, Scenario: climb, Model: "sensor", Paused: true})
			return err
		}, func(id string) error {
			n.steer(&pb.SteerSimulationsRequest{Ids: []string{id}, Paused: proto.Bool(false), Speed: proto.Float64(0)})
			until(n.t, "it is over", func() bool { return n.simulation(id).State.Ended })
			return nil
		}, func(id string) error { return n.reg.DeleteSimulation(ctx, id) }, func(id string) (string, error) {
			m, err := n.reg.Simulation(id)
			m.GetState().BeginTime = nil
			return m.GetState().String(), err
		}},
		{"inbox", func(id string) error {
			r := n.ingest(&actors.Ingest{Alias: inbox(id), Payload: []byte("1"), ID: "first"})
			if r.Outcome != pb.IngestOutcome_INGEST_OUTCOME_INBOX {
				return fmt.Errorf("%v: %w", r.Outcome, r.Err)
			}
			return nil
		}, func(id string) error {
			n.ingest(&actors.Ingest{Alias: inbox(id), Payload: []byte("2")})
			_, err := n.reg.IgnoreInbox(ctx, "default/lora/eui/"+id, false)
			return err
		}, func(id string) error { // claimed; and the twin goes
			if _, err := n.reg.ClaimInbox(ctx, "default/lora/eui/"+id, &pb.Twin{Id: "of-" + id, Model: "sensor"}); err != nil {
				return err
			}
			return n.reg.DeleteTwin(ctx, "of-"+id, 0)
		}, func(id string) (string, error) {
			list, err := n.reg.ListInbox(&pb.ListInboxRequest{Project: "default", Ignored: true}, nil)
			for _, x := range list.GetEntries() {
				if x.Alias.Value == id {
					return fmt.Sprintf("%d messages, %q, ignored %v", x.Count, x.Samples, x.Ignored), err
				}
			}
			return "", err
		}},
		{"project", func(id string) error {
			_, err := n.reg.CreateProject(ctx, &pb.ProjectSettings{Project: id, UnknownSenders: pb.UnknownSenders_UNKNOWN_SENDERS_REFUSE})
			return err
		}, func(id string) error {
			for range 3 {
				n.ingest(&actors.Ingest{Project: id, Alias: inbox("x"), Payload: []byte("1")})
			}
			_, err := n.store.Commit(ctx, &storage.Txn{Writes: []storage.Write{{Table: mqtt.TableRetained, Key: id + "/lora/eui/x", Value: []byte{1}},
				{Table: mqtt.TableRetained, Key: id + "s/lora/eui/x", Value: []byte{1}}}})
			return err
		}, func(id string) error { return n.reg.DeleteProject(ctx, id) }, func(id string) (string, error) {
			s, err := n.reg.IngestStatus(id, true, nil)
			if err != nil {
				return "", err
			}
			list, err := n.reg.ListRefusals(&pb.ListRefusalsRequest{Project: id}, nil)
			return fmt.Sprintf("%v, %d refusals, %d retained", s.Counts, len(list.GetRefusals()), n.records("mqtt-retained", id+"/")), err
		}},
	}
}

// A project is deleted with more refusals and counters than one transaction takes, and what another project has of a name that begins alike stays.
func TestDeletedProjectLeavesNothing(t *testing.T) {
	n := newNode(t)
	if _, err := n.reg.CreateProject(ctx(t), &pb.ProjectSettings{Project: "big"}); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		txn := &storage.Txn{}
		for j := range 600 {
			txn.Writes = append(txn.Writes, storage.Write{Table: "refusal", Key: fmt.Sprintf("big/%013x-%016x", i, j), Value: []byte{}})
		}
		txn.Writes = append(txn.Writes, storage.Write{Table: "refusal", Key: fmt.Sprintf("big-one/%013x-%016x", i, i), Value: []byte{}})
		if _, err := n.store.Commit(ctx(t), txn); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.reg.DeleteProject(ctx(t), "big"); err != nil {
		t.Fatal(err)
	}
	if got, others := n.records("refusal", "big/"), n.records("refusal", "big-one/"); got != 0 || others != 10 {
		t.Errorf("%d refusals are left, and %d of the other project, want 10", got, others)
	}
}
