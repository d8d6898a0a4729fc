package main

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
)

// Firmware over the air: a node's bootloader asks which firmware it shall have, and then for one block after the other, from
// the last to the first. Numbers are little-endian, and all of it is in hex.
const (
	configRequest  = 0
	configResponse = 1
	blockRequest   = 2
	blockResponse  = 3

	blockSize = 16
	// pageSize is to what a firmware is filled up, by 0xFF.
	pageSize = 128
)

// Firmware is one that nodes of its type shall have.
type Firmware struct {
	Type    int    `json:"type"`
	Version int    `json:"version"`
	Data    string `json:"data"`
}

// bytes are the firmware as it is sent.
func (f Firmware) bytes() ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(f.Data)
	if err != nil {
		return nil, err
	}
	for len(b)%pageSize > 0 {
		b = append(b, 0xFF)
	}
	return b, nil
}

// load answers a bootloader.
func load(t *Twin, m line, n *Node) {
	asked, err := hex.DecodeString(m.payload)
	if err != nil || len(asked) < 6 {
		return
	}
	f := wanted(t.Settings().Firmwares, word(asked, 0), word(asked, 2), m.kind == configRequest)
	if f == nil {
		return // it goes on with what it has
	}
	data, err := f.bytes()
	if err != nil {
		t.Log("error", "firmware "+strconv.Itoa(f.Type)+" version "+strconv.Itoa(f.Version)+": "+err.Error())
		return
	}
	reply := line{node: m.node, child: m.child, command: stream}
	name := strconv.Itoa(f.Type) + " version " + strconv.Itoa(f.Version)
	switch m.kind {
	case configRequest:
		reply.kind = configResponse
		reply.payload = words(f.Type, f.Version, len(data)/blockSize, int(crc(data)))
		if word(asked, 2) != f.Version {
			n.Update = "offered " + name
		}
	case blockRequest:
		block := word(asked, 4)
		if block >= len(data)/blockSize {
			return
		}
		reply.kind = blockResponse
		reply.payload = words(f.Type, f.Version, block) + hex.EncodeToString(data[block*blockSize:(block+1)*blockSize])
		switch block {
		case len(data)/blockSize - 1:
			n.Update = "loads " + name
		case 0:
			n.Update = "has loaded " + name
		}
	default:
		return
	}
	if err := write(t, reply); err != nil {
		t.Log("warn", "firmware "+name+": "+err.Error())
	}
}

// wanted is the newest firmware of a type, or the one of a version.
func wanted(all []Firmware, kind, version int, newest bool) (best *Firmware) {
	for i := range all {
		f := &all[i]
		if f.Type == kind && (newest && (best == nil || f.Version > best.Version) || !newest && f.Version == version) {
			best = f
		}
	}
	return best
}

func word(b []byte, at int) int { return int(b[at]) | int(b[at+1])<<8 }

func words(all ...int) string {
	b := make([]byte, 0, 2*len(all))
	for _, w := range all {
		b = append(b, byte(w), byte(w>>8))
	}
	return hex.EncodeToString(b)
}

// crc is CRC-16 with the polynomial 0xA001, from 0xFFFF.
func crc(b []byte) uint16 {
	c := uint16(0xFFFF)
	for _, x := range b {
		c ^= uint16(x)
		for range 8 {
			if c&1 == 1 {
				c = c>>1 ^ 0xA001
			} else {
				c >>= 1
			}
		}
	}
	return c
}
