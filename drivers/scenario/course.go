package scenario

import "time"

// Course is where a scenario stands: which step comes next, and when. Like Player it is pure, and not for concurrent use.
type Course struct {
	s     *Scenario
	clock *Clock
	speed float64 // 0: as fast as it is taken
	step  int
}

// NewCourse gives a course that stands before a step, and will run so many times as fast as ours; at speed 0 each step is due at once.
func NewCourse(s *Scenario, step int, speed float64) *Course {
	c := &Course{s: s, step: step, speed: speed, clock: NewClock(max(speed, slowest))}
	c.clock.Seek(time.Time{}, c.At())
	return c
}

// slowest is a speed that a clock can have.
const slowest = 1e-6

// Step is the number of the step that comes next, from 0.
func (c *Course) Step() int { return c.step }

// At is the scenario's time of that step.
func (c *Course) At() time.Duration { return time.Duration(c.step) * c.s.Every }

// Over says whether there is no further step.
func (c *Course) Over() bool { return !c.s.Repeat && c.At() > c.s.Length }

// Ahead says whether the next step of what began then, in the past, is yet to come; a zero time is no beginning, and nothing is ahead.
func (c *Course) Ahead(from, now time.Time) bool {
	return !from.IsZero() && from.Add(c.At()).After(now)
}

// Running says whether it runs.
func (c *Course) Running() bool { return c.clock.Running() }

// Start lets it run on.
func (c *Course) Start(now time.Time) { c.clock.Start(now) }

// Pause lets it stand.
func (c *Course) Pause(now time.Time) { c.clock.Pause(now) }

// Reset sets it before the first step; whether it runs stays.
func (c *Course) Reset(now time.Time) {
	c.step = 0
	c.clock.Reset(now)
}

// GoOn has the course go on behind a step that was made before, by whomever: the next one is due no sooner after it than if it had gone on all
// the time.
func (c *Course) GoOn(now, made time.Time) {
	if c.step == 0 || c.speed == 0 {
		return
	}
	every := float64(c.s.Every)
	left := min(every-float64(now.Sub(made))*c.speed, every) // that clock may be ahead of this one
	c.clock.Seek(now, c.At()-time.Duration(max(0, left)))
}

// SetSpeed changes how fast it runs from now on.
func (c *Course) SetSpeed(now time.Time, speed float64) {
	if c.speed == 0 {
		c.clock.Seek(now, c.At()) // which it did not keep up with
	}
	c.speed = speed
	c.clock.SetSpeed(now, max(speed, slowest))
}

// Wait is how long from now the next step is due: 0 or less where it is. It means nothing while the course stands.
func (c *Course) Wait(now time.Time) time.Duration {
	if c.speed == 0 || c.clock.At(now) >= c.At() {
		return 0
	}
	return c.clock.Until(now, c.At()) + time.Millisecond
}

// Took notes that the next step was made, and leaves out those that the clock has passed meanwhile: skipped says how many.
func (c *Course) Took(now time.Time) (skipped int) {
	c.step++
	if behind := int((c.clock.At(now) - c.At()) / c.s.Every); c.speed != 0 && behind > 0 {
		skipped = behind
		if last := int(c.s.Length/c.s.Every) + 1; !c.s.Repeat {
			skipped = min(behind, max(0, last-c.step))
		}
		c.step += skipped
	}
	return skipped
}
