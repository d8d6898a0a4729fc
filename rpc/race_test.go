//go:build race

package rpc_test

// The race detector makes writing and reading samples ten times slower.
func init() { thin = 4 }
