package main

import (
	"encoding/json"
	"maps"
	"testing"
)

// phase brings a twin to a quiet line with a projector that warms up (3) or cools down (2).
func phase(t *testing.T, power string) *stage {
	script := maps.Clone(standby)
	script["%1POWR ?"] = power
	return idle(t, script)
}

func TestPowerIsNotAskedForTwice(t *testing.T) {
	for _, c := range []struct{ power, value, same string }{{"3", "true", `"warming"`}, {"2", "false", `"cooling"`}} {
		for _, ask := range []string{"property", "action"} {
			s := phase(t, c.power)
			s.has(map[string]string{"power_state": c.same, "power": c.value})
			s.Properties["power"] = ""
			r := s.Set("power", c.value)
			if ask == "action" {
				r = s.Command("power", c.value)
			}
			if r.Pending || r.Err != nil {
				t.Fatalf("%s while %s: %+v", ask, c.same, r)
			}
			s.has(map[string]string{"power": c.value}) // reported anew, which confirms it
			s.says("%1POWR ?")                         // nothing but a look
		}
	}
	// Against the phase it is the projector that decides, and the twin that tries again.
	s := phase(t, "2")
	if r := s.Set("power", "true"); !r.Pending {
		t.Fatalf("on while cooling: %+v", r)
	}
	s.says("%1POWR 1")
	if r := s.Reply("%1POWR=ERR3"); r.Err == nil || !r.Err.Retryable || r.Err.Code != codeNotNow {
		t.Fatalf("on while cooling: %+v", r.Err)
	}
	// Not by what was reported before the connection was lost.
	s = phase(t, "3")
	s.Disconnect("gone")
	if r := s.Set("power", "true"); r.Err == nil || r.Err.Code != codeOffline {
		t.Fatalf("without connection: %+v", r)
	}
}

func TestInputWaitsForTheWarmUp(t *testing.T) {
	s := phase(t, "3")
	if r := s.Set("input", `"rgb1"`); !r.Pending {
		t.Fatalf("%+v", r)
	}
	s.says("%1POWR ?")
	if r := s.Reply("%1POWR=3"); !r.Pending {
		t.Fatalf("%+v", r)
	}
	s.says()
	s.Set("input", `"digital2"`) // takes the place of the first
	s.Set("mute", "true")        // its call is over by now; the input is wanted all the same
	s.says("%1POWR ?")
	if r := s.Reply("%1POWR=1"); !r.Pending {
		t.Fatalf("%+v", r)
	}
	s.says("%1INPT 32")
	if r := s.Reply("%1INPT=OK"); !r.Pending {
		t.Fatalf("the input's answer decided the other call: %+v", r)
	}
	s.says("%1INPT ?")
	s.Reply("%1INPT=32")
	s.says("%1AVMT 31")
	if r := s.Reply("%1AVMT=OK"); r.Pending || r.Err != nil {
		t.Fatalf("%+v", r)
	}
	s.has(map[string]string{"input": `"digital2"`})
}

func TestWhatWaitsIsGivenUp(t *testing.T) {
	for name, spoil := range map[string]func(s *stage){
		"switched off": func(s *stage) { s.Command("power", "false") },
		"off by hand":  func(s *stage) { s.Receive("%1POWR=2"); s.Fire("poll") },
		"too late":     func(s *stage) { s.set("later_until", 1) },
		"disconnected": func(s *stage) { s.Disconnect("gone"); s.Connect(); s.Receive("PJLINK 0") },
	} {
		s := phase(t, "3")
		s.Set("input", `"digital2"`)
		spoil(s)
		for range 50 {
			sent := s.TakeSent()
			if len(sent) == 0 {
				break
			}
			for _, command := range sent {
				if command == "%1INPT 32\r" {
					t.Fatalf("%s: the input is switched", name)
				}
				answer := on[command[:len(command)-1]]
				if answer == "" {
					answer = "OK"
				}
				s.Receive(command[:6] + "=" + answer)
			}
		}
	}
	// Refused when nobody waits any more: no fault of the device's.
	s := phase(t, "3")
	s.Set("input", `"digital2"`)
	s.says("%1POWR ?")
	s.Receive("%1POWR=1")
	s.says("%1INPT 32")
	if r := s.Receive("%1INPT=ERR2"); r.Err != nil {
		t.Fatalf("%+v", r.Err)
	}
	s.says("%1INPT ?") // the line goes on
}

// set changes what the driver remembers.
func (s *stage) set(name string, value any) {
	s.t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(s.Memory), &m); err != nil {
		s.t.Fatal(err)
	}
	if m[name] == nil {
		s.t.Fatalf("no %s in %s", name, s.Memory)
	}
	m[name] = value
	b, err := json.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Memory = string(b)
}
