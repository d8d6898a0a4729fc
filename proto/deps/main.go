// Command deps writes the .proto sources that ours import and that live only as generated code in the module cache
// (buf.build's registry is not needed to build Pollux). Usage: go run ./proto/deps DIR
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: deps DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1], validate.File_buf_validate_validate_proto); err != nil {
		fmt.Fprintln(os.Stderr, "deps:", err)
		os.Exit(1)
	}
}

func write(dir string, file protoreflect.FileDescriptor) error {
	name := filepath.Join(dir, filepath.FromSlash(file.Path()))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	var printer protoprint.Printer
	text, err := printer.PrintProtoToString(file)
	if err != nil {
		return fmt.Errorf("print %s: %w", file.Path(), err)
	}
	return os.WriteFile(name, []byte(text), 0o644)
}
