package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/pki"
)

// Defaults and bounds.
const (
	// DefaultInFlight bounds the calls to one node that wait for an answer; also what one node's calls may have running here.
	DefaultInFlight = 16384
	// DefaultInFlightBytes bounds the bytes of those calls, per node.
	DefaultInFlightBytes = 64 << 20
	// MaxMessage is the largest message of a call or its result, and the largest proposal, in bytes.
	MaxMessage = 4 << 20
	// DefaultMaxBlob is the largest blob, in bytes.
	DefaultMaxBlob = 32 << 20
	// DefaultDialTimeout is for connecting, TLS and the first answer together.
	DefaultDialTimeout = 1500 * time.Millisecond
	// DefaultReadIdle is the silence after which a ping is sent, DefaultPing how long its answer may take: a dead peer is
	// noticed after 2.5 s, before its lease (3.5 s) is over.
	DefaultReadIdle = time.Second
	DefaultPing     = 1500 * time.Millisecond
)

var (
	// ErrTooLarge: a message is larger than MaxMessage, or a blob than allowed.
	ErrTooLarge = errors.New("message too large")
	// ErrUnsupported: the other node does not know the message type, or has no such service. The call did not run.
	ErrUnsupported = errors.New("not supported by the node")
	// ErrRefused: the other node does not talk to this one, or the other way round; the text says why.
	ErrRefused = errors.New("refused")
	// ErrUnreachable: nobody listens at a join address, or it cannot be reached; it may be tried again.
	ErrUnreachable = errors.New("nobody answers")
	// ErrClosed: this node's peers were closed.
	ErrClosed = errors.New("peers closed")
	// ErrDamaged: a blob's bytes do not have its digest.
	ErrDamaged = errors.New("blob is damaged")
)

// Blobs is where blobs of this node are (the store). Both may block; data must not be changed.
type Blobs interface {
	Blob(digest string) ([]byte, error)
	StoreBlob(ctx context.Context, digest string, data []byte) error
}

// ErrorDetails carries what an error has besides its text and the sentinels that it wraps. Either may return nil.
type ErrorDetails struct {
	To   func(err error) proto.Message
	From func(text string, detail proto.Message) error
}

// Options of a node's peers.
type Options struct {
	// Listener of the peer port; Close closes it.
	Listener net.Listener
	Identity *pki.Identity
	// Node, Incarnation and ClusterID are this node's. Node and ClusterID must be those of the identity.
	Node        string
	Incarnation uint64
	ClusterID   string
	// Address gives the peer address (host:port) of a node; false where it is not known. It must not block.
	Address func(node string) (string, bool)
	// Admit may refuse a node that has a good certificate, such as one that was expelled; nil admits all. It must not block.
	Admit func(node string) error
	// Calls takes a call that another node sent. It must not block; done exactly once, from any goroutine.
	Calls func(env *cluster.Envelope, done func(cluster.Reply))
	// Errors are sentinels that survive the wire besides those of package cluster, by a name that never changes.
	Errors map[string]error
	// Details of errors; optional.
	Details ErrorDetails
	// Enroll gives a new node its certificate; nil: it is refused. It checks the token. It may block.
	Enroll func(ctx context.Context, r EnrollRequest) (EnrollResponse, error)
	// Propose brings an entry of another node to the log here. It may block a little: its callers then wait. entry is the callee's.
	Propose func(entry []byte, done func(result []byte, err error))
	// CommitIndex gives an index of the log that holds everything acknowledged before. It may block.
	CommitIndex func(ctx context.Context) (uint64, error)
	Blobs       Blobs
	// API is the node's own API, for its peers; optional. Requests carry the header Pollux-Peer with the asking node's id.
	API http.Handler

	// InFlight, InFlightBytes, MaxBlob, DialTimeout, ReadIdle, Ping: 0 means the defaults above.
	InFlight, InFlightBytes, MaxBlob int
	DialTimeout, ReadIdle, Ping      time.Duration
	Logger                           *slog.Logger
	Metrics                          *metrics.Set
}

func (o *Options) check() error {
	switch {
	case o.Listener == nil:
		return errors.New("no listener")
	case o.Identity == nil:
		return errors.New("no identity")
	case o.Address == nil:
		return errors.New("no addresses of nodes")
	case o.Calls == nil:
		return errors.New("nobody takes calls")
	case o.Identity.Node() != o.Node:
		return fmt.Errorf("certificate is of node %s, this is %s: %w", o.Identity.Node(), o.Node, pki.ErrWrongNode)
	case o.Identity.ClusterID() != o.ClusterID:
		return fmt.Errorf("certificate is of cluster %s, this is %s: %w", o.Identity.ClusterID(), o.ClusterID, pki.ErrWrongCluster)
	case o.InFlight > maxSlots:
		return fmt.Errorf("%d calls in flight, %d are possible", o.InFlight, maxSlots)
	}
	return nil
}

func (o *Options) defaults() {
	setDefault(&o.InFlight, DefaultInFlight)
	setDefault(&o.InFlightBytes, DefaultInFlightBytes)
	setDefault(&o.MaxBlob, DefaultMaxBlob)
	setDefault(&o.DialTimeout, DefaultDialTimeout)
	setDefault(&o.ReadIdle, DefaultReadIdle)
	setDefault(&o.Ping, DefaultPing)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
}

func setDefault[T int | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}
