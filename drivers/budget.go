package drivers

// Quota is something that drivers may do so often over time.
type Quota int

// The quotas.
const (
	QuotaCalls  Quota = iota // calls of capabilities, of whichever kind
	QuotaSends               // send, request, publish, http, call
	QuotaLogs                // lines of the twin's log
	QuotaEvents              // emit
	QuotaState               // bytes of state that are written; no call is refused for it
	Quotas                   // how many there are
)

// String names the quota.
func (q Quota) String() string {
	return [...]string{"calls", "sends", "logs", "events", "state", "quota"}[min(max(q, 0), Quotas)]
}

// Budget is what the quotas of a twin and of its driver have left for one call: the call spends it, and is refused with -5
// where there is nothing left. It belongs to the call until that has returned.
type Budget struct {
	// Left of each quota.
	Left [Quotas]int
	// Used and Refused count what the call did, and what it was refused.
	Used, Refused [Quotas]int
}

// take spends one of a quota, and says whether there was one. A nil Budget has no bound.
func (b *Budget) take(q Quota) bool {
	if b == nil {
		return true
	}
	if b.Left[q] <= 0 {
		b.Refused[q]++
		return false
	}
	b.Left[q]--
	b.Used[q]++
	return true
}
