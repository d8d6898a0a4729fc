package rpc

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func TestPageTokens(t *testing.T) {
	for _, last := range []string{"a", "default/lamp", strings.Repeat("long", 100), "\x00"} {
		token := pageToken("twin", last)
		if got, err := afterToken("twin", token); err != nil || got != last {
			t.Errorf("%q came back as %q, %v", last, got, err)
		}
		other := "A"
		if token[0] == 'A' {
			other = "B"
		}
		for name, wrong := range map[string]string{
			"bare": last, "cut": token[:len(token)-1], "longer": token + "A", "changed": other + token[1:],
			"without a sum": base64.RawURLEncoding.EncodeToString([]byte(last)), "padded": token + "=",
		} {
			got, err := afterToken("twin", wrong)
			var at *invalidError
			if !errors.As(err, &at) || at.path != "page_token" {
				t.Errorf("%s token of %q: got %q, %v", name, last, got, err)
			}
		}
		if got, err := afterToken("zone", token); err == nil {
			t.Errorf("a token of twins goes on in zones at %q", got)
		}
	}
	if token := pageToken("twin", ""); token != "" {
		t.Errorf("the end has token %q", token)
	}
	if after, err := afterToken("twin", ""); after != "" || err != nil {
		t.Errorf("the first page: %q, %v", after, err)
	}
}

func FuzzAfterToken(f *testing.F) {
	f.Add("twin", pageToken("twin", "default/lamp"))
	f.Add("twin", "zzz")
	f.Fuzz(func(t *testing.T, kind, token string) {
		after, err := afterToken(kind, token)
		if err == nil && after != "" {
			if again, err := afterToken(kind, pageToken(kind, after)); err != nil || again != after {
				t.Errorf("%q: %q, %v", token, again, err)
			}
		}
	})
}
