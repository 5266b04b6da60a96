package config

import (
	"fmt"
	"strings"
)

// unknownKey is the text of a fault; near is the key that was meant, or "".
func unknownKey(key, near string, keys []string) string {
	if near != "" {
		return fmt.Sprintf("unknown key %q: did you mean %q?", key, near)
	}
	return fmt.Sprintf("unknown key %q: the keys here are %s", key, strings.Join(keys, ", "))
}

// nearest gives the one of known that word is most likely a misspelling of, or
// "". It is strict, because a wrong guess is worse than none: at most two
// slips, and fewer than half of the letters.
func nearest(word string, known []string) string {
	word = strings.ToLower(word)
	best, fewest := "", 3
	for _, k := range known {
		if d := slips(word, k); d < fewest && 2*d < len(k) {
			best, fewest = k, d
		}
	}
	return best
}

// slips counts the letters to insert, remove, change or swap with the next to
// get from a to b (the optimal string alignment distance). More than two are
// reported as three.
func slips(a, b string) int {
	const longest = 64 // of any name here; bounds the work that follows
	if max(len(a)-len(b), len(b)-len(a)) > 2 || len(a) > longest {
		return 3
	}
	var before []int // the row before the last
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
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
		before, last = last, row
	}
	return min(last[len(b)], 3)
}
