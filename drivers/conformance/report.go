// Package conformance runs a driver through what the contract twin1 demands of every module, and reports what it does not
// meet. It plays a twin and its device: no network, no node.
package conformance

import "time"

// Outcome of a probe.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Warned  Outcome = "warned"  // allowed, but its author should know
	Skipped Outcome = "skipped" // does not apply to this driver, or could not be tried
)

// Probe is what one demand came to.
type Probe struct {
	Name    string  `json:"name"`
	Demand  string  `json:"demand"`
	Outcome Outcome `json:"outcome"`
	// Detail says what was seen, and where it failed.
	Detail string  `json:"detail,omitempty"`
	Millis float64 `json:"ms"`
}

// Report of a file. It conforms when nothing failed.
type Report struct {
	Driver   string `json:"driver,omitempty"`
	Version  string `json:"version,omitempty"`
	Contract string `json:"contract"`
	Bytes    int    `json:"bytes"`
	Digest   string `json:"sha256"`
	Conforms bool   `json:"conforms"`
	// Seed of the mutated frames: with it the same frames come again.
	Seed   uint64  `json:"seed"`
	Probes []Probe `json:"probes"`
	// Reports and events that were held against the model, and how many tests of the driver's scripts were played for that.
	Reports   int `json:"reports"`
	Rehearsed int `json:"rehearsed"`
	// Calls of the driver that were made, and the longest of them.
	Calls     int     `json:"calls"`
	LongestMS float64 `json:"longest_ms"`
}

// Count of the probes with that outcome.
func (r *Report) Count(o Outcome) int {
	n := 0
	for _, p := range r.Probes {
		if p.Outcome == o {
			n++
		}
	}
	return n
}

func (r *Report) add(name, demand string, began time.Time, o Outcome, detail string) {
	r.Probes = append(r.Probes, Probe{Name: name, Demand: demand, Outcome: o, Detail: detail,
		Millis: float64(time.Since(began).Microseconds()) / 1000})
}
