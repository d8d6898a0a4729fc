package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Meta is what a node says of itself to all others. What is not set costs nothing; together it has at most 512 bytes.
type Meta struct {
	// ID of the node, for ever; Name is what people call it; Incarnation rises with every start.
	ID, Name    string
	Incarnation uint64
	// Peer, Gossip, HTTP and MQTT are addresses, host:port. Gossip is filled in by Open.
	Peer, Gossip, HTTP, MQTT string
	// Inbound is where devices may call in, HOST:PORT-PORT, or off; empty: the node does not say.
	Inbound string
	// Zone is the availability zone, Site the place.
	Zone, Site string
	// Version of the program.
	Version string
	// Expect is the number of voters that the node was told to expect.
	Expect int
	// Labels are left out where they do not fit; the member's record has them.
	Labels map[string]string
	// Started is when this run began, to the millisecond: of two that took one name at once the later gives way.
	Started time.Time
	// Leaving says that the node is about to leave on purpose.
	Leaving bool
	// Tentative says that the node has not made sure yet that it runs only once. Another run of it that is alive counts more.
	Tentative bool
}

// The encoding is a version byte and fields: tag, length, bytes. A reader passes over tags that it does not know, so that
// nodes of two versions understand one another.
const metaVersion = 1

const (
	tagID byte = iota + 1
	tagName
	tagIncarnation
	tagPeer
	tagGossip
	tagHTTP
	tagMQTT
	tagZone
	tagSite
	tagVersion
	tagExpect
	tagLabel
	tagStarted
	tagLeaving
	tagTentative
	tagInbound
)

// maxMeta is memberlist's bound, in bytes.
const maxMeta = 512

var errMeta = errors.New("metadata is not readable")

// encode gives the bytes of m, without its labels where they make it too long.
func (m *Meta) encode() ([]byte, error) {
	b := []byte{metaVersion}
	b = appendText(b, tagID, m.ID)
	b = appendText(b, tagName, m.Name)
	b = appendNumber(b, tagIncarnation, m.Incarnation)
	b = appendText(b, tagPeer, m.Peer)
	b = appendText(b, tagGossip, m.Gossip)
	b = appendText(b, tagHTTP, m.HTTP)
	b = appendText(b, tagMQTT, m.MQTT)
	b = appendText(b, tagZone, m.Zone)
	b = appendText(b, tagSite, m.Site)
	b = appendText(b, tagVersion, m.Version)
	b = appendText(b, tagInbound, m.Inbound)
	b = appendNumber(b, tagExpect, uint64(max(0, m.Expect)))
	if !m.Started.IsZero() {
		b = appendNumber(b, tagStarted, uint64(m.Started.UnixMilli()))
	}
	if m.Leaving {
		b = appendNumber(b, tagLeaving, 1)
	}
	if m.Tentative {
		b = appendNumber(b, tagTentative, 1)
	}
	if len(b) > maxMeta {
		return nil, fmt.Errorf("metadata of node %s has %d bytes, %d are allowed: shorten its name, zone, site or addresses", m.ID, len(b), maxMeta)
	}
	bare := len(b)
	for _, k := range slices.Sorted(maps.Keys(m.Labels)) {
		b = appendText(b, tagLabel, k+"\x00"+m.Labels[k])
	}
	if len(b) > maxMeta {
		b = b[:bare]
	}
	return b, nil
}

func appendText(b []byte, tag byte, s string) []byte {
	if s == "" {
		return b
	}
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendNumber(b []byte, tag byte, v uint64) []byte {
	if v == 0 {
		return b
	}
	var n [binary.MaxVarintLen64]byte
	return appendText(b, tag, string(n[:binary.PutUvarint(n[:], v)]))
}

// decodeMeta reads what a node says of itself.
func decodeMeta(b []byte) (Meta, error) {
	if len(b) == 0 || b[0] != metaVersion {
		return Meta{}, errMeta
	}
	var m Meta
	for b = b[1:]; len(b) > 0; {
		tag := b[0]
		size, n := binary.Uvarint(b[1:])
		if n <= 0 || size > uint64(len(b)-1-n) {
			return Meta{}, errMeta
		}
		value := b[1+n : 1+n+int(size)]
		b = b[1+n+int(size):]
		if err := m.set(tag, value); err != nil {
			return Meta{}, err
		}
	}
	if m.ID == "" {
		return Meta{}, errMeta
	}
	return m, nil
}

func (m *Meta) set(tag byte, value []byte) error {
	text := map[byte]*string{tagID: &m.ID, tagName: &m.Name, tagPeer: &m.Peer, tagGossip: &m.Gossip, tagHTTP: &m.HTTP,
		tagMQTT: &m.MQTT, tagZone: &m.Zone, tagSite: &m.Site, tagVersion: &m.Version, tagInbound: &m.Inbound}
	if to, ok := text[tag]; ok {
		*to = string(value)
		return nil
	}
	if tag == tagLabel {
		k, v, ok := cut(value)
		if !ok {
			return errMeta
		}
		if m.Labels == nil {
			m.Labels = map[string]string{}
		}
		m.Labels[k] = v
		return nil
	}
	if tag > tagTentative {
		return nil // of a later version
	}
	v, n := binary.Uvarint(value)
	if n != len(value) || n <= 0 {
		return errMeta
	}
	switch tag {
	case tagIncarnation:
		m.Incarnation = v
	case tagExpect:
		m.Expect = int(min(v, 1<<16))
	case tagStarted:
		m.Started = time.UnixMilli(int64(v & (1<<62 - 1)))
	case tagLeaving:
		m.Leaving = v != 0
	case tagTentative:
		m.Tentative = v != 0
	}
	return nil
}

func cut(b []byte) (k, v string, ok bool) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), string(b[i+1:]), true
		}
	}
	return "", "", false
}
