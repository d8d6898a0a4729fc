// Package sim simulates a pump that speaks MQTT in a form of its own: a state in JSON, a speed as a plain text, faults on topics of
// their own. It shares no code with the driver, so that one can tell when the other is wrong.
package sim

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/polluxhq/pollux/drivers/peer"
)

// Options of a simulated pump. The zero value is plant/pump1 at 127.0.0.1:1883.
type Options struct {
	// Broker is HOST:PORT.
	Broker         string
	Topic          string
	User, Password string
	// Period between two messages of its state; 0: 10 s.
	Period time.Duration
	Faults peer.Faults
	Seed   uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// Sim is one pump. It says {"sensors":[{"t":215}],"run":1} at TOPIC/state (tenths of a degree) and 1450 at TOPIC/speed (rpm), takes
// {"run":1}, {"run":0} and {"get":true} at TOPIC/cmd and rpm=900 at TOPIC/speed/set, and tells faults at TOPIC/errors/PART.
type Sim struct {
	o       Options
	journal *peer.Journal
	dice    *peer.Dice
	client  paho.Client
	began   time.Time

	mu    sync.Mutex
	runs  bool
	speed int
}

// fastest is the speed in rpm at which the motor gets too hot, and tells so.
const fastest = 3000

// New returns a pump; it connects in Run.
func New(o Options) (*Sim, error) {
	if o.Broker == "" {
		o.Broker = "127.0.0.1:1883"
	}
	if o.Topic == "" {
		o.Topic = "plant/pump1"
	}
	if strings.ContainsAny(o.Topic, "+#") {
		return nil, fmt.Errorf("simulate mqtt-json: topic %q: has a wildcard", o.Topic)
	}
	if o.Period == 0 {
		o.Period = 10 * time.Second
	}
	return &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), began: time.Now(), speed: 1450}, nil
}

// State gives whether it runs, and its speed in rpm.
func (s *Sim) State() (runs bool, speed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs, s.speed
}

// Run connects and tells its state until ctx ends; a lost connection is tried again.
func (s *Sim) Run(ctx context.Context) error {
	o := peer.MQTT(s.o.Broker, "pump-"+s.o.Topic, s.o.User, s.o.Password).SetOnConnectHandler(s.connected)
	s.client = paho.NewClient(o)
	s.client.Connect()
	defer s.client.Disconnect(100)
	tick := time.NewTicker(s.o.Period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.tell()
		}
	}
}

func (s *Sim) connected(c paho.Client) {
	s.journal.Add(s.o.Topic, "connected", s.o.Broker)
	c.Subscribe(s.o.Topic+"/cmd", 1, func(_ paho.Client, m paho.Message) { go s.command(string(m.Payload())) })
	c.Subscribe(s.o.Topic+"/speed/set", 1, func(_ paho.Client, m paho.Message) { go s.setSpeed(string(m.Payload())) })
	s.tell()
}

func (s *Sim) say(below, text string) {
	outcome, wait := s.dice.Throw()
	time.Sleep(wait)
	switch outcome {
	case peer.Silence, peer.Drop:
		return
	case peer.Garbage:
		text = string(s.dice.Noise(len(text)))
	}
	s.client.Publish(s.o.Topic+"/"+below, 1, false, text)
}

// tell says its state: the water gets warmer and colder within an hour.
func (s *Sim) tell() {
	runs, speed := s.State()
	run := 0
	if runs {
		run = 1
	}
	tenths := 215 + int(math.Round(20*math.Sin(time.Since(s.began).Hours()*2*math.Pi)))
	s.say("state", fmt.Sprintf(`{"sensors":[{"t":%d}],"run":%d}`, tenths, run))
	s.say("speed", strconv.Itoa(speed))
}

func (s *Sim) command(text string) {
	s.journal.Add(s.o.Topic, "told", text)
	switch strings.ReplaceAll(text, " ", "") {
	case `{"run":1}`, `{"run":0}`:
		s.mu.Lock()
		s.runs = strings.Contains(text, "1")
		s.mu.Unlock()
	case `{"get":true}`:
	default:
		s.say("errors/command", "what is "+text[:min(len(text), 100)])
		return
	}
	s.tell()
}

func (s *Sim) setSpeed(text string) {
	s.journal.Add(s.o.Topic, "told", text)
	rpm, err := strconv.Atoi(strings.TrimPrefix(text, "rpm="))
	if err != nil || rpm < 0 {
		s.say("errors/command", "no speed")
		return
	}
	s.mu.Lock()
	s.speed = min(rpm, fastest)
	s.mu.Unlock()
	if rpm > fastest {
		s.say("errors/motor", "too hot")
	}
	s.tell()
}
