package automation

import (
	"context"
	"time"

	"github.com/polluxhq/pollux/actors/derive"
	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// MadeAt is when a twin was made, in milliseconds since 1970, and never 0.
func MadeAt(t *pb.Twin) int64 { return max(t.CreateTime.AsTime().UnixMilli(), 1) }

// World is what rules read and actions act on. Its methods are safe for concurrent use. Reads are of this node's store and do not block
// for long; what acts may block until ctx ends. by is on whose behalf: the names of rules that led to it, the last one first.
type World interface {
	// View gives a twin as committed; false: there is none. Made is when it was made, in milliseconds since 1970; 0: there is none.
	View(id string) (*expr.Twin, bool)
	Made(id string) int64
	// Targets gives the ids of the twins that an action is for; subject is the twin that its firing is about, or "".
	Targets(project string, to *pb.Targets, subject string) ([]string, error)
	// Selected gives the ids of the twins of a selection; Matches says whether one is among them.
	Selected(project string, of *pb.Selection) ([]string, error)
	Matches(project string, of *pb.Selection, twin string) bool
	// Members gives the twins of a system by their names in it; SystemOf one of the systems that a twin is in, or "".
	Members(system string) map[string]string
	SystemOf(twin string) string
	// Zone gives a zone, or nil.
	Zone(id string) *pb.Zone
	// Locate gives the place of a Sun.
	Locate(*pb.Sun) (*pb.Place, bool)
	// Sources gives the twins of a set as a twin means it (of a rule without one: with an id that has no name); a set too large is an error.
	Sources(of *pb.Twin, set *derive.Set) ([]string, error)
	// Past asks the history; see Past. It blocks until ctx ends.
	Past(ctx context.Context, twin, property, aggregate string, span time.Duration, at time.Time) (v float64, ok bool, err error)
	// Read gives messages of a topic from an offset on (0: those committed after a revision of the store), and waits for the first of them at most so
	// long. next is where to go on.
	Read(ctx context.Context, topic string, at, after uint64, wait time.Duration) (messages []*pb.TopicMessage, next uint64, err error)
	// Nodes gives the states of the cluster's nodes by their names.
	Nodes() map[string]string
	// LastSeen asks a twin when a property had a value last, or with "" when its device said something; zero: never.
	LastSeen(ctx context.Context, twin, property string) (time.Time, error)

	Invoke(ctx context.Context, req *pb.InvokeRequest, by string) error
	SetDesired(ctx context.Context, req *pb.SetDesiredRequest, by string) error
	Publish(ctx context.Context, req *pb.PublishRequest) error
	// Notify commits a message into the outbox of its notifier; one of the same id is there once.
	Notify(ctx context.Context, m *pb.Notification) error
	// MQTT publishes for a project; the topics of another one are denied.
	MQTT(project, topic string, payload []byte, qos byte, retain bool) error
	// RunLogic gives a message to the run of a logic, and says whether that stopped it. twin is the one that the message is about, or "".
	RunLogic(ctx context.Context, project, logic, twin string, message state.Value, by string) (stop bool, err error)
	// Verdict says what an error means.
	Verdict(err error) Verdict
}
