package cluster

import (
	"strings"
	"testing"
)

func TestSelectorMatches(t *testing.T) {
	m := &Member{Site: "berlin", AvailabilityZone: "a", Labels: map[string]string{"rack": "r1", "gpu": "yes"}}
	for text, want := range map[string]bool{
		"":                            true,
		"site=berlin":                 true,
		"site==berlin, zone = a":      true,
		"site=paris":                  false,
		"site!=paris":                 true,
		"site!=berlin":                false,
		"zone in (a,b)":               true,
		"zone in (b, c)":              false,
		"zone notin (b,c)":            true,
		"zone notin (a)":              false,
		"rack=r1,gpu":                 true,
		"rack=r1,!gpu":                false,
		"!tape":                       true,
		"tape":                        false,
		"tape!=x":                     true,
		"tape notin (x,y)":            true,
		"tape=x":                      false,
		"site=berlin,zone=a,rack=r2":  false,
		"rack in (r1,r2),site=berlin": true,
	} {
		s, err := ParseSelector(text)
		if err != nil || s.Matches(m) != want {
			t.Errorf("%q: %v, %v; want %v", text, s.Matches(m), err, want)
		}
	}
	bare, _ := ParseSelector("site=x")
	if bare.Matches(&Member{}) {
		t.Error("a member without a site satisfies site=x")
	}
	if none, _ := ParseSelector("!site,!zone"); !none.Matches(&Member{}) {
		t.Error("a member without site and zone does not satisfy !site,!zone")
	}
}

// What is written in two ways is one selector, and so one class.
func TestSelectorHasOneForm(t *testing.T) {
	for text, want := range map[string]string{
		" zone=a , site=berlin ":        "site=berlin,zone=a",
		"zone in (b,a,b)":               "zone in (a,b)",
		"zone in (a)":                   "zone=a",
		"zone notin ( a )":              "zone!=a",
		"x==1,x=1":                      "x=1",
		"! gpu":                         "!gpu",
		"rack notin (r2,r1),gpu,site=b": "gpu,rack notin (r1,r2),site=b",
	} {
		s, err := ParseSelector(text)
		if err != nil || s.String() != want {
			t.Errorf("%q reads %q, %v; want %q", text, s, err, want)
		}
		again, err := ParseSelector(s.String())
		if err != nil || again.String() != want {
			t.Errorf("%q read again is %q, %v", want, again, err)
		}
	}
}

func TestMalformedSelectorsSayWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"site=":                           `value ""`,
		"=berlin":                         `name ""`,
		"site=berlin,":                    "a condition is empty",
		",":                               "a condition is empty",
		"zone in a,b":                     `name "zone in a"`,
		"zone in (a,b":                    "not closed",
		"zone in a,b)":                    "no partner",
		"zone in ((a)":                    "no partner",
		"zone out (a)":                    "want NAME in (A,B)",
		"zone in ()":                      `value ""`,
		"site=ber lin":                    `value "ber lin"`,
		"a=b=c":                           `value "b=c"`,
		"!":                               `name ""`,
		"näme=x":                          `name "näme"`,
		"site=" + strings.Repeat("x", 64): "at most 63",
		strings.Repeat("a,", 200):         "400 bytes, 256 are allowed",
	} {
		if s, err := ParseSelector(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want an error with %q", text, s, err, want)
		}
	}
}

func FuzzParseSelector(f *testing.F) {
	for _, s := range []string{"site=berlin,zone in (a,b)", "!gpu", "a!=b", "x notin (1,2)", "(,)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSelector(text)
		if err != nil {
			return
		}
		again, err := ParseSelector(s.String())
		if len(s.String()) <= maxSelector && (err != nil || again.String() != s.String()) {
			t.Fatalf("%q reads %q, which reads %q, %v", text, s, again, err)
		}
	})
}
