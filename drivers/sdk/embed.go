// Package sdk carries the sources of the SDKs for Go and Rust, for the projects that `pollux driver new` makes.
package sdk

import "embed"

// Go is the source of the packages twin, twintest and wire, tests included.
//
//go:embed twin/*.go twintest/*.go wire/*.go
var Go embed.FS

// Rust is the source of the crate twin.
//
//go:embed rust/Cargo.toml rust/src/*.rs
var Rust embed.FS
