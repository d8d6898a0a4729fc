//go:build unix && !linux

package wasm

// touched: the system does not tell.
func (r *region) touched(int) (int64, bool) { return 0, false }

func smallPages([]byte) {}
