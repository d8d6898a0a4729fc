package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux"
	extron "github.com/polluxhq/pollux/drivers/library/extron/sim"
	visca "github.com/polluxhq/pollux/drivers/library/visca/sim"
	pjlink "github.com/polluxhq/pollux/drivers/pjlink/sim"
	tasmota "github.com/polluxhq/pollux/drivers/tasmota/sim"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// The demo is a house with simulated devices. It uses the node as any client does: over HTTP, with a key.

const demoProject = "demo"

// demoPorts is where the simulated devices with an address look for free ports first, so that a restart finds them again.
const demoPorts = 14352

type demoRoom struct {
	name, title, level string
	wired              []demoWired
	devices            []demoDevice
	// logic, where not nil, are the settings of a twin without a device that switches the room as one.
	logic map[string]any
}

// demoWired is a device that its twin dials.
type demoWired struct {
	name, role, driver string
	settings           map[string]any
}

type demoDevice struct {
	name string // of the twin; its MQTT topic too
	role string // its name in the room's system
	kind tasmota.Kind
}

var demoRooms = []demoRoom{
	{name: "hall", title: "Hall", level: "ground",
		wired: []demoWired{
			{"hall-projector", "Display_1", "pjlink", map[string]any{"poll_s": 5}},
			{"hall-switcher", "Switcher_1", "extron", map[string]any{"outputs": 4, "inputs": map[string]any{"lectern": 1, "laptop": 3, "camera": 8}}},
			{"hall-camera", "Camera_1", "visca", map[string]any{"presets": map[string]any{"lectern": 0, "audience": 1}}}},
		devices: []demoDevice{
			{"hall-stage", "Light_1", tasmota.Light}, {"hall-rows", "Switch_1", tasmota.Switch4}, {"hall-climate", "Sensor_1", tasmota.BME280}},
		logic: map[string]any{"displays": []any{"Display_1"}, "switcher": "Switcher_1", "sound": "Switcher_1", "sources": map[string]any{
			"lectern": map[string]any{"display": "digital1", "switcher": "lectern"},
			"laptop":  map[string]any{"display": "digital1", "switcher": "laptop"}}}},
	{name: "foyer", title: "Foyer", level: "ground", devices: []demoDevice{
		{"foyer-sign", "Plug_1", tasmota.Plug}, {"foyer-climate", "Sensor_1", tasmota.AM2301}}},
	{name: "boardroom", title: "Boardroom", level: "upper",
		wired: []demoWired{
			{"boardroom-projector", "Display_1", "pjlink", map[string]any{"poll_s": 5, "password": "castor"}},
			{"boardroom-camera", "Camera_1", "visca", map[string]any{"presets": map[string]any{"table": 0, "door": 1}}}},
		devices: []demoDevice{
			{"boardroom-lamp", "Light_1", tasmota.Dimmer}, {"boardroom-blinds", "Switch_1", tasmota.Switch2}, {"boardroom-climate", "Sensor_1", tasmota.AM2301}},
		logic: map[string]any{"displays": []any{"Display_1"}}},
	{name: "studio", title: "Studio", level: "upper",
		wired: []demoWired{{"studio-projector", "Display_1", "pjlink", map[string]any{"poll_s": 5}}},
		devices: []demoDevice{
			{"studio-light", "Light_1", tasmota.Light}, {"studio-amplifier", "Plug_1", tasmota.Plug}}},
	{name: "seminar", title: "Seminar room", level: "upper",
		wired: []demoWired{{"seminar-projector", "Display_1", "pjlink", map[string]any{"poll_s": 5}}},
		devices: []demoDevice{
			{"seminar-climate", "Sensor_1", tasmota.DHT11}, {"seminar-heater", "Plug_1", tasmota.Plug}}},
}

// demoSite builds the house and prints each stage with its seconds.
type demoSite struct {
	out     io.Writer
	url     string
	after   func() // says what else there is to see; nil: nothing
	twins   polluxv1connect.TwinServiceClient
	drivers polluxv1connect.DriverServiceClient
	site    polluxv1connect.SiteServiceClient
	keys    polluxv1connect.KeyServiceClient
}

func newDemoSite(out io.Writer) *demoSite { return &demoSite{out: out} }

// freePorts moves a busy address of the node to the next free port and says so.
func (d *demoSite) freePorts(c *pollux.Config) error {
	if c.TLSCert != "" {
		return &usageError{fmt.Errorf("--demo and --tls-cert = %q: the simulated devices speak plain MQTT; leave one of the two out", c.TLSCert)}
	}
	if c.MQTT == "off" {
		c.MQTT = pollux.DefaultConfig().MQTT // the demo's devices need the broker
	}
	return portPicker{}.take(func(from, to string) {
		fmt.Fprintf(d.out, "%s is busy, taking %s\n", from, to)
	}, &c.HTTP, &c.MQTT, &c.Gossip, &c.Peer)
}

// demoNode is where the house stands: the node that is asked, and the broker that the devices come to.
type demoNode struct {
	data, url, mqtt string
	client          *http.Client
}

// run returns when ctx ends, or where a stage fails.
func (d *demoSite) run(ctx context.Context, node demoNode) error {
	key, err := os.ReadFile(pollux.AdminKeyFile(node.data))
	if err != nil {
		return fmt.Errorf("read the administrator's key: %w", err)
	}
	d.url = node.url
	client := node.client
	client.Transport = &bearer{key: strings.TrimSpace(string(key)), next: client.Transport}
	d.twins = polluxv1connect.NewTwinServiceClient(client, d.url)
	d.drivers = polluxv1connect.NewDriverServiceClient(client, d.url)
	d.site = polluxv1connect.NewSiteServiceClient(client, d.url)
	d.keys = polluxv1connect.NewKeyServiceClient(client, d.url)

	journal, err := os.OpenFile(filepath.Join(node.data, "devices.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the devices' journal: %w", err)
	}
	defer journal.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	devices := &demoDevices{log: journal, failed: make(chan error, 32)}
	stages := []struct {
		name string
		do   func() (string, error)
	}{
		{"wired", func() (string, error) { return devices.startWired(ctx) }},
		{"drivers", func() (string, error) { return d.addDrivers(ctx) }},
		{"building", func() (string, error) { return d.build(ctx) }},
		{"twins", func() (string, error) { return d.createTwins(ctx, devices) }},
		{"devices", func() (string, error) { return devices.startTasmota(ctx, node.mqtt) }},
		{"meters", func() (string, error) { return d.startMeters(ctx, devices, node) }},
		{"automation", func() (string, error) { return d.automate(ctx, node) }},
		{"connected", func() (string, error) { return d.waitConnected(ctx) }},
	}
	for _, s := range stages {
		began := time.Now()
		what, err := s.do()
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Fprintf(d.out, "%6.2fs  %-10s %s\n", time.Since(began).Seconds(), s.name, what)
	}
	link, err := d.keys.CreateLoginLink(ctx, connect.NewRequest(&pb.CreateLoginLinkRequest{}))
	if err != nil {
		return fmt.Errorf("make a login link: %w", err)
	}
	fmt.Fprintf(d.out, "open %s%s\n", d.url, link.Msg.Path)
	if d.after != nil {
		d.after()
	}
	return devices.wait()
}

func (d *demoSite) addDrivers(ctx context.Context) (string, error) {
	var added []string
	for _, name := range []string{"pjlink", "tasmota", "extron", "visca", "room"} {
		r, err := d.drivers.AddFromCatalog(ctx, connect.NewRequest(&pb.AddFromCatalogRequest{Name: name}))
		if err != nil {
			return "", fmt.Errorf("add driver %s: %w", name, err)
		}
		added = append(added, r.Msg.Driver.Name+" "+r.Msg.Driver.Version)
	}
	return strings.Join(added, ", "), nil
}

func (d *demoSite) build(ctx context.Context) (string, error) {
	zones := []*pb.Zone{
		{Id: "house", Title: "Castor House", Kind: "building"},
		{Id: "ground", Title: "Ground floor", Kind: "level", Parent: "house"},
		{Id: "upper", Title: "Upper floor", Kind: "level", Parent: "house"},
	}
	for _, r := range demoRooms {
		zones = append(zones, &pb.Zone{Id: r.name, Title: r.title, Kind: "room", Parent: r.level})
	}
	for _, z := range zones {
		z.Id = demoProject + "/" + z.Id
		if z.Parent != "" {
			z.Parent = demoProject + "/" + z.Parent
		}
		if _, err := d.site.PutZone(ctx, connect.NewRequest(&pb.PutZoneRequest{Zone: z})); err != nil && !kept(err) {
			return "", fmt.Errorf("zone %s: %w", z.Id, err)
		}
	}
	return fmt.Sprintf("%d zones: Castor House, 2 floors, %d rooms", len(zones), len(demoRooms)), nil
}

// kept says that a record is there from an earlier run and has changed since it was made here.
func kept(err error) bool {
	return connect.CodeOf(err) == connect.CodeAborted || connect.CodeOf(err) == connect.CodeAlreadyExists
}

func (d *demoSite) createTwins(ctx context.Context, devices *demoDevices) (string, error) {
	made, there := 0, 0
	for _, r := range demoRooms {
		system := &pb.System{Id: demoProject + "/" + r.name, Title: r.title, Zone: demoProject + "/" + r.name}
		var twins []*pb.Twin
		add := func(name, role, driver, uri string, settings map[string]any) error {
			t, err := demoTwin(r, name, driver, settings)
			if err != nil {
				return err
			}
			t.Uri = uri
			twins = append(twins, t)
			system.Members = append(system.Members, &pb.System_Member{Name: role, Twin: t.Id})
			return nil
		}
		for _, w := range r.wired {
			if err := add(w.name, w.role, w.driver, devices.uris[w.name], w.settings); err != nil {
				return "", err
			}
		}
		for _, dev := range r.devices {
			if err := add(dev.name, dev.role, "tasmota", "", map[string]any{"topic": dev.name}); err != nil {
				return "", err
			}
		}
		if r.logic != nil {
			settings := maps.Clone(r.logic)
			settings["system"] = r.name
			if err := add(r.name+"-room", "Room_1", "room", "", settings); err != nil {
				return "", err
			}
		}
		for _, t := range twins {
			created, err := d.ensureTwin(ctx, t)
			if err != nil {
				return "", fmt.Errorf("twin %s: %w", t.Id, err)
			}
			if created {
				made++
			} else {
				there++
			}
		}
		if _, err := d.site.PutSystem(ctx, connect.NewRequest(&pb.PutSystemRequest{System: system})); err != nil && !kept(err) {
			return "", fmt.Errorf("system %s: %w", system.Id, err)
		}
	}
	if there > 0 {
		return fmt.Sprintf("%d new, %d kept from before", made, there), nil
	}
	return fmt.Sprintf("%d in %d systems", made, len(demoRooms)), nil
}

func demoTwin(r demoRoom, name, driver string, settings map[string]any) (*pb.Twin, error) {
	s, err := structpb.NewStruct(settings)
	if err != nil {
		return nil, fmt.Errorf("twin %s: settings: %w", name, err)
	}
	return &pb.Twin{Id: demoProject + "/" + name, Driver: driver, Settings: s, Zone: demoProject + "/" + r.name,
		Labels: map[string]string{"room": r.name, "floor": r.level}}, nil
}

// ensureTwin creates a twin, or leaves the one that is there, with only its address brought up to date.
func (d *demoSite) ensureTwin(ctx context.Context, t *pb.Twin) (created bool, err error) {
	_, err = d.twins.CreateTwin(ctx, connect.NewRequest(&pb.CreateTwinRequest{Twin: t}))
	if err == nil || connect.CodeOf(err) != connect.CodeAlreadyExists {
		return true, err
	}
	r, err := d.twins.GetTwin(ctx, connect.NewRequest(&pb.GetTwinRequest{Id: t.Id}))
	if err != nil {
		return false, err
	}
	if r.Msg.Twin.Uri == t.Uri {
		return false, nil
	}
	changed, ok := proto.Clone(r.Msg.Twin).(*pb.Twin)
	if !ok {
		return false, errors.New("clone twin")
	}
	changed.Uri = t.Uri
	_, err = d.twins.UpdateTwin(ctx, connect.NewRequest(&pb.UpdateTwinRequest{Twin: changed}))
	return false, err
}

// waitConnected waits until every twin of the house has its device, at most 30 s.
func (d *demoSite) waitConnected(ctx context.Context) (string, error) {
	want := 0
	for _, r := range demoRooms {
		want += len(r.devices) + len(r.wired)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	have := 0
	for {
		r, err := d.twins.ListTwins(ctx, connect.NewRequest(&pb.ListTwinsRequest{PageSize: 1000,
			Filter: &pb.TwinFilter{Project: demoProject, Connection: pb.Connection_CONNECTION_CONNECTED}}))
		if err == nil {
			have = len(r.Msg.Twins)
		}
		if have >= want {
			return fmt.Sprintf("%d of %d", have, want), nil
		}
		select {
		case <-ctx.Done():
			return fmt.Sprintf("%d of %d; the others are tried again", have, want), nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// demoDevices are the simulated devices of the house, each with a connection of its own.
type demoDevices struct {
	log     io.Writer
	uris    map[string]string // twin's name → address
	failed  chan error
	running int
}

// startWired comes before the twins, whose addresses it gives.
func (s *demoDevices) startWired(ctx context.Context) (string, error) {
	s.uris = map[string]string{}
	ports, count := portPicker{}, map[string]int{}
	for port, r := demoPorts, 0; r < len(demoRooms); r++ {
		for _, w := range demoRooms[r].wired {
			addr, err := ports.next(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err != nil {
				return "", err
			}
			run, scheme, err := s.wired(w, addr, demoRooms[r].title, uint64(port))
			if err != nil {
				return "", err
			}
			s.uris[w.name] = scheme + "://" + addr
			s.run(ctx, run)
			count[w.driver]++
			port++
		}
	}
	return fmt.Sprintf("%d projectors (PJLink, TCP), %d switcher (Extron SIS, TCP), %d cameras (VISCA, UDP), simulated",
		count["pjlink"], count["extron"], count["visca"]), nil
}

// wired makes the simulator of a device.
func (s *demoDevices) wired(w demoWired, addr, title string, seed uint64) (run func(context.Context) error, scheme string, err error) {
	switch w.driver {
	case "pjlink":
		password, _ := w.settings["password"].(string)
		sim, err := pjlink.New(pjlink.Options{Listen: addr, Name: title, Password: password, Log: s.log, Seed: seed,
			LampHour: time.Minute}) // an hour a minute, so that it can be seen to move
		if err != nil {
			return nil, "", err
		}
		return sim.Run, "tcp", nil
	case "extron":
		sim, err := extron.New(extron.Options{Listen: addr, Log: s.log, Seed: seed})
		if err != nil {
			return nil, "", err
		}
		return sim.Run, "tcp", nil
	case "visca":
		sim, err := visca.New(visca.Options{Listen: addr, Moves: 2 * time.Second, Log: s.log, Seed: seed})
		if err != nil {
			return nil, "", err
		}
		return sim.Run, "udp", nil
	}
	return nil, "", fmt.Errorf("there is no simulator of %s", w.driver)
}

// startTasmota comes after the twins, so that no message is nobody's.
func (s *demoDevices) startTasmota(ctx context.Context, broker string) (string, error) {
	count := 0
	for _, r := range demoRooms {
		for _, dev := range r.devices {
			sim, err := tasmota.New(tasmota.Options{Broker: broker, Topic: dev.name, Kinds: []tasmota.Kind{dev.kind}, Log: s.log,
				Period: 2 * time.Second, Day: 10 * time.Minute, Bustle: time.Minute, Seed: uint64(1000 + count)})
			if err != nil {
				return "", err
			}
			count++
			s.run(ctx, sim.Run)
		}
	}
	return fmt.Sprintf("%d simulated, Tasmota over MQTT", count), nil
}

func (s *demoDevices) run(ctx context.Context, f func(context.Context) error) {
	s.running++
	go func() { s.failed <- f(ctx) }()
}

// wait returns when ctx has ended and all devices with it, or where one fails.
func (s *demoDevices) wait() error {
	for ; s.running > 0; s.running-- {
		if err := <-s.failed; err != nil {
			return err
		}
	}
	return nil
}
