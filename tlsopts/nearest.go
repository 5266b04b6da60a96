package tlsopts

import (
	"fmt"
	"slices"
	"strings"
)

// didYouMean is the second half of an error about an unknown word: the known
// name that was most likely meant, or else advice.
func didYouMean(word string, known []string, advice string) string {
	if near := nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return advice
}

// nearest gives the one of known that word is most likely a misspelling of, or
// "". It is strict, because a wrong guess is worse than none: at most four
// slips, and fewer than a third of the letters; case does not count.
func nearest(word string, known []string) string {
	const longest = 64 // of any name here; bounds the work that follows
	if len(word) > longest {
		return ""
	}
	word = strings.ToUpper(word)
	best, fewest := "", 5
	for _, name := range known {
		limit := min(fewest-1, (len(name)-1)/3)
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

// sortedKeys makes what is chosen from a map the same in every run.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
