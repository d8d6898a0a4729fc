package actors

import (
	"bytes"
	"regexp"
	"slices"
	"sync"
)

// masking hides a twin's secrets in what is traced. Safe for concurrent use.
type masking struct {
	secrets [][]byte // the longest first, so that none is shown in part because it holds another
	// computed match what a driver makes of secrets in what it sends.
	computed []*regexp.Regexp
	mu       sync.Mutex
	held     []byte
}

func newMasking(texts []string) *masking {
	m := &masking{}
	for _, s := range texts {
		if s != "" {
			m.secrets = append(m.secrets, []byte(s))
		}
	}
	slices.SortFunc(m.secrets, func(a, b []byte) int { return len(b) - len(a) })
	return m
}

// whole masks what is complete. The result is the caller's.
func (m *masking) whole(data []byte) []byte {
	shown, rest := m.mask(data, false)
	return append(shown, rest...)
}

// sent masks what was computed from secrets in a whole frame.
func (m *masking) sent(frame []byte) []byte {
	for _, re := range m.computed {
		frame = re.ReplaceAllLiteral(frame, []byte(secretMask))
	}
	return frame
}

// stream masks a chunk of a stream. An end that may be the beginning of a secret is held back until the next chunk tells.
func (m *masking) stream(chunk []byte) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	shown, rest := m.mask(append(m.held, chunk...), true)
	m.held = bytes.Clone(rest)
	return shown
}

// end forgets what is held back because its stream ends, and says whether that was something.
func (m *masking) end() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := len(m.held) > 0
	m.held = nil
	return held
}

// mask gives the data masked; where it goes on, rest is the end that may be the beginning of a secret.
func (m *masking) mask(data []byte, goesOn bool) (shown, rest []byte) {
	shown = make([]byte, 0, len(data))
next:
	for i := 0; i < len(data); {
		for _, s := range m.secrets {
			if bytes.HasPrefix(data[i:], s) {
				shown = append(shown, secretMask...)
				i += len(s)
				continue next
			}
			if goesOn && bytes.HasPrefix(s, data[i:]) {
				return shown, data[i:]
			}
		}
		shown = append(shown, data[i])
		i++
	}
	return shown, nil
}
