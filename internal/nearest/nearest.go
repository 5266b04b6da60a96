// Package nearest guesses what a mistyped word was meant to be.
package nearest

import "strings"

// Name gives the one of known that word is most likely a misspelling of, or
// "". It is strict, because a wrong guess is worse than none: at most four
// slips, and no more than a third of the letters; case does not count.
func Name(word string, known []string) string {
	const longest = 64 // of any name here; bounds the work that follows
	if len(word) > longest {
		return ""
	}
	word = strings.ToUpper(word)
	best, fewest := "", 5
	for _, name := range known {
		limit := min(fewest-1, len(name)/3)
		if max(len(name)-len(word), len(word)-len(name)) > limit {
			continue
		}
		if n := slips(word, strings.ToUpper(name)); n <= limit {
			best, fewest = name, n
		}
	}
	return best
}

// slips counts the letters to insert, remove, change or swap with the next to
// get from a to b (the optimal string alignment distance).
func slips(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, change)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
