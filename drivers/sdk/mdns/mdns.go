// Package mdns asks a network for services by multicast DNS, and reads what answers (RFC 6762, RFC 6763). It is for scans of
// drivers in Go: a manifest's `"scan": {"over": "udp", "port": 5353, "local_port": 5353, "group": "224.0.0.251"}` carries both.
package mdns

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// maxServices bounds what one message tells of.
const maxServices = 64

// Service is an instance of a service, as its device tells of it.
type Service struct {
	// Type such as _http._tcp, Instance its name, such as Kitchen.
	Type, Instance string
	// Host is the device's name, such as kitchen.local; empty where the message does not tell it.
	Host string
	// Port of the service; 0 where the message does not tell it.
	Port uint16
	// Addresses of the host, in the order of the message.
	Addresses []netip.Addr
	// Text are the service's attributes, by names in lower case.
	Text map[string]string
}

// Address gives the first IPv4 address of the service, else its first, else the one that is given: that of the sender.
func (s *Service) Address(sender netip.Addr) netip.Addr {
	for _, a := range s.Addresses {
		if a.Is4() {
			return a
		}
	}
	if len(s.Addresses) > 0 {
		return s.Addresses[0]
	}
	return sender
}

// Query makes a message that asks who has services of the types, such as _http._tcp.
func Query(types ...string) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{})
	if err := b.StartQuestions(); err != nil {
		return nil, fmt.Errorf("ask by mdns: %w", err)
	}
	for _, t := range types {
		name, err := dnsmessage.NewName(t + ".local.")
		if err == nil {
			err = b.Question(dnsmessage.Question{Name: name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET})
		}
		if err != nil {
			return nil, fmt.Errorf("ask by mdns for %s: %w", t, err)
		}
	}
	message, err := b.Finish()
	if err != nil {
		return nil, fmt.Errorf("ask by mdns: %w", err)
	}
	return message, nil
}

// Services reads an answer. Of what is no answer, or cannot be read, it gives what could be read before, or nothing.
func Services(message []byte) []Service {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || !h.Response || p.SkipAllQuestions() != nil {
		return nil
	}
	r := records{targets: map[string]target{}, texts: map[string]map[string]string{}, hosts: map[string][]netip.Addr{}}
	for _, section := range []struct {
		next func() (dnsmessage.ResourceHeader, error)
		skip func() error
	}{{p.AnswerHeader, p.SkipAnswer}, {p.AuthorityHeader, p.SkipAuthority}, {p.AdditionalHeader, p.SkipAdditional}} {
		for {
			h, err := section.next()
			if err != nil || !r.take(&p, h) && section.skip() != nil {
				break // the section's end, or what cannot be read
			}
		}
	}
	return r.services()
}

// records are those of a message that matter here, by the names that they are of, in lower case.
type records struct {
	found   []pointer
	targets map[string]target
	texts   map[string]map[string]string
	hosts   map[string][]netip.Addr
}

type pointer struct{ kind, full string }

type target struct {
	host string
	port uint16
}

// take reads a record; false: it is none that matters, and still to be skipped.
func (r *records) take(p *dnsmessage.Parser, h dnsmessage.ResourceHeader) bool {
	name := strings.ToLower(h.Name.String())
	switch h.Type {
	case dnsmessage.TypePTR:
		ptr, err := p.PTRResource()
		if err == nil && h.TTL > 0 && len(r.found) < maxServices { // a TTL of 0 takes leave
			r.found = append(r.found, pointer{h.Name.String(), ptr.PTR.String()})
		}
		return err == nil
	case dnsmessage.TypeSRV:
		srv, err := p.SRVResource()
		if err == nil {
			r.targets[name] = target{srv.Target.String(), srv.Port}
		}
		return err == nil
	case dnsmessage.TypeTXT:
		txt, err := p.TXTResource()
		if err == nil {
			r.texts[name] = attributes(txt.TXT)
		}
		return err == nil
	case dnsmessage.TypeA:
		a, err := p.AResource()
		if err == nil {
			r.hosts[name] = append(r.hosts[name], netip.AddrFrom4(a.A))
		}
		return err == nil
	case dnsmessage.TypeAAAA:
		a, err := p.AAAAResource()
		if err == nil {
			r.hosts[name] = append(r.hosts[name], netip.AddrFrom16(a.AAAA))
		}
		return err == nil
	}
	return false
}

// attributes reads NAME=VALUE; of several with one name the first counts (RFC 6763, section 6.4).
func attributes(texts []string) map[string]string {
	all := map[string]string{}
	for _, text := range texts {
		name, value, _ := strings.Cut(text, "=")
		name = strings.ToLower(name)
		if _, known := all[name]; name != "" && !known {
			all[name] = value
		}
	}
	return all
}

func (r *records) services() []Service {
	var all []Service
	for _, p := range r.found {
		instance, isOf := cutSuffixFold(p.full, "."+p.kind)
		kind, local := cutSuffixFold(p.kind, ".local.")
		if !isOf || !local || instance == "" {
			continue
		}
		key := strings.ToLower(p.full)
		t := r.targets[key]
		all = append(all, Service{Type: kind, Instance: instance, Host: strings.TrimSuffix(t.host, "."), Port: t.port,
			Addresses: r.hosts[strings.ToLower(t.host)], Text: r.texts[key]})
	}
	return all
}

func cutSuffixFold(s, suffix string) (before string, found bool) {
	if at := len(s) - len(suffix); at >= 0 && strings.EqualFold(s[at:], suffix) {
		return s[:at], true
	}
	return s, false
}
