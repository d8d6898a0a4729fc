// Package search finds configuration: twins, models, zones, systems, drivers and what else the node has records of, by words, by
// what they begin with, by facets, by place and by expressions. Each node has an index of its own in memory, made from the records
// that it holds anyway, so that any node answers at once; DESIGN.md says how it follows them.
package search

import (
	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/storage"
)

// Entry is what can be found.
type Entry struct {
	// ID is `project/name`, or a name where the kind belongs to no project. It must not be changed.
	ID, Title, Detail string
	// As is the kind that it is shown as and found by beside its source's; empty: that alone.
	As string
	// Names are further texts that count as much as the id and the title; Words are others to be found by.
	Names, Words []string
	// Model, Driver and Zone are ids; their titles are found, too, and stay right when they change. A zone's Zone is the one that it
	// is in: what is in a zone is found in those around it, too.
	Model, Driver, Zone string
	Labels              map[string]string
	// Stopped twins have that status whatever their state says.
	Stopped bool
	// At is where it is, if its record says so.
	At *expr.Point
}

// Source is a kind of record that is searched.
type Source struct {
	Kind  string
	Table storage.Table
	// ID gives the entry's id of a record's key; nil: the key. Several records may make one entry.
	ID func(key string) string
	// Read makes the entry anew; nil: there is none any more. It reads records and nothing else.
	Read func(id string) (*Entry, error)
}

func (s *Source) id(key string) string {
	if s.ID == nil {
		return key
	}
	return s.ID(key)
}

// Kinds of sources that others name in their entries.
const (
	KindTwin   = "twin"
	KindModel  = "model"
	KindDriver = "driver"
	KindZone   = "zone"
	KindSystem = "system"
	// KindLogic are twins whose driver is code without a device.
	KindLogic = "logic"
)
