package sim

import (
	"fmt"
	"strconv"
	"strings"
)

// Numbers of errors, as the protocol has them.
const (
	wrongCount    = "~ERROR,1"
	noObject      = "~ERROR,2"
	noAction      = "~ERROR,3"
	outOfRange    = "~ERROR,4"
	malformed     = "~ERROR,5"
	noSuchCommand = "~ERROR,6"
)

// command is a line such as #OUTPUT,1,1,75,01:30.
type command struct {
	set        bool // # sets, ? asks
	id, action int
	rest       []string
}

func zoneText(id int, level float64) string { return fmt.Sprintf("~OUTPUT,%d,1,%.2f", id, level) }

// answer does what a line says, tells the others, and gives the lines that answer it.
func (s *Sim) answer(c *session, line string) []string {
	if line == "" {
		return nil
	}
	fields := strings.Split(line[1:], ",")
	do := map[string]func(*session, command) string{"OUTPUT": s.output, "AREA": s.area, "DEVICE": s.device, "MONITORING": s.monitoring}[fields[0]]
	if line[0] != '#' && line[0] != '?' || do == nil {
		return []string{noSuchCommand}
	}
	numbers := [2]int{}
	for i := range numbers {
		if i+1 >= len(fields) {
			if i == 1 && fields[0] == "MONITORING" {
				break
			}
			return []string{wrongCount}
		}
		n, err := strconv.Atoi(fields[i+1])
		if err != nil {
			return []string{malformed}
		}
		numbers[i] = n
	}
	cmd := command{set: line[0] == '#', id: numbers[0], action: numbers[1], rest: fields[min(3, len(fields)):]}
	if text := do(c, cmd); text != "" {
		return []string{text}
	}
	return nil
}

// parameters reads a level, and the times that may follow it; otherwise it gives the error.
func parameters(rest []string) (level float64, problem string) {
	if len(rest) < 1 || len(rest) > 3 {
		return 0, wrongCount
	}
	level, err := strconv.ParseFloat(rest[0], 64)
	if err != nil {
		return 0, malformed
	}
	if !(level >= 0 && level <= 100) {
		return 0, outOfRange
	}
	for _, span := range rest[1:] {
		parts := strings.Split(span, ":")
		if len(parts) > 3 {
			return 0, malformed
		}
		for i, part := range parts {
			n, err := strconv.ParseFloat(part, 64)
			if err != nil || n < 0 || len(parts) > 1 && (len(part) != 2 || i > 0 && n > 59) {
				return 0, malformed
			}
		}
	}
	return level, ""
}

func (s *Sim) output(c *session, cmd command) string {
	s.mu.Lock()
	level, ok := s.levels[cmd.id]
	s.mu.Unlock()
	switch {
	case !ok:
		return noObject
	case cmd.action == 1 && !cmd.set:
		return zoneText(cmd.id, level)
	case cmd.action >= 2 && cmd.action <= 4 && cmd.set:
		if len(cmd.rest) > 0 {
			return wrongCount
		}
		return "" // raising, lowering and stopping are not told
	case cmd.action != 1:
		return noAction
	}
	level, problem := parameters(cmd.rest)
	if problem != "" {
		return problem
	}
	s.mu.Lock()
	s.levels[cmd.id] = level
	s.mu.Unlock()
	s.tell(c, monitorZones, zoneText(cmd.id, level))
	return zoneText(cmd.id, level)
}

func (s *Sim) area(c *session, cmd command) string {
	s.mu.Lock()
	scene, ok := s.scenes[cmd.id]
	s.mu.Unlock()
	text := func(scene int) string { return fmt.Sprintf("~AREA,%d,6,%d", cmd.id, scene) }
	switch {
	case !ok:
		return noObject
	case cmd.action == 6 && !cmd.set:
		return text(scene)
	case cmd.action == 1 && cmd.set:
		return s.areaLevel(c, cmd)
	case cmd.action != 6:
		return noAction
	case len(cmd.rest) != 1:
		return wrongCount
	}
	scene, err := strconv.Atoi(cmd.rest[0])
	if err != nil {
		return malformed
	}
	if scene < 0 || scene > 32 {
		return outOfRange
	}
	s.mu.Lock()
	s.scenes[cmd.id] = scene
	s.mu.Unlock()
	s.tell(c, monitorScenes, text(scene))
	return text(scene)
}

// areaLevel brings all zones to a level, as if they were all in that area. It answers nothing itself; the zones do.
func (s *Sim) areaLevel(c *session, cmd command) string {
	level, problem := parameters(cmd.rest)
	if problem != "" {
		return problem
	}
	for _, id := range s.o.Zones {
		s.mu.Lock()
		s.levels[id] = level
		s.mu.Unlock()
		s.tell(nil, monitorZones, zoneText(id, level))
	}
	return ""
}

// device presses and releases buttons. A press of button N calls scene N of the first area.
func (s *Sim) device(c *session, cmd command) string {
	button := cmd.action // #DEVICE,ID,COMPONENT,ACTION
	switch {
	case !s.keypads[cmd.id]:
		return noObject
	case len(cmd.rest) < 1:
		return wrongCount
	case !cmd.set || cmd.rest[0] != "3" && cmd.rest[0] != "4":
		return noAction
	case button < 1 || button > 6:
		return outOfRange
	}
	text := fmt.Sprintf("~DEVICE,%d,%d,%s", cmd.id, button, cmd.rest[0])
	s.tell(c, monitorButtons, text)
	if cmd.rest[0] == "3" && len(s.o.Areas) > 0 {
		area := s.o.Areas[0]
		s.mu.Lock()
		s.scenes[area] = button
		s.mu.Unlock()
		s.tell(nil, monitorScenes, fmt.Sprintf("~AREA,%d,6,%d", area, button))
	}
	return text
}

func (s *Sim) monitoring(c *session, cmd command) string {
	state := cmd.action
	switch {
	case !cmd.set:
		state = 2
		if c.monitors(cmd.id) {
			state = 1
		}
	case state != 1 && state != 2:
		return noAction
	default:
		c.monitor(cmd.id, state == 1)
	}
	return fmt.Sprintf("~MONITORING,%d,%d", cmd.id, state)
}
