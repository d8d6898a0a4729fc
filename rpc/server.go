package rpc

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/VictoriaMetrics/metrics"

	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/storage/history"
)

// compressFrom this many bytes answers are compressed where the client takes it. Below, it costs more than it saves.
const compressFrom = 4 << 10

// Server is the door, an http.Handler. Use it with NewHTTPServer, whose limits it relies on.
type Server struct {
	o      Options
	guard  *guard
	errors *connect.ErrorWriter
	mux    *http.ServeMux
	// direct leads to a procedure by its whole path: the mux's general matching costs five allocations per call.
	direct map[string]http.Handler
	// peers has the procedures alone, as other nodes call them.
	peers   *http.ServeMux
	log     *slog.Logger
	sockets *sockets
	members members
	pushers pushers

	refused refusals
	bodies  *room

	lostWatches, lateChanges *metrics.Counter
}

// New assembles the door. It starts nothing and owns nothing that must be closed.
func New(o Options) (*Server, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	validator, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("rpc: validator: %w", err)
	}
	table := procedures()
	refused := newRefusals(o.Metrics)
	s := &Server{o: o, mux: http.NewServeMux(), peers: http.NewServeMux(), log: o.Logger, errors: connect.NewErrorWriter(),
		guard: &guard{keys: o.Keys, ready: o.Cluster.Ready, table: table, validator: validator, log: o.Logger,
			counters: newCallCounters(o.Metrics, table), refused: &refused},
		refused: refused, bodies: &room{size: maxBodies, full: refused.room},
		lostWatches: o.Metrics.GetOrCreateCounter(`pollux_rpc_watch_nodes_lost_total`),
		lateChanges: o.Metrics.GetOrCreateCounter(`pollux_rpc_watch_late_changes_total`),
	}
	s.members.s = s
	s.guard.denied = s.deniedIngest
	s.sockets = newSockets(s)
	s.services(s.mux, s.guard)
	fromPeers := *s.guard
	fromPeers.peer = true
	s.services(s.peers, &fromPeers)
	s.doors()
	o.Client.SetPast(s.past)
	o.Client.SetSeries(s.series)
	o.Client.SetReadings(s.readings)
	s.direct = make(map[string]http.Handler, len(table))
	for procedure := range table {
		s.direct[procedure], _ = s.mux.Handler(&http.Request{Method: http.MethodPost, URL: &url.URL{Path: procedure}})
	}
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := s.direct[r.URL.Path]; h != nil {
		h.ServeHTTP(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// PeerHandler is the same API for the door between nodes. What is said there is believed: for whom a node calls, and that
// nothing is to be passed on (HeaderPrincipal, HeaderLocal). It must stand behind mutual TLS, and nowhere else.
func (s *Server) PeerHandler() http.Handler { return s.peers }

// handlerOptions are those of every Connect handler; limit bounds its messages.
func (s *Server) handlerOptions(g *guard, limit int) connect.HandlerOption {
	return connect.WithHandlerOptions(
		codecs(s.refused.message),
		connect.WithRequestGate(g.gate),
		connect.WithInterceptors(g),
		connect.WithReadMaxBytes(limit),
		compression(int64(limit), s.refused.bomb),
		connect.WithCompressMinBytes(compressFrom),
	)
}

func (s *Server) services(mux *http.ServeMux, g *guard) {
	small := s.handlerOptions(g, maxRequest)
	mount := func(path string, h http.Handler) {
		mux.Handle(path, limited(h, s.bounds()))
	}
	mount(rpcv1.NewTwinServiceHandler(&twinService{s}, small))
	path, cluster := rpcv1.NewClusterServiceHandler(&clusterService{s}, small)
	mount(path, cluster)
	mux.Handle(rpcv1.ClusterServiceRestoreProcedure, streamed(atMost(cluster, 1, s.refuse)))
	mux.Handle(rpcv1.ClusterServiceBackupProcedure, limited(atMost(cluster, maxBackups, s.refuse), s.bounds()))
	mount(rpcv1.NewWatchServiceHandler(&watchService{s}, small))
	mount(rpcv1.NewKeyServiceHandler(&keyService{s}, small))
	mount(rpcv1.NewModelServiceHandler(&modelService{s}, small))
	mount(rpcv1.NewSiteServiceHandler(&siteService{s}, small))
	mount(rpcv1.NewBulkServiceHandler(&bulkService{s}, small))
	_, dry := rpcv1.NewBulkServiceHandler(&bulkService{s}, s.handlerOptions(g, maxDryRun))
	mux.Handle(rpcv1.BulkServiceDryRunProcedure, limited(atMost(dry, maxDryRuns, s.refuse),
		bounds{size: maxDryRun, timeout: uploadTimeout, refuse: s.refuse, met: s.refused.body}))
	mount(rpcv1.NewRelationServiceHandler(&relationService{s}, small))
	mount(rpcv1.NewSettingsServiceHandler(&settingsService{s}, small))
	path, messages := rpcv1.NewIngestServiceHandler(&ingestService{s}, small)
	mount(path, messages)
	mux.Handle(rpcv1.IngestServiceIngestStreamProcedure, streamed(messages))
	mount(rpcv1.NewTopicServiceHandler(&topicService{s}, small))
	mount(rpcv1.NewSearchServiceHandler(&searchService{s}, small))
	mount(rpcv1.NewHistoryServiceHandler(&historyService{s}, small))
	mount(rpcv1.NewSinkServiceHandler(&sinkService{s}, small))
	mount(rpcv1.NewNotifierServiceHandler(&notifierService{s}, small))
	mount(rpcv1.NewAutomationServiceHandler(&automationService{s}, small))
	mount(rpcv1.NewSourceServiceHandler(&sourceService{s}, small))
	mount(rpcv1.NewAnalyticsServiceHandler(&analyticsService{s}, small))
	mount(rpcv1.NewLogicServiceHandler(&logicService{s}, small))
	mount(rpcv1.NewSimulationServiceHandler(&simulationService{s}, small))
	mount(rpcv1.NewProjectServiceHandler(&projectService{s}, small))
	mount(rpcv1.NewAliasServiceHandler(&aliasService{s}, small))

	drivers := newDriverService(s)
	mount(rpcv1.NewDriverServiceHandler(drivers, small))
	_, h := rpcv1.NewDriverServiceHandler(drivers, s.handlerOptions(g, MaxUpload))
	mux.Handle(rpcv1.DriverServiceUploadDriverProcedure, limited(atMost(h, maxUploads, s.refuse),
		bounds{size: MaxUpload, timeout: uploadTimeout, refuse: s.refuse, met: s.refused.body}))
	mux.Handle(rpcv1.DriverServiceTestDriverProcedure, limited(atMost(h, 1, s.refuse),
		bounds{size: MaxUpload, timeout: uploadTimeout, refuse: s.refuse, met: s.refused.body}))

	names := []string{rpcv1.DriverServiceName, rpcv1.TwinServiceName, rpcv1.ClusterServiceName, rpcv1.WatchServiceName,
		rpcv1.KeyServiceName, rpcv1.ModelServiceName, rpcv1.SiteServiceName, rpcv1.TopicServiceName, rpcv1.BulkServiceName, rpcv1.SettingsServiceName,
		rpcv1.RelationServiceName, rpcv1.SinkServiceName, rpcv1.NotifierServiceName, rpcv1.SourceServiceName, rpcv1.IngestServiceName,
		rpcv1.SimulationServiceName, rpcv1.ProjectServiceName, rpcv1.AliasServiceName,
		rpcv1.SearchServiceName, rpcv1.HistoryServiceName, rpcv1.AutomationServiceName, rpcv1.AnalyticsServiceName, rpcv1.LogicServiceName}
	reflector := grpcreflect.NewStaticReflector(names...)
	mount(grpcreflect.NewHandlerV1(reflector, small))
	mount(grpcreflect.NewHandlerV1Alpha(reflector, small))
	mount(grpchealth.NewHandler(&health{s: s, names: names}, small))
}

func (s *Server) doors() {
	mount := func(pattern string, h http.Handler) {
		s.mux.Handle(pattern, limited(h, s.bounds()))
	}
	mount("GET /healthz", http.HandlerFunc(s.healthz))
	mount("GET /readyz", http.HandlerFunc(s.readyz))
	mount("GET /login", http.HandlerFunc(s.loginPage))
	mount("POST /login", http.HandlerFunc(s.login))
	mount("POST /logout", http.HandlerFunc(s.logout))
	mount("GET /metrics", s.closed(http.HandlerFunc(s.metrics)))
	mount(history.Prefix, s.closed(s.o.History.Handler()))
	mount(prometheusPath+"{project}/{path...}", s.closedFor(ActionTwinRead, projectOfPath, http.HandlerFunc(s.prometheus)))
	mount(exportPath, notAllowed(http.MethodGet))
	mount("GET "+exportPath, atMost(s.closedFor(ActionTwinRead, projectOfPath, http.HandlerFunc(s.export)), maxExports, s.refuse))
	mount("GET /v1/ws", s.sockets)
	s.ingestDoors()
	hooks := atMost(http.HandlerFunc(s.hook), maxHooks, s.refuse)
	mount(ruleHookPath, atMost(http.HandlerFunc(s.ruleHook), maxHooks, s.refuse))
	mount(hooksPath, hooks)
	mount(hooksPath+"/{rest...}", hooks)
	mount("/hooks/", http.NotFoundHandler())
	plain := s.bounds()
	plain.refuse = s.refusePlain
	s.rest(func(pattern string, h http.Handler) { s.mux.Handle(pattern, limited(h, plain)) })
	mount("/", s.o.Console)
}

// bounds of every body but an upload's.
func (s *Server) bounds() bounds {
	return bounds{size: maxRequest, timeout: bodyTimeout, refuse: s.refuse, met: s.refused.body, room: s.bodies}
}

// refuse answers what a limit stopped, as the client's protocol says it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		s.refused.body.Inc()
	case r.URL.Path == rpcv1.DriverServiceUploadDriverProcedure:
		s.refused.uploads.Inc()
	}
	// What the client still sends is not read.
	w.Header().Set("Connection", "close")
	if tooLarge != nil && strings.HasPrefix(r.URL.Path, "/hooks/") {
		// Connect's status for it is 429: the device would come again with the same.
		http.Error(w, fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit), http.StatusRequestEntityTooLarge)
		return
	}
	s.writeError(w, r, err)
}

// refusePlain answers a request of the REST API that a limit stopped.
func (s *Server) refusePlain(w http.ResponseWriter, r *http.Request, err error) {
	if errors.As(err, new(*http.MaxBytesError)) {
		s.refused.body.Inc()
	}
	w.Header().Set("Connection", "close")
	status, p := problemOf(err)
	writeProblem(w, r, status, p)
}

func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	if werr := s.errors.Write(w, r, translate(err)); werr != nil {
		s.log.Debug("answer not taken", "path", r.URL.Path, "error", werr)
	}
}
