package expr

import (
	"math"
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/actors/state"
)

// Point is a place on earth, in degrees (WGS 84).
type Point struct{ Lat, Lon float64 }

// Valid says whether there is such a place.
func (p Point) Valid() bool { return p.Lat >= -90 && p.Lat <= 90 && p.Lon >= -180 && p.Lon <= 180 }

// earth is its mean radius, in metres.
const earth = 6_371_008.8

// Distance is how far two places are apart, in metres, on a sphere: at most 0.5 % off.
func Distance(a, b Point) float64 {
	const rad = math.Pi / 180
	s, t := math.Sin((b.Lat-a.Lat)*rad/2), math.Sin((b.Lon-a.Lon)*rad/2)
	h := s*s + math.Cos(a.Lat*rad)*math.Cos(b.Lat*rad)*t*t
	return 2 * earth * math.Asin(math.Sqrt(min(h, 1)))
}

// Inside says whether a place is in a polygon, whose corners are given in their order. Two corners are those of a box that lie
// across; one whose first corner is east of the second by more than half of the earth goes over the date line, from the first on
// eastwards. A polygon does not go over the poles or the date line.
func Inside(p Point, corners []Point) bool {
	if len(corners) == 2 {
		a, b := corners[0], corners[1]
		switch {
		case p.Lat < min(a.Lat, b.Lat) || p.Lat > max(a.Lat, b.Lat):
			return false
		case a.Lon-b.Lon > 180:
			return p.Lon >= a.Lon || p.Lon <= b.Lon
		}
		return p.Lon >= min(a.Lon, b.Lon) && p.Lon <= max(a.Lon, b.Lon)
	}
	in := false
	for i, j := 0, len(corners)-1; i < len(corners); j, i = i, i+1 {
		a, b := corners[i], corners[j]
		if (a.Lat > p.Lat) != (b.Lat > p.Lat) && p.Lon < (b.Lon-a.Lon)*(p.Lat-a.Lat)/(b.Lat-a.Lat)+a.Lon {
			in = !in
		}
	}
	return in
}

// ParsePoint reads a place: an object with lat and lon (or latitude and longitude, or lng), a GeoJSON point, or a text such as
// 52.52,13.40.
func ParsePoint(a any) (Point, bool) {
	switch a := a.(type) {
	case string:
		lat, lon, ok := strings.Cut(a, ",")
		x, err1 := strconv.ParseFloat(strings.TrimSpace(lat), 64)
		y, err2 := strconv.ParseFloat(strings.TrimSpace(lon), 64)
		p := Point{x, y}
		return p, ok && err1 == nil && err2 == nil && p.Valid()
	case map[string]any:
		if c, ok := a["coordinates"].([]any); ok && len(c) >= 2 {
			lon, ok1 := c[0].(float64)
			lat, ok2 := c[1].(float64)
			p := Point{lat, lon}
			return p, ok1 && ok2 && p.Valid()
		}
		lat, ok1 := number(a, "lat", "latitude")
		lon, ok2 := number(a, "lon", "lng", "longitude")
		p := Point{lat, lon}
		return p, ok1 && ok2 && p.Valid()
	}
	return Point{}, false
}

func number(m map[string]any, names ...string) (float64, bool) {
	for _, n := range names {
		if f, ok := m[n].(float64); ok {
			return f, true
		}
	}
	return 0, false
}

// Location is where a twin is: as its state says (Locate), else as its label location does.
func (t *Twin) Location() (Point, bool) {
	if p, ok := Locate(t.record()); ok {
		return p, true
	}
	return ParsePoint(t.Config.Labels["location"])
}

// Locate reads a place out of a state: the property location, position or gps, else the properties lat and lon (latitude,
// longitude).
func Locate(r *state.Record) (Point, bool) {
	var lat, lon *state.Value
	for i := range r.Properties {
		p := &r.Properties[i]
		switch p.Name.Value() {
		case "location", "position", "gps":
			if p.Value.Kind() != state.JSON && p.Value.Kind() != state.String {
				continue // the position of a blind
			}
			if at, ok := ParsePoint(p.Value.Any()); ok {
				return at, true
			}
		case "lat", "latitude":
			lat = &p.Value
		case "lon", "lng", "longitude":
			lon = &p.Value
		}
	}
	if lat != nil && lon != nil && lat.Kind() == state.Number && lon.Kind() == state.Number {
		x, _ := lat.Sample()
		y, _ := lon.Sample()
		if p := (Point{x, y}); p.Valid() {
			return p, true
		}
	}
	return Point{}, false
}
