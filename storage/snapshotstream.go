package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"path"
	"sort"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A snapshot's stream is
//
//	magic (8) { name length (2), name, size (8), bytes, CRC-32C (4) }… 0 (2)
//
// with the files in the order of their names. Its length follows from the files, as raft announces it before it sends.
const streamMagic = "PLXSNAP1"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const maxStreamName = 255

// streamSize is the length of the stream that dir makes, in bytes.
func streamSize(fs vfs.FS, dir string) (int64, error) {
	names, err := fs.List(dir)
	if err != nil {
		return 0, fmt.Errorf("list snapshot: %w", err)
	}
	size := int64(len(streamMagic) + 2)
	for _, n := range names {
		info, err := fs.Stat(path.Join(dir, n))
		if err != nil {
			return 0, fmt.Errorf("list snapshot: %w", err)
		}
		size += 2 + int64(len(n)) + 8 + info.Size() + 4
	}
	return size, nil
}

// snapshotReader is a snapshot as a stream. Restore takes the directory from it where it can.
type snapshotReader struct {
	dir   string
	files []streamFile
	next  int
	// head is what is to be given before the current file's bytes, or the end of the stream.
	head []byte
	left int64
	crc  hash.Hash32
	cur  vfs.File
}

type streamFile struct {
	name string
	size int64
	f    vfs.File
}

func newSnapshotReader(fs vfs.FS, dir string) (*snapshotReader, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	r := &snapshotReader{dir: dir, head: []byte(streamMagic), crc: crc32.New(castagnoli)}
	for _, n := range names {
		f, err := fs.Open(path.Join(dir, n), vfs.SequentialReadsOption)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		info, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close(), r.Close())
		}
		r.files = append(r.files, streamFile{name: n, size: info.Size(), f: f})
	}
	return r, nil
}

// Read implements io.Reader.
func (r *snapshotReader) Read(p []byte) (int, error) {
	for {
		if len(r.head) > 0 {
			n := copy(p, r.head)
			r.head = r.head[n:]
			return n, nil
		}
		if r.cur != nil && r.left > 0 {
			n, err := r.cur.Read(p[:min(int64(len(p)), r.left)])
			r.left -= int64(n)
			_, _ = r.crc.Write(p[:n])
			if err == io.EOF && r.left > 0 {
				return n, io.ErrUnexpectedEOF
			}
			if err == io.EOF {
				err = nil
			}
			if n > 0 || err != nil {
				return n, err
			}
			continue
		}
		if !r.advance() {
			return 0, io.EOF
		}
	}
}

// advance goes on to the next part; false: there is none.
func (r *snapshotReader) advance() bool {
	if r.cur != nil {
		r.head = binary.LittleEndian.AppendUint32(nil, r.crc.Sum32())
		r.cur = nil
		return true
	}
	switch {
	case r.next < len(r.files):
		f := r.files[r.next]
		r.head = binary.LittleEndian.AppendUint16(nil, uint16(len(f.name)))
		r.head = append(r.head, f.name...)
		r.head = binary.LittleEndian.AppendUint64(r.head, uint64(f.size))
		r.cur, r.left = f.f, f.size
		r.crc.Reset()
	case r.next == len(r.files):
		r.head = []byte{0, 0}
	default:
		return false
	}
	r.next++
	return true
}

// Close implements io.Closer.
func (r *snapshotReader) Close() error {
	var errs []error
	for _, f := range r.files {
		errs = append(errs, f.f.Close())
	}
	r.files = nil
	return errors.Join(errs...)
}

// snapshotWriter takes a stream and writes its files into a directory.
type snapshotWriter struct {
	fs   vfs.FS
	dir  string
	pipe *io.PipeWriter
	done chan error
}

func newSnapshotWriter(fs vfs.FS, dir string) *snapshotWriter {
	r, w := io.Pipe()
	k := &snapshotWriter{fs: fs, dir: dir, pipe: w, done: make(chan error, 1)}
	go func() {
		err := unpackSnapshot(fs, dir, r)
		_ = r.CloseWithError(err)
		k.done <- err
	}()
	return k
}

func (k *snapshotWriter) Write(p []byte) (int, error) { return k.pipe.Write(p) }

// finish waits until all is written; an incomplete stream is an error.
func (k *snapshotWriter) finish() error {
	_ = k.pipe.Close()
	err := <-k.done
	k.done <- err
	return err
}

func (k *snapshotWriter) abort() {
	_ = k.pipe.CloseWithError(errors.New("cancelled"))
	k.done <- <-k.done
}

// unpackSnapshot writes the stream's files into dir; they are on the disk when it returns.
func unpackSnapshot(fs vfs.FS, dir string, r io.Reader) error {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return fmt.Errorf("read snapshot stream: %w", err)
	}
	if string(b[:]) != streamMagic {
		return fmt.Errorf("read snapshot stream: it begins with %q, not %q", b[:], streamMagic)
	}
	for {
		if _, err := io.ReadFull(r, b[:2]); err != nil {
			return fmt.Errorf("read snapshot stream: %w", noEOF(err))
		}
		n := int(binary.LittleEndian.Uint16(b[:]))
		if n == 0 {
			break
		}
		if err := unpackFile(fs, dir, n, r); err != nil {
			return fmt.Errorf("read snapshot stream: %w", err)
		}
	}
	if n, err := r.Read(b[:1]); n > 0 || (err != nil && err != io.EOF) {
		return fmt.Errorf("read snapshot stream: more than one stream: %w", err)
	}
	return syncDir(fs, dir)
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func unpackFile(fs vfs.FS, dir string, nameLen int, r io.Reader) error {
	if nameLen > maxStreamName {
		return errMalformed("file name")
	}
	head := make([]byte, nameLen+8)
	if _, err := io.ReadFull(r, head); err != nil {
		return noEOF(err)
	}
	name, size := string(head[:nameLen]), binary.LittleEndian.Uint64(head[nameLen:])
	if strings.ContainsAny(name, "/\\\x00") || name == "." || name == ".." || size > 1<<50 {
		return errMalformed("file name " + name)
	}
	f, err := fs.Create(path.Join(dir, name), fileCategory)
	if err != nil {
		return diskError("write "+name, err)
	}
	crc := crc32.New(castagnoli)
	_, err = io.Copy(writeOnly{f}, io.TeeReader(io.LimitReader(r, int64(size)), crc))
	if err == nil {
		var sum [4]byte
		if _, err = io.ReadFull(r, sum[:]); err == nil && binary.LittleEndian.Uint32(sum[:]) != crc.Sum32() {
			err = fmt.Errorf("%s: the checksum differs", name)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(noEOF(err), f.Close()); err != nil {
		return diskError("write "+name, err)
	}
	return nil
}

// writeOnly hides the file's other methods from io.Copy.
type writeOnly struct{ io.Writer }
