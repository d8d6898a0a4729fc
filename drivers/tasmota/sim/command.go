package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// receive runs on the MQTT client's goroutine and must not block it: where 64 commands wait already, one is lost, as
// in a real device that is short of memory.
func (d *Device) receive(_ paho.Client, m paho.Message) {
	name := m.Topic()[strings.LastIndexByte(m.Topic(), '/')+1:]
	select {
	case d.orders <- order{name, string(m.Payload())}:
	default:
		d.sim.journal.Add(d.topic, "fault", "too many commands: lost "+name)
	}
}

// obey runs one command, of any letter case, with the number at its end as index.
func (d *Device) obey(o order) {
	letters := strings.TrimRight(o.name, "0123456789")
	index, err := strconv.Atoi(o.name[len(letters):])
	if err != nil {
		index = -1
	}
	payload := strings.TrimSpace(o.payload)
	switch command := strings.ToUpper(letters); {
	case command == "POWER" && d.relays > 0:
		d.obeyPower(index, payload)
	case command == "STATUS":
		d.obeyStatus(payload, index == 0)
	case command == "STATE":
		d.mu.Lock()
		state := d.state(time.Now())
		d.mu.Unlock()
		d.publish("stat", "RESULT", state, false)
	case command == "TELEPERIOD":
		d.obeyPeriod(payload)
	case command == "BACKLOG":
		for part := range strings.SplitSeq(payload, ";") {
			if name, arg, _ := strings.Cut(strings.TrimSpace(part), " "); name != "" && !strings.EqualFold(name, "backlog") {
				d.obey(order{name, arg})
			}
		}
	case command == "RESTART" && payload == "1":
		d.publish("stat", "RESULT", `{"Restart":"Restarting"}`, false)
		d.mu.Lock()
		d.booted = time.Now()
		d.mu.Unlock()
		d.Cut()
	case (d.kind == Dimmer || d.kind == Light) && d.obeyLight(command, payload):
	default:
		var r object
		r.text("Command", "Unknown")
		r.text("Input", strings.ToUpper(o.name))
		d.publish("stat", "RESULT", r.String(), false)
	}
}

// obeyPower switches relay n; 0 means all, any other number that there is no relay for means the first.
func (d *Device) obeyPower(n int, payload string) {
	first, last := n, n
	switch {
	case n == 0:
		first, last = 1, d.relays
	case n < 1 || n > d.relays:
		first, last = 1, 1
	}
	for n := first; n <= last; n++ {
		d.mu.Lock()
		was := d.power[n-1]
		d.meter(time.Now())
		switch strings.ToUpper(payload) {
		case "ON", "1", "TRUE":
			d.power[n-1] = true
		case "OFF", "0", "FALSE":
			d.power[n-1] = false
		case "TOGGLE", "2":
			d.power[n-1] = !was
		}
		now := d.power[n-1]
		d.meter(time.Now())
		d.mu.Unlock()
		if now != was {
			d.sim.journal.Add(d.topic, "state", d.powerName(n)+" "+onOff(now))
		}
		d.reportPower(n)
	}
}

// reportPower sends RESULT and POWER, as after each change and each question.
func (d *Device) reportPower(n int) {
	name, state := d.powerName(n), onOff(d.Power(n))
	d.publish("stat", "RESULT", fmt.Sprintf(`{"%s":"%s"}`, name, state), false)
	d.publish("stat", name, state, false)
}

func (d *Device) obeyStatus(payload string, joined bool) {
	d.mu.Lock()
	parts := d.status(time.Now())
	d.mu.Unlock()
	if joined { // Status0: all in one message
		var all strings.Builder
		for _, p := range parts {
			all.WriteString(p.payload)
		}
		d.publish("stat", "STATUS0", strings.ReplaceAll(all.String(), "}{", ","), false)
		return
	}
	for _, p := range parts {
		number := strings.TrimPrefix(p.name, "STATUS")
		if payload == "0" || payload == number || payload == "8" && number == "10" {
			if payload == "8" {
				p.name = "STATUS8"
			}
			d.publish("stat", p.name, p.payload, false)
		}
	}
}

// obeyPeriod sets the period of telemetry in seconds, and sends one at once.
func (d *Device) obeyPeriod(payload string) {
	if s, err := strconv.Atoi(payload); err == nil && s >= 10 && s <= 3600 {
		d.mu.Lock()
		d.period = time.Duration(s) * time.Second
		d.mu.Unlock()
	}
	d.publish("stat", "RESULT", fmt.Sprintf(`{"TelePeriod":%d}`, int(d.telePeriod().Seconds())), false)
	d.telemetry()
}

// obeyLight runs the commands of lights; it says false to what is none. A value out of range changes nothing and is
// answered with the state, as the firmware does.
func (d *Device) obeyLight(command, payload string) bool {
	d.mu.Lock()
	before, was := d.light, d.power[0]
	bright := -1 // the brightness that was asked for
	l := &d.light
	switch colour := d.kind == Light; {
	case command == "DIMMER":
		if n, ok := dimmerValue(payload, l.dimmer); ok {
			l.setDimmer(n)
			bright = n
		}
	case command == "COLOR" && colour:
		if rgb, ok := parseColor(payload); ok {
			l.setRGB(rgb)
			bright = l.dimmer
		}
	case command == "HSBCOLOR" && colour:
		if v, ok := parseNumbers(payload, 360); ok && len(v) == 3 && v[1] <= 100 && v[2] <= 100 {
			l.setHSB(v[0], v[1], v[2])
			bright = v[2]
		}
	case command == "CT" && colour:
		if n, err := strconv.Atoi(payload); err == nil && n >= 153 && n <= 500 {
			l.setCT(n)
			bright = l.dimmer
		}
	default:
		d.mu.Unlock()
		return false
	}
	if bright >= 0 {
		d.power[0] = bright > 0
	}
	changed, now := *l != before, d.power[0]
	var r object
	r.text("POWER", onOff(now))
	d.lightMembers(&r)
	state := l.hsb()
	if d.kind == Dimmer {
		state = strconv.Itoa(l.dimmer)
	}
	d.mu.Unlock()
	if changed {
		d.sim.journal.Add(d.topic, "state", "light "+state)
	}
	if now != was {
		d.sim.journal.Add(d.topic, "state", "POWER "+onOff(now))
		d.reportPower(1)
	}
	d.publish("stat", "RESULT", r.String(), false)
	return true
}

// dimmerValue reads 0 to 100, or + and - for ten more or less.
func dimmerValue(payload string, now int) (int, bool) {
	switch payload {
	case "+":
		return min(now+10, 100), true
	case "-":
		return max(now-10, 1), true
	}
	n, err := strconv.Atoi(payload)
	return n, err == nil && n >= 0 && n <= 100
}
