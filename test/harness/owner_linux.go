package harness

import (
	"bufio"
	endian "encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// ownerOf tells which of the processes holds the other end of a TCP connection on this machine: 0 where none does. All
// nodes of a test share one network, and on loopback a connection's address says nothing of who made it.
func ownerOf(remote, local netip.AddrPort, pids []int) int {
	inode := inodeOf(remote, local)
	if inode == "" {
		return 0
	}
	want := "socket:[" + inode + "]"
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd"
		d, err := os.Open(dir)
		if err != nil {
			continue
		}
		names, _ := d.Readdirnames(-1)
		d.Close()
		for _, name := range names {
			if to, err := os.Readlink(dir + "/" + name); err == nil && to == want {
				return pid
			}
		}
	}
	return 0
}

// inodeOf finds the socket whose own address is remote, seen from local.
func inodeOf(remote, local netip.AddrPort) string {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer f.Close()
	want := kernelForm(remote) + " " + kernelForm(local) + " "
	for lines := bufio.NewScanner(f); lines.Scan(); {
		_, row, ok := strings.Cut(lines.Text(), ": ")
		if !ok || !strings.HasPrefix(row, want) {
			continue
		}
		if fields := strings.Fields(row); len(fields) > 8 {
			return fields[8]
		}
	}
	return ""
}

// kernelForm is how /proc/net/tcp writes an IPv4 address.
func kernelForm(a netip.AddrPort) string {
	ip := a.Addr().Unmap().As4()
	return fmt.Sprintf("%08X:%04X", endian.NativeEndian.Uint32(ip[:]), a.Port())
}

// traced gives the process that traces another; 0: none.
func traced(pid int) int {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "TracerPid:"); ok {
			tracer, err := strconv.Atoi(strings.TrimSpace(rest))
			if err != nil {
				return 0
			}
			return tracer
		}
	}
	return 0
}
