//go:build race

package wasm_test

// The race detector makes compiling and running five to ten times slower, and finds in few rounds what it would find in many.
func init() { thin = 8 }
