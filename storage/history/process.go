package history

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/logger"
	"github.com/VictoriaMetrics/metrics"
)

// VictoriaMetrics as a library belongs to the process: its flags, logger, storage and caches are variables of its
// packages. What this file holds mirrors that; it is the only such state here.
var process struct {
	mu sync.Mutex
	// embedded: an Embedded is open.
	embedded bool
	// prepared: the logger writes to us, and the flags count as parsed.
	prepared bool
	// memory is what memory.allowedBytes was at the first use, in bytes. VictoriaMetrics reads it only once.
	memory int64
	// log is where VictoriaMetrics' lines go now. Its goroutines may outlive the one who set it.
	log atomic.Pointer[slog.Logger]
	// fatal ends the process when VictoriaMetrics cannot go on, and failed that it was told so.
	fatal  atomic.Pointer[func(error)]
	failed atomic.Bool
	// own guards VictoriaMetrics' own metrics: they read its storage, which comes and goes, and panic where its directory is
	// not there. They are shown while open is set.
	own  sync.RWMutex
	open bool
}

// prepare sets what VictoriaMetrics' libraries need before anything else of them is used. process.mu must be held.
func prepare(log *slog.Logger, memory int64, fatal func(error)) error {
	process.log.Store(log)
	if fatal == nil {
		process.fatal.Store(nil)
	} else {
		process.fatal.Store(&fatal)
	}
	if process.prepared {
		if process.memory != memory {
			log.Warn("history memory limit holds from the first use in this process on",
				"limit_bytes", process.memory, "asked_bytes", memory)
		}
		return nil
	}
	level := "WARN"
	if log.Enabled(context.Background(), slog.LevelDebug) {
		level = "INFO"
	}
	err := setFlags(map[string]string{
		"memory.allowedBytes":        fmt.Sprint(memory),
		"loggerLevel":                level,
		"loggerFormat":               "default", // its panics can be recovered, unlike those of "json"
		"loggerDisableTimestamps":    "true",
		"loggerErrorsPerSecondLimit": "10",
		"loggerWarnsPerSecondLimit":  "10",
	})
	if err != nil {
		return err
	}
	logger.SetOutputForTests(logBridge{})
	process.prepared, process.memory = true, memory
	return nil
}

// setFlags sets VictoriaMetrics' flags as its command line would.
//
// Its packages refuse to work until the process' flags are parsed. A program that reads its own command line otherwise
// never parses them; then an empty list counts. A test binary has parsed them, or will when its tests run: what is
// parsed already is left alone.
func setFlags(values map[string]string) error {
	for name, value := range values {
		if err := flag.Set(name, value); err != nil {
			return fmt.Errorf("set victoriametrics flag %s=%q: %w", name, value, err)
		}
	}
	if flag.Parsed() {
		return nil
	}
	if err := flag.CommandLine.Parse(nil); err != nil {
		return fmt.Errorf("parse empty command line: %w", err)
	}
	return nil
}

// logBridge hands VictoriaMetrics' log lines, "level\tplace\tmessage\n", to slog. A line after which it would end the
// process, by a panic in a goroutine of its own, ends it our way.
type logBridge struct{}

func (logBridge) Write(p []byte) (int, error) {
	level, rest, _ := bytes.Cut(bytes.TrimRight(p, "\n"), []byte("\t"))
	place, msg, ok := bytes.Cut(rest, []byte("\t"))
	if !ok {
		place, msg = nil, rest
	}
	if l := string(level); l == "panic" || l == "fatal" {
		end(string(msg))
	}
	log := process.log.Load()
	if log == nil {
		return len(p), nil
	}
	at := slog.LevelError
	switch string(level) {
	case "info":
		at = slog.LevelDebug
	case "warn":
		at = slog.LevelWarn
	}
	if bytes.HasPrefix(msg, []byte("remoteAddr: ")) { // a request's fault, such as a wrong query: whoever asked is told
		at = slog.LevelDebug
	}
	if _, below, ok := bytes.Cut(place, []byte("@")); ok { // the module cache's directory says nothing
		place = below
	}
	log.Log(context.Background(), at, "victoriametrics: "+string(msg), "at", string(place))
	return len(p), nil
}

// end tells that VictoriaMetrics cannot go on, once, and does not return: behind it waits a panic. It returns where
// nobody is to be told, and where the panic is caught by guarded.
func end(msg string) {
	tell := process.fatal.Load()
	if tell == nil || withinGuarded() {
		return
	}
	if !process.failed.Swap(true) {
		(*tell)(fatalError(msg))
	}
	select {}
}

// fatalError is the one line that people get.
func fatalError(msg string) error {
	msg, _, _ = strings.Cut(strings.TrimPrefix(msg, "FATAL: "), "\n")
	switch {
	case strings.Contains(msg, syscall.ENOSPC.Error()):
		return fmt.Errorf("write history: the disk is full; make room and start again: %s", msg)
	case strings.Contains(msg, syscall.EDQUOT.Error()):
		return fmt.Errorf("write history: the disk quota is used up; make room and start again: %s", msg)
	}
	return fmt.Errorf("history: victoriametrics cannot go on: %s", msg)
}

// withinGuarded says whether guarded is among the callers.
func withinGuarded() bool {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "/history.guarded") {
			return true
		}
		if !more {
			return false
		}
	}
}

// writeOwnMetrics writes the metrics of the process, and those of VictoriaMetrics while it is open here.
func writeOwnMetrics(w io.Writer) {
	metrics.WriteProcessMetrics(w)
	if !process.own.TryRLock() {
		return
	}
	defer process.own.RUnlock()
	if process.open {
		metrics.WritePrometheus(w, false)
	}
}

// guarded runs f and turns a panic of VictoriaMetrics into an error. Only for what it does in this goroutine.
func guarded(what string, f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %s", what, strings.TrimPrefix(fmt.Sprint(p), "FATAL: "))
		}
	}()
	f()
	return nil
}
