package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	bacnet "github.com/polluxhq/pollux/drivers/library/bacnet/sim"
	knx "github.com/polluxhq/pollux/drivers/library/knx/sim"
	modbus "github.com/polluxhq/pollux/drivers/library/modbus/sim"
	snmp "github.com/polluxhq/pollux/drivers/library/snmp/sim"
	"github.com/polluxhq/pollux/drivers/peer"
)

// simField are the simulators of field buses.
func simField() []*cobra.Command {
	return []*cobra.Command{simModbus(), simSNMP(), simKNX(), simBACnet()}
}

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

func simSNMP() *cobra.Command {
	var o snmp.Options
	return simOne("snmp", "Simulate a power supply with an SNMP v2c agent", `  pollux sim snmp
  pollux sim snmp --listen 127.0.0.1:1161 --community secret --fault silence=0.1`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:1161", "`ADDR` to listen at")
		cmd.Flags().StringVar(&o.Community, "community", "public", "community that may read and write")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := snmp.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, s.Addr(), nil
	})
}

func simKNX() *cobra.Command {
	var o knx.Options
	return simOne("knx", "Simulate a KNXnet/IP gateway with a light, a dimmer and a sensor", `  pollux sim knx
  pollux sim knx --listen 127.0.0.1:3671 --tunnels 1`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:3671", "`ADDR` to listen at")
		cmd.Flags().IntVar(&o.Tunnels, "tunnels", 4, "how many clients it takes")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := knx.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, s.Addr(), nil
	})
}

func simBACnet() *cobra.Command {
	var o bacnet.Options
	return simOne("bacnet", "Simulate an air handling unit (BACnet/IP)", `  pollux sim bacnet
  pollux sim bacnet --listen 0.0.0.0:47808 --device 77 --fault silence=0.1`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:47809", "`ADDR` to listen at")
		cmd.Flags().Uint32Var(&o.Device, "device", 1001, "device instance")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := bacnet.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, s.Addr(), nil
	})
}
