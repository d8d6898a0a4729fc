// Package topic keeps durable topics and their channels. A topic is an actor on a slot, as a twin is: its owner numbers the
// messages, commits them, and gives them to readers. The package has its own actors, but neither slots nor ownership nor
// calls: those come from package actors, which hands in what is for a topic.
//
// It promises: what Publish acknowledged is committed; each channel gets each message that the topic's limits left it, at
// least once, those of one key in their order and one at a time; no two readers of a channel hold the same message. Every
// queue is bounded, and what is removed unread is counted.
package topic
