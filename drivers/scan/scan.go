// Package scan has a driver look for devices in a network, without a twin: for a bounded time, with a bounded number of
// datagrams or connections, and nowhere but in the network that somebody named.
package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

const (
	// MaxHosts is the largest network that is looked through.
	MaxHosts = 1024
	// defaultTimeout holds where neither the caller nor the manifest says how long answers are waited for, maxTimeout always.
	defaultTimeout = 3 * time.Second
	maxTimeout     = time.Minute
	// maxSent bounds what a scan sends, maxAnswers what it hears, maxFound what it reports, maxNotes what is told of it.
	maxSent, maxAnswers, maxFound, maxNotes = 20_000, 8192, 1000, 50
	// waiting answers; more are dropped, and told.
	waiting = 1024
)

// Options of a scan. Runner, Scan, Network and Tenant are needed.
type Options struct {
	Runner  drivers.Runner
	Scan    *drivers.ScanOptions
	Network netip.Prefix
	// Port at which the devices listen, in place of the manifest's; 0: the manifest's.
	Port uint16
	// Timeout in place of the manifest's.
	Timeout time.Duration
	// Input is what was given to the scan, JSON; nil: nothing.
	Input json.RawMessage
	// Tenant is the project on whose behalf the driver runs.
	Tenant string
	// Settings of the driver, JSON: its defaults.
	Settings []byte
}

// Result of a scan.
type Result struct {
	// Found devices, each once.
	Found []drivers.Discovery
	// Sent counts what was sent, Answers what came.
	Sent, Answers int
	// Notes are what the driver logged, and what did not work.
	Notes []string
}

// ParseNetwork reads a network that can be scanned: an address, or a network of at most MaxHosts addresses.
func ParseNetwork(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		ip, ipErr := netip.ParseAddr(text)
		if ipErr != nil || ip.Zone() != "" {
			return p, fmt.Errorf("network %q: want a network such as 10.0.0.0/24, or an address", text)
		}
		p = netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen())
	}
	p = p.Masked()
	switch {
	case p.Addr().BitLen()-p.Bits() > 10:
		return p, fmt.Errorf("network %s has more than %d addresses: scan a part of it", p, MaxHosts)
	case p.Addr().IsMulticast(), p.Addr().IsUnspecified():
		return p, fmt.Errorf("network %s has no devices", p)
	}
	return p, nil
}

// answer is what a device said.
type answer struct {
	from  netip.AddrPort
	frame []byte
}

// reach is how a scan speaks with a network. send does not block for long.
type reach interface {
	// send to one device, or where to is zero to all.
	send(ctx context.Context, to netip.AddrPort, payload []byte) error
	// begun says that the driver has begun: from now on it may turn out that nothing more can come.
	begun()
	// done is closed when nothing more can come; nil: never.
	done() <-chan struct{}
	close()
}

// Run scans. It blocks until the time is over, nothing more can come, or ctx ends. An error says that the scan did not
// begin, or that the driver failed at once; what was found before a later failure is in the result.
func Run(ctx context.Context, o Options) (*Result, error) {
	if o.Scan == nil {
		return nil, fmt.Errorf("the driver %s cannot scan: its manifest says nothing of it", o.Runner.Manifest().Name)
	}
	timeout := o.Timeout
	if timeout <= 0 {
		timeout = time.Duration(o.Scan.TimeoutMS) * time.Millisecond
	}
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	timeout = min(timeout, maxTimeout)
	if o.Port != 0 {
		how := *o.Scan
		how.Port = int(o.Port)
		o.Scan = &how
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := &run{o: o, answers: make(chan answer, waiting), seen: map[string]bool{}}
	var err error
	if o.Scan.Over == "udp" {
		r.reach, err = newUDP(ctx, r)
	} else {
		r.reach, err = newTCP(ctx, r)
	}
	if err != nil {
		return nil, err
	}
	defer r.reach.close()
	if len(o.Input) == 0 {
		o.Input = json.RawMessage("{}")
	}
	input, err := json.Marshal(drivers.ScanInput{Timeout: timeout.Milliseconds(), Options: o.Input})
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	if err := r.call(ctx, drivers.EventScan, input); err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	r.reach.begun()
	r.listen(ctx)
	return r.finish(), nil
}

// listen gives the driver what comes, until nothing more does.
func (r *run) listen(ctx context.Context) {
	for {
		select {
		case a := <-r.answers:
			r.heard(ctx, a)
		case <-r.reach.done():
			for { // what came before the end
				select {
				case a := <-r.answers:
					r.heard(ctx, a)
					continue
				default:
				}
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (r *run) heard(ctx context.Context, a answer) {
	if r.result.Answers++; r.result.Answers > maxAnswers {
		return
	}
	input := append(append([]byte(a.from.String()), 0), a.frame...)
	if err := r.call(ctx, drivers.EventReceived, input); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		r.note("the answer of " + a.from.String() + ": " + err.Error())
	}
}
