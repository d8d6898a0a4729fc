package harness

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrNoDiskFaults says why this machine cannot have a node's disk fail.
var ErrNoDiskFaults = errors.New("faults of the disk need strace and the right to trace a process")

// letGo is how long a tracer gets to let go of its process when it is asked to, before it is killed.
const letGo = 3 * time.Second

// SlowDisk delays each sync of the node's files until stop is called, once or more.
func (n *Node) SlowDisk(delay time.Duration) (stop func(), err error) {
	return n.injectSync(fmt.Sprintf("delay_enter=%d", delay.Microseconds()))
}

// FailDisk fails each sync of the node's files with EIO until stop is called, once or more.
func (n *Node) FailDisk() (stop func(), err error) { return n.injectSync("error=EIO") }

func (n *Node) injectSync(how string) (stop func(), err error) {
	path, err := exec.LookPath("strace")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoDiskFaults, err)
	}
	calls := "fsync,fdatasync,sync_file_range"
	cmd := exec.Command(path, "-f", "-qq", "-o", "/dev/null", "-e", "trace="+calls, "-e", "inject="+calls+":"+how, "-p", strconv.Itoa(n.PID()))
	cmd.SysProcAttr = ChildAttributes()
	errs := &tail{}
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoDiskFaults, err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	stop = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-ended:
		case <-time.After(letGo): // it waits for a thread that is gone or does not stop; the kernel lets go of what a dead one traced
			cmd.Process.Kill()
			select {
			case <-ended:
			case <-time.After(dies):
				n.t.Errorf("%s: its tracer, process %d, was killed, and %v later it is still there", n.Name, cmd.Process.Pid, dies)
			}
		}
	})
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		select {
		case <-ended:
			return nil, fmt.Errorf("%w: %s", ErrNoDiskFaults, strings.TrimSpace(errs.String()))
		default:
		}
		if traced(n.PID()) == cmd.Process.Pid {
			return stop, nil
		}
	}
	stop()
	return nil, fmt.Errorf("%w: it did not attach: %s", ErrNoDiskFaults, strings.TrimSpace(errs.String()))
}
