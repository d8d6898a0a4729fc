package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"github.com/polluxhq/pollux"
)

// settingFlags adds a flag for each setting, and --config. The values stay text: LoadConfig parses them, so that a flag, a
// variable and a line in a file are read alike.
func settingFlags(flags *pflag.FlagSet) {
	flags.String("config", "", "configuration `FILE` (YAML); also POLLUX_CONFIG")
	defaults := pollux.DefaultConfig()
	for _, s := range pollux.Settings() {
		if s.Value == "" {
			flags.Bool(s.Flag(), s.Get(&defaults) == "true", s.Help)
			continue
		}
		v := setting{text: s.Get(&defaults), form: s.Value}
		flags.Var(&v, s.Flag(), s.Help)
	}
}

// setting is a flag whose help shows the form of its value, such as ADDR.
type setting struct{ text, form string }

func (s *setting) String() string        { return s.text }
func (s *setting) Set(text string) error { s.text = text; return nil }

// Type is what help prints behind the flag's name.
func (s *setting) Type() string { return s.form }

// loadConfig reads what settingFlags added, the environment and the file.
func loadConfig(flags *pflag.FlagSet) (pollux.Config, pollux.Origin, error) {
	given := map[string]string{}
	for _, s := range pollux.Settings() {
		if f := flags.Lookup(s.Flag()); f != nil && f.Changed {
			given[s.Key] = f.Value.String()
		}
	}
	file, err := flags.GetString("config")
	if err != nil {
		return pollux.Config{}, nil, err
	}
	if file == "" {
		file = os.Getenv("POLLUX_CONFIG")
	}
	return pollux.LoadConfig(file, os.LookupEnv, given)
}

func configCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the configuration in force and where each value came from",
		Long: `Prints every setting of a node with its value and where that came from: a flag, a POLLUX_ variable, the
configuration file with its line, or the default. Flags win over variables, variables over the file.

With -o yaml it prints a file that --config takes.`,
		Example: `  pollux config
  pollux config --config /etc/pollux/pollux.yaml --http 127.0.0.1:9000
  pollux config -o yaml > pollux.yaml`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, origin, err := loadConfig(cmd.Flags())
			if err != nil {
				return &usageError{err}
			}
			if err := a.checkOutput(); err != nil {
				return err
			}
			return printConfig(a.out, a.output, &c, origin)
		},
	}
	settingFlags(cmd.Flags())
	cmd.Flags().StringVarP(&a.output, "output", "o", "table", "how to print: table, json or yaml")
	return cmd
}

func printConfig(w io.Writer, form string, c *pollux.Config, origin pollux.Origin) error {
	switch form {
	case "json":
		type printed struct {
			Key      string `json:"key"`
			Value    string `json:"value"`
			From     string `json:"from"`
			Flag     string `json:"flag"`
			Variable string `json:"variable"`
		}
		var all []printed
		for _, s := range pollux.Settings() {
			all = append(all, printed{s.Key, shown(s, c), origin[s.Key], "--" + s.Flag(), s.Variable()})
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	case "yaml":
		return yaml.NewEncoder(w).Encode(nested(c))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SETTING\tVALUE\tFROM")
	for _, s := range pollux.Settings() {
		fmt.Fprintf(t, "%s\t%s\t%s\n", s.Key, shown(s, c), origin[s.Key])
	}
	return t.Flush()
}

// shown is a setting's value for people: one that lets its holder in is not printed. A configuration file has it.
func shown(s pollux.Setting, c *pollux.Config) string {
	if s.Key == "join-token" && s.Get(c) != "" {
		return "(given)"
	}
	return s.Get(c)
}

// nested gives the settings as the configuration file has them.
func nested(c *pollux.Config) map[string]any {
	root := map[string]any{}
	for _, s := range pollux.Settings() {
		at := root
		parts := strings.Split(s.Key, ".")
		for _, part := range parts[:len(parts)-1] {
			next, ok := at[part].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[part] = next
			}
			at = next
		}
		at[parts[len(parts)-1]] = s.Get(c)
	}
	return root
}
