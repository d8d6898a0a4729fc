package scenario

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Past answers what was: TwinService of a node, in its process or over the network.
type Past interface {
	QueryHistory(context.Context, *connect.Request[pb.QueryHistoryRequest]) (*connect.Response[pb.QueryHistoryResponse], error)
}

var (
	// ErrNothing: a property has no value in the time that is asked for.
	ErrNothing = errors.New("nothing was recorded")
	// ErrLong: the record is longer than it may be.
	ErrLong = errors.New("more was recorded than may be")
	// ErrKind: a value is neither number, text nor truth.
	ErrKind = errors.New("has values that are no number, text or truth")
)

// table is a part of a twin's past: by time in milliseconds a text for each column.
type table struct {
	columns []string
	rows    map[int64][]string
	left    int // values that it may yet have
}

// Read gives the record's part of a twin's past as CSV, as ReadCSV reads it, with times since the first one, in at most so many bytes. typeOf gives a
// property's type as in its model; empty: not known. It reads until all is there. Errors wrap ErrNothing, ErrLong, ErrKind, or are those of the past.
func (r *Record) Read(ctx context.Context, past Past, twin string, typeOf func(property string) (string, error), now time.Time, most int) (string, error) {
	start, end, err := r.Span(now)
	if err != nil {
		return "", err
	}
	t := table{columns: r.Properties, rows: map[int64][]string{}, left: most}
	for i, name := range r.Properties {
		kind, err := typeOf(name)
		if err == nil {
			q := &pb.QueryHistoryRequest{Id: twin, Property: name, Start: timestamppb.New(start), End: timestamppb.New(end), Limit: 10_000}
			if step := time.Duration(r.Step); step > 0 {
				q.Step = durationpb.New(step)
				if kind != "" && kind != "number" && kind != "integer" {
					q.Aggregate = "last"
				}
			}
			err = t.column(ctx, past, q, i, kind == "boolean")
		}
		if err != nil {
			return "", fmt.Errorf("history of %s %s: %w", twin, name, err)
		}
	}
	return t.csv(most)
}

// column reads the past of a property, page by page from the newest back.
func (t *table) column(ctx context.Context, past Past, q *pb.QueryHistoryRequest, column int, truth bool) error {
	found := 0
	for {
		res, err := past.QueryHistory(ctx, connect.NewRequest(q))
		if err != nil {
			return err
		}
		for _, x := range res.Msg.Samples {
			text, err := cell(x, truth)
			if err != nil {
				return err
			}
			at := x.Time.AsTime().UnixMilli()
			if t.rows[at] == nil {
				t.rows[at] = make([]string, len(t.columns))
			}
			t.rows[at][column] = text
		}
		found += len(res.Msg.Samples)
		if t.left -= len(res.Msg.Samples); t.left < 0 {
			return ErrLong
		}
		if q.PageToken = res.Msg.NextPageToken; q.PageToken != "" {
			continue
		}
		if res.Msg.Truncated {
			return ErrLong
		}
		if found == 0 {
			return fmt.Errorf("%w between %s and %s", ErrNothing, q.Start.AsTime().Format(time.RFC3339), q.End.AsTime().Format(time.RFC3339))
		}
		return nil
	}
}

// cell is a sample as the CSV has it; a step without any is empty.
func cell(x *pb.Sample, truth bool) (string, error) {
	if x.None {
		return "", nil
	}
	switch v := x.Data.GetKind().(type) {
	case nil:
		if truth {
			return strconv.FormatBool(x.Value != 0), nil
		}
		return strconv.FormatFloat(x.Value, 'g', -1, 64), nil
	case *structpb.Value_StringValue:
		return v.StringValue, nil
	case *structpb.Value_BoolValue:
		return strconv.FormatBool(v.BoolValue), nil
	case *structpb.Value_NumberValue:
		return strconv.FormatFloat(v.NumberValue, 'g', -1, 64), nil
	}
	return "", ErrKind
}

func (t *table) csv(most int) (string, error) {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(append([]string{"time"}, t.columns...)) // into memory
	times := make([]int64, 0, len(t.rows))
	for at := range t.rows {
		times = append(times, at)
	}
	slices.Sort(times)
	for _, at := range times {
		_ = w.Write(append([]string{strconv.FormatFloat(float64(at-times[0])/1000, 'f', -1, 64)}, t.rows[at]...))
	}
	if w.Flush(); b.Len() > most {
		return "", ErrLong
	}
	return b.String(), nil
}
