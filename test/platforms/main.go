// Command platforms checks the types of all of Pollux, its tests included, as they are compiled for other systems and processors, without
// compiling anything: a minute's work of two cores takes seconds. Usage: go run ./test/platforms darwin/arm64 ...
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: platforms SYSTEM/PROCESSOR ...")
		os.Exit(2)
	}
	for _, platform := range os.Args[1:] {
		fmt.Println("checking for", platform)
		if err := check(platform); err != nil {
			fmt.Fprintf(os.Stderr, "platforms: %s: %s\n", platform, err)
			os.Exit(1)
		}
	}
}

// check reads and types every package of the directory that it runs in.
func check(platform string) error {
	system, processor, ok := strings.Cut(platform, "/")
	if !ok {
		return fmt.Errorf("a platform is SYSTEM/PROCESSOR, such as darwin/arm64")
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	all, err := packages.Load(&packages.Config{
		Mode:  packages.LoadAllSyntax,
		Env:   append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+processor),
		Tests: true,
		ParseFile: func(files *token.FileSet, name string, src []byte) (*ast.File, error) {
			return parse(files, name, src, strings.HasPrefix(name, here+string(filepath.Separator)))
		},
	}, "./...")
	if err != nil {
		return err
	}
	wrong := 0
	for _, p := range all {
		if strings.HasSuffix(p.ID, ".test") {
			continue // a test's main function, which is generated
		}
		for _, e := range p.Errors {
			fmt.Fprintln(os.Stderr, e)
			wrong++
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d errors", wrong)
	}
	return nil
}

// parse reads a file. Of those that are not ours only the declarations count: their functions' bodies are left out, and what is wrong without them
// is not looked at.
func parse(files *token.FileSet, name string, src []byte, ours bool) (*ast.File, error) {
	f, err := parser.ParseFile(files, name, src, parser.SkipObjectResolution)
	if f == nil || ours {
		return f, err
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			fn.Body = nil
		}
	}
	return f, err
}
