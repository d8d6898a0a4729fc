package rpc

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/bench"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// testTimeout bounds one run of a driver's tests.
const testTimeout = 2 * time.Minute

func (d *driverService) GetDriverSource(_ context.Context, r *connect.Request[pb.GetDriverSourceRequest]) (*connect.Response[pb.GetDriverSourceResponse], error) {
	res, err := d.s.o.Registry.DriverSource(r.Msg.Name, r.Msg.Version)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (d *driverService) TestDriver(ctx context.Context, r *connect.Request[pb.TestDriverRequest], out *connect.ServerStream[pb.TestDriverResponse]) error {
	files, err := actors.CheckTests(r.Msg.Tests)
	if err != nil {
		return err
	}
	// First as at an upload, in a process of its own: what is too much for the compiler ends there.
	if _, err := d.verify(ctx, r.Msg.File); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	suite := &bench.Suite{Options: bench.Options{File: r.Msg.File, CacheDir: d.s.o.TestCache}, Files: files,
		Shuffle: r.Msg.Shuffle, Faults: int(r.Msg.Faults), Seed: 1}
	var sent error
	suite.Each = func(res *bench.Result) {
		if sent != nil {
			return
		}
		if sent = out.Send(testResult(res)); sent != nil {
			cancel()
		}
	}
	if _, err := suite.Run(ctx); err != nil {
		return err
	}
	return sent
}

func testResult(r *bench.Result) *pb.TestDriverResponse {
	out := &pb.TestDriverResponse{File: r.File, Test: r.Test, Line: uint32(r.Line), Mode: r.Mode, Steps: uint32(r.Steps), Trail: r.Trail,
		Took: durationpb.New(r.Took)}
	if f := r.Failure; f != nil {
		out.Failure = &pb.TestFailure{Line: uint32(f.Line), Step: f.Step, Text: f.Text, Expected: f.Expected, Got: f.Got, Diff: f.Diff}
	}
	return out
}
