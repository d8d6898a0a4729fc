package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	esphome "github.com/polluxhq/pollux/drivers/library/esphome/sim"
	extron "github.com/polluxhq/pollux/drivers/library/extron/sim"
	httpjson "github.com/polluxhq/pollux/drivers/library/http-json/sim"
	lorawan "github.com/polluxhq/pollux/drivers/library/lorawan/sim"
	lutron "github.com/polluxhq/pollux/drivers/library/lutron/sim"
	mqttjson "github.com/polluxhq/pollux/drivers/library/mqtt-json/sim"
	mysensors "github.com/polluxhq/pollux/drivers/library/mysensors/sim"
	nodemonitor "github.com/polluxhq/pollux/drivers/library/node-monitor/sim"
	room "github.com/polluxhq/pollux/drivers/library/room/sim"
	shelly "github.com/polluxhq/pollux/drivers/library/shelly/sim"
	visca "github.com/polluxhq/pollux/drivers/library/visca/sim"
	zigbee2mqtt "github.com/polluxhq/pollux/drivers/library/zigbee2mqtt/sim"
	"github.com/polluxhq/pollux/drivers/peer"
)

// simOne makes the command of a simulated device that is one of its kind. start returns what runs, and what it is ready at.
func simOne(name, short, example string, flags func(*cobra.Command), start func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error)) *cobra.Command {
	var f simFlags
	cmd := &cobra.Command{Use: name, Short: short, Example: example, Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			faults, log, err := f.open(cmd)
			if err != nil {
				return err
			}
			var w io.Writer // a nil interface, where log is one
			if log != nil {
				w = log
			}
			run, at, err := start(faults, w, f.seed)
			if err != nil {
				return &usageError{err}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "ready %s=%s\n", name, at)
			return runSim(cmd, log, run, func(context.Context) {})
		}}
	f.add(cmd)
	flags(cmd)
	_ = cmd.Flags().MarkHidden("count") // it is one
	return cmd
}

// simLibrary are the simulators of the library's drivers.
func simLibrary() []*cobra.Command {
	return append([]*cobra.Command{simExtron(), simVISCA(), simHTTPJSON(), simShelly(), simZigbee2MQTT(), simLoRaWAN(), simLutron(), simMySensors(), simESPHome(),
		simMQTTJSON(), simNodeMonitor(), simRoom()}, simField()...)
}

func simMQTTJSON() *cobra.Command {
	var o mqttjson.Options
	return simOne("mqtt-json", "Simulate a pump that says its state in JSON and plain texts (MQTT)", `  pollux sim mqtt-json
  pollux sim mqtt-json --broker 127.0.0.1:1883 --topic plant/pump2 --user pump2 --password plx_… --period 2s`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Broker, "broker", "127.0.0.1:1883", "`ADDR` of the MQTT broker")
		cmd.Flags().StringVar(&o.Topic, "topic", "plant/pump1", "topic below which the pump speaks")
		cmd.Flags().StringVar(&o.User, "user", "", "MQTT user")
		cmd.Flags().StringVar(&o.Password, "password", "", "MQTT password")
		cmd.Flags().DurationVar(&o.Period, "period", 10*time.Second, "time between two messages of its state")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := mqttjson.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, o.Topic, nil
	})
}

func simNodeMonitor() *cobra.Command {
	var o nodemonitor.Options
	return simOne("node-monitor", "Simulate the figures of a node (HTTP, Prometheus' text format)", `  pollux sim node-monitor
  pollux sim node-monitor --listen 127.0.0.1:8089 --token secret --processor 1.9`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:8089", "`ADDR` to listen at")
		cmd.Flags().StringVar(&o.Token, "token", "", "bearer token that requests must carry")
		cmd.Flags().Float64Var(&o.Processor, "processor", 0.4, "how many processors the node is busy with")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := nodemonitor.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, s.Addr(), nil
	})
}

func simRoom() *cobra.Command {
	var o room.Options
	return simOne("room", "Simulate what is in a meeting room: a projector (PJLink), a switcher with sound (Extron SIS) and lights (Lutron)", `  pollux sim room
  pollux sim room --projector 127.0.0.1:4353 --switcher 127.0.0.1:2333 --lights 127.0.0.1:2334`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Projector, "projector", "127.0.0.1:4352", "`ADDR` of the projector")
		cmd.Flags().StringVar(&o.Switcher, "switcher", "127.0.0.1:2323", "`ADDR` of the switcher")
		cmd.Flags().StringVar(&o.Lights, "lights", "127.0.0.1:2324", "`ADDR` of the lights")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := room.New(o)
		if err != nil {
			return nil, "", err
		}
		projector, switcher, lights := s.Addrs()
		return s.Run, fmt.Sprintf("projector=%s switcher=%s lights=%s", projector, switcher, lights), nil
	})
}

func simMySensors() *cobra.Command {
	var o mysensors.Options
	return simOne("mysensors", "Simulate a MySensors gateway over TCP, with three nodes, one of which sleeps", `  pollux sim mysensors
  pollux sim mysensors --listen 127.0.0.1:5003 --period 2s
  pollux sim mysensors --fault garbage=0.05,drop=0.01`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:5003", "`ADDR` to listen at")
		cmd.Flags().DurationVar(&o.Period, "period", 10*time.Second, "time between two values of the thermometer")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := mysensors.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, s.Addr(), nil
	})
}

func simESPHome() *cobra.Command {
	var o esphome.Options
	return simOne("esphome", "Simulate a device with ESPHome firmware (native API over TCP), with one entity of each kind", `  pollux sim esphome
  pollux sim esphome --listen 127.0.0.1:6053 --password secret --period 2s
  pollux sim esphome --mdns 127.0.0.1:5353 &
  pollux driver scan esphome --network 127.0.0.0/24
  pollux sim esphome --fault garbage=0.05,drop=0.01`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:6053", "`ADDR` to listen at")
		cmd.Flags().StringVar(&o.Password, "password", "", "password that clients must know")
		cmd.Flags().DurationVar(&o.Period, "period", 10*time.Second, "time between two values of the thermometer")
		cmd.Flags().StringVar(&o.MDNS, "mdns", "", "answer those who look for the device by multicast DNS on the interface of `ADDR`, such as 127.0.0.1:5353")
		cmd.Flags().BoolVar(&o.Encrypted, "encrypted", false, "refuse clients that do not encrypt, as firmware with a key does")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := esphome.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, s.Addr(), nil
	})
}

func simExtron() *cobra.Command {
	var o extron.Options
	return simOne("extron", "Simulate an Extron matrix switcher (SIS over TCP)", `  pollux sim extron
  pollux sim extron --listen 127.0.0.1:2323 --password extron
  pollux sim extron --fault silence=0.05,drop=0.01`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:2323", "`ADDR` to listen at")
		cmd.Flags().StringVar(&o.Password, "password", "", "password that clients must know")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := extron.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, s.Addr(), nil
	})
}

func simLutron() *cobra.Command {
	var o lutron.Options
	return simOne("lutron", "Simulate a Lutron system: zones, areas and a keypad (integration protocol over TCP)", `  pollux sim lutron
  pollux sim lutron --listen 127.0.0.1:2324 --password secret
  pollux sim lutron --zones 2,3,7 --areas 5 --keypads 17 --fault silence=0.05,drop=0.01`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:2324", "`ADDR` to listen at")
		cmd.Flags().StringVar(&o.Login, "login", "lutron", "login that clients must know")
		cmd.Flags().StringVar(&o.Password, "password", "integration", "password that clients must know")
		cmd.Flags().IntSliceVar(&o.Zones, "zones", []int{1, 2, 3, 4}, "integration ids of zones")
		cmd.Flags().IntSliceVar(&o.Areas, "areas", []int{2, 5}, "integration ids of areas")
		cmd.Flags().IntSliceVar(&o.Keypads, "keypads", []int{17}, "integration ids of keypads")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := lutron.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, s.Addr(), nil
	})
}

func simVISCA() *cobra.Command {
	var o visca.Options
	return simOne("visca", "Simulate a camera (VISCA over IP, UDP)", `  pollux sim visca
  pollux sim visca --listen 127.0.0.1:52381 --fault silence=0.1`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:52381", "`ADDR` to listen at")
		cmd.Flags().DurationVar(&o.Moves, "moves", 2*time.Second, "how long the camera takes to a position")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := visca.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, s.Addr(), nil
	})
}

func simHTTPJSON() *cobra.Command {
	var o httpjson.Options
	return simOne("http-json", "Simulate an energy meter with a relay (HTTP and JSON)", `  pollux sim http-json
  pollux sim http-json --listen 127.0.0.1:8088 --token secret
  pollux sim http-json --ssdp 127.0.0.1:1900 &
  pollux driver scan http-json --network 127.0.0.0/24`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:8088", "`ADDR` to listen at")
		cmd.Flags().StringVar(&o.Token, "token", "", "bearer token that requests must carry")
		cmd.Flags().StringVar(&o.SSDP, "ssdp", "", "answer searches by SSDP on the interface of `ADDR`, such as 127.0.0.1:1900")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := httpjson.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, s.Addr(), nil
	})
}

func simShelly() *cobra.Command {
	var o shelly.Options
	return simOne("shelly", "Simulate a Shelly Plus 1PM (MQTT)", `  pollux sim shelly
  pollux sim shelly --broker 127.0.0.1:1883 --topic kettle --user kettle --password plx_…
  pollux sim shelly --mdns 127.0.0.1:5353 &
  pollux driver scan shelly --network 127.0.0.0/24`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Broker, "broker", "127.0.0.1:1883", "`ADDR` of the MQTT broker")
		cmd.Flags().StringVar(&o.Topic, "topic", "shellyplus1pm-000000000001", "the device's topic prefix")
		cmd.Flags().StringVar(&o.MDNS, "mdns", "", "answer those who look for the device by multicast DNS on the interface of `ADDR`, such as 127.0.0.1:5353")
		cmd.Flags().StringVar(&o.User, "user", "", "MQTT user")
		cmd.Flags().StringVar(&o.Password, "password", "", "MQTT password")
		cmd.Flags().DurationVar(&o.Period, "period", 10*time.Second, "time between two messages of its status")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := shelly.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, o.Topic, nil
	})
}

func simZigbee2MQTT() *cobra.Command {
	var o zigbee2mqtt.Options
	return simOne("zigbee2mqtt", "Simulate Zigbee2MQTT with a lamp and a sensor (MQTT)", `  pollux sim zigbee2mqtt
  pollux sim zigbee2mqtt --broker 127.0.0.1:1883 --base zigbee2mqtt`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.Broker, "broker", "127.0.0.1:1883", "`ADDR` of the MQTT broker")
		cmd.Flags().StringVar(&o.Base, "base", "zigbee2mqtt", "base topic")
		cmd.Flags().StringVar(&o.User, "user", "", "MQTT user")
		cmd.Flags().StringVar(&o.Password, "password", "", "MQTT password")
		cmd.Flags().DurationVar(&o.Period, "period", 10*time.Second, "time between two messages of the sensor")
	}, func(faults peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Faults, o.Log, o.Seed = faults, log, seed
		s, err := zigbee2mqtt.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, o.Base, nil
	})
}

func simLoRaWAN() *cobra.Command {
	var o lorawan.Options
	return simOne("lorawan", "Simulate a LoRaWAN network server's webhook", `  pollux sim lorawan --to http://127.0.0.1:8080/hooks/default/desk --token secret
  pollux sim lorawan --to http://127.0.0.1:8080/hooks/default/network --sensors 5 --period 30s`, func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&o.URL, "to", "", "`URL` of the twin's webhook")
		cmd.Flags().StringVar(&o.Token, "token", "", "bearer token of the webhook")
		cmd.Flags().StringVar(&o.DevEUI, "dev-eui", "a84041000181c061", "EUI of the first sensor")
		cmd.Flags().IntVar(&o.Count, "sensors", 1, "number of sensors")
		cmd.Flags().DurationVar(&o.Period, "period", 10*time.Second, "time between two uplinks of a sensor")
	}, func(_ peer.Faults, log io.Writer, seed uint64) (func(context.Context) error, string, error) {
		o.Log, o.Seed = log, seed
		s, err := lorawan.New(o)
		if err != nil {
			return nil, "", err
		}
		return s.Run, o.URL, nil
	})
}
