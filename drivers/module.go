package drivers

import "context"

// Runner runs one driver version for many twins. Safe for concurrent use.
type Runner interface {
	Manifest() *Manifest
	// Handle makes one call within ctx's deadline. Errors: *DriverError (the driver refused), *wasm.Trap (it crashed),
	// context errors (its deadline), all without effects but for what Host methods did already.
	Handle(ctx context.Context, call Call, host Host) (Effects, error)
	// Close waits for running calls and frees the instances.
	Close() error
}
