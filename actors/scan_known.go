package actors

import (
	"encoding/json"
	"net"
	"reflect"
	"strings"

	"github.com/polluxhq/pollux/drivers/transport"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// addresses know which twins of a project speak to which address, so that a device whose twin was made by hand, without the
// device's alias, is not found as a new one. They are read once per driver and scan. Not safe for concurrent use.
type addresses struct {
	r       *Registry
	project string
	// drivers → addresses → twins.
	drivers map[string]map[string][]*pb.Twin
}

// twin gives the id of the twin that a found device has: one of the same driver and address, whose settings are those
// that the scan tells (several devices may share an address); "" where there is none.
func (a *addresses) twin(x *pb.InboxEntry) string {
	if x.Uri == "" || x.Driver == "" {
		return ""
	}
	name, _, err := parseRef(x.Driver)
	if err != nil {
		return ""
	}
	s, err := a.r.e.catalog.resolve(x.Driver)
	if err != nil {
		return ""
	}
	var told map[string]any
	if x.SettingsJson != "" && json.Unmarshal([]byte(x.SettingsJson), &told) != nil {
		return ""
	}
	for _, t := range a.of(name)[s.address(x.Uri)] {
		if a.told(t, told) {
			return t.Id
		}
	}
	return ""
}

// of lists the twins of a driver by their addresses.
func (a *addresses) of(driver string) map[string][]*pb.Twin {
	if known, ok := a.drivers[driver]; ok {
		return known
	}
	known := map[string][]*pb.Twin{}
	prefix := usePrefix("driver", driver)
	// A key ends in the twin's id, which begins with its project.
	for rec, err := range a.r.store.Scan(tableUses, prefix+a.project+"/", "") {
		if err != nil {
			break // what was read is known; a device that is found twice does no harm
		}
		t, err := get(a.r.store, tableTwins, strings.TrimPrefix(rec.Key, prefix), &pb.Twin{})
		if err != nil || t.Uri == "" {
			continue
		}
		if s, err := a.r.e.catalog.forTwin(t); err == nil {
			at := s.address(t.Uri)
			known[at] = append(known[at], t)
		}
	}
	if a.drivers == nil {
		a.drivers = map[string]map[string][]*pb.Twin{}
	}
	a.drivers[driver] = known
	return known
}

// told says whether a twin has the settings that a scan tells.
func (a *addresses) told(t *pb.Twin, settings map[string]any) bool {
	if len(settings) == 0 {
		return true
	}
	s, err := a.r.e.catalog.forTwin(t)
	if err != nil {
		return false
	}
	full, err := a.r.e.fullSettings(t, s)
	if err != nil {
		return false
	}
	for name, want := range settings {
		if !reflect.DeepEqual(full[name], want) {
			return false
		}
	}
	return true
}

// address gives the one way to write a twin's address: its port completed, its host in small letters. What cannot be
// read stays as it is.
func (s *spec) address(uri string) string {
	tr := s.via(uri)
	if tr == nil {
		return uri
	}
	a, err := transport.ParseAddress(uri, tr)
	if err != nil || a.Host == "" {
		return uri
	}
	host := strings.ToLower(a.Host)
	if ip := net.ParseIP(host); ip != nil {
		host = ip.String()
	}
	u := *a.URL
	u.Host, u.Fragment, u.Path = net.JoinHostPort(host, u.Port()), "", strings.TrimSuffix(u.Path, "/")
	return u.String()
}
