package actors

import (
	"math"
	"strings"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers/cron"
)

// maxSchedules bounds the schedules that are kept parsed.
const maxSchedules = 1024

// schedules keeps what timers' schedules mean: many twins of a driver have the same one. The zero value is ready.
type schedules struct {
	mu     sync.Mutex
	parsed map[string]*cron.Schedule
}

// cronText is a schedule as a timer's record has it: the zone, a bar, the fields.
func cronText(spec, zone string) string { return zone + "|" + spec }

func (s *schedules) parse(text string) (*cron.Schedule, error) {
	s.mu.Lock()
	known := s.parsed[text]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	zone, spec, _ := strings.Cut(text, "|")
	c, err := cron.Parse(spec, zone)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parsed == nil || len(s.parsed) >= maxSchedules {
		s.parsed = map[string]*cron.Schedule{}
	}
	s.parsed[text] = c
	return c, nil
}

func (s *schedules) check(text string) error {
	_, err := s.parse(text)
	return err
}

// next is when a schedule is due after a time, both in milliseconds since 1970. One that cannot be read any more, because
// its zone went, is never due.
func (s *schedules) next(text string, after int64) int64 {
	c, err := s.parse(text)
	if err != nil {
		return math.MaxInt64 / 2
	}
	if at := c.Next(time.UnixMilli(after)); !at.IsZero() {
		return at.UnixMilli()
	}
	return math.MaxInt64 / 2
}
