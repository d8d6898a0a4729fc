package automation

import (
	"math"
	"time"
)

// sunAt gives sunrise, or sunset, on a day (of which only the date counts) at a place, by the sunrise equation as in the Astronomical
// Almanac's approximation: within two minutes between the polar circles. ok is false where the sun does not rise or set that day.
func sunAt(day time.Time, latitude, longitude float64, set bool) (at time.Time, ok bool) {
	const (
		degree   = math.Pi / 180
		tilt     = 23.4397 // of the earth's axis
		horizon  = -0.833  // the sun's centre when its edge shows, refraction included
		perigee  = 102.9372
		daySec   = 86400
		noon2000 = 946728000 // 2000-01-01T12:00Z, in seconds since 1970
	)
	date := time.Date(day.Year(), day.Month(), day.Day(), 12, 0, 0, 0, time.UTC)
	n := float64(date.Unix()-noon2000)/daySec - longitude/360 // mean solar noon, in days
	anomaly := math.Mod(357.5291+0.98560028*n, 360) * degree
	center := 1.9148*math.Sin(anomaly) + 0.02*math.Sin(2*anomaly) + 0.0003*math.Sin(3*anomaly)
	ecliptic := math.Mod(anomaly/degree+center+180+perigee, 360) * degree
	transit := n + 0.0053*math.Sin(anomaly) - 0.0069*math.Sin(2*ecliptic)
	declination := math.Asin(math.Sin(ecliptic) * math.Sin(tilt*degree))
	phi := latitude * degree
	cos := (math.Sin(horizon*degree) - math.Sin(phi)*math.Sin(declination)) / (math.Cos(phi) * math.Cos(declination))
	if cos < -1 || cos > 1 || math.IsNaN(cos) {
		return time.Time{}, false
	}
	hours := math.Acos(cos) / degree / 360
	if !set {
		hours = -hours
	}
	return time.Unix(noon2000, 0).Add(time.Duration((transit + hours) * daySec * float64(time.Second))).Truncate(time.Second).UTC(), true
}
