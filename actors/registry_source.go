package actors

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/script"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// maxTests bounds a driver's tests together, in bytes.
const maxTests = 4 << 20

// CheckTests reads files of tests and says what is wrong with them, with file and line.
func CheckTests(tests []*pb.DriverTest) ([]*script.File, error) {
	var files []*script.File
	seen, size := map[string]bool{}, 0
	for i, t := range tests {
		at := fmt.Sprintf("/tests/%d", i)
		if !strings.HasSuffix(t.Name, script.Suffix) || strings.ContainsAny(t.Name, `/\`) {
			return nil, invalid(at+"/name", "%q is not the name of a test file: it ends with %s and holds no slash", t.Name, script.Suffix)
		}
		if seen[t.Name] {
			return nil, invalid(at+"/name", "%s is there twice", t.Name)
		}
		seen[t.Name] = true
		if size += len(t.Text); size > maxTests {
			return nil, invalid(at, "the tests are larger than %d MiB together", maxTests>>20)
		}
		f, err := script.Parse(t.Name, []byte(t.Text))
		if err != nil {
			return nil, invalid(at+"/text", "%v", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// SetDriverTests keeps tests with a driver's version, in place of those that it had. It blocks until they are committed.
func (r *Registry) SetDriverTests(ctx context.Context, name, version string, tests []*pb.DriverTest) (*pb.Driver, error) {
	if _, err := CheckTests(tests); err != nil {
		return nil, err
	}
	all := make(map[string]string, len(tests))
	for _, t := range tests {
		all[t.Name] = t.Text
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("keep tests of driver %s: %w", name, err)
	}
	digest, err := r.putBlob(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("keep tests of driver %s: %w", name, err)
	}
	var d *pb.Driver
	revision, err := r.change(ctx, func() (*storage.Txn, error) {
		if d, err = findDriver(r.store, name, version); err != nil {
			return nil, err
		}
		guard := storage.Guard{Table: tableDrivers, Key: driverKey(d.Name, d.Version), Revision: d.Revision}
		d.TestsDigest = digest
		value, err := encode(d)
		if err != nil {
			return nil, err
		}
		return &storage.Txn{Guards: []storage.Guard{guard},
			Writes: []storage.Write{{Table: guard.Table, Key: guard.Key, Value: value}, storage.PendingWrite(digest)}}, nil
	}, func(*storage.GuardError) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("keep tests of driver %s: %w", name, err)
	}
	d.Revision = revision
	return d, r.presentDriver(d)
}

// DriverSource gives a driver's JavaScript and its tests. Errors: ErrNotFound, and ErrNoSource for a WASM file.
func (r *Registry) DriverSource(name, version string) (*pb.GetDriverSourceResponse, error) {
	d, err := findDriver(r.store, name, version)
	if err != nil {
		return nil, err
	}
	file, err := r.store.Blob(d.Digest)
	if err != nil {
		return nil, fmt.Errorf("read driver %s %s: %w", d.Name, d.Version, err)
	}
	if !drivers.IsSource(file) {
		return nil, fmt.Errorf("driver %s %s: %w", d.Name, d.Version, ErrNoSource)
	}
	out := &pb.GetDriverSourceResponse{Name: d.Name, Version: d.Version, Source: string(file)}
	if d.TestsDigest == "" {
		return out, nil
	}
	raw, err := r.store.Blob(d.TestsDigest)
	if err != nil {
		return nil, fmt.Errorf("read tests of driver %s %s: %w", d.Name, d.Version, err)
	}
	all := map[string]string{}
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("read tests of driver %s %s: %w", d.Name, d.Version, err)
	}
	for test, text := range all {
		out.Tests = append(out.Tests, &pb.DriverTest{Name: test, Text: text})
	}
	slices.SortFunc(out.Tests, func(a, b *pb.DriverTest) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
