package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
)

// Power is a projector's power as PJLink counts it.
type Power int

const (
	Off     Power = 0
	On      Power = 1
	Cooling Power = 2
	Warming Power = 3
)

func (p Power) String() string { return [...]string{"off", "on", "cooling", "warming"}[p] }

// Projector is one simulated projector. Its methods may be called concurrently.
type Projector struct {
	name    string
	mac     string
	o       *Options
	journal *peer.Journal

	mu     sync.Mutex
	power  Power
	change *time.Timer // ends warm-up or cool-down
	input  string
	inputs []string
	video  bool // muted
	audio  bool // muted
	errors [6]byte
	burnt  time.Duration // lamp time until litAt
	litAt  time.Time     // zero: the lamp is off
	broken bool
}

func newProjector(o *Options, j *peer.Journal, index int) *Projector {
	name := o.Name
	if o.Count > 1 {
		name = fmt.Sprintf("%s %d", o.Name, index+1)
	}
	// Hours that differ from projector to projector, and stay the same from run to run.
	hours := 120 + (uint64(index)*977+o.Seed*31)%3800
	return &Projector{
		name: name, mac: fmt.Sprintf("02:50:4a:%02x:%02x:%02x", byte(o.Seed), byte(index>>8), byte(index)), o: o, journal: j,
		input: "31", inputs: []string{"11", "12", "21", "31", "32", "51"},
		errors: [6]byte{'0', '0', '0', '0', '0', '0'},
		burnt:  time.Duration(hours) * o.LampHour,
	}
}

// Name as the projector gives it.
func (p *Projector) Name() string { return p.name }

// MAC address that it gives in a search.
func (p *Projector) MAC() string { return p.mac }

// Power now.
func (p *Projector) Power() Power {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.power
}

// Input is the chosen one, such as "31".
func (p *Projector) Input() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.input
}

// LampHours that the counter shows.
func (p *Projector) LampHours() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lampHours()
}

// SetErrors sets the six digits of the error status: fan, lamp, temperature, cover, filter, other; 0 fine, 1 warning,
// 2 error. It panics on anything else.
func (p *Projector) SetErrors(digits string) {
	if len(digits) != 6 || strings.Trim(digits, "012") != "" {
		panic("pjlink sim: error status " + strconv.Quote(digits))
	}
	p.mu.Lock()
	copy(p.errors[:], digits)
	p.mu.Unlock()
	p.journal.Add(p.name, "state", "errors "+digits)
}

// Break makes the projector answer ERR4 (failure) to everything it is told to do, or heals it.
func (p *Projector) Break(broken bool) {
	p.mu.Lock()
	p.broken = broken
	p.mu.Unlock()
}

// Press switches the power as somebody at the projector's own panel would.
func (p *Projector) Press(on bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.turn(on) == "OK"
}

func (p *Projector) lampHours() int {
	burnt := p.burnt
	if !p.litAt.IsZero() {
		burnt += time.Since(p.litAt)
	}
	return min(int(burnt/p.o.LampHour), 99999)
}

func (p *Projector) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.change != nil {
		p.change.Stop()
	}
}

// answer obeys one line and gives the answer; empty: the line is not PJLink, which a projector passes over.
func (p *Projector) answer(line string) string {
	if len(line) < 7 || line[0] != '%' || line[6] != ' ' {
		return ""
	}
	for _, c := range []byte(line[1:6]) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return ""
		}
	}
	head, body, arg := line[:2], strings.ToUpper(line[2:6]), line[7:]
	if head != "%1" {
		return head + body + "=ERR1"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return head + body + "=" + p.obey(body, arg)
}

func (p *Projector) obey(body, arg string) string {
	ask := arg == "?"
	switch body {
	case "POWR":
		return p.obeyPower(ask, arg)
	case "INPT":
		return p.obeyInput(ask, arg)
	case "AVMT":
		return p.obeyMute(ask, arg)
	}
	if !ask {
		// The other commands only answer.
		if p.report(body) == "" {
			return "ERR1"
		}
		return "ERR2"
	}
	if v := p.report(body); v != "" {
		return v
	}
	return "ERR1"
}

func (p *Projector) report(body string) string {
	switch body {
	case "ERST":
		return string(p.errors[:])
	case "LAMP":
		lit := "0"
		if !p.litAt.IsZero() {
			lit = "1"
		}
		return strconv.Itoa(p.lampHours()) + " " + lit
	case "INST":
		return strings.Join(p.inputs, " ")
	case "NAME":
		return p.name
	case "INF1":
		return "Castor"
	case "INF2":
		return "CX-4352"
	case "INFO":
		return "simulated"
	case "CLSS":
		return "1"
	}
	return ""
}

func (p *Projector) obeyPower(ask bool, arg string) string {
	switch {
	case ask:
		return strconv.Itoa(int(p.power))
	case arg != "0" && arg != "1":
		return "ERR2"
	case p.broken:
		return "ERR4"
	}
	return p.turn(arg == "1")
}

// turn starts warming up or cooling down; the lamp burns from the start of the one to the start of the other.
func (p *Projector) turn(on bool) string {
	switch {
	case on && p.power == On, !on && p.power == Off:
		return "OK"
	case on && p.power == Off:
		p.litAt = time.Now()
		p.enter(Warming, On, p.o.WarmUp)
		return "OK"
	case !on && p.power == On:
		p.burnt += time.Since(p.litAt)
		p.litAt = time.Time{}
		p.enter(Cooling, Off, p.o.CoolDown)
		return "OK"
	}
	return "ERR3"
}

// enter goes through one power state into another.
func (p *Projector) enter(through, to Power, after time.Duration) {
	if after <= 0 {
		p.set(to)
		return
	}
	p.set(through)
	p.change = time.AfterFunc(after, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.set(to)
	})
}

func (p *Projector) set(power Power) {
	p.power = power
	if power == Off {
		p.video, p.audio = false, false
	}
	p.journal.Add(p.name, "state", "power "+power.String())
}

func (p *Projector) obeyInput(ask bool, arg string) string {
	switch {
	case !ask && !slices.Contains(p.inputs, arg):
		return "ERR2"
	case p.power != On:
		return "ERR3"
	case ask:
		return p.input
	case p.broken:
		return "ERR4"
	}
	p.input = arg
	p.journal.Add(p.name, "state", "input "+arg)
	return "OK"
}

func (p *Projector) obeyMute(ask bool, arg string) string {
	known := len(arg) == 2 && arg[0] >= '1' && arg[0] <= '3' && (arg[1] == '0' || arg[1] == '1')
	switch {
	case !ask && !known:
		return "ERR2"
	case p.power != On:
		return "ERR3"
	case ask:
		return p.muteStatus()
	case p.broken:
		return "ERR4"
	}
	on := arg[1] == '1'
	if arg[0] != '2' {
		p.video = on
	}
	if arg[0] != '1' {
		p.audio = on
	}
	p.journal.Add(p.name, "state", "mute "+p.muteStatus())
	return "OK"
}

func (p *Projector) muteStatus() string {
	switch {
	case p.video && p.audio:
		return "31"
	case p.video:
		return "11"
	case p.audio:
		return "21"
	}
	return "30"
}
