package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/polluxhq/pollux"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// BenchmarkImport: 100,000 twins with labels and aliases from an empty project, by the calls of `pollux import twins`: 200 lines each, one
// after the other. The node's memory afterwards, over that after the first tenth, says whether it is flat: what stays is a twin's own.
func BenchmarkImport(b *testing.B) {
	const count, group = 100_000, 200
	n, stop := openWithoutHistory(b, b.TempDir(), func(c *pollux.Config) { c.PassivateAfter = time.Hour })
	defer stop()
	models := polluxv1connect.NewModelServiceClient(n.HTTPClient(), n.URL(), keyed(b, n))
	if _, err := models.CreateModel(b.Context(), request(&pb.CreateModelRequest{Model: &pb.Model{Id: "default/meter", ThingJson: `{"@context":` +
		`"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Meter","properties":{"power":{"type":"number"}}}`}})); err != nil {
		b.Fatal(err)
	}
	bulk := polluxv1connect.NewBulkServiceClient(n.HTTPClient(), n.URL(), keyed(b, n))
	var early float64
	began := time.Now()
	for at := 0; at < count; at += group {
		r := &pb.ApplyRequest{Each: true}
		for i := at; i < at+group; i++ {
			r.Records = append(r.Records, &pb.ConfigRecord{Record: &pb.ConfigRecord_Twin{Twin: &pb.Twin{Id: fmt.Sprintf("dev-%06d", i), Model: "meter",
				Labels: map[string]string{"floor": fmt.Sprint(i % 40)}, Aliases: []*pb.Alias{{Network: "lora", Key: "eui", Value: fmt.Sprintf("%08X", i)}}}}})
		}
		res, err := bulk.Apply(b.Context(), request(r))
		if err != nil {
			b.Fatal(err)
		}
		for _, x := range res.Msg.Results {
			if x.Outcome != pb.ApplyOutcome_APPLY_OUTCOME_CREATED {
				b.Fatalf("%v", x)
			}
		}
		if at == count/10 {
			early = resident(b, os.Getpid())
		}
	}
	atMost(b, "import of 100,000 twins", "s", time.Since(began).Seconds(), 15)
	atMost(b, "import of 100,000 twins: memory at its end over that after a tenth", "MB", (resident(b, os.Getpid())-early)/1e6, 200)
}
