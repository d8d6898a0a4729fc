// Package actors is the actor engine (shards, activation, timers, subscriptions) and the actor kinds on it: twin
// today, logic, rule, topic and schedule to come.
//
// An actor is addressed by kind and id. It is activated by the first message, passivated when idle, and moves with its
// slot. The engine owns what is in memory; the store owns what is durable; the cluster decides where an actor may live.
// The border to drivers is drivers.Runner and drivers.Host: a twin hands its state in and gets effects back.
//
// It promises: one turn at a time per actor; no message dropped silently; nothing blocks a turn but a local read at
// activation; no effect on the store without the guard on the slot's record, and none on a device without the lease.
package actors
