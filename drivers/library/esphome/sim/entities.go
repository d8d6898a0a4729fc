package sim

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Keys of the entities.
const (
	door uint32 = 0x1000_0001 + iota
	temperature
	relay
	lamp
	blind
	fan
	level
	mode
	restart
	note
	heating
)

// entity is one as it is listed: ids of fields and messages as in ESPHome's api.proto.
type entity struct {
	lists    int
	key      uint32
	id, name string
	more     [][]byte
}

func entities() []entity {
	return []entity{
		{12, door, "door", "Door", [][]byte{words(nil, 5, "door")}},
		{13, blind, "blind", "Blind", [][]byte{put(nil, 6, 1), put(nil, 7, 1), put(nil, 12, 1)}},
		{14, fan, "fan", "Fan", [][]byte{put(nil, 5, 1), put(nil, 6, 1), put(nil, 7, 1), put(nil, 8, 3)}},
		{15, lamp, "lamp", "Lamp", [][]byte{put(nil, 12, 35), put(nil, 12, 11), real(nil, 9, 153), real(nil, 10, 500), words(nil, 11, "Rainbow")}},
		{16, temperature, "temperature", "Temperature", [][]byte{words(nil, 6, "°C"), put(nil, 7, 1)}},
		{17, relay, "relay", "Relay", nil},
		{18, note, "note", "Note", nil},
		{46, heating, "heating", "Heating", [][]byte{put(nil, 5, 1), put(nil, 7, 0), put(nil, 7, 3), real(nil, 8, 5), real(nil, 9, 30), put(nil, 12, 1)}},
		{49, level, "level", "Level", [][]byte{real(nil, 6, 0), real(nil, 7, 100), real(nil, 8, 0.5), words(nil, 11, "%")}},
		{52, mode, "mode", "Mode", [][]byte{words(nil, 6, "Eco"), words(nil, 6, "Boost")}},
		{61, restart, "restart", "Restart", nil},
	}
}

// states of all entities.
type states struct {
	relay, lamp, fan, turning, backward bool
	air, level, target                  float32
	brightness, strength                float32
	red, green, blue, mireds            float32
	blind, tilt                         float32
	speed, climate                      uint64
	mode, effect                        string
}

// message is the state of an entity: the type of the message, and its fields behind the key.
func (n *states) message(which uint32) (kind int, fields [][]byte) {
	switch which {
	case door:
		return 21, [][]byte{put(nil, 2, 1)}
	case temperature:
		return 25, [][]byte{real(nil, 2, n.air), put(nil, 3, truth(math.IsNaN(float64(n.air))))}
	case relay:
		return 26, [][]byte{put(nil, 2, truth(n.relay))}
	case lamp:
		return 24, [][]byte{put(nil, 2, truth(n.lamp)), real(nil, 3, n.brightness), put(nil, 11, 35), real(nil, 10, n.strength), real(nil, 4, n.red),
			real(nil, 5, n.green), real(nil, 6, n.blue), real(nil, 8, n.mireds), words(nil, 9, n.effect)}
	case blind:
		return 22, [][]byte{real(nil, 3, n.blind), real(nil, 4, n.tilt)}
	case fan:
		return 23, [][]byte{put(nil, 2, truth(n.fan)), put(nil, 3, truth(n.turning)), put(nil, 5, truth(n.backward)), put(nil, 6, n.speed)}
	case level:
		return 50, [][]byte{real(nil, 2, n.level)}
	case mode:
		return 53, [][]byte{words(nil, 2, n.mode)}
	case note:
		return 27, [][]byte{words(nil, 2, "hello")}
	case heating:
		action := uint64(0)
		if n.climate == 3 {
			action = 3
		}
		return 47, [][]byte{put(nil, 2, n.climate), real(nil, 3, n.air), real(nil, 4, n.target), put(nil, 8, action)}
	}
	return 0, nil
}

// command does what it asks of an entity, and tells its state; with the lock held.
func (s *Sim) command(kind int, f map[protowire.Number]uint64text) {
	n := &s.now
	which := uint32(f[1].number)
	said := ""
	switch {
	case kind == 33 && which == relay:
		n.relay = f[2].number != 0
		said = fmt.Sprintf("relay %v", n.relay)
	case kind == 32 && which == lamp:
		s.light(f)
		said = fmt.Sprintf("lamp %v %.2f", n.lamp, n.brightness)
	case kind == 30 && which == blind:
		if f[4].number != 0 {
			n.blind = f[5].float()
		}
		if f[6].number != 0 {
			n.tilt = f[7].float()
		}
		said = fmt.Sprintf("blind %.2f %.2f stop %v", n.blind, n.tilt, f[8].number != 0)
	case kind == 31 && which == fan:
		if f[2].number != 0 {
			n.fan = f[3].number != 0
		}
		if f[6].number != 0 {
			n.turning = f[7].number != 0
		}
		if f[8].number != 0 {
			n.backward = f[9].number != 0
		}
		if f[10].number != 0 {
			n.speed = f[11].number
		}
		said = fmt.Sprintf("fan %v %d", n.fan, n.speed)
	case kind == 51 && which == level:
		n.level = f[2].float()
		said = fmt.Sprintf("level %g", n.level)
	case kind == 54 && which == mode:
		n.mode = f[2].text
		said = "mode " + n.mode
	case kind == 62 && which == restart:
		said = "restart"
	case kind == 48 && which == heating:
		if f[2].number != 0 {
			n.climate = f[3].number
		}
		if f[4].number != 0 {
			n.target = f[5].float()
		}
		said = fmt.Sprintf("heating %d %g", n.climate, n.target)
	default:
		s.journal.Add("esphome", "unknown", fmt.Sprintf("type %d key %#x", kind, which))
		return
	}
	s.journal.Add("esphome", "told", said)
	s.tell(which)
}

func (s *Sim) light(f map[protowire.Number]uint64text) {
	n := &s.now
	if f[2].number != 0 {
		n.lamp = f[3].number != 0
	}
	if f[4].number != 0 {
		n.brightness = f[5].float()
	}
	if f[20].number != 0 {
		n.strength = f[21].float()
	}
	if f[6].number != 0 {
		n.red, n.green, n.blue = f[7].float(), f[8].float(), f[9].float()
		if most := max(n.red, n.green, n.blue); most > 0 { // the firmware keeps the brightest at 1
			n.red, n.green, n.blue = n.red/most, n.green/most, n.blue/most
		}
	}
	if f[12].number != 0 {
		n.mireds = f[13].float()
	}
	if f[18].number != 0 {
		n.effect = f[19].text
	}
}
