package mqtt

import (
	"strings"
	"unicode/utf8"
)

// sharePrefix begins a shared subscription: $share/GROUP/FILTER.
const sharePrefix = "$share/"

// cutShare gives what a subscription matches, and whether it is a shared one.
func cutShare(name string) (filter string, shared bool) {
	rest, ok := strings.CutPrefix(name, sharePrefix)
	if !ok {
		return name, false
	}
	_, filter, _ = strings.Cut(rest, "/")
	return filter, true
}

// validSubscription says whether a SUBSCRIBE may name this: MQTT 5, sections 4.7 and 4.8.2.
func validSubscription(name string) bool {
	if rest, ok := strings.CutPrefix(name, sharePrefix); ok {
		group, filter, ok := strings.Cut(rest, "/")
		return ok && group != "" && !strings.ContainsAny(group, "+#") && validPattern(filter)
	}
	return validPattern(name)
}

func validPattern(filter string) bool {
	if filter == "" || !utf8.ValidString(filter) || strings.IndexByte(filter, 0) >= 0 {
		return false
	}
	for rest, more := filter, true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		if strings.ContainsAny(part, "+#") && (len(part) > 1 || part == "#" && more) {
			return false
		}
	}
	return true
}
