package rpc

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (d *driverService) Scan(context.Context, *connect.Request[pb.ScanRequest]) (*connect.Response[pb.ScanResponse], error) {
	return nil, connect.NewError(connect.CodeUnimplemented, errors.New("scans come with the next commit"))
}
