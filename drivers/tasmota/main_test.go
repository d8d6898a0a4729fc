package main

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/twintest"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

type stage struct {
	*twintest.Twin
	t *testing.T
}

func newStage(t *testing.T) *stage {
	s := &stage{twintest.New(t, newDriver(), Settings{Topic: "desk"}), t}
	s.Load("start")
	if r := s.Connect(); r.Err != nil {
		t.Fatal(r.Err)
	}
	s.told("cmnd/desk/Status 0")
	s.hears("stat/desk/STATUS", `{"Status":{}}`)
	return s
}

// told checks what the device was told since the last look.
func (s *stage) told(want ...string) {
	s.t.Helper()
	var got []string
	for _, m := range s.TakePublished() {
		got = append(got, m.Topic+" "+m.Payload)
		if m.QoS != 1 || m.Retain {
			s.t.Errorf("%+v", m)
		}
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("told %q, want %q", got, want)
	}
}

func (s *stage) hears(topic, payload string) {
	s.t.Helper()
	if r := s.Message(topic, payload); r.Err != nil {
		s.t.Fatalf("%s: %v", topic, r.Err)
	}
}

func (s *stage) has(want map[string]string) {
	s.t.Helper()
	for name, value := range want {
		if s.Properties[name] != value {
			s.t.Errorf("%s = %s, want %s", name, s.Properties[name], value)
		}
	}
}

// schema is the last description of a property.
func (s *stage) schema(name string) string {
	s.t.Helper()
	if len(s.Described) == 0 {
		s.t.Fatal("nothing described")
	}
	doc, err := wire.Parse([]byte(s.Described[len(s.Described)-1]))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(doc.Get("properties", name))
}

func TestRealMessages(t *testing.T) {
	s := newStage(t)
	// As firmware 13 writes them.
	s.hears("tele/desk/STATE", `{"Time":"2026-01-01T00:00:00","UptimeSec":611,"Heap":24,"POWER":"OFF","Dimmer":2,"HSBColor":"25,100,2","Color":"0502000000","CT":153,"Wifi":{"AP":1,"RSSI":44,"Signal":-78}}`)
	s.has(map[string]string{
		"power1": "false", "dimmer": "2", "hsb": `"25,100,2"`, "color": `"#050200"`, "ct": "153", "uptime_s": "611",
		"wifi_rssi": "44", "wifi_signal": "-78",
	})
	if len(s.Described) != 1 {
		t.Errorf("described %d times in one call", len(s.Described))
	}
	if got := s.schema("power1"); got != `{"title":"Relay 1","type":"boolean"}` {
		t.Error(got)
	}
	s.hears("tele/desk/SENSOR", `{"Time":"x","AM2301":{"Temperature":21.4,"Humidity":48.1,"DewPoint":10},"TempUnit":"C"}`)
	s.has(map[string]string{"am2301_temperature": "21.4", "am2301_humidity": "48.1", "am2301_dew_point": "10"})
	if got := s.schema("am2301_temperature"); !strings.Contains(got, `"unit":"Cel"`) || !strings.Contains(got, `"readOnly":true`) {
		t.Error(got)
	}
	s.hears("tele/desk/SENSOR", `{"Time":"x","ENERGY":{"TotalStartTime":"x","Total":3.18,"Yesterday":0.1,"Today":0.05,"Power":7,"ApparentPower":12,"ReactivePower":10,"Factor":0.58,"Voltage":230,"Current":0.052}}`)
	s.has(map[string]string{
		"total_kwh": "3.18", "yesterday_kwh": "0.1", "today_kwh": "0.05", "power_w": "7", "apparent_power_va": "12",
		"reactive_power_var": "10", "power_factor": "0.58", "voltage": "230", "current": "0.052",
	})
	if got := s.schema("total_kwh"); !strings.Contains(got, `"unit":"kWh"`) {
		t.Error(got)
	}
	s.hears("stat/desk/RESULT", `{"POWER":"ON"}`)
	s.has(map[string]string{"power1": "true"})
	s.hears("stat/desk/POWER", `OFF`)
	s.has(map[string]string{"power1": "false"})
	s.hears("tele/desk/INFO1", `{"Info1":{"Module":"Sonoff S31","Version":"13.4.0(tasmota)"}}`)
	s.hears("tele/desk/INFO2", `{"WebServerMode":"Admin","Hostname":"desk-1","IPAddress":"10.0.0.9"}`) // older firmware
	s.has(map[string]string{"module": `"Sonoff S31"`, "version": `"13.4.0(tasmota)"`, "ip": `"10.0.0.9"`, "hostname": `"desk-1"`})
	s.hears("stat/desk/STATUS5", `{"StatusNET":{"Hostname":"desk-2","IPAddress":"10.0.0.10","Mac":"DC:4F:22:00:00:01"}}`)
	s.hears("stat/desk/STATUS10", `{"StatusSNS":{"Time":"x","AM2301":{"Temperature":22}}}`)
	s.hears("stat/desk/STATUS11", `{"StatusSTS":{"POWER":"ON","Uptime":"1T02:03:04"}}`)
	s.has(map[string]string{"ip": `"10.0.0.10"`, "mac": `"DC:4F:22:00:00:01"`, "am2301_temperature": "22", "power1": "true", "uptime_s": "93784"})
}

func TestFirmwareQuirks(t *testing.T) {
	s := newStage(t)
	s.hears("tele/desk/SENSOR", `{"Time":"x","Switch1":"ON","Switch2":{"Action":"OFF"},"ANALOG":{"A0":512},"DS18B20-1":{"Id":"0123","Temperature":70.2},"DS18B20-2":{"Id":"0124","Temperature":null},"SDS0X1":{"PM2.5":7.5},"TempUnit":"F"}`)
	s.has(map[string]string{"switch1": "true", "switch2": "false", "analog_a0": "512", "ds18b20_1_temperature": "70.2", "ds18b20_2_temperature": "", "sds0x1_pm2_5": "7.5"})
	if got := s.schema("ds18b20_1_temperature"); !strings.Contains(got, `"[degF]"`) {
		t.Error(got)
	}
	s.hears("tele/desk/SENSOR", `{"DS18B20-1":{"Temperature":null},"Switch1":7}`) // no answer; and another kind of value
	s.has(map[string]string{"ds18b20_1_temperature": "null", "switch1": "true"})
	// Several relays, several phases, decimal colours.
	s.hears("tele/desk/STATE", `{"POWER1":"ON","POWER2":"OFF","POWER32":"ON","POWER33":"ON","POWER0":"ON","POWER01":"ON"}`)
	s.has(map[string]string{"power1": "true", "power2": "false", "power32": "true", "power33": "", "power0": ""})
	s.hears("tele/desk/SENSOR", `{"ENERGY":{"Power":[1,2,3],"Voltage":[230,231,229],"Total":5}}`)
	s.has(map[string]string{"power_w_1": "1", "power_w_3": "3", "voltage_2": "231", "total_kwh": "5"})
	s.hears("stat/desk/RESULT", `{"Color":"255,128,0,0,0"}`)
	s.has(map[string]string{"color": `"#FF8000"`})
	// A sensor cannot take the name of something else.
	s.hears("tele/desk/SENSOR", `{"Version":5,"Power1":7,"Ct":3}`)
	s.has(map[string]string{"version": "", "power1": "true", "ct": ""})
	s.hears("stat/desk/RESULT", `{"Button1":{"Action":"SINGLE"}}`)
	if want := (twintest.Event{Name: "pressed", Data: `{"input":"button1","action":"single"}`}); len(s.Events) != 1 || s.Events[0] != want {
		t.Errorf("events %v", s.Events)
	}
	// All of Status 0 in one message.
	s.hears("stat/desk/STATUS0", `{"Status":{"DeviceName":"Desk","FriendlyName":["Lamp","Fan"]},"StatusFWR":{"Version":"14.1"},"StatusSTS":{"UptimeSec":9}}`)
	s.has(map[string]string{"name": `"Desk"`, "version": `"14.1"`, "uptime_s": "9"})
	if got := s.schema("power2"); got != `{"title":"Fan","type":"boolean"}` {
		t.Error(got)
	}
}

func TestPowerIsDecidedByTheAnswer(t *testing.T) {
	s := newStage(t)
	s.hears("tele/desk/STATE", `{"POWER1":"OFF","POWER2":"OFF"}`)
	if r := s.Set("power2", "true"); !r.Pending {
		t.Fatalf("%+v", r)
	}
	s.told("cmnd/desk/Power2 ON")
	for _, other := range []string{"tele/desk/STATE\x00" + `{"POWER2":"OFF"}`, "stat/desk/RESULT\x00" + `{"POWER1":"ON"}`, "stat/desk/POWER2\x00ON", "stat/desk/RESULT\x00garbage"} {
		if r := s.Reply(other); !r.Pending {
			t.Fatalf("%q decided: %+v", other, r)
		}
	}
	s.has(map[string]string{"power1": "true"}) // heard meanwhile
	if r := s.Reply("stat/desk/RESULT\x00" + `{"POWER2":"ON"}`); r.Pending || r.Err != nil {
		t.Fatalf("%+v", r)
	}
	s.has(map[string]string{"power2": "true"})
	// One relay: POWER stands for POWER1.
	s = newStage(t)
	s.Command("power", `{"on":true}`)
	s.told("cmnd/desk/Power1 ON")
	if r := s.Reply("stat/desk/RESULT\x00" + `{"POWER":"ON"}`); r.Pending || r.Err != nil {
		t.Fatalf("%+v", r)
	}
	s.Command("toggle", `{}`)
	s.told("cmnd/desk/Power1 TOGGLE")
	if r := s.Reply("stat/desk/RESULT\x00" + `{"POWER":"OFF"}`); r.Pending || r.Err != nil {
		t.Fatalf("%+v", r)
	}
	// Interlocked relays stay as they are.
	s.Command("power", `{"on":true}`)
	if r := s.Reply("stat/desk/RESULT\x00" + `{"POWER":"OFF"}`); r.Err == nil || r.Err.Code != codeRefused {
		t.Fatalf("%+v", r)
	}
	// The device would switch relay 1 instead.
	s.TakePublished()
	if r := s.Command("power", `{"relay":2,"on":true}`); r.Err == nil || r.Err.Code != codeNoRelay || r.Err.Retryable {
		t.Fatalf("%+v", r)
	}
	s.told()
}

func TestLightOrders(t *testing.T) {
	s := newStage(t)
	for _, c := range []struct{ property, value, told, answer, reported string }{
		{"dimmer", "40", "cmnd/desk/Dimmer 40", `{"POWER":"ON","Dimmer":40}`, "40"},
		{"color", `"#FF8000"`, "cmnd/desk/Color FF8000", `{"POWER":"ON","Color":"FF80000000"}`, `"#FF8000"`},
		{"color", `"#ff80a0"`, "cmnd/desk/Color FF80A0", `{"POWER":"ON","Color":"FF80A00000"}`, `"#ff80a0"`},
		{"hsb", `"30,100,50"`, "cmnd/desk/HSBColor 30,100,50", `{"HSBColor":"30,100,50"}`, `"30,100,50"`},
		{"ct", "200", "cmnd/desk/CT 200", `{"CT":200}`, "200"},
		{"white", "70", "cmnd/desk/White 70", `{"White":70}`, "70"},
	} {
		if r := s.Set(c.property, c.value); !r.Pending {
			t.Fatalf("%s: %+v", c.property, r)
		}
		s.told(c.told)
		if r := s.Reply("stat/desk/RESULT\x00" + `{"POWER":"ON"}`); !r.Pending {
			t.Fatalf("%s: decided by the power alone", c.property)
		}
		if r := s.Reply("stat/desk/RESULT\x00" + c.answer); r.Pending || r.Err != nil {
			t.Fatalf("%s: %+v", c.property, r)
		}
		s.has(map[string]string{c.property: c.reported})
	}
	s.Set("dimmer", "5")
	if r := s.Reply("stat/desk/RESULT\x00" + `{"Command":"Unknown","Input":"DIMMER"}`); r.Err == nil || r.Err.Code != codeUnknown {
		t.Fatalf("%+v", r)
	}
}

// A twin is a device's, which has a topic, or a bridge.
func TestSettings(t *testing.T) {
	raw, err := os.ReadFile("driver.json")
	if err != nil {
		t.Fatal(err)
	}
	var manifest drivers.Manifest
	if err := json.Unmarshal(raw, &manifest); err != nil {
		t.Fatal(err)
	}
	model, err := drivers.NewModel(&manifest)
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{`{"topic":"desk"}`, `{"discover":true}`, `{"topic":"desk","discover":true}`} {
		if _, err := model.ValidateSettings([]byte(good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{``, `{}`, `{"topic":""}`, `{"discover":false}`} {
		var where *drivers.SchemaError
		if _, err := model.ValidateSettings([]byte(bad)); !errors.As(err, &where) || where.Path != "/topic" {
			t.Errorf("%s: %v, want a refusal at /topic", bad, err)
		}
	}
}

func TestCommandAndRefresh(t *testing.T) {
	s := newStage(t)
	if r := s.Command("command", `{"command":"TelePeriod","payload":"30"}`); !r.Pending {
		t.Fatalf("%+v", r)
	}
	s.told("cmnd/desk/TelePeriod 30")
	if r := s.Reply("stat/desk/RESULT\x00" + `{"TelePeriod":30}`); r.Output != `{"TelePeriod":30}` {
		t.Fatalf("%+v", r)
	}
	s.Command("refresh", "")
	s.told("cmnd/desk/Status 0")
	if r := s.Reply("stat/desk/STATUS\x00" + `{"Status":{"DeviceName":"D"}}`); !r.Pending {
		t.Fatalf("%+v", r)
	}
	if r := s.Reply("stat/desk/STATUS11\x00" + `{"StatusSTS":{"UptimeSec":4}}`); r.Pending || r.Err != nil {
		t.Fatalf("%+v", r)
	}
	s.has(map[string]string{"name": `"D"`, "uptime_s": "4"})
	s.Refuse = map[string]twin.Code{"publish": twin.ErrDisconnected}
	if r := s.Command("refresh", ""); r.Err == nil {
		t.Error("no error without broker")
	}
}

func TestDescribesAgainAfterARestart(t *testing.T) {
	s := newStage(t)
	s.hears("tele/desk/STATE", `{"POWER1":"ON","POWER2":"OFF","Dimmer":3}`)
	s.Described = nil
	s.Load("start")
	for _, p := range []string{"power1", "power2", "dimmer"} {
		if s.schema(p) == "" {
			t.Errorf("%s is not described", p)
		}
	}
}

func TestBridge(t *testing.T) {
	b := twintest.New(t, newDriver(), Settings{Discover: true})
	b.Load("start")
	if r := b.Connect(); r.Err != nil || len(b.Published) > 0 {
		t.Fatalf("%+v, %v", r, b.Published)
	}
	b.Message("tasmota/discovery/DC4F22000001/config", `{"ip":"10.0.0.9","dn":"Desk lamp","t":"desk","ft":"%prefix%/%topic%/","rl":[1,0]}`)
	b.Message("tasmota/discovery/DC4F22000002/config", `{"dn":"Elsewhere","t":"other","ft":"home/%topic%/%prefix%/"}`)
	b.Message("tasmota/discovery/DC4F22000001/sensors", `{"sn":{}}`)
	b.Message("tasmota/discovery/DC4F22000003/config", ``)
	b.Message("tele/old/LWT", "Online")
	b.Message("tele/gone/LWT", "Offline")
	if len(b.Discovered) != 2 {
		t.Fatalf("discovered %q", b.Discovered)
	}
	var d struct {
		Network, Key, Value, Name, Driver string
		Settings                          struct{ Topic string }
	}
	if err := json.Unmarshal([]byte(b.Discovered[0]), &d); err != nil {
		t.Fatal(err)
	}
	if d.Network != "tasmota" || d.Key != "topic" || d.Value != "desk" || d.Name != "Desk lamp" || d.Driver != "tasmota" || d.Settings.Topic != "desk" {
		t.Errorf("%+v", d)
	}
	if !strings.Contains(b.Discovered[1], `"value":"old"`) {
		t.Error(b.Discovered[1])
	}
	if r := b.Command("refresh", ""); r.Err == nil {
		t.Error("a bridge has no device")
	}
	// A device's own twin finds nobody.
	s := newStage(t)
	s.hears("tasmota/discovery/DC4F22000001/config", `{"t":"x"}`)
	s.hears("tele/desk/LWT", "Online")
	if len(s.Discovered) != 0 {
		t.Error(s.Discovered)
	}
}

func TestBoundOnSensors(t *testing.T) {
	s := newStage(t)
	var doc strings.Builder
	doc.WriteString(`{"X":{"a":1`)
	for i := range 500 {
		doc.WriteString(`,"v` + strings.Repeat("x", i%30) + string(rune('a'+i/30)) + `":1`)
	}
	doc.WriteString(`}}`)
	for range 3 {
		s.hears("tele/desk/SENSOR", doc.String())
	}
	if len(s.Properties) > maxSeen {
		t.Errorf("%d properties", len(s.Properties))
	}
	warned := 0
	for _, l := range s.Logs {
		if strings.Contains(l, "left out") {
			warned++
		}
	}
	if warned != 1 {
		t.Errorf("warned %d times", warned)
	}
}

func TestSnake(t *testing.T) {
	for in, want := range map[string]string{
		"AM2301": "am2301", "DewPoint": "dew_point", "DS18B20-1": "ds18b20_1", "eCO2": "e_co2", "PM2.5": "pm2_5", "TVOC": "tvoc",
		"CarbonDioxide": "carbon_dioxide", "SeaPressure": "sea_pressure", "ESP32": "esp32", "1wire": "n1wire", "": "", "--": "",
		"Größe": "gr_e", "A0": "a0",
	} {
		if got := snake(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestParseUptime(t *testing.T) {
	for in, want := range map[string]int{`"0T00:10:11"`: 611, `"1T02:03:04"`: 93784, `"x"`: -1, `"1T2:3"`: -1, `5`: -1, `"1T25:00:00"`: -1, `"-1T00:00:00"`: -1} {
		got, ok := parseUptime(wire.Value(in))
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%s: %d", in, got)
		}
	}
}

// Whatever a device says, the driver goes on, and its names and values stay in bounds.
func FuzzMessages(f *testing.F) {
	for _, s := range [][2]string{
		{"tele/desk/STATE", `{"POWER":"OFF","Dimmer":2,"Wifi":{"RSSI":1}}`}, {"tele/desk/SENSOR", `{"A":{"B":{"C":[1,null]}},"ENERGY":{"Power":[1]}}`},
		{"stat/desk/STATUS0", `{"Status":{"FriendlyName":["a"]}}`}, {"tasmota/discovery/x/config", `{"t":"a"}`}, {"tele/x/LWT", "Online"},
		{"stat/desk/POWER1", "\xff"}, {"tele/desk/INFO1", `{"Info1":5}`}, {"", ""}, {"stat/desk/RESULT", `{"Color":"1,2","Button1":{"Action":""}}`},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, topic, payload string) {
		tw := twintest.New(t, newDriver(), Settings{Topic: "desk", Discover: true})
		if r := tw.Message(topic, payload); r.Err != nil {
			t.Fatalf("%v", r.Err)
		}
		for name := range tw.Properties {
			if len(name) > 64 || name != snake(name) {
				t.Fatalf("property %q", name)
			}
		}
		tw.Command("power", `{"on":true}`)
		tw.Reply(topic + "\x00" + payload)
	})
}

func TestDamagedMessagesAreRefused(t *testing.T) {
	s := newStage(t)
	s.hears("stat/desk/RESULT", `{"POWER":"ON"}`)
	for _, payload := range []string{`{"POWER":`, strings.Repeat("[", 200_000), `{"POWER":"OFF"}}`, `[1]`, "5", "", "garbage", "{\"POWER\":\"\xff\"}"} {
		for _, topic := range []string{"tele/desk/STATE", "tele/desk/SENSOR", "tele/desk/INFO1", "stat/desk/RESULT", "stat/desk/STATUS11"} {
			if r := s.Message(topic, payload); r.Err == nil || r.Err.Code != 1 || r.Err.Retryable {
				t.Errorf("%s %.20q: %+v", topic, payload, r.Err)
			}
		}
	}
	for _, payload := range []string{`{"POWER":`, strings.Repeat("[", 200_000)} {
		if r := s.Message("stat/desk/POWER", payload); r.Err == nil || r.Err.Code != 1 {
			t.Errorf("POWER %.20q: %+v", payload, r.Err)
		}
	}
	for _, topic := range []string{"stat/desk/LOGGING", "tele/desk/LWT", "tele/desk/BATTERY"} { // of no known form
		s.hears(topic, "plain text")
	}
	s.has(map[string]string{"power1": "true"})
	s.hears("stat/desk/POWER", `{"POWER":"OFF"}`) // SetOption4
	s.has(map[string]string{"power1": "false"})

	bridge := &stage{twintest.New(t, newDriver(), Settings{Discover: true}), t}
	bridge.Load("start")
	bridge.hears("tasmota/discovery/DC4F22000001/config", "")
	if r := bridge.Message("tasmota/discovery/DC4F22000001/config", `{"t":`); r.Err == nil || r.Err.Code != 1 {
		t.Errorf("discovery: %+v", r.Err)
	}
}

func TestAsksAgainWhatWasMissed(t *testing.T) {
	s := newStage(t)
	s.Disconnect("offline")
	s.Connect() // the firmware has not subscribed yet
	s.told("cmnd/desk/Status 0")
	s.hears("stat/desk/RESULT", `{"POWER":"ON"}`)
	s.told()
	s.hears("tele/desk/INFO3", `{"Info3":{"RestartReason":"x"}}`)
	s.told("cmnd/desk/Status 0")
	s.hears("stat/desk/STATUS5", `{"StatusNET":{"Mac":"DC:4F:22:00:00:01"}}`)
	s.hears("tele/desk/STATE", `{"POWER":"ON"}`)
	s.told()
}
