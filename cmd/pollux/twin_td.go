package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

func twinDescription(a *app) *cobra.Command {
	var model bool
	cmd := &cobra.Command{
		Use:   "td ID",
		Short: "Print a twin as a W3C Thing Description",
		Long: `Print a twin as a Thing Description 1.1 of the W3C's Web of Things, JSON. Its forms are the plain REST API of the node,
so that any client of the Web of Things, such as node-wot, can read, write, observe and invoke the twin; as its credentials it
takes an API key.`,
		Example: `  pollux twin td beamer > beamer.td.json
  pollux twin td hotel/lamp-1 --model > lamp.tm.json     its Thing Model`,
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeTwins(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			project, name, ok := strings.Cut(args[0], "/")
			if !ok {
				project, name = "default", args[0]
			}
			if project == "" || name == "" || strings.ContainsAny(name, "/?#%") || strings.ContainsAny(project, "?#%") {
				return usagef("%q is no id: want NAME or PROJECT/NAME", args[0])
			}
			what := "td"
			if model {
				what = "tm"
			}
			text, err := n.plain(cmd.Context(), http.MethodGet, "/v1/twins/"+project+"/"+name+"/"+what, "", nil)
			if err != nil {
				return err
			}
			var out bytes.Buffer
			if err := json.Indent(&out, text, "", "  "); err != nil {
				return fmt.Errorf("the node's answer is no JSON: %w", err)
			}
			_, err = a.out.Write(out.Bytes())
			return err
		},
	}
	cmd.Flags().BoolVar(&model, "model", false, "print its Thing Model instead")
	return cmd
}
