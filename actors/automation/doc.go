// Package automation runs what acts by itself: schedules and rules, and the actions that they carry out.
//
// Each is an actor on the slot of its name, with its state in the store and its timer among those of the twins. The package knows
// twins and topics only by the interface World. DESIGN.md says what is promised.
package automation
