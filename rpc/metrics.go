package rpc

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/VictoriaMetrics/metrics"
)

// codes: 0 is ok, then connect's 1 to 16.
const codeCount = 17

// callCounters count calls per procedure and code. A series appears with its first call; counting takes no lock.
type callCounters struct {
	set         *metrics.Set
	byProcedure map[string]*procedureCounters
	other       *metrics.Counter
	streams     atomic.Int64
}

type procedureCounters struct {
	name    string
	codes   [codeCount]atomic.Pointer[metrics.Counter]
	seconds atomic.Pointer[metrics.Histogram]
}

func newCallCounters(set *metrics.Set, table map[string]procedure) *callCounters {
	c := &callCounters{
		set:         set,
		byProcedure: make(map[string]*procedureCounters, len(table)),
		other:       set.GetOrCreateCounter(`pollux_rpc_calls_total{procedure="other",code="permission_denied"}`),
	}
	for procedure := range table {
		c.byProcedure[procedure] = &procedureCounters{name: strings.TrimPrefix(procedure, "/")}
	}
	set.GetOrCreateGauge(`pollux_rpc_streams`, func() float64 { return float64(c.streams.Load()) })
	return c
}

// count takes 0 for calls whose time says nothing.
func (c *callCounters) count(procedure string, err error, took time.Duration) {
	row := c.byProcedure[procedure]
	if row == nil {
		c.other.Inc()
		return
	}
	code := 0
	if err != nil {
		code = int(connect.CodeOf(err))
	}
	if code < 0 || code >= codeCount {
		code = int(connect.CodeUnknown)
	}
	counter := row.codes[code].Load()
	if counter == nil {
		counter = c.set.GetOrCreateCounter(fmt.Sprintf(`pollux_rpc_calls_total{procedure=%q,code=%q}`, row.name, codeName(code)))
		row.codes[code].Store(counter)
	}
	counter.Inc()
	if took <= 0 {
		return
	}
	seconds := row.seconds.Load()
	if seconds == nil {
		seconds = c.set.GetOrCreateHistogram(fmt.Sprintf(`pollux_rpc_call_seconds{procedure=%q}`, row.name))
		row.seconds.Store(seconds)
	}
	seconds.Update(took.Seconds())
}

func codeName(code int) string {
	if code == 0 {
		return "ok"
	}
	return connect.Code(code).String()
}
