package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/scan"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// defaultProject is whose inbox gets what a scan finds, where none is named.
const defaultProject = "default"

// maxScanNotes bounds what is told of why devices are not in the inbox.
const maxScanNotes = 100

// maxScans bounds the scans that a node makes at a time.
const maxScans = 4

// Scan has a driver look for devices in a network, from this node. What it finds is answered, and put into the project's
// inbox unless it is a twin already. It blocks until the scan is over.
func (r *Registry) Scan(ctx context.Context, req *pb.ScanRequest) (*pb.ScanResponse, error) {
	project := req.Project
	if project == "" {
		project = defaultProject
	}
	s, err := r.e.catalog.resolve(req.Driver)
	if err != nil {
		return nil, err
	}
	network, err := scan.ParseNetwork(req.Network)
	if err != nil {
		return nil, invalid("/network", "%v", err)
	}
	if s.manifest.Scan == nil {
		return nil, invalid("/driver", "the driver %s cannot scan: its manifest has no scan", s.name)
	}
	if err := s.manifest.Scan.Validate([]byte(req.OptionsJson)); err != nil {
		return nil, asInvalid("/options", err)
	}
	select {
	case r.scans <- struct{}{}:
		defer func() { <-r.scans }()
	default:
		return nil, fmt.Errorf("scan: %d are going on at this node: %w", maxScans, drivers.ErrRateLimited)
	}
	run, err := r.runner(ctx, s.digest)
	if err != nil {
		return nil, err
	}
	defer r.e.runners.release(run)
	settings, err := s.model.ValidateSettings(noSettings)
	if err != nil {
		settings = noSettings // some settings are needed; a scan has none
	}
	res, err := scan.Run(ctx, scan.Options{Runner: run.Runner, Scan: s.manifest.Scan, Port: uint16(req.Port), Network: network, Timeout: req.Timeout.AsDuration(),
		Input: json.RawMessage(req.OptionsJson), Tenant: project, Settings: settings})
	if err != nil {
		return nil, err
	}
	out := &pb.ScanResponse{Sent: uint32(res.Sent), Answers: uint32(res.Answers), Notes: res.Notes}
	told := 0
	known := addresses{r: r, project: project}
	for _, d := range res.Found {
		entry, note := r.found(ctx, project, s.name, d, &known)
		out.Found = append(out.Found, entry)
		if note == "" {
			continue
		}
		if told++; told <= maxScanNotes {
			out.Notes = append(out.Notes, note)
		}
	}
	if told > maxScanNotes {
		out.Notes = append(out.Notes, fmt.Sprintf("%d more notes are left out", told-maxScanNotes))
	}
	return out, nil
}

// runner waits until a driver is loaded.
func (r *Registry) runner(ctx context.Context, digest string) (*runner, error) {
	ready := make(chan error, 1)
	run, loaded := r.e.runners.acquire(digest, func(err error) { ready <- err })
	if loaded {
		return run, nil
	}
	var err error
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		r.e.runners.release(run)
		return nil, err
	}
	return run, nil
}

// found puts a device into the inbox, unless it is a twin already. The note says why it is not there.
func (r *Registry) found(ctx context.Context, project, driver string, d drivers.Discovery, known *addresses) (entry *pb.InboxEntry, note string) {
	if d.Driver == "" {
		d.Driver = driver
	}
	key := aliasKey(project, d.Network, d.Key, d.Value)
	entry = &pb.InboxEntry{Id: key, Alias: &pb.Alias{Network: d.Network, Key: d.Key, Value: d.Value}, Driver: d.Driver, Name: d.Name,
		SettingsJson: string(d.Settings), Uri: d.URI, Time: timestamppb.Now(), Model: r.modelOf(d.Driver)}
	label := d.Value
	if d.Name != "" {
		label = d.Name + " (" + d.Value + ")"
	}
	if len(d.Network)+len(d.Key)+len(d.Value) > 512 || len(d.Settings) > maxTimerData {
		return entry, label + ": too long for the inbox"
	}
	if rec, taken, err := r.store.Get(tableAliases, key); err == nil && taken {
		return entry, label + " is the twin " + string(rec.Value) + " already"
	}
	if r.claimed(entry) {
		return entry, label + " has a twin already"
	}
	if id := known.twin(entry); id != "" {
		return entry, label + " is the twin " + id + " already"
	}
	if err := r.enlist(ctx, project, entry); err != nil {
		return entry, label + ": " + err.Error()
	}
	return entry, ""
}

// enlist puts what was found of a device into its entry of the inbox. What the entry has from messages of the device, and that it is ignored, stays.
func (r *Registry) enlist(ctx context.Context, project string, found *pb.InboxEntry) error {
	_, err := r.change(ctx, func() (*storage.Txn, error) {
		x := proto.Clone(found).(*pb.InboxEntry)
		x.Model = ""
		old, listed, err := r.store.Get(tableInbox, x.Id)
		if err != nil {
			return nil, err
		}
		if !listed && !r.inboxRoom(project) {
			return nil, errInboxFull
		}
		if listed {
			was, err := decode(old, &pb.InboxEntry{})
			if err != nil {
				return nil, err
			}
			keepArrivals(x, was)
			found.Time = x.Time
		}
		value, err := encode(x)
		if err != nil {
			return nil, err
		}
		return &storage.Txn{Guards: []storage.Guard{{Table: tableAliases, Key: x.Id}, {Table: tableInbox, Key: x.Id, Revision: old.Revision}},
			Writes: []storage.Write{{Table: tableInbox, Key: x.Id, Value: value}}}, nil
	}, func(g *storage.GuardError) error {
		if g.Table == tableAliases {
			return ErrExists // it has become a twin
		}
		return nil // it sends meanwhile
	})
	return err
}

var errInboxFull = errors.New("the inbox is full")

// modelOf gives the title of the model that twins of a driver have; "" where the driver is not there.
func (r *Registry) modelOf(driver string) string {
	if driver == "" {
		return ""
	}
	s, err := r.e.catalog.resolve(driver)
	if err != nil {
		return ""
	}
	return s.title
}
