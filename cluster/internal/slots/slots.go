// Package slots holds how many slots a program has, for package cluster and for tests alone.
package slots

// Full is the number of slots of a real cluster; a power of two.
const Full = 16384

// Mask takes the slot out of a hash: one less than the number of slots.
var Mask uint64 = Full - 1
