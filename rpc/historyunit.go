package rpc

import (
	"fmt"

	"github.com/polluxhq/pollux/drivers/units"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// inUnit converts an answer from the property's unit into the one that is wanted.
func inUnit(out *pb.QueryHistoryResponse, wanted, aggregate string) error {
	c, err := conversionOf(out.Unit, wanted, aggregate)
	if err != nil {
		return err
	}
	for _, s := range out.Samples {
		if !s.None {
			s.Value = c.value(s.Value)
		}
	}
	out.Unit = unitOf(wanted, aggregate)
	return nil
}

// unitOf says what an aggregate is in.
func unitOf(unit, aggregate string) string {
	switch {
	case unit == "" || aggregate == "count":
		return ""
	case aggregate == "rate":
		return unit + "/s"
	}
	return unit
}

// conversion of values from one unit into another. A difference is not moved by where the units have their zeros.
type conversion struct {
	from, to   units.Unit
	difference bool
}

func conversionOf(own, wanted, aggregate string) (*conversion, error) {
	if aggregate == "count" {
		return nil, invalid("unit", "a count has no unit")
	}
	if own == "" {
		return nil, invalid("unit", "the model gives the property no unit, so it cannot be had in another one")
	}
	from, err := units.Parse(own)
	if err != nil {
		return nil, invalid("unit", fmt.Sprintf("the property's own unit %s is not known, so it cannot be had in another one", own))
	}
	to, err := units.Parse(wanted)
	if err != nil {
		return nil, invalid("unit", fmt.Sprintf("%q is no unit of UCUM or QUDT that is known here", wanted))
	}
	if aggregate == "sum" && from.Shifted(to) {
		return nil, invalid("unit", fmt.Sprintf("a sum in %s cannot be had in %s: their zeros differ", own, wanted))
	}
	if !from.Same(to) {
		return nil, invalid("unit", fmt.Sprintf("the property is in %s, which is not to be had in %s", own, wanted))
	}
	return &conversion{from, to, aggregate == "dev" || aggregate == "delta" || aggregate == "rate"}, nil
}

func (c *conversion) value(v float64) float64 {
	out, err := units.Convert(v, c.from, c.to)
	if err == nil && c.difference {
		var zero float64
		zero, err = units.Convert(0, c.from, c.to)
		out -= zero
	}
	if err != nil {
		return v // units that are the same kind always convert
	}
	return out
}
