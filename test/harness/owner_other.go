//go:build !linux

package harness

import "net/netip"

// ownerOf cannot be told here; clusters with cut links need Linux.
func ownerOf(_, _ netip.AddrPort, _ []int) int { return 0 }

func traced(int) int { return 0 }
