// Package web carries the console: the browser application that Vite builds from this folder into dist, embedded in
// the binary, and the handler that serves it. It knows nothing of the node; the console speaks to it by the public API.
package web

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

//go:embed placeholder.html
var placeholder []byte

// Assets returns the console's files, rooted at what is served as `/`. It always holds index.html: on a tree where the
// console was not built, a page that says how to build it.
func Assets() fs.FS {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		// The name is constant and embedded: this cannot fail.
		panic("web: " + err.Error())
	}
	if !built(files) {
		return unbuilt{}
	}
	return files
}

// Built tells whether the console itself is embedded, or only the page that says how to build it.
func Built() bool {
	files, err := fs.Sub(dist, "dist")
	return err == nil && built(files)
}

func built(files fs.FS) bool {
	_, err := fs.Stat(files, "index.html")
	return err == nil
}
