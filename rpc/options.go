package rpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/history"
	"github.com/polluxhq/pollux/storage/journal"
)

// Options are the parts that the door leads to. Those without a mark are needed.
type Options struct {
	Store *storage.Store
	// Keys of the store. The server does not close them.
	Keys     *Keyring
	Registry *actors.Registry
	Client   *actors.Client
	History  history.History
	Journal  *journal.Journal
	// Retention is how long history is kept; the journal is kept no longer. 0: 400 days.
	Retention time.Duration
	// Samples are optional: the history as retention rules see it.
	Samples Samples
	// Curation is optional: how far this node is with deleting what a project's rules let go; nil where it has not begun.
	Curation func(project string) *pb.Curation
	Cluster  Cluster
	// Peers are optional: the other nodes of the cluster. Without them this node is alone.
	Peers Peers
	// Verify checks an uploaded file and reads its manifest. It may take seconds, drivers.ErrBusy where others do already; it must be safe for concurrent use.
	Verify func(ctx context.Context, file []byte) (*drivers.Manifest, error)
	// Load is optional: it loads a file, for TryLogic. The runner is closed by this package.
	Load func(ctx context.Context, file []byte) (drivers.Runner, error)
	// TestCache is optional: the directory of compiled drivers, for TestDriver.
	TestCache string
	// Catalog is optional: the drivers that the binary carries.
	Catalog Catalog
	// Kinds are optional: record kinds that WatchService gives besides those of the registry and `key`, by name. Who may
	// read the cluster may read them.
	Kinds map[string]Kind
	// Console is optional: what serves every path that is nobody else's.
	Console http.Handler
	// WriteMetrics is optional: it writes the node's metrics in the Prometheus text format for /metrics.
	WriteMetrics func(io.Writer)
	// Logger is optional. Calls are logged at debug.
	Logger *slog.Logger
	// Metrics is optional: the set that gets this package's own.
	Metrics *metrics.Set
}

// Catalog holds driver files. The methods read memory.
type Catalog interface {
	// Names of the drivers, sorted.
	Names() []string
	// File of a driver; unknown names wrap fs.ErrNotExist. The bytes must not be changed.
	File(name string) ([]byte, error)
	// Manifest of a driver, JSON; unknown names wrap fs.ErrNotExist.
	Manifest(name string) ([]byte, error)
}

// Kind is a kind of record that can be watched.
type Kind struct {
	Table  storage.Table
	Decode func(storage.Record) (proto.Message, error)
}

func (o *Options) check() error {
	switch {
	case o.Store == nil:
		return errors.New("rpc: Store is missing")
	case o.Keys == nil:
		return errors.New("rpc: Keys is missing")
	case o.Registry == nil:
		return errors.New("rpc: Registry is missing")
	case o.Client == nil:
		return errors.New("rpc: Client is missing")
	case o.History == nil:
		return errors.New("rpc: History is missing")
	case o.Journal == nil:
		return errors.New("rpc: Journal is missing")
	case o.Cluster == nil:
		return errors.New("rpc: Cluster is missing")
	case o.Verify == nil:
		return errors.New("rpc: Verify is missing")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Retention == 0 {
		o.Retention = 400 * 24 * time.Hour
	}
	if o.Peers == nil {
		o.Peers = alone{}
	}
	if o.Console == nil {
		o.Console = http.NotFoundHandler()
	}
	return nil
}
