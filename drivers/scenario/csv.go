package scenario

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
)

// ReadCSV reads recorded values: a line of names, the first of them `time`, then lines of a time and the values. Times are by RFC
// 3339, seconds, or durations such as 90s, ascending; the first one is the begin. An empty cell says nothing.
func ReadCSV(r io.Reader) (map[string][]Key, error) {
	in := csv.NewReader(r)
	in.TrimLeadingSpace, in.ReuseRecord = true, true
	head, err := in.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("csv: is empty")
	} else if err != nil {
		return nil, fmt.Errorf("csv: %w", err)
	}
	names := append([]string(nil), head...)
	if len(names) < 2 || names[0] != "time" {
		return nil, fmt.Errorf("csv: line 1: want time and the names of properties, got %q", names)
	}
	out := map[string][]Key{}
	for _, name := range names[1:] {
		if _, twice := out[name]; twice || name == "" {
			return nil, fmt.Errorf("csv: line 1: the name %q is empty or there twice", name)
		}
		out[name] = nil
	}
	var begin, last time.Duration
	for first := true; ; first = false {
		cells, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("csv: %w", err)
		}
		line, _ := in.FieldPos(0)
		at, err := csvTime(cells[0])
		if err != nil {
			return nil, fmt.Errorf("csv: line %d: %w", line, err)
		}
		if first {
			begin = at
		} else if at <= last {
			return nil, fmt.Errorf("csv: line %d: time %s is not after the line before", line, cells[0])
		}
		last = at
		for i, cell := range cells[1:] {
			if cell != "" {
				out[names[i+1]] = append(out[names[i+1]], Key{At: at - begin, Value: csvValue(cell), Text: cell})
			}
		}
	}
	for name, keys := range out {
		if len(keys) == 0 {
			delete(out, name)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("csv: holds no value")
	}
	return out, nil
}

// csvTime is a time since whenever.
func csvTime(text string) (time.Duration, error) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return time.Duration(t.UnixNano()), nil
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(f) < 9e9 {
		text = strconv.FormatFloat(f, 'f', -1, 64) + "s" // a product would be a nanosecond off, or a hundred
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is no time: want RFC 3339, seconds, or a duration", text)
	}
	return d, nil
}

func csvValue(cell string) any {
	switch cell {
	case "true":
		return true
	case "false":
		return false
	}
	if f, err := strconv.ParseFloat(cell, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return f
	}
	return cell
}
