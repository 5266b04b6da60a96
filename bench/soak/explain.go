package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
)

// explanation is what of the proxy's log at the levels WARN and ERROR the soak
// itself causes. Any other line is a violation.
type explanation struct {
	name       string
	killing    bool // only while a backend is being killed
	level, msg string
	outcome    string // of the line; "" for any
	text       *regexp.Regexp
}

var explanations = []explanation{
	{name: "backend killed within a session", killing: true, level: "WARN", msg: "session", outcome: "backend_error",
		text: regexp.MustCompile(`connection reset by peer|broken pipe|owed a reply|within a (message|transaction)`)},
	{name: "backend killed before it greeted, and the other one as well", killing: true, level: "WARN", msg: "session", outcome: "backend_unavailable",
		text: regexp.MustCompile(`connection refused|connection reset by peer|EOF`)},
	{name: "health check of a killed backend", killing: true, level: "WARN", msg: "backend address is down; its clients go to the others until it is back"},
	{name: "no backend while one is killed and the other not yet found again", killing: true, level: "WARN", msg: "backend does not answer; its clients get 421 until it does"},
	{name: "broken configuration", level: "ERROR", msg: "configuration refused; the one before it stays in force",
		text: regexp.MustCompile(`nonsense|address already in use`)},
	{name: "pair half renewed", level: "ERROR", msg: "certificate not usable",
		text: regexp.MustCompile(`does not match|does not belong`)},
}

// explain names the explanation of a line. Lines of lesser levels need none,
// but all must be what the handler writes.
func explain(line []byte, killing bool) (name string, ok bool) {
	if bytes.Contains(line, []byte(`"level":"INFO"`)) {
		return "", true
	}
	var fields struct{ Level, Msg, Outcome, Error string }
	if json.Unmarshal(line, &fields) != nil {
		return "", false
	}
	if fields.Level == "INFO" || fields.Level == "DEBUG" {
		return "", true
	}
	i := slices.IndexFunc(explanations, func(e explanation) bool {
		return (killing || !e.killing) && e.level == fields.Level && e.msg == fields.Msg && (e.outcome == "" || e.outcome == fields.Outcome) &&
			(e.text == nil || e.text.MatchString(fields.Error))
	})
	if i < 0 {
		return "", false
	}
	return explanations[i].name, true
}
