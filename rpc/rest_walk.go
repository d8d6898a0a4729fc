package rpc

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// walkRoute leads down the tree of places: /v1/walk/PROJECT/ZONE/…/TWIN.
func walkRoute() restRoute {
	list := func(of string) map[string]any {
		return map[string]any{"type": "array", "items": map[string]any{"$ref": schemaPath + of}}
	}
	return restRoute{method: http.MethodGet, path: "/v1/walk/{path...}", id: "walk", summary: "Walk down the tree of places to a twin",
		text: "The path begins with the project; each further word is the name of a zone that is in the one before, and the last may be that of a " +
			"twin which is in the last zone. Of a zone come the zones and the twins in it, by pages; of a twin its state.",
		procedure: rpcv1.TwinServiceListTwinsProcedure, serve: (*restCall).walk, params: pageParams("twins"),
		answers: []restAnswer{{status: 200, text: "What is there", headers: linkHeader, content: &restContent{
			also: []proto.Message{&pb.Zone{}, &pb.Twin{}},
			schema: map[string]any{"type": "object", "required": []string{"path"}, "properties": map[string]any{
				"path": map[string]any{"type": "array", "items": stringSchema}, "zone": map[string]any{"$ref": schemaPath + "Zone"},
				"zones": list("Zone"), "twins": list("Twin"), "twin": map[string]any{"$ref": schemaPath + "Twin"}, "nextPageToken": stringSchema}}}}}}
}

// place is where a walk has come.
type place struct {
	Path          []string          `json:"path"`
	Zone          json.RawMessage   `json:"zone,omitempty"`
	Zones         []json.RawMessage `json:"zones,omitempty"`
	Twins         []json.RawMessage `json:"twins,omitempty"`
	Twin          json.RawMessage   `json:"twin,omitempty"`
	NextPageToken string            `json:"nextPageToken,omitempty"`
}

func (c *restCall) walk() error {
	path := strings.Split(strings.Trim(c.r.PathValue("path"), "/"), "/")
	project, steps := path[0], path[1:]
	if !validProject(project) {
		return invalid("path", fmt.Sprintf("%.70q is no project's name", project))
	}
	zones, err := c.zones(project)
	if err != nil {
		return err
	}
	at := "" // id of the zone that the walk has come to
	for i, step := range steps {
		id := project + "/" + step
		if z := zones[id]; z != nil && z.Parent == at {
			at = id
			continue
		}
		if i == len(steps)-1 && i > 0 {
			return c.walkedTo(path, zones[at], id)
		}
		return fmt.Errorf("%s has no zone %.150q: %w", strings.Join(path[:i+1], "/"), step, actors.ErrNotFound)
	}
	return c.standing(path, zones, at)
}

// zones of a project by id.
func (c *restCall) zones(project string) (map[string]*pb.Zone, error) {
	out := map[string]*pb.Zone{}
	for token := ""; ; {
		res, err := calls(c, rpcv1.SiteServiceListZonesProcedure, &pb.ListZonesRequest{Project: project, PageSize: 1000, PageToken: token},
			(&siteService{c.s}).ListZones)
		if err != nil {
			return nil, err
		}
		for _, z := range res.Zones {
			out[z.Id] = z
		}
		if token = res.NextPageToken; token == "" {
			return out, nil
		}
	}
}

// walkedTo answers with a twin, which must be in the zone.
func (c *restCall) walkedTo(path []string, zone *pb.Zone, id string) error {
	res, err := calls(c, rpcv1.TwinServiceGetTwinProcedure, &pb.GetTwinRequest{Id: id}, (&twinService{c.s}).GetTwin)
	if err != nil {
		return err
	}
	if res.Twin.Zone != zone.Id {
		return fmt.Errorf("zone %s has no zone and no twin %.150q: %w", zone.Id, path[len(path)-1], actors.ErrNotFound)
	}
	out := place{Path: path}
	if out.Zone, err = protojson.Marshal(zone); err == nil {
		out.Twin, err = protojson.Marshal(res.Twin)
	}
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return c.json(http.StatusOK, out)
}

// standing answers with what is in a zone; at the root with the zones alone.
func (c *restCall) standing(path []string, zones map[string]*pb.Zone, at string) (err error) {
	out := place{Path: path}
	for _, id := range slices.Sorted(maps.Keys(zones)) {
		if zones[id].Parent == at {
			if err := appendMessage(&out.Zones, zones[id]); err != nil {
				return err
			}
		}
	}
	if at != "" {
		if out.Zone, err = protojson.Marshal(zones[at]); err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		res, err := calls(c, rpcv1.TwinServiceListTwinsProcedure, &pb.ListTwinsRequest{Filter: &pb.TwinFilter{Project: path[0], Zone: at},
			PageSize: c.number("page_size"), PageToken: c.text("page_token"), State: true}, (&twinService{c.s}).ListTwins)
		if err != nil {
			return err
		}
		for _, t := range res.Twins {
			if err := appendMessage(&out.Twins, t); err != nil {
				return err
			}
		}
		out.NextPageToken = res.NextPageToken
		c.nextPage(res.NextPageToken)
	}
	return c.json(http.StatusOK, out)
}

func appendMessage(to *[]json.RawMessage, m proto.Message) error {
	text, err := protojson.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	*to = append(*to, text)
	return nil
}
