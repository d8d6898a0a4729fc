package state

import (
	"unique"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Name of a property. Interned: a million twins of one model share the texts.
type Name = unique.Handle[string]

// Intern gives the Name of a text.
func Intern(s string) Name { return unique.Make(s) }

// Property is a reported value. Times are in milliseconds since 1970.
type Property struct {
	Name  Name
	Value Value
	Stamp
}

// Stamp is when a property had its value, in milliseconds since 1970, and how good the value is (a pb.Quality), in eight
// bytes: there are many. Times beyond two million years from 1970 are cut off.
type Stamp int64

// At makes a stamp.
func At(time int64, quality uint8) Stamp {
	const most = 1<<55 - 1
	return Stamp(min(max(time, -most), most)<<8 | int64(quality))
}

// Time in milliseconds since 1970.
func (s Stamp) Time() int64 { return int64(s) >> 8 }

// Quality is a pb.Quality.
func (s Stamp) Quality() uint8 { return uint8(s) }

// Desired is what was asked of a property.
type Desired struct {
	Name     Name
	Value    Value
	Time     int64
	By       string
	Revision uint64
	Progress uint8 // a pb.Progress
	Error    string
	// Expires is when it is given up; priority and the others are the command's.
	Expires  int64
	Priority uint8
	Retries  int32 // -1: the default
	Timeout  int64 // milliseconds; 0: the default
	Delay    int64 // when it may be sent; 0: at once
}

// Timer is a driver's timer.
type Timer struct {
	Name string
	// Due is the next firing; Every repeats it, in milliseconds.
	Due   int64
	Every int64
	Data  string
	// Cron, where not empty, is what makes it due: the zone, a bar, the schedule.
	Cron string
}

// Key is a command with an idempotency key.
type Key struct {
	Key  string
	Time int64
	// Outcome is a pb.Outcome; 0: started, and no outcome known.
	Outcome   uint8
	Retryable bool
	Code      int32
	Message   string
	// Output is JSON; empty means null.
	Output string
}

// Command is one that has to be known beyond the twin's life in memory: nobody waits for it, or its device was about to
// answer when the twin moved. Times are in milliseconds since 1970.
type Command struct {
	// ID is the one of the call that brought it.
	ID     [16]byte
	Action string
	// Input of the driver's event, JSON.
	Input    string
	Name     string
	Key      string
	By       string
	Priority uint8
	Retries  int32
	Timeout  int64 // milliseconds
	Time     int64 // when it was asked for
	// NotBefore delays it, Until ends its waiting.
	NotBefore, Until int64
	// Phase is a pb.CommandPhase; Waited: somebody waits for it, it was sent, and the device has AnswerBy to answer.
	Phase    uint8
	Waited   bool
	AnswerBy int64
	// Patient, NoAnswer, Clears and Pause (milliseconds) are as the caller asked for; Idempotent is the action.
	Patient, NoAnswer, Clears, Idempotent bool
	Pause                                 int64
	// How it ended.
	Outcome uint8
	Code    int32
	Message string
	Output  string // JSON; empty means null, or too long
	End     int64
}

// Call is one that was answered a moment ago, so that it does not run again at the next owner.
type Call struct {
	ID   [16]byte
	Time int64
	// Kind of the reply, and its encoding; 0: it is not known any more.
	Kind  uint8
	Reply string
}

// Subscription is one to a property of another twin. It is known by System, Name and Property.
type Subscription struct {
	// Name is a twin's, as the driver gave it; with System a name in that system.
	System, Name, Property string
	// Stream and Sequence are those of the last notice that the driver handled; Told is the sum of what it said.
	Stream, Sequence, Told uint64
}

// Quarantine is a driver's that went on failing. The zero Quarantine is none.
type Quarantine struct {
	// Since and Retry are in milliseconds since 1970.
	Since, Retry int64
	Failures     uint32
	Reason       string
	// Driver is the name and version, and Digest the file's, that failed.
	Driver, Digest string
}

// More is what few twins have.
type More struct {
	Commands      []Command
	Calls         []Call
	Subscriptions []Subscription
	Quarantine    Quarantine
}

// Empty says whether nothing is there that has to be kept.
func (m *More) Empty() bool {
	return m == nil || len(m.Commands) == 0 && len(m.Calls) == 0 && len(m.Subscriptions) == 0 && m.Quarantine.Since == 0
}

func (m *More) size() int {
	if m == nil {
		return 0
	}
	n := 0
	for i := range m.Commands {
		c := &m.Commands[i]
		n += 128 + len(c.Action) + len(c.Input) + len(c.Name) + len(c.Key) + len(c.By) + len(c.Message) + len(c.Output)
	}
	for i := range m.Calls {
		n += 48 + len(m.Calls[i].Reply)
	}
	for i := range m.Subscriptions {
		s := &m.Subscriptions[i]
		n += 48 + len(s.System) + len(s.Name) + len(s.Property)
	}
	if q := &m.Quarantine; q.Since > 0 {
		n += 64 + len(q.Reason) + len(q.Driver) + len(q.Digest)
	}
	return n
}

// Command finds one of More's commands, or nil.
func (r *Record) Command(id [16]byte) *Command {
	if r.More == nil {
		return nil
	}
	for i := range r.More.Commands {
		if r.More.Commands[i].ID == id {
			return &r.More.Commands[i]
		}
	}
	return nil
}

// Record is all that a twin knows. The zero Record is a new twin's.
type Record struct {
	// Revision counts every change.
	Revision uint64
	// Connection is a pb.Connection, true as long as the slot's owner is the one since ConnectedSince.
	Connection     uint8
	ConnectedSince uint64
	LastSeen       int64
	Fault          string
	// Version of the driver that wrote Memory.
	Version    string
	Memory     string
	Properties []Property
	Desired    []Desired
	Timers     []Timer
	Keys       []Key
	// More is what few twins have; nil: nothing of it.
	More *More
	// Ingested counts messages; nil: none yet.
	Ingested *Ingested
	// Wake is the due time of the twin's record in the wake table; 0: it has none.
	Wake int64
}

// Property finds a property by name, or nil.
func (r *Record) Property(n Name) *Property {
	for i := range r.Properties {
		if r.Properties[i].Name == n {
			return &r.Properties[i]
		}
	}
	return nil
}

// Size is about what Append needs, in bytes, and never less.
func (r *Record) Size() int {
	const each = 64 // numbers and lengths of one element
	n := each + len(r.Fault) + len(r.Version) + len(r.Memory) + r.More.size() + r.Ingested.size()
	for i := range r.Properties {
		n += each + len(r.Properties[i].Name.Value()) + r.Properties[i].Value.Size()
	}
	for i := range r.Desired {
		d := &r.Desired[i]
		n += 2*each + len(d.Name.Value()) + d.Value.Size() + len(d.By) + len(d.Error)
	}
	for i := range r.Timers {
		n += each + 2*len(r.Timers[i].Name) + len(r.Timers[i].Data) + len(r.Timers[i].Cron)
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		n += each + len(k.Key) + len(k.Message) + len(k.Output)
	}
	return n
}

// fewProperties are found sooner by their texts than by the one copy of the name.
const fewProperties = 16

// Named finds a property by its name, or nil.
func (r *Record) Named(name string) *Property {
	if len(r.Properties) > fewProperties {
		return r.Property(Intern(name))
	}
	for i := range r.Properties {
		if r.Properties[i].Name.Value() == name {
			return &r.Properties[i]
		}
	}
	return nil
}

// FindDesired finds what is asked of a property, or nil.
func (r *Record) FindDesired(n Name) *Desired {
	for i := range r.Desired {
		if r.Desired[i].Name == n {
			return &r.Desired[i]
		}
	}
	return nil
}

// View is what a driver sees of a state. It shares the list of properties with the record it is of.
type View struct {
	Memory     string // JSON; empty means null
	Properties []Property
}

// View is the driver's view of the record as it is now.
func (r *Record) View() View { return View{r.Memory, r.Properties} }

// AppendJSON appends the view: {"memory":…,"properties":{…}}. The memory comes first: most calls want nothing else, and a guest
// that looks for it need not walk over the properties.
func (v *View) AppendJSON(b []byte) []byte {
	b = append(b, `{"memory":`...)
	if v.Memory == "" {
		b = append(b, "null"...)
	} else {
		b = append(b, v.Memory...)
	}
	b = append(b, `,"properties":{`...)
	for i := range v.Properties {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(b, v.Properties[i].Name.Value())
		b = append(b, ':')
		b = v.Properties[i].Value.AppendJSON(b)
	}
	return append(b, "}}"...)
}

// Shown is the connection to show, given the revision since which the slot's present owner has it: what an earlier
// owner, or this node before a restart, knew of a connection is no longer so.
func (r *Record) Shown(since uint64) pb.Connection {
	c := pb.Connection(r.Connection)
	if c == pb.Connection_CONNECTION_CONNECTED && r.ConnectedSince != since {
		return pb.Connection_CONNECTION_CONNECTING
	}
	return c
}

// Live says whether values of that connection are fresh: anything else makes good values stale.
func Live(c pb.Connection) bool {
	return c == pb.Connection_CONNECTION_CONNECTED || c == pb.Connection_CONNECTION_NONE || c == pb.Connection_CONNECTION_UNSPECIFIED ||
		c == pb.Connection_CONNECTION_SLEEPING
}
