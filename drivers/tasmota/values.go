package main

import (
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// snake turns a name of the firmware into a property's: DewPoint → dew_point, DS18B20-1 → ds18b20_1. Empty where
// nothing of it can stand in a name.
func snake(name string) string {
	out := make([]byte, 0, len(name)+4)
	for i := 0; i < len(name) && len(out) < 40; i++ {
		c := name[i]
		switch {
		case c >= 'A' && c <= 'Z':
			lowerBefore := i > 0 && isLower(name[i-1])
			wordBegins := i > 0 && isUpper(name[i-1]) && i+1 < len(name) && isLower(name[i+1])
			if (lowerBefore || wordBegins) && len(out) > 0 && out[len(out)-1] != '_' {
				out = append(out, '_')
			}
			out = append(out, c+'a'-'A')
		case isLower(c) || c >= '0' && c <= '9':
			out = append(out, c)
		default:
			if len(out) > 0 && out[len(out)-1] != '_' {
				out = append(out, '_')
			}
		}
	}
	s := strings.TrimRight(string(out), "_")
	if s != "" && s[0] >= '0' && s[0] <= '9' {
		s = "n" + s
	}
	return s
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

// parseColor reads RRGGBB with or without further channels, or r,g,b (SetOption17), and gives #RRGGBB. Lights of one or
// two channels have no colour.
func parseColor(v wire.Value) (string, bool) {
	s, ok := v.Text()
	if !ok {
		return "", false
	}
	const digits = "0123456789ABCDEF"
	if strings.ContainsRune(s, ',') {
		out := []byte{'#'}
		for i, part := range strings.Split(s, ",") {
			n, err := strconv.Atoi(part)
			if err != nil || n < 0 || n > 255 {
				return "", false
			}
			if i < 3 {
				out = append(out, digits[n>>4], digits[n&15])
			}
		}
		return string(out), len(out) == 7
	}
	s = strings.TrimPrefix(s, "#")
	if len(s) < 6 || len(s) > 10 {
		return "", false
	}
	s = strings.ToUpper(s)
	for i := range len(s) {
		if !strings.Contains(digits, s[i:i+1]) {
			return "", false
		}
	}
	return "#" + s[:6], true
}

// parseUptime reads 12T03:04:05 as seconds.
func parseUptime(v wire.Value) (int, bool) {
	s, _ := v.Text()
	days, clock, ok := strings.Cut(s, "T")
	if !ok {
		return 0, false
	}
	total, err := strconv.Atoi(days)
	if err != nil || total < 0 || total > 100000 {
		return 0, false
	}
	parts := strings.Split(clock, ":")
	if len(parts) != 3 {
		return 0, false
	}
	for i, base := range [3]int{24, 60, 60} {
		n, err := strconv.Atoi(parts[i])
		if err != nil || n < 0 || n >= base {
			return 0, false
		}
		total = total*base + n
	}
	return total, true
}
