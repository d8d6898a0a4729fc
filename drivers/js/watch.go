package js

import (
	"strings"
	"time"

	"github.com/polluxhq/pollux/wasm"
)

// Of a call's time so much is kept to say where it was: twice as long as the engine took at most between two questions,
// within bounds. It asks every 10,000 steps or so, 0.3 ms of a tight loop where nothing else runs.
const (
	keepLeast = 10 * time.Millisecond
	keepMost  = 50 * time.Millisecond
)

// Watch is what the host knows of a running call that may not end by itself. The instance's Data is to have one, as a
// Watched.
type Watch struct {
	// Frames are the functions of the author that a stopped call was in, innermost first, such as "poll (lamp.js:12:5)".
	Frames []string

	looked time.Time     // when the engine asked last
	most   time.Duration // between two questions
	over   bool          // the engine was told to stop the call
}

// Watched is what Instance.Data is to be while the engine runs.
type Watched interface{ Watching() *Watch }

// Watching implements Watched.
func (w *Watch) Watching() *Watch { return w }

// HostModule has the functions that the engine imports beside those of the contract. A driver's module may not import
// them.
func HostModule() wasm.HostModule {
	return wasm.HostModule{Name: "js", Functions: []wasm.HostFunction{
		// overdue says whether the engine shall throw what no script catches. A script that goes on all the same, in a
		// function of the engine that does not ask, is ended by its fuel.
		{Name: "overdue", Signature: wasm.Signature{Results: []wasm.ValueType{wasm.I32}}, Call: func(in *wasm.Instance, stack []uint64) {
			stack[0] = 0
			if w, ok := in.Data.(Watched); ok && w.Watching().overdue(in) {
				stack[0] = 1
			}
		}},
		// stopped takes the frames of the call that overdue ended. It does not return.
		{Name: "stopped", Signature: wasm.Signature{Params: []wasm.ValueType{wasm.I32, wasm.I32}}, Call: func(in *wasm.Instance, stack []uint64) {
			if text, ok := in.Read(uint32(stack[0]), uint32(stack[1])); ok {
				if w, ok := in.Data.(Watched); ok {
					w.Watching().stopped(string(text))
				}
			}
			in.Exhaust()
		}},
	}}
}

// Imports are the functions of HostModule, as a rule for the engine.
func Imports() (module string, functions map[string]wasm.ImportRule) {
	host := HostModule()
	functions = map[string]wasm.ImportRule{}
	for _, f := range host.Functions {
		functions[f.Name] = wasm.ImportRule{Signature: f.Signature}
	}
	return host.Name, functions
}

func (w *Watch) overdue(in *wasm.Instance) bool {
	deadline, ok := in.Context().Deadline()
	if !ok {
		return false
	}
	now := time.Now()
	if !w.looked.IsZero() {
		w.most = max(w.most, now.Sub(w.looked))
	}
	w.looked = now
	w.over = deadline.Sub(now) <= min(max(2*w.most, keepLeast), keepMost)
	return w.over
}

// Bounds of what is kept of a stack: frames, and bytes of each.
const (
	maxFrames     = 16
	maxFrameBytes = 200
)

func (w *Watch) stopped(stack string) {
	for line := range strings.Lines(stack) {
		frame := strings.TrimPrefix(strings.TrimSpace(line), "at ")
		if frame == "" {
			continue
		}
		if len(w.Frames) == maxFrames {
			w.Frames = append(w.Frames, "…")
			return
		}
		w.Frames = append(w.Frames, strings.ToValidUTF8(frame[:min(len(frame), maxFrameBytes)], "\uFFFD"))
	}
}
