package pollux

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/catalog"
	"github.com/polluxhq/pollux/drivers/httpclient"
	"github.com/polluxhq/pollux/drivers/mqtt"
	"github.com/polluxhq/pollux/drivers/schemes"
	"github.com/polluxhq/pollux/drivers/transport"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/history"
	"github.com/polluxhq/pollux/storage/journal"
	"github.com/polluxhq/pollux/web"
)

// urlFile in the data directory names the running node's address, so that the command line finds it on any port.
// certFile holds the certificate that it shows there, so that the command line trusts it, whoever signed it. Its name
// is nobody's choice for a certificate of his own, which would be overwritten.
const (
	urlFile  = "url"
	certFile = "url.pem"
)

func (n *Node) openDoor(ctx context.Context) error {
	if _, err := rpc.EnsureAdminKey(ctx, n.store, AdminKeyFile(n.conf.Data)); err != nil {
		return err
	}
	handler, err := rpc.New(rpc.Options{Store: n.store, Keys: n.keys, Registry: n.engine.Registry(), Client: n.engine.Client(),
		History: n.history, Journal: n.journal, Retention: n.conf.MetricsRetention, Samples: n.samples(), Curation: n.curator.Curation, Cluster: status{n}, Peers: peersDoor{n}, Verify: n.sandbox.Verify, Load: n.sandbox.Load, TestCache: n.compiledDir(), Catalog: carried{}, Kinds: clusterKinds(),
		Console: web.Handler(), WriteMetrics: n.writeMetrics, Logger: n.log, Metrics: n.metrics})
	if err != nil {
		return err
	}
	n.rpc = handler
	close(n.serving)
	n.server = rpc.NewHTTPServer(handler, n.tls, n.log)
	n.closeLater("http", n.closeDoor)
	go func() {
		serve := n.server.Serve
		if n.tls != nil {
			serve = func(l net.Listener) error { return n.server.ServeTLS(l, "", "") }
		}
		if err := serve(n.http); !errors.Is(err, http.ErrServerClosed) {
			n.fail(fmt.Errorf("serve http: %w", err))
		}
	}()
	if err := n.writeAddress(); err != nil {
		return err
	}
	n.compareStates()
	n.closeLater("hand-over", n.leave)
	return nil
}

// compareStates holds this node's state against the others' once a minute: a difference is told loudly.
func (n *Node) compareStates() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.closeLater("checksums", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	own := func() (all []cluster.Checksum) {
		for _, c := range n.store.Checksums() {
			all = append(all, cluster.Checksum{Index: c.Index, Sum: c.Sum})
		}
		return all
	}
	ask := func(ctx context.Context, node string) (all []cluster.Checksum, err error) {
		sums, err := n.rpc.Checksums(ctx, node)
		for _, c := range sums {
			sum, err := strconv.ParseUint(c.Sum, 16, 64)
			if err != nil {
				return nil, fmt.Errorf("checksum of node %s: %w", node, err)
			}
			all = append(all, cluster.Checksum{Index: c.Index, Sum: sum})
		}
		return all, err
	}
	go func() {
		defer close(done)
		n.raft.WatchChecksums(ctx, cluster.ChecksumOptions{Self: n.self.id, Own: own, Peers: peersDoor{n}.Nodes, Ask: ask, Logger: n.log, Metrics: n.metrics})
	}()
}

// peerAPI is this node's API for its peers; they may come before it is there.
func (n *Node) peerAPI() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == gossipPath { // also of a node that waits for a quorum
			n.serveGossip(w, r)
			return
		}
		select {
		case <-n.serving:
		default:
			http.Error(w, n.conf.Name+" is starting", http.StatusServiceUnavailable)
			return
		}
		if r.URL.Path == exportPath {
			history.ExportHandler(n.exporter).ServeHTTP(w, r)
			return
		}
		if r.URL.Path == journalPath {
			journal.ExportHandler(n.journal).ServeHTTP(w, r)
			return
		}
		n.rpc.PeerHandler().ServeHTTP(w, r)
	})
}

// writeAddress says in the data directory where the node answers, and by which certificate it is known.
func (n *Node) writeAddress() error {
	file, cert := filepath.Join(n.conf.Data, urlFile), filepath.Join(n.conf.Data, certFile)
	if n.tls == nil {
		// One that was killed may have left its own.
		if err := os.Remove(cert); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the former certificate: %w", err)
		}
	} else {
		leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.tls.Certificates[0].Certificate[0]})
		if err := os.WriteFile(cert, leaf, 0o600); err != nil {
			return fmt.Errorf("write the node's certificate: %w", err)
		}
		n.closeLater("certificate file", func(context.Context) error { return os.Remove(cert) })
	}
	if err := os.WriteFile(file, []byte(n.URL()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the node's address: %w", err)
	}
	n.closeLater("url file", func(context.Context) error { return os.Remove(file) })
	return nil
}

// closeRest is what closeDoor leaves of a stop's time to the parts behind it: twins that are not handed over are let go within 8 s.
const closeRest = 8 * time.Second

// closeDoor takes no more calls and lets those that run end in their own time; streams, which have no end, end now. When only closeRest
// is left, calls that wait for a slot are told that they did not run, and what runs even then is cut.
func (n *Node) closeDoor(ctx context.Context) error {
	if err := n.shutDoor(ctx, closeRest); err == nil {
		return nil
	}
	n.cluster.TurnAway()
	if err := n.shutDoor(ctx, closeRest-time.Second); err == nil {
		return nil
	}
	n.log.Warn("calls are cut: they did not end while this node could wait")
	return n.server.Close()
}

// shutDoor waits until no call runs, or until only rest is left of ctx; a second at least.
func (n *Node) shutDoor(ctx context.Context, rest time.Duration) error {
	if end, bounded := ctx.Deadline(); bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), max(time.Second, time.Until(end)-rest))
		defer cancel()
	}
	return n.server.Shutdown(ctx)
}

// deviceDoor is what the broker asks: twins take messages, keys let devices in.
type deviceDoor struct{ n *Node }

var _ mqtt.Refuser = deviceDoor{}

func (d deviceDoor) Deliver(m *mqtt.Message, done func(error)) { d.n.engine.Deliver(m, done) }

func (d deviceDoor) Refused(m *mqtt.Message, why *mqtt.Refusal) { d.n.engine.Refused(m, why) }

func (d deviceDoor) Authenticate(client, user string, password []byte) (mqtt.Grant, error) {
	return d.n.keys.Device(d.n.engine.Registry(), user, password)
}

// carried are the drivers inside the binary.
type carried struct{}

func (carried) Names() []string { return catalog.Names() }

func (carried) File(name string) ([]byte, error) { return catalog.Open(name) }

func (carried) Manifest(name string) ([]byte, error) { return catalog.Manifest(name) }

// dialers open twins' connections, by the scheme of their addresses.
func (n *Node) dialers() map[string]actors.Dialer {
	registry := schemes.All(n.hub)
	all := map[string]actors.Dialer{}
	for _, scheme := range registry.Schemes() {
		all[scheme] = func(b drivers.Binding, sink drivers.Sink, trace actors.Trace) (drivers.Conn, error) {
			return registry.Open(transport.Options{Binding: b, Sink: sink, Logger: n.log, Metrics: n.metrics, Outgoing: n.outgoing,
				Trace: func(d transport.Direction, data []byte) {
					if d == transport.Sent {
						trace(pb.TraceTwinResponse_DIRECTION_SENT, data)
					} else {
						trace(pb.TraceTwinResponse_DIRECTION_RECEIVED, data)
					}
				}})
		}
	}
	return all
}

// httpClient makes the client of a twin's driver.
func (n *Node) httpClient(b drivers.Binding) (drivers.HTTPClient, error) {
	c, err := httpclient.New(transport.Options{Binding: b, Logger: n.log, Metrics: n.metrics, Outgoing: n.outgoing})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// clusterKinds are the records of the cluster that operators may watch.
func clusterKinds() map[string]rpc.Kind {
	node := func(r storage.Record) (proto.Message, error) {
		m, err := cluster.DecodeMember(r.Key, r.Value)
		if err != nil {
			return nil, err
		}
		return &pb.Node{Id: r.Key, Name: m.Name, Incarnation: m.Incarnation, AvailabilityZone: m.AvailabilityZone, State: m.State.String(),
			Site: m.Site, Labels: m.Labels, Version: m.Version}, nil
	}
	slot := func(r storage.Record) (proto.Message, error) {
		s, err := cluster.DecodeSlot(r.Key, r.Value)
		if err != nil {
			return nil, err
		}
		return &pb.Placement{Slot: uint32(s.Slot), Node: s.Node, Incarnation: s.Incarnation, Since: s.Since}, nil
	}
	return map[string]rpc.Kind{
		"node": {Table: cluster.TableMember, Decode: node},
		"slot": {Table: cluster.TableSlot, Decode: slot},
	}
}
