//go:build !unix

package wasm

// instanceMaps is how many mappings an instance takes at most.
const instanceMaps = 0

// region is a slice of the Go heap where addresses cannot be reserved.
type region struct {
	b []byte
}

func (r *region) resize(size, cap int, from *image, _ *budget) ([]byte, error) {
	if r.b == nil && from != nil {
		r.b = make([]byte, max(size, int(from.bytes())))
		if err := from.load(r.b); err != nil {
			return nil, err
		}
	}
	if size > len(r.b) {
		r.b = append(r.b, make([]byte, size-len(r.b))...)
	}
	return r.b[:size:size], nil
}

func (r *region) touched(int) (int64, bool) { return 0, false }

func (r *region) release(*budget) { r.b = nil }
