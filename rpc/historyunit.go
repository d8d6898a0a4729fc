package rpc

import (
	"fmt"

	"github.com/polluxhq/pollux/drivers/units"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// inUnit converts an answer from the property's unit into the one that is wanted.
func inUnit(out *pb.QueryHistoryResponse, wanted, aggregate string) error {
	if aggregate == "count" {
		return invalid("unit", "a count has no unit")
	}
	if out.Unit == "" {
		return invalid("unit", "the model gives the property no unit, so it cannot be had in another one")
	}
	from, err := units.Parse(out.Unit)
	if err != nil {
		return invalid("unit", fmt.Sprintf("the property's own unit %s is not known, so it cannot be had in another one", out.Unit))
	}
	to, err := units.Parse(wanted)
	if err != nil {
		return invalid("unit", fmt.Sprintf("%q is no unit of UCUM or QUDT that is known here", wanted))
	}
	if aggregate == "sum" && from.Shifted(to) {
		return invalid("unit", fmt.Sprintf("a sum in %s cannot be had in %s: their zeros differ", out.Unit, wanted))
	}
	for _, s := range out.Samples {
		if s.Value, err = units.Convert(s.Value, from, to); err != nil {
			return invalid("unit", fmt.Sprintf("the property is in %s, which is not to be had in %s", out.Unit, wanted))
		}
	}
	if !from.Same(to) { // there may be no sample
		return invalid("unit", fmt.Sprintf("the property is in %s, which is not to be had in %s", out.Unit, wanted))
	}
	out.Unit = wanted
	return nil
}
