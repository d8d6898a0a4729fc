package main

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

//go:embed demo_house.yaml
var demoHouse string

//go:embed demo_welcome.js
var demoWelcome []byte

// automate gives the house what it does by itself, and a sink for what its meters say.
func (d *demoSite) automate(ctx context.Context, node demoNode) (string, error) {
	lines, err := parseConfig(strings.NewReader(demoHouse), "demo_house.yaml", demoProject)
	if err != nil {
		return "", err
	}
	if _, err := d.drivers.UploadDriver(ctx, connect.NewRequest(&pb.UploadDriverRequest{File: demoWelcome})); err != nil && !kept(err) {
		return "", fmt.Errorf("logic welcome: %w", err)
	}
	bulk := polluxv1connect.NewBulkServiceClient(node.client, d.url)
	count := map[string]int{}
	for _, group := range groupsOf(lines) {
		r := &pb.ApplyRequest{Project: demoProject}
		for _, l := range group {
			r.Records = append(r.Records, l.rec)
			count[l.kind]++
		}
		res, err := bulk.Apply(ctx, connect.NewRequest(r))
		if err != nil {
			return "", fmt.Errorf("%s: %w", group[0].at, err)
		}
		if i := slices.IndexFunc(res.Msg.Results, func(x *pb.ApplyResult) bool { return x.Error != "" }); i >= 0 {
			return "", fmt.Errorf("%s: %s", group[i].at, res.Msg.Results[i].Error)
		}
	}
	sinks := polluxv1connect.NewSinkServiceClient(node.client, d.url)
	_, err = sinks.CreateSink(ctx, connect.NewRequest(&pb.CreateSinkRequest{Sink: &pb.Sink{Id: demoProject + "/lake", Topic: demoProject + "/changes", Url: "file:lake"}}))
	if err != nil && !kept(err) {
		return "", fmt.Errorf("sink lake: %w", err)
	}
	return fmt.Sprintf("%d rules, %d schedule, a logic, a notifier, a detector, %d relations, power and temperature of the house derived, a topic with a Parquet sink",
		count["rule"], count["schedule"], count["relation"]), nil
}
