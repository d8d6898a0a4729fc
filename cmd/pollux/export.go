package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"gopkg.in/yaml.v3"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func exportCommand(a *app) *cobra.Command {
	return a.client(&cobra.Command{
		Use:   "export [PROJECT]",
		Short: "Write a project's records as YAML",
		Long: `Write a project's records (` + strings.Join(kindNames(), ", ") + `) as YAML
documents, in an order in which "pollux apply" takes them.
Secrets read "***": applied to the same twins they keep their value; for others they have to be given.`,
		Example: `  pollux export > default.yaml
  pollux export berlin | pollux --url https://other:8080 apply --project berlin -f -`,
		Args: between(0, "PROJECT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			project := "default"
			if len(args) > 0 {
				project = args[0]
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			stream, err := n.bulk.Export(cmd.Context(), req(&pb.ExportRequest{Project: project}))
			if err != nil {
				return err
			}
			defer stream.Close()
			found := false
			for stream.Receive() {
				found = found || len(stream.Msg().Records) > 0
				for _, rec := range stream.Msg().Records {
					if err := a.exportRecord(rec); err != nil {
						return err
					}
				}
			}
			if stream.Err() == nil && !found {
				a.errorf("there is nothing in project %s; `pollux project list` shows the projects\n", project)
			}
			return stream.Err()
		},
	})
}

// exportRecord prints a record as a YAML document, or as a line of JSON.
func (a *app) exportRecord(rec *pb.ConfigRecord) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(rec)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if a.output == "json" {
		a.printf("%s\n", line.Bytes())
		return nil
	}
	doc, err := nodeOf(line.Bytes())
	if err != nil {
		return err
	}
	if rec.GetModel() != nil {
		if err := openThing(doc.Content[1]); err != nil {
			return err
		}
	}
	a.printf("---\n")
	return a.yamlNode(doc)
}

// openThing writes a model's Thing Model as YAML rather than as a text of JSON.
func openThing(fields *yaml.Node) error {
	for i := 0; i < len(fields.Content); i += 2 {
		if fields.Content[i].Value != "thing_json" {
			continue
		}
		thing, err := nodeOf([]byte(fields.Content[i+1].Value))
		if err != nil {
			return err
		}
		fields.Content[i].Value, fields.Content[i+1] = "thing", thing
	}
	return nil
}
