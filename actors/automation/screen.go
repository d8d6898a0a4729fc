package automation

import (
	"slices"

	"github.com/polluxhq/pollux/actors/expr"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// screen spares a rule what can change nothing: a twin evaluates the rule's condition itself, where that reads nothing but the change, and so says the same
// wherever and whenever it is evaluated. It tells the rule of a change only where the condition holds, or did when the rule was told last. What a rule is
// not told of has no effect: it was told that the condition does not hold, is not active, and waits for nothing. The rule decides; the screen only ever
// leaves out.
type screen struct {
	cond, until *program
	// quiet: the rule was told that the condition does not hold, and has nothing under way for the twin.
	quiet bool
}

// changeWords are those of a change.
var changeWords = []string{"value", "previous", "name", "kind", "time"}

// ofChange says whether an expression reads nothing but the change.
func (x *program) ofChange() bool {
	u := x.Uses()
	return !x.past && len(x.aggregates) == 0 && !u.Now && !u.All && !slices.ContainsFunc(u.Words, func(w string) bool { return !slices.Contains(changeWords, w) })
}

// screen gives a rule's for one twin; nil where every change may count.
func (p *programs) screen(m *pb.Rule) *screen {
	if m.If == "" || m.Together || m.AtLeast > 0 || slices.ContainsFunc(m.When, func(t *pb.Trigger) bool { return t.GetProperty() == nil }) {
		return nil
	}
	s := &screen{}
	for source, to := range map[string]**program{m.If: &s.cond, m.Until: &s.until} {
		if source == "" {
			continue
		}
		x, err := p.compile(source)
		if err != nil || !x.ofChange() {
			return nil
		}
		*to = x
	}
	if m.Until == m.If {
		return nil
	}
	return s
}

// Spare says that a change need not be told to the rule. Otherwise told is called when it was.
func (l *Listener) Spare(in *expr.Input) (spare bool, told func()) {
	s := l.screen
	if s == nil {
		return false, func() {}
	}
	holds, err := s.cond.Holds(in)
	idle := err == nil && !holds
	if idle && s.until != nil && !s.quiet {
		over, err := s.until.Holds(in)
		idle = err == nil && over
	}
	if idle && s.quiet {
		return true, nil
	}
	return false, func() { s.quiet = idle }
}
