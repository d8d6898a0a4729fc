package sink_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/parquet-go/parquet-go"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/sink"
	"github.com/polluxhq/pollux/actors/topic"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// lakeRow are the columns that the tests read, by a schema of their own.
type lakeRow struct {
	Offset int64     `parquet:"offset"`
	Time   time.Time `parquet:"time,timestamp(millisecond)"`
	Key    string    `parquet:"key"`
	Twin   *string   `parquet:"twin,optional"`
	Name   *string   `parquet:"name,optional"`
	Number *float64  `parquet:"number,optional"`
}

// checkLake reads all files that manifests name, and says whether each of n messages is in one of them, and in no other file.
func checkLake(t *testing.T, names []string, n int, read func(name string) []byte) {
	t.Helper()
	data, named := map[string]bool{}, map[string]bool{}
	offsets := map[int64]int{}
	for _, name := range names {
		if strings.HasSuffix(name, ".parquet") {
			data[name] = true
			continue
		}
		var m struct {
			Messages int
			Files    []struct {
				Path        string
				Rows, Bytes int
			}
		}
		if err := json.Unmarshal(read(name), &m); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, f := range m.Files {
			named[f.Path] = true
			body := read(f.Path)
			rows, err := parquet.Read[lakeRow](bytes.NewReader(body), int64(len(body)))
			if err != nil || len(rows) != f.Rows || len(body) != f.Bytes {
				t.Fatalf("%s: %d rows in %d bytes, %v; the manifest says %d in %d", f.Path, len(rows), len(body), err, f.Rows, f.Bytes)
			}
			for _, x := range rows {
				offsets[x.Offset]++
				if !strings.Contains(f.Path, "project=default/day="+x.Time.UTC().Format("2006-01-02")+"/") {
					t.Errorf("%s has a message of %v", f.Path, x.Time)
				}
				if x.Twin == nil || *x.Twin != x.Key || x.Name == nil || *x.Name != "temperature" || x.Number == nil || *x.Number != float64(x.Offset-1) {
					t.Errorf("a row is wrong: %+v", x)
				}
			}
		}
	}
	if !maps.Equal(data, named) {
		t.Errorf("there are %v, and the manifests name %v", slices.Sorted(maps.Keys(data)), slices.Sorted(maps.Keys(named)))
	}
	for at, times := range offsets {
		if times != 1 {
			t.Errorf("message %d is in %d files", at, times)
		}
	}
	if len(offsets) != n {
		t.Errorf("%d messages are in files, want %d", len(offsets), n)
	}
}

// days publishes n messages of two days.
func (r *rig) days(from, n int) {
	for i := range n {
		m := changed((from+i)%10, strconv.Itoa(from+i))
		m.Time = timestamppb.New(time.Date(2026, 1, 30+i%2, 23, 59, 59, 0, time.UTC))
		r.publish(m)
	}
}

// TestFiles: Parquet files of two days, over a change of owners, with each message in one file that a manifest names.
func TestFiles(t *testing.T) {
	r := newRig(t)
	r.give(r.host("n1"))
	r.sink(&pb.Sink{Id: "default/lake", Url: "file:lake", BatchMessages: 20, BatchWait: durationpb.New(50 * time.Millisecond)})
	r.days(0, 50)
	r.give(r.host("n2"))
	r.days(50, 50)
	r.until("default/lake", "100 are in files", func(s *pb.SinkState) bool { return s.Delivered >= 100 && s.Position == 101 })
	dir := filepath.Join(r.files, "default", "lake")
	checkLake(t, tree(t, dir), 100, func(name string) []byte {
		body, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		return body
	})
}

// newS3 gives the address of a server of S3 that passes requests through a handler, and a client of its own.
func newS3(t *testing.T, through func(s3 http.Handler) http.Handler) (endpoint string, c *minio.Client) {
	t.Helper()
	server := httptest.NewServer(through(gofakes3.New(s3mem.New()).Server()))
	t.Cleanup(server.Close)
	endpoint = strings.TrimPrefix(server.URL, "http://")
	c, err := minio.New(endpoint, &minio.Options{Creds: credentials.NewStaticV4("key", "secret", ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	return endpoint, c
}

func makeBucket(t *testing.T, c *minio.Client) {
	t.Helper()
	if err := c.MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
}

// inS3 is a sink into the bucket, in batches of 20.
func inS3(endpoint, prefix string) *pb.Sink {
	return &pb.Sink{Id: "default/lake", Url: "s3://bucket/" + prefix + "?endpoint=" + endpoint + "&access_key=key&tls=false&region=us-east-1", Secret: "secret",
		BatchMessages: 20, BatchWait: durationpb.New(50 * time.Millisecond)}
}

// listS3 gives the names of the objects below a prefix, without it.
func listS3(t *testing.T, c *minio.Client, prefix string) (names []string) {
	t.Helper()
	for o := range c.ListObjects(t.Context(), "bucket", minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		names = append(names, strings.TrimPrefix(o.Key, prefix))
	}
	return names
}

func readS3(t *testing.T, c *minio.Client, name string) []byte {
	t.Helper()
	o, err := c.GetObject(t.Context(), "bucket", name, minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	body, err := io.ReadAll(o)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestS3: the same in an S3 server, read back by a client of its own.
func TestS3(t *testing.T) {
	r := newRig(t)
	endpoint, c := newS3(t, func(s3 http.Handler) http.Handler { return s3 })
	r.give(r.host("n1"))
	r.sink(inS3(endpoint, "pre/fix"))
	r.days(0, 60)
	r.until("default/lake", "it says that there is no bucket", func(s *pb.SinkState) bool { return strings.Contains(s.Error, "bucket does not exist") })
	makeBucket(t, c)
	r.until("default/lake", "60 are stored", func(s *pb.SinkState) bool { return s.Position == 61 && s.Error == "" })
	checkLake(t, listS3(t, c, "pre/fix/"), 60, func(name string) []byte { return readS3(t, c, "pre/fix/"+name) })
}

// TestTopicMadeAnew: while the target does not answer the topic is deleted and made anew. Its messages are delivered, and take the place of
// none; also where another owner goes on, to which what was on its way is not there any more, and is counted; and where offsets begin from one
// again, as in an older backup.
func TestTopicMadeAnew(t *testing.T) {
	t.Run("one owner", func(t *testing.T) { testTopicMadeAnew(t, false, false, 71) })
	t.Run("another owner", func(t *testing.T) { testTopicMadeAnew(t, true, false, 71) })
	t.Run("older offsets", func(t *testing.T) { testTopicMadeAnew(t, false, true, 11) })
	t.Run("older offsets and another owner", func(t *testing.T) { testTopicMadeAnew(t, true, true, 11) })
}

func testTopicMadeAnew(t *testing.T, another, older bool, position uint64) {
	r := newRig(t)
	var down atomic.Bool
	endpoint, c := newS3(t, func(s3 http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if down.Load() && req.Method == http.MethodPut {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			s3.ServeHTTP(w, req)
		})
	})
	makeBucket(t, c)
	r.give(r.host("n1"))
	r.sink(inS3(endpoint, ""))
	r.days(0, 40)
	r.until("default/lake", "40 are stored", func(s *pb.SinkState) bool { return s.Position == 41 })
	down.Store(true)
	r.days(40, 20)
	r.until("default/lake", "the next are not", func(s *pb.SinkState) bool { return s.Failures > 0 && s.Until > 41 })
	want := 50
	if !another { // it has the batch that it has begun, which is not all of the 20 on a slow machine
		want += int(r.state("default/lake").Until - 41)
	}
	r.drop()
	if older {
		r.commit(storage.Write{Table: topic.TableTails, Key: changes})
	}
	r.create(&pb.Topic{Id: changes})
	if another {
		r.give(r.host("n2"))
	}
	r.days(0, 10)
	down.Store(false)
	r.until("default/lake", "10 of the new one are stored", func(s *pb.SinkState) bool { return s.Delivered == uint64(want) && s.Position == position })
	all := 0
	for _, name := range listS3(t, c, "_manifest/") {
		var m struct{ Messages int }
		if err := json.Unmarshal(readS3(t, c, "_manifest/"+name), &m); err != nil {
			t.Fatal(err)
		}
		all += m.Messages
	}
	if all != want {
		t.Errorf("%d messages are in files that manifests name, want %d", all, want)
	}
}

// TestLateWrites: a file and a manifest that an owner of old had sent come to their places after the next owner has delivered more. What
// was tried once is what is tried again, so they change nothing.
func TestLateWrites(t *testing.T) {
	r := newRig(t)
	var late struct {
		sync.Mutex
		held   bool // writes are kept, and not answered well
		writes []*http.Request
	}
	var inner http.Handler
	endpoint, c := newS3(t, func(s3 http.Handler) http.Handler {
		inner = s3
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			late.Lock()
			defer late.Unlock()
			if !late.held || req.Method != http.MethodPut {
				s3.ServeHTTP(w, req)
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				t.Error(err)
			}
			again := req.Clone(context.Background())
			again.Body = io.NopCloser(bytes.NewReader(body))
			late.writes = append(late.writes, again)
			if strings.Contains(req.URL.Path, "/_manifest/") {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
	})
	hold := func(held bool) {
		late.Lock()
		defer late.Unlock()
		late.held = held
	}
	makeBucket(t, c)
	r.give(r.host("n1"))
	s := inS3(endpoint, "")
	r.sink(s)
	r.days(0, 40)
	r.until("default/lake", "40 are stored", func(s *pb.SinkState) bool { return s.Position == 41 })
	hold(true)
	r.days(40, 10)
	r.until("default/lake", "the next are not", func(s *pb.SinkState) bool { return s.Failures > 0 && s.Position == 41 && s.Until > 41 })
	r.days(50, 70)
	hold(false)
	// The next owner has more of them, and takes more at once.
	s.BatchMessages = 100
	r.sink(s)
	r.give(r.host("n2"))
	r.until("default/lake", "120 are stored", func(s *pb.SinkState) bool { return s.Position == 121 && s.Error == "" })
	late.Lock()
	if len(late.writes) < 3 {
		t.Errorf("%d writes were late", len(late.writes))
	}
	for _, w := range late.writes {
		inner.ServeHTTP(httptest.NewRecorder(), w)
	}
	late.Unlock()
	checkLake(t, listS3(t, c, ""), 120, func(name string) []byte { return readS3(t, c, name) })
}

// TestManyDays: a batch of more days than there is time for in one try is written nevertheless, each try going on where the one before ended.
func TestManyDays(t *testing.T) {
	r := newRig(t)
	var puts atomic.Int32
	endpoint, c := newS3(t, func(s3 http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/long/") {
				if puts.Add(1)%8 == 0 {
					w.WriteHeader(http.StatusForbidden)
					return
				}
			}
			s3.ServeHTTP(w, req)
		})
	})
	makeBucket(t, c)
	var all []*pb.TopicMessage
	for i := range 10 {
		m := changed(i, strconv.Itoa(i))
		m.Time = timestamppb.New(time.Date(2025, 1, 1+40*i, 0, 0, 0, 0, time.UTC))
		all = append(all, m)
	}
	r.publish(all...)
	r.give(r.host("n1"))
	s := inS3(endpoint, "long")
	s.BatchMessages = 10
	r.sink(s)
	r.until("default/lake", "10 days are stored", func(s *pb.SinkState) bool { return s.Position == 11 && s.Batches == 1 })
	checkLake(t, listS3(t, c, "long/"), 10, func(name string) []byte { return readS3(t, c, "long/"+name) })
}

// TestPutBack: what a sink wrote after a backup was taken stays where that is put back, though the sink goes on at a message that it had then and
// whose batch has the same offsets.
func TestPutBack(t *testing.T) {
	r := newRig(t)
	r.give(r.host("n1"))
	m := &pb.Sink{Id: "default/lake", Url: "file:lake", BatchMessages: 10, BatchWait: soon}
	r.sink(m)
	r.rounds(0, 10)
	r.until(m.Id, "10 are in files", func(s *pb.SinkState) bool { return s.Position == 11 })
	m.Paused = true
	r.sink(m)
	r.rounds(10, 5)
	var backup []storage.Write
	for _, table := range []storage.Table{topic.TableTopics, topic.TableTails, topic.TableMessages, sink.TableSinks, sink.TableCursors} {
		for rec, err := range r.store.Scan(table, "", "") {
			if err != nil {
				t.Fatal(err)
			}
			backup = append(backup, storage.Write{Table: table, Key: rec.Key, Value: rec.Value})
		}
	}
	r.rounds(15, 5)
	m.Paused = false
	r.sink(m)
	r.until(m.Id, "20 are in files", func(s *pb.SinkState) bool { return s.Position == 21 })

	back := emptyRig(t)
	back.files = r.files
	back.commit(backup...)
	back.give(back.host("n1"))
	back.rounds(115, 5)
	back.sink(m)
	back.until(m.Id, "20 are in files", func(s *pb.SinkState) bool { return s.Position == 21 })
	there := map[float64]bool{}
	dir := filepath.Join(r.files, "default", "lake")
	for _, name := range tree(t, dir) {
		if !strings.HasSuffix(name, ".parquet") {
			continue
		}
		rows, err := parquet.ReadFile[lakeRow](filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range rows {
			there[*x.Number] = true
		}
	}
	for i := range 20 {
		if !there[float64(i)] {
			t.Errorf("message %d is not there any more", i)
		}
		if i >= 15 && !there[float64(100+i)] {
			t.Errorf("message %d is not there", 100+i)
		}
	}
}
