//go:build !unix

package wasm

// region is a slice of the Go heap where addresses cannot be reserved.
type region struct {
	b []byte
}

func (r *region) resize(size, _ int) ([]byte, error) {
	if size > len(r.b) {
		r.b = append(r.b, make([]byte, size-len(r.b))...)
	}
	return r.b[:size:size], nil
}

func (r *region) release() { r.b = nil }
