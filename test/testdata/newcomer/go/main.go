// The kettle driver speaks to a kettle that talks in lines over TCP. It answers "GET TEMP" with "TEMP 21.5", "SET TARGET 80"
// with "OK" or "ERR" and a reason, and says "BOILED" by itself.
package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Settings of a kettle: none.
type Settings struct{}

// Memory is what is kept between calls: the target that the kettle has yet to accept.
type Memory struct {
	Asked int `json:"asked"`
}

// Twin is a kettle's twin.
type Twin = twin.Twin[Settings, Memory]

func newDriver() *twin.Driver[Settings, Memory] {
	d := twin.New[Settings, Memory]()
	d.OnConnected(func(t *Twin) error {
		if err := t.Every("poll", 5*time.Second, nil); err != nil {
			return err
		}
		return say(t, "GET TEMP")
	})
	d.OnDisconnected(func(t *Twin, _ string) error { return t.Cancel("poll") })
	d.OnTimer("poll", func(t *Twin, _ wire.Value) error { return say(t, "GET TEMP") })
	d.OnReceived(func(t *Twin, frame []byte) error { return line(t, string(frame)) })
	d.OnAnswer(answer)
	twin.Property(d, "target", func(t *Twin, degrees int) error {
		t.Memory().Asked = degrees
		if err := say(t, fmt.Sprintf("SET TARGET %d", degrees)); err != nil {
			return err
		}
		return twin.ErrPending // the kettle's answer decides
	})
	return d
}

func answer(t *Twin, frame []byte) (any, error) {
	text := string(frame)
	if why, refused := strings.CutPrefix(text, "ERR "); refused {
		return nil, &twin.Error{Code: 2, Message: why}
	}
	if text != "OK" {
		if err := line(t, text); err != nil {
			return nil, err
		}
		return nil, twin.ErrPending
	}
	t.Report("target", t.Memory().Asked)
	return nil, nil
}

// line takes what the kettle says.
func line(t *Twin, text string) error {
	if text == "BOILED" {
		return t.Emit("boiled", nil)
	}
	number, isTemp := strings.CutPrefix(text, "TEMP ")
	degrees, err := strconv.ParseFloat(number, 64)
	if !isTemp || err != nil {
		t.Log("warn", "not understood: "+text)
		return nil
	}
	t.Report("temperature", degrees)
	return nil
}

func say(t *Twin, line string) error { return t.Send([]byte(line + "\n")) }

func init() { twin.Serve(newDriver()) }

func main() {}
