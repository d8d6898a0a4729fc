// Package topictest checks what readers of a topic's channel are given.
package topictest

import (
	"fmt"
	"strconv"
	"sync"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Checker watches the readers of one channel whose messages of a key carry 1, 2, 3 … as payload, and are given one at a time: a
// message is with one reader, one of a key at a time, and none is left out. Safe for concurrent use.
type Checker struct {
	mu    sync.Mutex
	holds map[uint64]string // who has a message that he has not settled
	keys  map[string]uint64 // the message of a key that is held
	done  map[string]int    // the highest number of each key that was settled
	seen  map[string]bool
	count int
	wrong []string
}

// New makes a checker.
func New() *Checker {
	return &Checker{holds: map[uint64]string{}, keys: map[string]uint64{}, done: map[string]int{}, seen: map[string]bool{}}
}

// Came: a reader was given a message.
func (c *Checker) Came(reader string, m *pb.TopicMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fail := func(format string, args ...any) { c.wrong = append(c.wrong, fmt.Sprintf(format, args...)) }
	if other := c.holds[m.Offset]; other != "" && other != reader {
		fail("%d was given to %s while %s holds it", m.Offset, reader, other)
	}
	if at := c.keys[m.Key]; at != 0 && at != m.Offset {
		fail("%d of key %s was given while %d is held", m.Offset, m.Key, at)
	}
	n, _ := strconv.Atoi(string(m.Payload))
	// What was settled may come again where the answer was lost; nothing may be left out.
	if n > c.done[m.Key]+1 {
		fail("key %s: %d after %d", m.Key, n, c.done[m.Key])
	}
	c.holds[m.Offset], c.keys[m.Key] = reader, m.Offset
	c.seen[seenKey(m.Key, n)] = true
	c.count++
}

func seenKey(key string, n int) string { return fmt.Sprintf("%s/%d", key, n) }

// Settles: the reader is about to settle a message, and so does not hold it any more.
func (c *Checker) Settles(m *pb.TopicMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.holds, m.Offset)
	if c.keys[m.Key] == m.Offset {
		delete(c.keys, m.Key)
	}
	n, _ := strconv.Atoi(string(m.Payload))
	c.done[m.Key] = max(c.done[m.Key], n)
}

// Left: a reader's stream is over, and so it holds nothing.
func (c *Checker) Left(reader string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, who := range c.holds {
		if who != reader {
			continue
		}
		delete(c.holds, at)
		for key, held := range c.keys {
			if held == at {
				delete(c.keys, key)
			}
		}
	}
}

// Done is the highest number of a key that was settled.
func (c *Checker) Done(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done[key]
}

// Count says how often messages were given in all, repetitions included.
func (c *Checker) Count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// Wrong lists what was wrong, and which of the messages 1 to n of each key were never read.
func (c *Checker) Wrong(sent map[string]int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := append([]string{}, c.wrong...)
	for key, n := range sent {
		for i := 1; i <= n; i++ {
			if !c.seen[seenKey(key, i)] {
				all = append(all, fmt.Sprintf("key %s: %d of %d was never read", key, i, n))
			}
		}
	}
	return all
}
