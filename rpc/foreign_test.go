package rpc_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/polluxhq/pollux/test/harness"
)

// TestForeignByEveryProcedure calls every procedure with keys of one project and requests made up of its things, another project's, and others. No answer
// and no stream has a word of the other project, none tells whether a thing of it is there, and nothing of it changes.
func TestForeignByEveryProcedure(t *testing.T) {
	harness.Seeds(t, 1, func(t *testing.T, seed uint64) {
		f := openForeign(t, seed)
		before := f.awaitStill()
		all := proceduresOf(t)
		for round := range 3 {
			if round == 1 { // its rules and routes have something to do
				f.again()
			}
			for _, m := range all {
				f.once(m, string(f.request(m)))
			}
			for _, x := range f.deliberate() {
				name, body, _ := strings.Cut(x, " ")
				m, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("pollux.v1." + strings.ReplaceAll(name, "/", ".")))
				if err != nil {
					t.Fatal(err)
				}
				f.once(m.(protoreflect.MethodDescriptor), body)
			}
		}
		for _, m := range all {
			reads := m.Options().(*descriptorpb.MethodOptions).GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS && strings.HasPrefix(string(m.Name()), "List")
			if reads && m.Name() != "ListJoinTokens" && f.asked[string(m.FullName())] == 0 {
				t.Errorf("%s never gave a list", m.FullName())
			}
		}
		f.untouched(before)
	})
}

func proceduresOf(t *testing.T) (all []protoreflect.MethodDescriptor) {
	t.Helper()
	protoregistry.GlobalFiles.RangeFilesByPackage("pollux.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			for j := range f.Services().Get(i).Methods().Len() {
				all = append(all, f.Services().Get(i).Methods().Get(j))
			}
		}
		return true
	})
	slices.SortFunc(all, func(a, b protoreflect.MethodDescriptor) int {
		return strings.Compare(string(a.FullName()), string(b.FullName()))
	})
	return all
}

// once sends a request with a key of the hall, and where it names a thing of the vault, the same with one that is not there.
func (f *foreign) once(m protoreflect.MethodDescriptor, body string) {
	t := f.t
	t.Helper()
	who := pickOf(f.random, []string{"admin", "admin", "admin", "operator", "viewer"})
	theirs := strings.Contains(body, f.vault)
	if name := string(m.Name()); strings.HasPrefix(name, "Delete") && !theirs && f.random.IntN(4) > 0 {
		return // or there would soon be nothing left
	}
	body = f.current(m, body)
	status, got := f.connect(f.keys[who], m, body)
	if status == http.StatusOK {
		f.asked[string(m.FullName())]++
	}
	if s := f.tells(got); s != "" {
		f.errorf(string(m.FullName())+" tells", "%s by %s: %.600s\ntells %s: %d %.1500s", m.FullName(), who, body, s, status, around(got, s))
	}
	if strings.HasPrefix(string(m.Name()), "Delete") && status == http.StatusOK {
		f.again()
	}
	nobody := strings.ReplaceAll(body, f.vault+"/pump", f.vault+"/nope")
	reads := m.Options().(*descriptorpb.MethodOptions).GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
	if nobody == body || status == http.StatusOK && !reads || m.IsStreamingServer() {
		return
	}
	// What of several wrong things is told first may be by chance.
	var status2 int
	var got2 []byte
	for try := 0; ; try++ {
		status2, got2 = f.connect(f.keys[who], m, nobody)
		if same := status == status2 && (status == http.StatusOK || message(got) == message(got2)); same || try == 20 {
			break
		}
		if try%2 == 1 {
			status, got = f.connect(f.keys[who], m, body)
		}
	}
	if status != status2 || status != http.StatusOK && message(got) != message(got2) {
		f.errorf(string(m.FullName()), "%s by %s: %.600s\ntells what is there: %d %.500s\nwhat is not there: %d %.500s", m.FullName(), who, body, status, got, status2, got2)
	}
}

// again makes what was deleted or spoiled of the hall.
func (f *foreign) again() {
	for _, x := range things(f.hall, "plain", fmt.Sprint(20+f.random.IntN(100))) {
		f.call(f.t, f.admin, x[0], x[1])
	}
}

var ownRevision = regexp.MustCompile(`"revision": ?"([0-9]+)"`)

// current has the request name the present revision of the hall's thing that it changes: what is wrong with it otherwise is not told by an older one.
func (f *foreign) current(m protoreflect.MethodDescriptor, body string) string {
	kind := strings.TrimPrefix(strings.TrimPrefix(string(m.Name()), "Update"), "Put")
	var all map[string]map[string]any
	if kind == string(m.Name()) || json.Unmarshal([]byte(body), &all) != nil || len(all) != 1 {
		return body
	}
	for _, thing := range all {
		id, _ := thing["id"].(string)
		if strings.HasPrefix(id, f.hall+"/") {
			_, got := f.call(f.t, f.admin, fmt.Sprintf("/%s/Get%s", m.Parent().FullName(), kind), fmt.Sprintf(`{"id":%q}`, id))
			if r := ownRevision.FindStringSubmatch(got); r != nil {
				thing["revision"] = r[1]
			}
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(text)
}

// errorf says the first of what is wrong with one procedure in one way.
func (f *foreign) errorf(what, format string, args ...any) {
	f.t.Helper()
	if f.asked["wrong "+what]++; f.asked["wrong "+what] == 1 {
		f.t.Errorf(format, args...)
	}
}

// message is the error's text: what stands in binary beside it says the same.
func message(answer []byte) string {
	var e struct{ Code, Message string }
	_ = json.Unmarshal(answer, &e)
	return e.Code + " " + strings.ReplaceAll(e.Message, "nope", "pump")
}

func around(text []byte, word string) []byte {
	at := bytes.Index(bytes.ToLower(text), []byte(strings.ToLower(word)))
	return text[max(0, at-300):min(len(text), max(at, 0)+300)]
}

// connect calls a procedure. Of streams it reads what comes within a moment.
func (f *foreign) connect(key string, m protoreflect.MethodDescriptor, body string) (int, []byte) {
	f.t.Helper()
	path := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		status, got := f.call(f.t, key, path, body)
		return status, []byte(got)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))
	frame = append(frame, body...)
	if m.IsStreamingClient() {
		frame = append(frame, frame...)
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), 80*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+path, bytes.NewReader(frame))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/connect+json")
	res, err := f.http(key).Do(r)
	if err != nil {
		return 0, nil // it has nothing to say
	}
	defer res.Body.Close()
	got, _ := io.ReadAll(res.Body)
	if bytes.Contains(got, []byte(`{"error"`)) {
		return http.StatusForbidden, got
	}
	return res.StatusCode, got
}

// request makes one up: as one that makes something in the hall, with another's name in it, or field by field.
func (f *foreign) request(m protoreflect.MethodDescriptor) []byte {
	var like []string
	for _, x := range things(f.hall, "plain", "21.5") {
		if strings.HasSuffix(x[0], "/"+string(m.Name())) || strings.TrimPrefix(string(m.Name()), "Update") == x[0][strings.LastIndex(x[0], "/Create")+7:] {
			like = append(like, x[1])
		}
	}
	if len(like) > 0 && f.random.IntN(3) > 0 {
		body := pickOf(f.random, like)
		for range 1 + f.random.IntN(2) {
			old := pickOf(f.random, []string{f.hall + "/pump", f.hall + "/echo", `"` + f.hall + `"`, `"pump"`, `"echo"`, `"pump"`})
			if n := strings.Count(body, old); n > 0 {
				body = replaceNth(body, old, f.quotedLike(old), f.random.IntN(n))
			}
		}
		return []byte(body)
	}
	f.sparse = f.random.IntN(3) > 0
	text, err := json.Marshal(f.message(m.Input(), 0))
	if err != nil {
		f.t.Fatal(err)
	}
	return text
}

func (f *foreign) quotedLike(old string) string {
	id := f.id()
	if text, err := json.Marshal(id); err == nil && strings.HasPrefix(old, `"`) {
		return string(text)
	}
	return strings.Trim(id, "\x00\" ")
}

func replaceNth(text, old, by string, n int) string {
	at := 0
	for ; n >= 0; n-- {
		at += strings.Index(text[at:], old) + 1
	}
	return text[:at-1] + by + text[at-1+len(old):]
}

// id is of something own, of the vault's, of nobody's, or written in a way that could be taken for another.
func (f *foreign) id() string {
	h, v := f.hall, f.vault
	switch f.random.IntN(8) {
	case 0, 1, 2:
		return pickOf(f.random, []string{"pump", h + "/pump", h + "/pump", h + "/pump", h + "/echo", h + "/sum", h + "/nope"})
	case 3, 4, 5:
		return pickOf(f.random, []string{v + "/pump", v + "/pump", v + "/pump", v + "/echo", v + "/sum", v + "/nope"})
	}
	return pickOf(f.random, []string{v + "/pump/feeds/echo", v + "/plant/serial/stranger", v + "/pump.dead", "zone:" + v + "/pump", "system:" + v + "/pump", v, v + "/", "/" + v + "/pump",
		v + "/pump/", v + "//pump", h + "/../" + v + "/pump", v + "/../" + h + "/pump", h + "/" + v + "/pump", v + "%2Fpump", strings.ToUpper(v) + "/pump", strings.ToUpper(v + "/pump"),
		" " + v + "/pump", v + "/pump ", "*", "*/*", "*/pump", v + "/*", "", "/", "/pump", "./" + v + "/pump", v + "/pump\x00", h + "\x00/pump", v + "/./pump", h + "*/pump", h + "-*",
		"../" + v + "/pump", v + "\\pump", "echo@" + v, "%", "_", v + "/pump/level", v + ":pump", h + "/pump," + v + "/pump", v + ".pump"})
}

// expressions ask after the vault's twins in each way that there is.
func (f *foreign) expression() string {
	return strings.NewReplacer("V", f.vault, "H", f.hall).Replace(pickOf(f.random, []string{"true", "twin.id != ''", "twin.project == 'V'", "twin.id.startsWith('V') || true", "entry.project != 'x'",
		"twins('V/pump').level > 0.0", "avg(twins('V/pump', 'V/echo').level) > 0.0", "count(zone('V/pump').twins()) > 0", "count(system('V/pump').twins()) > 0", "sum(related('-feeds').level) > 0.0",
		"count(related('feeds')) > 0", "count(zone.twins()) > 0", "first(twins('V/pump').text) != ''", "max(zone('V/pump').twins('V/pump').level)", "first(system('V/pump').twins('Pump_1').text)",
		"first(twins('../V/pump').text)", "value > 0", "message.topic == 'V/pump'", "twin('V/pump').properties.level > 0.0", "twin['V/pump'].level > 0.0", "history('V/pump','level','1h') > 0.0",
		"first(twins('V/pump').text)", "sum(twins('V/pump').level)"}))
}

// message fills fields at random, by their names.
func (f *foreign) message(d protoreflect.MessageDescriptor, depth int) any {
	switch d.FullName() {
	case "google.protobuf.Timestamp":
		return time.Now().Add(-time.Duration(f.random.IntN(3)) * time.Hour).UTC().Format(time.RFC3339)
	case "google.protobuf.Duration":
		return pickOf(f.random, []string{"1s", "60s", "3600s"})
	case "google.protobuf.Struct":
		return map[string]any{"topic": f.id(), "greeting": f.expression()}
	case "google.protobuf.Value":
		return pickOf(f.random, []any{f.id(), 21.5, map[string]any{"text": f.id()}, nil, true})
	}
	out := map[string]any{}
	for i := range d.Fields().Len() {
		x := d.Fields().Get(i)
		if o := x.ContainingOneof(); o != nil && !o.IsSynthetic() {
			if o.Fields().Get(0) == x && o.Fields().Len() > 0 {
				x = o.Fields().Get(f.random.IntN(o.Fields().Len()))
			} else {
				continue
			}
		}
		optional := depth == 0 && f.random.IntN(3) == 0 || depth > 0 && f.random.IntN(2) == 0
		if f.sparse { // what names a thing, and little else
			optional = f.random.IntN(6) > 0
		}
		needed := []protoreflect.Name{"id", "project", "scope", "topic", "twin", "notifier", "channel", "alias", "network", "key", "value", "property", "name", "step", "driver", "filter", "reader"}
		if depth > 4 || x.Name() == "quotas" || optional && !slices.Contains(needed, x.Name()) {
			continue
		}
		switch {
		case x.IsMap():
			name := pickOf(f.random, []string{"common", "level", "derived", "text"})
			out[x.JSONName()] = map[string]any{name: f.value(x.MapValue(), depth)}
			if x.Name() == "derived" {
				out[x.JSONName()] = map[string]any{name: f.expression()}
			}
		case x.IsList():
			list := []any{}
			for range f.random.IntN(3) {
				list = append(list, f.value(x, depth))
			}
			out[x.JSONName()] = list
		default:
			out[x.JSONName()] = f.value(x, depth)
		}
	}
	return out
}

func (f *foreign) value(x protoreflect.FieldDescriptor, depth int) any {
	switch x.Kind() {
	case protoreflect.MessageKind:
		return f.message(x.Message(), depth+1)
	case protoreflect.EnumKind:
		return x.Enum().Values().Get(f.random.IntN(x.Enum().Values().Len())).Number()
	case protoreflect.BoolKind:
		return f.random.IntN(2) == 0
	case protoreflect.BytesKind:
		return base64.StdEncoding.EncodeToString([]byte(pickOf(f.random, []string{`{"level":1}`, spyLogic("spy", f.vault), "x"})))
	case protoreflect.StringKind:
		return f.text(string(x.Name()))
	}
	return pickOf(f.random, []int{0, 0, 1, 2, 20})
}

// text of a field, by its name.
func (f *foreign) text(name string) string {
	pick := func(s ...string) string { return pickOf(f.random, s) }
	switch name {
	case "project":
		return pick(f.hall, f.hall, f.hall, "", f.vault, f.vault, "*", strings.ToUpper(f.vault), f.vault+"/", f.hall+"/../"+f.vault, f.id())
	case "page_token":
		return pick("", "", pickOf(f.random, f.tokens))
	case "where", "when", "if", "until", "expr", "input_expr":
		return pick("", f.expression())
	case "query", "text":
		return pick("", "quok", "pump", f.vault, "kka")
	case "id", "twin", "topic", "notifier", "name", "parent":
		if f.random.IntN(2) == 0 {
			return pick("pump", f.hall+"/pump", f.hall+"/pump", f.vault+"/pump")
		}
	case "scenario":
		return pick("twins: ["+f.id()+"]\nvalues: {level: {keys: {0s: 1}}}", "twins: [pump]\nrecord: {twin: "+f.id()+", properties: [level, text], from: -1h, to: now}", "twins: [pump]\nrecord: {twin: "+f.vault+"/pump}",
			"name: "+f.vault+"/s{n}\ncount: 2\nvalues: {level: {keys: {0s: 1}}}")
	case "path":
		return pick(f.hall, f.hall+"/pump/pump", f.id(), f.vault+"/pump/pump", f.hall+"/pump/feeds/"+f.vault+"/pump", f.hall+"/pump/../../"+f.vault+"/pump")
	case "kind", "kinds":
		return pick("twin", "model", "zone", "system", "inbox", "topic", "route", "sink", "source", "simulation", "alias", "relation", "project", "schedule", "rule", "alarm", "detector", "notifier", "driver",
			"key", "node", "slot", "event", "logic", "value", "command", "config")
	case "property", "names", "properties":
		return pick("level", "text")
	case "action":
		return pick("say", "echo", "count")
	case "aggregate":
		return pick("", "avg", "max", "last", "count")
	case "group_by":
		return pick("zone", "model", "label:floor", "project")
	case "driver":
		return pick("", "echo", "echo", "echo", "echo@1.0.0", f.id())
	case "role":
		return pick("viewer", "operator", "admin", "device")
	case "type":
		return pick("feeds", "-feeds", "feeds")
	case "channel":
		return "pump"
	case "network":
		return "plant"
	case "key":
		return pick("serial", "level", "pump")
	case "value":
		return pick("7", "8", "stranger", f.id())
	case "event":
		return pick("message", "load", "subscription", "rang")
	case "url":
		return pick("file:"+f.vault, "file:../"+f.vault, "file:pump")
	case "thing_json":
		return strings.ReplaceAll(foreignModel, "WORD", f.vault)
	case "selector", "cron", "time_zone", "unit", "output":
		return ""
	case "near", "zone_id", "twin_id":
		return f.vault + "/pump"
	}
	return f.id()
}

// spyLogic is code that reaches for a project in each way that logic has.
func spyLogic(name, project string) string {
	return strings.NewReplacer("NAME", name, "V", project).Replace(`export default logic({ name: 'NAME', version: '1.0.0', properties: { seen: 'string' },
	load(twin) { for (const id of ['V/pump', '../V/pump', 'V/echo']) { try { twin.other(id).subscribe('text'); } catch (e) { twin.log(String(e)); } } },
	async changed(twin, x) { twin.report('seen', JSON.stringify(x)); },
	async run(message, context) { const all = [];
		for (const id of ['V/pump', '../V/pump', 'V/echo']) {
			try { all.push(await context.other(id).get('text')); } catch (e) { all.push(String(e)); }
			try { all.push(await context.other(id).call('say', { text: 'x' })); } catch (e) { all.push(String(e)); }
			try { await context.other(id).set('level', 1); } catch (e) { all.push(String(e)); }
		}
		return context.replace({ all }); } });`)
}
