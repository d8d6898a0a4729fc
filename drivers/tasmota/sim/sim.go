// Package sim simulates Tasmota devices, each with an MQTT connection of its own.
//
// The devices announce themselves, send telemetry that moves as in a real day, obey commands and answer as the firmware
// does, and misbehave to order. The package shares no code with the driver, so that one can tell when the other is wrong.
//
// Real firmware publishes with QoS 0 only (its MQTT library can do no other) and its last will with QoS 1. A simulated
// device publishes with QoS 1 unless told otherwise, so that the broker's acknowledgement can be waited for.
package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
)

// Kind is what a simulated device is.
type Kind string

// The kinds of devices.
const (
	Plug    Kind = "plug"    // one relay, with an energy meter
	Switch1 Kind = "switch1" // one relay and a wall switch
	Switch2 Kind = "switch2"
	Switch4 Kind = "switch4"
	Dimmer  Kind = "dimmer" // one channel of light
	Light   Kind = "light"  // five channels: colour, cold and warm white
	AM2301  Kind = "am2301" // temperature, humidity
	DHT11   Kind = "dht11"  // the same, coarser
	BME280  Kind = "bme280" // and pressure
)

// Kinds gives all kinds, in the order in which Options.Count goes through them.
func Kinds() []Kind {
	return []Kind{Plug, AM2301, Switch2, Light, BME280, Dimmer, Switch1, Switch4, DHT11}
}

// Options of simulated devices. The zero value is one plug at 127.0.0.1:1883 with the topic "tasmota".
type Options struct {
	// Broker is HOST:PORT, or a URL with the scheme tcp or mqtt.
	Broker string
	// Topic of the device; where there are several, `-1`, `-2` … follow. Empty means "tasmota".
	Topic string
	// Count of devices; 0 means 1.
	Count int
	// Kinds are given to the devices in turn; empty means Kinds().
	Kinds []Kind
	// User and Password for the broker; `{topic}` in the user stands for the device's topic.
	User, Password string
	// Credentials, where set, gives each device its own user and password.
	Credentials func(topic string) (user, password string)
	// QoS of what the devices publish: nil means 1; real firmware has 0.
	QoS *byte
	// Period of telemetry; 0 means 10 s (firmware: 300 s).
	Period time.Duration
	// Day is how long a day lasts, for values that follow it; 0 means 24 h.
	Day time.Duration
	// Bustle is the mean time between two hands on a device's button or slider; 0: nobody is there.
	Bustle time.Duration
	// Retry is the wait before a lost connection is tried again; 0 means 2 s.
	Retry time.Duration
	// OldFirmware makes INFO messages flat, as before firmware 10.
	OldFirmware bool
	// Faults from the start; see Sim.SetFaults.
	Faults peer.Faults
	// Seed of the faults and values.
	Seed uint64
	// Log gets the journal, a line of JSON per entry; nil: none. Journal still has them.
	Log io.Writer
}

func (o *Options) setDefaults() error {
	for _, scheme := range []string{"tcp://", "mqtt://"} {
		o.Broker = strings.TrimPrefix(o.Broker, scheme)
	}
	if o.Broker == "" {
		o.Broker = "127.0.0.1:1883"
	}
	if _, _, err := net.SplitHostPort(o.Broker); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	if o.Topic == "" {
		o.Topic = "tasmota"
	}
	if strings.ContainsAny(o.Topic, "+#/ \x00") {
		return fmt.Errorf("topic %q: may not hold +, #, / or space", o.Topic)
	}
	if o.Count == 0 {
		o.Count = 1
	}
	if len(o.Kinds) == 0 {
		o.Kinds = Kinds()
	}
	if o.QoS == nil {
		one := byte(1)
		o.QoS = &one
	}
	if *o.QoS > 2 {
		return errors.New("qos: not 0, 1 or 2")
	}
	if o.Period == 0 {
		o.Period = 10 * time.Second
	}
	if o.Day == 0 {
		o.Day = 24 * time.Hour
	}
	if o.Retry == 0 {
		o.Retry = 2 * time.Second
	}
	return nil
}

// Sim is a set of simulated devices.
type Sim struct {
	o       Options
	journal *peer.Journal
	dice    *peer.Dice
	devices []*Device
}

// New prepares the devices; none connects before Run.
func New(o Options) (*Sim, error) {
	if err := o.setDefaults(); err != nil {
		return nil, fmt.Errorf("simulate tasmota: %w", err)
	}
	s := &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed)}
	for i := range o.Count {
		topic := o.Topic
		if o.Count > 1 {
			topic += "-" + strconv.Itoa(i+1)
		}
		d, err := newDevice(s, topic, o.Kinds[i%len(o.Kinds)])
		if err != nil {
			return nil, fmt.Errorf("simulate tasmota: %w", err)
		}
		s.devices = append(s.devices, d)
	}
	return s, nil
}

// Devices gives all devices in order.
func (s *Sim) Devices() []*Device { return s.devices }

// Device gives the one with that topic, or nil.
func (s *Sim) Device(topic string) *Device {
	for _, d := range s.devices {
		if d.topic == topic {
			return d
		}
	}
	return nil
}

// Journal tells what the devices were told and what they did.
func (s *Sim) Journal() *peer.Journal { return s.journal }

// SetFaults changes the faults of all devices from now on.
func (s *Sim) SetFaults(f peer.Faults) { s.dice.Set(f) }

// Reached gives how many devices have been at their broker, and what kept one of the others from it, if one has failed.
func (s *Sim) Reached() (devices int, problem string) {
	for _, d := range s.devices {
		d.mu.Lock()
		if d.connects > 0 {
			devices++
		} else if problem == "" && d.problem != "" {
			problem = d.topic + ": " + d.problem
		}
		d.mu.Unlock()
	}
	return devices, problem
}

// Run keeps the devices connected until ctx ends. Then they vanish as on loss of power, and it returns nil. A broker
// that is away is tried again for ever. It may be called once.
func (s *Sim) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, d := range s.devices {
		wg.Go(func() { d.run(ctx) })
	}
	wg.Wait()
	return nil
}
