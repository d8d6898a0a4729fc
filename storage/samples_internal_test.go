package storage

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

// building is the sample chunk of an entry: n twins of a building that report at about the same time.
func building(n int) (chunk []byte, all []TwinSamples, samples int) {
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range n {
		t := TwinSamples{Project: "default", Twin: fmt.Sprintf("default/plug-%04d", rng.IntN(5000)), Model: "tasmota"}
		at := 1_795_000_000_000 + int64(rng.IntN(200))
		t.Samples = []Sample{
			{Property: "temperature", Time: at, Value: math.Round((20+rng.Float64()*5)*10) / 10},
			{Property: "power", Time: at, Value: float64(rng.IntN(2))},
			{Property: "energyPower", Time: at, Value: float64(rng.IntN(3000))},
		}
		chunk = binary.AppendUvarint(chunk, 0)
		chunk = appendBytes(chunk, appendSamples(nil, []TwinSamples{t}))
		all = append(all, t)
		samples += len(t.Samples)
		_ = i
	}
	return chunk, all, samples
}

func TestSampleSection(t *testing.T) {
	p := &packer{}
	for _, n := range []int{0, 1, 2, 1000} {
		chunk, all, _ := building(n)
		u := newSampleReader()
		section := p.appendChunk(nil, chunk, false)
		if n == 0 {
			if len(section) > 0 {
				t.Errorf("a section of %d bytes for nothing", len(section))
			}
			continue
		}
		got, err := u.accepted(section, func(int) bool { return false })
		if err != nil || !reflect.DeepEqual(got, all) {
			t.Errorf("%d twins: %d come back, %v", n, len(got), err)
		}
		odd, err := u.accepted(section, func(txn int) bool { return txn%2 == 0 })
		if err != nil || len(odd) != n/2 {
			t.Errorf("%d twins: %d of the odd come back, %v", n, len(odd), err)
		}
		for cut := range min(len(section), 200) {
			if _, err := u.accepted(section[:cut], func(int) bool { return false }); err == nil {
				t.Errorf("%d twins: cut at %d of %d it decodes", n, cut, len(section))
			}
		}
	}
	// What claims to unpack to more than is allowed is refused before it does.
	bomb := binary.AppendUvarint([]byte{codecS2}, maxChunk+1)
	if _, err := newSampleReader().chunk(bomb); err == nil {
		t.Error("too large a chunk is taken")
	}
}

// BenchmarkSamplesPack says what a sample costs in an entry of 1,000 twins.
func BenchmarkSamplesPack(b *testing.B) {
	chunk, _, samples := building(1000)
	p := &packer{}
	var section []byte
	for b.Loop() {
		section = p.appendChunk(section[:0], chunk, false)
	}
	b.ReportMetric(float64(len(section))/float64(samples), "B/sample")
	b.ReportMetric(float64(len(chunk))/float64(samples), "plain-B/sample")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*samples), "ns/sample")
}

// BenchmarkSamplesRead says what reading a sample back costs.
func BenchmarkSamplesRead(b *testing.B) {
	chunk, _, samples := building(1000)
	p := &packer{}
	section := p.appendChunk(nil, chunk, false)
	u := newSampleReader()
	for b.Loop() {
		if _, err := u.accepted(section, func(int) bool { return false }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*samples), "ns/sample")
}
