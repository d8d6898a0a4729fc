package actors_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
)

const lostPassword = "correct-horse-battery"

// wordy is a driver that tells too much, in a language with umlauts.
type wordy struct {
	drivers.Runner
	pad *atomic.Int32
}

func (w wordy) Handle(ctx context.Context, c drivers.Call, h drivers.Host) (drivers.Effects, error) {
	if c.Event != drivers.EventCommand {
		return drivers.Effects{}, nil
	}
	text := lostPassword + strings.Repeat(".", int(w.pad.Load())) + strings.Repeat("ü", 2000)
	h.Log("warn", text)
	if strings.Contains(string(c.Input), "panic") {
		return drivers.Effects{}, errors.New(text)
	}
	return drivers.Effects{}, &drivers.DriverError{Code: 7, Message: text}
}

// What a driver says is shown in whole characters, or nobody could be told of the twin, and of those beside it in a list;
// and without the settings' secrets.
func TestWhatADriverSaysIsShown(t *testing.T) {
	var pad atomic.Int32
	n := newNode(t, func(o *actors.Options) {
		load := o.Drivers
		o.Drivers = func(ctx context.Context, digest string) (drivers.Runner, error) {
			r, err := load(ctx, digest)
			return wordy{r, &pad}, err
		}
	})
	n.driver("probe", "1.0.0", "")
	shown := func(what, text string) {
		t.Helper()
		if !utf8.ValidString(text) || !strings.Contains(text, "üü") || strings.Contains(text, lostPassword) {
			t.Errorf("%s shows %.80q…%q", what, text, text[max(0, len(text)-8):])
		}
	}
	for _, id := range []string{"a", "b"} {
		n.twin(`{"id":"` + id + `","driver":"probe","settings":{"secret":"` + lostPassword + `"}}`)
		k := n.ended(id, n.queue(id, "fail", `{"text":"no"}`, nil))
		shown("the refused command", k.Message)
		_, err := n.invoke(id, "panic", "")
		if err == nil {
			t.Fatal("the driver did not crash")
		}
		shown("the caller's error", err.Error())
		st := n.state(id)
		shown("the fault", st.Status.Fault)
		if _, err := proto.Marshal(st); err != nil {
			t.Errorf("the twin cannot be told of: %v", err)
		}
		shown("the log", n.logs(id))
		pad.Store(1) // the cut falls into a letter with it, or without it
	}
}
