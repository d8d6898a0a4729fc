// Package notify tells people, and other systems, what happened: by mail, text message, webhook, MQTT or log.
//
// A notifier is an actor that reads its outbox, a durable topic, from a position of its own, and hands each message to a provider,
// in their order, until the provider takes it or refuses it for good. What became of a message is a record beside it. Who decides
// that somebody is told, and when, are rules, schedules and alarms (package automation); this package only brings the message.
package notify
