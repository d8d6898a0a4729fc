package drivers

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestUploadsWaitWithinBounds: one at a time, so many behind it, for so long; who gives up leaves no place taken.
func TestUploadsWaitWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUploads(30 * time.Second)
		over, err := u.begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ended := make(chan error, waitMost)
		for range waitMost - 1 {
			go func() { _, err := u.begin(t.Context()); ended <- err }()
		}
		impatient, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() { _, err := u.begin(impatient); left <- err }()
		synctest.Wait()
		if _, err := u.begin(t.Context()); !errors.Is(err, ErrBusy) || err.Error() != "the node is busy: 8 other drivers wait to be checked" {
			t.Errorf("one more than may wait: %v", err)
		}
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who left: %v", err)
		}
		for range waitMost - 1 {
			if err := <-ended; !errors.Is(err, ErrBusy) || err.Error() != "the node is busy: the driver has waited for 30s to be checked" {
				t.Errorf("who waited: %v", err)
			}
		}
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("they waited for %s", took)
		}
		over()
		for n := range 3 * waitMost {
			over, err := u.begin(t.Context())
			if err != nil {
				t.Fatalf("upload %d after all that: %v", n, err)
			}
			time.Sleep(time.Second)
			began := time.Now()
			over()
			if over, err = u.begin(t.Context()); err != nil || time.Since(began) != restMost {
				t.Fatalf("the next began %s later, %v; want a rest of %s", time.Since(began), err, restMost)
			}
			over()
		}
	})
}
