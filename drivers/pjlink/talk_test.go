package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/twintest"
)

// stage is a twin with a scripted projector.
type stage struct {
	*twintest.Twin
	t *testing.T
}

func newStage(t *testing.T, s Settings) *stage {
	if s.PollS == 0 {
		s.PollS = 10
	}
	tw := twintest.New(t, newDriver(), s)
	tw.Load("start")
	tw.Connect()
	return &stage{tw, t}
}

// says checks what was sent since the last look.
func (s *stage) says(want ...string) {
	s.t.Helper()
	var got []string
	for _, f := range s.TakeSent() {
		line, ok := strings.CutSuffix(f, "\r")
		if !ok {
			s.t.Fatalf("%q has no end", f)
		}
		got = append(got, line)
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("sent %q, want %q", got, want)
	}
}

// converse answers questions from script until there are no more.
func (s *stage) converse(script map[string]string) {
	s.t.Helper()
	for range 50 {
		sent := s.TakeSent()
		if len(sent) == 0 {
			return
		}
		if len(sent) > 1 {
			s.t.Fatalf("%d commands at a time: %q", len(sent), sent)
		}
		command := strings.TrimSuffix(sent[0][strings.Index(sent[0], "%1"):], "\r")
		answer, ok := script[command]
		if !ok {
			s.t.Fatalf("%q is not in the script", command)
		}
		if r := s.Receive(command[:6] + "=" + answer); r.Err != nil {
			s.t.Fatalf("%s: %v", command, r.Err)
		}
	}
	s.t.Fatal("no end of questions")
}

var standby = map[string]string{
	"%1POWR ?": "0", "%1LAMP ?": "120 0", "%1ERST ?": "000000", "%1CLSS ?": "1", "%1NAME ?": "Hall", "%1INF1 ?": "Castor",
	"%1INF2 ?": "CX", "%1INFO ?": "x", "%1INST ?": "11 31 32",
}

var on = map[string]string{
	"%1POWR ?": "1", "%1LAMP ?": "121 1", "%1ERST ?": "000010", "%1CLSS ?": "1", "%1NAME ?": "Hall", "%1INF1 ?": "Castor",
	"%1INF2 ?": "CX", "%1INFO ?": "x", "%1INST ?": "11 31 32", "%1INPT ?": "31", "%1AVMT ?": "30",
}

func (s *stage) has(want map[string]string) {
	s.t.Helper()
	for name, value := range want {
		if s.Properties[name] != value {
			s.t.Errorf("%s = %s, want %s", name, s.Properties[name], value)
		}
	}
}

func TestAsksForEverythingAfterTheGreeting(t *testing.T) {
	s := newStage(t, Settings{})
	s.says() // nothing before the greeting
	s.Receive("PJLINK 0")
	s.converse(standby)
	s.has(map[string]string{
		"power": "false", "power_state": `"off"`, "lamp_hours": "120", "lamp_on": "false", "error_fan": `"ok"`, "healthy": "true",
		"name": `"Hall"`, "manufacturer": `"Castor"`, "model": `"CX"`, "pjlink_class": `"1"`,
	})
	var patch struct {
		Properties map[string]struct{ Enum []string }
	}
	if err := json.Unmarshal([]byte(s.Described[len(s.Described)-1]), &patch); err != nil {
		t.Fatal(err)
	}
	if got := patch.Properties["input"].Enum; !slices.Equal(got, []string{"rgb1", "digital1", "digital2"}) {
		t.Errorf("inputs %v", got)
	}
	// A projector that is found on is asked for more at once.
	s.Fire("poll")
	s.converse(on)
	s.has(map[string]string{"power": "true", "input": `"digital1"`, "mute": "false", "mute_video": "false", "error_filter": `"warning"`, "healthy": "true"})
	if len(s.Events) != 1 || s.Events[0].Name != "part_changed" || s.Events[0].Data != `{"part":"filter","state":"warning"}` {
		t.Errorf("events %v", s.Events)
	}
}

func TestPasswordOncePerConnection(t *testing.T) {
	s := newStage(t, Settings{Password: "JBMIAProjectorLink"})
	s.Receive("PJLINK 1 498e4a67")
	s.says("5d8409bc1c3fa39749434aa3a5c38682%1POWR ?")
	s.Receive("%1POWR=0")
	s.says("%1LAMP ?")
	s.Disconnect("gone")
	if r := s.Command("power", "true"); r.Err == nil || !r.Err.Retryable {
		t.Errorf("without connection: %+v", r)
	}
	s.Connect()
	s.Fire("poll")
	s.says() // not before the greeting
	s.Receive("PJLINK 1 00000000")
	s.says(digest("00000000", "JBMIAProjectorLink") + "%1POWR ?")
	if strings.Contains(s.Memory, "JBMIA") {
		t.Error("the memory holds the password")
	}
}

func TestPasswordRefused(t *testing.T) {
	s := newStage(t, Settings{Password: "wrong"})
	s.Receive("PJLINK 1 498e4a67")
	s.TakeSent()
	if r := s.Receive("PJLINK ERRA"); r.Err == nil || r.Err.Code != codePassword || r.Err.Retryable {
		t.Errorf("%+v", r.Err)
	}
	none := newStage(t, Settings{})
	if r := none.Receive("PJLINK 1 498e4a67"); r.Err == nil || r.Err.Code != codePassword {
		t.Errorf("%+v", r.Err)
	}
	none.says()
}

// idle brings a twin to a greeted, quiet line with the projector in a state.
func idle(t *testing.T, script map[string]string) *stage {
	s := newStage(t, Settings{Inputs: map[string]string{"hdmi1": "31"}})
	s.Receive("PJLINK 0")
	s.converse(script)
	return s
}

func TestPowerCommand(t *testing.T) {
	s := idle(t, standby)
	if r := s.Command("power", "true"); !r.Pending {
		t.Fatalf("%+v", r)
	}
	s.says("%1POWR 1")
	if r := s.Reply("%1POWR=OK"); r.Pending || r.Err != nil {
		t.Fatalf("%+v", r)
	}
	s.says("%1POWR ?")
	s.Receive("%1POWR=3")
	s.has(map[string]string{"power": "true", "power_state": `"warming"`})
	s.Fire("settle")
	s.says("%1POWR ?")
	s.Receive("%1POWR=1")
	s.converse(on) // what it did not tell while it was off
	s.TakeSent()
	s.has(map[string]string{"power_state": `"on"`, "input": `"hdmi1"`, "mute": "false"})
	if _, set := s.Timers["settle"]; set {
		t.Error("goes on settling")
	}
}

func TestCommandGoesAheadOfAPoll(t *testing.T) {
	s := idle(t, on)
	s.Fire("poll")
	s.says("%1POWR ?")
	if r := s.Set("input", `"digital2"`); !r.Pending {
		t.Fatalf("%+v", r)
	}
	s.says() // the line is taken
	if r := s.Reply("%1POWR=1"); !r.Pending {
		t.Fatalf("the poll's answer decided the command: %+v", r)
	}
	s.says("%1INPT 32")
	if r := s.Reply("%1INPT=31"); !r.Pending {
		t.Fatalf("a late value decided the command: %+v", r)
	}
	if r := s.Reply("%1INPT=OK"); r.Pending || r.Err != nil {
		t.Fatalf("%+v", r)
	}
	s.says("%1INPT ?")
	s.Receive("%1INPT=32")
	s.has(map[string]string{"input": `"digital2"`})
	s.says("%1LAMP ?") // the poll goes on
}

func TestRefusals(t *testing.T) {
	for answer, want := range map[string]struct {
		code      int32
		retryable bool
	}{"ERR1": {codeRefused, false}, "ERR2": {codeRefused, false}, "ERR3": {codeNotNow, true}, "ERR4": {codeFailure, false}} {
		s := idle(t, on)
		s.Command("mute", "true")
		s.says("%1AVMT 31")
		r := s.Reply("%1AVMT=" + answer)
		if r.Err == nil || r.Err.Code != want.code || r.Err.Retryable != want.retryable {
			t.Errorf("%s: %+v", answer, r.Err)
		}
		// A refused call changes nothing that is remembered; the next one must find the line free nevertheless.
		if r := s.Command("mute", "true"); !r.Pending {
			t.Fatalf("%+v", r)
		}
		s.says("%1AVMT 31")
	}
	s := idle(t, on)
	if r := s.Command("input", `"betamax"`); r.Err == nil || r.Err.Code != codeRefused {
		t.Errorf("%+v", r)
	}
	s.says()
}

func TestSilenceFreesTheLine(t *testing.T) {
	s := idle(t, on)
	s.Fire("poll")
	s.says("%1POWR ?")
	s.Command("power", "false") // waits behind the poll
	s.says()
	s.Fire("poll")
	s.says() // the answer may still come
	s.age()
	s.Fire("poll")
	s.says("%1LAMP ?") // and the order, given up long ago, is not done late
	if strings.Contains(s.Memory, "POWR 0") && strings.Contains(s.Memory, `"queue":["POWR 0"`) {
		t.Errorf("memory %s", s.Memory)
	}
	// An order that nobody answered: the next one does not wait for it.
	s = idle(t, on)
	s.Command("power", "false")
	s.says("%1POWR 0")
	s.Command("mute", "true")
	s.says("%1AVMT 31")
}

// age makes what is on the line old.
func (s *stage) age() {
	s.t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(s.Memory), &m); err != nil {
		s.t.Fatal(err)
	}
	m["asked_at"] = m["asked_at"].(float64) - 60000
	b, err := json.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Memory = string(b)
}

func TestRefreshEndsWithTheLastAnswer(t *testing.T) {
	s := idle(t, on)
	if r := s.Command("refresh", ""); !r.Pending {
		t.Fatalf("%+v", r)
	}
	asked := 0
	for {
		sent := s.TakeSent()
		if len(sent) != 1 {
			t.Fatalf("sent %q", sent)
		}
		asked++
		command := strings.TrimSuffix(sent[0], "\r")
		if r := s.Reply(command[:6] + "=" + on[command]); !r.Pending {
			break
		}
	}
	if asked != len(on) {
		t.Errorf("asked %d questions", asked)
	}
}

func TestUnansweredFactsAreAskedAgain(t *testing.T) {
	script := map[string]string{}
	for k, v := range standby {
		script[k] = v
	}
	delete(script, "%1INF1 ?")
	s := newStage(t, Settings{})
	s.Receive("PJLINK 0")
	for range len(script) - 2 { // up to the name
		sent := s.TakeSent()
		command := strings.TrimSuffix(sent[0], "\r")
		if command == "%1INF1 ?" {
			break
		}
		s.Receive(command[:6] + "=" + script[command])
	}
	s.age() // no answer
	s.Fire("poll")
	script["%1INF1 ?"] = "Castor"
	s.converse(script)
	s.has(map[string]string{"manufacturer": `"Castor"`})
	s.Fire("poll")
	for _, f := range s.Sent {
		if strings.Contains(f, "INF1") {
			t.Error("asked for what is known")
		}
	}
}

func TestProjectorWithoutLamp(t *testing.T) {
	script := map[string]string{}
	for k, v := range standby {
		script[k] = v
	}
	script["%1LAMP ?"] = "ERR1"
	s := idle(t, script)
	if last := s.Described[len(s.Described)-1]; !strings.Contains(last, `"lamp_hours":null`) || !strings.Contains(last, `"enum"`) {
		t.Errorf("described %s", last)
	}
	s.Fire("poll")
	for _, f := range s.Sent {
		if strings.Contains(f, "LAMP") {
			t.Error("asked for the lamp again")
		}
	}
}

func TestGarbageChangesNothing(t *testing.T) {
	s := idle(t, on)
	before := s.Memory
	for _, g := range []string{"", "\x00\xff", "%1POWR=7", "%1LAMP=many", "%1ERST=9", "%1INPT=zz", "%1NOPE=1", "%1POWR", "hello", strings.Repeat("%", 1000)} {
		if r := s.Receive(g); r.Err != nil {
			t.Errorf("%q: %v", g, r.Err)
		}
	}
	if s.Memory != before {
		t.Errorf("memory %s, was %s", s.Memory, before)
	}
	s.has(map[string]string{"power_state": `"on"`, "lamp_hours": "121", "input": `"hdmi1"`})
}

func TestLostWhileSending(t *testing.T) {
	s := idle(t, on)
	s.Refuse = map[string]twin.Code{"send": twin.ErrDisconnected}
	if r := s.Fire("poll"); r.Err != nil {
		t.Errorf("%v", r.Err)
	}
	if r := s.Command("power", "false"); r.Err == nil || !r.Err.Retryable || r.Err.Code != codeOffline {
		t.Errorf("%+v", r)
	}
}
