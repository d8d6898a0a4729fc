package wasm

import (
	"context"
	"errors"
	"fmt"
	"math"
)

const (
	// typicalBytes is what the first copies of an image are taken to need.
	typicalBytes = 256 << 10
	// grownBytes is how much more memory than the image a copy may have to be used again: a fresh one is made faster than
	// a guest collects garbage.
	grownBytes = 1 << 20
	// recountCalls: an instance's pages are counted after its first call, and after so many more.
	recountCalls = 256
)

// outgrown says whether an instance has too much memory to be used again.
func (in *Instance) outgrown() bool {
	most := in.pool.options.RecycleBytes
	if im := in.memory.image; im != nil {
		most = min(most, im.size+grownBytes)
	}
	return in.memory.size > most
}

// recount charges what the instance really takes. It gives false where the budget does not have that.
func (in *Instance) recount() bool {
	if in.memory.recount() {
		return true
	}
	in.pool.module.runtime.trim(math.MaxInt64)
	return in.memory.recount()
}

// make gives a new instance.
func (p *Pool) make(ctx context.Context, tenant string) (*Instance, error) {
	im, err := p.frozen(ctx)
	if err != nil {
		return nil, err
	}
	return newInstance(ctx, p, tenant, im)
}

// frozen gives what new instances are copies of, made by the first who asks; nil where they are to be initialised one by
// one.
func (p *Pool) frozen(ctx context.Context) (*image, error) {
	if im := p.image.Load(); im != nil || p.plain.Load() {
		return im, nil
	}
	if err := p.take(ctx, p.freezing); err != nil {
		return nil, fmt.Errorf("wait for the first instance: %w", err)
	}
	defer func() { <-p.freezing }()
	if im := p.image.Load(); im != nil || p.plain.Load() {
		return im, nil
	}
	in, err := newInstance(ctx, p, "", nil)
	if err != nil {
		return nil, err
	}
	defer in.destroy()
	im, err := in.freeze()
	if errors.Is(err, ErrMemory) {
		return nil, err
	}
	if err != nil {
		p.module.runtime.logger.Warn("a module's instances are made one by one, which is slower", "error", err)
		p.plain.Store(true)
		return nil, nil
	}
	if _, ok := in.memory.region.touched(PageBytes); !ok { // pages cannot be counted, so sizes are
		p.typical.Store(im.size)
	}
	p.image.Store(im)
	return im, nil
}
