package project

import (
	"context"
	"errors"
)

var errNoRust = errors.New("drivers in Rust come with the SDK for Rust")

func (p *Project) buildRust(context.Context) ([]byte, error) { return nil, errNoRust }

func (w *writer) rust() { w.err = errNoRust }
