// Package sim simulates Zigbee2MQTT with a lamp and a sensor behind it. It shares no code with the driver, so that one can
// tell when the other is wrong.
package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/polluxhq/pollux/drivers/peer"
)

// Options of a simulated bridge. The zero value is zigbee2mqtt at 127.0.0.1:1883.
type Options struct {
	// Broker is HOST:PORT.
	Broker, Base   string
	User, Password string
	// Period of the sensor's messages; 0: 10 s.
	Period time.Duration
	Faults peer.Faults
	Seed   uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// Sim is a bridge with its devices: lamp and sensor.
type Sim struct {
	o       Options
	journal *peer.Journal
	dice    *peer.Dice
	client  paho.Client
	began   time.Time

	mu         sync.Mutex
	on         bool
	brightness int
}

// New returns a bridge; it connects in Run.
func New(o Options) (*Sim, error) {
	if o.Broker == "" {
		o.Broker = "127.0.0.1:1883"
	}
	if o.Base == "" {
		o.Base = "zigbee2mqtt"
	}
	if o.Period == 0 {
		o.Period = 10 * time.Second
	}
	return &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), began: time.Now(), brightness: 254}, nil
}

// Lamp gives the lamp's state.
func (s *Sim) Lamp() (on bool, brightness int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on, s.brightness
}

// Run connects and plays its devices until ctx ends; a lost connection is tried again.
func (s *Sim) Run(ctx context.Context) error {
	o := peer.MQTT(s.o.Broker, "z2m-"+s.o.Base, s.o.User, s.o.Password).SetWill(s.o.Base+"/bridge/state", `{"state":"offline"}`, 1, true).SetOnConnectHandler(s.connected)
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
			s.sense()
		}
	}
}

type object = map[string]any

func numeric(name, unit string, access int) object {
	return object{"type": "numeric", "name": name, "label": strings.ToUpper(name[:1]) + name[1:], "property": name, "access": access, "unit": unit}
}

// devices is what the bridge knows.
func devices() []any {
	return []any{
		object{"ieee_address": "0x00124b0012345678", "type": "Coordinator", "friendly_name": "Coordinator", "definition": nil},
		object{"ieee_address": "0xec1bbdfffe000001", "type": "Router", "friendly_name": "lamp", "definition": object{
			"model": "LED1545G12", "vendor": "IKEA", "description": "Bulb with white spectrum", "exposes": []any{
				object{"type": "light", "features": []any{
					object{"type": "binary", "name": "state", "label": "State", "property": "state", "access": 7, "value_on": "ON", "value_off": "OFF"},
					object{"type": "numeric", "name": "brightness", "label": "Brightness", "property": "brightness", "access": 7, "value_min": 0, "value_max": 254},
				}}, numeric("linkquality", "lqi", 1)}}},
		object{"ieee_address": "0x00158d0000000002", "type": "EndDevice", "friendly_name": "sensor", "definition": object{
			"model": "WSDCGQ11LM", "vendor": "Aqara", "description": "Temperature and humidity sensor", "exposes": []any{
				numeric("temperature", "°C", 1), numeric("humidity", "%", 1), numeric("pressure", "hPa", 1), numeric("battery", "%", 1), numeric("linkquality", "lqi", 1)}}},
	}
}

func (s *Sim) connected(c paho.Client) {
	s.journal.Add(s.o.Base, "connected", s.o.Broker)
	c.Subscribe(s.o.Base+"/lamp/set", 1, func(_ paho.Client, m paho.Message) { go s.set(m.Payload()) })
	c.Subscribe(s.o.Base+"/lamp/get", 1, func(paho.Client, paho.Message) { go s.lamp() })
	s.say("bridge/devices", devices(), true)
	s.say("bridge/state", object{"state": "online"}, true)
	s.lamp()
	s.sense()
}

func (s *Sim) say(below string, value any, retain bool) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("simulate zigbee2mqtt: %v", err)) // values are made here
	}
	outcome, wait := s.dice.Throw()
	time.Sleep(wait)
	switch outcome {
	case peer.Silence:
		return
	case peer.Garbage:
		text = s.dice.Noise(len(text))
	}
	s.client.Publish(s.o.Base+"/"+below, 1, retain, text)
}

// lamp tells the lamp's state.
func (s *Sim) lamp() {
	on, brightness := s.Lamp()
	s.say("lamp", object{"state": map[bool]string{true: "ON", false: "OFF"}[on], "brightness": brightness, "linkquality": 120}, true)
}

// sense tells what the sensor measures: a day takes an hour.
func (s *Sim) sense() {
	day := math.Sin(time.Since(s.began).Hours() * 2 * math.Pi)
	s.say("sensor", object{"temperature": math.Round((21+3*day)*100) / 100, "humidity": math.Round((45-5*day)*100) / 100, "pressure": 1013, "battery": 97, "linkquality": 80}, false)
}

func (s *Sim) set(payload []byte) {
	s.journal.Add("lamp", "told", string(payload))
	var q struct {
		State      string
		Brightness *float64
	}
	if json.Unmarshal(payload, &q) != nil {
		return
	}
	s.mu.Lock()
	switch strings.ToUpper(q.State) {
	case "ON":
		s.on = true
	case "OFF":
		s.on = false
	case "TOGGLE":
		s.on = !s.on
	}
	if b := q.Brightness; b != nil && *b >= 0 && *b <= 254 {
		s.brightness, s.on = int(*b), *b > 0
	}
	s.mu.Unlock()
	s.lamp()
}
