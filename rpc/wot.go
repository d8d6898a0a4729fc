package rpc

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/wot"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// The W3C Web of Things: every twin as a Thing Description whose forms are the routes of the REST API, and the directory of
// them, so that a client that knows no Pollux can find and use what there is.

// maxThings on a page: a description has tens of kilobytes.
const maxThings = 100

const thingsType = "application/ld+json"

// wotRoutes are the routes of thing descriptions.
func wotRoutes() []restRoute {
	td := &restContent{kind: wot.DescriptionType, schema: map[string]any{"type": "object"}}
	return []restRoute{
		{method: http.MethodGet, path: twinPath + "/td", id: "getThingDescription", summary: "A twin as a W3C Thing Description 1.1",
			procedure: rpcv1.TwinServiceGetTwinProcedure, serve: (*restCall).thingDescription, params: []restParam{consistencyParam},
			answers: []restAnswer{{status: 200, text: "The Thing Description", content: td}}},
		{method: http.MethodGet, path: twinPath + "/tm", id: "getThingModel", summary: "A twin's model as a W3C Thing Model 1.1",
			text:      "As its driver or model has it, refined by what the device really has.",
			procedure: rpcv1.TwinServiceGetTwinProcedure, serve: (*restCall).thingModel, params: []restParam{consistencyParam},
			answers: []restAnswer{{status: 200, text: "The Thing Model", content: &restContent{kind: wot.ModelType, schema: map[string]any{"type": "object"}}}}},
		{method: http.MethodGet, path: "/.well-known/wot", id: "getDirectory", summary: "The directory of things, as a Thing Description",
			text:      "Its property things is GET /v1/things.",
			procedure: rpcv1.TwinServiceListTwinsProcedure, serve: (*restCall).directory,
			answers: []restAnswer{{status: 200, text: "The Thing Description of the directory", content: td}}},
		{method: http.MethodGet, path: "/v1/things", id: "listThings", summary: "Thing Descriptions of twins, by pages",
			text:      "With their models as configured. The header Link names the next page, where there is one.",
			procedure: rpcv1.TwinServiceListTwinsProcedure, serve: (*restCall).things,
			params: append(filterParams(), pageParams("descriptions", maxThings, maxThings)...),
			answers: []restAnswer{{status: 200, text: "A page of Thing Descriptions", headers: linkHeader,
				content: &restContent{kind: thingsType, schema: map[string]any{"type": "array", "items": map[string]any{"type": "object"}}}}}},
	}
}

// modelOf gives a twin's Thing Model, refined where its state says so, and the version of what runs it. A twin whose driver is
// missing has none.
func (s *Server) modelOf(t *pb.Twin) (json.RawMessage, string) {
	model, version, err := s.o.Registry.ThingModel(t)
	if err != nil {
		s.log.Debug("no model", "twin", t.Id, "error", err)
	}
	if refined := t.GetState().GetModelJson(); refined != "" {
		model = json.RawMessage(refined)
	}
	return model, version
}

func (c *restCall) describe(t *pb.Twin) (json.RawMessage, error) {
	model, version := c.s.modelOf(t)
	thing := wot.Thing{ID: t.Id, Base: c.base() + "/v1/twins/" + t.Id, Model: model, Instance: version}
	if t.CreateTime != nil {
		thing.Created = t.CreateTime.AsTime()
	}
	if t.UpdateTime != nil {
		thing.Modified = t.UpdateTime.AsTime()
	}
	thing.Links = c.links(t.Id)
	return thing.Describe()
}

// maxLinks bounds the relations that a Thing Description names; RelationService lists all.
const maxLinks = 200

// links are a twin's relations to other twins, to whoever may see them.
func (c *restCall) links(id string) []wot.Link {
	if Authorize(c.p, ActionSiteRead, Resource{Project: actors.ProjectOf(id), Kind: "relation"}) != nil {
		return nil
	}
	list, err := c.s.o.Registry.ListRelations(&pb.ListRelationsRequest{From: id, PageSize: maxLinks}, nil)
	if err != nil {
		c.s.log.Warn("relations of a thing description", "twin", id, "error", err)
		return nil
	}
	var links []wot.Link
	for _, r := range list.Relations {
		if !strings.Contains(r.To, ":") { // places have no description
			links = append(links, wot.Link{Rel: r.Type, Href: c.base() + "/v1/twins/" + r.To + "/td", Type: wot.DescriptionType})
		}
	}
	return links
}

func (c *restCall) thingDescription() error {
	twin, err := c.twin(true)
	if err != nil {
		return err
	}
	td, err := c.describe(twin)
	if err != nil {
		return err
	}
	return c.write(http.StatusOK, wot.DescriptionType, td)
}

func (c *restCall) thingModel() error {
	twin, err := c.twin(true)
	if err != nil {
		return err
	}
	model, _ := c.s.modelOf(twin)
	tm, err := wot.Model(model)
	if err != nil {
		return err
	}
	return c.write(http.StatusOK, wot.ModelType, tm)
}

// directory describes itself, as W3C WoT Discovery wants it at that path.
func (c *restCall) directory() error {
	if err := Authorize(c.p, ActionTwinRead, Resource{Project: scopeOf(c.p), Kind: "twin"}); err != nil {
		return err
	}
	td, err := wot.Directory(c.base())
	if err != nil {
		return err
	}
	return c.write(http.StatusOK, wot.DescriptionType, td)
}

func (c *restCall) things() error {
	size := c.number("page_size")
	if size == 0 {
		size = maxThings
	} else if size > maxThings {
		c.wrong("page_size", "is more than 100")
	}
	res, err := calls(c, rpcv1.TwinServiceListTwinsProcedure, &pb.ListTwinsRequest{Filter: c.filter(), PageSize: size,
		PageToken: c.text("page_token")}, (&twinService{c.s}).ListTwins)
	if err != nil {
		return err
	}
	out := make([]json.RawMessage, len(res.Twins))
	for i, t := range res.Twins {
		if out[i], err = c.describe(t); err != nil {
			return err
		}
	}
	c.nextPage(res.NextPageToken)
	return c.write(http.StatusOK, thingsType, out)
}
