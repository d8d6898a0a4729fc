// Package twin is the SDK for drivers in Go. A driver is an ordinary typed program: it says what it does on events of
// its device and on commands, reports properties, and keeps what it must remember in a struct of its own.
//
//	type Settings struct {
//		PollSeconds int `json:"poll_s"`
//	}
//
//	type Memory struct {
//		Asked string `json:"asked,omitempty"`
//	}
//
//	type Twin = twin.Twin[Settings, Memory]
//
//	func NewDriver() *twin.Driver[Settings, Memory] {
//		d := twin.New[Settings, Memory]()
//		d.OnConnected(func(t *Twin) error {
//			return t.Every("poll", time.Duration(t.Settings().PollSeconds)*time.Second, nil)
//		})
//		d.OnReceived(func(t *Twin, frame []byte) error {
//			t.Report("level", len(frame))
//			return nil
//		})
//		d.OnTimer("poll", func(t *Twin, _ wire.Value) error { return t.Send([]byte("level?")) })
//		twin.Property(d, "level", func(t *Twin, level int) error {
//			return t.Send(strconv.AppendInt([]byte("level "), int64(level), 10))
//		})
//		twin.Command(d, "blink", func(t *Twin, in struct{ Times int `json:"times"` }) (twin.None, error) {
//			return twin.None{}, t.Send([]byte("blink"))
//		})
//		return d
//	}
//
//	func init() { twin.Serve(NewDriver()) }
//	func main() {}
//
// It is built with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags=-w -o d.wasm .
//	go run github.com/polluxhq/pollux/drivers/sdk/pack -manifest driver.json -o driver.wasm d.wasm
//
// `pollux driver build` does both. With "schemas": "types" in driver.json it takes from the types (Schemas) what the manifest does not say.
//
// The same program builds natively, where package twintest drives it in ordinary tests.
//
// All that one call reports, emits, schedules and remembers takes effect together when its handler returns nil or
// ErrPending, and not at all when it returns another error or panics. Bytes that were sent cannot be taken back.
package twin
