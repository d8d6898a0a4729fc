package drivers

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

var hostPattern = regexp.MustCompile(`^(\*\.)?([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?$`)

// checkHTTP looks at the hosts that the capability http may ask.
func (m *Manifest) checkHTTP(model *Model) error {
	h := m.HTTP
	switch {
	case h == nil:
		return nil
	case !slices.Contains(m.Capabilities, "http"):
		return bad("http", "needs the capability http")
	case len(h.Hosts) > maxFilters:
		return bad("http/hosts", "%d, more than %d", len(h.Hosts), maxFilters)
	}
	for i, host := range h.Hosts {
		path := fmt.Sprintf("http/hosts/%d", i)
		for _, found := range placeholder.FindAllStringSubmatch(host, -1) {
			if !model.hasSetting(found[1]) {
				return bad(path, "{%s} is no setting", found[1])
			}
		}
		if plain := placeholder.ReplaceAllString(host, "x"); !hostPattern.MatchString(plain) {
			return bad(path, "%q is not HOST, HOST:PORT or *.DOMAIN", host)
		}
	}
	asTransport := TransportOptions{Scheme: SchemeHTTPS, HTTP: &h.HTTPOptions, TLS: h.TLS}
	err := asTransport.checkDetails("")
	if err == nil {
		err = asTransport.checkTexts("", model)
	}
	var e *ManifestError
	if errors.As(err, &e) {
		e.Path = "http/" + strings.TrimPrefix(e.Path, "/http/")
	}
	return err
}

// checkScan looks at how devices are found.
func (m *Manifest) checkScan() error {
	s := m.Scan
	if s == nil {
		return nil
	}
	switch {
	case s.Over != "udp" && s.Over != "tcp":
		return bad("scan/over", "%q is neither udp nor tcp", s.Over)
	case s.Port < 1 || s.Port > 65535:
		return bad("scan/port", "%d is no port", s.Port)
	case s.LocalPort < 0 || s.LocalPort > 65535 || s.LocalPort != 0 && s.Over != "udp":
		return bad("scan/local_port", "%d is no port of udp", s.LocalPort)
	case s.TimeoutMS < 0 || s.TimeoutMS > 60_000:
		return bad("scan/timeout_ms", "%d is not between 1 and 60000", s.TimeoutMS)
	case s.Tokenizer != nil && s.Over != "tcp":
		return bad("scan/tokenizer", "belongs to tcp: datagrams come whole")
	case !slices.Contains(m.Capabilities, "send") || !slices.Contains(m.Capabilities, "discover"):
		return bad("scan", "needs the capabilities send and discover")
	}
	if s.Group != "" {
		if ip, err := netip.ParseAddr(s.Group); err != nil || !ip.IsMulticast() || s.Over != "udp" {
			return bad("scan/group", "%q is no multicast group of udp", s.Group)
		}
	}
	if len(s.Options) > 0 {
		if _, err := compileSchema("scan/options", s.Options); err != nil {
			return err
		}
	}
	return checkTokenizer("scan/tokenizer", s.Tokenizer)
}

// Validate checks what is given to a scan against its options' schema; empty counts as no options. Errors are *SchemaError.
func (s *ScanOptions) Validate(options []byte) error {
	if len(options) == 0 {
		options = []byte("{}")
	}
	value, err := decodeValue("options", options)
	if err != nil {
		return err
	}
	if len(s.Options) == 0 {
		if given, ok := value.(map[string]any); !ok || len(given) > 0 {
			return &SchemaError{Subject: "options", Reason: "the driver's scan takes none"}
		}
		return nil
	}
	schema, err := compileSchema("scan/options", s.Options)
	if err != nil {
		return err
	}
	return checkValue("options", schema, value)
}
