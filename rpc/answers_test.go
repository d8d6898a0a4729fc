package rpc_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// known is a project whose samples a test made and kept, so that it can compute each answer itself.
type known struct {
	h       *house
	project string
	random  *rand.Rand
	begin   time.Time // whole hours
	twins   []*knownTwin
}

// knownSpan is the time that has samples, behind begin.
const knownSpan = 8 * time.Hour

type knownTwin struct {
	id, zone, model, title, floor string
	// unit of the temperature.
	unit string
	// numbers by property, and modes, oldest first. Of numbers of one time there is the highest.
	numbers map[string][]knownPoint
	modes   []knownText
}

type knownPoint struct {
	ms    int64
	value float64
}

type knownText struct {
	ms   int64
	text string
}

const knownModel = `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"%s room","properties":{
	"temperature":{"type":"number","unit":"%[1]s","readOnly":true},"energy":{"type":"number","unit":"kW.h","readOnly":true},
	"on":{"type":"boolean","readOnly":true},"mode":{"type":"string","readOnly":true}}}`

// knownModes are hard to write down.
var knownModes = []string{"auto", "", `say "no", 'yes'`, "two\nlines\r\n", "ünï→🙂", "a,b;c\td", "null", "<&>", `back\slash`}

// knownPast sends eight hours of a few twins: in order, late, and as messages of the past, at the ends of minutes, and several at one time.
func knownPast(t *testing.T, seed uint64) *known {
	k := &known{h: openHouse(t), project: fresh("known"), random: rand.New(rand.NewPCG(seed, 1)), begin: time.Now().Add(-knownSpan - time.Hour).Truncate(time.Hour)}
	models := rpcv1.NewModelServiceClient(k.h.http(k.h.admin), k.h.url)
	for name, unit := range map[string]string{"celsius": "Cel", "fahrenheit": "[degF]"} {
		if _, err := models.CreateModel(t.Context(), req(&pb.CreateModelRequest{Model: &pb.Model{Id: k.project + "/" + name, ThingJson: fmt.Sprintf(knownModel, unit)}})); err != nil {
			t.Fatal(err)
		}
	}
	for _, zone := range []string{"east", "west"} {
		if _, err := rpcv1.NewSiteServiceClient(k.h.http(k.h.admin), k.h.url).PutZone(t.Context(), req(&pb.PutZoneRequest{Zone: &pb.Zone{Id: k.project + "/" + zone}})); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 6 {
		w := &knownTwin{id: fmt.Sprintf("%s/t%d", k.project, i), model: k.project + "/celsius", unit: "Cel", zone: k.project + "/east", floor: fmt.Sprint(i % 3), numbers: map[string][]knownPoint{}}
		if i%3 == 2 {
			w.model, w.unit = k.project+"/fahrenheit", "[degF]"
		}
		if i%2 == 1 {
			w.zone = k.project + "/west"
		}
		w.title = w.unit + " room"
		if _, err := k.h.twins(k.h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: w.id, Model: w.model, Zone: w.zone,
			Labels: map[string]string{"floor": w.floor}}})); err != nil {
			t.Fatal(err)
		}
		k.twins = append(k.twins, w)
		k.send(t, w)
	}
	k.await(t)
	return k
}

// times gives moments of the span, about so far apart: many of them where steps end, or next to that.
func (k *known) times(apart time.Duration) (all []int64) {
	end := k.begin.Add(knownSpan).UnixMilli()
	for at := k.begin.UnixMilli() + k.random.Int64N(apart.Milliseconds()); at < end; at += 1 + k.random.Int64N(2*apart.Milliseconds()) {
		switch k.random.IntN(6) {
		case 0:
			all = append(all, at-at%60_000)
		case 1:
			all = append(all, at-at%60_000+1)
		case 2:
			all = append(all, at, at) // one will be the higher
		default:
			all = append(all, at)
		}
		if k.random.IntN(60) == 0 {
			at += time.Hour.Milliseconds()
		}
	}
	slices.Sort(all)
	return all
}

// send makes a twin's past.
func (k *known) send(t *testing.T, w *knownTwin) {
	var live, past []string
	line := func(property string, value any, ms int64, historical bool) string {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"data":{%q:%s},"time":%d,"historical":%v}`, property, text, ms, historical)
	}
	number := func(property string, ms int64, value float64) {
		w.numbers[property] = append(w.numbers[property], knownPoint{ms, value})
	}
	for i, ms := range k.times(90 * time.Second) {
		// None twice, as what is told again is kept once a minute only, and of few digits, as history keeps no more than fifteen.
		value := math.Round(k.random.NormFloat64()*1e5+float64(i)) / 1e4
		number("temperature", ms, value)
		if k.random.IntN(2) == 0 {
			past = append(past, line("temperature", value, ms, true))
		} else {
			live = append(live, line("temperature", value, ms, false))
		}
	}
	for i := range live { // some come late
		if j := i + k.random.IntN(4); j < len(live) && k.random.IntN(10) == 0 {
			live[i], live[j] = live[j], live[i]
		}
	}
	total := 1e6
	for _, ms := range k.times(11 * time.Minute) {
		total += float64(k.random.IntN(50)) / 8
		number("energy", ms, total)
		past = append(past, line("energy", total, ms, true))
	}
	for _, ms := range k.times(5 * time.Minute) {
		on := k.random.IntN(2)
		number("on", ms, float64(on))
		past = append(past, line("on", on == 1, ms, true))
	}
	k.random.Shuffle(len(past), func(i, j int) { past[i], past[j] = past[j], past[i] })
	for _, ms := range k.times(4 * time.Minute) {
		mode := knownModes[k.random.IntN(len(knownModes))]
		w.modes = append(w.modes, knownText{ms, mode})
		past = append(past, line("mode", mode, ms, true))
	}
	for name, points := range w.numbers {
		slices.SortFunc(points, func(a, b knownPoint) int { return cmp.Or(cmp.Compare(a.ms, b.ms), cmp.Compare(b.value, a.value)) })
		w.numbers[name] = slices.CompactFunc(points, func(a, b knownPoint) bool { return a.ms == b.ms })
	}
	for part := range slices.Chunk(slices.Concat(live, past), 1000) {
		if status, a := k.h.ingest(t, k.h.admin, w.id, strings.Join(part, "\n")); status != http.StatusOK || a.Stored != uint64(len(part)) {
			t.Fatalf("status %d, stored %d of %d: %+v", status, a.Stored, len(part), a)
		}
	}
}

// await waits until history and journal have all.
func (k *known) await(t *testing.T) {
	t.Helper()
	samples, texts := 0, 0
	for _, w := range k.twins {
		for _, points := range w.numbers {
			samples += len(points)
		}
		texts += len(w.modes)
	}
	for what, want := range map[string]int{"samples": samples, "journal&kind=value": texts} {
		got := 0
		for deadline := time.Now().Add(patience); got != want; time.Sleep(50 * time.Millisecond) {
			got = strings.Count(k.export(t, "json", what, k.begin, k.begin.Add(knownSpan)), "\n")
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d lines, want %d", what, got, want)
			}
		}
	}
}

// export gives the project's export of a time, both ends included.
func (k *known) export(t *testing.T, format, what string, start, end time.Time) string {
	t.Helper()
	stamp := func(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }
	status, text, _ := k.h.get(t, fmt.Sprintf("/v1/history/%s/export?format=%s&what=%s&start=%s&end=%s", k.project, format, what, stamp(start), stamp(end)), k.h.admin)
	if status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", format, what, status, text)
	}
	return text
}

// between gives those of points, oldest first, that are after a time and not after another.
func between(points []knownPoint, after, until int64) []knownPoint {
	from, _ := slices.BinarySearchFunc(points, after+1, func(p knownPoint, ms int64) int { return cmp.Compare(p.ms, ms) })
	to, _ := slices.BinarySearchFunc(points, until+1, func(p knownPoint, ms int64) int { return cmp.Compare(p.ms, ms) })
	return points[from:max(from, to)]
}

// schoolbook computes an aggregate of the samples of a step, which there are; before are those before it.
func schoolbook(aggregate string, of, before []knownPoint, step float64) float64 {
	values := make([]float64, len(of))
	sum, squares := 0., 0.
	for i, p := range of {
		values[i] = p.value
		sum += p.value
	}
	n := float64(len(of))
	for _, v := range values {
		squares += (v - sum/n) * (v - sum/n)
	}
	switch aggregate {
	case "", "avg":
		return sum / n
	case "sum":
		return sum
	case "count":
		return n
	case "min":
		return slices.Min(values)
	case "max":
		return slices.Max(values)
	case "dev":
		return math.Sqrt(squares / n)
	case "first":
		return values[0]
	case "last":
		return values[len(values)-1]
	case "delta", "rate":
		from := values[0]
		if len(before) > 0 {
			from = before[len(before)-1].value
		}
		if aggregate == "delta" {
			step = 1
		}
		return (values[len(values)-1] - from) / step
	}
	var p float64
	if _, err := fmt.Sscanf(aggregate, "p%g", &p); err != nil {
		panic(err)
	}
	slices.Sort(values)
	at := p / 100 * (n - 1)
	low := int(math.Floor(at))
	return values[low] + (values[min(low+1, len(values)-1)]-values[low])*(at-math.Floor(at))
}

// alike says whether two numbers are the same but for what computing and storing costs, at a scale.
func alike(a, b, scale float64) bool {
	return math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1e-9*max(1, math.Abs(scale), math.Abs(b))
}
