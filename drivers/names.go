package drivers

import (
	"fmt"
	"slices"
	"strings"
)

// maxNamed bounds the names that an error lists.
const maxNamed = 8

// unknown is the error of a name that is not among names, which are sorted. It does not repeat the name, which its
// caller knows; it tells what there is instead: the names that are nearly the same, or else the first ones.
func unknown(name string, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("%w, which has none", ErrUnknown)
	}
	if near := nearNames(name, names); len(near) > 0 {
		return fmt.Errorf("%w; did you mean %s?", ErrUnknown, strings.Join(near, " or "))
	}
	more := ""
	if len(names) > maxNamed {
		more = fmt.Sprintf(" and %d more", len(names)-maxNamed)
		names = names[:maxNamed]
	}
	return fmt.Errorf("%w; there are %s%s", ErrUnknown, strings.Join(names, ", "), more)
}

// nearNames gives up to three names that are a slip away from the wanted one, the nearest first.
func nearNames(want string, names []string) []string {
	if len(want) > 64 {
		return nil
	}
	type near struct {
		name string
		far  int
	}
	var found []near
	lower := strings.ToLower(want)
	for _, name := range names {
		far := distance(lower, strings.ToLower(name))
		if far <= 1+min(len(want), len(name))/4 || len(want) > 2 && strings.HasPrefix(strings.ToLower(name), lower) {
			found = append(found, near{name, far})
		}
	}
	slices.SortStableFunc(found, func(a, b near) int { return a.far - b.far })
	var out []string
	for _, n := range found[:min(len(found), 3)] {
		out = append(out, n.name)
	}
	return out
}

// distance counts the letters to put in, leave out, change or swap with their neighbour to get from a to b.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(change, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
