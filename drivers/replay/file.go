package replay

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protojson"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// maxLine bounds one part of a recording in a file, 4 MiB.
const maxLine = 4 << 20

// ErrEmpty: a file holds no recording.
var ErrEmpty = errors.New("holds no recording")

// Write appends a part to a file of a recording: one line of JSON. It gives the bytes written.
func Write(w io.Writer, part *pb.RecordTwinResponse) (int, error) {
	line, err := protojson.Marshal(part)
	if err != nil {
		return 0, fmt.Errorf("write recording: %w", err)
	}
	return w.Write(append(line, '\n'))
}

// Read reads a file of a recording.
func Read(r io.Reader) ([]*pb.RecordTwinResponse, error) {
	var parts []*pb.RecordTwinResponse
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	for line := 1; s.Scan(); line++ {
		if len(s.Bytes()) == 0 {
			continue
		}
		part := &pb.RecordTwinResponse{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(s.Bytes(), part); err != nil {
			return nil, fmt.Errorf("line %d is no part of a recording: %w", line, err)
		}
		if part.Part != nil {
			parts = append(parts, part)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	if len(parts) == 0 || parts[0].GetStart() == nil {
		return nil, ErrEmpty
	}
	return parts, nil
}
