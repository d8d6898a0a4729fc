package peer

// lag knows how much longer than others a batch was on its way, since the clocks of two nodes cannot be compared: this
// process, or the other, may have stood still with the batch in a socket.
type lag struct {
	seen  bool
	least int64 // of arrival minus sending, microseconds
	at    uint64
	now   uint64 // of the present batch
}

// lagFree is how much lateness is ignored, and driftParts how fast clocks may drift apart: one part in that many.
const (
	lagFree    = 50_000 // µs
	driftParts = 1000
)

func (l *lag) see(sent, arrived uint64) {
	d := int64(arrived) - int64(sent)
	if !l.seen {
		l.seen, l.least, l.at = true, d, arrived
	}
	l.least = min(d, l.least+int64(arrived-l.at)/driftParts)
	if step := (arrived - l.at) / driftParts; step > 0 {
		l.at = arrived
	}
	l.now = 0
	if late := d - l.least; late > lagFree {
		l.now = uint64(late)
	}
}
