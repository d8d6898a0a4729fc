package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/parquet-go/parquet-go"

	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/journal"
)

// targets are where the soak's sinks write to: a server of S3 and one of webhooks, which both are away for a second in each five.
type targets struct {
	t     *testing.T
	began time.Time
	s3    *minio.Client

	mu    sync.Mutex
	hooks map[string][32]byte // by Idempotency-Key, what the webhook was sent
	again int                 // batches that it was sent once more
	calls held
}

// held is what a target was given.
type held struct {
	values map[string][]float64 // by twin
	seen   []bool               // by offset
	count  int
	twice  int
}

// message is one of the topic's that a target was given.
func (h *held) message(offset int64, twin string, value float64) {
	if h.values == nil {
		h.values = map[string][]float64{}
	}
	for int64(len(h.seen)) <= offset {
		h.seen = append(h.seen, false)
	}
	if h.seen[offset] {
		h.twice++
		return
	}
	h.seen[offset] = true
	h.count++
	h.values[twin] = append(h.values[twin], value)
}

// startTargets starts both, and has n write to them what the topic has.
func startTargets(t *testing.T, n *harness.Node, topic string) *targets {
	x := &targets{t: t, began: time.Now(), hooks: map[string][32]byte{}}
	s3 := httptest.NewServer(x.mostly(gofakes3.New(s3mem.New()).Server()))
	hook := httptest.NewServer(x.mostly(http.HandlerFunc(x.hook)))
	t.Cleanup(s3.Close)
	t.Cleanup(hook.Close)
	endpoint := strings.TrimPrefix(s3.URL, "http://")
	var err error
	if x.s3, err = minio.New(endpoint, &minio.Options{Creds: credentials.NewStaticV4("key", "secret", ""), Region: "us-east-1"}); err != nil {
		t.Fatal(err)
	}
	if err := x.s3.MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret.txt")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must("sink", "create", "lake", "--topic", topic, "--oldest", "--batch-wait", "1s", "--secret-file", secret,
		"--to", "s3://bucket/soak?endpoint="+endpoint+"&access_key=key&tls=false&region=us-east-1")
	n.Must("sink", "create", "hook", "--topic", topic, "--oldest", "--batch-wait", "500ms", "--batch", "2000", "--to", hook.URL)
	return x
}

// mostly passes requests on, and answers none well in a second of each five.
func (x *targets) mostly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if time.Since(x.began)%(5*time.Second) > 4*time.Second {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// hook is the webhook: what comes under one key is the same each time.
func (x *targets) hook(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the node died
	}
	var all []struct {
		Offset  int64
		Payload struct {
			Twin  string
			Value float64
		}
	}
	if err := json.Unmarshal(body, &all); err != nil {
		x.t.Errorf("webhook: %v: %.300s", err, body)
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	key, sum := r.Header.Get("Idempotency-Key"), sha256.Sum256(body)
	if before, ok := x.hooks[key]; ok {
		x.again++
		if before != sum {
			x.t.Errorf("webhook: two different batches have the key %q", key)
		}
		return
	}
	x.hooks[key] = sum
	for _, m := range all {
		x.calls.message(m.Offset, m.Payload.Twin, m.Payload.Value)
	}
}

// lakeRow is what is looked at of a row of a file.
type lakeRow struct {
	Offset int64    `parquet:"offset"`
	Twin   *string  `parquet:"twin,optional"`
	Number *float64 `parquet:"number,optional"`
}

// lake reads what manifests name in S3, but for what it read before.
func (x *targets) lake(ctx context.Context, h *held, read map[string]bool) error {
	get := func(name string) ([]byte, error) {
		o, err := x.s3.GetObject(ctx, "bucket", name, minio.GetObjectOptions{})
		if err != nil {
			return nil, err
		}
		defer o.Close()
		return io.ReadAll(o)
	}
	for o := range x.s3.ListObjects(ctx, "bucket", minio.ListObjectsOptions{Prefix: "soak/_manifest/", Recursive: true}) {
		if o.Err != nil {
			return o.Err
		}
		if read[o.Key] {
			continue
		}
		var m struct{ Files []struct{ Path string } }
		var rows []lakeRow
		text, err := get(o.Key)
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", o.Key, err)
		}
		for _, f := range m.Files {
			body, err := get("soak/" + f.Path)
			if err != nil {
				return err
			}
			some, err := parquet.Read[lakeRow](bytes.NewReader(body), int64(len(body)))
			if err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
			rows = append(rows, some...)
		}
		for _, row := range rows {
			if row.Twin == nil || row.Number == nil {
				return fmt.Errorf("%s: message %d has no twin or no number", o.Key, row.Offset)
			}
			h.message(row.Offset, *row.Twin, *row.Number)
		}
		read[o.Key] = true
	}
	return nil
}

// check waits until each acknowledged value is with both. In S3 each message of the topic is once; a webhook knows by its keys what comes again.
func (x *targets) check(acked map[string][]float64) journal.Verdict {
	lake, read := &held{}, map[string]bool{}
	for end, last := time.Now().Add(time.Minute), 0; ; time.Sleep(time.Second) {
		if err := x.lake(x.t.Context(), lake, read); err != nil {
			x.t.Log("S3: ", err) // it is away; what is wrong stays so, and lacks below
		}
		x.mu.Lock()
		v := journal.InHistory(acked, map[string]map[string][]float64{"S3": lake.values, "webhook": x.calls.values})
		v.Name = "messages in sinks"
		v.Note = fmt.Sprintf("%d files of S3 have %d messages; the webhook was sent %d batches, %d of them again", len(read), lake.count, len(x.hooks), x.again)
		twice, came := [2]int{lake.twice, x.calls.twice}, lake.count+x.calls.count
		x.mu.Unlock()
		if came > last {
			end, last = time.Now().Add(time.Minute), came
		}
		if len(v.Violations) > 0 && time.Now().Before(end) {
			continue
		}
		if twice != [2]int{} {
			v.Violations = append(v.Violations, fmt.Sprintf("%d messages are twice in S3, %d came to the webhook under two keys", twice[0], twice[1]))
		}
		return v
	}
}
