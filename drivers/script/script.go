// Package script is the form in which drivers are tested: a YAML file of steps that play a twin's device, its callers
// and the time, and say what the driver must do. It is the same for drivers in every language.
//
// The package reads the form and compares; it runs nothing. Package actors/bench runs a script on a real twin.
// docs/drivers.md is the form's manual.
package script

import (
	"encoding/json"
	"time"
)

// Suffix of the files that hold scripts, beside the driver.
const Suffix = ".test.yaml"

// File is one script file.
type File struct {
	// Path as it was opened; reports name it.
	Path string
	Setup
	// Before runs at the beginning of each test.
	Before []Step
	Tests  []Test
}

// Setup is how a test begins. What a test sets replaces the file's; settings, twins, systems and rules are joined.
type Setup struct {
	// Settings of the twin, a JSON object; nil: none.
	Settings map[string]any
	// URI of the twin, where HasURI, which may be empty; else it is made from the manifest's first transport.
	URI    string
	HasURI bool
	// Start is the clock's time at the beginning; zero: 2026-01-01 00:00 UTC, a Thursday.
	Start time.Time
	// Away: the device does not take the connection by itself.
	Away bool
	// Was, where not nil, is the twin's life before this version of the driver.
	Was *Was
	// Twins are other twins of the project that the driver may call and listen to, by name.
	Twins map[string]Mock
	// Systems are the systems that they are in: id → name within the system → twin.
	Systems map[string]map[string]string
	// Rules answer the driver from the beginning.
	Rules []Rule
}

// Was is what an earlier version of the driver left behind.
type Was struct {
	Version    string
	Memory     json.RawMessage
	Properties map[string]json.RawMessage
}

// Test is a list of steps that a fresh twin goes through.
type Test struct {
	Name string
	Line int
	Setup
	Steps []Step
	// Exact: the test is not run under faults.
	Exact bool
}

// Mock is another twin, as the script has it.
type Mock struct {
	Line int
	// Properties and their first values.
	Properties map[string]json.RawMessage
	Actions    []string
}

// Kind of a step.
type Kind string

// Kinds of steps.
const (
	Expect     Kind = "expect"
	Send       Kind = "send"
	Respond    Kind = "respond"
	Disconnect Kind = "disconnect"
	Connect    Kind = "connect"
	Refuse     Kind = "refuse"
	Quiet      Kind = "quiet"
	Advance    Kind = "advance"
	At         Kind = "at"
	Call       Kind = "call"
	Result     Kind = "result"
	Set        Kind = "set"
	Desired    Kind = "desired"
	State      Kind = "state"
	Quality    Kind = "quality"
	Status     Kind = "status"
	Event      Kind = "event"
	Log        Kind = "log"
	Settings   Kind = "settings"
	Discovered Kind = "discovered"
	Model      Kind = "model"
	HTTP       Kind = "http"
	Webhook    Kind = "webhook"
	Report     Kind = "report"
	Called     Kind = "called"
)

// Step is one step. Which fields are set depends on its kind.
type Step struct {
	Kind Kind
	Line int

	// Text: the action, event or reason; the log's line.
	Text string
	// Wait: of advance and quiet; how long a step that expects something lets pass until it is there.
	Wait time.Duration
	Time time.Time
	// Frame is expected, Message is sent.
	Frame   Frame
	Message Message
	Rule    *Rule
	// Values by name: of set, state, quality, desired, status.
	Values map[string]any
	// Input of a call, data of an event, the patch of settings, the subset of a model or a discovery.
	Input any
	// Has says that Input was given.
	Has     bool
	Command Command
	// Outcome that a call must have; nil: it is checked by a later result.
	Outcome *Outcome
	Request *Request
	Answer  *Answer
	// Twin is another twin.
	Twin   string
	Called *Asked
	Level  string
}

// Command is how a call is made.
type Command struct {
	Timeout, Delay time.Duration
	Priority       int
	Name           string
	Retries        *int
}

// Outcome of a call.
type Outcome struct {
	// Name: done (the default), rejected, timed_out, unknown, or refused where it did not even begin.
	Name string
	// Output of a call that is done, where HasOutput.
	Output    any
	HasOutput bool
	// Code and Message (a part of it) of one that is not; 0 and "" match any.
	Code    int
	Message string
}

// Rule answers what the driver does, without a step for each time.
type Rule struct {
	Line int
	// One of Frame, Request and Called says what is answered.
	Frame   *Frame
	Request *Request
	Called  *Asked
	// With is the answer: to a frame, to an HTTP request, to a call.
	With   []Message
	Answer *Answer
	Reply  *Outcome
	After  time.Duration
	// Times it is used; 0: always.
	Times int
}

// Request is an HTTP request: one that the driver is expected to make, or one that is made to it.
type Request struct {
	Method, URL string
	Headers     map[string]string
	Query       map[string]string
	Body        *Frame
	JSON        any
	HasJSON     bool
}

// Answer to an HTTP request.
type Answer struct {
	Status  int
	Headers map[string]string
	Body    []byte
	JSON    any
	HasJSON bool
	// Fail: there is no answer, for this reason.
	Fail string
}

// Asked is what the driver asks of another twin.
type Asked struct {
	Twin, Action, Property string
	Input                  any
	HasInput               bool
}
