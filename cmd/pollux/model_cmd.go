package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func modelCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:     "model",
		Aliases: []string{"models"},
		Short:   "What twins without a driver have, and how their messages are read",
		Long: `A model is a W3C Thing Model 1.1. A twin that is created with it needs no driver: what its device sends over HTTP, MQTT or
another door becomes properties, as the model says in terms of the prefix pollux: at each property.

  "pollux:path": "/env/temp"   where a message has the value (env.temp is the same); without it, under the property's name
  "pollux:unit": "[degF]"       the message's unit, UCUM or QUDT; it is converted into the property's "unit"
  "pollux:unitPath": "/env/u"  where the message names the unit
  "pollux:time": "/env/ts"     where it has the value's time; at the top of the model: the message's time
  "pollux:quality": "/env/q"   where it says good, bad, uncertain or stale
  "pollux:deadband": 0.5        smaller changes are not kept
  "pollux:rate": 0.1            samples per second for history, at most
  "pollux:flap": {"changes": 10, "seconds": 60}   beyond this the value is uncertain and history is spared
  "pollux:stale": 600           seconds without a value, after which it is stale
  "pollux:virtual": true        what is asked of it is what it reports
  "pollux:derived": "EXPR"      it is computed, such as avg(zone.twins(\"room\").temperature) (docs/relations.md)
  "pollux:unknown": "refuse"    at the top of the model: paths that it does not know are refused instead of ignored`,
		Example: `  pollux model create room --file room.json
  pollux twin create room1 --model room --alias lora/eui/70B3D5
  pollux model get room --thing > room.json     edit it, then:
  pollux model update room --file room.json`,
	}))
	cmd.AddCommand(modelList(a), modelGet(a), watcher(a, "model", "models"), modelCreate(a), modelUpdate(a),
		remover(a, "rm ID", "Delete a model that no twin has", "  pollux model rm room", "model",
			func(ctx context.Context, n *node, id string) error {
				_, err := n.modelling.DeleteModel(ctx, req(&pb.DeleteModelRequest{Id: id}))
				return err
			}))
	return cmd
}

func modelList(a *app) *cobra.Command {
	var project string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the models", Example: "  pollux model list", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListModelsResponse{}
			for token := ""; ; {
				res, err := n.modelling.ListModels(cmd.Context(), req(&pb.ListModelsRequest{Project: project, PageSize: pageSize, PageToken: token}))
				if err != nil {
					return err
				}
				all.Models = append(all.Models, res.Msg.Models...)
				if token = res.Msg.NextPageToken; token == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) { listModels(w, all.Models) })
		},
	}
	cmd.Flags().StringVar(&project, "project", "", "only of this project")
	return cmd
}

func listModels(w io.Writer, models []*pb.Model) {
	row(w, "ID", "TITLE", "PROPERTIES", "ACTIONS", "EVENTS", "TWINS")
	for _, m := range models {
		t := readThing(m.ThingJson)
		row(w, bare(m.Id), dash(m.Title), fmt.Sprint(len(t.Properties)), fmt.Sprint(len(t.Actions)), fmt.Sprint(len(t.Events)), fmt.Sprint(m.Twins))
	}
}

// readThing gives an empty one where the text is damaged.
func readThing(text string) thing {
	var t thing
	_ = json.Unmarshal([]byte(text), &t)
	return t
}

func modelGet(a *app) *cobra.Command {
	var text bool
	cmd := &cobra.Command{
		Use: "get ID", Short: "Show a model", Args: exactly("ID"),
		Example: "  pollux model get room\n  pollux model get room --thing > room.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.modelling.GetModel(cmd.Context(), req(&pb.GetModelRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			if text {
				a.printf("%s\n", res.Msg.Model.ThingJson)
				return nil
			}
			return a.show(res.Msg.Model, func(w io.Writer) { describeModel(w, res.Msg.Model) })
		},
	}
	cmd.Flags().BoolVar(&text, "thing", false, "print the Thing Model alone, as it was given")
	return cmd
}

func describeModel(w io.Writer, m *pb.Model) {
	row(w, "Model", m.Id)
	row(w, "Title", dash(m.Title))
	if m.Description != "" {
		row(w, "Description", m.Description)
	}
	row(w, "Twins", fmt.Sprint(m.Twins))
	row(w, "Revision", fmt.Sprint(m.Revision))
	t := readThing(m.ThingJson)
	affordances(w, "Properties", t.Properties)
	affordances(w, "Actions", t.Actions)
	affordances(w, "Events", t.Events)
}

func modelCreate(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "create ID --file FILE", Short: "Create a model of a Thing Model", Args: exactly("ID"),
		Example: `  pollux model create room --file room.json
  echo '{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Room",
    "properties":{"temperature":{"type":"number","unit":"Cel"}}}' | pollux model create room --file -
  pollux twin td beamer | pollux model create beamer --file -    of a Thing Description, what is of its one thing left out`,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.readThingModel(file)
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.modelling.CreateModel(cmd.Context(), req(&pb.CreateModelRequest{Model: &pb.Model{Id: args[0], ThingJson: text}}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Model, func(w io.Writer) {
				fmt.Fprintf(w, "model %s created; a twin of it: pollux twin create NAME --model %s\n", res.Msg.Model.Id, bare(res.Msg.Model.Id))
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "Thing Model, JSON; - reads it from the standard input")
	return cmd
}

func modelUpdate(a *app) *cobra.Command {
	var file string
	var revision uint64
	cmd := &cobra.Command{
		Use: "update ID --file FILE", Short: "Replace a model's Thing Model; its twins go over to it", Args: exactly("ID"),
		Long:    "If somebody else changes the model at the same time, nothing is changed and the command fails.",
		Example: "  pollux model update room --file room.json\n  pollux model update room --file room.json --revision 42",
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.readThingModel(file)
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			if revision == 0 {
				got, err := n.modelling.GetModel(cmd.Context(), req(&pb.GetModelRequest{Id: args[0]}))
				if err != nil {
					return err
				}
				revision = got.Msg.Model.Revision
			}
			res, err := n.modelling.UpdateModel(cmd.Context(), req(&pb.UpdateModelRequest{
				Model: &pb.Model{Id: args[0], ThingJson: text, Revision: revision}}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Model, func(w io.Writer) {
				fmt.Fprintf(w, "model %s updated, revision %d\n", res.Msg.Model.Id, res.Msg.Model.Revision)
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "Thing Model, JSON; - reads it from the standard input")
	cmd.Flags().Uint64Var(&revision, "revision", 0, "only if it is still at this revision")
	return cmd
}

// maxThing bounds what is read of a file: more than a node takes.
const maxThing = 1 << 20

// readThingModel reads a file, or the standard input.
func (a *app) readThingModel(name string) (string, error) {
	if name == "" {
		return "", usagef("--file is missing: it names a W3C Thing Model 1.1; `pollux model --help` shows what it can say")
	}
	in := a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("read the model: %w", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxThing))
	if err != nil {
		return "", fmt.Errorf("read the model: %w", err)
	}
	return string(text), nil
}

// kindText is what a twin is of: its driver, or its model.
func kindText(t *pb.Twin) string {
	if t.Model != "" {
		return "model " + bare(t.Model)
	}
	return t.Driver
}

// completeModels completes the names of models.
func (a *app) completeModels() completion {
	return a.complete(func(cmd *cobra.Command, n *node) ([]string, error) {
		res, err := n.modelling.ListModels(cmd.Context(), req(&pb.ListModelsRequest{PageSize: pageSize}))
		if err != nil {
			return nil, err
		}
		return names(res.Msg.Models, func(m *pb.Model) string { return bare(m.Id) }), nil
	})
}
