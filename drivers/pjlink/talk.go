package main

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
)

// A projector answers one command after the other, and its answers carry no number. So one command is on the line at a
// time; the others wait in Memory.Queue. No call waits: an answer comes as an event of its own.

const (
	// everything, as Memory.Wants, is met when nothing more is to be asked.
	everything = "*"
	// answerTime is how long an answer may take; after it the line is thought to be free again.
	answerTime = 3 * time.Second
	// laterTime is how long a desired value waits for the projector to be on: as long as one is valid by default.
	laterTime = 30 * time.Second
	// settleTime is how often the power is asked for while the projector warms up or cools down.
	settleTime = 2 * time.Second
)

// always is asked at each poll; whenOn only of a projector that is on: in standby it refuses. once: at connecting, and
// again as long as it is not answered.
var (
	always = []string{"POWR ?", "LAMP ?", "ERST ?"}
	whenOn = []string{"INPT ?", "AVMT ?"}
	once   = []string{"CLSS ?", "NAME ?", "INF1 ?", "INF2 ?", "INFO ?", "INST ?"}
)

// hangUp forgets a conversation whose connection is gone.
func hangUp(m *Memory) {
	*m = Memory{Inputs: m.Inputs}
}

// say sends the next command of the queue, if the line is free.
func say(t *Twin) error {
	m := t.Memory()
	if !m.Ready || m.Asked != "" || len(m.Queue) == 0 {
		return nil
	}
	command := m.Queue[0]
	m.Queue = m.Queue[1:]
	if err := t.Send([]byte(m.Digest + "%1" + command + "\r")); err != nil {
		return err
	}
	m.Digest, m.Asked, m.AskedAt = "", command, time.Now().UnixMilli()
	return nil
}

// free clears the line of a command that will not be answered any more: it was given up by its caller, whose call is
// over when another begins, or its time is over. What was queued behind it to be done is not done late.
func free(m *Memory, newCall bool) {
	if m.Asked == "" {
		return
	}
	givenUp := newCall && m.Asked == m.Wants
	if givenUp || time.Now().UnixMilli()-m.AskedAt > answerTime.Milliseconds() {
		m.Asked = ""
		m.Queue = slices.DeleteFunc(m.Queue, isOrder)
	}
}

func isOrder(command string) bool { return !strings.HasSuffix(command, " ?") }

// ask queues questions that are not queued yet, and says the first if the line is free. Without a connection it does
// nothing.
func ask(t *Twin, questions ...string) error {
	m := t.Memory()
	if !m.Ready {
		return nil
	}
	free(m, false)
	for _, q := range questions {
		if !slices.Contains(m.Queue, q) && m.Asked != q && !slices.Contains(m.Lacks, q[:4]) {
			m.Queue = append(m.Queue, q)
		}
	}
	err := say(t)
	if errors.Is(err, twin.ErrDisconnected) {
		return nil // the event that says so comes next
	}
	return err
}

// order begins a command that changes the projector: it goes before all that is queued.
func order(t *Twin, command string) error {
	m := t.Memory()
	if !m.Ready {
		return &twin.Error{Code: codeOffline, Message: "the projector has not greeted yet", Retryable: true}
	}
	free(m, true)
	m.Queue = slices.DeleteFunc(m.Queue, isOrder)
	m.Queue = slices.Insert(m.Queue, 0, command)
	m.Wants = command
	return pending(say(t))
}

// orderWhenOn is order for a desired value: while the projector warms up it would refuse, so the command waits until it
// is on. The twin's call may be over by then; what is asked of the property is not.
func orderWhenOn(t *Twin, command string) error {
	m := t.Memory()
	if !m.Ready || powerState(t) != "warming" {
		return order(t, command)
	}
	free(m, true)
	m.Queue = slices.DeleteFunc(m.Queue, isOrder)
	m.Later = slices.DeleteFunc(m.Later, func(c string) bool { return c[:6] == command[:6] || c[:4] == "INPT" && command[:4] == "INPT" })
	m.Later = append(m.Later, command)
	m.LaterUntil = time.Now().Add(laterTime).UnixMilli()
	m.Wants = command
	return pending(ask(t, "POWR ?"))
}

// takeLater gives what waited for the projector to be on, unless that is too long ago.
func takeLater(m *Memory) []string {
	later := m.Later
	m.Later = nil
	if time.Now().UnixMilli() > m.LaterUntil {
		return nil
	}
	return later
}

func refresh(t *Twin) error {
	m := t.Memory()
	if !m.Ready {
		return &twin.Error{Code: codeOffline, Message: "the projector has not greeted yet", Retryable: true}
	}
	free(m, true)
	m.Wants = everything
	m.Lacks = nil
	return pending(ask(t, slices.Concat(once, always, whenOnIf(t))...))
}

// pending turns the outcome of sending into that of the command.
func pending(err error) error {
	switch {
	case err == nil:
		return twin.ErrPending
	case errors.Is(err, twin.ErrDisconnected):
		return &twin.Error{Code: codeOffline, Message: "the projector is not connected", Retryable: true}
	}
	return err
}

func poll(t *Twin) error {
	questions := slices.Concat(always, whenOnIf(t))
	for _, q := range once {
		known := t.Property(factNames[q[:4]]) != nil
		if q == "INST ?" {
			known = len(t.Memory().Inputs) > 0
		}
		if !known {
			questions = append(questions, q)
		}
	}
	return ask(t, questions...)
}

func whenOnIf(t *Twin) []string {
	if powerState(t) == "on" {
		return whenOn
	}
	return nil
}

// hear takes one line of the projector. It says whether that decided the pending call; an error refuses it.
func hear(t *Twin, frame []byte) (decided bool, err error) {
	l, err := parseLine(frame)
	if err != nil {
		t.Log("debug", "passed over a line that is not PJLink")
		return false, nil
	}
	if l.greeting {
		return false, greeted(t, l)
	}
	m := t.Memory()
	command, arg, _ := strings.Cut(m.Asked, " ")
	mine := command == l.command && (isError(l.value) || (arg != "?") == (l.value == "OK"))
	if !isError(l.value) && l.value != "OK" {
		apply(t, l)
	}
	if !mine {
		return false, nil // late, or never asked for
	}
	asked := m.Asked
	m.Asked = ""
	if isOrder(asked) {
		decided = m.Wants == asked
		if err := refusal(asked, l.value); err != nil {
			if decided {
				return true, err
			}
		} else {
			// What it did is asked for at once.
			m.Queue = slices.Insert(m.Queue, 0, command+" ?")
		}
	} else if l.value == "ERR1" && !slices.Contains(m.Lacks, command) {
		m.Lacks = append(m.Lacks, command)
		describe(t)
	}
	if m.Wants == everything && len(m.Queue) == 0 {
		decided = true
	}
	if decided {
		m.Wants = ""
	}
	if err := say(t); err != nil && !errors.Is(err, twin.ErrDisconnected) {
		return decided, err
	}
	return decided, nil
}

func greeted(t *Twin, l line) error {
	m := t.Memory()
	switch l.auth {
	case "refused":
		return &twin.Error{Code: codePassword, Message: "the projector refuses the password"}
	case "salt":
		if t.Settings().Password == "" {
			return &twin.Error{Code: codePassword, Message: "the projector wants a password, and the setting password is empty"}
		}
		hangUp(m)
		m.Digest = digest(l.salt, t.Settings().Password)
	default:
		hangUp(m)
	}
	m.Ready = true
	return ask(t, slices.Concat(always, once, whenOnIf(t))...)
}

// refusal gives the error of an answer to an order, or nil where it was obeyed.
func refusal(asked, value string) error {
	switch value {
	case "ERR1":
		return &twin.Error{Code: codeRefused, Message: "the projector does not know " + asked[:4]}
	case "ERR2":
		return &twin.Error{Code: codeRefused, Message: "the projector refuses " + asked + " as out of range"}
	case "ERR3":
		return &twin.Error{Code: codeNotNow, Message: "the projector cannot do " + asked + " now: it is off, warming up or cooling down", Retryable: true}
	case "ERR4":
		return &twin.Error{Code: codeFailure, Message: "the projector reports a failure of its own"}
	}
	return nil
}
