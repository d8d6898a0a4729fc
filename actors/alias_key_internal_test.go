package actors

import "testing"

func TestEscapeKeepsPartsApart(t *testing.T) {
	keys := map[string][3]string{}
	parts := []string{"a", "a/b", "b", "a%2Fb", "a%b", "%", "/", "\x00", "%00", "a\x00b", "ä/%", ""}
	for _, n := range parts {
		if got := unescape(escape(n)); got != n {
			t.Errorf("%q became %q", n, got)
		}
		for _, k := range parts {
			for _, v := range parts {
				key := aliasKey("p", n, k, v)
				if was, ok := keys[key]; ok {
					t.Errorf("%q is the key of %q and of %q", key, was, [3]string{n, k, v})
				}
				keys[key] = [3]string{n, k, v}
			}
		}
	}
}

func BenchmarkAliasKey(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		aliasKey("default", "mqtt", "id", "1234")
	}
}
