package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// restoreChunk in bytes is how much of a backup one message holds.
const restoreChunk = 256 << 10

func backupCommand(a *app) *cobra.Command {
	var without bool
	cmd := a.client(&cobra.Command{
		Use:   "backup FILE",
		Short: "Write everything that the cluster holds into a file, while it serves",
		Long: `Writes configuration, drivers, states, keys, queues and history as of one moment. FILE appears when it is whole; "-"
writes to standard output. It holds secrets: only its owner may read it.`,
		Example: "  pollux backup pollux.backup\n  pollux backup - --without-history | gpg -e -r ops > pollux.backup.gpg",
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			stream, err := n.cluster.Backup(cmd.Context(), req(&pb.BackupRequest{WithoutHistory: without}))
			if err != nil {
				return err
			}
			defer stream.Close()
			in := &incoming{receive: stream.Receive, msg: stream.Msg, err: stream.Err}
			if args[0] == "-" {
				_, err := in.copy(a, a.out)
				return err
			}
			began := time.Now()
			done, err := writeWhole(args[0], func(w io.Writer) (*pb.BackupSummary, error) { return in.copy(a, w) })
			if err != nil {
				return err
			}
			return a.show(done, func(w io.Writer) { describeBackup(w, args[0], done, time.Since(began)) })
		},
	})
	cmd.Flags().BoolVar(&without, "without-history", false, "leave history out")
	return cmd
}

func describeBackup(w io.Writer, file string, s *pb.BackupSummary, took time.Duration) {
	row(w, "File", fmt.Sprintf("%s, %s in %s", file, bytesText(s.Size), took.Round(10*time.Millisecond)))
	row(w, "Cluster", dash(s.ClusterId))
	row(w, "Revision", s.Revision)
	row(w, "Holds", fmt.Sprintf("%d records, %d drivers and other files, %d samples", s.Records, s.Blobs, s.Samples))
	row(w, "SHA-256", s.Digest)
}

// incoming is a backup's stream.
type incoming struct {
	receive func() bool
	msg     func() *pb.BackupResponse
	err     func() error
}

// copy writes what comes, and compares it with what the node says it sent.
func (in *incoming) copy(a *app, w io.Writer) (*pb.BackupSummary, error) {
	sum, size, shown := sha256.New(), uint64(0), ""
	w = io.MultiWriter(w, sum)
	var done *pb.BackupSummary
	last := time.Now()
	for in.receive() {
		switch part := in.msg().Part.(type) {
		case *pb.BackupResponse_Chunk:
			if _, err := w.Write(part.Chunk); err != nil {
				return nil, err
			}
			size += uint64(len(part.Chunk))
		case *pb.BackupResponse_Done:
			done = part.Done
		}
		if a.terminal() && time.Since(last) > time.Second {
			last = time.Now()
			a.overwrite(bytesText(size), &shown)
		}
	}
	if shown != "" {
		fmt.Fprint(a.err, "\r\x1b[K")
	}
	switch err := in.err(); {
	case err != nil:
		return nil, err
	case done == nil:
		return nil, errors.New("the stream ended before the backup did")
	case done.Size != size || done.Digest != hex.EncodeToString(sum.Sum(nil)):
		return nil, fmt.Errorf("the backup is damaged: %d bytes came, %d were sent", size, done.Size)
	}
	return done, nil
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(path string, write func(io.Writer) (*pb.BackupSummary, error)) (done *pb.BackupSummary, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if done, err = write(f); err != nil {
		return nil, err
	}
	if err = f.Sync(); err != nil {
		return nil, err
	}
	if err = f.Close(); err != nil {
		return nil, err
	}
	return done, os.Rename(f.Name(), path)
}

func restoreCommand(a *app) *cobra.Command {
	return a.client(&cobra.Command{
		Use:   "restore FILE",
		Short: "Take a backup into an empty cluster",
		Long: `Sends a backup to a cluster that holds nothing yet: a node that was just started on an empty data directory, and nodes
that joined it. "-" reads standard input. The keys of the backup hold then, and the one of the new node's admin.key too.`,
		Example: "  pollux serve --data ./new &\n  pollux restore pollux.backup --data ./new",
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := a.in
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			a.http2 = true
			n, err := a.dial()
			if err != nil {
				return err
			}
			began := time.Now()
			stream := n.cluster.Restore(cmd.Context())
			buf := make([]byte, restoreChunk)
			for {
				k, err := io.ReadFull(in, buf)
				if k > 0 && stream.Send(&pb.RestoreRequest{Chunk: buf[:k]}) != nil {
					break // the answer says why
				}
				if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
					break
				}
				if err != nil {
					return err
				}
			}
			res, err := stream.CloseAndReceive()
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) {
				s := res.Msg.GetSummary()
				fmt.Fprintf(w, "restored %d records, %d drivers and other files, %d samples in %s; revision %d\n",
					s.GetRecords(), s.GetBlobs(), s.GetSamples(), time.Since(began).Round(10*time.Millisecond), s.GetRevision())
			})
		},
	})
}
