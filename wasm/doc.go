// Package wasm runs strangers' WASM modules. A file passes stages, each a function of its own: Verify looks at its
// structure and what it asks for, Meter rewrites it so that it counts its own time and depth, Runtime.Compile
// translates it, and a Pool keeps instances of it that are called.
//
// What a module can do to its host is bounded: its size and shape before it is compiled, its memory, and the time of
// each call. It reaches nothing but the host functions that the runtime was given and a handful of WASI stubs. After a
// trap its instance is thrown away, and an instance never serves two tenants.
//
// The package knows nothing of what modules are for: the host functions and the rules come from its user.
package wasm
