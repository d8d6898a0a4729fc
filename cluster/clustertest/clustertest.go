// Package clustertest is for tests of what lives on a cluster.
package clustertest

import "github.com/polluxhq/pollux/cluster/internal/slots"

// Slots is the number of slots after FewSlots.
const Slots = 1024

// FewSlots has this program's nodes share 1,024 slots instead of 16,384. Each slot is a record that a new node takes, which
// under the race detector costs more than most tests do afterwards. To be called before the first node starts, in TestMain;
// such a program must not meet any other.
func FewSlots() { slots.Mask = Slots - 1 }
