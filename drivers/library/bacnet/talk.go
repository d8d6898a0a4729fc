package main

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// One question of the driver's own is with the device at a time: small controllers take no more. The others wait in
// Memory.Queue. A question is rN (read point N), sN (subscribe to the object of point N) or fN (read property N of the
// device). A command goes out at once beside it; invoke ids tell the answers apart.

// maxTries is how often a question is sent before the device counts as silent.
const maxTries = 3

// process is the number that subscriptions have. Each twin has a port of its own, so it may be the same for all.
const process = 1

// zeroTime: measured now.
var zeroTime time.Time

// hangUp forgets a conversation.
func hangUp(m *Memory) {
	*m = Memory{Next: m.Next, Described: m.Described}
}

func (s *Settings) route() route { return route{uint16(s.Network), macOf(s.MAC)} }

// poll queues what is to be asked now, and says the first if the line is free.
func poll(t *Twin) error {
	m, s := t.Memory(), t.Settings()
	if !m.Up {
		return nil
	}
	if len(m.Until) != len(s.Points) {
		m.Until = make([]int64, len(s.Points))
	}
	now := time.Now().UnixMilli()
	for i := range s.Points {
		p := &s.Points[i]
		if !slices.Contains(m.Described, p.Name) {
			continue
		}
		at, _ := p.place()
		lead := i
		if p.told(at) {
			lead = leader(s.Points, i)
			half, refused := int64(s.CovS)*500, slices.Contains(m.Failed, "s"+strconv.Itoa(lead))
			if lead == i && (!refused && now >= m.Until[i]-half || now >= m.Until[i]+half) {
				queue(m, "s"+strconv.Itoa(i))
			}
			if !refused {
				continue
			}
		}
		queue(m, "r"+strconv.Itoa(i))
	}
	for _, o := range own {
		question := "f" + strconv.Itoa(int(o.property))
		if !slices.Contains(m.Failed, question) && (o.property == propertySystemStatus || t.Property(o.name) == nil) {
			queue(m, question)
		}
	}
	return say(t)
}

// leader is the first point with the same object that wants to be told; it holds the subscription for all of them.
func leader(all []Point, i int) int {
	at, _ := all[i].place()
	for k := range all[:i] {
		o, problem := all[k].place()
		if problem == "" && all[k].told(o) && o.object == at.object && o.instance == at.instance {
			return k
		}
	}
	return i
}

func queue(m *Memory, question string) {
	if m.Asked != question && !slices.Contains(m.Queue, question) {
		m.Queue = append(m.Queue, question)
	}
}

// say sends the next question, if the line is free.
func say(t *Twin) error {
	m := t.Memory()
	if m.Asked != "" || !m.Up {
		return nil
	}
	if len(m.Queue) == 0 {
		return t.Cancel("answer")
	}
	m.Asked, m.Queue = m.Queue[0], m.Queue[1:]
	m.AskedID, m.Tries = m.Next, 0
	m.Next++
	if m.Wait != nil && m.Wait.ID == m.AskedID { // a command of long ago
		m.Wait = nil
	}
	return again(t)
}

// again sends the question that is asked.
func again(t *Twin) error {
	m, s := t.Memory(), t.Settings()
	kind, n := m.Asked[0], number10(m.Asked[1:])
	var apdu []byte
	switch {
	case kind == 'f':
		apdu = readRequest(m.AskedID, place{object: objectDevice, instance: uint32(s.Device), property: uint32(n)})
	case n >= len(s.Points):
		m.Asked = ""
		return nil
	case kind == 's':
		at, _ := s.Points[n].place()
		apdu = subscribeRequest(m.AskedID, process, at.object, at.instance, s.Points[n].COV == "confirmed", s.CovS)
	default:
		at, _ := s.Points[n].place()
		apdu = readRequest(m.AskedID, at)
	}
	m.Tries++
	err := t.Send(frame(bvlcUnicast, s.route(), true, apdu))
	if err != nil && !errors.Is(err, twin.ErrDisconnected) { // the event that says so comes next
		return err
	}
	return t.After("answer", time.Duration(s.TimeoutMS)*time.Millisecond, nil)
}

func number10(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// noAnswer asks again, or gives the questions up until the next poll.
func noAnswer(t *Twin) error {
	m := t.Memory()
	switch {
	case m.Asked == "" || !m.Up:
		return nil
	case m.Tries < maxTries:
		return again(t)
	}
	m.Asked, m.Queue, m.Until = "", nil, nil
	stale(t)
	if !m.Silent {
		m.Silent = true
		t.Log("warn", "the device does not answer")
	}
	return nil
}

// read is the action of that name.
func read(t *Twin, in struct {
	Object   string `json:"object"`
	Instance int    `json:"instance"`
	Property string `json:"property"`
	Index    *int   `json:"index"`
}) (twin.None, error) {
	at, problem := placeOf(in.Object, in.Instance, in.Property, in.Index)
	if problem != "" {
		return twin.None{}, &twin.Error{Code: codeInput, Message: problem}
	}
	return twin.None{}, command(t, serviceRead, 0, func(id byte) []byte { return readRequest(id, at) })
}

// write is the action of that name.
func write(t *Twin, in struct {
	Object   string     `json:"object"`
	Instance int        `json:"instance"`
	Property string     `json:"property"`
	Index    *int       `json:"index"`
	Value    wire.Value `json:"value"`
	As       string     `json:"as"`
	Priority int        `json:"priority"`
}) (twin.None, error) {
	p := Point{Object: in.Object, Instance: in.Instance, Property: in.Property, Index: in.Index, As: in.As, Priority: in.Priority}
	return twin.None{}, writeTo(t, &p, 0, in.Value, 0)
}

func writePoint(t *Twin, i int, v wire.Value, priority int) error {
	return writeTo(t, &t.Settings().Points[i], i+1, v, priority)
}

func writeTo(t *Twin, p *Point, point int, v wire.Value, priority int) error {
	at, problem := p.place()
	if problem != "" {
		return &twin.Error{Code: codeInput, Message: problem}
	}
	as := p.as(at)
	if as == "" && v.Exists() {
		return &twin.Error{Code: codeInput, Message: "it is not known how " + at.String() + " is written; say it by as"}
	}
	data, problem := encode(as, v)
	if problem != "" {
		return &twin.Error{Code: codeInput, Message: problem}
	}
	if priority == 0 {
		priority = p.Priority
	}
	if priority == 0 && at.property == propertyPresentValue {
		priority = t.Settings().Priority
	}
	return command(t, serviceWrite, point, func(id byte) []byte { return writeRequest(id, at, data, priority) })
}

// command sends a request, whose answer decides the pending call. The one before is given up.
func command(t *Twin, service uint8, point int, request func(id byte) []byte) error {
	m := t.Memory()
	if m.Asked != "" && m.Next == m.AskedID {
		m.Next++
	}
	m.Wait = &Wait{ID: m.Next, Service: service, Point: point}
	m.Next++
	err := t.Send(frame(bvlcUnicast, t.Settings().route(), true, request(m.Wait.ID)))
	if errors.Is(err, twin.ErrDisconnected) {
		return &twin.Error{Code: codeOffline, Message: "the device is not connected", Retryable: true}
	}
	if err != nil {
		return err
	}
	return twin.ErrPending
}
