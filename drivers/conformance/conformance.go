package conformance

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/script"
	"github.com/polluxhq/pollux/wasm"
)

// CallLimit is the deadline of each call that a probe makes. A node gives a call less to compute.
const CallLimit = 4 * time.Second

// DefaultSeed is drawn from where Options has no other.
const DefaultSeed = 1

// Options of a run. The zero value plays no scripts and draws from DefaultSeed.
type Options struct {
	// Scripts of the driver: what the device says in them is played to it, so more than refusals is seen.
	Scripts []*script.File
	// Seed is what everything is drawn from that goes by chance: the same seed, the same calls. 0: DefaultSeed.
	Seed uint64
}

// Run probes a file on a sandbox. It takes a second or a few, and returns an error only where ctx ended.
func Run(ctx context.Context, box *drivers.Sandbox, file []byte, o Options) (*Report, error) {
	sum := sha256.Sum256(file)
	r := &Report{Contract: drivers.Contract, Bytes: len(file), Digest: hex.EncodeToString(sum[:]), Seed: cmp.Or(o.Seed, DefaultSeed)}
	runner := r.load(ctx, box, file)
	if runner == nil {
		return r, ctx.Err()
	}
	defer func() { _ = runner.Close() }()
	p, err := newProber(ctx, box, runner, r)
	if err != nil {
		r.add("settings", "the settings' schema takes some settings", time.Now(), Failed, err.Error())
		return r, ctx.Err()
	}
	p.scripts = o.Scripts
	for _, probe := range probes {
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		began := time.Now()
		if p.hung {
			r.add(probe.name, probe.demand, began, Skipped, "a call before did not end")
			continue
		}
		outcome, detail := probe.run(p)
		r.add(probe.name, probe.demand, began, outcome, detail)
	}
	r.Calls, r.LongestMS = p.calls, float64(p.longest.Microseconds())/1000
	r.Conforms = r.Count(Failed) == 0
	return r, ctx.Err()
}

// load makes the probes of the file itself. It returns nil where the driver cannot be run.
func (r *Report) load(ctx context.Context, box *drivers.Sandbox, file []byte) drivers.Runner {
	began := time.Now()
	const module, manifest = "the module is within the limits, imports and exports what the contract says",
		"the manifest is there, complete and correct, and covers the imports"
	m, err := box.Verify(ctx, file)
	if err != nil {
		var wrong *drivers.ManifestError
		var refused *wasm.Refusal
		switch {
		case errors.As(err, &wrong), errors.Is(err, drivers.ErrNoManifest):
			r.add("module", module, began, Passed, "")
			r.add("manifest", manifest, began, Failed, err.Error())
		case errors.As(err, &refused):
			r.add("module", module, began, Failed, err.Error())
		default:
			r.add("module", module, began, Passed, "")
			r.add("manifest", manifest, began, Passed, "")
			r.add("start", "the start-up code ends, within its memory", began, Failed, err.Error())
		}
		return nil
	}
	r.Driver, r.Version = m.Name, m.Version
	r.add("module", module, began, Passed, "")
	r.add("manifest", manifest, began, Passed, m.Name+" "+m.Version)
	began = time.Now()
	runner, err := box.Load(ctx, file)
	if err != nil {
		r.add("start", "the start-up code ends, within its memory", began, Failed, err.Error())
		return nil
	}
	r.add("start", "the start-up code ends, within its memory", began, Passed, "")
	r.unused(m, file)
	return runner
}

// unused looks for capabilities that the manifest asks for and the module does not import.
func (r *Report) unused(m *drivers.Manifest, file []byte) {
	const name, demand = "capabilities", "it asks for no more than it uses"
	began := time.Now()
	imported, err := drivers.Imports(file)
	if err != nil {
		r.add(name, demand, began, Skipped, "the file has no import list")
		return
	}
	var idle []string
	for _, c := range m.Capabilities {
		if !imported[c] {
			idle = append(idle, c)
		}
	}
	if len(idle) > 0 {
		r.add(name, demand, began, Warned, "the manifest asks for "+strings.Join(idle, ", ")+", which the module does not import")
		return
	}
	r.add(name, demand, began, Passed, fmt.Sprintf("%d capabilities", len(m.Capabilities)))
}
