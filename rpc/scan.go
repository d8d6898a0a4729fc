package rpc

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Scan implements the service. Who scans makes the node speak to a whole network: it takes the right to write drivers.
func (d *driverService) Scan(ctx context.Context, r *connect.Request[pb.ScanRequest]) (*connect.Response[pb.ScanResponse], error) {
	res, err := d.s.o.Registry.Scan(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}
