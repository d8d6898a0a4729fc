package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	modbus "github.com/polluxhq/pollux/drivers/library/modbus/sim"
	"github.com/polluxhq/pollux/drivers/peer"
)

// simField are the simulators of field buses.
func simField() []*cobra.Command { return []*cobra.Command{simModbus()} }

func simModbus() *cobra.Command {
	var o modbus.Options
	return simOne("modbus", "Simulate a heat pump's controller (Modbus TCP)", `  pollux sim modbus
  pollux sim modbus --listen 127.0.0.1:5020 --unit 3 --fault silence=0.05`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:5020", "`ADDR` to listen at")
		cmd.Flags().Uint8Var(&o.Unit, "unit", 1, "unit identifier")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := modbus.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, s.Addr(), nil
	})
}
