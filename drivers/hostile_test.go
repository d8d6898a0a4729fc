package drivers_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/httpclient"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// attacks are those of drivers that run, of files that are uploaded, and on what is not the driver's.
func attacks(tb testing.TB, s *drivers.Sandbox) []attack {
	tb.Helper()
	wild := wildDriver(tb, s)
	call := func(name, action, input string, limit time.Duration, says string) attack {
		return attack{name, calling(tb, wild, command(action, input), limit), says}
	}
	run := func(name string, limit time.Duration, says string, code ...any) attack {
		return attack{name, calling(tb, load(tb, s, hostile(256, wasmtest.Code(code...))), drivers.Call{}, limit), says}
	}
	loop := func(code ...any) []byte {
		return wasmtest.Code(0x03, 0x40, wasmtest.Code(code...), 0x0c, 0, 0x0b, 0x00)
	}
	all := []attack{
		call("an endless loop", "spin", "null", attackDeadline, "the call was stopped"),
		call("takes all memory", "hog", "null", attackLimit, "out of memory"),
		call("crashes each time", "panic", `"to order"`, attackLimit, "panic: to order"),
		call("a recursion, Go's", "recurse", "1", attackLimit, "out of memory"),
		run("a recursion", attackLimit, "recursion deeper than 16 MB of stack", wasmtest.Local(0), wasmtest.Local(1), wasmtest.Call(1)),
		call("sleeps", "sleep", "60000", attackDeadline, "the call was stopped"),
		{"floods log and events", flooding(tb, wild, command("flood", "5000")), "^64 events and 64 lines"},
		{"prints without end", flooding(tb, wild, command("print", `"`+strings.Repeat(`spam\n`, 10_000)+`"`)), "^0 events and 64 lines"},
		run("calls the host for ever", attackDeadline, "the call was stopped", loop(wasmtest.Const(0), wasmtest.Const(1), wasmtest.Call(0), 0x1a)),
		run("fills its memory for ever", attackDeadline, "the call was stopped", loop(wasmtest.Const(0), wasmtest.Const(1), wasmtest.Const(16<<20), 0xfc, 11, 0)),
		{"grows a table for ever", calling(tb, load(tb, s, growsTable(1, 65_536)), drivers.Call{}, attackDeadline), "the call was stopped"},

		{"a huge table", uploading(tb, s, hugeTable()), "134217728 entries; the limit is 65536"},
		{"a table without a bound", uploading(tb, s, growsTable(1)), "a table grows, and has no maximum"},
		{"a module for the compiler to choke on", uploading(tb, s, hostile(1, wasmtest.Code(bytes.Repeat([]byte{0x02, 0x40}, 100_000),
			bytes.Repeat([]byte{0x0b}, 100_000), wasmtest.Const(0)))), "the limit is 131072"},
		{"4 GB of memory from the start", uploading(tb, s, hostile(65_535, wasmtest.Const(0))), "memory"},
		{"expands as it starts", uploading(tb, s, expanding()), "start-up code"},
		{"data for 4 GB", uploading(tb, s, scattered(1, 42_949)), "the data segment 2 ends at byte 85899 of the memory, which has 65536"},
		{"data in 100,000 pieces", uploading(tb, s, scattered(256, 160)), "the data lies in more than 5000 pieces"},
		{"data in as many pieces as may be", taken(tb, s, pieces(5000, 6, 70)), "^taken$|start-up code did not end"},
	}
	all = append(all, reaching(tb, s), leaking(tb, s))
	return all
}

var handler = wasmtest.Func{Params: []byte{wasmtest.I32, wasmtest.I32}, Results: []byte{wasmtest.I32}}

// hostileModule is a driver whose handler runs the code; function 0 is log, 1 the handler itself.
func hostileModule(pages uint32, code []byte) *wasmtest.Module {
	return &wasmtest.Module{Functions: []wasmtest.Function{{Type: handler, Code: code}}, Pages: []uint32{pages},
		Imports: []wasmtest.Import{{Module: "twin1", Name: "log", Type: handler}},
		Exports: []wasmtest.Export{{Name: "drv_handle", Index: 1}, {Name: "memory", Kind: 2}},
		Custom:  map[string][]byte{"driver.manifest": fmt.Appendf(nil, minial, `"log"`)}}
}

func hostile(pages uint32, code []byte) []byte { return hostileModule(pages, code).Bytes() }

func hugeTable() []byte {
	m := hostileModule(1, wasmtest.Const(0))
	m.Table = []uint32{1 << 27}
	return m.Bytes()
}

// growsTable asks for one more entry of a table of such bounds, again and again.
func growsTable(bounds ...uint32) []byte {
	m := hostileModule(1, wasmtest.Code(0x03, 0x40, 0xd0, 0x70, wasmtest.Const(1), 0xfc, 15, 0, 0x1a, 0x0c, 0, 0x0b, 0x00))
	m.Table = bounds
	return m.Bytes()
}

// expanding is a file of some hundred bytes that, as it starts, takes all memory that there is, fills it, and does not end.
func expanding() []byte {
	m := hostileModule(1, wasmtest.Const(0))
	m.Exports = append(m.Exports, wasmtest.Export{Name: "_initialize", Index: 2})
	m.Functions = append(m.Functions, wasmtest.Function{Code: wasmtest.Code(0x03, 0x40,
		wasmtest.Const(1), 0x40, 0, 0x1a, // grow by a page, as long as there is one
		wasmtest.Const(0), wasmtest.Const(1), 0x3f, 0, wasmtest.Const(16), 0x74, 0xfc, 11, 0, // fill what there is
		0x0c, 0, 0x0b)})
	return m.Bytes()
}

// scattered is a file of a megabyte whose 100,000 segments of data lie so far apart in the memory.
func scattered(pages uint32, apart int) []byte { return pieces(100_000, pages, apart) }

func pieces(segments int, pages uint32, apart int) []byte {
	body := binary.AppendUvarint(nil, uint64(segments))
	for n := range segments {
		body = append(append(append(body, 0), wasmtest.Const(int32(uint32(n)*uint32(apart)))...), 0x0b, 1, 'x')
	}
	m := hostileModule(pages, wasmtest.Const(0))
	m.Extra = append(binary.AppendUvarint([]byte{11}, uint64(len(body))), body...)
	return m.Bytes()
}

// reachingHost is a twin whose driver has the capability http.
type reachingHost struct {
	host
	client drivers.HTTPClient
}

func (h *reachingHost) HTTP(ctx context.Context, r drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	return h.client.Do(ctx, r)
}

// reaching asks, by the twin's HTTP client, for what lies outside of what its twin's address and its manifest allow: the
// node's own machine, by address, by a redirect, by a name that leads there, and the cloud's metadata.
func reaching(tb testing.TB, s *drivers.Sandbox) attack {
	tb.Helper()
	var reached atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	device := httptest.NewServer(http.RedirectHandler(inside.URL, http.StatusFound))
	tb.Cleanup(inside.Close)
	tb.Cleanup(device.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(inside.URL, "http://"), ":")
	client, err := httpclient.New(transport.Options{
		Binding: drivers.Binding{Twin: "hostile/reacher", URI: device.URL, Transport: drivers.TransportOptions{Scheme: drivers.SchemeHTTP,
			HTTP: &drivers.HTTPOptions{PerMinute: 1e6, Burst: 1e6}}, HTTP: &drivers.HTTPReach{Hosts: []string{"cloud.example:" + port}}},
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = client.Close() })
	r := load(tb, s, forwarder("http", 1))
	urls := []string{inside.URL, device.URL, "http://cloud.example:" + port, "http://169.254.169.254/latest/meta-data/"}
	var next atomic.Int64
	once := func() (string, error) {
		url := urls[int(next.Add(1))%len(urls)]
		input := fmt.Appendf(nil, `{"method":"GET","url":%q,"timeout":5000}`, url)
		_, err := r.Handle(lazyDeadline{tb.Context(), time.Now().Add(attackLimit)}, drivers.Call{Tenant: "hostile", Input: input},
			&reachingHost{client: client})
		var refused *drivers.DriverError
		if n := reached.Load(); n != 0 || !errors.As(err, &refused) || refused.Code != 1 {
			return fmt.Sprint(err), fmt.Errorf("%s: %d requests reached what they must not", url, n)
		}
		return "the request is denied (-1)", nil
	}
	return attack{"reaches where it must not", once, "denied"}
}

// leaking has a driver that keeps what it is told in its memory serve one project after the other, each of which looks for
// what the others left.
func leaking(tb testing.TB, s *drivers.Sandbox) attack {
	r := load(tb, s, drivertest.Build(tb, "testdata/wild"))
	var next atomic.Int64
	once := func() (string, error) {
		project := fmt.Sprintf("project%d", next.Add(1)%8)
		call := command("keep", fmt.Sprintf("%q", "secret of "+project))
		call.Tenant = project
		e, err := r.Handle(lazyDeadline{tb.Context(), time.Now().Add(attackLimit)}, call, &host{})
		time.Sleep(attackPause)
		if err != nil {
			return "", err
		}
		if found := strings.ReplaceAll(string(e.Output), `"secret of `+project+`"`, ""); strings.Contains(found, "secret") {
			return string(e.Output), fmt.Errorf("%s sees what another left", project)
		}
		return "each project finds what it left itself, or nothing", nil
	}
	return attack{"looks for what other projects left", once, "nothing"}
}
