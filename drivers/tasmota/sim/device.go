package sim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/polluxhq/pollux/drivers/peer"
)

// leaveWithin is how long the broker is told good-bye, in milliseconds.
const leaveWithin = 500

// order is a command that arrived: the last level of its topic, and its payload.
type order struct{ name, payload string }

// Device is one simulated device. Its methods may be called concurrently.
type Device struct {
	sim    *Sim
	topic  string
	kind   Kind
	relays int
	mac    string
	number uint32 // last three bytes of the MAC, as in the client's id

	orders chan order  // from the broker
	hands  chan func() // somebody at the device

	mu        sync.Mutex
	conn      net.Conn
	gone      chan struct{} // closed when the connection of this session is over
	connects  int
	unacked   int
	acked     int
	booted    time.Time
	power     []bool
	wall      bool // the wall switch of a Switch1
	light     light
	energy    energy
	period    time.Duration
	phase     float64
	connected bool
	problem   string // of the last session

	// Of the goroutine in run alone.
	client paho.Client
	random *rand.Rand
}

func newDevice(s *Sim, topic string, kind Kind) (*Device, error) {
	relays, ok := map[Kind]int{
		Plug: 1, Switch1: 1, Switch2: 2, Switch4: 4, Dimmer: 1, Light: 1, AM2301: 0, DHT11: 0, BME280: 0,
	}[kind]
	if !ok {
		return nil, fmt.Errorf("kind %q: there are %v", kind, Kinds())
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%d", topic, s.o.Seed)
	sum := h.Sum64()
	random := rand.New(rand.NewPCG(sum, s.o.Seed))
	d := &Device{
		sim: s, topic: topic, kind: kind, relays: relays, number: uint32(sum) & 0xffffff,
		mac:    fmt.Sprintf("DC4F22%06X", uint32(sum)&0xffffff),
		orders: make(chan order, 64), hands: make(chan func(), 16),
		booted: time.Now(), power: make([]bool, relays), period: s.o.Period,
		light: newLight(), phase: random.Float64(), random: random,
	}
	d.energy = newEnergy(20+random.Float64()*400, 15+random.Float64()*120)
	if kind == Plug || kind == Dimmer || kind == Light {
		d.power[0] = random.IntN(3) > 0
	}
	return d, nil
}

// Topic of the device.
func (d *Device) Topic() string { return d.topic }

// Kind of the device.
func (d *Device) Kind() Kind { return d.kind }

// Power of relay n, from 1; false where there is none.
func (d *Device) Power(n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return n >= 1 && n <= d.relays && d.power[n-1]
}

// Dimmer in percent.
func (d *Device) Dimmer() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.light.dimmer
}

// Connected says whether the device is at its broker.
func (d *Device) Connected() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.connected
}

// Published counts messages: acknowledged by the broker (with QoS 0: sent), and not acknowledged in time.
func (d *Device) Published() (acked, unacked int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.acked, d.unacked
}

// Press pushes the device's own button of relay n; nothing happens where it has no relay. It blocks while 16 others wait.
func (d *Device) Press(n int) {
	if d.relays == 0 {
		return
	}
	d.hands <- func() { d.obeyPower(n, "TOGGLE") }
}

// Cut breaks the connection without a goodbye, as loss of power does; the device comes back after Options.Retry.
func (d *Device) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leave()
}

// leave ends the session. The caller holds the lock. Closing is not enough: the MQTT client does not tell of a
// connection that was closed on its own side.
func (d *Device) leave() {
	if d.conn != nil {
		d.conn.Close()
		d.conn = nil
	}
	if d.gone != nil {
		close(d.gone)
		d.gone = nil
	}
}

// run connects again and again until ctx ends.
func (d *Device) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := d.session(ctx); err != nil && ctx.Err() == nil {
			d.sim.journal.Add(d.topic, "fault", err.Error())
			d.mu.Lock()
			d.problem = err.Error()
			d.mu.Unlock()
		}
		wait := d.sim.o.Retry + time.Duration(d.random.Int64N(int64(d.sim.o.Retry)/4+1))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// session is one connection, from its beginning to its end.
func (d *Device) session(ctx context.Context) error {
	if d.sim.dice.Refused() {
		return errors.New("refused")
	}
	gone := make(chan struct{})
	d.mu.Lock()
	d.gone = gone
	d.mu.Unlock()
	d.client = paho.NewClient(d.clientOptions(gone))
	defer func() {
		d.Cut()
		go d.client.Disconnect(leaveWithin) // not awaited: it can hang where the wait is over in the same moment
		d.setConnected(false)
	}()
	token := d.client.Connect()
	select {
	case <-token.Done():
		if token.Error() != nil {
			return fmt.Errorf("connect: %w", token.Error())
		}
	case <-ctx.Done():
		return nil
	}
	d.sim.journal.Add(d.topic, "connected", d.sim.o.Broker)
	d.setConnected(true)
	if err := d.announce(); err != nil {
		return err
	}
	d.sim.journal.Add(d.topic, "disconnected", d.live(ctx, gone))
	return nil
}

func (d *Device) setConnected(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.connected = on
	if on {
		d.connects++
	}
}

func (d *Device) clientOptions(gone chan struct{}) *paho.ClientOptions {
	o := &d.sim.o
	user, password := strings.ReplaceAll(o.User, "{topic}", d.topic), o.Password
	if o.Credentials != nil {
		user, password = o.Credentials(d.topic)
	}
	c := paho.NewClientOptions().AddBroker("tcp://"+o.Broker).SetClientID(fmt.Sprintf("DVES_%06X", d.number)).
		SetUsername(user).SetPassword(password).SetProtocolVersion(4).SetCleanSession(true).
		SetKeepAlive(30*time.Second).SetConnectTimeout(10*time.Second).SetAutoReconnect(false).
		SetWill("tele/"+d.topic+"/LWT", "Offline", 1, true).
		SetConnectionLostHandler(func(paho.Client, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.gone == gone { // and not already of a later session
				d.leave()
			}
		})
	c.SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) {
		conn, err := net.DialTimeout("tcp", o.Broker, 10*time.Second)
		if err != nil {
			return nil, err
		}
		d.mu.Lock()
		d.conn = conn
		d.mu.Unlock()
		return conn, nil
	})
	return c
}

// live answers commands and sends telemetry until the connection or ctx ends, and says which.
func (d *Device) live(ctx context.Context, gone <-chan struct{}) string {
	tele := time.NewTimer(d.firstPeriod())
	defer tele.Stop()
	bustle := time.NewTimer(d.nextBustle())
	defer bustle.Stop()
	for {
		select {
		case <-ctx.Done():
			return "stopped"
		case <-gone:
			return "connection lost"
		case o := <-d.orders:
			d.sim.journal.Add(d.topic, "told", strings.TrimSpace(o.name+" "+o.payload))
			d.obey(o)
		case hand := <-d.hands:
			hand()
		case <-tele.C:
			d.telemetry()
			tele.Reset(d.telePeriod())
		case <-bustle.C:
			d.touch()
			bustle.Reset(d.nextBustle())
		}
	}
}

// firstPeriod spreads the devices' telemetry, so that a thousand do not speak at once.
func (d *Device) firstPeriod() time.Duration {
	return time.Duration(d.random.Float64() * float64(min(d.telePeriod(), 10*time.Second)))
}

func (d *Device) telePeriod() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.period
}

func (d *Device) nextBustle() time.Duration {
	if d.sim.o.Bustle <= 0 {
		return 1 << 60
	}
	return time.Duration(d.random.ExpFloat64() * float64(d.sim.o.Bustle))
}

// touch is somebody at the device.
func (d *Device) touch() {
	switch {
	case d.relays == 0:
	case (d.kind == Dimmer || d.kind == Light) && d.random.IntN(2) == 0:
		d.obey(order{"Dimmer", fmt.Sprint(5 + d.random.IntN(96))})
	default:
		d.obeyPower(1+d.random.IntN(d.relays), "TOGGLE")
	}
}

// ackTimeout is how long a device waits for the broker's acknowledgement before it goes on.
const ackTimeout = 10 * time.Second

// publish sends PREFIX/TOPIC/NAME as well as the faults let it.
func (d *Device) publish(prefix, name, payload string, retain bool) {
	outcome, delay := d.sim.dice.Throw()
	time.Sleep(delay)
	switch outcome {
	case peer.Drop:
		d.sim.journal.Add(d.topic, "fault", "dropped")
		d.Cut()
		return
	case peer.Silence:
		d.sim.journal.Add(d.topic, "fault", "silent")
		return
	case peer.Garbage:
		d.sim.journal.Add(d.topic, "fault", "garbage")
		payload = string(d.sim.dice.Noise(32))
	}
	d.publishRaw(prefix+"/"+d.topic+"/"+name, payload, retain)
}

func (d *Device) publishRaw(topic, payload string, retain bool) {
	d.mu.Lock()
	gone := d.gone
	d.mu.Unlock()
	if gone == nil {
		return
	}
	token := d.client.Publish(topic, *d.sim.o.QoS, retain, payload)
	timeout := time.NewTimer(ackTimeout)
	defer timeout.Stop()
	ok := false
	select {
	case <-token.Done():
		ok = token.Error() == nil
	case <-gone:
	case <-timeout.C:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if ok {
		d.acked++
	} else {
		d.unacked++
	}
}
