// Package load publishes over MQTT as many devices do, fast enough to measure a broker: its own encoder, a window of
// messages under way on each connection, and a journal of what was acknowledged. It comes back when the broker was
// gone and sends again what was not acknowledged, so the journal can be held against what a node kept.
package load

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"
)

// Options of a run. Addr and Devices are needed.
type Options struct {
	// Addr of the broker, host:port.
	Addr string
	// Devices are numbered from 0; each publishes on one of the Connections (0: one in 20 devices), always the same.
	Devices, Connections int
	// Window is how many messages of a connection may be unacknowledged; 0 means 64, at most 32,768.
	Window int
	// QoS 0 or 1. With 0 what is written counts as acknowledged.
	QoS byte
	// Rate of messages per second over all connections; 0: as fast as it goes.
	Rate float64
	// Messages over all connections after which the run ends; 0: until the context ends.
	Messages uint64
	// Topic of a device; nil: dev/NUMBER/state.
	Topic func(device int) string
	// Value of a device's message; nil: its sequence number. Sequences begin with 1.
	Value func(device int, sequence uint64) float64
	// Payload appends a message's payload; nil: {"value":VALUE,"sequence":SEQUENCE}.
	Payload func(dst []byte, device int, sequence uint64, value float64) []byte
	// Credentials of a connection; nil: anonymous.
	Credentials func(connection int) (user, password string)
	// Prefix of the client ids; "" means load.
	Prefix string
	// Journal gets what was acknowledged; nil: none is kept.
	Journal *Journal
	// Drain is how long acknowledgements are awaited after the end; 0 means 5 s.
	Drain time.Duration
	// Logger; nil: none.
	Logger *slog.Logger
	// Gate is called before each dial and may hold the connection back, until ctx ends at most; nil: none is held.
	Gate func(ctx context.Context, connection int)
	// OnConnected is called for each connection made, from its goroutine.
	OnConnected func(connection int)
}

// Report of a run.
type Report struct {
	// Sent counts messages, Resent those sent once more after a reconnect, Acked those acknowledged.
	Sent, Resent, Acked uint64
	// Unacked were sent and neither acknowledged nor refused at the end.
	Unacked uint64
	// OutOfOrder counts acknowledgements that came before an earlier message's: a fault of the broker.
	OutOfOrder uint64
	// Connects counts connections made, Losses those lost.
	Connects, Losses uint64
	// LastLoss is the newest loss or failed dial.
	LastLoss error
	Duration time.Duration
	// Latency from the write to the acknowledgement.
	Latency Latency
}

// PerSecond is the rate of acknowledged messages.
func (r *Report) PerSecond() float64 {
	if r.Duration <= 0 {
		return 0
	}
	return float64(r.Acked) / r.Duration.Seconds()
}

func (r *Report) add(o *Report) {
	r.Sent += o.Sent
	r.Resent += o.Resent
	r.Acked += o.Acked
	r.Unacked += o.Unacked
	r.OutOfOrder += o.OutOfOrder
	r.Connects += o.Connects
	r.Losses += o.Losses
	if o.LastLoss != nil {
		r.LastLoss = o.LastLoss
	}
	r.Latency.add(&o.Latency)
}

func (o *Options) check() error {
	switch {
	case o.Addr == "":
		return errors.New("no address")
	case o.Devices < 1:
		return fmt.Errorf("%d devices: want 1 or more", o.Devices)
	case o.Connections < 0 || o.Connections > o.Devices:
		return fmt.Errorf("%d connections for %d devices", o.Connections, o.Devices)
	case o.Window < 0 || o.Window > 1<<15:
		return fmt.Errorf("window of %d: want 1 to 32768", o.Window)
	case o.QoS > 1:
		return fmt.Errorf("qos %d: want 0 or 1", o.QoS)
	}
	if o.Connections == 0 {
		o.Connections = max(1, o.Devices/20)
	}
	if o.Window == 0 {
		o.Window = 64
	}
	if o.Drain == 0 {
		o.Drain = 5 * time.Second
	}
	if o.Prefix == "" {
		o.Prefix = "load"
	}
	if o.Topic == nil {
		o.Topic = func(device int) string { return "dev/" + strconv.Itoa(device) + "/state" }
	}
	if o.Value == nil {
		o.Value = func(_ int, sequence uint64) float64 { return float64(sequence) }
	}
	if o.Payload == nil {
		o.Payload = plainPayload
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func plainPayload(dst []byte, _ int, sequence uint64, value float64) []byte {
	dst = append(dst, `{"value":`...)
	dst = strconv.AppendFloat(dst, value, 'g', -1, 64)
	dst = append(dst, `,"sequence":`...)
	dst = strconv.AppendUint(dst, sequence, 10)
	return append(dst, '}')
}

// Run publishes until the context ends or Messages are acknowledged, and then awaits what is under way. It blocks.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := o.check(); err != nil {
		return Report{}, fmt.Errorf("load: %w", err)
	}
	senders := make([]*sender, o.Connections)
	for i := range senders {
		senders[i] = newSender(&o, i)
	}
	var group sync.WaitGroup
	began := time.Now()
	for _, s := range senders {
		group.Add(1)
		go func() {
			defer group.Done()
			s.run(ctx)
		}()
	}
	group.Wait()
	var r Report
	for _, s := range senders {
		r.add(&s.report)
		r.Unacked += uint64(s.sentTo - s.ackedTo)
		if s.last.Sub(began) > r.Duration {
			r.Duration = s.last.Sub(began)
		}
	}
	return r, nil
}

// dial connects and exchanges CONNECT and CONNACK.
func dial(ctx context.Context, o *Options, connection int) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, err
	}
	user, password := "", ""
	if o.Credentials != nil {
		user, password = o.Credentials(connection)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write(appendConnect(nil, o.Prefix+"-"+strconv.Itoa(connection), user, password)); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	if err := readConnack(conn); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}
