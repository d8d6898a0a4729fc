package rpc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

type driverService struct {
	s *Server
	// catalog is read once: what the binary carries does not change.
	catalog func() ([]*pb.Driver, error)
}

func newDriverService(s *Server) *driverService {
	return &driverService{s: s, catalog: sync.OnceValues(func() ([]*pb.Driver, error) { return readCatalog(s.o.Catalog) })}
}

func (d *driverService) UploadDriver(ctx context.Context, r *connect.Request[pb.UploadDriverRequest]) (*connect.Response[pb.UploadDriverResponse], error) {
	if _, err := actors.CheckTests(r.Msg.Tests); err != nil {
		return nil, err
	}
	driver, created, err := d.put(ctx, r.Msg.File, r.Msg.Stage)
	if err != nil {
		return nil, err
	}
	if len(r.Msg.Tests) > 0 {
		if driver, err = d.s.o.Registry.SetDriverTests(ctx, driver.Name, driver.Version, r.Msg.Tests); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(&pb.UploadDriverResponse{Driver: driver, Created: created, Staged: !driver.Current}), nil
}

func (d *driverService) put(ctx context.Context, file []byte, stage bool) (*pb.Driver, bool, error) {
	manifest, err := d.verify(ctx, file)
	if err != nil {
		return nil, false, err
	}
	if stage {
		return d.s.o.Registry.StageDriver(ctx, manifest, file, principalFrom(ctx).Name)
	}
	return d.s.o.Registry.PutDriver(ctx, manifest, file, principalFrom(ctx).Name)
}

// verify tells what is wrong with a file from what keeps it from being looked at.
func (d *driverService) verify(ctx context.Context, file []byte) (*drivers.Manifest, error) {
	manifest, err := d.s.o.Verify(ctx, file)
	switch {
	case errors.Is(err, drivers.ErrBusy):
		d.s.refused.uploads.Inc()
		return nil, err
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, &invalidError{path: "file", text: err.Error()}
	}
	return manifest, nil
}

func (d *driverService) GetDriver(_ context.Context, r *connect.Request[pb.GetDriverRequest]) (*connect.Response[pb.GetDriverResponse], error) {
	driver, err := d.s.o.Registry.GetDriver(r.Msg.Name, r.Msg.Version)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetDriverResponse{Driver: driver}), nil
}

func (d *driverService) ListDrivers(_ context.Context, r *connect.Request[pb.ListDriversRequest]) (*connect.Response[pb.ListDriversResponse], error) {
	res, err := paged("driver", &r.Msg.PageToken, func() (*pb.ListDriversResponse, error) {
		return d.s.o.Registry.ListDrivers(r.Msg)
	}, func(res *pb.ListDriversResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (d *driverService) DeleteDriver(ctx context.Context, r *connect.Request[pb.DeleteDriverRequest]) (*connect.Response[pb.DeleteDriverResponse], error) {
	if err := d.s.o.Registry.DeleteDriver(ctx, r.Msg.Name, r.Msg.Version); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteDriverResponse{}), nil
}

func (d *driverService) ListCatalog(context.Context, *connect.Request[pb.ListCatalogRequest]) (*connect.Response[pb.ListCatalogResponse], error) {
	list, err := d.catalog()
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.ListCatalogResponse{Drivers: list}), nil
}

func (d *driverService) AddFromCatalog(ctx context.Context, r *connect.Request[pb.AddFromCatalogRequest]) (*connect.Response[pb.AddFromCatalogResponse], error) {
	if d.s.o.Catalog == nil {
		return nil, fmt.Errorf("driver %q: %w: this binary carries none", r.Msg.Name, fs.ErrNotExist)
	}
	file, err := d.s.o.Catalog.File(r.Msg.Name)
	if err != nil {
		return nil, err
	}
	driver, created, err := d.put(ctx, file, false)
	differs := errors.Is(err, actors.ErrExists)
	if differs {
		driver, err = d.carried(r.Msg.Name)
	}
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.AddFromCatalogResponse{Driver: driver, Created: created, Differs: differs}), nil
}

// carried gives what is there of the version that the binary carries.
func (d *driverService) carried(name string) (*pb.Driver, error) {
	list, err := d.catalog()
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		if c.Name == name {
			return d.s.o.Registry.GetDriver(name, c.Version)
		}
	}
	return nil, fmt.Errorf("driver %q: %w in the catalog", name, fs.ErrNotExist)
}

// readCatalog describes the drivers that the binary carries.
func readCatalog(c Catalog) ([]*pb.Driver, error) {
	if c == nil {
		return nil, nil
	}
	var list []*pb.Driver
	for _, name := range c.Names() {
		file, err := c.File(name)
		if err != nil {
			return nil, fmt.Errorf("read catalog: %w", err)
		}
		text, err := c.Manifest(name)
		if err != nil {
			return nil, fmt.Errorf("read catalog: driver %s: %w", name, err)
		}
		m, err := drivers.DecodeManifest(text)
		if err != nil {
			return nil, fmt.Errorf("read catalog: driver %s: %w", name, err)
		}
		digest := sha256.Sum256(file)
		d := &pb.Driver{Name: m.Name, Version: m.Version, Title: m.Title, Description: m.Description,
			Digest: hex.EncodeToString(digest[:]), Size: uint64(len(file)), Capabilities: m.Capabilities, ManifestJson: string(text),
			Transports: m.SchemeNames(), Interfaces: m.Interfaces}
		list = append(list, d)
	}
	return list, nil
}
