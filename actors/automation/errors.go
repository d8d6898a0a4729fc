package automation

import (
	"errors"
	"fmt"
)

// ErrNotFound: no such schedule, rule, alarm or twin.
var ErrNotFound = errors.New("not found")

// errNoSun: a schedule by the sun is never due.
var errNoSun = errors.New("the place is not known, or the sun does not rise or set there this year")

// FieldError says what is wrong with a configuration, and where.
type FieldError struct {
	// Path is a JSON pointer, such as /calendar/times/0.
	Path, Reason string
}

func (e *FieldError) Error() string { return e.Path + ": " + e.Reason }

func wrong(path, format string, args ...any) error {
	return &FieldError{Path: path, Reason: fmt.Sprintf(format, args...)}
}

// below puts a path before that of a FieldError.
func below(path string, err error) error {
	var f *FieldError
	if errors.As(err, &f) {
		return &FieldError{Path: path + f.Path, Reason: f.Reason}
	}
	return err
}
