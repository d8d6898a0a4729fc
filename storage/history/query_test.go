package history

import (
	"math"
	"slices"
	"testing"
)

func TestExportLine(t *testing.T) {
	read := func(line string) (series string, points []Point, err error) {
		err = exportLine([]byte(line), func(s []byte) func(int64, float64) {
			series = string(s)
			return func(at int64, v float64) { points = append(points, Point{at, v}) }
		})
		return
	}
	// A label that looks like the end of the labels.
	label := `{"metric":{"twin":"x\",\"values\":[1],\"timestamps\":[2]"}`
	series, points, err := read(label + `,"values":[1,-2.5e3,"Infinity",-Inf,+Inf,null],"timestamps":[10,20,30,40,50,60]}` + "\n")
	want := []Point{{10, 1}, {20, -2500}, {30, math.Inf(1)}, {40, math.Inf(-1)}, {50, math.Inf(1)}}
	if err != nil || series != label || !slices.Equal(points, want) {
		t.Errorf("got %q %v %v, want %v", series, points, err, want)
	}
	for _, line := range []string{"", "{}", `{"metric":{},"values":[1]}`, `{"metric":{},"values":[x],"timestamps":[1]}`,
		`{"metric":{},"values":[],"timestamps":[1]}`, `{"metric":{},"values":[1],"timestamps":[1.5]}`, `{"error":"x"}`} {
		if _, points, err := read(line); err == nil {
			t.Errorf("%q: got %v", line, points)
		}
	}
}

func FuzzExportLine(f *testing.F) {
	f.Add([]byte(`{"metric":{"a":"b"},"values":[1,null],"timestamps":[1,2]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		_ = exportLine(line, func([]byte) func(int64, float64) {
			return func(at int64, v float64) {
				if math.IsNaN(v) {
					t.Errorf("not a number at %d", at)
				}
			}
		})
	})
}

// TestRingKeepsOneOfEqualPoints: a sample that was sent twice must not push another one out.
func TestRingKeepsOneOfEqualPoints(t *testing.T) {
	r := ring{limit: 2}
	for _, p := range []Point{{1, 1}, {1, 1}, {2, 1}, {2, 2}, {2, 2}} {
		r.add(p)
	}
	if got := r.points(); !slices.Equal(got, []Point{{2, 1}, {2, 2}}) {
		t.Errorf("got %v", got)
	}
}

func TestRing(t *testing.T) {
	for _, n := range []int{0, 1, 3, 4, 5, 11} {
		r := ring{limit: 4}
		var want []Point
		for i := range n {
			r.add(Point{int64(i), float64(i)})
			want = append(want, Point{int64(i), float64(i)})
		}
		want = want[max(0, n-4):]
		if got := r.points(); !slices.Equal(got, want) {
			t.Errorf("%d points: got %v", n, got)
		}
	}
}
