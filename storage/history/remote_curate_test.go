package history

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/storage"
)

// settled waits until the server shows all that was inserted.
func (r *remoteUnderTest) settled(t *testing.T) {
	t.Helper()
	eventually(t, 30*time.Second, "all is sent", func() bool { return r.Pending() == 0 && !r.sender.outage.Load() })
	// The last block may still be on its way.
	r.sender.hold.Lock()
	defer r.sender.hold.Unlock()
	if err := r.flushServer(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// On a server elsewhere rules delete the same, while devices go on; another node, with a queue of its own, has the same charts.
func TestCurateOnAServer(t *testing.T) {
	takeTurn(t)
	s := startServer(t, "-search.disableCache", "-search.latencyOffset=1ms")
	r := openRemote(t, s, RemoteOptions{})
	start, each := dayOf(t, r, "house")
	dayOf(t, r, "garden")
	r.settled(t)
	heat, other := chartsOf(t, r, "house", "heat", start), chartsOf(t, r, "house", "other", start)
	rules := SampleRules{List: []SampleRule{{Property: "heat", MaxAge: 2 * time.Hour, Step: 5 * time.Minute}, {Property: "power", Model: "Room", MaxAge: 3 * time.Hour}}}
	now := start.Add(7 * time.Hour)
	would, err := r.Expired(t.Context(), "house", rules, now)
	if err != nil || would.Series != 6 || would.Properties["heat"] != 3*5*180+3 || would.Properties["power"] != 3*4*180 {
		t.Fatalf("it would do %+v: %v", would, err)
	}
	if n := raws(t, r, "house", "a", "heat"); n != each {
		t.Fatalf("asking left %d samples of %d", n, each)
	}
	stop, sent := make(chan struct{}), 0
	var devices sync.WaitGroup
	devices.Go(func() {
		for ; ; sent++ {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			at := now.Add(time.Duration(sent+1) * 10 * time.Millisecond).UnixMilli()
			if err := r.Insert(t.Context(), 2, one("house", "a", "Room", storage.Sample{Property: "heat", Time: at, Value: float64(sent)})); err != nil {
				t.Error(err)
			}
		}
	})
	did, err := r.Curate(t.Context(), "house", rules, now, nil)
	close(stop)
	devices.Wait()
	if err != nil || did.Samples != would.Samples || did.Rolled != would.Properties["heat"] || did.Properties["power"] != would.Properties["power"] {
		t.Errorf("it did %+v, would %+v: %v", did, would, err)
	}
	r.settled(t)
	if n := raws(t, r, "house", "b", "heat"); n != 2*180-1 {
		t.Errorf("%d samples are left, want %d", n, 2*180-1)
	}
	if n := raws(t, r, "house", "a", "heat"); n != 2*180-1+sent {
		t.Errorf("%d samples are there, want %d of which %d came meanwhile", n, 2*180-1+sent, sent)
	}
	if n := raws(t, r, "garden", "b", "heat"); n != each {
		t.Errorf("another project has %d samples of %d", n, each)
	}
	node := openRemote(t, s, RemoteOptions{})
	sameCharts(t, "heat", chartsOf(t, node, "house", "heat", start), heat)
	sameCharts(t, "other", chartsOf(t, node, "house", "other", start), other)
	for i, c := range chartsOf(t, node, "house", "power", start)["count"] {
		if !math.IsNaN(c.Values[2]) || c.Values[3] != 1 || c.Values[4] != 180 {
			t.Errorf("counts of power, %d: %v", i, c.Values)
		}
	}
	if left, err := r.Expired(t.Context(), "house", rules, now); err != nil || left.Samples != 0 {
		t.Errorf("it would do again %+v: %v", left, err)
	}
}

// A server that does not let samples be deleted loses none, and the error says what to do.
func TestCurateOnAServerThatForbidsIt(t *testing.T) {
	takeTurn(t)
	s := startServer(t, "-search.disableCache", "-search.latencyOffset=1ms", "-deleteAuthKey=secret")
	r := openRemote(t, s, RemoteOptions{})
	start, each := dayOf(t, r, "house")
	r.settled(t)
	_, err := r.Curate(t.Context(), "house", SampleRules{List: []SampleRule{{MaxAge: 2 * time.Hour}}}, start.Add(7*time.Hour), nil)
	if !errors.Is(err, ErrCurate) || !strings.Contains(err.Error(), "without -deleteAuthKey") || !strings.Contains(err.Error(), "delete_series") {
		t.Errorf("it says %v", err)
	}
	r.settled(t)
	if n := raws(t, r, "house", "a", "heat"); n != each {
		t.Errorf("%d samples of %d are left", n, each)
	}
}

// The server takes longer to delete than it may take to answer other requests: what stays is not sent before it is done.
func TestCurateOnAServerThatDeletesSlowly(t *testing.T) {
	takeTurn(t)
	s := startServer(t, "-search.disableCache", "-search.latencyOffset=1ms", "-dedup.minScrapeInterval=1ms")
	var r *remoteUnderTest
	at := proxyOf(t, s, func(q *http.Request) {
		if deletes(q) {
			time.Sleep(10 * r.client.Transport.(*http.Transport).ResponseHeaderTimeout)
			body, _ := io.ReadAll(q.Body)
			q.Body = io.NopCloser(bytes.NewReader(body))
			// Done also where nobody waits for it any more.
			if resp, err := http.Post(s.url()+q.URL.Path, q.Header.Get("Content-Type"), bytes.NewReader(body)); err == nil {
				resp.Body.Close()
			}
		}
	})
	r = openRemote(t, s, RemoteOptions{URL: at})
	r.client.Transport.(*http.Transport).ResponseHeaderTimeout = 500 * time.Millisecond
	start, _ := dayOf(t, r, "house")
	r.settled(t)
	if _, err := r.Curate(t.Context(), "house", SampleRules{List: []SampleRule{{Property: "heat", MaxAge: 2 * time.Hour}}}, start.Add(7*time.Hour), nil); err != nil {
		t.Errorf("curate: %v", err)
		time.Sleep(10 * time.Second) // so long the deletion may take
	}
	r.settled(t)
	if n := raws(t, r, "house", "b", "heat"); n != 2*180 {
		t.Errorf("%d samples are left, want %d", n, 2*180)
	}
}

// deletes says whether a request is one that deletes series that there are.
func deletes(r *http.Request) bool {
	if !strings.HasSuffix(r.URL.Path, "/delete_series") {
		return false
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	args, perr := url.ParseQuery(string(body))
	return err == nil && perr == nil && !strings.Contains(args.Get("match[]"), "/none")
}
