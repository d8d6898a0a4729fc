package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/project"
	"github.com/polluxhq/pollux/rpc"
)

func driverNew(a *app) *cobra.Command {
	var lang, dir string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Begin a driver: a project that builds and passes its test",
		Long: `Makes a directory with a small driver that works: for a lamp that talks in lines over TCP, with its test script. Change it
into yours. A driver in JavaScript is one file and needs no toolchain; one in Go or Rust brings its SDK along and needs no network.`,
		Example: `  pollux driver new my-lamp                 in JavaScript
  pollux driver new my-lamp --lang go
  cd my-lamp && pollux driver test`,
		Args: exactly("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if dir == "" {
				dir = name
			}
			files, err := project.New(dir, name, project.Lang(lang))
			if err != nil {
				return err
			}
			for _, f := range files {
				a.printf("%s\n", filepath.Join(dir, f))
			}
			a.printf("\nnow: cd %s && pollux driver test\n", dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&lang, "lang", "js", "language: js, go or rust")
	cmd.Flags().StringVar(&dir, "dir", "", "where to make it (default: NAME in this directory)")
	must(cmd.RegisterFlagCompletionFunc("lang", cobra.FixedCompletions([]string{"js", "go", "rust"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func driverBuild(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "build [DIR]",
		Short: "Build a driver's file with the language's own toolchain",
		Long: `Calls the Go or Rust toolchain and puts driver.json into the module. The result, build/NAME-VERSION.wasm, is what push uploads. A driver
in JavaScript is checked; its source is the file.`,
		Example: "  pollux driver build\n  pollux driver build ./my-lamp --out my-lamp.wasm",
		Args:    between(0, "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := project.Find(dirOf(args))
			if err != nil {
				return err
			}
			file, err := p.Build(cmd.Context())
			if err != nil {
				return err
			}
			m, err := verified(cmd.Context(), file)
			if err != nil {
				return err
			}
			if p.Lang == project.JavaScript && out == "" {
				a.printf("%s is %s@%s; it is uploaded as it is\n", p.File, m.Name, m.Version)
				return nil
			}
			if out == "" {
				out = filepath.Join(p.Dir, "build", m.Name+"-"+m.Version+".wasm")
			}
			return a.wrote(out, file, m)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "the file to write (default: DIR/build/NAME-VERSION.wasm)")
	return cmd
}

func driverPack(a *app) *cobra.Command {
	var manifest, out string
	cmd := &cobra.Command{
		Use:     "pack MODULE",
		Short:   "Put a manifest into a WASM module of any language",
		Long:    "Makes a driver of a module that some other toolchain built: its manifest goes into the section driver.manifest. build does this for Go and Rust.",
		Example: "  pollux driver pack out/lamp.wasm --manifest driver.json --out lamp.driver.wasm",
		Args:    exactly("MODULE"),
		RunE: func(_ *cobra.Command, args []string) error {
			module, err := readFile(args[0], rpc.MaxUpload)
			if err != nil {
				return err
			}
			file, err := project.Pack(module, manifest)
			if err != nil {
				return err
			}
			m, err := drivers.Check(file)
			if err != nil {
				return err
			}
			if out == "" {
				out = m.Name + "-" + m.Version + ".wasm"
			}
			return a.wrote(out, file, m)
		},
	}
	cmd.Flags().StringVar(&manifest, "manifest", project.ManifestFile, "the manifest, JSON")
	cmd.Flags().StringVar(&out, "out", "", "the file to write (default: NAME-VERSION.wasm)")
	return cmd
}

func dirOf(args []string) string {
	if len(args) == 0 {
		return "."
	}
	return args[0]
}

// wrote writes a driver's file and says so.
func (a *app) wrote(path string, file []byte, m *drivers.Manifest) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, file, 0o644); err != nil {
		return err
	}
	a.printf("%s: %s@%s, %s\n", path, m.Name, m.Version, bytesText(uint64(len(file))))
	return nil
}

// verified checks a file as a node does at its upload.
func verified(ctx context.Context, file []byte) (*drivers.Manifest, error) {
	box, err := drivers.NewSandbox(drivers.SandboxOptions{CacheDir: verifyCache(), Compiler: driverCompiler()})
	if err != nil {
		return nil, err
	}
	m, err := box.Verify(ctx, file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the driver: %w", err), box.Close())
	}
	return m, box.Close()
}
