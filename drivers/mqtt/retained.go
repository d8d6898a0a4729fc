package mqtt

import "sync"

// retained counts what mochi keeps for later subscribers.
type retained struct {
	mu                 sync.Mutex
	sizes              map[string]int
	bytes              int
	maxCount, maxTotal int
}

func (r *retained) init(l Limits) {
	r.sizes, r.maxCount, r.maxTotal = map[string]int{}, l.Retained, l.RetainedBytes
}

// room says whether a message may be retained. An empty one removes, and may always. Two at once may go a little over.
func (r *retained) room(topic string, payload int) bool {
	if payload == 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old, known := r.sizes[topic]
	return (known || len(r.sizes) < r.maxCount) && r.bytes-old+retainedSize(topic, payload) <= r.maxTotal
}

// set records that the topic's message is now of so many bytes; 0: none.
func (r *retained) set(topic string, payload int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes -= r.sizes[topic]
	if payload == 0 {
		delete(r.sizes, topic)
		return
	}
	size := retainedSize(topic, payload)
	r.sizes[topic] = size
	r.bytes += size
}

func (r *retained) usage() (count, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sizes), r.bytes
}

// retainedSize guesses mochi's cost of a retained message: a packet of its and a node of the index.
func retainedSize(topic string, payload int) int { return 2048 + 2*len(topic) + payload }
