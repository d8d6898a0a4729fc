package history

import (
	"math"
	"syscall"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/cgroup"
)

// systemMemory returns the memory that this process may have, in bytes, as VictoriaMetrics will reckon it; 0 if unknown.
func systemMemory() int64 {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 0
	}
	total := int64(math.MaxInt64)
	if n := uint64(info.Totalram) * uint64(info.Unit); n < math.MaxInt64 {
		total = int64(n)
	}
	for _, limit := range []int64{cgroup.GetMemoryLimit(), cgroup.GetHierarchicalMemoryLimit()} {
		if limit > 0 && limit < total {
			return limit
		}
	}
	return total
}
