package pollux

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config is everything that can be set of a node. The zero value is not usable: start from DefaultConfig.
type Config struct {
	// Data is the node's directory. One process at a time uses it.
	Data string
	// Name of the node, for people.
	Name string
	// AvailabilityZone that the node runs in, for people and, with more nodes, for spreading voters.
	AvailabilityZone string
	// HTTP is the address of the API and the console.
	HTTP string
	// MQTT is the address of the MQTT broker; "off" starts none.
	MQTT string
	// Inbound is where devices may call in by TCP and UDP, HOST:PORT-PORT; "off" or empty: nowhere. Which ports of these are
	// open is said by the twins' addresses.
	Inbound string

	// Gossip is the address by which nodes find each other, UDP and TCP; Peer is the one by which they talk.
	Gossip, Peer string
	// Advertise is the host by which other nodes reach this one; empty: the host of Peer, or this machine's address where
	// that is every address.
	Advertise string
	// Join lists peer addresses of a cluster to join. A node that joins never founds a cluster.
	Join []string
	// JoinToken lets a new node join; not needed on loopback.
	JoinToken string
	// BootstrapExpect is how many nodes must have come together before a new cluster begins; it has that many voters.
	BootstrapExpect int
	// StableAfter is how long a new node must have been there before it gets a vote.
	StableAfter time.Duration
	// Site and Labels say where the node is and what it has; twins' selectors ask for them.
	Site   string
	Labels map[string]string
	// Weight is the node's share of the actors relative to the other nodes'.
	Weight int

	// TLSCert and TLSKey are PEM files for HTTP and MQTT.
	TLSCert, TLSKey string
	// Insecure allows HTTP without TLS and anonymous MQTT on addresses other than loopback.
	Insecure bool
	// AnonymousMQTT lets MQTT clients in without a key. Always so on loopback.
	AnonymousMQTT bool

	LogLevel  slog.Level
	LogFormat string // text or json

	// MetricsURL of an external VictoriaMetrics; empty: the embedded one.
	MetricsURL string
	// MetricsRetention is how long samples are kept by the embedded VictoriaMetrics.
	MetricsRetention time.Duration
	// MetricsMemory is the memory that VictoriaMetrics may use for its caches, in bytes.
	MetricsMemory int64
	// MetricsDisk bounds what waits on disk for an external VictoriaMetrics, in bytes.
	MetricsDisk int64
	// MetricsInterval is how often the node's own metrics are written to history.
	MetricsInterval time.Duration
	// RetentionInterval is how often a node deletes what the projects' rules let go; the first time a minute after its start, or after
	// this where it is less.
	RetentionInterval time.Duration

	// GuestMemory bounds the memory of all drivers' instances, in bytes.
	GuestMemory int64
	// DriverCompiler is the command line of a program that compiles drivers in a process of its own (drivers.SandboxOptions);
	// no setting: the program that runs the node gives its own. Empty: the node's process compiles.
	DriverCompiler []string
	// DiskReserve is what of the disk is kept for what cannot wait, in bytes (package disk); 0: nothing.
	DiskReserve int64
	// StoreCache is the store's block cache, in bytes.
	StoreCache int64
	// SinkFiles is the directory in which sinks keep files; empty: Data/sinks.
	SinkFiles string
	// PassivateAfter is how long a twin without connection stays in memory unused.
	PassivateAfter time.Duration
	// ConnectRate is how many twins may open their connection per second at start.
	ConnectRate int
	// QuarantineAfter is after how many failures in a row a twin's driver is tried only once an hour. The wait between two
	// tries doubles from one second: the default, 8, takes two minutes.
	QuarantineAfter int

	// ClockRate is how fast the clock runs by which leases are measured, beside the machine's; 0: alike. For tests of clocks that drift: it
	// is no setting.
	ClockRate float64
}

// DefaultConfig is what `pollux serve` uses with nothing set: one node, on loopback.
func DefaultConfig() Config {
	name, err := os.Hostname()
	if err != nil || !nameForm.MatchString(name) {
		name = "node"
	}
	return Config{
		Data:              DefaultData(),
		Name:              name,
		AvailabilityZone:  "default",
		HTTP:              "127.0.0.1:8080",
		MQTT:              "127.0.0.1:1883",
		Inbound:           inboundOff,
		Gossip:            "127.0.0.1:7946",
		Peer:              "127.0.0.1:7947",
		BootstrapExpect:   1,
		StableAfter:       10 * time.Second,
		Weight:            1,
		LogFormat:         "text",
		MetricsRetention:  395 * 24 * time.Hour, // thirteen months: a year, and the same month of the year before
		MetricsMemory:     256 << 20,
		MetricsDisk:       4 << 30,
		MetricsInterval:   10 * time.Second,
		RetentionInterval: 10 * time.Minute,
		GuestMemory:       1 << 30,
		DiskReserve:       512 << 20,
		StoreCache:        64 << 20,
		PassivateAfter:    2 * time.Minute,
		ConnectRate:       200,
		QuarantineAfter:   8,
	}
}

// DefaultData is /var/lib/pollux for root, else below the user's data directory.
func DefaultData() string {
	if os.Geteuid() == 0 {
		return "/var/lib/pollux"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "pollux")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "pollux-data"
	}
	return filepath.Join(home, ".local", "share", "pollux")
}

// AdminKeyFile is where the node of a data directory writes its administrator's key.
func AdminKeyFile(data string) string { return filepath.Join(data, "admin.key") }

// mqttOff as the MQTT address starts no broker.
const mqttOff = "off"

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Setting is one field of Config as people name it.
type Setting struct {
	// Key is its name in the configuration file, nested by its dots; the flag is the key with dashes for dots, the variable
	// is POLLUX_ and the key in capitals with underscores.
	Key  string
	Help string
	// Value is the form in which Get gives and Set takes it: a word such as ADDR, DIR, or "" for a switch.
	Value string
	Get   func(*Config) string
	Set   func(*Config, string) error
}

// Flag is the setting's name on the command line, without dashes before it.
func (s Setting) Flag() string { return strings.ReplaceAll(s.Key, ".", "-") }

// Variable is the setting's environment variable.
func (s Setting) Variable() string {
	return "POLLUX_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(s.Key))
}

// Settings lists every field of Config in the order in which people read them.
func Settings() []Setting {
	return []Setting{
		text("data", "DIR", "directory of the node's data", func(c *Config) *string { return &c.Data }),
		text("name", "NAME", "name of this node", func(c *Config) *string { return &c.Name }),
		text("availability-zone", "ZONE", "availability zone that the node runs in; a twin's --selector zone=ZONE asks for it", func(c *Config) *string { return &c.AvailabilityZone }),
		text("http", "ADDR", "address of the API and the console", func(c *Config) *string { return &c.HTTP }),
		text("mqtt", "ADDR", "address of the MQTT broker, or off", func(c *Config) *string { return &c.MQTT }),
		text("inbound", "ADDR", "address and ports where devices may call in, such as 0.0.0.0:5000-5099, or off", func(c *Config) *string { return &c.Inbound }),
		text("gossip", "ADDR", "address by which nodes find each other (UDP and TCP)", func(c *Config) *string { return &c.Gossip }),
		text("peer", "ADDR", "address by which nodes talk to each other (mutual TLS)", func(c *Config) *string { return &c.Peer }),
		text("advertise", "HOST", "host by which other nodes reach this one; default: the host of --peer", func(c *Config) *string { return &c.Advertise }),
		list("join", "ADDR,...", "peer addresses of the cluster to join; without it the node founds one", func(c *Config) *[]string { return &c.Join }),
		text("join-token", "TOKEN", "token for joining, from \"pollux cluster token\"; not needed on loopback", func(c *Config) *string { return &c.JoinToken }),
		number("bootstrap-expect", "nodes that a new cluster waits for before it begins", func(c *Config) *int { return &c.BootstrapExpect }),
		span("raft.stable-after", "how long a new node must have been there before it gets a vote", func(c *Config) *time.Duration { return &c.StableAfter }),
		text("site", "NAME", "site that the node stands in; a twin's --selector site=NAME asks for it", func(c *Config) *string { return &c.Site }),
		labels("label", "K=V,...", "labels of the node; a twin's --selector K=V asks for one", func(c *Config) *map[string]string { return &c.Labels }),
		number("weight", "share of the actors relative to other nodes", func(c *Config) *int { return &c.Weight }),
		text("tls-cert", "FILE", "TLS certificate (PEM) for HTTP and MQTT", func(c *Config) *string { return &c.TLSCert }),
		text("tls-key", "FILE", "TLS key (PEM) of the certificate", func(c *Config) *string { return &c.TLSKey }),
		toggle("insecure", "allow HTTP without TLS and anonymous MQTT beyond loopback", func(c *Config) *bool { return &c.Insecure }),
		toggle("mqtt-anonymous", "let MQTT clients in without a key (on loopback always so)", func(c *Config) *bool { return &c.AnonymousMQTT }),
		{Key: "log.level", Value: "LEVEL", Help: "debug, info, warn or error",
			Get: func(c *Config) string { return strings.ToLower(c.LogLevel.String()) },
			Set: func(c *Config, v string) error {
				if err := c.LogLevel.UnmarshalText([]byte(v)); err != nil {
					return errors.New("want debug, info, warn or error")
				}
				return nil
			}},
		text("log.format", "FORM", "text or json", func(c *Config) *string { return &c.LogFormat }),
		text("metrics.url", "URL", "external VictoriaMetrics to push to, instead of the embedded one; run it with -dedup.minScrapeInterval=1ms", func(c *Config) *string { return &c.MetricsURL }),
		span("metrics.retention", "how long history is kept", func(c *Config) *time.Duration { return &c.MetricsRetention }),
		size("metrics.memory", "memory of VictoriaMetrics' caches (its memory.allowedBytes)", func(c *Config) *int64 { return &c.MetricsMemory }),
		size("metrics.disk", "what may wait on disk for an external VictoriaMetrics", func(c *Config) *int64 { return &c.MetricsDisk }),
		span("metrics.interval", "how often the node's own metrics are recorded", func(c *Config) *time.Duration { return &c.MetricsInterval }),
		span("retention.interval", "how often a node deletes what the projects' retention rules let go", func(c *Config) *time.Duration { return &c.RetentionInterval }),
		size("driver.memory", "memory of all driver instances", func(c *Config) *int64 { return &c.GuestMemory }),
		size("disk.reserve", "free room on the disk below which messages wait, so that commands and configuration go on; at most a tenth of the disk",
			func(c *Config) *int64 { return &c.DiskReserve }),
		size("store.cache", "block cache of the store", func(c *Config) *int64 { return &c.StoreCache }),
		text("sinks.files", "DIR", "directory of the files of sinks; sinks below the node's data where it is not given", func(c *Config) *string { return &c.SinkFiles }),
		span("twin.passivate-after", "how long an unused twin without connection stays in memory", func(c *Config) *time.Duration { return &c.PassivateAfter }),
		number("twin.connect-rate", "connections opened per second at start", func(c *Config) *int { return &c.ConnectRate }),
		number("twin.quarantine-after", "failures in a row of a twin's driver after which it is tried only once an hour", func(c *Config) *int { return &c.QuarantineAfter }),
	}
}

func text(key, value, help string, at func(*Config) *string) Setting {
	return Setting{Key: key, Value: value, Help: help,
		Get: func(c *Config) string { return *at(c) },
		Set: func(c *Config, v string) error { *at(c) = v; return nil }}
}

func toggle(key, help string, at func(*Config) *bool) Setting {
	return Setting{Key: key, Help: help,
		Get: func(c *Config) string { return strconv.FormatBool(*at(c)) },
		Set: func(c *Config, v string) error {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return errors.New("want true or false")
			}
			*at(c) = b
			return nil
		}}
}

func number(key, help string, at func(*Config) *int) Setting {
	return Setting{Key: key, Value: "N", Help: help,
		Get: func(c *Config) string { return strconv.Itoa(*at(c)) },
		Set: func(c *Config, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil {
				return errors.New("want a whole number")
			}
			*at(c) = n
			return nil
		}}
}

func list(key, value, help string, at func(*Config) *[]string) Setting {
	return Setting{Key: key, Value: value, Help: help,
		Get: func(c *Config) string { return strings.Join(*at(c), ",") },
		Set: func(c *Config, v string) error {
			*at(c) = nil
			for part := range strings.SplitSeq(v, ",") {
				if part = strings.TrimSpace(part); part != "" {
					*at(c) = append(*at(c), part)
				}
			}
			return nil
		}}
}

func labels(key, value, help string, at func(*Config) *map[string]string) Setting {
	return Setting{Key: key, Value: value, Help: help,
		Get: func(c *Config) string {
			var parts []string
			for _, k := range slices.Sorted(maps.Keys(*at(c))) {
				parts = append(parts, k+"="+(*at(c))[k])
			}
			return strings.Join(parts, ",")
		},
		Set: func(c *Config, v string) error {
			got := map[string]string{}
			for part := range strings.SplitSeq(v, ",") {
				k, value, ok := strings.Cut(strings.TrimSpace(part), "=")
				if !ok || !nameForm.MatchString(k) || !nameForm.MatchString(value) {
					return errors.New("want KEY=VALUE, several with commas between")
				}
				got[k] = value
			}
			*at(c) = got
			return nil
		}}
}

func span(key, help string, at func(*Config) *time.Duration) Setting {
	return Setting{Key: key, Value: "TIME", Help: help,
		Get: func(c *Config) string { return formatSpan(*at(c)) },
		Set: func(c *Config, v string) error {
			d, err := parseSpan(v)
			if err != nil {
				return err
			}
			*at(c) = d
			return nil
		}}
}

// parseSpan reads a Go duration, or a number of days (30d).
func parseSpan(v string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(v, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err == nil && n >= 0 && n < 36500 {
			return time.Duration(n * 24 * float64(time.Hour)), nil
		}
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		return 0, errors.New("want a time such as 90s, 2m, 12h or 30d")
	}
	return d, nil
}

func formatSpan(d time.Duration) string {
	if d >= 24*time.Hour && d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	}
	return d.String()
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1}}

func size(key, help string, at func(*Config) *int64) Setting {
	return Setting{Key: key, Value: "SIZE", Help: help,
		Get: func(c *Config) string { return formatSize(*at(c)) },
		Set: func(c *Config, v string) error {
			n, err := parseSize(v)
			if err != nil {
				return err
			}
			*at(c) = n
			return nil
		}}
}

func parseSize(v string) (int64, error) {
	unit, digits := int64(1), v
	for _, u := range sizeUnits {
		if d, ok := strings.CutSuffix(v, u.name); ok {
			unit, digits = u.bytes, d
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, errors.New("want a size such as 256MiB or 4GB")
	}
	return n * unit, nil
}

func formatSize(n int64) string {
	for _, u := range sizeUnits {
		if n >= u.bytes && n%u.bytes == 0 && u.bytes > 1 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// Check finds what cannot work, naming the field and its value.
func (c *Config) Check() error {
	bad := func(key, value, why string) error { return fmt.Errorf("%s = %q: %s", key, value, why) }
	switch {
	case c.Data == "":
		return bad("data", c.Data, "want a directory")
	case !nameForm.MatchString(c.Name):
		return bad("name", c.Name, "want letters, digits, dots and dashes, at most 63")
	case !nameForm.MatchString(c.AvailabilityZone):
		return bad("availability-zone", c.AvailabilityZone, "want letters, digits, dots and dashes, at most 63")
	case c.BootstrapExpect < 1 || c.BootstrapExpect > 5 || c.BootstrapExpect%2 == 0:
		return bad("bootstrap-expect", strconv.Itoa(c.BootstrapExpect), "want 1, 3 or 5: an even number of voters survives no more failures than one less")
	case c.BootstrapExpect > 1 && len(c.Join) > 0:
		return bad("bootstrap-expect", strconv.Itoa(c.BootstrapExpect), "a node with --join never founds a cluster; the first node, without --join, is told how many to expect")
	case c.JoinToken != "" && len(c.Join) == 0:
		return bad("join-token", "...", "--join says where to join with it")
	case c.Site != "" && !nameForm.MatchString(c.Site):
		return bad("site", c.Site, "want letters, digits, dots and dashes, at most 63")
	case c.StableAfter < 0 || c.StableAfter > time.Hour:
		return bad("raft.stable-after", formatSpan(c.StableAfter), "want 0s to 1h")
	case c.Weight < 1 || c.Weight > 1000:
		return bad("weight", strconv.Itoa(c.Weight), "want 1 to 1000")
	case c.LogFormat != "text" && c.LogFormat != "json":
		return bad("log.format", c.LogFormat, "want text or json")
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return bad("tls-key", c.TLSKey, "--tls-cert and --tls-key go together")
	case c.MetricsRetention < 24*time.Hour || c.MetricsRetention > 100*365*24*time.Hour:
		return bad("metrics.retention", formatSpan(c.MetricsRetention), "want 1d to 36500d")
	case c.MetricsMemory < 16<<20:
		return bad("metrics.memory", formatSize(c.MetricsMemory), "want at least 16MiB")
	case c.MetricsDisk < 64<<20:
		return bad("metrics.disk", formatSize(c.MetricsDisk), "want at least 64MiB")
	case c.MetricsInterval < time.Second:
		return bad("metrics.interval", formatSpan(c.MetricsInterval), "want at least 1s")
	case c.RetentionInterval < time.Second:
		return bad("retention.interval", formatSpan(c.RetentionInterval), "want at least 1s")
	case c.GuestMemory < 64<<20:
		return bad("driver.memory", formatSize(c.GuestMemory), "want at least 64MiB")
	case c.StoreCache < 1<<20:
		return bad("store.cache", formatSize(c.StoreCache), "want at least 1MiB")
	case c.PassivateAfter < time.Second:
		return bad("twin.passivate-after", formatSpan(c.PassivateAfter), "want at least 1s")
	case c.ConnectRate < 1:
		return bad("twin.connect-rate", strconv.Itoa(c.ConnectRate), "want at least 1")
	case c.QuarantineAfter < 1:
		return bad("twin.quarantine-after", strconv.Itoa(c.QuarantineAfter), "want at least 1")
	}
	if c.MetricsURL != "" {
		if u, err := url.Parse(c.MetricsURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return bad("metrics.url", c.MetricsURL, "want http://HOST:PORT or https://HOST:PORT")
		}
	}
	return c.checkAddresses()
}

func (c *Config) checkAddresses() error {
	open, err := beyondLoopback("http", c.HTTP)
	if err != nil {
		return err
	}
	if open && c.TLSCert == "" && !c.Insecure {
		return fmt.Errorf("http = %q: this address can be reached from other machines: give --tls-cert and --tls-key, or --insecure to serve without TLS", c.HTTP)
	}
	if _, err := beyondLoopback("gossip", c.Gossip); err != nil {
		return err
	}
	if _, err := beyondLoopback("peer", c.Peer); err != nil {
		return err
	}
	if _, _, err := parseInbound(c.Inbound); err != nil {
		return err
	}
	for _, addr := range c.Join {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("join = %q: want HOST:PORT, the --peer address of a node, such as 10.0.0.5:7947", addr)
		}
		far, err := beyondLoopback("join", addr)
		if err != nil {
			return err
		}
		if near, _ := beyondLoopback("peer", c.Peer); far && !near && c.Advertise == "" {
			return fmt.Errorf("peer = %q: the nodes of %s cannot reach this address: give --peer 0.0.0.0:7947 --gossip 0.0.0.0:7946", c.Peer, addr)
		}
	}
	if c.MQTT == mqttOff {
		return nil
	}
	open, err = beyondLoopback("mqtt", c.MQTT)
	if err != nil {
		return err
	}
	if open && c.AnonymousMQTT && !c.Insecure {
		return fmt.Errorf("mqtt = %q: this address can be reached from other machines: drop --mqtt-anonymous and give devices keys (pollux key create --device NAME), or give --insecure", c.MQTT)
	}
	return nil
}

// allowAnonymousMQTT: on loopback whoever reaches the broker is on this machine.
func (c *Config) allowAnonymousMQTT() bool {
	open, err := beyondLoopback("mqtt", c.MQTT)
	return c.AnonymousMQTT || c.Insecure || err == nil && !open
}

func beyondLoopback(key, addr string) (bool, error) {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return false, fmt.Errorf("%s = %q: want HOST:PORT, such as 127.0.0.1:8080", key, addr)
	}
	if host == "localhost" {
		return false, nil
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsLoopback(), nil
}
