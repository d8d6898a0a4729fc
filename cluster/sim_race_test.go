//go:build race

package cluster

func init() { simSeeds = 15 } // the race detector makes them ten times slower
