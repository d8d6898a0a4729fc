package pollux

import "testing"

// TestLogBound: a log that a follower holds must not make a snapshot every few seconds that lets nothing go.
func TestLogBound(t *testing.T) {
	var b logBound
	for i, step := range []struct {
		size, left int64
		due        bool
	}{
		{logBytes - 1, 0, false},
		{logBytes, 20 << 20, true}, // it let most go
		{logBytes - 1, 0, false},
		{logBytes, logBytes, true}, // it let nothing go
		{logBytes + 1, 0, false},
		{logBytes + logGrowth - 1, 0, false},
		{logBytes + logGrowth, logBytes + logGrowth, true},
		{logBytes + logGrowth, 0, false},
		{logBytes / 2, 0, false}, // the follower has it
		{logBytes, 0, true},
	} {
		if got := b.due(step.size); got != step.due {
			t.Errorf("step %d: due %v at %d bytes", i, got, step.size)
		}
		if step.due {
			b.left = step.left
		}
	}
}
