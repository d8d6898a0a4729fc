//go:build !unix

package history

// tryLock cannot look at locks on this system.
func tryLock(string) error { return nil }
