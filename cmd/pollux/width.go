package main

import (
	"io"
	"math"
	"unicode/utf8"
)

const (
	// leastCell is what is left of a cell that is cut, at least.
	leastCell = 16
	// gap between two columns.
	gap = 2
)

// widthOf is how many characters a line of an output may have: as many as it likes, where that is no terminal but a file or another program.
func widthOf(out io.Writer) int {
	if f, ok := out.(interface{ Fd() uintptr }); ok {
		if n := columnsOf(f.Fd()); n > 0 {
			return n
		}
	}
	return math.MaxInt
}

// fitted cuts the cells of the columns cut, the widest first, so that the table's lines fit the width, where that is enough. The last column is
// no reason to cut others: it ends the line.
func fitted(table [][]string, width int, cut ...int) {
	widest := make([]int, len(table[0]))
	for _, line := range table {
		for i, cell := range line {
			widest[i] = max(widest[i], utf8.RuneCountInString(cell))
		}
	}
	total := min(widest[len(widest)-1], leastCell) - widest[len(widest)-1]
	for _, n := range widest {
		total += n + gap
	}
	for ; total-gap > width; total-- {
		most := cut[0]
		for _, i := range cut {
			if widest[i] > widest[most] {
				most = i
			}
		}
		if widest[most] <= leastCell {
			break
		}
		widest[most]--
	}
	for _, line := range table {
		for _, i := range cut {
			line[i] = shortened(line[i], widest[i])
		}
	}
}

// shortened is a text of n characters at most; … stands for the rest.
func shortened(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}
