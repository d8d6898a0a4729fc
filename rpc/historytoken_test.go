package rpc

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage/journal"
)

// TestPagesAreOfOneRange: where nobody says when the range begins or ends, all pages are of that of the first one.
func TestPagesAreOfOneRange(t *testing.T) {
	now := time.UnixMilli(1_790_000_000_123)
	first, err := historyQuery(&pb.QueryHistoryRequest{Id: "p/a", Property: "x"}, now)
	if err != nil {
		t.Fatal(err)
	}
	token := historyToken(journal.Position{Time: first.Start.UnixMilli() + 5}, &first)
	second, err := historyQuery(&pb.QueryHistoryRequest{Id: "p/a", Property: "x", PageToken: token}, now.Add(time.Minute))
	if err != nil || !second.Start.Equal(first.Start) || !second.End.Equal(first.Start.Add(5*time.Millisecond)) {
		t.Errorf("from %v to %v (%v), want what the page before left of from %v", second.Start, second.End, err, first.Start)
	}
	page, err := seriesPosition("", now)
	if err != nil {
		t.Fatal(err)
	}
	if page, err = seriesPosition(seriesToken(page, "p/a"), now.Add(time.Minute)); err != nil || !page.now.Equal(now) || page.after != "p/a" {
		t.Errorf("%+v, %v", page, err)
	}
	for _, token := range []string{token, "x"} {
		if page, err := seriesPosition(token, now); err == nil {
			t.Errorf("%s is a page of series: %+v", token, page)
		}
	}
}

// TestSeriesStep: steps are whole milliseconds, as times are, however many there are.
func TestSeriesStep(t *testing.T) {
	end := time.UnixMilli(1_790_000_000_000)
	q, err := seriesQuery(&pb.QuerySeriesRequest{Filter: &pb.TwinFilter{Project: "p"}, Start: timestamppb.New(end.Add(-10 * time.Second)), End: timestamppb.New(end),
		Step: durationpb.New(10*time.Second/7 + time.Microsecond)}, time.Now())
	if err != nil || q.Step != 1428*time.Millisecond || q.Steps != 8 {
		t.Errorf("%d steps of %s: %v", q.Steps, q.Step, err)
	}
}
