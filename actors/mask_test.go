package actors

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

func TestMaskAcrossChunks(t *testing.T) {
	for _, c := range []struct {
		chunks []string
		want   string
	}{
		{[]string{"my geheim word"}, "my *** word"},
		{[]string{"my ge", "heim word"}, "my *** word"},
		{[]string{"my g", "e", "h", "e", "i", "m", " word"}, "my *** word"},
		{[]string{"geheimg", "eheim!"}, "******!"},
		{[]string{"gege", "heim!"}, "ge***!"},
		{[]string{"gehen", " wir"}, "gehen wir"},
		{[]string{"geh", "eimnis!"}, "***!"},
		{[]string{"geheim", "nis", "geheim."}, "******."},
	} {
		m := newMasking([]string{"geheim", "geheimnis", ""})
		var got strings.Builder
		for _, chunk := range c.chunks {
			got.Write(m.stream([]byte(chunk)))
		}
		if got.String() != c.want || m.end() {
			t.Errorf("%q shows as %q, want %q", c.chunks, got.String(), c.want)
		}
	}
}

// However a text is cut, it shows as the whole does.
func TestMaskAnyCut(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		text := make([]byte, 40)
		for i := range text {
			text[i] = "ab."[rnd.IntN(3)]
		}
		m := newMasking([]string{"ab", "aab", "abba"})
		var got []byte
		for rest := text; len(rest) > 0; {
			n := 1 + rnd.IntN(len(rest))
			got = append(got, m.stream(rest[:n])...)
			rest = rest[n:]
		}
		got = append(got, m.whole(m.held)...)
		if want := string(m.whole(text)); string(got) != want {
			t.Fatalf("%s shows as %s, want %s", text, got, want)
		}
	}
}

func TestMaskHolds(t *testing.T) {
	m := newMasking([]string{"geheim"})
	if got := string(m.stream([]byte("my gehei"))); got != "my " {
		t.Errorf("the beginning of a secret shows: %q", got)
	}
	if !m.end() || m.end() {
		t.Error("what is held back is not forgotten once")
	}
	if got := string(m.whole([]byte("my gehei"))); got != "my gehei" {
		t.Errorf("a whole text shows as %q", got)
	}
}

// TestMaskComputed: what a driver made of a secret does not show in what it sends; without a secret there is nothing to hide.
func TestMaskComputed(t *testing.T) {
	const digest = "5d8409bc1c3fa39749434aa3a5c38682"
	r := newTracers()
	defer func() {
		if n := r.count.Load(); n != 0 {
			t.Errorf("%d readers are left", n)
		}
	}()
	s, _ := r.add("a/b")
	defer s.Close()
	next := func() string {
		m, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return string(m.Data)
	}
	computed := []*regexp.Regexp{regexp.MustCompile("^[0-9a-f]{32}")}
	r.secrets("a/b", []string{"JBMIAProjectorLink"}, computed)
	for _, c := range []struct{ sent, want string }{
		{digest + "%1POWR ?\r", "***%1POWR ?\r"},
		{"%1POWR ?\r", "%1POWR ?\r"},
		{"%1NAME " + digest + "\r", "%1NAME " + digest + "\r"},
	} {
		r.sent("a/b", "", []byte(c.sent))
		if got := next(); got != c.want {
			t.Errorf("%q shows as %q, want %q", c.sent, got, c.want)
		}
	}
	r.received("a/b", "", []byte(digest))
	if got := next(); got != digest {
		t.Errorf("received shows as %q", got)
	}
	r.secrets("a/b", nil, computed)
	r.sent("a/b", "", []byte(digest))
	if got := next(); got != digest {
		t.Errorf("without a secret %q", got)
	}
}
