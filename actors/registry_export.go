package actors

import (
	"context"
	"fmt"
	"slices"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// Export gives a project's records in an order in which they can be applied, some at a time, kind by kind. Secrets read "***". It
// stops at the first error of yield.
func (r *Registry) Export(ctx context.Context, project string, yield func([]*pb.ConfigRecord) error) error {
	for _, k := range configKinds {
		if err := k.export(ctx, r, project, yield); err != nil {
			return err
		}
	}
	return nil
}

// exportPage is how many records are given at a time.
const exportPage = 100

func exportEach[M revised](r *Registry, table storage.Table, project string, make func() M, wrap func(M) *pb.ConfigRecord,
	yield func([]*pb.ConfigRecord) error) error {
	var page []*pb.ConfigRecord
	for rec, err := range r.store.Scan(table, project+"/", "") {
		if err != nil {
			return fmt.Errorf("export %s: %w", table, err)
		}
		m, err := decode(rec, make())
		if err != nil {
			return err
		}
		x := wrap(m)
		if x == nil {
			continue
		}
		if page = append(page, x); len(page) == exportPage {
			if err := yield(page); err != nil {
				return err
			}
			page = nil
		}
	}
	if len(page) == 0 {
		return nil
	}
	return yield(page)
}

// exportZones gives the outermost zones first, level by level.
func exportZones(r *Registry, project string, yield func([]*pb.ConfigRecord) error) error {
	byParent := map[string][]*pb.Zone{}
	err := exportEach(r, tableZones, project, func() *pb.Zone { return &pb.Zone{} }, func(z *pb.Zone) *pb.ConfigRecord {
		z.Revision = 0
		byParent[z.Parent] = append(byParent[z.Parent], z)
		return nil
	}, yield)
	if err != nil {
		return err
	}
	for level := byParent[""]; len(level) > 0; {
		var next []*pb.Zone
		for chunk := range slices.Chunk(level, exportPage) {
			page := make([]*pb.ConfigRecord, 0, len(chunk))
			for _, z := range chunk {
				page = append(page, &pb.ConfigRecord{Record: &pb.ConfigRecord_Zone{Zone: z}})
				next = append(next, byParent[z.Id]...)
			}
			if err := yield(page); err != nil {
				return err
			}
		}
		level = next
	}
	return nil
}

// exportTwins goes over the twins as often as gateways are behind gateways.
func exportTwins(r *Registry, project string, yield func([]*pb.ConfigRecord) error) error {
	given := map[string]int{"": 0} // gateways, by the round in which they were given
	for round := 1; round <= maxDepth; round++ {
		more := false
		err := exportEach(r, tableTwins, project, func() *pb.Twin { return &pb.Twin{} }, func(t *pb.Twin) *pb.ConfigRecord {
			if at, there := given[t.Via]; !there || at != round-1 {
				more = more || !there || at == round
				return nil
			}
			if users, err := r.users("twin", t.Id); err == nil && len(users) > 0 {
				given[t.Id] = round
			}
			t = r.present(t)
			t.Revision, t.CreateTime, t.UpdateTime, t.UpdateBy, t.DriverDigest, t.DriverVersion = 0, nil, nil, "", "", ""
			return &pb.ConfigRecord{Record: &pb.ConfigRecord_Twin{Twin: t}}
		}, yield)
		if err != nil || !more {
			return err
		}
	}
	return nil
}
