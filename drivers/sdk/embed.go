// Package sdk carries the source of the Go SDK, for the projects that `pollux driver new` makes.
package sdk

import "embed"

// Go is the source of the packages twin, twintest and wire, tests included.
//
//go:embed twin/*.go twintest/*.go wire/*.go
var Go embed.FS
