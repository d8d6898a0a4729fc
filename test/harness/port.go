package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// FreeAddr is an address on loopback whose port nobody holds, in TCP and in UDP. It lies below those that Linux gives to
// outgoing connections and to port 0 (from 32768), so that what starts on it again later finds it free.
func FreeAddr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 15_000+rand.IntN(17_000))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		p, err := net.ListenPacket("udp", addr)
		l.Close()
		if err != nil {
			continue
		}
		p.Close()
		return addr
	}
	t.Fatal("find a free port between 15000 and 32000: all that were tried are taken")
	return ""
}
