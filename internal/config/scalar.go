package config

import (
	"encoding"
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// setText sets target, a pointer, to the value that text stands for. All text
// is taken as it is written, whatever type YAML sees in it: a folder name may
// be 2026, and "off" is no boolean.
func setText(target any, text string) error {
	switch target := target.(type) {
	case *string:
		*target = text
		return nil
	case *bool:
		return setBool(target, text)
	case *int:
		return setInt(target, text)
	case *time.Duration:
		return setDuration(target, text)
	case *slog.Level: // its own UnmarshalText takes "info+3", too
		return setLevel(target, text)
	case encoding.TextUnmarshaler:
		return target.UnmarshalText([]byte(text))
	}
	return fmt.Errorf("%T has no text form", target)
}

// wanted names what setText takes for target.
func wanted(target any) string {
	switch target.(type) {
	case *bool:
		return "true or false"
	case *int:
		return "a whole number"
	case *time.Duration:
		return "a duration, such as 30s"
	}
	return "text"
}

func setBool(target *bool, text string) error {
	if text != "true" && text != "false" {
		return fmt.Errorf("%s is not a switch: want true or false", shown(text))
	}
	*target = text == "true"
	return nil
}

// setInt takes only the form that Go prints, because YAML 1.1 reads 0100 as
// 64 and YAML 1.2 reads it as 100.
func setInt(target *int, text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || strconv.Itoa(n) != text {
		return fmt.Errorf("%s is not a whole number: write it in plain digits, such as 100", shown(text))
	}
	*target = n
	return nil
}

func setDuration(target *time.Duration, text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%s is not a duration: write a number with its unit, such as 30s, 5m or 2h", shown(text))
	}
	if d <= 0 {
		return fmt.Errorf("%s is too short: want more than zero", text)
	}
	*target = d
	return nil
}

var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

func setLevel(target *slog.Level, text string) error {
	level, ok := logLevels[text]
	if !ok {
		return fmt.Errorf("%q is not a log level: want debug, info, warn or error", text)
	}
	*target = level
	return nil
}

// shown writes a value for a message: a number bare, all else in quotes.
func shown(text string) string {
	if _, err := strconv.Atoi(text); err == nil {
		return text
	}
	return strconv.Quote(text)
}
