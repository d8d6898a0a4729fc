//go:build !linux

package harness

import "testing"

// SmallDisk skips the test: a small disk is mounted on Linux alone.
func SmallDisk(t *testing.T, _ string) string {
	t.Skip("small disks are mounted on Linux alone")
	return ""
}
