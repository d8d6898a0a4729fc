package actors

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// linkRoom is how many frames of a connection may wait for their twin; then the connection is not read.
const linkRoom = 32

// regainTime is for how long a failed attempt, or a loss, counts as passing where the device was connected, or about to be, when the
// twin's last life ended: a device that takes one connection at a time may not have seen yet that its last owner hung up. In
// milliseconds.
const regainTime = 10_000

// link is a twin's own connection, and the sink that hears of it. From its making until its linkClosed was handled it
// holds a token, which its messages stand on.
type link struct {
	en   *entry
	conn drivers.Conn
	quit chan struct{}
	room chan struct{}

	mu     sync.Mutex
	waiter chan answer
	wake   func() // of the waiter, once it is parked

	// up: it is connected; the twin's.
	up bool
	// failure is why the last attempt to connect failed; the connection's own. why is the same in the twin's turns.
	failure, why string
	// lost is why the connection was lost last, until it is up again. The twin's.
	lost string
	// regain is until when the twin counts as connecting, whatever becomes of it, by nowMS; 0: not at all. The twin's.
	regain int64
}

// answer is what a request waits for.
type answer struct {
	frame []byte
	err   error
}

type (
	linkUp   struct{ l *link }
	linkDown struct {
		l   *link
		err error
	}
	linkFailed struct {
		l   *link
		why string
	}
	linkFrame struct {
		l       *link
		frame   []byte
		handled func()
	}
	linkClosed struct{ l *link }
	// linkSeen: a frame went straight to a request.
	linkSeen struct{}
)

var (
	_ drivers.FailureSink = (*link)(nil)
	_ drivers.TroubleSink = (*link)(nil)
	_ drivers.HandledSink = (*link)(nil)
)

func (l *link) post(m turn) {
	l.en.tokens.Add(1)
	l.en.send(m)
}

// Connected is called by the connection.
func (l *link) Connected() {
	l.failure = ""
	l.note("connected")
	l.post(&linkUp{l})
}

// Failed is called by the connection after each attempt that failed. The twin hears of it when the reason changes.
func (l *link) Failed(err error) {
	why := err.Error()
	l.note("failed: " + why)
	if why != l.failure {
		l.failure = why
		l.post(&linkFailed{l, why})
	}
}

// note tells those who trace the twin what became of its connection.
func (l *link) note(text string) { l.en.shard.e.tracers.note(l.en.id, text) }

// Disconnected is called by the connection.
func (l *link) Disconnected(err error) {
	l.failure = ""
	l.note("closed: " + lossText(err))
	l.hand(answer{err: errDisconnected})
	l.post(&linkDown{l, err})
}

// Received is called by the connection. It blocks while the twin has too much waiting.
func (l *link) Received(frame []byte) { l.ReceivedThen(frame, func() {}) }

// ReceivedThen is Received of a connection that keeps a frame until it is handled.
func (l *link) ReceivedThen(frame []byte, handled func()) {
	if l.hand(answer{frame: frame}) {
		l.post(&linkSeen{})
		handled()
		return
	}
	select {
	case l.room <- struct{}{}:
		l.post(&linkFrame{l, frame, handled})
	case <-l.quit:
	}
}

// hand gives an answer to the request that waits, if one does.
func (l *link) hand(a answer) bool {
	l.mu.Lock()
	w, wake := l.waiter, l.wake
	l.waiter, l.wake = nil, nil
	l.mu.Unlock()
	if w == nil {
		return false
	}
	if wake != nil {
		wake()
	}
	w <- a
	return true
}

// await registers a request for the next frame; stop ends that.
func (l *link) await() (<-chan answer, func()) {
	w := make(chan answer, 1)
	l.mu.Lock()
	l.waiter = w
	l.mu.Unlock()
	return w, func() {
		l.mu.Lock()
		if l.waiter == w {
			l.waiter, l.wake = nil, nil
		}
		l.mu.Unlock()
	}
}

// park says that the waiting request rests until it is handed an answer, or calls the function itself.
func (l *link) park(w <-chan answer) (wake func()) {
	wake = l.en.shard.e.Park()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiter == w {
		l.wake = wake
	} else {
		wake()
	}
	return wake
}

func (l *link) send(ctx context.Context, frame []byte) error {
	select {
	case <-l.quit:
		return errDisconnected
	default:
		return l.conn.Send(ctx, frame)
	}
}

// connect opens the twin's connection, if it should have one and has none.
func (t *twin) connect() {
	if t.link != nil || t.mode != modeLive || t.cfg.stopped || t.spec == nil {
		return
	}
	via := t.cfg.binding
	if !via.Dials(t.cfg.uri) {
		t.hooked()
		return
	}
	dial := t.e.o.Dialers[via.Scheme]
	if dial == nil {
		t.fault("connect: this node has no transport for "+via.Scheme+" "+t.cfg.uri, drivers.EventConnected)
		return
	}
	l := &link{en: t.en, quit: make(chan struct{}), room: make(chan struct{}, linkRoom)}
	t.en.tokens.Add(1)
	id, tr := t.en.id, t.e.tracers
	// The sink may be called before Dialer returns: no call of the driver runs before this turn has ended.
	conn, err := dial(t.cfg.dialled(t.en.id), l,
		func(d pb.TraceTwinResponse_Direction, data []byte) { tr.trace(id, d, "", data) })
	if err != nil {
		t.en.tokens.Add(-1)
		t.fault("connect: "+err.Error(), drivers.EventConnected)
		t.connection(pb.Connection_CONNECTION_DISCONNECTED)
		return
	}
	l.conn = conn
	if t.regains {
		t.regains, l.regain = false, t.nowMS()+regainTime
	}
	t.link = l
	t.e.waits.rests.Add(1)
}

// unlink closes the connection. It is gone once its linkClosed was handled.
func (t *twin) unlink() {
	l := t.link
	if l == nil {
		return
	}
	select {
	case <-l.quit:
		return // it is being closed already
	default:
	}
	t.reached()
	t.callable()
	l.note("closed by the twin")
	close(l.quit)
	l.hand(answer{err: errDisconnected})
	t.e.waits.wakes.Add(1)
	t.e.goFunc(func() {
		_ = l.conn.Close() // the device hears it or does not
		l.en.send(&linkClosed{l})
	})
}

func (m *linkClosed) run(t *twin) {
	if t.link != m.l {
		return
	}
	t.link = nil
	if t.mode != modeLive {
		return
	}
	if t.cfg.stopped {
		t.connection(pb.Connection_CONNECTION_STOPPED)
		t.emitStatus()
		return
	}
	if t.loaded {
		t.connect()
	}
}

// fresh says whether a message of a connection still counts.
func (t *twin) fresh(l *link) bool {
	if t.link != l || t.mode != modeLive {
		return false
	}
	select {
	case <-l.quit:
		return false
	default:
		return true
	}
}

func (m *linkUp) run(t *twin) {
	if t.fresh(m.l) {
		m.l.up = true
		t.up()
	}
}

func (m *linkDown) run(t *twin) {
	if !t.fresh(m.l) {
		return
	}
	m.l.up = false
	why, as := lossText(m.err), pb.Connection_CONNECTION_DISCONNECTED
	m.l.lost = why
	if m.l.regain > 0 {
		m.l.why, as = why, pb.Connection_CONNECTION_CONNECTING
	}
	t.down(why, as)
}

func lossText(err error) string {
	if err == nil {
		return "connection lost"
	}
	return err.Error()
}

func (m *linkFailed) run(t *twin) {
	if !t.fresh(m.l) || t.cfg.stopped || t.sleeping() {
		return
	}
	m.l.why = m.why
	if m.l.regain > 0 {
		return
	}
	was := t.st.Connection
	t.connection(pb.Connection_CONNECTION_DISCONNECTED)
	if !t.unreachable() && was != t.st.Connection {
		t.emitStatus()
	}
}

// regain ends the time in which a twin of a new life counts as connecting, whatever becomes of its connection.
func (t *twin) regain(now int64) {
	l := t.link
	if l == nil || l.regain == 0 || l.regain > now {
		return
	}
	l.regain = 0
	if l.why == "" || !t.connecting() {
		return
	}
	t.connection(pb.Connection_CONNECTION_DISCONNECTED)
	if !t.unreachable() {
		t.emitStatus()
	}
}

// fromLink marks a fault that says why the device cannot be reached. It is no event of the driver's.
const fromLink drivers.Event = -1

// unreachable shows why the device cannot be reached, and says whether that is news. What is wrong with the driver or
// the configuration is shown first; what the device said in its last session is not.
func (t *twin) unreachable() bool {
	if t.cfg.stopped {
		t.reached()
		return false
	}
	if t.link == nil || t.link.why == "" || t.link.regain > 0 || t.st.Fault == t.link.why || t.backoff > 0 {
		return false
	}
	switch t.faultFrom {
	case fromLink, drivers.EventConnected, drivers.EventReceived, drivers.EventAnswer, drivers.EventDisconnected:
	default:
		if t.st.Fault != "" {
			return false
		}
	}
	t.fault(t.link.why, fromLink)
	return true
}

// reached takes the reason back.
func (t *twin) reached() {
	if t.link != nil {
		t.link.why, t.link.lost = "", ""
	}
	if t.mode == modeLive && t.faultFrom == fromLink && t.st.Fault != "" {
		t.fault("", 0)
	}
}

// away is why an unnamed command cannot run while the device is not connected.
func (t *twin) away() string {
	text := "the device is not connected"
	if t.connecting() {
		text += " yet"
	}
	if t.link != nil {
		if why := cmp.Or(t.link.why, t.link.lost); why != "" {
			text += ": " + why
		}
	}
	return text
}

func (m *linkFrame) run(t *twin) {
	if !t.fresh(m.l) && !t.awaits(m.l) && !t.leftover(m.l) {
		<-m.l.room
		return
	}
	t.seen()
	v := event{kind: drivers.EventReceived, input: m.frame, done: func(err error) {
		<-m.l.room
		if !errors.Is(err, cluster.ErrNotOwner) && !errors.Is(err, cluster.ErrUnknown) && !errors.Is(err, cluster.ErrUnavailable) {
			m.handled() // by this node, whatever came of it
		}
	}}
	if w := t.cfg.will; w != nil && bytes.HasPrefix(m.frame, append([]byte(w.Topic), 0)) {
		v.will, v.input = true, m.frame[len(w.Topic)+1:]
	} else if err := t.receivable(); err != nil {
		t.e.stats.drop(dropFault)
		<-m.l.room
		m.handled()
		return
	}
	t.working().push(v)
}

// retirer is a connection that outlives its twin's stay at this node: a device called in, perhaps elsewhere.
type retirer interface {
	// Retire has what comes from now on go to the twin's next node.
	Retire()
}

// leftover says whether a twin that leaves handles a frame nevertheless: it was taken before, and comes to nobody else.
func (t *twin) leftover(l *link) bool {
	if t.link != l || t.mode != modeLeaving || t.hurried || !t.ready || !t.loaded {
		return false
	}
	_, ok := l.conn.(retirer)
	return ok
}

// awaits says whether a twin that leaves has a command whose answer the connection may yet bring.
func (t *twin) awaits(l *link) bool {
	if t.link != l || t.mode != modeLeaving || t.work == nil {
		return false
	}
	select {
	case <-l.quit:
		return false
	default:
		return t.work.pending != nil || t.work.call != nil && t.work.call.command != nil
	}
}

func (*linkSeen) run(t *twin) { t.seen() }

// seen notes that the device spoke.
func (t *twin) seen() {
	if t.mode == modeLive {
		t.st.LastSeen = t.stamp()
		t.touched = true
	}
}

// up: the device is connected.
func (t *twin) up() {
	t.reached()
	t.connection(pb.Connection_CONNECTION_CONNECTED)
	t.seen()
	t.emitStatus()
	t.working().push(event{kind: drivers.EventConnected, input: noSettings})
	t.resend()
}

// down: the device is not connected any more, or could not be reached. The twin counts as what as says from now on.
func (t *twin) down(why string, as pb.Connection) {
	if t.sleeping() {
		return // it hung up to sleep
	}
	was := pb.Connection(t.st.Connection)
	t.connection(as)
	if was == as {
		return
	}
	t.emitStatus()
	if was == pb.Connection_CONNECTION_CONNECTED {
		in := append([]byte(`{"error":`), quote(why)...)
		t.working().push(event{kind: drivers.EventDisconnected, input: append(in, '}')})
		if len(t.watchers()) > 0 {
			t.emitWhole() // every value is stale now
		}
	}
	if w := t.work; w != nil && w.pending != nil && w.call == nil {
		c := w.pending
		w.pending = nil
		t.conclude(c, pb.Outcome_OUTCOME_UNKNOWN, nil, &drivers.DriverError{Message: "the connection was lost before the device answered"})
	}
}

// receivable says why a frame cannot be given to the driver, or nil.
func (t *twin) receivable() error {
	switch {
	case t.cfg.stopped:
		return ErrStopped
	case t.spec == nil || !t.patient():
		return ErrFault
	}
	return nil
}

// frame takes a message that came over MQTT.
func (t *twin) frame(f *actorv1.Frame, m *call) {
	t.e.tracers.received(t.en.id, f.Topic, f.Payload)
	if t.holds() || !t.accept(f, m) {
		t.hold(f, m)
	}
}

// accept has a frame take effect. false: there is no room for what it brings, and it had none.
func (t *twin) accept(f *actorv1.Frame, m *call) bool {
	t.beginLeft()
	if t.repeatedFrame(f, m) {
		return true
	}
	if err := t.receivable(); err != nil {
		t.e.stats.drop(dropFault)
		t.took(f, m, err)
		return true
	}
	if t.spec.bare() {
		return t.understand(f, m)
	}
	t.heard(f)
	t.convey(f, m)
	return true
}

// heard notes that the device spoke.
func (t *twin) heard(f *actorv1.Frame) {
	t.seen()
	t.movedBy().received(len(f.Topic) + len(f.Payload))
}

// convey gives a frame to the driver.
func (t *twin) convey(f *actorv1.Frame, m *call) {
	v := event{kind: drivers.EventReceived, done: func(err error) { t.took(f, m, err) }, link: f.Link, sequence: f.Sequence, frame: f}
	if f.Id != "" {
		v.id = hashID(f.Id)
	}
	if w := t.cfg.will; w != nil && f.Topic == w.Topic {
		v.will, v.input = true, f.Payload
	} else {
		v.input, v.at, v.historical = t.inputOf(f), f.Time, f.Historical
		if v.speaks = !f.Historical && t.spec.ownBroker(t.cfg.uri); v.speaks && !t.work.wills() {
			t.speaks()
		}
	}
	t.working().push(v)
}

// wills says whether something that waits will tell whether the device is there.
func (w *work) wills() bool {
	return w != nil && slices.ContainsFunc(w.events, func(v event) bool { return v.will })
}

// speaks: the device speaks, so it is there.
func (t *twin) speaks() {
	if t.mode == modeLive && pb.Connection(t.st.Connection) != pb.Connection_CONNECTION_CONNECTED && !t.sleeping() {
		t.up()
	}
}

// presence takes a message on the topic that tells whether the device is there.
func (t *twin) presence(payload string) {
	connected := pb.Connection(t.st.Connection) == pb.Connection_CONNECTION_CONNECTED
	switch payload {
	case t.cfg.will.Online:
		if !connected {
			t.up()
		}
	case t.cfg.will.Offline:
		t.down("the device is offline", pb.Connection_CONNECTION_DISCONNECTED)
	}
}
