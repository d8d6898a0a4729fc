package sink_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// ferretMain runs FerretDB as a library; its own command is not whole in its module.
const ferretMain = `package main

import (
	"context"
	"os"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	f, err := ferretdb.New(&ferretdb.Config{Listener: ferretdb.ListenerConfig{TCP: os.Args[1]}, Handler: "sqlite", SQLiteURL: "file:" + os.Args[2] + "/"})
	if err == nil {
		err = f.Run(context.Background())
	}
	if err != nil {
		panic(err)
	}
}
`

// buildFerret builds FerretDB, a server of MongoDB's protocol over SQLite, from a module of its own: it has a hundred modules that the
// program has not.
func buildFerret(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "ferretdb")
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join("../../test/peers/ferretdb", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(ferretMain), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", program, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		drivertest.Missing(t, "FerretDB cannot be built: %v: %.1000s", err, out)
	}
	return program
}

func startFerret(t *testing.T, program string, port int) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(program, fmt.Sprintf("127.0.0.1:%d", port), t.TempDir())
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = harness.ChildAttributes()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("ferretdb: %.3000s", out.String())
		}
	})
}

// TestMongoDB: documents in a collection of a real server, which was away at first; what comes twice is there once.
func TestMongoDB(t *testing.T) {
	r := newRig(t)
	program, port := buildFerret(t), freePort(t)
	r.give(r.host("n1"))
	r.sink(&pb.Sink{Id: "default/docs", Url: fmt.Sprintf("mongodb://127.0.0.1:%d/iot/changes", port), BatchWait: durationpb.New(50 * time.Millisecond)})
	r.rounds(0, 50)
	r.until("default/docs", "the failure shows", func(s *pb.SinkState) bool { return strings.Contains(s.Error, "mongodb") })
	startFerret(t, program, port)
	r.until("default/docs", "50 are there", func(s *pb.SinkState) bool { return s.Position == 51 })
	client, err := mongo.Connect(options.Client().ApplyURI(fmt.Sprintf("mongodb://127.0.0.1:%d/", port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(t.Context()) })
	into := client.Database("iot").Collection("changes")
	// One that a topic had before an older backup was put back, which gives its offset again: it stays.
	if _, err := into.InsertOne(t.Context(), bson.D{{Key: "_id", Value: fmt.Sprintf("%s/%016d/%d", changes, 51, 1_700_000_000_000)}, {Key: "key", Value: "old"}}); err != nil {
		t.Fatal(err)
	}
	r.give(r.host("n2"))
	r.rounds(50, 50)
	r.publish(changed(3, `true`), &pb.TopicMessage{Payload: []byte("no JSON")}, &pb.TopicMessage{Payload: []byte(`{"a":[1,{"b":"x"}]}`)})
	r.until("default/docs", "103 are there", func(s *pb.SinkState) bool { return s.Position == 104 })
	for _, c := range []struct {
		filter bson.D
		want   int64
	}{
		{bson.D{}, 104}, {bson.D{{Key: "name", Value: "temperature"}}, 101}, {bson.D{{Key: "twin", Value: "default/t7"}}, 10}, {bson.D{{Key: "number", Value: 77.0}}, 1},
		{bson.D{{Key: "key", Value: "old"}}, 1}, {bson.D{{Key: "payload", Value: []byte("no JSON")}}, 1}, {bson.D{{Key: "value.name", Value: "temperature"}}, 101},
		{bson.D{{Key: "topic", Value: changes}, {Key: "offset", Value: int64(51)}, {Key: "kind", Value: "property"}}, 1},
	} {
		if n, err := into.CountDocuments(t.Context(), c.filter); err != nil || n != c.want {
			t.Errorf("%v: %d documents, want %d: %v", c.filter, n, c.want, err)
		}
	}
	var doc struct {
		Time  time.Time `bson:"time"`
		Value struct {
			Value float64 `bson:"value"`
		} `bson:"value"`
	}
	if err := into.FindOne(t.Context(), bson.D{{Key: "number", Value: 7.0}}).Decode(&doc); err != nil || doc.Value.Value != 7 || time.Since(doc.Time) > time.Hour {
		t.Errorf("%+v: %v", doc, err)
	}

	// Hundreds come again, as after a crash, and one of them somebody has written to.
	r.rounds(103, 400)
	r.until("default/docs", "503 are there", func(s *pb.SinkState) bool { return s.Position == 504 })
	if _, err := into.UpdateOne(t.Context(), bson.D{{Key: "offset", Value: int64(300)}}, bson.D{{Key: "$set", Value: bson.D{{Key: "seen", Value: true}}}}); err != nil {
		t.Fatal(err)
	}
	r.sink(&pb.Sink{Id: "default/again", Url: fmt.Sprintf("mongodb://127.0.0.1:%d/iot/changes", port), BatchWait: durationpb.New(50 * time.Millisecond)})
	r.until("default/again", "503 came again", func(s *pb.SinkState) bool { return s.Position == 504 })
	for _, c := range []struct {
		filter bson.D
		want   int64
	}{{bson.D{}, 504}, {bson.D{{Key: "key", Value: "old"}}, 1}, {bson.D{{Key: "seen", Value: true}}, 1}, {bson.D{{Key: "value.name", Value: "temperature"}}, 501}} {
		if n, err := into.CountDocuments(t.Context(), c.filter); err != nil || n != c.want {
			t.Errorf("%v: %d documents, want %d: %v", c.filter, n, c.want, err)
		}
	}
	// A collection that takes no key twice: what it does not take is refused, and the rest is there.
	one := client.Database("iot").Collection("one")
	if _, err := one.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: bson.D{{Key: "key", Value: 1}}, Options: options.Index().SetUnique(true)}); err != nil {
		t.Fatal(err)
	}
	r.sink(&pb.Sink{Id: "default/one", Url: fmt.Sprintf("mongodb://127.0.0.1:%d/iot/one", port), BatchMessages: 20, BatchWait: durationpb.New(50 * time.Millisecond)})
	r.until("default/one", "all are there or refused", func(s *pb.SinkState) bool { return s.Position == 504 && s.Delivered == 11 && s.Refused == 492 })
	if n, err := one.CountDocuments(t.Context(), bson.D{}); err != nil || n != 11 {
		t.Errorf("%d documents of ten keys and none, %v", n, err)
	}
}
