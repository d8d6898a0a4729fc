// Package sink brings the messages of topics to other systems: files, object stores, brokers, databases and webhooks.
//
// A sink is an actor of its slot's owner. It reads its topic from a durable position of its own, delivers batch by batch, and commits
// the position when the target has the batch: each message at least once, in the topic's order. What the target cannot take
// stays in the topic, within the topic's limits; what these remove unread is counted. See DESIGN.md.
package sink
