package drivers

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// maxTransports bounds the transports of a manifest.
const maxTransports = 16

// checkTransports looks at the transports before their short form is made a list, so that errors name what was written.
func (m *Manifest) checkTransports(model *Model) error {
	if len(m.Transports) > maxTransports {
		return bad("transports", "%d, more than %d", len(m.Transports), maxTransports)
	}
	if m.OneTransport != nil {
		if len(m.Transports) > 0 {
			return bad("transport", "is the short form of transports with one; only one of them is to be there")
		}
		return m.OneTransport.check("transport", model)
	}
	for i := range m.Transports {
		t := &m.Transports[i]
		path := fmt.Sprintf("transports/%d", i)
		if err := t.check(path, model); err != nil {
			return err
		}
		same := func(o TransportOptions) bool { return o.Scheme == t.Scheme }
		if slices.IndexFunc(m.Transports, same) != i {
			return bad(path+"/scheme", "%q is there twice", t.Scheme)
		}
	}
	return nil
}

// family gives a scheme without its TLS.
func family(scheme string) string {
	switch scheme {
	case SchemeHTTPS, SchemeWSS, SchemeMQTTS:
		return strings.TrimSuffix(scheme, "s")
	case SchemeTLS:
		return SchemeTCP
	}
	return scheme
}

func (t *TransportOptions) check(path string, model *Model) error {
	if !slices.Contains(Schemes(), t.Scheme) {
		return bad(path+"/scheme", "%q is not offered; there are %s", t.Scheme, strings.Join(Schemes(), ", "))
	}
	if err := t.checkBelongs(path); err != nil {
		return err
	}
	switch {
	case t.DefaultPort < 0 || t.DefaultPort > 65535:
		return bad(path+"/default_port", "%d is no port", t.DefaultPort)
	case t.IdleTimeoutMS < 0:
		return bad(path+"/idle_timeout_ms", "%d is negative", t.IdleTimeoutMS)
	case t.PerCommandIdleMS < 0:
		return bad(path+"/per_command_idle_ms", "%d is negative", t.PerCommandIdleMS)
	case t.PerCommandIdleMS > 0 && !t.PerCommand && t.PerCommandIf == "":
		return bad(path+"/per_command_idle_ms", "needs per_command")
	}
	if err := checkTokenizer(path+"/tokenizer", t.Tokenizer); err != nil {
		return err
	}
	if err := checkTraceSecrets(path, t.TraceSecrets); err != nil {
		return err
	}
	if err := t.checkDetails(path); err != nil {
		return err
	}
	if err := t.checkTexts(path, model); err != nil {
		return err
	}
	return t.checkTopics(path, model)
}

// checkBelongs refuses options of other schemes.
func (t *TransportOptions) checkBelongs(path string) error {
	stream := []string{SchemeTCP, SchemeSSH, SchemeSerial, SchemeTCPIn}
	tls := []string{SchemeTCP, SchemeHTTP, SchemeWS, SchemeMQTT}
	for _, o := range []struct {
		name string
		set  bool
		to   []string
	}{
		{"tokenizer", t.Tokenizer != nil, stream},
		{"idle_timeout_ms", t.IdleTimeoutMS != 0, append(stream, SchemeUDP, SchemeWS)},
		{"default_port", t.DefaultPort != 0, []string{SchemeTCP, SchemeUDP, SchemeHTTP, SchemeWS, SchemeSSH, SchemeTCPIn, SchemeUDPIn}},
		{"per_command", t.PerCommand || t.PerCommandIf != "", []string{SchemeTCP, SchemeSSH}},
		{"tls", t.TLS != nil, tls},
		{"udp", t.UDP != nil, []string{SchemeUDP, SchemeUDPIn}},
		{"http", t.HTTP != nil, []string{SchemeHTTP, SchemeWS}},
		{"websocket", t.WebSocket != nil, []string{SchemeWS}},
		{"ssh", t.SSH != nil, []string{SchemeSSH}},
		{"serial", t.Serial != nil, []string{SchemeSerial}},
		{"broker", t.Broker != nil, []string{SchemeMQTT}},
		{"inbound", t.Inbound != nil, []string{SchemeTCPIn, SchemeUDPIn, SchemeWebhook}},
	} {
		if o.set && !slices.Contains(o.to, family(t.Scheme)) {
			return bad(path, "%s belongs to scheme %s", o.name, strings.Join(o.to, ", "))
		}
	}
	if family(t.Scheme) != SchemeMQTT && (len(t.Subscribe)+len(t.Publish)+len(t.DeviceSubscribe)+len(t.DevicePublish) > 0 || t.Will != nil) {
		return bad(path, "subscribe, publish, device_subscribe, device_publish and will belong to scheme mqtt")
	}
	return nil
}

// checkDetails looks at the values of the options of single schemes.
func (t *TransportOptions) checkDetails(path string) error {
	oneOf := func(field, v string, of ...string) error {
		if v == "" || slices.Contains(of, v) {
			return nil
		}
		return bad(path+field, "%q is not one of %s", v, strings.Join(of, ", "))
	}
	within := func(field string, v, from, to int) error {
		if v != 0 && (v < from || v > to) {
			return bad(path+field, "%d is not between %d and %d", v, from, to)
		}
		return nil
	}
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	const hour = 3_600_000
	if o := t.TLS; o != nil {
		add(oneOf("/tls/min_version", o.MinVersion, "1.0", "1.1", "1.2", "1.3"))
		if (o.Certificate == "") != (o.Key == "") {
			add(bad(path+"/tls", "certificate and key go together"))
		}
	}
	if o := t.UDP; o != nil {
		add(within("/udp/local_port", o.LocalPort, 1, 65535))
		add(within("/udp/ttl", o.TTL, 1, 255))
	}
	if o := t.HTTP; o != nil {
		add(oneOf("/http/auth", o.Auth, "basic", "digest", "bearer"))
		add(within("/http/per_minute", o.PerMinute, 1, 60_000))
		add(within("/http/burst", o.Burst, 1, 1000))
		add(within("/http/retries", o.Retries, -1, 5))
		add(within("/http/probe_ms", o.ProbeMS, 1000, 24*hour))
		add(checkHeaders(path+"/http/headers", o.Headers))
	}
	if o := t.WebSocket; o != nil {
		add(within("/websocket/ping_ms", o.PingMS, 1000, hour))
		add(within("/websocket/max_frame", o.MaxFrame, 1, maxFrameBytes))
	}
	if t.Scheme == SchemeSSH && (t.SSH == nil || t.SSH.HostKey == "") {
		add(bad(path+"/ssh/host_key", "is missing: without it anybody could be the device"))
	}
	if o := t.Serial; o != nil {
		add(within("/serial/data_bits", o.DataBits, 5, 8))
		add(oneOf("/serial/parity", o.Parity, "none", "odd", "even", "mark", "space"))
		add(oneOf("/serial/stop_bits", o.StopBits, "1", "1.5", "2"))
	}
	if o := t.Broker; o != nil {
		add(within("/broker/keep_alive_s", o.KeepAliveS, 1, 3600))
	}
	if len(errs) > 0 {
		return errs[0]
	}
	return nil
}

var fieldName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")

func checkHeaders(path string, headers map[string]string) error {
	if len(headers) > maxFilters {
		return bad(path, "%d, more than %d", len(headers), maxFilters)
	}
	for name := range headers {
		switch canonical := http.CanonicalHeaderKey(name); {
		case !fieldName.MatchString(name):
			return bad(path, "%q is no header's name", name)
		case slices.Contains(hostHeaders, canonical):
			return bad(path, "%s is the host's own", canonical)
		}
	}
	return nil
}

// hostHeaders are set by the host.
var hostHeaders = []string{"Host", "Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Te", "Trailer"}

// texts gives the options in which {NAME} stands for a setting, with their paths.
func (t *TransportOptions) texts() map[string]*string {
	all := map[string]*string{"per_command_if": &t.PerCommandIf}
	if o := t.TLS; o != nil {
		all["tls/ca"], all["tls/fingerprint"], all["tls/certificate"], all["tls/key"] = &o.CA, &o.Fingerprint, &o.Certificate, &o.Key
		all["tls/server_name"], all["tls/insecure"] = &o.ServerName, &o.Insecure
	}
	if o := t.UDP; o != nil {
		all["udp/interface"] = &o.Interface
		for i := range o.Peers {
			all[fmt.Sprintf("udp/peers/%d", i)] = &o.Peers[i]
		}
	}
	if o := t.HTTP; o != nil {
		all["http/user"], all["http/password"], all["http/token"], all["http/proxy"] = &o.User, &o.Password, &o.Token, &o.Proxy
	}
	if o := t.SSH; o != nil {
		all["ssh/user"], all["ssh/password"], all["ssh/key"], all["ssh/host_key"] = &o.User, &o.Password, &o.Key, &o.HostKey
		all["ssh/command"] = &o.Command
	}
	if o := t.Serial; o != nil {
		all["serial/baud"] = &o.Baud
	}
	if o := t.Broker; o != nil {
		all["broker/client_id"], all["broker/user"], all["broker/password"] = &o.ClientID, &o.User, &o.Password
	}
	if o := t.Inbound; o != nil {
		all["inbound/token"] = &o.Token
		for i := range o.From {
			all[fmt.Sprintf("inbound/from/%d", i)] = &o.From[i]
		}
	}
	return all
}

func (t *TransportOptions) checkTexts(path string, model *Model) error {
	one := func(field, text string) error {
		for _, found := range placeholder.FindAllStringSubmatch(text, -1) {
			if !model.hasSetting(found[1]) {
				return bad(path+"/"+field, "{%s} is no setting", found[1])
			}
		}
		return nil
	}
	for field, text := range t.texts() {
		if err := one(field, *text); err != nil {
			return err
		}
	}
	if t.HTTP != nil {
		for name, text := range t.HTTP.Headers {
			if err := one("http/headers/"+name, text); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkTraceSecrets(path string, list []string) error {
	if len(list) > maxTraceSecrets {
		return bad(path+"/trace_secrets", "%d expressions, more than %d", len(list), maxTraceSecrets)
	}
	for i, text := range list {
		path := fmt.Sprintf("%s/trace_secrets/%d", path, i)
		if len(text) > maxTraceSecret {
			return bad(path, "longer than %d bytes", maxTraceSecret)
		}
		re, err := regexp.Compile(text)
		if err != nil {
			return bad(path, "%s", err)
		}
		if re.MatchString("") {
			return bad(path, "%q matches nothing at all", text)
		}
	}
	return nil
}

func checkTokenizer(path string, t *Tokenizer) error {
	switch {
	case t == nil:
		return nil
	case (t.Delimiter == "") == (t.LengthBytes == 0):
		return bad(path, "exactly one of delimiter and length_bytes is to be set")
	case len(t.Delimiter) > 16:
		return bad(path+"/delimiter", "longer than 16 bytes")
	case !slices.Contains([]int{0, 1, 2, 4}, t.LengthBytes):
		return bad(path+"/length_bytes", "%d is not 1, 2 or 4", t.LengthBytes)
	case t.LengthOffset < 0 || t.LengthOffset > 1024:
		return bad(path+"/length_offset", "%d is not between 0 and 1024", t.LengthOffset)
	case t.MaxFrame < 0 || t.MaxFrame > maxFrameBytes:
		return bad(path+"/max_frame", "%d is not between 1 and %d", t.MaxFrame, maxFrameBytes)
	}
	return nil
}

func (t *TransportOptions) checkTopics(path string, model *Model) error {
	for _, list := range []struct {
		field   string
		filters []string
	}{
		{"subscribe", t.Subscribe}, {"publish", t.Publish},
		{"device_subscribe", t.DeviceSubscribe}, {"device_publish", t.DevicePublish},
	} {
		if len(list.filters) > maxFilters {
			return bad(path+"/"+list.field, "%d filters, more than %d", len(list.filters), maxFilters)
		}
		for i, filter := range list.filters {
			path := fmt.Sprintf("%s/%s/%d", path, list.field, i)
			if err := checkFilter(path, filter, model, true); err != nil {
				return err
			}
			if strings.HasPrefix(list.field, "device_") && !placeholder.MatchString(filter) {
				return bad(path, "%q is the same for all devices: it holds no {SETTING}", filter)
			}
		}
	}
	if t.Will == nil {
		return nil
	}
	if t.Will.Online == t.Will.Offline {
		return bad(path+"/will", "online and offline are the same payload")
	}
	return checkFilter(path+"/will/topic", t.Will.Topic, model, false)
}
