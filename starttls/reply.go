package starttls

import (
	"bytes"
	"errors"
)

// replyParser follows the lines of replies (RFC 5321 section 4.2.1) through
// reads that cut them anywhere. The zero value is at the start of a reply.
type replyParser struct {
	head [4]byte // the first bytes of the current line
	n    int     // how many of them were seen
	code int     // of the reply's first line; 0 before it is known
}

var errReplySyntax = errors.New("a line does not begin with a reply code")

// next reads p up to the end of one reply. It returns how many bytes it took
// and the reply's code, or code 0 when p ended before the reply did. A line
// ends at LF; what stands before it is not judged.
func (r *replyParser) next(p []byte) (used, code int, err error) {
	for used < len(p) {
		for r.n < len(r.head) && used < len(p) {
			c := p[used]
			if r.n < 3 && (c < '0' || c > '9') {
				return used, 0, errReplySyntax
			}
			if c == '\n' {
				break
			}
			r.head[r.n] = c
			r.n++
			used++
		}
		i := bytes.IndexByte(p[used:], '\n')
		if i < 0 {
			return len(p), 0, nil
		}
		used += i + 1
		last, err := r.endLine()
		if err != nil {
			return used, 0, err
		}
		if last {
			code, r.code = r.code, 0
			return used, code, nil
		}
	}
	return used, 0, nil
}

// endLine judges the line whose head is known and tells whether it was the
// reply's last.
func (r *replyParser) endLine() (last bool, err error) {
	if r.n < 3 {
		return false, errReplySyntax
	}
	code := int(r.head[0]-'0')*100 + int(r.head[1]-'0')*10 + int(r.head[2]-'0')
	fourth := byte(' ')
	if r.n == len(r.head) {
		fourth = r.head[3]
	}
	r.n = 0
	if code < 200 || code > 599 || fourth != '-' && fourth != ' ' && fourth != '\r' {
		return false, errReplySyntax
	}
	if r.code == 0 {
		r.code = code
	}
	if code != r.code {
		return false, errors.New("the lines of a reply have different codes")
	}
	return fourth != '-', nil
}
