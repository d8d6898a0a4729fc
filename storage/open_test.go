package storage_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// listing is every file of a directory with its size and time.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		if err == nil {
			b.WriteString(p + " " + info.Mode().String() + " " + info.ModTime().String() + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestNewerFormatIsRefusedUntouched(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"newer":   {"FORMAT": "pollux-store 2\n", "CURRENT": "state-1\n"},
		"foreign": {"FORMAT": "something else\n"},
		"none":    {"CURRENT": "state-1\n"},
	} {
		dir := t.TempDir()
		for f, content := range files {
			if err := os.WriteFile(filepath.Join(dir, f), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := listing(t, dir)
		_, err := storage.Open(storage.Options{Dir: dir})
		var f *storage.FormatError
		if !errors.As(err, &f) {
			t.Errorf("%s: %v", name, err)
		}
		if after := listing(t, dir); after != before {
			t.Errorf("%s: changed\n%s\nto\n%s", name, before, after)
		}
	}
}

// TestMain also is the other process that TestSecondProcessIsRefused and TestKill start.
func TestMain(m *testing.M) {
	if dir := os.Getenv("STORAGE_TEST_KILL"); dir != "" {
		fmt.Println("failed:", writeUntilKilled(dir))
		os.Exit(1)
	}
	if dir := os.Getenv("STORAGE_TEST_OPEN"); dir != "" {
		s, err := storage.Open(storage.Options{Dir: dir})
		var locked *storage.LockedError
		switch {
		case errors.As(err, &locked):
			os.Exit(42)
		case err != nil:
			os.Exit(1)
		}
		if s.Close() != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	other := func() int {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "STORAGE_TEST_OPEN="+dir)
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode()
	}
	n, err := storagetest.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, n.Store, put("t", "k", "v"))
	if code := other(); code != 42 {
		t.Errorf("the other process ended with %d", code)
	}
	mustCommit(t, n.Store, put("t", "k", "w"))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if code := other(); code != 0 {
		t.Errorf("after Close the other process ended with %d", code)
	}
}

// writeUntilKilled prints the number of each transaction that was acknowledged.
func writeUntilKilled(dir string) error {
	n, err := storagetest.Open(dir, nil)
	if err != nil {
		return err
	}
	var failed atomic.Pointer[error]
	var out sync.Mutex
	for i := 0; failed.Load() == nil; i++ {
		txn := &storage.Txn{
			Writes:  []storage.Write{{Table: "t", Key: fmt.Sprint(i), Value: []byte(strings.Repeat("x", 1000))}},
			Samples: []storage.TwinSamples{{Twin: fmt.Sprint(i), Samples: []storage.Sample{{Property: "p", Time: 1, Value: 1}}}},
		}
		for {
			err = n.Store.Submit(txn, func(r storage.Result) {
				if r.Err != nil {
					failed.Store(&r.Err)
					return
				}
				out.Lock()
				defer out.Unlock()
				fmt.Println(i)
			})
			if !errors.Is(err, storage.ErrBusy) {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if err != nil {
			return err
		}
		if i%3000 == 2999 {
			if err := n.Raft.Snapshot().Error(); err != nil {
				return err
			}
		}
	}
	return *failed.Load()
}

// What a process printed as acknowledged before kill -9 is there afterwards, on the real disk.
func TestKill(t *testing.T) {
	for _, after := range []int{1, 2000, 12000} {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "STORAGE_TEST_KILL="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var acked []string
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			acked = append(acked, lines.Text())
			if len(acked) == after {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || len(acked) < after {
			t.Fatalf("the process ended by itself after %d: %v", len(acked), acked[max(0, len(acked)-1):])
		}
		n, err := storagetest.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		sampled := map[string]bool{}
		if _, err := n.Store.ReadSamples(0, func(_ uint64, all []storage.TwinSamples) error {
			for _, s := range all {
				sampled[s.Twin] = true
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for _, key := range acked {
			if _, ok, err := n.Store.Get("t", key); !ok || err != nil || !sampled[key] {
				t.Fatalf("%s of %d: there %v, sampled %v, %v", key, len(acked), ok, sampled[key], err)
			}
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// stopped is a Fatal that the tests wait for.
func stopped() (chan error, func(error)) {
	ch := make(chan error, 10)
	return ch, func(err error) { ch <- err }
}

func TestUnknownEntryStopsTheStore(t *testing.T) {
	fatal, tell := stopped()
	fs := vfs.NewMem()
	opt := storagetest.WithStore(func(o *storage.Options) { o.Fatal = tell })
	n, err := storagetest.Open("store", fs, opt)
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, n.Store, put("t", "k", "v"))
	before := n.Store.AppliedIndex()
	f := n.Raft.Apply([]byte{250, 1, 2, 3}, 0)
	if err := f.Error(); err != nil {
		t.Fatal(err)
	}
	var unknown *storage.UnknownEntryError
	if err, _ := f.Response().(error); !errors.As(err, &unknown) || unknown.Type != 250 {
		t.Errorf("the entry was answered %v", f.Response())
	}
	select {
	case err := <-fatal:
		if !errors.As(err, &unknown) || !errors.Is(n.Store.Err(), err) {
			t.Errorf("fatal: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nobody was told")
	}
	if _, err := n.Store.Commit(ctxFor(t), &storage.Txn{Writes: []storage.Write{put("t", "k", "w")}}); err == nil {
		t.Error("a stopped store commits")
	}
	if f := n.Raft.Apply([]byte{1, 1, 1, 1, 'x', 0, 0}, 0); f.Error() == nil {
		if _, isErr := f.Response().(error); !isErr {
			t.Errorf("a stopped state machine answers %v", f.Response())
		}
	}
	if n.Store.AppliedIndex() != before {
		t.Errorf("applied %d, was %d", n.Store.AppliedIndex(), before)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if len(fatal) != 0 {
		t.Errorf("told %d times more", len(fatal))
	}
}

// A full disk: nothing is acknowledged any more, the store says so once and clearly, and with room again it has
// everything that it acknowledged.
func TestFullDisk(t *testing.T) {
	for _, part := range []string{"/log/", "/state-"} {
		t.Run(strings.Trim(part, "/-"), func(t *testing.T) {
			base := vfs.NewCrashableMem()
			var full atomic.Bool
			fs := errorfs.Wrap(base, errorfs.InjectorFunc(func(op errorfs.Op) error {
				writes := op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpFileWriteAt
				if full.Load() && writes && strings.Contains(op.Path, part) {
					return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
				}
				return nil
			}))
			fatal, tell := stopped()
			opt := storagetest.WithStore(func(o *storage.Options) { o.Fatal, o.MemTableBytes = tell, 64<<10 })
			// Not closed: Pebble keeps whoever met the full disk, and the process is to end.
			n, err := storagetest.Open("store", fs, opt)
			if err != nil {
				t.Fatal(err)
			}
			value := strings.Repeat("x", 500)
			acked := make(chan string, 100000)
			go func() {
				for i := 0; ; i++ {
					key := "k" + strings.Repeat("0", i%7) + string(rune('a'+i%26))
					if _, err := n.Store.Commit(t.Context(), &storage.Txn{Writes: []storage.Write{put("t", key, value)}}); err != nil {
						return
					}
					acked <- key
				}
			}()
			for range 100 {
				<-acked
			}
			full.Store(true)
			select {
			case err := <-fatal:
				if !strings.Contains(err.Error(), "the disk is full") || !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("fatal: %v", err)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("nobody was told")
			}
			closed := make(chan error, 1)
			go func() { closed <- n.Store.Close() }()
			select {
			case err := <-closed:
				if !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("close: %v", err)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("close hangs")
			}
			left := base.CrashClone(vfs.CrashCloneCfg{})
			s := storagetest.OpenSingle(t, "store", left)
			for len(acked) > 0 {
				mustGet(t, s, "t", <-acked, value)
			}
		})
	}
}
