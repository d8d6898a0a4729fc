package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func ruleTemplates(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "templates [NAME]", Short: "Show the rules that come with Pollux, or the parameters of one", Args: cobra.MaximumNArgs(1),
		Example: "  pollux rule templates\n  pollux rule templates frost",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.automation.ListRuleTemplates(cmd.Context(), req(&pb.ListRuleTemplatesRequest{}))
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return a.show(res.Msg, func(w io.Writer) {
					row(w, "NAME", "TITLE", "ABOUT")
					for _, t := range res.Msg.Templates {
						row(w, t.Name, t.Title, t.About)
					}
				})
			}
			for _, t := range res.Msg.Templates {
				if t.Name == args[0] {
					return a.show(t, func(w io.Writer) { showTemplate(w, t) })
				}
			}
			return usagef("there is no template %q: see pollux rule templates", args[0])
		},
	}
}

func showTemplate(w io.Writer, t *pb.RuleTemplate) {
	row(w, "template", t.Name)
	row(w, "about", t.About)
	row(w, "")
	row(w, "PARAMETER", "KIND", "DEFAULT", "ABOUT")
	for _, p := range t.Parameters {
		fallback := dash(p.Default)
		if p.Required {
			fallback = "(needed)"
		}
		row(w, p.Name, p.Kind, fallback, p.About)
	}
}

func ruleCreate(a *app) *cobra.Command {
	r := &pb.FillRuleTemplateRequest{Values: map[string]string{}}
	var values []string
	cmd := &cobra.Command{
		Use: "create [ID] --template NAME", Short: "Create a rule of a template", Args: cobra.MaximumNArgs(1),
		Long: `Creates a rule, or replaces the one of that name, by filling in a template's parameters; one that is paused stays so. "pollux rule templates NAME" shows them. The rule is one like
any other afterwards. Without an ID it has the template's name.`,
		Example: "  pollux rule create --template frost --set model=room --set below=5\n  pollux rule create wet-cellar --template leak --set zone=cellar --set valve=main-valve",
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.Template == "" {
				return usagef("name a template by --template; pollux rule templates shows them")
			}
			if len(args) == 1 {
				r.Id = args[0]
			}
			for _, text := range values {
				name, value, ok := strings.Cut(text, "=")
				if !ok {
					return usagef("--set %q: want PARAMETER=VALUE", text)
				}
				r.Values[name] = value
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.automation.FillRuleTemplate(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			made, err := n.putRule(cmd.Context(), res.Msg.Rule, true)
			if err != nil {
				return err
			}
			return a.showPut(made)
		},
	}
	cmd.Flags().StringVar(&r.Template, "template", "", "`NAME` of the template")
	cmd.Flags().StringArrayVar(&values, "set", nil, "`PARAMETER=VALUE`; many times")
	return cmd
}
