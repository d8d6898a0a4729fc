package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux"
)

// stopWithin bounds a graceful stop; what has not been written by then is lost only where it was not acknowledged.
const stopWithin = 25 * time.Second

// testClockRate is a hidden flag: tests have nodes whose clocks drift.
const testClockRate = "test-clock-rate"

func serveCommand(*app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long: `Runs a node of Pollux until it is told to stop (Ctrl-C, SIGTERM). A second signal stops it at once.

With no configuration it listens on loopback only: the API and the console on 127.0.0.1:8080, MQTT on 127.0.0.1:1883.
At its first start it writes an administrator's key into its data directory (admin.key), which the other commands of
the same user find by themselves. On standard output it prints one line, beginning with "ready", when all is up.
A second one on the same machine wants --data, --http and --mqtt of its own.

Every setting is a flag, a variable (POLLUX_HTTP for --http) and a line of the configuration file, in that order of
precedence; "pollux config" shows what is in force.`,
		Example: `  pollux serve
  pollux serve --data ./data --http 127.0.0.1:9000
  pollux serve --http 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem
  pollux serve --demo`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, origin, err := loadConfig(cmd.Flags())
			if err != nil {
				return &usageError{err}
			}
			if c.ClockRate, err = cmd.Flags().GetFloat64(testClockRate); err != nil {
				return err
			}
			if !(c.ClockRate >= 0.1 && c.ClockRate <= 10) {
				return &usageError{fmt.Errorf("--%s = %v: want 0.1 to 10", testClockRate, c.ClockRate)}
			}
			demo, err := cmd.Flags().GetBool("demo")
			if err != nil {
				return err
			}
			if demo && origin["log.level"] == "default" {
				c.LogLevel = slog.LevelWarn // the stages are what there is to see
			}
			nodes, err := cmd.Flags().GetInt("demo-nodes")
			switch {
			case err != nil:
				return err
			case nodes == 1:
				return serve(cmd, c, origin, demo)
			case !demo || nodes < 1 || nodes > 5 || nodes%2 == 0:
				return &usageError{fmt.Errorf("--demo-nodes = %d: want 1, 3 or 5, with --demo", nodes)}
			}
			return serveDemoCluster(cmd, c, nodes)
		},
	}
	settingFlags(cmd.Flags())
	cmd.Flags().Bool("demo", false, "also simulate a building with projectors, switches and sensors")
	cmd.Flags().Int("demo-nodes", 1, "with --demo: run the building on `N` nodes of this machine, each a process of its own")
	cmd.Flags().Float64(testClockRate, 1, "how fast the clock of leases runs beside the machine's")
	_ = cmd.Flags().MarkHidden(testClockRate) // it is there
	return cmd
}

func serve(cmd *cobra.Command, c pollux.Config, origin pollux.Origin, demo bool) error {
	log := newLogger(c)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	go func() {
		select {
		case <-ctx.Done():
		case s := <-signals:
			if demo {
				fmt.Fprintln(cmd.OutOrStdout(), "stopping; the data stays in", c.Data)
			}
			log.Info("stopping", "signal", s.String(), "again", "stops at once")
			cancel()
			<-signals
			log.Warn("stopped at once by a second signal")
			os.Exit(1)
		}
	}()

	began := time.Now()
	var show *demoSite
	if demo {
		show = newDemoSite(cmd.OutOrStdout())
		if err := show.freePorts(&c); err != nil {
			return err
		}
	} else {
		busy, err := peerPorts(&c, origin)
		if err != nil {
			return err
		}
		if len(busy) > 0 {
			log.Info("another node runs on this machine: other ports are taken for what is between nodes", "busy", busy)
		}
	}
	c.DriverCompiler = driverCompiler()
	node, err := pollux.Open(ctx, c, log)
	if err != nil {
		return fmt.Errorf("start node: %w", err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "ready http=%s mqtt=%s node=%s name=%s data=%s seconds=%.2f\n",
		node.URL(), orOff(node.MQTTAddr()), node.ID(), c.Name, c.Data, time.Since(began).Seconds())
	if show != nil {
		go func() {
			at := demoNode{data: node.Config().Data, url: node.URL(), mqtt: node.MQTTAddr(), client: node.HTTPClient()}
			if err := show.run(ctx, at); err != nil && ctx.Err() == nil {
				log.Error("demo site", "error", err)
			}
		}()
	}
	select {
	case <-ctx.Done():
		closeNode(node, log)
		return nil
	case <-node.Failed():
		// Nothing is closed: what could be written is written, and a broken disk would hold a graceful stop for ever.
		return fmt.Errorf("the node cannot go on: %w", node.Err())
	}
}

func closeNode(node *pollux.Node, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	if err := node.Close(ctx); err != nil {
		log.Error("stop node", "error", err)
	}
}

func orOff(addr string) string {
	if addr == "" {
		return "off"
	}
	return addr
}

func newLogger(c pollux.Config) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}
