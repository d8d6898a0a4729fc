package history

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/VictoriaMetrics/metrics"
	"github.com/klauspost/compress/snappy"
)

const (
	// sendTimeout bounds one request.
	sendTimeout = 60 * time.Second
	// sendBackOff bounds the pause between tries, jitter included.
	sendBackOffMin = 100 * time.Millisecond
	sendBackOffMax = 5 * time.Second
	// recentAge is how long an acknowledged block is kept, in case the server dies before it has written it to disk; twice
	// what VictoriaMetrics takes for that at most.
	recentAge = 30 * time.Second
	// recentBytes bounds the blocks kept so.
	recentBytes = 16 << 20
	// visibleAfter is when a sample shows in queries at the latest; before, its absence means nothing.
	visibleAfter = 4 * time.Second
	// probeWait bounds the question what a server that came back still has.
	probeWait = 10 * time.Second
)

// sender takes blocks from the queue, one at a time in their order, and posts each until the server has it.
type sender struct {
	queue  *queue
	client *http.Client
	server *url.URL
	query  *querier
	log    *slog.Logger

	sent, refused, errs *metrics.Counter
	outage              atomic.Bool

	// passed is told each index up to which all was sent.
	passed func(index uint64)

	// hold is locked by who wants nothing to be sent for a moment.
	hold sync.Mutex

	ctx  context.Context // ends when close is called
	stop context.CancelFunc
	done chan struct{}
	back []byte // what was taken and not sent when it stopped

	recent []sentBlock // oldest first
	size   int         // of recent, in bytes
	lost   bool        // the server did not answer since the last success, or a new connection was made: it may have died
	probe  sentBlock   // where lost: the last block of before, if any
	marked atomic.Uint64
}

type sentBlock struct {
	at   time.Time
	body []byte
}

func startSender(q *queue, client *http.Client, server *url.URL, query *querier, log *slog.Logger, set *metrics.Set, passed func(uint64)) *sender {
	s := &sender{
		queue: q, client: client, server: server, query: query, log: log, passed: passed, done: make(chan struct{}),
		sent:    set.GetOrCreateCounter("pollux_history_sent_blocks_total"),
		refused: set.GetOrCreateCounter("pollux_history_refused_blocks_total"),
		errs:    set.GetOrCreateCounter("pollux_history_send_errors_total"),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	go func() {
		defer close(s.done)
		s.run()
	}()
	return s
}

// close stops and returns the block that was taken and not acknowledged, or nil.
func (s *sender) close() []byte {
	s.stop()
	s.queue.unblock()
	<-s.done
	return s.back
}

func (s *sender) run() {
	var block []byte
	for s.ctx.Err() == nil {
		var ok bool
		var err error
		if block, ok, err = s.queue.take(block); err != nil {
			s.log.Error("history queue cannot be read", "error", err)
			sleep(s.ctx, sendBackOffMax)
			continue
		}
		if !ok {
			return
		}
		if len(block) == 9 && block[0] == blockSync {
			s.passed(binary.BigEndian.Uint64(block[1:]))
		}
		if len(block) == 9 && block[0] == blockMark {
			s.marked.Store(binary.BigEndian.Uint64(block[1:]))
		}
		if len(block) < 2 || block[0] != blockSnappy {
			continue
		}
		if !s.deliver(block[1:]) {
			s.back = block
			return
		}
	}
}

// deliver posts until the server has taken or refused the block; false when stopped before.
func (s *sender) deliver(body []byte) bool {
	backOff, unknown := sendBackOffMin, false
	for {
		s.hold.Lock()
		err := s.attempt(body, unknown)
		s.hold.Unlock()
		unknown = unknown || s.lost
		var no *refusal
		switch {
		case err == nil:
			s.sent.Inc()
			s.keep(body)
			s.recovered()
			return true
		case s.ctx.Err() != nil:
			return false
		case errors.As(err, &no):
			// It would be refused for ever, and everything behind it would wait.
			s.refused.Inc()
			s.log.Error("metrics server refuses samples, they are dropped", "error", err, "bytes", len(body))
			s.recovered()
			return true
		}
		s.errs.Inc()
		if s.outage.CompareAndSwap(false, true) {
			s.log.Warn("metrics server takes no samples, they wait on disk", "error", err)
		}
		sleep(s.ctx, backOff/2+rand.N(backOff/2))
		backOff = min(2*backOff, sendBackOffMax)
	}
}

func (s *sender) recovered() {
	if s.outage.CompareAndSwap(true, false) {
		s.log.Info("metrics server takes samples again", "queue_bytes", s.queue.bytes())
	}
}

// attempt posts a block. Where the server may have died it first sees to what that may have lost; and, where the block
// itself was on its way then, whether it arrived.
func (s *sender) attempt(body []byte, unknown bool) error {
	if !s.lost {
		return s.post(body)
	}
	if err := s.repeat(); err != nil {
		return err
	}
	if unknown {
		if has, err := s.has(body); has || err != nil {
			return err
		}
	}
	return s.post(body)
}

// refusal is an answer that will not change.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }

func (s *sender) post(body []byte) error {
	ctx, cancel := context.WithTimeout(s.ctx, sendTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, writePath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	address(req, s.server)
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	req.Header.Set("User-Agent", "pollux")
	anew := false
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { anew = !c.Reused }}))
	resp, err := s.client.Do(req)
	if err != nil {
		s.doubt()
		return err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if anew {
		s.doubt() // the one before may have ended with the server, which is there again
	}
	switch {
	case resp.StatusCode <= 299:
		return nil
	case resp.StatusCode == http.StatusBadGateway, resp.StatusCode == http.StatusServiceUnavailable, resp.StatusCode == http.StatusGatewayTimeout:
		s.doubt() // a proxy's word for a connection that failed
	case resp.StatusCode == http.StatusBadRequest, resp.StatusCode == http.StatusConflict,
		resp.StatusCode == http.StatusRequestEntityTooLarge, resp.StatusCode == http.StatusUnprocessableEntity:
		return &refusal{fmt.Errorf("status %d: %s", resp.StatusCode, bytes.TrimSpace(text))}
	}
	return fmt.Errorf("status %d: %s", resp.StatusCode, bytes.TrimSpace(text))
}

// keep remembers an acknowledged block for a while.
func (s *sender) keep(body []byte) {
	now := time.Now()
	s.recent = append(s.recent, sentBlock{now, bytes.Clone(body)})
	s.size += len(body)
	n := 0
	for n < len(s.recent) && (s.size > recentBytes || now.Sub(s.recent[n].at) > recentAge) {
		s.size -= len(s.recent[n].body)
		n++
	}
	s.recent = slices.Delete(s.recent, 0, n)
}

// doubt notes that the server may have died.
func (s *sender) doubt() {
	if n := len(s.recent); !s.lost && n > 0 {
		s.probe = s.recent[n-1]
	}
	s.lost = true
}

// repeat asks the server that may have died for the last sample that it acknowledged before. If that is gone, it died with samples
// in memory, and it gets those of the last seconds again.
func (s *sender) repeat() error {
	last := s.probe
	if last.body == nil {
		s.lost = false
		return nil
	}
	has, err := s.has(last.body)
	if young := visibleAfter - time.Since(last.at); err == nil && !has && young > 0 {
		if sleep(s.ctx, young); s.ctx.Err() != nil { // it does not show yet
			return s.ctx.Err()
		}
		has, err = s.has(last.body)
	}
	if err != nil {
		return err
	}
	if !has {
		s.log.Warn("metrics server came back without its last samples, they are sent again", "blocks", len(s.recent))
		for _, b := range s.recent {
			var no *refusal
			if err := s.post(b.body); err != nil && !errors.As(err, &no) {
				return err
			}
		}
	}
	s.lost, s.probe = false, sentBlock{}
	return nil
}

// has asks the server for the first and the last sample of a block.
func (s *sender) has(body []byte) (bool, error) {
	proto, err := snappy.Decode(nil, body)
	if err != nil {
		return false, fmt.Errorf("unpack block: %w", err)
	}
	u := prompb.GetWriteRequestUnmarshaler()
	defer prompb.PutWriteRequestUnmarshaler(u)
	wr, err := u.UnmarshalProtobuf(proto)
	if err != nil {
		return false, fmt.Errorf("unpack block: %w", err)
	}
	if len(wr.Timeseries) == 0 {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, probeWait)
	defer cancel()
	has, err := s.hasSample(ctx, &wr.Timeseries[len(wr.Timeseries)-1])
	if has && err == nil {
		has, err = s.hasSample(ctx, &wr.Timeseries[0])
	}
	return has, err
}

func (s *sender) hasSample(ctx context.Context, series *prompb.TimeSeries) (bool, error) {
	var match strings.Builder
	for _, l := range series.Labels {
		match.WriteString(map[bool]string{true: "{", false: ","}[match.Len() == 0] + l.Name + "=" + quote(l.Value))
	}
	match.WriteString("}")
	at := series.Samples[0].Timestamp
	points, err := s.query.export(ctx, match.String(), at, at, 1)
	return len(points) > 0, err
}
