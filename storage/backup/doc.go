// Package backup writes everything that a cluster holds into one stream while it serves, and reads such a stream into an
// empty cluster: records as of one revision, the blobs that they name, history, and the journal.
//
// The cluster's own records (who its members are, who owns which slot, its certificates and keys) are not part of it: what
// is restored is another cluster with the same content. The package knows tables, blobs and samples, not what they mean.
package backup

import (
	"errors"
	"time"

	"github.com/polluxhq/pollux/storage"
)

var (
	// ErrDamaged: the stream is no backup, or not a whole one. The error says where. Nothing was restored.
	ErrDamaged = errors.New("damaged backup")
	// ErrNewer: a newer version wrote the backup. Nothing was restored.
	ErrNewer = errors.New("backup of a newer version")
	// ErrNotEmpty: the cluster has records already. Nothing was changed.
	ErrNotEmpty = errors.New("the cluster is not empty")
	// ErrIncomplete: history cannot be saved here, as this node lacks samples; another node can.
	ErrIncomplete = errors.New("this node's history is incomplete")
)

// TableRestore holds, while a restore goes on, what is restored. Its record is deleted when all is there.
const TableRestore storage.Table = "restore"

// own are the tables of the cluster's own records, and of what a moment needs.
var own = map[storage.Table]bool{
	"member": true, "slot": true, "lease": true, "cluster": true, // who and where
	"history":            true, // how far an external server was fed
	storage.PendingBlobs: true,
	TableRestore:         true,
}

// Summary says what a backup holds.
type Summary struct {
	// Cluster and Version are of the cluster that was saved, Revision what it had, Time when.
	Cluster  string    `json:"cluster"`
	Version  string    `json:"version"`
	Revision uint64    `json:"revision"`
	Time     time.Time `json:"time"`
	// History, Journal: they are in the backup.
	History bool `json:"history"`
	Journal bool `json:"journal,omitempty"`

	// Entries are the journal's.
	Records, Blobs, Samples, Entries uint64 `json:"-"`
	// Size of the stream in bytes.
	Size uint64 `json:"-"`
}
