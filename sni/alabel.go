package sni

import (
	"slices"
	"strings"
	"unicode"
)

// aLabels returns the A-labels of a name with U-labels, for messages: what a
// client asks for in its place. It is "" where that would take the tables of
// Unicode normalisation, as for a name from a Mac's disk: a guess may be wrong.
func aLabels(name string) string {
	var labels []string
	for label := range strings.SplitSeq(strings.ToLower(name), ".") {
		runes := []rune(label)
		if slices.ContainsFunc(runes, func(r rune) bool { return r > unicode.MaxASCII && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			return ""
		}
		if slices.ContainsFunc(runes, func(r rune) bool { return r > unicode.MaxASCII }) {
			label = "xn--" + punycode(runes)
		}
		labels = append(labels, label)
	}
	return strings.Join(labels, ".")
}

// punycode encodes a label (RFC 3492 section 6.3).
func punycode(label []rune) string {
	const base, tMin, tMax, firstBias, firstN = 36, 1, 26, 72, 128
	const digits = "abcdefghijklmnopqrstuvwxyz0123456789"
	var out []byte
	for _, r := range label {
		if r < firstN {
			out = append(out, byte(r))
		}
	}
	basic := len(out)
	if basic > 0 {
		out = append(out, '-')
	}
	n, delta, bias := rune(firstN), 0, firstBias
	for done := basic; done < len(label); n++ {
		next := rune(unicode.MaxRune)
		for _, r := range label {
			if r >= n {
				next = min(next, r)
			}
		}
		delta += int(next-n) * (done + 1)
		n = next
		for _, r := range label {
			if r < n {
				delta++
			}
			if r != n {
				continue
			}
			q := delta
			for k := base; ; k += base {
				t := min(max(k-bias, tMin), tMax)
				if q < t {
					break
				}
				out = append(out, digits[t+(q-t)%(base-t)])
				q = (q - t) / (base - t)
			}
			out = append(out, digits[q])
			bias = adapt(delta, done+1, done == basic)
			delta = 0
			done++
		}
		delta++
	}
	return string(out)
}

// adapt is the bias after a digit (RFC 3492 section 6.1).
func adapt(delta, points int, first bool) int {
	const base, tMin, tMax, skew, damp = 36, 1, 26, 38, 700
	if first {
		delta /= damp
	} else {
		delta /= 2
	}
	delta += delta / points
	k := 0
	for ; delta > (base-tMin)*tMax/2; k += base {
		delta /= base - tMin
	}
	return k + (base-tMin+1)*delta/(delta+skew)
}
