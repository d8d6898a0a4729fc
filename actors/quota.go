package actors

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

// Rate is how often something may be done over time: PerSecond in the long run, Burst at once.
type Rate struct{ PerSecond, Burst int }

// Quotas are the rates of what drivers do, by drivers.Quota.
type Quotas [drivers.Quotas]Rate

// Defaults are far above what an honest driver does, and low enough that one which does not stop leaves the node to others.
var (
	twinQuotas = Quotas{drivers.QuotaCalls: {200_000, 400_000}, drivers.QuotaSends: {5_000, 10_000}, drivers.QuotaLogs: {20, 500},
		drivers.QuotaEvents: {500, 5_000}, drivers.QuotaState: {64 << 10, 1 << 20}}
	driverQuotas = Quotas{drivers.QuotaCalls: {2_000_000, 4_000_000}, drivers.QuotaSends: {100_000, 200_000}, drivers.QuotaLogs: {1_000, 10_000},
		drivers.QuotaEvents: {20_000, 100_000}, drivers.QuotaState: {64 << 20, 512 << 20}}
)

// sendsAfterFailure bounds what a call may send to the device after the one before it failed: what it sends cannot be taken
// back, and it may send the same for ever.
const sendsAfterFailure = 16

// meter measures the use of each quota: a bucket of Burst tokens, which fills by PerSecond. It holds when the bucket will be
// full, in nanoseconds of the engine's clock. Safe for concurrent use; the zero meter is full.
type meter [drivers.Quotas]atomic.Int64

// left is how many tokens there are now; less than 0 where more was used than there was.
func (m *meter) left(q drivers.Quota, now int64, r Rate) int {
	if m == nil {
		return r.Burst
	}
	missing := m[q].Load() - now
	if missing <= 0 {
		return r.Burst
	}
	each := int64(time.Second) / int64(r.PerSecond)
	return r.Burst - int((missing+each-1)/each)
}

func (m *meter) spend(q drivers.Quota, n int, now int64, r Rate) {
	cost := int64(n) * (int64(time.Second) / int64(r.PerSecond))
	for {
		full := m[q].Load()
		if m[q].CompareAndSwap(full, max(full, now)+cost) {
			return
		}
	}
}

// overuse is what a twin's driver was refused.
type overuse struct {
	refused [drivers.Quotas]uint64
	// untold were refused since the twin's log told of it, at told by nowMS.
	untold [drivers.Quotas]uint64
	told   int64
}

// overuseEvery is how often the twin's log tells of it, in milliseconds.
const overuseEvery = 60_000

// allot gives a call what is left of the quotas.
func (t *twin) allot(b *drivers.Budget) {
	now := t.e.now().UnixNano()
	for q := range drivers.Quotas {
		b.Left[q] = min(t.meter.left(q, now, t.e.o.TwinQuotas[q]), t.spec.meter.left(q, now, t.e.o.DriverQuotas[q]))
	}
	if t.failures > 0 {
		b.Left[drivers.QuotaSends] = min(b.Left[drivers.QuotaSends], sendsAfterFailure)
	}
}

// charge takes what a call used out of the quotas, and shows what it was refused.
func (t *twin) charge(b *drivers.Budget, s *spec) {
	now := t.e.now().UnixNano()
	over := false
	for q := range drivers.Quotas {
		if b.Used[q] > 0 {
			t.spend(s, q, b.Used[q], now)
		}
		if n := b.Refused[q]; n > 0 {
			over = true
			t.overused(s, q, n)
		}
	}
	if over && t.nowMS()-t.over.told >= overuseEvery {
		t.note("warn", "over quota: "+t.over.text()+" refused")
		t.over.untold, t.over.told = [drivers.Quotas]uint64{}, t.nowMS()
	}
}

// spend takes what was used out of the quotas of the twin and its driver.
func (t *twin) spend(s *spec, q drivers.Quota, n int, now int64) {
	if t.meter == nil {
		t.meter = &meter{}
	}
	t.meter.spend(q, n, now, t.e.o.TwinQuotas[q])
	s.meter.spend(q, n, now, t.e.o.DriverQuotas[q])
}

func (t *twin) overused(s *spec, q drivers.Quota, n int) {
	if t.over == nil {
		t.over = &overuse{told: -overuseEvery}
	}
	t.over.refused[q] += uint64(n)
	t.over.untold[q] += uint64(n)
	t.e.stats.overuse(s.name, q, n)
}

// lavish says whether the twin or its driver has written so much state that what is written behind has to wait for the
// longest interval.
func (t *twin) lavish() bool {
	if t.meter == nil || t.spec == nil {
		return false
	}
	now, q := t.e.now().UnixNano(), drivers.QuotaState
	return t.meter.left(q, now, t.e.o.TwinQuotas[q]) <= 0 || t.spec.meter.left(q, now, t.e.o.DriverQuotas[q]) <= 0
}

// behind is for how long values that are written behind wait now.
func (t *twin) behind() int64 {
	if t.lavish() {
		return t.e.o.CheckpointMax.Milliseconds()
	}
	return t.e.interval.get()
}

func (o *overuse) text() string {
	var parts []string
	for q, n := range o.untold {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, drivers.Quota(q)))
		}
	}
	return strings.Join(parts, ", ")
}

// proto is what the twin's driver was refused, for the API.
func (o *overuse) proto() map[string]uint64 {
	if o == nil {
		return nil
	}
	out := map[string]uint64{}
	for q, n := range o.refused {
		if n > 0 {
			out[drivers.Quota(q).String()] = n
		}
	}
	return out
}
