package wasm

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// wasiName is the module of WASI's first preview.
const wasiName = "wasi_snapshot_preview1"

// Error numbers of WASI.
const (
	wasiOK    = 0
	wasiBadFD = 8
	wasiFault = 21
	wasiInval = 28
	wasiNoSys = 52
)

// WASIImports are the functions of WASI that modules may import: what the start-up code of Go and of C libraries asks
// for. Clocks, randomness, output and sleep work; there are no arguments, no environment and no files.
func WASIImports() (module string, functions map[string]ImportRule) {
	functions = map[string]ImportRule{}
	for _, f := range wasiModule().Functions {
		functions[f.Name] = ImportRule{Signature: f.Signature}
	}
	return wasiName, functions
}

func wasiModule() HostModule {
	return HostModule{Name: wasiName, Functions: []HostFunction{
		wasi("args_get", wasiNothing, I32, I32),
		wasi("args_sizes_get", wasiTwoZeros, I32, I32),
		wasi("environ_get", wasiNothing, I32, I32),
		wasi("environ_sizes_get", wasiTwoZeros, I32, I32),
		wasi("clock_time_get", wasiClock, I32, I64, I32),
		wasi("clock_res_get", wasiResolution, I32, I32),
		wasi("random_get", wasiRandom, I32, I32),
		wasi("fd_write", wasiWrite, I32, I32, I32, I32),
		wasi("fd_read", wasiNoFile, I32, I32, I32, I32),
		wasi("fd_seek", wasiNoFile, I32, I64, I32, I32),
		wasi("fd_close", wasiNoFile, I32),
		wasi("fd_fdstat_get", wasiStat, I32, I32),
		wasi("fd_fdstat_set_flags", wasiNothing, I32, I32),
		wasi("fd_prestat_get", wasiNoFile, I32, I32),
		wasi("fd_prestat_dir_name", wasiNoFile, I32, I32, I32),
		wasi("poll_oneoff", wasiPoll, I32, I32, I32, I32),
		wasi("sched_yield", wasiNothing),
		{Name: "proc_exit", Signature: Signature{Params: []ValueType{I32}}, Call: func(_ *Instance, stack []uint64) {
			panic(exitStatus(stack[0]))
		}},
	}}
}

// wasi makes a function that returns an error number.
func wasi(name string, fn func(in *Instance, stack []uint64) uint32, params ...ValueType) HostFunction {
	return HostFunction{Name: name, Signature: Signature{Params: params, Results: []ValueType{I32}},
		Call: func(in *Instance, stack []uint64) { stack[0] = uint64(fn(in, stack)) }}
}

func wasiNothing(*Instance, []uint64) uint32 { return wasiOK }

func wasiNoFile(*Instance, []uint64) uint32 { return wasiBadFD }

func wasiTwoZeros(in *Instance, stack []uint64) uint32 {
	var zero [4]byte
	if !in.Write(uint32(stack[0]), zero[:]) || !in.Write(uint32(stack[1]), zero[:]) {
		return wasiFault
	}
	return wasiOK
}

func (in *Instance) writeU64(ptr uint32, v uint64) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	if !in.Write(ptr, b[:]) {
		return wasiFault
	}
	return wasiOK
}

// now reads the wall clock (0) or the monotonic one (1), in nanoseconds.
func (in *Instance) now(clock uint32) (int64, bool) {
	r := in.pool.module.runtime
	switch clock {
	case 0:
		return r.options.Now().UnixNano(), true
	case 1:
		return int64(time.Since(r.start)), true
	}
	return 0, false
}

func wasiClock(in *Instance, stack []uint64) uint32 {
	now, ok := in.now(uint32(stack[0]))
	if !ok {
		return wasiInval
	}
	return in.writeU64(uint32(stack[2]), uint64(now))
}

func wasiResolution(in *Instance, stack []uint64) uint32 {
	if stack[0] > 1 {
		return wasiInval
	}
	return in.writeU64(uint32(stack[1]), 1)
}

func wasiRandom(in *Instance, stack []uint64) uint32 {
	b, ok := in.Read(uint32(stack[0]), uint32(stack[1]))
	if !ok {
		return wasiFault
	}
	for len(b) > 0 { // in pieces of some 100 µs
		n := min(len(b), 64<<10)
		_, _ = rand.Read(b[:n]) // never fails
		if b = b[n:]; len(b) > 0 {
			in.look(time.Now())
		}
	}
	return wasiOK
}

// wasiWrite takes what is written to standard output and error.
func wasiWrite(in *Instance, stack []uint64) uint32 {
	if fd := uint32(stack[0]); fd != 1 && fd != 2 {
		return wasiBadFD
	}
	count := uint32(stack[2])
	if count > 1024 {
		return wasiInval
	}
	vectors, ok := in.Read(uint32(stack[1]), count*8)
	if !ok {
		return wasiFault
	}
	total := uint32(0)
	for ; len(vectors) > 0; vectors = vectors[8:] {
		b, ok := in.Read(binary.LittleEndian.Uint32(vectors), binary.LittleEndian.Uint32(vectors[4:]))
		if !ok {
			return wasiFault
		}
		in.write(b)
		total += uint32(len(b))
	}
	var written [4]byte
	binary.LittleEndian.PutUint32(written[:], total)
	if !in.Write(uint32(stack[3]), written[:]) {
		return wasiFault
	}
	return wasiOK
}

// wasiStat says that standard input, output and error are character devices.
func wasiStat(in *Instance, stack []uint64) uint32 {
	if uint32(stack[0]) > 2 {
		return wasiBadFD
	}
	stat := [24]byte{0: 2}
	if !in.Write(uint32(stack[1]), stat[:]) {
		return wasiFault
	}
	return wasiOK
}

// wasiPoll sleeps until the first of the clocks asked for. There is nothing else to wait for.
func wasiPoll(in *Instance, stack []uint64) uint32 {
	const subscriptionBytes, eventBytes = 48, 32
	count := uint32(stack[2])
	if count == 0 || count > 1024 {
		return wasiInval
	}
	subs, ok := in.Read(uint32(stack[0]), count*subscriptionBytes)
	if !ok {
		return wasiFault
	}
	var event [eventBytes]byte
	first := time.Duration(-1)
	for ; len(subs) > 0; subs = subs[subscriptionBytes:] {
		if subs[8] != 0 { // a file
			continue
		}
		wait := time.Duration(binary.LittleEndian.Uint64(subs[24:]))
		if subs[40]&1 != 0 { // an absolute time
			now, _ := in.now(binary.LittleEndian.Uint32(subs[16:]))
			wait -= time.Duration(now)
		}
		if wait = max(wait, 0); first < 0 || wait < first {
			first = wait
			copy(event[:8], subs[:8])
		}
	}
	if first < 0 {
		return wasiNoSys
	}
	in.sleep(first)
	var one [4]byte
	one[0] = 1
	if !in.Write(uint32(stack[1]), event[:]) || !in.Write(uint32(stack[3]), one[:]) {
		return wasiFault
	}
	return wasiOK
}

// sleep waits, or until the call is stopped.
func (in *Instance) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	in.waits()
	in.pause(d)
	in.look(time.Now())
}
