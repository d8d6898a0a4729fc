package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux/drivers/peer"
	pjlink "github.com/polluxhq/pollux/drivers/pjlink/sim"
	tasmota "github.com/polluxhq/pollux/drivers/tasmota/sim"
)

func simCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Simulate devices: scenarios for twins, or devices that speak their real protocols",
		Long: `Simulates devices. A simulation is a scenario that the cluster plays to twins, as their devices would: "pollux sim create" gives it one,
and list, start, pause, reset and speed steer it. "pollux sim scenario" plays the same file from this machine.

The other commands simulate devices on real connections, many at once, with faults to order. They share no code with the drivers.

Faults are a list such as latency=200ms,jitter=50ms,silence=0.1,garbage=0.01,refuse=0.5,drop=0.01: times, and shares of answers
(silence, garbage, drop) or of connections (refuse).`,
	}
	cmd.AddCommand(simPJLink(), simTasmota(), simScenario(a))
	cmd.AddCommand(simLibrary()...)
	cmd.AddCommand(simulationCommands(a)...)
	return group(cmd)
}

// simFlags are common to all simulated devices.
type simFlags struct {
	faults, log string
	count       int
	seed        uint64
}

func (f *simFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.faults, "fault", "", "`FAULTS` to order, such as latency=200ms,drop=0.01")
	cmd.Flags().StringVar(&f.log, "log", "", "append what the devices are told to `FILE`, a line of JSON each; - is standard output")
	cmd.Flags().IntVar(&f.count, "count", 1, "number of devices")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "seed of the faults and values")
}

// open parses the faults and opens the log.
func (f *simFlags) open(cmd *cobra.Command) (peer.Faults, io.WriteCloser, error) {
	faults, err := peer.ParseFaults(f.faults)
	if err != nil {
		return faults, nil, &usageError{err}
	}
	if f.count < 1 || f.count > 50000 {
		return faults, nil, &usageError{fmt.Errorf("--count = %d: want 1 to 50000", f.count)}
	}
	switch f.log {
	case "":
		return faults, nil, nil
	case "-":
		return faults, nopCloser{cmd.OutOrStdout()}, nil
	}
	file, err := os.OpenFile(f.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return faults, nil, fmt.Errorf("open the log: %w", err)
	}
	return faults, file, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// runSim runs until a signal ends it. Meanwhile runs beside it and ends with its context.
func runSim(cmd *cobra.Command, log io.WriteCloser, run func(context.Context) error, meanwhile func(context.Context)) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		meanwhile(ctx)
	}()
	err := run(ctx)
	stop()
	<-done
	if log != nil {
		if e := log.Close(); err == nil {
			err = e
		}
	}
	return err
}

func simPJLink() *cobra.Command {
	var f simFlags
	var o pjlink.Options
	cmd := &cobra.Command{
		Use:   "pjlink",
		Short: "Simulate PJLink projectors (TCP, class 1; and the search of class 2)",
		Example: `  pollux sim pjlink
  pollux sim pjlink --search &
  pollux driver scan pjlink --network 127.0.0.1 --timeout 2s
  pollux sim pjlink --listen 127.0.0.1:4400 --count 4 --password secret
  pollux sim pjlink --fault latency=300ms,silence=0.05`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			faults, log, err := f.open(cmd)
			if err != nil {
				return err
			}
			o.Faults, o.Count, o.Seed = faults, f.count, f.seed
			if log != nil {
				o.Log = log
			}
			s, err := pjlink.New(o)
			if err != nil {
				return err
			}
			for i, addr := range s.Addrs() {
				fmt.Fprintf(cmd.ErrOrStderr(), "projector %d on %s\n", i+1, addr)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "ready pjlink=%s count=%d\n", s.Addrs()[0], f.count)
			return runSim(cmd, log, s.Run, func(context.Context) {})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:4352", "`ADDR` of the first projector; the next ones have the ports after it")
	cmd.Flags().StringVar(&o.Password, "password", "", "password that clients must know")
	cmd.Flags().BoolVar(&o.Search, "search", false, "answer those who look for projectors, by UDP at the same ports")
	cmd.Flags().DurationVar(&o.WarmUp, "warm-up", 5*time.Second, "how long the lamp takes to warm up")
	cmd.Flags().DurationVar(&o.CoolDown, "cool-down", 8*time.Second, "how long the lamp takes to cool down")
	cmd.Flags().DurationVar(&o.LampHour, "lamp-hour", time.Hour, "how long an hour on the lamp's counter takes")
	return cmd
}

const (
	// reachedEvery is how often the devices are asked whether they have come to their broker.
	reachedEvery = 50 * time.Millisecond
	// sayEvery is how often it is said what they wait for.
	sayEvery = 5 * time.Second
)

// awaitBroker prints that the devices are ready when each has been at the broker, and until then what keeps them.
func awaitBroker(ctx context.Context, cmd *cobra.Command, s *tasmota.Sim, broker string) {
	look := time.NewTicker(reachedEvery)
	defer look.Stop()
	count, told := len(s.Devices()), time.Time{}
	for {
		n, problem := s.Reached()
		if n == count {
			fmt.Fprintf(cmd.OutOrStdout(), "ready tasmota=%s count=%d\n", s.Devices()[0].Topic(), count)
			return
		}
		if problem != "" && time.Since(told) >= sayEvery {
			told = time.Now()
			fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d devices reached the broker %s; trying again: %s\n", n, count, broker, problem)
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

func simTasmota() *cobra.Command {
	var f simFlags
	var o tasmota.Options
	var kinds []string
	var qos uint8
	cmd := &cobra.Command{
		Use:   "tasmota",
		Short: "Simulate Tasmota switches, lights and sensors (MQTT)",
		Example: `  pollux sim tasmota
  pollux sim tasmota --broker 127.0.0.1:1883 --topic lab --count 20
  pollux sim tasmota --kind plug --user lamp1 --password plx_… --topic lamp1`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			faults, log, err := f.open(cmd)
			if err != nil {
				return err
			}
			o.Faults, o.Count, o.Seed, o.QoS = faults, f.count, f.seed, &qos
			if log != nil {
				o.Log = log
			}
			for _, k := range kinds {
				o.Kinds = append(o.Kinds, tasmota.Kind(k))
			}
			s, err := tasmota.New(o)
			if err != nil {
				return &usageError{err}
			}
			return runSim(cmd, log, s.Run, func(ctx context.Context) { awaitBroker(ctx, cmd, s, o.Broker) })
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&o.Broker, "broker", "127.0.0.1:1883", "`ADDR` of the MQTT broker")
	cmd.Flags().StringVar(&o.Topic, "topic", "tasmota", "topic of the device; several get -1, -2 … after it")
	cmd.Flags().StringVar(&o.User, "user", "", "MQTT user")
	cmd.Flags().StringVar(&o.Password, "password", "", "MQTT password")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, fmt.Sprintf("kinds of devices in turn: %v", tasmota.Kinds()))
	cmd.Flags().DurationVar(&o.Period, "period", 10*time.Second, "time between two telemetry messages")
	cmd.Flags().DurationVar(&o.Day, "day", 24*time.Hour, "how long a day lasts")
	cmd.Flags().Uint8Var(&qos, "qos", 1, "MQTT quality of service of what the devices send (firmware: 0)")
	return cmd
}
