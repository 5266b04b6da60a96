package tlsopts

import (
	"fmt"
	"slices"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/nearest"
)

// didYouMean is the second half of an error about an unknown word: the known
// name that was most likely meant, or else advice.
func didYouMean(word string, known []string, advice string) string {
	if near := nearest.Name(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return advice
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
