package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// What a child process may take to compile one module. The largest real guest seen takes a second and 150 MB.
const (
	compileProcessor = 20 * time.Second // of a processor, the default
	compileTime      = 2 * time.Minute  // in all, the default
	compileBytes     = 1 << 30
)

// ErrSlow: the compiler did not end in time, and had less of a processor than it may take. It says nothing of the module.
var ErrSlow = errors.New("the compiler had too little of a processor")

// exitRefused is the child's exit code where the module does not compile; what it printed says why.
const exitRefused = 3

// CompileChild is what the process of Options.Compiler does: it compiles the module on in into the cache, within
// limits of processor time and memory, which it sets for the whole process. The arguments are those that were added to
// the command line. What is wrong goes to out, the exit code is returned.
func CompileChild(args []string, in io.Reader, out io.Writer) (exit int) {
	if len(args) != 2 {
		_, _ = fmt.Fprintln(out, "the compiler is started by a node")
		return 2
	}
	cacheDir := args[0]
	processor, err := time.ParseDuration(args[1])
	if err == nil {
		err = limitProcess(processor, compileBytes)
	}
	if err != nil {
		_, _ = fmt.Fprintln(out, err)
		return 1
	}
	file, err := io.ReadAll(in)
	if err != nil {
		_, _ = fmt.Fprintln(out, err)
		return 1
	}
	cache, err := openCache(cacheDir)
	if err != nil {
		_, _ = fmt.Fprintln(out, err)
		return 1
	}
	ctx := context.Background()
	engine := wazero.NewRuntimeWithConfig(ctx, engineConfig().WithCompilationCache(cache))
	if _, err := engine.CompileModule(ctx, file); err != nil {
		_, _ = fmt.Fprintln(out, firstLine(err.Error()))
		return exitRefused
	}
	return 0
}

// engineConfig is the same in the child and in the runtime, or the child's code would not be found in the cache. Of debug
// information there is only what appendDebugStub writes.
func engineConfig() wazero.RuntimeConfig {
	return wazero.NewRuntimeConfigCompiler().WithDebugInfoEnabled(true).WithCoreFeatures(api.CoreFeaturesV2)
}

// compileApart has a child process compile a module, unless one did before. The code itself is then taken from the cache.
// Errors that lie in the module are *Refusal, those of a busy machine ErrSlow.
func (r *Runtime) compileApart(caller context.Context, file []byte) error {
	if r.code.has(file) {
		return nil
	}
	stage, err := r.code.stage()
	if err != nil {
		return fmt.Errorf("compile: %w", err)
	}
	defer func() { _ = os.RemoveAll(stage) }()
	ctx, cancel := context.WithTimeout(caller, r.options.CompileTime)
	defer cancel()
	command := r.options.Compiler
	cmd := exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)],
		stage, r.options.CompileProcessor.String())...)
	cmd.Env = append([]string{"GOMAXPROCS=1", "GOTRACEBACK=none"}, r.options.CompilerEnv...)
	cmd.Stdin = bytes.NewReader(file)
	var out, trouble beginning
	cmd.Stdout, cmd.Stderr = &out, &trouble
	err = cmd.Run()
	switch {
	case err != nil && caller.Err() != nil:
		return fmt.Errorf("compile: %w", caller.Err())
	case err != nil && ctx.Err() != nil:
		var used time.Duration
		if state := cmd.ProcessState; state != nil {
			used = state.UserTime() + state.SystemTime()
		}
		return fmt.Errorf("compile: %w: %s in %s", ErrSlow, used.Round(time.Millisecond), r.options.CompileTime)
	case cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == exitRefused:
		return refuse("the module does not compile: %s", out.first())
	case err != nil && cmd.ProcessState != nil:
		return r.compilerDied(cmd.ProcessState, trouble.first(), out.first(), err)
	case err != nil:
		return fmt.Errorf("compile: start %s: %w", command[0], err)
	}
	if err := r.code.adopt(stage, file); err != nil {
		return fmt.Errorf("compile: keep the code: %w", err)
	}
	r.sweepCode()
	return nil
}

// compilerDied says what ended the child.
func (r *Runtime) compilerDied(state *os.ProcessState, trouble, out string, err error) error {
	limit := r.options.CompileProcessor
	switch used := state.UserTime() + state.SystemTime(); {
	case used >= limit-limit/10: // the system counts in ticks
		return refuse("the module takes the compiler more than %s of a processor", limit)
	case strings.Contains(trouble, "out of memory"), strings.Contains(trouble, "cannot allocate memory"):
		return refuse("the module takes the compiler more than %d MB of memory", compileBytes>>20)
	case strings.HasPrefix(trouble, "panic: "), strings.HasPrefix(trouble, "fatal error: "):
		return refuse("the compiler gave up: %s", trouble)
	}
	return fmt.Errorf("compile: %w: %s%s", err, trouble, out)
}

// beginning keeps the beginning of what is written.
type beginning struct {
	kept []byte
}

func (l *beginning) Write(b []byte) (int, error) {
	l.kept = append(l.kept, b[:min(len(b), max(0, 4096-len(l.kept)))]...)
	return len(b), nil
}

func (l *beginning) first() string { return firstLine(strings.TrimSpace(string(l.kept))) }
