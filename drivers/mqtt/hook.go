package mqtt

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// willMargin: a will that is delayed is sent so long before its session expires, in seconds; mochi looks once a second
// and forgets the will with the session.
const willMargin = 5

// hook is where mochi asks us.
type hook struct {
	mochi.HookBase
	b *Broker
}

// ID names the hook in mochi's errors.
func (h *hook) ID() string { return "pollux" }

// Provides lists what mochi is to call.
func (h *hook) Provides(event byte) bool {
	switch event {
	case mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnSessionEstablished,
		mochi.OnDisconnect, mochi.OnPacketEncode, mochi.OnSubscribe, mochi.OnSubscribed, mochi.OnUnsubscribed,
		mochi.OnPublishDropped, mochi.OnRetainMessage, mochi.OnRetainedExpired, mochi.OnWill, mochi.OnWillSent,
		mochi.OnQosPublish, mochi.OnQosComplete, mochi.OnQosDropped, mochi.OnClientExpired:
		return true
	}
	return false
}

// sessionOf gives our side of a client of mochi's; nil: one that stands for a publisher.
func sessionOf(cl *mochi.Client) *session {
	s, _ := cl.Net.Conn.(*session)
	return s
}

// OnConnectAuthenticate decides who may come in. It is called from the reading goroutine.
func (h *hook) OnConnectAuthenticate(cl *mochi.Client, pk packets.Packet) bool {
	s := sessionOf(cl)
	if s == nil {
		return false
	}
	grant, reason, err := h.b.authenticate(cl, &pk)
	if reason == "" {
		if err = h.b.claim(cl.ID, s); err != nil {
			reason = "taken"
		}
	}
	if reason != "" {
		h.b.stats.turnedAway(reason)
		s.setReason(reason)
		h.b.quiet.log(h.b.log, slog.LevelInfo, "mqtt client refused", "client", cl.ID, "user", string(pk.Connect.Username), "remote", s.remote,
			"reason", reason, "error", err)
		return false
	}
	limitWill(cl, &pk)
	s.mu.Lock()
	s.client, s.id, s.user, s.grant = cl, cl.ID, string(pk.Connect.Username), grant
	s.version, s.keepAlive = cl.Properties.ProtocolVersion, time.Duration(pk.Connect.Keepalive)*time.Second
	s.since = time.Now()
	// mochi's own flow control can dead-lock (its list of waiting messages is locked twice); the session does it.
	if s.receiveMax = int(cl.Properties.Props.ReceiveMaximum); s.receiveMax > 0 {
		s.flow = newFlow(s.receiveMax)
	}
	s.mu.Unlock()
	cl.Properties.Props.ReceiveMaximum = 0
	cl.State.Inflight.ResetSendQuota(0)
	// An alias that a dropped or repeated message introduced would be unknown to the client: none are used towards it.
	cl.Properties.Props.TopicAliasMaximum = 0
	cl.State.TopicAliases.Outbound = mochi.NewOutboundTopicAliases(0)
	s.authenticated = true
	h.b.handshakes.Add(-1)
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	h.b.sessions[s] = struct{}{}
	return true
}

// authenticate checks credentials, client id and will. A reason that is not empty says why not.
func (b *Broker) authenticate(cl *mochi.Client, pk *packets.Packet) (grant *Grant, reason string, err error) {
	switch {
	case b.closing.Load():
		return nil, "closing", nil
	case len(cl.ID) > maxClientID:
		return nil, "client_id", fmt.Errorf("client id of %d bytes, at most %d", len(cl.ID), maxClientID)
	}
	user := string(pk.Connect.Username)
	if !pk.Connect.UsernameFlag && !pk.Connect.PasswordFlag {
		if !b.anonymous {
			return nil, "anonymous", nil
		}
		grant = &Grant{Topics: []string{"#"}}
	} else {
		g, err := b.handler.Authenticate(cl.ID, user, pk.Connect.Password)
		if err != nil {
			return nil, "credentials", err
		}
		grant = &g
	}
	other, known := b.server.Clients.Get(cl.ID)
	switch {
	case known && !grant.Admin && string(other.Properties.Username) != user:
		return nil, "client_id", fmt.Errorf("client id belongs to another user's session")
	case !known && b.server.Clients.Len() >= b.limits.Sessions:
		return nil, "sessions", nil
	}
	if pk.Connect.WillFlag {
		if err := checkTopic(pk.Connect.WillTopic, b.limits); err != nil {
			return nil, "will", err
		}
		if !grant.mayPublish(pk.Connect.WillTopic) {
			return nil, "will", fmt.Errorf("%w: %s", ErrNotAuthorized, pk.Connect.WillTopic)
		}
	}
	return grant, "", nil
}

// limitWill keeps a delayed will within its session, since mochi forgets it with that.
func limitWill(cl *mochi.Client, pk *packets.Packet) {
	expiry := uint32(0)
	if pk.Properties.SessionExpiryIntervalFlag {
		expiry = pk.Properties.SessionExpiryInterval
	}
	if most := cl.Properties.Will.WillDelayInterval; most > 0 {
		cl.Properties.Will.WillDelayInterval = min(most, max(expiry, willMargin)-willMargin)
	}
}

// OnACLCheck is asked for what a client may receive: filters when it subscribes, topics when it is sent a message.
func (h *hook) OnACLCheck(cl *mochi.Client, topic string, write bool) bool {
	s := sessionOf(cl)
	if s == nil || write || !s.grant.maySubscribe(topic) {
		return false
	}
	if !s.subscribing.Load() && !s.mayOwe(cl) {
		h.b.stats.droppedOut.Inc()
		return false
	}
	return true
}

// OnQosPublish comes for each message of QoS 1 and 2 that a client is to acknowledge.
func (h *hook) OnQosPublish(cl *mochi.Client, pk packets.Packet, _ int64, resends int) {
	if s := sessionOf(cl); s != nil && resends == 0 && pk.FixedHeader.Type == packets.Publish && !pk.FixedHeader.Dup {
		s.owe(&pk)
	}
}

// OnQosComplete comes when it has.
func (h *hook) OnQosComplete(cl *mochi.Client, _ packets.Packet) { settleOwed(cl) }

// OnQosDropped comes when it never will.
func (h *hook) OnQosDropped(cl *mochi.Client, _ packets.Packet) { settleOwed(cl) }

// OnSessionEstablished comes when the client has its CONNACK.
func (h *hook) OnSessionEstablished(cl *mochi.Client, _ packets.Packet) {
	s := sessionOf(cl)
	for _, pk := range cl.State.Inflight.GetAll(false) { // of the session that it goes on with
		s.owe(&pk)
	}
	if known, ok := h.b.server.Clients.Get(cl.ID); !ok || known != cl {
		h.b.server.Clients.Add(cl) // the earlier session expired in this very moment
	}
}

// OnDisconnect comes when the connection is over, expire: its session, too.
func (h *hook) OnDisconnect(cl *mochi.Client, _ error, expire bool) {
	if s := sessionOf(cl); expire && s != nil {
		h.b.forget(cl.ID, s)
	}
}

// OnPacketEncode adds to the CONNACK what mochi leaves out. A client that is told of no session has none with us either.
func (h *hook) OnPacketEncode(cl *mochi.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Connack && pk.ReasonCode == 0 {
		if !pk.SessionPresent {
			h.b.forget(cl.ID, nil)
		}
		pk.Properties.MaximumPacketSize = uint32(min(h.b.limits.MaxPacket, math.MaxUint32))
		pk.Properties.TopicAliasMaximum = topicAliases
	}
	return pk
}

// OnSubscribe takes filters out that are beyond the limits: mochi answers an empty one as invalid.
func (h *hook) OnSubscribe(cl *mochi.Client, pk packets.Packet) packets.Packet {
	if s := sessionOf(cl); s != nil {
		s.subscribing.Store(true)
	}
	room := h.b.limits.Subscriptions - cl.State.Subscriptions.Len()
	filters := append(packets.Subscriptions(nil), pk.Filters...)
	for i := range filters {
		_, known := cl.State.Subscriptions.Get(filters[i].Filter)
		switch {
		case checkLength(filters[i].Filter, h.b.limits) != nil:
			h.b.stats.refused("filter")
			filters[i].Filter = ""
		case !known && room <= 0:
			h.b.stats.refused("subscriptions")
			filters[i].Filter = ""
		case !known:
			room--
		}
	}
	pk.Filters = filters
	return pk
}

// OnSubscribed comes when the index has the subscriptions.
func (h *hook) OnSubscribed(cl *mochi.Client, pk packets.Packet, codes []byte) {
	if s := sessionOf(cl); s != nil {
		s.subscribing.Store(false)
	}
	h.b.subscriptions.Add(1)
	for i, code := range codes {
		if code >= 0x80 && i < len(pk.Filters) && pk.Filters[i].Filter != "" {
			h.b.stats.refused("subscribe")
			h.b.quiet.log(h.b.log, slog.LevelInfo, "mqtt subscription refused", "client", cl.ID, "filter", pk.Filters[i].Filter)
		}
	}
}

// OnUnsubscribed comes when the index has them no more.
func (h *hook) OnUnsubscribed(*mochi.Client, packets.Packet) { h.b.subscriptions.Add(1) }

// OnPublishDropped comes when a client's queue in mochi is full.
func (h *hook) OnPublishDropped(*mochi.Client, packets.Packet) { h.b.stats.droppedOut.Inc() }

// OnRetainMessage comes for each message that was to be retained.
func (h *hook) OnRetainMessage(_ *mochi.Client, pk packets.Packet, _ int64) {
	h.b.retained.set(pk.TopicName, len(pk.Payload))
}

// OnRetainedExpired comes when a message's own expiry is over.
func (h *hook) OnRetainedExpired(topic string) { h.b.retained.set(topic, 0) }

// OnWill comes before a will is sent.
func (h *hook) OnWill(_ *mochi.Client, will mochi.Will) (mochi.Will, error) {
	if will.Retain && !h.b.retained.room(will.TopicName, len(will.Payload)) {
		h.b.stats.refused("retained")
		will.Retain = false
	}
	return will, nil
}

// OnWillSent comes when subscribers have the will; now the handler gets it.
func (h *hook) OnWillSent(cl *mochi.Client, pk packets.Packet) {
	s := sessionOf(cl)
	if s == nil || s.grant == nil || h.b.closing.Load() {
		return
	}
	h.b.deliverWill(s, &pk)
}

// OnClientExpired comes before mochi forgets a client that stayed away; it would keep its subscriptions.
func (h *hook) OnClientExpired(cl *mochi.Client) {
	h.b.server.UnsubscribeClient(cl)
	cl.ClearInflights()
	h.b.forget(cl.ID, nil)
}
