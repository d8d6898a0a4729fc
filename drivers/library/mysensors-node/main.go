// The mysensors-node driver is a node behind a gateway's twin (driver mysensors): it follows what the gateway hears of the
// node, and has the gateway send what the node shall do, once it is awake. See README.md.
package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Settings of a node's twin.
type Settings struct {
	Gateway string `json:"gateway"`
	Node    int    `json:"node"`
}

// Memory is what is kept between calls.
type Memory struct {
	// Known are the properties that the model tells of, beyond those that all nodes have.
	Known []string `json:"known,omitempty"`
}

// Twin is a node's twin.
type Twin = twin.Twin[Settings, Memory]

// state is what the gateway knows of a node.
type state struct {
	Name    string            `json:"name"`
	Version string            `json:"version"`
	Battery string            `json:"battery"`
	Sleeps  bool              `json:"sleeps"`
	Awake   bool              `json:"awake"`
	Titles  map[string]string `json:"titles"`
	Values  map[string]string `json:"values"`
	Update  string            `json:"update"`
}

type child struct {
	Child int    `json:"child"`
	Type  int    `json:"type"`
	Value string `json:"value"`
}

// timeout is how long the gateway may take, its own tries included.
const timeout = 8 * time.Second

func newDriver() *twin.Driver[Settings, Memory] {
	d := twin.New[Settings, Memory]()
	d.OnLoad(func(t *Twin, _ string) error {
		if err := describe(t, nil); err != nil {
			return err
		}
		return t.Subscribe(gateway(t), "node_"+strconv.Itoa(t.Settings().Node))
	})
	d.OnChange(func(t *Twin, c twin.Change) error {
		var s state
		if !c.Value.Exists() || string(c.Value) == "null" {
			t.Log("warn", "the gateway's twin "+t.Settings().Gateway+" is gone")
			return nil
		}
		if err := c.Value.Decode(&s); err != nil {
			return err
		}
		return take(t, &s, c.Quality)
	})
	twin.Command(d, "set", func(t *Twin, in child) (twin.None, error) { return twin.None{}, send(t, in.Child, in.Type, in.Value) })
	twin.Command(d, "reboot", func(t *Twin, _ twin.None) (twin.None, error) {
		_, err := t.Call(gateway(t), "reboot", struct {
			Node int `json:"node"`
		}{t.Settings().Node}, timeout)
		return twin.None{}, outcome(err)
	})
	for number, k := range kinds {
		if k.set == nil {
			continue
		}
		for c := range maxChildren {
			twin.Property(d, k.name+"_"+strconv.Itoa(c), func(t *Twin, v wire.Value) error {
				text, ok := k.set(v)
				if !ok {
					return &twin.Error{Code: 2, Message: k.name + " cannot be " + string(v)}
				}
				return send(t, c, number, text)
			})
		}
	}
	return d
}

func gateway(t *Twin) twin.Other { return twin.Other{Twin: t.Settings().Gateway} }

// send has the gateway set a value of the node.
func send(t *Twin, childID, kind int, value string) error {
	_, err := t.Call(gateway(t), "send", struct {
		Node  int    `json:"node"`
		Child int    `json:"child"`
		Type  int    `json:"type"`
		Value string `json:"value"`
	}{t.Settings().Node, childID, kind, value}, timeout)
	return outcome(err)
}

// outcome makes a refusal of the gateway's one that the twin's queue understands: what may pass is tried again.
func outcome(err error) error {
	if e, ok := err.(*twin.CallError); ok {
		return &twin.Error{Code: 3, Message: "the gateway: " + e.Message, Retryable: e.Code == "unavailable" || e.Code == "timeout"}
	}
	return err
}

// take reports what the gateway knows, and says whether the node listens.
func take(t *Twin, s *state, quality twin.Quality) error {
	report := func(name string, value any) { t.ReportAs(name, value, quality, time.Time{}) }
	if s.Name != "" {
		report("sketch", s.Name)
	}
	if s.Version != "" {
		report("sketch_version", s.Version)
	}
	if s.Update != "" {
		report("firmware", s.Update)
	}
	if n, err := strconv.Atoi(s.Battery); err == nil {
		report("battery", min(max(n, 0), 100))
	}
	var fresh []found
	for key, text := range s.Values {
		c, number, ok := strings.Cut(key, "/")
		kind, err := strconv.Atoi(number)
		if !ok || err != nil {
			continue
		}
		k, known := kinds[kind]
		if !known {
			k = valueKind{name: "v" + number, kind: "string", get: getText}
		}
		value, ok := k.get(text)
		if !ok {
			t.Log("warn", "child "+c+": "+k.name+" is "+strconv.Quote(text))
			continue
		}
		fresh = append(fresh, found{name: k.name + "_" + c, kind: k, title: s.Titles[c], child: c})
		report(k.name+"_"+c, value)
	}
	if err := describe(t, fresh); err != nil {
		return err
	}
	if s.Sleeps && !s.Awake {
		return t.Sleep()
	}
	return t.Wake()
}

func init() { twin.Serve(newDriver()) }

func main() {}
