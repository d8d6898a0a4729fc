package rpc

import (
	"fmt"
	"strings"
)

// DefaultProject is meant where an id has no project.
const DefaultProject = "default"

const (
	// maxProject in bytes.
	maxProject = 64
	// maxName of a twin, zone or system within its project, in bytes.
	maxName = 128
)

// splitID gives the two parts of `project/name`; a bare name is in the default project.
func splitID(id string) (project, name string, err error) {
	project, name = DefaultProject, id
	if i := strings.IndexByte(id, '/'); i >= 0 {
		project, name = id[:i], id[i+1:]
	}
	if !validProject(project) || !validName(name) {
		return "", "", fmt.Errorf("%q is no id: want NAME or PROJECT/NAME of a-z 0-9 . _ -", id)
	}
	return project, name, nil
}

// canonicalID completes a bare name; it allocates only then.
func canonicalID(id string) string {
	if id == "" || strings.IndexByte(id, '/') >= 0 {
		return id
	}
	return DefaultProject + "/" + id
}

// validName: [a-z0-9][a-z0-9._-]{0,127}
func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// validProject: [a-z0-9][a-z0-9_-]{0,63}
func validProject(s string) bool {
	return validName(s) && len(s) <= maxProject && strings.IndexByte(s, '.') < 0
}
