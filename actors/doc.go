// Package actors is the actor engine (shards, activation, timers, subscriptions) and the actor kinds on it: twin
// today, logic, rule, topic and schedule to come.
//
// An actor runs only on the owner of its slot, one message at a time. What it commits carries the guard on its slot's
// record, so that a stale owner has no effect.
package actors
