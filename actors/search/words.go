package search

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

const (
	// maxWord is how much of a word is looked at, in bytes.
	maxWord = 64
	// maxWords of a text are indexed.
	maxWords = 200
)

// words takes a text apart: runs of letters and digits, in small letters, without accents. The words are parts of the text where
// that is possible, so that they cost no memory of their own.
func words(text string) []string {
	text = fold(text)
	var all []string
	start := -1
	for i, r := range text {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			if start < 0 {
				start = i
			}
			continue
		}
		if start >= 0 {
			all = append(all, cut(text[start:i]))
			start = -1
		}
		if len(all) == maxWords {
			return all
		}
	}
	if start >= 0 {
		all = append(all, cut(text[start:]))
	}
	return all
}

func cut(word string) string {
	if len(word) > maxWord {
		return strings.ToValidUTF8(word[:maxWord], "")
	}
	return word
}

// fold makes small letters without accents: Büro is found by buro and büro.
func fold(s string) string {
	ascii := true
	for i := range len(s) {
		if s[i] >= 0x80 {
			ascii = false
			break
		}
	}
	s = strings.ToLower(s)
	if ascii {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFKD.String(s))
}
