//go:build unix

package history

import (
	"fmt"
	"os"
	"syscall"
)

// tryLock takes the lock of VictoriaMetrics' directory and gives it back: a lock held elsewhere becomes an error here,
// and not a panic there.
func tryLock(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("%s is in use by another process: %w", path, err)
	}
	return nil
}
