package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// defaultURL is where a node listens unless told otherwise.
const defaultURL = "http://127.0.0.1:8080"

// app is what the commands share: the outside world, and the flags of those that speak to a node.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string

	url, key, data, output string
	// http2 is asked for where the node may answer before it has read all: over HTTP/1.1 such an answer may be lost.
	http2 bool
	// insecure skips the check of the server's certificate.
	insecure bool
	// zone that times are printed in; nil: this machine's.
	zone *time.Location
	// found is set where the address was read in a data directory.
	found *foundNode
	// started: the command line was right, and the command runs.
	started bool
	// args are those of the command line.
	args []string
	// hang closes the connections that a command leaves open.
	hang []func()
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }
func (a *app) errorf(format string, args ...any) { fmt.Fprintf(a.err, "pollux: "+format, args...) }

// usageError is a command line that is wrong: exit code 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// exactly is cobra.ExactArgs with our exit code, and with the arguments' names in its error.
func exactly(names ...string) cobra.PositionalArgs { return between(len(names), names...) }

// atLeast wants one or more of what is named.
func atLeast(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s is missing", name)
		}
		return nil
	}
}

// between takes at least so many of the named arguments.
func between(least int, names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < least {
			return usagef("%s is missing", names[len(args)])
		}
		if len(args) > len(names) {
			return usagef("%q is too much", args[len(names)])
		}
		return nil
	}
}

// group makes a command that only has sub-commands: alone it shows help, with an unknown one it is wrong usage.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		hint := ""
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = "; did you mean \"" + strings.Join(near, "\" or \"") + "\"?"
		}
		return usagef("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)
	}
	return cmd
}

// client gives a command and those below it the flags of one that speaks to a node.
func (a *app) client(cmd *cobra.Command) *cobra.Command {
	f := cmd.PersistentFlags()
	f.StringVar(&a.url, "url", "", "address of a node, or several with commas between: the first that can be reached answers (POLLUX_URL; default: this machine's node, else "+defaultURL+")")
	f.StringVar(&a.key, "key", "", "API key (POLLUX_API_KEY; default: the key of this machine's node)")
	f.StringVar(&a.data, "data", "", "data directory of this machine's node (POLLUX_DATA; default "+pollux.DefaultData()+")")
	f.StringVarP(&a.output, "output", "o", "table", "how to print: table, json or yaml")
	f.BoolVar(&a.insecure, "insecure", false, "do not check the node's certificate")
	must(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// must is for registrations that fail only where this program is written wrong.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// node holds the clients of one node.
type node struct {
	// url is that of the node that answered last, or else the first one given.
	url func() string
	// http sends to the node, and at is the address that its clients use: for the plain REST API.
	http     *http.Client
	at       string
	drivers  rpcv1.DriverServiceClient
	twins    rpcv1.TwinServiceClient
	cluster  rpcv1.ClusterServiceClient
	watch    rpcv1.WatchServiceClient
	keys     rpcv1.KeyServiceClient
	site     rpcv1.SiteServiceClient
	topics   rpcv1.TopicServiceClient
	history  rpcv1.HistoryServiceClient
	sinks    rpcv1.SinkServiceClient
	sources  rpcv1.SourceServiceClient
	projects rpcv1.ProjectServiceClient
	aliases  rpcv1.AliasServiceClient
	// simulations are scenarios that the cluster plays.
	simulations rpcv1.SimulationServiceClient
	ingest      rpcv1.IngestServiceClient
	bulk        rpcv1.BulkServiceClient
	search      rpcv1.SearchServiceClient
	automation  rpcv1.AutomationServiceClient
	analytics   rpcv1.AnalyticsServiceClient
	// notifiers tell people.
	notifiers rpcv1.NotifierServiceClient
	logics    rpcv1.LogicServiceClient
	// relations between things, and walks over them.
	relations rpcv1.RelationServiceClient
	// modelling keeps the models of twins without a driver.
	modelling rpcv1.ModelServiceClient
	// settings of drivers, zones, systems and twins.
	settings rpcv1.SettingsServiceClient
}

// dial resolves address and key and makes the clients. It opens no connection.
func (a *app) dial() (*node, error) {
	if err := a.checkOutput(); err != nil {
		return nil, err
	}
	bases, err := a.nodeURLs()
	if err != nil {
		return nil, err
	}
	key, err := a.apiKey(bases)
	if err != nil {
		return nil, err
	}
	all := &anyNode{}
	for _, base := range bases {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		if transport.TLSClientConfig, err = a.tlsConfig(base); err != nil {
			return nil, err
		}
		if isLoopback(base) {
			transport.Proxy = nil
		}
		if a.http2 && base.Scheme == "http" {
			transport.Protocols = new(http.Protocols)
			transport.Protocols.SetUnencryptedHTTP2(true)
		}
		a.hang = append(a.hang, transport.CloseIdleConnections)
		all.doors = append(all.doors, door{base, transport})
	}
	hc := &http.Client{Transport: &bearer{key: key, next: all}}
	at := bases[0].String()
	return &node{
		url: all.url, http: hc, at: strings.TrimRight(at, "/"),
		drivers: rpcv1.NewDriverServiceClient(hc, at), twins: rpcv1.NewTwinServiceClient(hc, at),
		cluster: rpcv1.NewClusterServiceClient(hc, at), watch: rpcv1.NewWatchServiceClient(hc, at),
		automation: rpcv1.NewAutomationServiceClient(hc, at), analytics: rpcv1.NewAnalyticsServiceClient(hc, at),
		history: rpcv1.NewHistoryServiceClient(hc, at), notifiers: rpcv1.NewNotifierServiceClient(hc, at), logics: rpcv1.NewLogicServiceClient(hc, at),
		keys: rpcv1.NewKeyServiceClient(hc, at), site: rpcv1.NewSiteServiceClient(hc, at), topics: rpcv1.NewTopicServiceClient(hc, at), sinks: rpcv1.NewSinkServiceClient(hc, at), sources: rpcv1.NewSourceServiceClient(hc, at), simulations: rpcv1.NewSimulationServiceClient(hc, at), projects: rpcv1.NewProjectServiceClient(hc, at), aliases: rpcv1.NewAliasServiceClient(hc, at), bulk: rpcv1.NewBulkServiceClient(hc, at), relations: rpcv1.NewRelationServiceClient(hc, at),
		settings: rpcv1.NewSettingsServiceClient(hc, at), modelling: rpcv1.NewModelServiceClient(hc, at), ingest: rpcv1.NewIngestServiceClient(hc, at), search: rpcv1.NewSearchServiceClient(hc, at),
	}, nil
}

// bearer sends the key with each request.
type bearer struct {
	key  string
	next http.RoundTripper
}

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.key != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.key)
	}
	return b.next.RoundTrip(r)
}

// req wraps a message for a call.
func req[T any](m *T) *connect.Request[T] { return connect.NewRequest(m) }
