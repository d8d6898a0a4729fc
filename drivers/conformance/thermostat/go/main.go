// The thermostat is the example driver of all SDKs, here in Go. What it does is in drivers/conformance/README.md.
package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Settings of a thermostat.
type Settings struct {
	PIN     string `json:"pin"`
	PollS   int    `json:"poll_s"`
	Zone    string `json:"zone"`
	Outdoor string `json:"outdoor"`
	Display string `json:"display"`
	Weather string `json:"weather"`
}

// Memory of a thermostat from call to call.
type Memory struct {
	Boosts  int   `json:"boosts"`
	Asked   asked `json:"asked"`
	Minutes int   `json:"minutes"`
	Until   int64 `json:"until"`
	// Back is the setpoint after the vacation.
	Back float64 `json:"back"`
	// BoostCount is what versions before 1.0.0 remembered.
	BoostCount int `json:"boost_count,omitempty"`
}

// asked is the command that waits for the device.
type asked string

const (
	nothing  asked = ""
	power    asked = "power"
	setpoint asked = "setpoint"
	boost    asked = "boost"
	vacation asked = "vacation"
)

// Twin is a thermostat's twin.
type Twin = twin.Twin[Settings, Memory]

// Boost is the input of boost and the data of the event boosted.
type Boost struct {
	Minutes int `json:"minutes"`
}

// Boosted is the output of boost.
type Boosted struct {
	Minutes int `json:"minutes"`
	Boosts  int `json:"boosts"`
}

// Home is the data of the timer home.
type Home struct {
	Setpoint float64 `json:"setpoint"`
}

// Text is the input of announce and the data of the event alarm.
type Text struct {
	Text string `json:"text"`
}

func newDriver() *twin.Driver[Settings, Memory] {
	d := twin.New[Settings, Memory]()
	d.OnLoad(load)
	d.OnConnected(connected)
	d.OnReceived(func(t *Twin, frame []byte) error { return line(t, string(frame)) })
	d.OnAnswer(answer)
	d.OnTimer("poll", func(t *Twin, _ wire.Value) error { return quietly(say(t, "STATUS?")) })
	d.OnTimer("night", func(t *Twin, _ wire.Value) error { return quietly(set(t, 17)) })
	d.OnTimer("boosted", boosted)
	d.OnTimer("home", home)
	d.OnChange(changed)
	d.OnWebhook(webhook)
	d.OnMigrate(migrate)
	twin.Property(d, "power", func(t *Twin, on bool) error { return ask(t, power, "POWER "+strings.ToUpper(onOff(on))) })
	twin.Property(d, "setpoint", func(t *Twin, to float64) error { return ask(t, setpoint, "SET "+degrees(to)) })
	twin.Command(d, "boost", func(t *Twin, in Boost) (Boosted, error) {
		t.Memory().Minutes = in.Minutes
		return Boosted{}, ask(t, boost, "BOOST "+strconv.Itoa(in.Minutes))
	})
	twin.Command(d, "vacation", startVacation)
	twin.Command(d, "forecast", forecast)
	twin.Command(d, "announce", announce)
	return d
}

func load(t *Twin, _ string) error {
	s := t.Settings()
	if err := t.Every("poll", time.Duration(s.PollS)*time.Second, nil); err != nil {
		return err
	}
	if err := t.Cron("night", "0 22 * * *", s.Zone, nil); err != nil {
		return err
	}
	if s.Outdoor == "" {
		return nil
	}
	return t.Subscribe(twin.Other{Twin: s.Outdoor}, "temperature")
}

func connected(t *Twin) error {
	if pin := t.Settings().PIN; pin != "" {
		if err := say(t, "LOGIN "+pin); err != nil {
			return err
		}
	}
	return say(t, "STATUS?")
}

func say(t *Twin, line string) error { return t.Send([]byte(line + "\r\n")) }

func set(t *Twin, to float64) error { return say(t, "SET "+degrees(to)) }

// quietly lets it pass that the device is not there.
func quietly(err error) error {
	if errors.Is(err, twin.ErrDisconnected) {
		return nil
	}
	return err
}

// ask sends a command whose answer decides the call.
func ask(t *Twin, what asked, line string) error {
	if err := say(t, line); err != nil {
		return err
	}
	t.Memory().Asked = what
	return twin.ErrPending
}

// answer looks whether a line answers the command that waits.
func answer(t *Twin, frame []byte) (any, error) {
	text, m := string(frame), t.Memory()
	word, rest, _ := strings.Cut(text, " ")
	if word == "ERR" && m.Asked != nothing {
		m.Asked = nothing
		return nil, refused(rest)
	}
	if number, ok := strings.CutPrefix(text, "CONFIRM "); ok && m.Asked == boost {
		return nil, ask(t, boost, fmt.Sprintf("BOOST %d %s", m.Minutes, number))
	}
	if err := line(t, text); err != nil {
		return nil, err
	}
	awaited := map[asked]string{power: "OK POWER ", setpoint: "OK SET ", vacation: "OK SET ", boost: "OK BOOST "}[m.Asked]
	if awaited == "" || !strings.HasPrefix(text, awaited) {
		return nil, twin.ErrPending
	}
	was := m.Asked
	m.Asked = nothing
	switch was {
	case boost:
		return finishBoost(t)
	case vacation:
		return nil, t.At("home", time.UnixMilli(m.Until), Home{m.Back})
	}
	return nil, nil
}

// refused reads "2 out of range".
func refused(rest string) error {
	number, text, _ := strings.Cut(rest, " ")
	code, err := strconv.Atoi(number)
	if err != nil || code < 1 || code > 9 {
		code, text = 1, rest
	}
	return &twin.Error{Code: int32(code), Message: text, Retryable: code == 3}
}

func finishBoost(t *Twin) (any, error) {
	m := t.Memory()
	m.Boosts++
	t.Report("boosts", m.Boosts)
	over := Boost{m.Minutes}
	return Boosted{m.Minutes, m.Boosts}, t.After("boosted", time.Duration(m.Minutes)*time.Minute, over)
}

func boosted(t *Twin, data wire.Value) error {
	return errors.Join(t.Emit("boosted", data), quietly(say(t, "STATUS?")))
}

func startVacation(t *Twin, in struct {
	Until int64 `json:"until"`
}) (twin.None, error) {
	back, ok := t.Property("setpoint").Float()
	if !ok {
		return twin.None{}, &twin.Error{Code: 11, Message: "the setpoint is not known yet"}
	}
	m := t.Memory()
	m.Until, m.Back = in.Until, back
	return twin.None{}, ask(t, vacation, "SET 12.0")
}

func home(t *Twin, data wire.Value) error {
	var h Home
	if err := data.Decode(&h); err != nil {
		return err
	}
	err := set(t, h.Setpoint)
	if errors.Is(err, twin.ErrDisconnected) {
		return t.After("home", time.Minute, h)
	}
	return err
}

func forecast(t *Twin, _ twin.None) (float64, error) {
	url := t.Settings().Weather
	if url == "" {
		return 0, &twin.Error{Code: 13, Message: "no weather service is set"}
	}
	res, err := t.HTTP(twin.HTTPRequest{URL: url, Headers: map[string]string{"accept": "application/json"}, Timeout: 3 * time.Second})
	if err != nil {
		return 0, err
	}
	if res.Status != 200 {
		return 0, &twin.Error{Code: 12, Message: fmt.Sprintf("the weather service answers %d", res.Status), Retryable: true}
	}
	doc, _ := wire.Parse(res.Body)
	high, ok := doc.Get("high").Float()
	if !ok {
		return 0, &twin.Error{Code: 14, Message: `the weather service's answer has no number "high"`}
	}
	t.Report("forecast", high)
	return high, nil
}

func announce(t *Twin, in Text) (twin.None, error) {
	display := t.Settings().Display
	if display == "" {
		return twin.None{}, &twin.Error{Code: 13, Message: "no display is set"}
	}
	_, err := t.Call(twin.Other{Twin: display}, "show", in, 0)
	if said, ok := errors.AsType[*twin.CallError](err); ok {
		later := said.Code == "timeout" || said.Code == "unavailable"
		return twin.None{}, &twin.Error{Code: 15, Message: said.Message, Retryable: later}
	}
	return twin.None{}, err
}

func changed(t *Twin, c twin.Change) error {
	if c.Property != "temperature" || c.Name != t.Settings().Outdoor {
		return nil
	}
	if _, ok := c.Value.Float(); !ok {
		c.Value = wire.Value("null")
	}
	t.ReportAs("outdoor", c.Value, c.Quality, time.Time{})
	return nil
}

func webhook(t *Twin, r *twin.Webhook) (twin.WebhookAnswer, error) {
	if r.Method != "GET" {
		return twin.WebhookAnswer{Status: 405}, nil
	}
	known := func(property string) wire.Value {
		if v := t.Property(property); v != nil {
			return v
		}
		return wire.Value("null")
	}
	body := fmt.Sprintf(`{"temperature":%s,"setpoint":%s}`, known("temperature"), known("setpoint"))
	return twin.WebhookAnswer{Status: 200, Headers: map[string]string{"content-type": "application/json"}, Body: body}, nil
}

func migrate(t *Twin, from string) error {
	if m := t.Memory(); strings.HasPrefix(from, "0.") {
		m.Boosts, m.BoostCount = m.BoostCount, 0
	}
	return nil
}

func init() { twin.Serve(newDriver()) }

func main() {}
