package sim

import (
	"fmt"
	"math"
	"strings"
	"time"
)

const version = "13.4.0(tasmota)"

// announce does what the firmware does on each connection: presence, subscriptions, information, discovery, state.
func (d *Device) announce() error {
	d.publishRaw("tele/"+d.topic+"/LWT", "Online", true)
	d.publishRaw("cmnd/"+d.topic+"/POWER", "", false)
	for i, topic := range []string{
		"cmnd/" + d.topic + "/#", "cmnd/tasmotas/#", fmt.Sprintf("cmnd/DVES_%06X_fb/#", d.number),
	} {
		token := d.client.Subscribe(topic, 0, d.receive)
		if !token.WaitTimeout(ackTimeout) {
			return fmt.Errorf("subscribe %s: no answer", topic)
		}
		// A broker may keep a device to its own topics: only the first is needed.
		if err := token.Error(); err != nil && i == 0 {
			return fmt.Errorf("subscribe %s: %w", topic, err)
		}
	}
	for i, info := range d.infos() {
		payload := info
		if !d.sim.o.OldFirmware {
			payload = fmt.Sprintf(`{"Info%d":%s}`, i+1, info)
		}
		d.publish("tele", fmt.Sprintf("INFO%d", i+1), payload, false)
	}
	for n := 1; n <= d.relays; n++ {
		d.reportPower(n)
	}
	d.publishRaw("tasmota/discovery/"+d.mac+"/config", d.discovery(), true)
	d.mu.Lock()
	sensors := d.sensors(time.Now())
	d.mu.Unlock()
	d.publishRaw("tasmota/discovery/"+d.mac+"/sensors", `{"sn":`+sensors+`,"ver":1}`, true)
	d.telemetry()
	return nil
}

func (d *Device) infos() [3]string {
	var one, two, three object
	one.text("Module", d.module())
	one.text("Version", version)
	one.text("FallbackTopic", fmt.Sprintf("cmnd/DVES_%06X_fb/", d.number))
	one.text("GroupTopic", "cmnd/tasmotas/")
	two.text("WebServerMode", "Admin")
	two.text("Hostname", d.hostname())
	two.text("IPAddress", d.ip())
	three.text("RestartReason", "Software/System restart")
	three.whole("BootCount", 12)
	return [3]string{one.String(), two.String(), three.String()}
}

func (d *Device) module() string   { return "Simulated " + string(d.kind) }
func (d *Device) hostname() string { return fmt.Sprintf("%s-%04d", d.topic, d.number&0x1fff) }

func (d *Device) ip() string {
	return fmt.Sprintf("192.168.%d.%d", 10+d.number>>8&7, 2+d.number&0xff%250)
}

// friendlyNames has one name per relay, and one where there is none.
func (d *Device) friendlyNames() []string {
	names := []string{d.topic}
	for n := 2; n <= d.relays; n++ {
		names = append(names, fmt.Sprintf("%s %d", d.topic, n))
	}
	return names
}

func quoted(list []string) string {
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q", s)
	}
	return "[" + b.String() + "]"
}

func (d *Device) discovery() string {
	relay := 1
	subtype := 0
	switch d.kind {
	case Dimmer:
		relay, subtype = 2, 1
	case Light:
		relay, subtype = 2, 5
	}
	relays := make([]string, 8)
	for i := range relays {
		relays[i] = "0"
		if i < d.relays {
			relays[i] = fmt.Sprint(relay)
		}
	}
	names := []string{"null", "null", "null", "null", "null", "null", "null", "null"}
	for i, n := range d.friendlyNames() {
		names[i] = fmt.Sprintf("%q", n)
	}
	var o object
	o.text("ip", d.ip())
	o.text("dn", d.topic)
	o.raw("fn", "["+strings.Join(names, ",")+"]")
	o.text("hn", d.hostname())
	o.text("mac", d.mac)
	o.text("md", d.module())
	o.whole("ty", 0)
	o.whole("if", 0)
	o.text("ofln", "Offline")
	o.text("onln", "Online")
	o.raw("state", `["OFF","ON","TOGGLE","HOLD"]`)
	o.text("sw", "13.4.0")
	o.text("t", d.topic)
	o.text("ft", "%prefix%/%topic%/")
	o.raw("tp", `["cmnd","stat","tele"]`)
	o.raw("rl", "["+strings.Join(relays, ",")+"]")
	o.raw("swc", "[-1,-1,-1,-1,-1,-1,-1,-1]")
	o.raw("so", `{"4":0,"11":0,"13":0,"17":0,"20":0,"30":0,"68":0,"73":0,"82":0,"114":0,"117":0}`)
	o.whole("lk", 1)
	o.whole("lt_st", subtype)
	o.whole("ver", 1)
	return o.String()
}

// telemetry sends STATE and, where there is a sensor, SENSOR.
func (d *Device) telemetry() {
	now := time.Now()
	d.mu.Lock()
	state, sensors := d.state(now), d.sensors(now)
	d.mu.Unlock()
	d.publish("tele", "STATE", state, false)
	if d.kind != Switch2 && d.kind != Switch4 && d.kind != Dimmer && d.kind != Light {
		d.publish("tele", "SENSOR", sensors, false)
	}
}

// powerName is POWER where there is one relay, POWER1 … where there are several.
func (d *Device) powerName(n int) string {
	if d.relays <= 1 {
		return "POWER"
	}
	return fmt.Sprintf("POWER%d", n)
}

func uptime(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%dT%02d:%02d:%02d", s/86400, s/3600%24, s/60%60, s%60)
}

// state is what STATE and STATUS11 hold. The caller holds the lock.
func (d *Device) state(now time.Time) string {
	up := now.Sub(d.booted)
	var o object
	o.text("Time", now.Format("2006-01-02T15:04:05"))
	o.text("Uptime", uptime(up))
	o.whole("UptimeSec", int(up.Seconds()))
	o.whole("Heap", 24)
	o.text("SleepMode", "Dynamic")
	o.whole("Sleep", 50)
	o.whole("LoadAvg", 19)
	o.whole("MqttCount", d.connects)
	for n := 1; n <= d.relays; n++ {
		o.text(d.powerName(n), onOff(d.power[n-1]))
	}
	d.lightMembers(&o)
	rssi := 60 + int(math.Round(20*d.wave(now, 211)))
	var w object
	w.whole("AP", 1)
	w.text("SSId", "simulated")
	w.text("BSSId", "02:00:00:00:00:01")
	w.whole("Channel", 6)
	w.text("Mode", "11n")
	w.whole("RSSI", rssi)
	w.whole("Signal", rssi/2-100)
	w.whole("LinkCount", 1)
	w.text("Downtime", "0T00:00:03")
	o.raw("Wifi", w.String())
	return o.String()
}

func (d *Device) lightMembers(o *object) {
	switch d.kind {
	case Dimmer:
		o.whole("Dimmer", d.light.dimmer)
	case Light:
		o.whole("Dimmer", d.light.dimmer)
		o.text("Color", d.light.color(d.power[0]))
		o.text("HSBColor", d.light.hsb())
		c := d.light.channels()
		white := 0
		if d.light.white {
			white = d.light.dimmer
		}
		o.whole("White", white)
		o.whole("CT", d.light.ct)
		o.raw("Channel", fmt.Sprintf("[%d,%d,%d,%d,%d]", c[0], c[1], c[2], c[3], c[4]))
	}
}

// status gives the parts of the answer to Status 0, by their number; energy margins (9) are not simulated.
func (d *Device) status(now time.Time) []struct{ name, payload string } {
	mask := 0
	for i, on := range d.power {
		if on {
			mask |= 1 << i
		}
	}
	part := func(name string, o object) struct{ name, payload string } {
		return struct{ name, payload string }{name, o.String()}
	}
	wrap := func(name, value string) object {
		var o object
		o.raw(name, value)
		return o
	}
	var s, prm, fwr, log, mem, net, mqt, tim object
	s.whole("Module", 18)
	s.text("DeviceName", d.topic)
	s.raw("FriendlyName", quoted(d.friendlyNames()))
	s.text("Topic", d.topic)
	s.text("ButtonTopic", "0")
	s.whole("Power", mask)
	s.whole("PowerOnState", 3)
	prm.whole("Baudrate", 115200)
	prm.text("RestartReason", "Software/System restart")
	prm.text("Uptime", uptime(now.Sub(d.booted)))
	prm.whole("BootCount", 12)
	fwr.text("Version", version)
	fwr.text("BuildDateTime", "2026-01-01T00:00:00")
	fwr.text("Hardware", "simulated")
	log.whole("TelePeriod", int(d.period.Seconds()))
	mem.whole("Heap", 24)
	net.text("Hostname", d.hostname())
	net.text("IPAddress", d.ip())
	net.text("Gateway", "192.168.10.1")
	net.text("Mac", d.colonMAC())
	mqt.text("MqttHost", d.sim.o.Broker)
	mqt.text("MqttClient", fmt.Sprintf("DVES_%06X", d.number))
	mqt.whole("MqttCount", d.connects)
	tim.text("UTC", now.UTC().Format("2006-01-02T15:04:05"))
	tim.text("Local", now.Format("2006-01-02T15:04:05"))
	return []struct{ name, payload string }{
		part("STATUS", wrap("Status", s.String())), part("STATUS1", wrap("StatusPRM", prm.String())),
		part("STATUS2", wrap("StatusFWR", fwr.String())), part("STATUS3", wrap("StatusLOG", log.String())),
		part("STATUS4", wrap("StatusMEM", mem.String())), part("STATUS5", wrap("StatusNET", net.String())),
		part("STATUS6", wrap("StatusMQT", mqt.String())), part("STATUS7", wrap("StatusTIM", tim.String())),
		part("STATUS10", wrap("StatusSNS", d.sensors(now))), part("STATUS11", wrap("StatusSTS", d.state(now))),
	}
}

func (d *Device) colonMAC() string {
	var parts []string
	for i := 0; i < len(d.mac); i += 2 {
		parts = append(parts, d.mac[i:i+2])
	}
	return strings.Join(parts, ":")
}
