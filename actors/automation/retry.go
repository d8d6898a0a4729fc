package automation

import (
	"slices"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// What an action that says nothing of it is tried again with.
const (
	defaultAttempts = 4
	defaultInitial  = 200 * time.Millisecond
	defaultMaximum  = 10 * time.Second
)

// Verdict is what an error of an action means. Nothing set: the same would fail again.
type Verdict struct {
	// Busy: it did not begin, and may in a moment. Unknown: nobody knows whether it was done. Refused: its target refused it, it was not done. Silent:
	// its target did not answer in time.
	Busy, Unknown, Refused, Silent bool
}

func (v Verdict) or(x Verdict) Verdict {
	return Verdict{v.Busy || x.Busy, v.Unknown || x.Unknown, v.Refused || x.Refused, v.Silent || x.Silent}
}

// attempts is how often an action is tried in all.
func attempts(p *pb.Retry) uint32 {
	if p.GetAttempts() == 0 {
		return defaultAttempts
	}
	return p.Attempts
}

// retries says whether an action is tried again after a failure.
func retries(p *pb.Retry, v Verdict) bool {
	if len(p.GetOn()) == 0 {
		return v.Busy || v.Unknown
	}
	return slices.ContainsFunc(p.On, func(on pb.RetryOn) bool {
		switch on {
		case pb.RetryOn_RETRY_ON_BUSY:
			return v.Busy
		case pb.RetryOn_RETRY_ON_UNKNOWN:
			return v.Unknown
		case pb.RetryOn_RETRY_ON_REFUSED:
			return v.Refused
		case pb.RetryOn_RETRY_ON_TIMEOUT:
			return v.Silent
		}
		return on == pb.RetryOn_RETRY_ON_ANY
	})
}

// backOff is the wait after so many tries: it doubles.
func backOff(p *pb.Retry, tries uint32) time.Duration {
	initial := p.GetInitial().AsDuration()
	if initial == 0 {
		initial = defaultInitial
	}
	most := p.GetMaximum().AsDuration()
	if most == 0 {
		most = max(defaultMaximum, initial)
	}
	return min(initial<<min(max(tries, 1)-1, 20), most)
}
