package mqtt

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Grant is what a client may do. Filters are MQTT topic filters.
type Grant struct {
	// Admin may use every topic and take over any client id.
	Admin bool
	// Project and Twin that the credentials belong to; empty: none.
	Project, Twin string
	// Topics may be published and subscribed to.
	Topics []string
	// Publish and Subscribe extend Topics in one direction. Read may be subscribed to by oneself only, not as a part of a shared
	// subscription, which takes messages from others.
	Publish, Subscribe, Read []string
	// Key names the credentials, for who asks Disconnect to end what was opened with them. The broker does not use it.
	Key string
}

// owner is whose session a client has: the device's, that of a project's keys, or the user's.
func (g *Grant) owner(user string) string {
	switch {
	case g.Twin != "":
		return "twin " + g.Twin
	case g.Project != "":
		return "project " + g.Project
	}
	return user
}

// mayPublish says whether the grant has the topic.
func (g *Grant) mayPublish(topic string) bool {
	return g.Admin || coveredByAny(g.Topics, topic) || coveredByAny(g.Publish, topic)
}

// maySubscribe says whether the grant has every topic that the filter matches.
func (g *Grant) maySubscribe(filter string) bool {
	plain, ok := plainFilter(filter)
	return ok && (g.Admin || coveredByAny(g.Topics, plain) || coveredByAny(g.Subscribe, plain) || plain == filter && coveredByAny(g.Read, plain))
}

// plainFilter strips what makes a subscription a shared one.
func plainFilter(filter string) (string, bool) {
	if !strings.HasPrefix(filter, sharePrefix) {
		return filter, true
	}
	_, plain, ok := strings.Cut(filter[len(sharePrefix):], "/")
	return plain, ok && plain != ""
}

func coveredByAny(granted []string, filter string) bool {
	for _, g := range granted {
		if covers(g, filter) {
			return true
		}
	}
	return false
}

// covers says whether every topic that filter matches is matched by granted. A topic is a filter for itself.
func covers(granted, filter string) bool {
	if granted == "" || filter == "" {
		return false
	}
	// Wildcards do not reach topics that begin with $.
	if filter[0] == '$' && (granted[0] == '+' || granted[0] == '#') {
		return false
	}
	for {
		g, moreGranted, inGranted := strings.Cut(granted, "/")
		f, moreFilter, inFilter := strings.Cut(filter, "/")
		switch {
		case g == "#":
			return true
		case f == "#":
			return false
		case g != f && g != "+":
			return false // a literal covers only itself, and "+" in the filter only what "+" grants
		}
		switch {
		case !inGranted && !inFilter:
			return true
		case inGranted && !inFilter:
			return moreGranted == "#" // "a/#" has "a", too
		case !inGranted:
			return false
		}
		granted, filter = moreGranted, moreFilter
	}
}

// checkTopic refuses what nobody may publish to.
func checkTopic(topic string, l Limits) error {
	switch {
	case topic == "":
		return fmt.Errorf("%w: empty", ErrTopic)
	case topic[0] == '$':
		return fmt.Errorf("%w: begins with $", ErrTopic)
	case strings.ContainsAny(topic, "+#\x00") || !utf8.ValidString(topic):
		return fmt.Errorf("%w: holds a wildcard, a zero byte or broken UTF-8", ErrTopic)
	}
	return checkLength(topic, l)
}

// checkLength refuses long or deep topics and filters.
func checkLength(topic string, l Limits) error {
	if len(topic) > l.TopicBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTopic, len(topic), l.TopicBytes)
	}
	if n := strings.Count(topic, "/") + 1; n > l.TopicLevels {
		return fmt.Errorf("%w: %d levels, at most %d", ErrTopic, n, l.TopicLevels)
	}
	return nil
}
