//go:build race

package cluster

func init() { simSeeds = 30 } // the race detector makes them ten times slower
