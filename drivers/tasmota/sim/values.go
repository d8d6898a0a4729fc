package sim

import (
	"math"
	"time"
)

// energy is a plug's meter.
type energy struct {
	load                    float64 // watts of what is plugged in
	total, today, yesterday float64 // kWh
	read                    time.Time
	day                     int
	watts, volts            float64
}

func newEnergy(total, load float64) energy {
	return energy{load: load, total: total, yesterday: load * 9 / 1000, read: time.Now(), volts: 230}
}

// clock is the time of the simulated day: how many days have passed since 1970, with their fraction.
func (d *Device) clock(now time.Time) float64 {
	return float64(now.UnixNano()) / float64(d.sim.o.Day)
}

// wave is a slow swing of a value between -1 and 1, different for each device and name.
func (d *Device) wave(now time.Time, seconds float64) float64 {
	t := float64(now.UnixMilli()) / 1000 / seconds
	return 0.6*math.Sin(2*math.Pi*(t+d.phase)) + 0.4*math.Sin(2*math.Pi*(t*2.7+d.phase*5))
}

// dayCurve goes from -1 at four in the morning to 1 at four in the afternoon.
func (d *Device) dayCurve(now time.Time) float64 {
	_, f := math.Modf(d.clock(now))
	return math.Sin(2 * math.Pi * (f - 10.0/24))
}

// office is 0 at night and 1 in working hours, with slopes.
func (d *Device) office(now time.Time) float64 {
	_, f := math.Modf(d.clock(now))
	h := f * 24
	return max(0, min(1, h-7, 19-h))
}

// meter brings the meter up to now. The caller holds the lock.
func (d *Device) meter(now time.Time) {
	e := &d.energy
	days := now.Sub(e.read).Seconds() / d.sim.o.Day.Seconds()
	kwh := e.watts * days * 24 / 1000
	if day := int(d.clock(now)); day != e.day {
		if e.day != 0 {
			e.yesterday, e.today = e.today, 0
		}
		e.day = day
	}
	e.total += kwh
	e.today += kwh
	e.read = now
	e.volts = 230 + 3*d.wave(now, 47)
	e.watts = 0
	if d.relays > 0 && d.power[0] {
		e.watts = e.load * (0.35 + 0.55*d.office(now) + 0.1*d.wave(now, 31))
	}
}

func (d *Device) energyJSON(now time.Time) string {
	d.meter(now)
	e := &d.energy
	var o object
	o.text("TotalStartTime", "2026-01-01T00:00:00")
	o.number("Total", e.total, 3)
	o.number("Yesterday", e.yesterday, 3)
	o.number("Today", e.today, 3)
	o.whole("Period", 0)
	factor := 0.0
	if e.watts > 0 {
		factor = 0.92
	}
	o.whole("Power", int(math.Round(e.watts)))
	apparent := 0.0
	if factor > 0 {
		apparent = e.watts / factor
	}
	o.whole("ApparentPower", int(math.Round(apparent)))
	o.whole("ReactivePower", int(math.Round(math.Sqrt(max(0, apparent*apparent-e.watts*e.watts)))))
	o.number("Factor", factor, 2)
	o.whole("Voltage", int(math.Round(e.volts)))
	o.number("Current", apparent/e.volts, 3)
	return o.String()
}

// climate gives temperature (°C), relative humidity (%), dew point (°C) and pressure (hPa).
func (d *Device) climate(now time.Time) (temperature, humidity, dew, pressure float64) {
	temperature = 20.5 + 2*d.phase + 2.5*d.dayCurve(now) + 0.4*d.wave(now, 97)
	humidity = 47 + 6*d.phase - 7*d.dayCurve(now) + 1.5*d.wave(now, 61)
	pressure = 1013 + 6*d.wave(now, d.sim.o.Day.Seconds()*3) + 0.2*d.wave(now, 43)
	// Magnus formula.
	g := math.Log(humidity/100) + 17.62*temperature/(243.12+temperature)
	dew = 243.12 * g / (17.62 - g)
	return temperature, humidity, dew, pressure
}

// sensors is what SENSOR and STATUS10 hold. The caller holds the lock.
func (d *Device) sensors(now time.Time) string {
	var o object
	o.text("Time", now.Format("2006-01-02T15:04:05"))
	t, h, dew, p := d.climate(now)
	decimals := 1
	switch d.kind {
	case Plug:
		o.raw("ENERGY", d.energyJSON(now))
	case Switch1:
		o.text("Switch1", onOff(d.wall))
	case DHT11:
		decimals = 0
		fallthrough
	case AM2301, BME280:
		var s object
		s.number("Temperature", t, decimals)
		s.number("Humidity", h, decimals)
		s.number("DewPoint", dew, 1)
		if d.kind == BME280 {
			s.number("Pressure", p, 1)
			s.number("SeaPressure", p+12.1, 1)
		}
		o.raw(map[Kind]string{AM2301: "AM2301", DHT11: "DHT11", BME280: "BME280"}[d.kind], s.String())
		if d.kind == BME280 {
			o.text("PressureUnit", "hPa")
		}
		o.text("TempUnit", "C")
	}
	return o.String()
}

func onOff(on bool) string {
	if on {
		return "ON"
	}
	return "OFF"
}
