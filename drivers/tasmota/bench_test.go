package main_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
)

// nobody is a host whose driver is not expected to reach out.
type nobody struct{ drivers.Denied }

func (nobody) Publish(context.Context, string, []byte, byte, bool) error { return nil }

// BenchmarkMessage is one message of telemetry through the sandbox, of a device that is known already.
func BenchmarkMessage(b *testing.B) {
	r := peertest.Load(b, ".")
	for name, text := range map[string]string{
		"state":  `tele/desk/STATE` + "\x00" + `{"Time":"2026-01-01T00:00:00","Uptime":"0T00:10:11","UptimeSec":611,"Heap":24,"SleepMode":"Dynamic","Sleep":50,"LoadAvg":19,"MqttCount":1,"POWER":"OFF","Wifi":{"AP":1,"SSId":"x","BSSId":"02:00:00:00:00:01","Channel":6,"Mode":"11n","RSSI":44,"Signal":-78,"LinkCount":1,"Downtime":"0T00:00:03"}}`,
		"sensor": `tele/desk/SENSOR` + "\x00" + `{"Time":"2026-01-01T00:00:00","AM2301":{"Temperature":21.4,"Humidity":48.1,"DewPoint":10.0},"TempUnit":"C"}`,
	} {
		b.Run(name, func(b *testing.B) {
			state := map[string]json.RawMessage{}
			call := drivers.Call{
				Event: drivers.EventReceived, Input: []byte(text), Tenant: "default",
				Settings: []byte(`{"topic":"desk","discover":false}`),
				State:    func() []byte { s, _ := json.Marshal(state); return s },
			}
			ctx := context.Background()
			first, err := r.Handle(ctx, call, nobody{})
			if err != nil {
				b.Fatal(err)
			}
			state["memory"] = first.Memory
			text, _ := json.Marshal(state)
			call.State = func() []byte { return text }
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Handle(ctx, call, nobody{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
