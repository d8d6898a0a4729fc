package project

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/polluxhq/pollux/drivers/js"
	"github.com/polluxhq/pollux/drivers/sdk"
)

//go:embed templates
var templates embed.FS

// goVersion that new projects name: the SDK exports a function to WASM, which Go can since then.
const goVersion = "1.24"

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// values fill in the templates.
type values struct{ Name, Title, Go, Capabilities string }

// New makes a project that builds and passes its test: a driver for a lamp that talks in lines. dir must not exist, or
// be empty. It returns the files that it wrote, the SDK's aside.
func New(dir, name string, lang Lang) ([]string, error) {
	if !namePattern.MatchString(name) {
		return nil, fmt.Errorf("name %q: want small letters, digits, - and _, at most 64, such as my-lamp", name)
	}
	if old, err := os.ReadDir(dir); err == nil && len(old) > 0 {
		return nil, fmt.Errorf("%s exists and is not empty", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	w := &writer{dir: dir, values: values{Name: name, Title: title(name), Go: goVersion,
		Capabilities: `"send", "state_get", "state_set", "schedule", "log", "setting"`}}
	w.template("script.test.yaml", name+".test.yaml")
	w.template("gitignore", ".gitignore")
	switch lang {
	case JavaScript:
		w.template("js/driver.js", name+".js")
		w.template("js/package.json", "package.json")
		w.file("pollux.d.ts", []byte(js.Types))
	case Go:
		w.template("driver.json", ManifestFile)
		w.template("go/main.go.tmpl", "main.go")
		w.template("go/driver_test.go.tmpl", "driver_test.go")
		w.template("go/go.mod.tmpl", "go.mod")
		w.vendor()
	case Rust:
		w.template("rust/lib.rs.tmpl", "src/lib.rs")
		w.template("rust/scripts.rs.tmpl", "tests/scripts.rs")
		w.template("rust/Cargo.toml.tmpl", "Cargo.toml")
		w.copy(sdk.Rust, "rust", "twin", func(string) bool { return true })
	default:
		return nil, fmt.Errorf("language %q: want js, go or rust", lang)
	}
	return w.wrote, w.err
}

// title makes a name for people.
func title(name string) string {
	words := strings.FieldsFunc(name, func(r rune) bool { return r == '-' || r == '_' })
	for i, w := range words {
		words[i] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, " ")
}

// writer writes a project's files; after the first error it does nothing more.
type writer struct {
	dir    string
	values values
	wrote  []string
	err    error
}

func (w *writer) file(name string, content []byte) {
	w.wrote = append(w.wrote, name)
	w.quiet(name, content)
}

func (w *writer) quiet(name string, content []byte) {
	if w.err != nil {
		return
	}
	to := filepath.Join(w.dir, filepath.FromSlash(name))
	if w.err = os.MkdirAll(filepath.Dir(to), 0o755); w.err == nil {
		w.err = os.WriteFile(to, content, 0o644)
	}
}

func (w *writer) template(from, to string) {
	if w.err != nil {
		return
	}
	text, err := templates.ReadFile("templates/" + from)
	if err != nil {
		w.err = err
		return
	}
	t, err := template.New(from).Parse(string(text))
	if err != nil {
		w.err = err
		return
	}
	var out bytes.Buffer
	if w.err = t.Execute(&out, w.values); w.err == nil {
		w.file(to, out.Bytes())
	}
}

// module is what the SDK for Go is imported by.
const module = "github.com/polluxhq/pollux"

// vendor writes the SDK beside the project, so that it builds without a network, and goes with the version of pollux that
// made it.
func (w *writer) vendor() {
	list := "# " + module + " v0.0.0\n## explicit; go " + goVersion + "\n"
	for _, pkg := range []string{"twin", "twintest", "wire"} {
		list += module + "/drivers/sdk/" + pkg + "\n"
		w.copy(sdk.Go, pkg, "vendor/"+module+"/drivers/sdk/"+pkg, func(name string) bool { return !strings.HasSuffix(name, "_test.go") })
	}
	w.quiet("vendor/modules.txt", []byte(list))
}

// copy writes the files of a directory that are wanted.
func (w *writer) copy(from fs.FS, dir, to string, wanted func(name string) bool) {
	if w.err != nil {
		return
	}
	w.err = fs.WalkDir(from, dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !wanted(name) {
			return err
		}
		text, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		w.quiet(path.Join(to, strings.TrimPrefix(name, dir+"/")), text)
		return w.err
	})
}
