package js

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"unicode/utf8"

	"github.com/polluxhq/pollux/wasm"
)

// MaxSource bounds the bytes of a driver's file.
const MaxSource = 1 << 20

// The engine's entries, by their index for wasm.Instance.Call.
const (
	entryHandle = iota
	entryAlloc
	entryStart
	entryLoad
)

// Entries are the engine's exports that are called, drv_handle first: what a pool of it is to be made with.
func Entries() []string { return []string{"drv_handle", "js_alloc", "js_start", "js_load"} }

// IsSource tells a driver's source from a WASM module: it is text.
func IsSource(file []byte) bool {
	return !bytes.HasPrefix(file, []byte("\x00asm")) && len(file) > 0 && utf8.Valid(file) && bytes.IndexByte(file, 0) < 0
}

// SourceError says what is wrong with a driver's file, and where.
type SourceError struct {
	// File, such as thermostat.js, with a line and a column from 1 on; Line is 0 where none can be named.
	File         string
	Line, Column int
	Message      string

	cause error
}

// Unwrap gives context.DeadlineExceeded of a file whose own code does not end.
func (e *SourceError) Unwrap() error { return e.cause }

func (e *SourceError) Error() string {
	switch {
	case e.Line == 0:
		return e.File + ": " + e.Message
	case e.Column == 0:
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

var declaredName = regexp.MustCompile(`(?m)^\s*(?:export\s+default\s+)?(?:driver\(\{\s*)?name:\s*['"]([a-z0-9][a-z0-9_-]{0,63})['"]`)

// FileName is what stack traces call a source: the name that it declares, as far as that can be seen without running it.
func FileName(source []byte) string {
	if m := declaredName.FindSubmatch(source); m != nil {
		return string(m[1]) + ".js"
	}
	return "driver.js"
}

// Load evaluates the SDK and then a driver's source in a new instance of the engine, and returns the manifest that it
// declares, JSON. The instance is from a pool of Entries, and is ready to handle events afterwards. It runs the author's
// code, within ctx. Errors: *SourceError, *wasm.Trap; one that is context.DeadlineExceeded where the code does not end.
func Load(ctx context.Context, in *wasm.Instance, source []byte) (manifest []byte, err error) {
	name := FileName(source)
	watch := &Watch{}
	in.Data = watch
	if len(source) > MaxSource {
		return nil, &SourceError{File: name, Message: fmt.Sprintf("the file has %d bytes, more than %d", len(source), MaxSource)}
	}
	script := SDK()
	at, err := place(ctx, in, script)
	if err != nil {
		return nil, err
	}
	if failed, err := in.Call(ctx, entryStart, uint64(at), uint64(len(script))); err != nil || failed != 0 {
		return nil, errors.Join(fmt.Errorf("the SDK does not start: %d", failed), err)
	}
	file, err := place(ctx, in, name)
	if err != nil {
		return nil, err
	}
	if at, err = place(ctx, in, string(source)); err != nil {
		return nil, err
	}
	result, err := in.Call(ctx, entryLoad, uint64(at), uint64(len(source)), uint64(file))
	if err != nil {
		return nil, err
	}
	manifest, err = outcome(in, name, uint32(result))
	var wrong *SourceError
	if errors.As(err, &wrong) && watch.over {
		wrong.cause = context.DeadlineExceeded
	}
	return manifest, err
}

// place copies a text, with a zero byte behind it, into the instance's memory.
func place(ctx context.Context, in *wasm.Instance, text string) (uint32, error) {
	ptr, err := in.Call(ctx, entryAlloc, uint64(len(text)+1))
	if err != nil {
		return 0, err
	}
	if ptr == 0 || !in.Write(uint32(ptr), append([]byte(text), 0)) {
		return 0, errors.New("the memory is too small for the driver's source")
	}
	return uint32(ptr), nil
}

// outcome reads what js_load points to: where its text is, and how long.
func outcome(in *wasm.Instance, name string, at uint32) ([]byte, error) {
	pair, ok := in.Read(at, 8)
	if !ok {
		return nil, errors.New("the engine's result is not in its memory")
	}
	text, ok := in.Read(binary.LittleEndian.Uint32(pair), binary.LittleEndian.Uint32(pair[4:]))
	if !ok || len(text) == 0 {
		return nil, errors.New("the engine gave no result")
	}
	var r struct {
		Manifest json.RawMessage
		Error    *SourceError
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("the engine's result: %w", err)
	}
	if r.Error != nil {
		if r.Error.File == "" {
			r.Error.File = name
		}
		return nil, r.Error
	}
	return r.Manifest, nil
}
