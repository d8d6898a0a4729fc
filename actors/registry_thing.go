package actors

import (
	"encoding/json"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// ThingModel gives the Thing Model that a twin has by its configuration, and the version of what it is from. What the device
// itself told of its model is only known where the twin lives (Client.State). It reads the store; the text is not to be changed.
func (r *Registry) ThingModel(t *pb.Twin) (model json.RawMessage, version string, err error) {
	s, err := r.e.catalog.forTwin(t)
	if err != nil {
		return nil, "", err
	}
	return s.model.JSON(), s.version, nil
}
