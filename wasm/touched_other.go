//go:build !linux

package wasm

import "math"

// mapLimit: other systems bound the bytes, not the mappings.
func mapLimit() int64 { return math.MaxInt64 / 2 }
