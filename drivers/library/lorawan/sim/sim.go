// Package sim simulates a LoRaWAN network server of ChirpStack's kind that brings a sensor's uplinks to a webhook. It shares
// no code with the driver, so that one can tell when the other is wrong.
package sim

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
)

// Options of a simulated server.
type Options struct {
	// URL of the webhook, such as http://127.0.0.1:8080/hooks/default/desk; Token is its bearer token.
	URL, Token string
	// DevEUI of the first sensor; the next ones count up. Empty: a84041000181c061.
	DevEUI string
	Count  int
	// Period of a sensor's uplinks; 0: 10 s.
	Period time.Duration
	Seed   uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// Sim is a server with its sensors, Dragino LHT65.
type Sim struct {
	o       Options
	first   uint64
	journal *peer.Journal
	random  *rand.Rand
	client  http.Client
}

// New checks the options.
func New(o Options) (*Sim, error) {
	if o.DevEUI == "" {
		o.DevEUI = "a84041000181c061"
	}
	if o.Count == 0 {
		o.Count = 1
	}
	if o.Period == 0 {
		o.Period = 10 * time.Second
	}
	s := &Sim{o: o, journal: peer.NewJournal(o.Log), random: rand.New(rand.NewPCG(o.Seed, 1)), client: http.Client{Timeout: 10 * time.Second}}
	if _, err := fmt.Sscanf(o.DevEUI, "%016x", &s.first); err != nil || len(o.DevEUI) != 16 {
		return nil, fmt.Errorf("simulate lorawan: %q is no device EUI of 16 hex digits", o.DevEUI)
	}
	if o.URL == "" {
		return nil, fmt.Errorf("simulate lorawan: no URL of a webhook")
	}
	return s, nil
}

// Run sends uplinks until ctx ends.
func (s *Sim) Run(ctx context.Context) error {
	began := time.Now()
	for count := 0; ; count++ {
		for i := range s.o.Count {
			day := math.Sin(time.Since(began).Hours()*2*math.Pi + float64(i))
			s.uplink(ctx, s.first+uint64(i), count, 21+3*day, 45-5*day)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(s.o.Period):
		}
	}
}

// payload of an LHT65 without an external sensor: battery and its state, temperature, humidity, kind, 4 bytes unused.
func payload(volts, celsius, percent float64) []byte {
	b := binary.BigEndian.AppendUint16(nil, 3<<14|uint16(volts*1000))
	b = binary.BigEndian.AppendUint16(b, uint16(int16(math.Round(celsius*100))))
	b = binary.BigEndian.AppendUint16(b, uint16(math.Round(percent*10)))
	return append(b, 0, 0x7f, 0xff, 0x7f, 0xff)
}

func (s *Sim) uplink(ctx context.Context, eui uint64, count int, celsius, percent float64) {
	device := fmt.Sprintf("%016x", eui)
	body, err := json.Marshal(map[string]any{
		"time":       time.Now().UTC().Format(time.RFC3339Nano),
		"deviceInfo": map[string]any{"applicationName": "simulated", "deviceProfileName": "LHT65", "deviceName": "Sensor " + device[12:], "devEui": device},
		"devAddr":    "0018943f", "fCnt": count, "fPort": 2, "data": base64.StdEncoding.EncodeToString(payload(3.05, celsius, percent)),
		"object": map[string]any{"BatV": 3.05, "TempC_SHT": math.Round(celsius*100) / 100, "Hum_SHT": math.Round(percent*10) / 10},
		"rxInfo": []any{map[string]any{"gatewayId": "0016c001f1500001", "rssi": -60 - s.random.IntN(40), "snr": 7.5}},
	})
	if err != nil {
		s.journal.Add(device, "fault", err.Error())
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.URL+"?event=up", bytes.NewReader(body))
	if err != nil {
		s.journal.Add(device, "fault", err.Error())
		return
	}
	req.Header.Set("Content-Type", "application/json")
	if s.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.o.Token)
	}
	res, err := s.client.Do(req)
	if err != nil {
		s.journal.Add(device, "fault", err.Error())
		return
	}
	_ = res.Body.Close()
	s.journal.Add(device, "told", res.Status)
}
