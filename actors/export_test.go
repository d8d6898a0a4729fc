package actors

// Crash has a turn of a twin panic that has taken the first event and the first command in hand.
func (e *Engine) Crash(id string) { e.activate(id, crash{}) }

type crash struct{}

func (crash) run(t *twin) {
	if w := t.work; w != nil {
		if len(w.events) > 0 {
			w.popEvent()
		}
		if len(w.commands) > 0 {
			w.take(0)
		}
		w.call = nil
	}
	panic("as the test wished")
}
