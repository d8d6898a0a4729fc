package mqtt

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	"github.com/polluxhq/pollux/storage"
)

// rejection says why a client is not let in: by MQTT 5's code, 3.1.1's, and the label of the counter.
type rejection struct {
	code   packets.Code
	old    byte
	reason string
	err    error
}

func (r *rejection) Error() string { return fmt.Sprintf("%s: %v", r.reason, r.err) }

func denied(reason string, err error) *rejection {
	return &rejection{packets.ErrBadUsernameOrPassword, 5, reason, err}
}

func busy(reason string, err error) *rejection {
	return &rejection{packets.ErrServerBusy, 3, reason, err}
}

// connect reads the CONNECT and lets the client in, or says why not.
func (s *session) connect() error {
	s.deadline = time.Now().Add(s.b.limits.ConnectTimeout)
	if err := s.tlsHandshake(); err != nil {
		return err
	}
	body, err := s.readConnect()
	if err != nil {
		return err
	}
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}}
	if err := pk.ConnectDecode(bytes.Clone(body)); err != nil {
		return s.fail("malformed", 0, err)
	}
	s.version = pk.ProtocolVersion
	if err := checkConnect(&pk); err != nil {
		return s.reject(&pk, err)
	}
	if err := s.enter(&pk); err != nil {
		return s.reject(&pk, err)
	}
	return nil
}

// checkConnect checks what the protocol wants of a CONNECT.
func checkConnect(pk *packets.Packet) *rejection {
	c := &pk.Connect
	name := string(c.ProtocolName)
	switch {
	case name != "MQTT" && name != "MQIsdp":
		return &rejection{packets.ErrUnsupportedProtocolVersion, 1, "malformed", errMalformed}
	case name == "MQTT" && pk.ProtocolVersion != 4 && pk.ProtocolVersion != 5, name == "MQIsdp" && pk.ProtocolVersion != 3:
		return &rejection{packets.ErrUnsupportedProtocolVersion, 1, "version", fmt.Errorf("version %d of %s", pk.ProtocolVersion, name)}
	case pk.ReservedBit != 0, c.WillQos > 2, !c.WillFlag && (c.WillQos > 0 || c.WillRetain), !c.UsernameFlag && c.PasswordFlag && pk.ProtocolVersion < 5:
		return &rejection{packets.ErrMalformedPacket, 5, "malformed", errMalformed}
	case c.ClientIdentifier == "" && !c.Clean && pk.ProtocolVersion < 5:
		return &rejection{packets.ErrClientIdentifierNotValid, 2, "client_id", errors.New("no client id, and no clean session")}
	case len(c.ClientIdentifier) > maxClientID:
		return &rejection{packets.ErrClientIdentifierNotValid, 2, "client_id", fmt.Errorf("client id of %d bytes, at most %d", len(c.ClientIdentifier), maxClientID)}
	case bytes.IndexByte([]byte(c.ClientIdentifier), 0) >= 0:
		return &rejection{packets.ErrClientIdentifierNotValid, 2, "client_id", errors.New("client id with a zero byte")}
	case pk.Properties.AuthenticationMethod != "":
		return &rejection{packets.ErrBadAuthenticationMethod, 5, "auth_method", errors.New("no authentication method but user and password")}
	}
	return nil
}

// tellsReasons says whether the client wants reasons in words, and takes packets that are long enough for them.
func tellsReasons(pk *packets.Packet) bool {
	p := &pk.Properties
	return (!p.RequestProblemInfoFlag || p.RequestProblemInfo > 0) && (p.MaximumPacketSize == 0 || p.MaximumPacketSize >= 1024)
}

// reject says by a CONNACK why not.
func (s *session) reject(pk *packets.Packet, err error) error {
	r := &rejection{packets.ErrUnspecifiedError, 3, "unavailable", err}
	errors.As(err, &r)
	s.b.stats.turnedAway(r.reason)
	s.setReason(r.reason)
	s.b.quiet.log(s.b.log, slog.LevelInfo, "mqtt client refused", "client", pk.Connect.ClientIdentifier, "user", string(pk.Connect.Username),
		"remote", s.remote, "reason", r.reason, "error", r.err)
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ProtocolVersion: pk.ProtocolVersion, ReasonCode: r.old}
	if pk.ProtocolVersion == 5 {
		ack.ReasonCode = r.code.Code
		if r.code != packets.ErrBadUsernameOrPassword && tellsReasons(pk) { // not what of them is wrong
			ack.Properties.ReasonString = strings.ToValidUTF8(r.err.Error(), "")
		}
	}
	s.answer(&ack, (*packets.Packet).ConnackEncode)
	return r
}

// answer queues a packet.
func (s *session) answer(pk *packets.Packet, encode func(*packets.Packet, *bytes.Buffer) error) {
	var buf bytes.Buffer
	if err := encode(pk, &buf); err != nil {
		s.b.log.Error("mqtt packet cannot be encoded", "type", pk.FixedHeader.Type, "error", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.out = append(s.out, buf.Bytes()...)
		s.kick()
	}
}

// enter authenticates the client, takes its session over from wherever it is, commits that it is here, and says so.
func (s *session) enter(pk *packets.Packet) error {
	b := s.b
	id := pk.Connect.ClientIdentifier
	if id == "" {
		id = newClientID()
	}
	grant, err := b.authenticate(s.conn, id, pk)
	if err != nil {
		return err
	}
	s.grant, s.user = grant, string(pk.Connect.Username)
	s.keepAlive, s.since = time.Duration(pk.Connect.Keepalive)*time.Second, time.Now()
	s.receiveMax, s.maxPacket = math.MaxUint16, int(pk.Properties.MaximumPacketSize)
	s.noReasons = !tellsReasons(pk)
	if pk.Properties.ReceiveMaximum > 0 {
		s.receiveMax = int(pk.Properties.ReceiveMaximum)
	}
	if old, _, err := b.readSession(id); err != nil || old != nil && !grant.Admin && old.User != grant.owner(s.user) {
		return s.foreign(err)
	}
	if err := b.claim(id, s); err != nil {
		return busy("taken", err)
	}
	s.id = id
	b.mu.Lock()
	full := len(b.sessions) >= b.limits.Clients
	if !full {
		b.sessions[s] = struct{}{}
	}
	b.mu.Unlock()
	if full {
		return busy("clients", errors.New("too many clients"))
	}
	s.authenticated = true
	b.handshakes.Add(-1)
	ctx, cancel := b.background()
	defer cancel()
	present, err := s.attach(ctx, pk)
	if err != nil {
		return err
	}
	s.welcome(pk, present)
	return nil
}

// foreign: the client id is another user's, or that cannot be told.
func (s *session) foreign(err error) error {
	if err == nil {
		err = errors.New("client id belongs to another user's session")
	}
	return denied("client_id", err)
}

func newClientID() string {
	var r [12]byte
	_, _ = rand.Read(r[:]) // it never fails
	return "auto-" + hex.EncodeToString(r[:])
}

func newNumber() uint64 {
	var r [8]byte
	_, _ = rand.Read(r[:])
	return max(1, binary.LittleEndian.Uint64(r[:]))
}

// authenticate checks credentials and will.
func (b *Broker) authenticate(conn net.Conn, id string, pk *packets.Packet) (*Grant, error) {
	if b.closing.Load() {
		return nil, busy("closing", ErrClosed)
	}
	user := string(pk.Connect.Username)
	var grant Grant
	if !pk.Connect.UsernameFlag && !pk.Connect.PasswordFlag {
		if !b.anonymous {
			return nil, denied("anonymous", errors.New("no user name"))
		}
		if b.made != nil && b.made(conn) {
			return nil, denied("anonymous", errors.New("a twin or a sink of this node needs a key, like any client of another machine"))
		}
		grant = Grant{Topics: []string{"#"}}
	} else {
		var err error
		if grant, err = b.handler.Authenticate(id, user, pk.Connect.Password); err != nil {
			return nil, denied("credentials", err)
		}
	}
	if pk.Connect.WillFlag {
		if err := checkTopic(pk.Connect.WillTopic, b.limits); err != nil {
			return nil, denied("will", err)
		}
		if !grant.mayPublish(pk.Connect.WillTopic) {
			return nil, denied("will", fmt.Errorf("%w: %s", ErrNotAuthorized, pk.Connect.WillTopic))
		}
	}
	return &grant, nil
}

// attach commits that the client is here, with its session or a new one.
func (s *session) attach(ctx context.Context, pk *packets.Packet) (present bool, err error) {
	b := s.b
	asked := uint64(0)
	for {
		old, revision, err := b.readSession(s.id)
		switch {
		case err != nil:
			return false, err
		case old != nil && !s.grant.Admin && old.User != s.grant.owner(s.user):
			return false, s.foreign(nil)
		case old == nil && b.clients.len() >= b.limits.Sessions:
			return false, busy("sessions", errors.New("too many sessions"))
		}
		if old != nil && !old.Away && old.Node != b.self && old.Connection != asked && b.lives(old.Node, old.Incarnation) {
			asked = old.Connection
			if b.endElsewhere(ctx, old.Node, s.id, old.Connection) {
				continue // its node has settled what it was: the record is another one
			}
		}
		resumed := old != nil && !pk.Connect.Clean && old.Expiry > 0 && (!old.Away || expiresAt(old) > nowMillis()) && s.mayResume(old)
		next := s.newRecord(pk, old, resumed)
		now, err := b.writeSession(ctx, s.id, next, revision)
		if errors.Is(err, storage.ErrGuard) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return false, &rejection{packets.ErrServerUnavailable, 3, "unavailable", err}
		}
		s.record, s.revision = next, now
		if s.client = b.clients.get(s.id); s.client == nil || s.client.place.Load().connection != s.connection {
			s.client = b.learn(s.id, next, now) // taken over in this very moment, as will show
		}
		s.established.Store(true) // from now on there is something to settle
		b.inherit(s, old, resumed)
		if resumed {
			err = s.reserve()
		}
		return resumed, err
	}
}

// mayResume says whether the client may still have what the session subscribed to, and so what is queued for it.
func (s *session) mayResume(r *actorv1.MqttSession) bool {
	for _, sub := range r.Subscriptions {
		if !s.grant.maySubscribe(sub.Filter) {
			return false
		}
	}
	return true
}

func expiresAt(r *actorv1.MqttSession) int64 { return r.Since + int64(r.Expiry)*1000 }

// newRecord gives the session's record with this connection.
func (s *session) newRecord(pk *packets.Packet, old *actorv1.MqttSession, resumed bool) *actorv1.MqttSession {
	b := s.b
	s.connection, s.birth = newNumber(), newNumber()
	r := &actorv1.MqttSession{Node: b.self, Incarnation: b.incarnation, Connection: s.connection, Since: s.since.UnixMilli(),
		Expiry: s.expiryOf(pk), User: s.grant.owner(s.user), Version: uint32(s.version), Will: willOf(pk, s.id), Key: s.grant.Key}
	s.keeps = r.Expiry > 0
	if resumed {
		s.birth, s.keeps = old.Birth, true
		s.heldUntil = r.Since
		if old.Away {
			s.heldUntil = old.Since
		}
		r.Subscriptions = old.Subscriptions
	}
	r.Birth, r.Keeps = s.birth, s.keeps
	return r
}

// expiryOf is how long the session stays when the connection is over, in seconds.
func (s *session) expiryOf(pk *packets.Packet) uint32 {
	most := uint32(min(int64(s.b.limits.SessionExpiry/time.Second), math.MaxUint32))
	if pk.ProtocolVersion == 5 {
		return min(pk.Properties.SessionExpiryInterval, most)
	}
	if pk.Connect.Clean {
		return 0
	}
	return most
}

// inherit settles what an earlier connection left that did not settle it itself.
func (b *Broker) inherit(s *session, old *actorv1.MqttSession, resumed bool) {
	if old == nil {
		return
	}
	// A delayed will is over with the return of the client, unless the session ends here.
	if old.Will != nil && (!resumed || !old.Away && old.Will.Delay == 0) {
		if w := s.client.will.Load(); w == nil || w.connection != old.Connection {
			b.publishLostWill(s.id, old)
		}
	}
	if !resumed {
		b.removeQueue(s.id, old.Birth)
	}
}

// welcome says that the client is in, and begins with what waits for it.
func (s *session) welcome(pk *packets.Packet, present bool) {
	b := s.b
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ProtocolVersion: s.version,
		SessionPresent: present && s.version > 3}
	if s.version == 5 {
		p := &ack.Properties
		p.ReceiveMaximum, p.MaximumPacketSize, p.TopicAliasMaximum = uint16(b.limits.Unacked), uint32(min(b.limits.MaxPacket, math.MaxUint32)), topicAliases
		if pk.Connect.ClientIdentifier == "" {
			p.AssignedClientID = s.id
		}
		if pk.Properties.SessionExpiryInterval > s.record.Expiry {
			p.SessionExpiryInterval, p.SessionExpiryIntervalFlag = s.record.Expiry, true
		}
	}
	s.answer(&ack, (*packets.Packet).ConnackEncode)
	s.client.here.Store(s)
	if p := s.client.place.Load(); p.connection != s.connection {
		s.supersede()
		return
	}
	s.mu.Lock()
	if s.keeps {
		s.catchUpLocked()
	} else {
		s.live = true
	}
	s.mu.Unlock()
	s.openReaders(s.record.Subscriptions)
}

// disconnected works on a DISCONNECT, which ends the connection.
func (s *session) disconnected(body []byte) error {
	code, expiry, hasExpiry := byte(0), uint32(0), false
	if len(body) > 0 {
		if s.version < 5 {
			return s.fail("malformed", 0, errMalformed)
		}
		code = body[0]
	}
	if len(body) > 1 {
		var props packets.Properties
		if _, err := props.Decode(packets.Disconnect, bytes.NewBuffer(bytes.Clone(body[1:]))); err != nil {
			return s.fail("malformed", packets.ErrMalformedProperties.Code, err)
		}
		expiry, hasExpiry = props.SessionExpiryInterval, props.SessionExpiryIntervalFlag
	}
	if hasExpiry {
		if expiry > 0 && s.record.Expiry == 0 {
			return s.fail("protocol", packets.ErrProtocolViolation.Code, errProtocol)
		}
		s.record.Expiry = min(expiry, uint32(s.b.limits.SessionExpiry/time.Second))
	}
	if code == packets.CodeDisconnectWillMessage.Code {
		return errWithWill
	}
	return nil
}

// part writes what the session is without its connection: away, or gone. Its will goes first. in order: by a DISCONNECT.
func (s *session) part(inOrder bool) {
	b := s.b
	s.closeReaders()
	s.client.here.CompareAndSwap(s, nil)
	s.mu.Lock()
	noWill := s.noWill
	s.mu.Unlock()
	if noWill {
		return // the record is another connection's
	}
	r := s.record
	if will := r.Will; will != nil {
		switch {
		case inOrder, b.closing.Load():
			r.Will = nil // said goodbye; or it is the node that goes, not the device
		case will.Delay == 0 || r.Expiry == 0:
			will.Delay = 0
			if s.passWill(r) {
				r.Will = nil
			}
		}
	}
	b.writer.flush() // what the client has acknowledged
	ctx, cancel := context.WithTimeout(context.Background(), b.limits.CommitTimeout)
	defer cancel()
	var err error
	if r.Expiry == 0 && r.Will == nil {
		if _, err = b.writeSession(ctx, s.id, nil, s.revision); err == nil && s.keeps {
			b.removeQueue(s.id, s.birth)
		}
	} else {
		r.Away, r.Since = true, time.Now().UnixMilli()
		_, err = b.writeSession(ctx, s.id, r, s.revision)
	}
	if err != nil && !errors.Is(err, storage.ErrGuard) && !errors.Is(err, storage.ErrClosed) {
		b.quiet.log(b.log, slog.LevelWarn, "end of an mqtt connection not written; it is made up for", "client", s.id, "error", err)
	}
}
